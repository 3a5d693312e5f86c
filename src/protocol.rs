//! By which protocol a server is asked whether it is ready, from its URL.

use percent_encoding::percent_decode_str;

use crate::urls::{self, Endpoint};

/// What a server is asked by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// By AMQP's first words.
    Amqp,
    /// A connection is all that we know to ask for.
    Connection,
    /// By a login and a query.
    Database,
    /// By AUTH and PING.
    Redis,
}

impl Protocol {
    /// The protocol of a URL. The greeting inside TLS (`amqps`) is left to the client.
    pub(crate) fn of(url: &str) -> Self {
        let scheme = url.split("://").next().unwrap_or_default();
        match scheme.trim_start_matches("db+").split('+').next().unwrap_or_default() {
            "amqp" | "pyamqp" => Self::Amqp,
            "mariadb" | "mysql" | "postgres" | "postgresql" => Self::Database,
            "redis" | "rediss" | "sentinel" => Self::Redis,
            _ => Self::Connection,
        }
    }
}

/// A Redis, or a Sentinel of it. Holds a password: not to be shown.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct RedisServer {
    pub endpoint: Endpoint,
    pub user: Option<String>,
    pub password: Option<String>,
    pub certificates: Certificates,
}

/// What is demanded of the server's certificate, as kombu and redis-py understand `ssl_...`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Certificates {
    /// There is no TLS.
    NoTls,
    /// Any will do: kombu's way with a `rediss` that says nothing of certificates.
    Any,
    /// Signed by one of this file, or of the system's.
    Checked { authorities: Option<String> },
}

/// The servers of a URL of kombu's: several are joined by `;`, or their hosts by `,`. Those that cannot be read are left out: they have
/// been complained of before.
pub(crate) fn redis_servers(url: &str) -> Vec<RedisServer> {
    let mut scheme = "redis";
    let mut servers = Vec::new();
    for part in url.split(';').map(str::trim).filter(|part| !part.is_empty()) {
        let (this, rest) = part.split_once("://").unwrap_or((scheme, part));
        scheme = this;
        let endpoints = urls::endpoints(&format!("{scheme}://{rest}")).unwrap_or_default();
        servers.extend(endpoints.into_iter().map(|endpoint| server(scheme, rest, endpoint)));
    }
    servers
}

fn server(scheme: &str, rest: &str, endpoint: Endpoint) -> RedisServer {
    let (before_query, query) = rest.split_once('?').unwrap_or((rest, ""));
    let authority = match endpoint {
        Endpoint::Tcp { .. } => before_query.split('/').next().unwrap_or_default(),
        Endpoint::Unix(_) => before_query,
    };
    let userinfo = authority.rsplit_once('@').map_or("", |(userinfo, _)| userinfo);
    let (user, password) = userinfo.split_once(':').map_or((userinfo, None), |(user, password)| (user, Some(password)));
    let option = |name: &str| {
        let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        pairs.find(|(key, _)| *key == name).map(|(_, value)| decoded(value))
    };
    let filled = |text: &str| Some(decoded(text)).filter(|text| !text.is_empty());
    let (user, password) = match scheme {
        // The password of a Sentinel is said elsewhere (`sentinel_kwargs`); this one is for the Redis behind it.
        "sentinel" => (None, None),
        _ => (filled(user), password.and_then(filled).or_else(|| option("password"))),
    };
    let certificates =
        match option("ssl_cert_reqs").as_deref().map(|text| text.trim_start_matches("CERT_").to_ascii_lowercase()) {
            _ if scheme.split('+').next() != Some("rediss") => Certificates::NoTls,
            Some(demand) if matches!(demand.as_str(), "required" | "optional") => {
                Certificates::Checked { authorities: option("ssl_ca_certs") }
            }
            _ => Certificates::Any,
        };
    RedisServer { endpoint, user, password, certificates }
}

fn decoded(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_url_has_its_protocol() {
        for (url, expected) in [
            ("redis://h/0", Protocol::Redis),
            ("redis+socket:///run/redis.sock", Protocol::Redis),
            ("sentinel://a:26379;sentinel://b", Protocol::Redis),
            ("amqp://h//", Protocol::Amqp),
            ("amqps://h//", Protocol::Connection),
            ("db+postgresql://h/d", Protocol::Database),
            ("mysql+pymysql://h/d", Protocol::Database),
            ("mssql+pyodbc://h/d", Protocol::Connection),
        ] {
            assert_eq!(Protocol::of(url), expected, "{url}");
        }
    }

    /// Each server as address, user, password and certificates.
    fn read(url: &str) -> Vec<(String, Option<String>, Option<String>, Certificates)> {
        let servers = redis_servers(url).into_iter();
        servers.map(|server| (server.endpoint.to_string(), server.user, server.password, server.certificates)).collect()
    }

    #[test]
    fn w07_w08_w12_urls_of_redis() {
        let text = |text: &str| Some(text.to_owned());
        let checked = |file: Option<&str>| Certificates::Checked { authorities: file.map(str::to_owned) };
        for (url, address, user, password, certificates) in [
            ("redis://h/0", "h:6379", None, None, Certificates::NoTls),
            ("redis://:p%40@h:1/0", "h:1", None, text("p@"), Certificates::NoTls),
            ("redis://u:p@h/0", "h:6379", text("u"), text("p"), Certificates::NoTls),
            ("redis+socket:///run/r.sock", "/run/r.sock", None, None, Certificates::NoTls),
            ("redis+socket://:p@/run/r.sock", "/run/r.sock", None, text("p"), Certificates::NoTls),
            ("rediss://:p@h/0", "h:6379", None, text("p"), Certificates::Any),
            ("rediss://h/0?ssl_cert_reqs=none", "h:6379", None, None, Certificates::Any),
            ("rediss://h/0?ssl_cert_reqs=CERT_REQUIRED", "h:6379", None, None, checked(None)),
            ("rediss://h?ssl_cert_reqs=optional&ssl_ca_certs=%2Fca", "h:6379", None, None, checked(Some("/ca"))),
            ("sentinel://:p@h", "h:26379", None, None, Certificates::NoTls),
        ] {
            assert_eq!(read(url), [(address.to_owned(), user, password, certificates)], "{url}");
        }
        let several = read("sentinel://a:1/0;sentinel://b/0; c:3");
        let addresses: Vec<_> = several.iter().map(|(address, ..)| address.as_str()).collect();
        assert_eq!(addresses, ["a:1", "b:26379", "c:3"]);
    }
}
