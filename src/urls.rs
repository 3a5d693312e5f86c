//! The URLs of database and broker: taken apart for waiting, shown without their secrets.
//!
//! Not the `url` crate: it refuses host lists (`h1:5432,h2:5432`), which libpq and kombu take.

pub(crate) mod parts;

use std::fmt;

use crate::error::Error;

/// Where a service listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Endpoint {
    /// A name or address and a port.
    Tcp { host: String, port: u16 },
    /// A socket in the file system.
    Unix(String),
}

impl fmt::Display for Endpoint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(formatter, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(formatter, "{host}:{port}"),
            Self::Unix(path) => formatter.write_str(path),
        }
    }
}

/// Where the services of this URL listen; none for a URL without a server (SQLite, SQS). Any one that answers will do.
pub(crate) fn endpoints(url: &str) -> Result<Vec<Endpoint>, &'static str> {
    let mut all = Vec::new();
    // kombu takes several brokers, each with its own scheme or without one.
    let mut scheme = None;
    for part in url.split(';').map(str::trim).filter(|part| !part.is_empty()) {
        let (this, rest) = match part.split_once("://") {
            Some((this, rest)) => (this, rest),
            None => (scheme.ok_or("expected a scheme and `://`")?, part),
        };
        scheme = Some(this);
        endpoints_of_one(this, rest, &mut all)?;
    }
    Ok(all)
}

fn endpoints_of_one(scheme: &str, rest: &str, all: &mut Vec<Endpoint>) -> Result<(), &'static str> {
    let protocol = scheme.trim_start_matches("db+");
    if protocol == "redis+socket" || protocol == "rediss+socket" {
        let path = rest.split(['?', '#']).next().unwrap_or_default();
        all.push(Endpoint::Unix(path.rsplit_once('@').map_or(path, |(_, path)| path).to_owned()));
        return Ok(());
    }
    let dialect = protocol.split('+').next().unwrap_or_default();
    let Some(default_port) = default_port(dialect) else {
        return Ok(());
    };
    // A password may hold `/` or `?` when nobody encoded it; the last `@` before the path is what clients go by.
    let authority = &rest[..rest.find(['/', '?']).unwrap_or(rest.len())];
    let hosts = authority.rsplit_once('@').map_or(authority, |(_, hosts)| hosts);
    for host in hosts.split(',').filter(|host| !host.is_empty()) {
        all.push(endpoint(host, default_port)?);
    }
    let pairs = || {
        rest.split_once('?').into_iter().flat_map(|(_, query)| query.split('&')).filter_map(|pair| pair.split_once('='))
    };
    let port = match pairs().find(|(name, _)| *name == "port") {
        Some((_, text)) => port(text)?,
        None => default_port,
    };
    for (name, value) in pairs() {
        let value = percent_encoding::percent_decode_str(value).decode_utf8_lossy().into_owned();
        match name {
            "host" if value.starts_with('/') => all.push(Endpoint::Unix(format!("{value}/.s.PGSQL.{port}"))),
            "host" => all.push(endpoint(&value, port)?),
            "unix_socket" => all.push(Endpoint::Unix(value)),
            _ => {}
        }
    }
    if all.is_empty() {
        all.push(Endpoint::Tcp { host: "localhost".to_owned(), port: default_port });
    }
    Ok(())
}

fn endpoint(text: &str, default_port: u16) -> Result<Endpoint, &'static str> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']').ok_or("expected `]` behind an IPv6 address")?;
            (host, rest.strip_prefix(':'))
        }
        None => text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port))),
    };
    let port = match port {
        None | Some("") => default_port,
        Some(text) => self::port(text)?,
    };
    Ok(Endpoint::Tcp { host: host.to_owned(), port })
}

fn port(text: &str) -> Result<u16, &'static str> {
    text.parse()
        .ok()
        .filter(|&port| port > 0)
        .ok_or("expected a port from 1 to 65535 behind the host (is `@`, `:` or `/` in the password percent-encoded?)")
}

/// The port that a client takes when the URL names none; `None` where there is no server to connect to.
fn default_port(dialect: &str) -> Option<u16> {
    Some(match dialect {
        "amqp" | "pyamqp" | "rpc" => 5672,
        "amqps" => 5671,
        "mongodb" => 27017,
        "mssql" => 1433,
        "mysql" | "mariadb" => 3306,
        "oracle" => 1521,
        "postgres" | "postgresql" => 5432,
        "redis" | "rediss" => 6379,
        "sentinel" => 26379,
        _ => return None,
    })
}

/// Checks that a URL can be waited for, and names its source when not.
pub(crate) fn checked(url: &str, source: &crate::source::Source) -> Result<Vec<Endpoint>, Error> {
    endpoints(url).map_err(|problem| Error::Url {
        source_of_it: source.clone(),
        redacted: Redacted(url).to_string(),
        problem,
    })
}

/// A URL as it may be shown: no password, and no value of a query parameter that may be one.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Redacted<T>(pub T);

impl<T: AsRef<str>> fmt::Debug for Redacted<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{self}")
    }
}

impl<T: AsRef<str>> fmt::Display for Redacted<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0.as_ref();
        // Several brokers; another `;` may be part of a password that nobody encoded.
        while let Some(at) = rest.match_indices(';').map(|(at, _)| at).find(|at| begins_with_scheme(&rest[at + 1..])) {
            redact(&rest[..at], formatter)?;
            formatter.write_str(";")?;
            rest = &rest[at + 1..];
        }
        redact(rest, formatter)
    }
}

fn begins_with_scheme(text: &str) -> bool {
    text.split_once("://").is_some_and(|(scheme, _)| {
        !scheme.is_empty() && scheme.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'))
    })
}

fn redact(url: &str, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
    let (scheme, rest) = match url.split_once("://") {
        Some((scheme, rest)) => (format!("{scheme}://"), rest),
        None => (String::new(), url),
    };
    formatter.write_str(&scheme)?;
    // Everything up to the last `@` may belong to a password that nobody encoded.
    let rest = match rest.rsplit_once('@') {
        Some((userinfo, rest)) => {
            let user = userinfo.split([':', '/', '?', '#']).next().unwrap_or_default();
            write!(formatter, "{user}{}@", if userinfo.contains(':') { ":***" } else { "" })?;
            rest
        }
        None => rest,
    };
    let (path, query) = rest.split_once('?').map_or((rest, None), |(path, query)| (path, Some(query)));
    formatter.write_str(path)?;
    for (index, pair) in query.into_iter().flat_map(|query| query.split('&')).enumerate() {
        formatter.write_str(if index == 0 { "?" } else { "&" })?;
        match pair.split_once('=') {
            Some((name, _)) if is_secret(name) => write!(formatter, "{name}=***")?,
            _ => formatter.write_str(pair)?,
        }
    }
    Ok(())
}

/// A text of somebody else's with `***` in place of the user and the password of each URL in it.
pub(crate) fn without_userinfo(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, behind) = rest.split_at(at + "://".len());
        shown.push_str(before);
        rest = behind;
        let url = &rest[..rest.find(|c: char| c.is_whitespace() || "'\"<>`".contains(c)).unwrap_or(rest.len())];
        let authority = &url[..url.find(['/', '?', '#']).unwrap_or(url.len())];
        let is_port = |port: &str| port.chars().all(|digit| digit.is_ascii_digit());
        // A password may hold `/` when nobody encoded it; a port is none, and then an `@` behind is part of a path.
        let open = authority.split_once(':').is_some_and(|(_, port)| !is_port(port));
        if let Some(end) = authority.rfind('@').or_else(|| url.rfind('@').filter(|_| open)) {
            shown.push_str("***");
            rest = &rest[end..];
        }
    }
    shown + rest
}

fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ["pass", "pwd", "secret", "token", "key"].iter().any(|part| name.contains(part))
}

#[cfg(test)]
#[path = "urls_tests.rs"]
mod tests;
