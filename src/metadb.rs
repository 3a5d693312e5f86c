//! The metadata database as we ask it ourselves: SQLAlchemy's URL in the form that our own driver takes.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use percent_encoding::percent_decode_str;

use crate::source::Source;
use crate::steps::Service;
use crate::urls::parts::encode;
use crate::urls::{Endpoint, Redacted};

/// Whether and how the metadata database can be asked without Airflow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Metadb {
    /// By its own protocol.
    Asked(Target),
    /// Only Airflow can: why.
    LeftToAirflow(String),
}

impl Metadb {
    /// Where it can be asked.
    pub(crate) fn target(&self) -> Option<&Target> {
        match self {
            Self::Asked(target) => Some(target),
            Self::LeftToAirflow(_) => None,
        }
    }
}

/// The kinds of databases that Airflow supports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    MySql,
    Postgres,
    Sqlite,
}

impl Dialect {
    /// The dialect of a URL; `mariadb` is `mysql` to SQLAlchemy's drivers and to ours.
    fn of(scheme: &str) -> Option<Self> {
        match scheme.split('+').next()? {
            "postgres" | "postgresql" => Some(Self::Postgres),
            "mysql" | "mariadb" => Some(Self::MySql),
            _ => None,
        }
    }
}

/// Where the database is, and who we are there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub dialect: Dialect,
    /// One address of each host, any of which will do, with the URL for it.
    pub addresses: Vec<Address>,
    pub source: Source,
}

/// One way to reach the database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    /// For messages.
    pub name: String,
    /// For the driver.
    pub url: Redacted<String>,
    /// The schema that is looked in before those that the server would look in (PostgreSQL).
    pub schema: Option<String>,
}

impl Target {
    /// A SQLite file. It is not created by looking at it.
    pub(crate) fn sqlite(file: &Path, source: Source) -> Self {
        let url = format!("sqlite://{}?mode=rw", file.to_string_lossy().replace('%', "%25").replace('?', "%3F"));
        let address = Address { name: file.display().to_string(), url: Redacted(url), schema: None };
        Self { dialect: Dialect::Sqlite, addresses: vec![address], source }
    }

    /// A server, from the URL that SQLAlchemy is given; none for a kind of database that our driver does not know.
    pub(crate) fn server(url: &str, endpoints: &[Endpoint], source: Source) -> Option<Self> {
        let (scheme, rest) = url.split_once("://")?;
        let dialect = Dialect::of(scheme)?;
        let parts = Parts::of(rest, dialect);
        let addresses = endpoints.iter().map(|endpoint| parts.address(dialect, endpoint)).collect();
        Some(Self { dialect, addresses, source })
    }

    /// A server that is waited for and is not the metadata database.
    pub(crate) fn of(service: &Service) -> Option<Self> {
        Self::server(service.url.0.trim_start_matches("db+"), &service.endpoints, service.source.clone())
    }

    /// With Airflow's tables in this schema (`[database] sql_alchemy_schema`), which only PostgreSQL has. Alembic's table of versions stays
    /// in the default one.
    pub(crate) fn in_schema(mut self, schema: Option<&str>) -> Self {
        if let (Dialect::Postgres, Some(schema)) = (self.dialect, schema) {
            self.addresses.iter_mut().for_each(|address| address.schema = Some(schema.to_owned()));
        }
        self
    }

    /// The file of a SQLite database.
    pub(crate) fn file(&self) -> Option<PathBuf> {
        let first = self.addresses.first().filter(|_| self.dialect == Dialect::Sqlite)?;
        Some(PathBuf::from(&first.name))
    }
}

impl Address {
    /// The same at one address of its name's; none where the name itself is needed, or cannot be replaced.
    pub(crate) fn at(&self, dialect: Dialect, ip: IpAddr) -> Option<Self> {
        let replaceable = dialect == Dialect::Postgres && !self.url.0.contains("sslmode=verify-full");
        let joint = if self.url.0.contains('?') { '&' } else { '?' };
        let url = Redacted(format!("{}{joint}host={}", self.url.0, encode(&ip.to_string())));
        replaceable.then(|| Self { url, ..self.clone() })
    }
}

/// What is the same for each of a URL's hosts, encoded anew.
struct Parts {
    userinfo: String,
    database: String,
    query: Vec<(&'static str, String)>,
}

impl Parts {
    fn of(rest: &str, dialect: Dialect) -> Self {
        // As `urls::endpoints` takes it apart.
        let authority = &rest[..rest.find(['/', '?']).unwrap_or(rest.len())];
        let userinfo = authority.rsplit_once('@').map(|(userinfo, _)| userinfo);
        let behind = &rest[authority.len()..];
        let (path, query) = behind.split_once('?').unwrap_or((behind, ""));
        let mut database = decoded(path.strip_prefix('/').unwrap_or(path));
        let mut user = userinfo.map(|text| decoded(text.split(':').next().unwrap_or_default()));
        let mut password = userinfo.and_then(|text| text.split_once(':')).map(|(_, password)| decoded(password));
        let mut kept = Vec::new();
        for (name, value) in query.split('&').filter_map(|pair| pair.split_once('=')) {
            let value = decoded(&value.replace('+', " "));
            match name {
                "dbname" | "database" => database = value,
                "user" => user = Some(value),
                "password" | "passwd" => password = Some(value),
                _ => kept.extend(driver_option(dialect, name).map(|name| (name, value))),
            }
        }
        let password = password.map(|password| format!(":{}", encode(&password))).unwrap_or_default();
        let userinfo = user.map(|user| format!("{}{password}@", encode(&user))).unwrap_or_default();
        Self { userinfo, database: encode(&database), query: kept }
    }

    fn address(&self, dialect: Dialect, endpoint: &Endpoint) -> Address {
        let mut query = self.query.clone();
        let host = match (dialect, endpoint) {
            // The driver takes the brackets of an IPv6 address for a part of its name.
            (Dialect::Postgres, Endpoint::Tcp { host, port }) if host.contains(':') => {
                query.extend([("host", host.clone()), ("port", port.to_string())]);
                "localhost".to_owned()
            }
            (_, Endpoint::Tcp { .. }) => endpoint.to_string(),
            (Dialect::MySql, Endpoint::Unix(path)) => {
                query.push(("socket", path.clone()));
                "localhost".to_owned()
            }
            (_, Endpoint::Unix(path)) => {
                let (folder, port) = path.rsplit_once("/.s.PGSQL.").unwrap_or((path, "5432"));
                query.extend([("host", folder.to_owned()), ("port", port.to_owned())]);
                "localhost".to_owned()
            }
        };
        let scheme = if dialect == Dialect::MySql { "mysql" } else { "postgres" };
        let query: Vec<_> = query.iter().map(|(name, value)| format!("{name}={}", encode(value))).collect();
        let query = if query.is_empty() { String::new() } else { format!("?{}", query.join("&")) };
        let url = format!("{scheme}://{}{host}/{}{query}", self.userinfo, self.database);
        Address { name: endpoint.to_string(), url: Redacted(url), schema: None }
    }
}

fn decoded(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

/// What our driver calls an option of psycopg2 (libpq), mysqlclient or PyMySQL; the others concern Python alone.
fn driver_option(dialect: Dialect, name: &str) -> Option<&'static str> {
    Some(match (dialect, name) {
        (Dialect::Postgres, "sslmode") => "sslmode",
        (Dialect::Postgres, "sslrootcert") => "sslrootcert",
        (Dialect::Postgres, "sslcert") => "sslcert",
        (Dialect::Postgres, "sslkey") => "sslkey",
        (Dialect::Postgres, "options") => "options",
        (Dialect::MySql, "charset") => "charset",
        (Dialect::MySql, "ssl_ca" | "ssl-ca") => "ssl-ca",
        (Dialect::MySql, "ssl_cert" | "ssl-cert") => "ssl-cert",
        (Dialect::MySql, "ssl_key" | "ssl-key") => "ssl-key",
        (Dialect::MySql, "ssl_mode" | "ssl-mode") => "ssl-mode",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::urls::endpoints;

    fn urls(url: &str) -> Vec<String> {
        let target = Target::server(url, &endpoints(url).unwrap(), Source::Default).unwrap();
        target.addresses.into_iter().map(|address| address.url.0).collect()
    }

    #[test]
    fn urls_for_our_driver() {
        for (url, expected) in [
            ("postgresql+psycopg2://u:p%40%2F:@db/airflow", &["postgres://u:p%40%2F%3A@db:5432/airflow"] as &[_]),
            ("postgresql://u:p@h1:1,h2:2/a", &["postgres://u:p@h1:1/a", "postgres://u:p@h2:2/a"]),
            (
                "postgresql://u@[::1]/a?sslmode=require&connect_timeout=3",
                &["postgres://u@localhost/a?sslmode=require&host=%3A%3A1&port=5432"],
            ),
            ("postgresql://u:p@/a?host=/run/pg&port=5433", &["postgres://u:p@localhost/a?host=%2Frun%2Fpg&port=5433"]),
            ("postgresql://u:p@h/a%20b?dbname=a%20b", &["postgres://u:p@h:5432/a%20b"]),
            ("mysql+pymysql://u:p@h/a?charset=utf8mb4", &["mysql://u:p@h:3306/a?charset=utf8mb4"]),
            (
                "mysql+mysqldb://u@localhost/a?unix_socket=/run/m.sock",
                &["mysql://u@localhost/a?socket=%2Frun%2Fm%2Esock"],
            ),
        ] {
            assert_eq!(urls(url), expected, "{url}");
        }
        assert_eq!(Target::server("mssql://u:p@h/a", &[], Source::Default), None);
    }

    #[test]
    fn a_target_shows_no_password() {
        let target =
            Target::server("mysql://u:hidden@h/a", &endpoints("mysql://u:hidden@h/a").unwrap(), Source::Default);
        assert!(!format!("{target:?}").contains("hidden"));
    }
}
