//! The URLs of database and broker, built from the parts that the puckel image's variables say.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::settings::puckel::Parts;

/// All but RFC 3986's unreserved characters: what SQLAlchemy and kombu decode back to the very same text. `$` is among them,
/// since Airflow expands `$NAME` in every value it reads.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The metadata database's URL from `POSTGRES_*`, with the puckel image's defaults.
pub(crate) fn postgres(parts: &Parts) -> String {
    let or = |part: &Option<String>, default: &str| part.clone().unwrap_or_else(|| default.to_owned());
    let host = or(&parts.host, "postgres");
    let port = parts.port.unwrap_or(5432);
    let name = or(&parts.database, "airflow");
    let database = encode(&name);
    let mut query = Vec::new();
    let authority = if host.starts_with('/') {
        // libpq's folder of a socket; there is no place for it in front of the path.
        query.push(format!("host={}&port={port}", encode(&host)));
        String::new()
    } else {
        format!("{}:{port}", bracketed(&host))
    };
    if database != name {
        // SQLAlchemy decodes the path only since 2.1; what libpq is told behind it counts for all of them.
        query.push(format!("dbname={database}"));
    }
    query.extend(parts.extras.clone());
    let (user, password) = (encode(&or(&parts.user, "airflow")), encode(&or(&parts.password, "airflow")));
    let query = if query.is_empty() { String::new() } else { format!("?{}", query.join("&")) };
    format!("postgresql+psycopg2://{user}:{password}@{authority}/{database}{query}")
}

/// The broker's URL from `REDIS_*`, with the puckel image's defaults.
pub(crate) fn redis(parts: &Parts) -> String {
    let scheme = parts.scheme.as_deref().unwrap_or("redis").trim_end_matches("://");
    let userinfo = parts.password.as_deref().map(|password| format!(":{}@", encode(password))).unwrap_or_default();
    format!(
        "{scheme}://{userinfo}{}:{}/{}",
        bracketed(parts.host.as_deref().unwrap_or("redis")),
        parts.port.unwrap_or(6379),
        encode(parts.database.as_deref().unwrap_or("1")),
    )
}

/// Celery's form of the metadata database's URL: `db+` and no driver.
pub(crate) fn result_backend(connection: &str) -> Option<String> {
    let (scheme, rest) = connection.split_once("://")?;
    let dialect = scheme.split('+').next()?;
    Some(format!("db+{}://{rest}", if dialect == "postgres" { "postgresql" } else { dialect }))
}

/// The URL with the name of the dialect that SQLAlchemy knows; providers still write `postgres://`, which it gave up in 1.4.
pub(crate) fn with_known_dialect(url: &str) -> Option<String> {
    let rest = url.strip_prefix("postgres").filter(|rest| rest.starts_with("://") || rest.starts_with('+'))?;
    Some(format!("postgresql{rest}"))
}

/// Percent-encodes one part of a URL.
pub(crate) fn encode(text: &str) -> String {
    utf8_percent_encode(text, RESERVED).to_string()
}

/// An IPv6 address needs brackets; of a list of hosts each one that is such an address.
fn bracketed(hosts: &str) -> String {
    let one = |host: &str| {
        let is_address = host.matches(':').count() > 1 && !host.starts_with('[');
        if is_address { format!("[{host}]") } else { host.to_owned() }
    };
    hosts.split(',').map(one).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c10_urls_from_parts() {
        let part = |text: &str| Some(text.to_owned());
        let all = Parts {
            database: part("d"),
            extras: part("sslmode=require"),
            host: part("h"),
            password: part("p@:/?#%ä"),
            port: Some(1),
            scheme: None,
            user: part("u$x"),
        };
        let url = "postgresql+psycopg2://u%24x:p%40%3A%2F%3F%23%25%C3%A4@h:1/d?sslmode=require";
        assert_eq!(postgres(&all), url);
        assert_eq!(postgres(&Parts::default()), "postgresql+psycopg2://airflow:airflow@postgres:5432/airflow");
        assert_eq!(
            postgres(&Parts { host: part("::1"), ..Parts::default() }),
            "postgresql+psycopg2://airflow:airflow@[::1]:5432/airflow"
        );
        for (host, authority) in [
            ("2001:db8::5", "[2001:db8::5]:5432/airflow"),
            ("[::1]", "[::1]:5432/airflow"),
            ("h1,::1", "h1,[::1]:5432/airflow"),
            ("/run/pg", "/airflow?host=%2Frun%2Fpg&port=5432"),
        ] {
            let url = format!("postgresql+psycopg2://airflow:airflow@{authority}");
            assert_eq!(postgres(&Parts { host: part(host), ..Parts::default() }), url);
        }
        let odd = postgres(&Parts { database: part("a b?"), extras: part("x=1"), ..Parts::default() });
        assert_eq!(odd, "postgresql+psycopg2://airflow:airflow@postgres:5432/a%20b%3F?dbname=a%20b%3F&x=1");
        assert_eq!(redis(&Parts::default()), "redis://redis:6379/1");
        for scheme in ["rediss", "rediss://"] {
            let parts = Parts { scheme: part(scheme), user: None, ..all.clone() };
            assert_eq!(redis(&parts), "rediss://:p%40%3A%2F%3F%23%25%C3%A4@h:1/d");
        }
    }

    #[test]
    fn c15_the_result_backend_follows_from_the_database() {
        for (url, expected) in [
            ("postgresql+psycopg2://u:p@h/d?x=1", Some("db+postgresql://u:p@h/d?x=1")),
            ("postgres://h/d", Some("db+postgresql://h/d")),
            ("mysql+mysqldb://h/d", Some("db+mysql://h/d")),
            ("sqlite:////a.db", Some("db+sqlite:////a.db")),
            ("no url", None),
        ] {
            assert_eq!(result_backend(url).as_deref(), expected, "{url}");
        }
    }

    #[test]
    fn c09_the_dialect_is_the_one_that_sqlalchemy_knows() {
        for (url, expected) in [
            ("postgres://u:p@h/d", Some("postgresql://u:p@h/d")),
            ("postgres+psycopg2://h/d", Some("postgresql+psycopg2://h/d")),
            ("postgresql://h/d", None),
            ("postgresx://h/d", None),
        ] {
            assert_eq!(with_known_dialect(url).as_deref(), expected, "{url}");
        }
    }
}
