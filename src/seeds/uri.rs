//! A connection's URI, taken apart as Airflow does (`Connection._parse_from_uri` in `airflow/models/connection.py` of 2.11.2 and
//! 3.3.2, `parse_from_uri` of 1.10.15), which is Python's `urlsplit` with rules of its own.

use percent_encoding::percent_decode_str;

use super::node::Node;
use crate::airflow_version::Line;

/// The query's key that holds the whole extra, since 2.1.
const EXTRA: &str = "__extra__";

/// The parts of a URI, decoded.
#[derive(PartialEq)]
pub(super) struct Parts {
    pub conn_type: String,
    pub host: String,
    pub login: Option<String>,
    pub password: Option<String>,
    pub port: Option<u16>,
    pub schema: String,
    /// The text of a JSON object.
    pub extra: Option<String>,
}

/// Takes a URI apart as this line of Airflow does. The error never cites it.
pub(super) fn parse(uri: &str, line: Line) -> Result<Parts, &'static str> {
    const NO_SCHEME: &str = "expected a URI like `type://login:password@host:port/schema`";
    // As `urlsplit` does before anything else.
    let uri: String = uri
        .trim_start_matches(|c: char| c <= ' ')
        .chars()
        .filter(|letter| !matches!(letter, '\t' | '\r' | '\n'))
        .collect();
    let (scheme, rest) = uri.split_once("://").ok_or(NO_SCHEME)?;
    let is_scheme = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'));
    if !is_scheme {
        return Err(if scheme.contains('_') {
            "the type of a URI cannot have `_` in it: write `-`, which Airflow makes a `_`"
        } else {
            NO_SCHEME
        });
    }
    let scheme = scheme.to_ascii_lowercase();
    let (protocol, rest) = match (line, rest.matches("://").count()) {
        // 1.10 knows no protocol of the host.
        (Line::V1, _) | (_, 0) => (None, rest),
        (_, 1) => match rest.split_once("://") {
            Some((protocol, _)) if protocol.contains(['@', ':']) => {
                return Err(
                    "the protocol of a host stands in front of login and password: `type://protocol://login:password@host`",
                );
            }
            Some((protocol, _)) if protocol.eq_ignore_ascii_case(&scheme) => {
                return Err("the host's protocol is the type of the connection: leave it out");
            }
            Some((protocol, behind)) if !protocol.is_empty() => (Some(protocol.to_ascii_lowercase()), behind),
            _ => return Err(NO_SCHEME),
        },
        _ => return Err("there is `://` in it more than twice"),
    };
    let (netloc, behind) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let behind = behind.split('#').next().unwrap_or_default();
    let (path, query) = behind.split_once('?').unwrap_or((behind, ""));
    let (userinfo, host_and_port) = match netloc.rsplit_once('@') {
        Some((userinfo, behind)) => (Some(userinfo), behind),
        None => (None, netloc),
    };
    let (login, password) = match userinfo.map(|userinfo| userinfo.split_once(':').ok_or(userinfo)) {
        None => (None, None),
        Some(Err(login)) => (Some(decoded(login)), None),
        Some(Ok((login, password))) => (Some(decoded(login)), Some(decoded(password))),
    };
    let (host, port) = host_and_port_of(host_and_port)?;
    let host = match protocol {
        Some(protocol) if !host.is_empty() => format!("{protocol}://{host}"),
        _ => host,
    };
    Ok(Parts {
        conn_type: match scheme.as_str() {
            "postgresql" => "postgres".to_owned(),
            _ => scheme.replace('-', "_"),
        },
        host,
        login,
        password,
        port,
        schema: decoded(path.strip_prefix('/').unwrap_or(path)),
        extra: extra(query, line),
    })
}

/// The host in lower case up to its first `%`, unless it is a path, and the port.
fn host_and_port_of(text: &str) -> Result<(String, Option<u16>), &'static str> {
    let (host, port) = match text.split_once('[') {
        Some((_, bracketed)) => {
            let (host, behind) = bracketed.split_once(']').ok_or("expected a `]` behind the `[` of the host")?;
            (host, behind.split_once(':').map_or("", |(_, port)| port))
        }
        None => text.split_once(':').unwrap_or((text, "")),
    };
    let port = match port {
        "" => None,
        digits if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            Some(digits.parse().map_err(|_| "expected a port from 0 to 65535")?)
        }
        _ => {
            return Err(
                "expected a port of digits behind the host; special characters of login and password must be percent-encoded, or stand in `login` and `password` beside `uri`",
            );
        }
    };
    let (name, zone) = host.split_at(host.find('%').unwrap_or(host.len()));
    let lower = decoded(&[&name.to_lowercase(), zone].concat());
    Ok(if lower.contains('/') { (decoded(text.split(':').next().unwrap_or_default()), port) } else { (lower, port) })
}

/// The query as JSON. Since 3.x a value that is JSON itself is taken as such.
fn extra(query: &str, line: Line) -> Option<String> {
    let mut entries: Vec<(String, String)> = Vec::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let (name, value) = (decoded(&name.replace('+', " ")), decoded(&value.replace('+', " ")));
        match entries.iter_mut().find(|(known, _)| *known == name) {
            Some(entry) => entry.1 = value,
            None => entries.push((name, value)),
        }
    }
    if query.is_empty() {
        return None;
    }
    if let Some((_, whole)) = entries.iter().find(|(name, _)| name == EXTRA && line != Line::V1) {
        return Some(whole.clone());
    }
    let typed = |value: &str| match line {
        Line::V3 => json(value).unwrap_or_else(|| Node::text(value)),
        Line::V1 | Line::V2 => Node::text(value),
    };
    let entries = entries.iter().map(|(name, value)| (name.clone(), typed(value))).collect();
    Some(Node::Table(entries).json(None).to_string())
}

/// A value that is JSON. An integer of any length is one.
fn json(value: &str) -> Option<Node> {
    let digits = value.strip_prefix('-').unwrap_or(value);
    let is_integer = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    if is_integer && (digits == "0" || !digits.starts_with('0')) {
        return Some(Node::Number(if value == "-0" { "0".to_owned() } else { value.to_owned() }));
    }
    serde_json::from_str(value).ok()
}

/// As Python's `unquote`.
fn decoded(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
#[path = "uri_tests.rs"]
mod tests;
