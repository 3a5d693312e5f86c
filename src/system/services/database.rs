//! PostgreSQL and MySQL: ready when they let us in and answer a query.

use std::time::Duration;

use sqlx::mysql::MySqlDatabaseError;
use tokio::time::timeout;

use super::connection::{self, broken, silent};
use crate::metadb::{Address, Dialect, Target};
use crate::readiness::failure::{Class, Failure};
use crate::steps::Service;
use crate::system::metadb::Login;
use crate::urls::Endpoint;

/// How long a login may take.
const LOGIN: Duration = Duration::from_secs(5);

/// Logs in at the first address that lets us.
pub(super) async fn log_in(service: &Service, target: &Target) -> Result<Login, Failure> {
    let mut last = Failure::new(Class::Name, "the name has no address");
    for (endpoint, address) in service.endpoints.iter().zip(&target.addresses) {
        match at_any(target.dialect, endpoint, address).await {
            Ok(login) => return Ok(login),
            Err(failure) => last = failure,
        }
    }
    Err(last)
}

/// Logs in at any address of a name: the driver would spend all the time on one that is silent.
async fn at_any(dialect: Dialect, endpoint: &Endpoint, address: &Address) -> Result<Login, Failure> {
    let Endpoint::Tcp { host, port } = endpoint else { return at(dialect, address, LOGIN).await };
    let found = connection::resolve(host, *port).await?;
    let each: Vec<_> = found.iter().filter_map(|found| address.at(dialect, found.ip())).collect();
    if each.len() < 2 {
        return at(dialect, address, LOGIN).await;
    }
    let mut last = connection::closed();
    for address in &each {
        match at(dialect, address, connection::TRY).await {
            Ok(login) => return Ok(login),
            Err(failure) => last = failure,
        }
    }
    Err(last)
}

async fn at(dialect: Dialect, address: &Address, time: Duration) -> Result<Login, Failure> {
    let login = async {
        let mut login = Login::open(dialect, address).await?;
        // A pooler lets us in before it has a server.
        login.ping().await?;
        Ok(login)
    };
    timeout(time, login).await.map_err(|_| silent(time))?.map_err(|error| failure(dialect, &error))
}

fn failure(dialect: Dialect, error: &sqlx::Error) -> Failure {
    match error {
        sqlx::Error::Database(said) => {
            let class = match said.try_downcast_ref::<MySqlDatabaseError>() {
                Some(said) => Class::of_mysql(said.number()),
                None if dialect == Dialect::Postgres => {
                    Class::of_postgres(&said.code().unwrap_or_default(), said.message())
                }
                None => Class::Server,
            };
            Failure::new(class, said.message())
        }
        sqlx::Error::Io(error) => broken(error),
        sqlx::Error::Tls(error) if error.to_string().contains("peer certificate") => {
            Failure::new(Class::Certificate, error.to_string())
        }
        sqlx::Error::Tls(error) => Failure::new(Class::Tls, error.to_string()),
        // Never `Configuration` in full: it cites what it could not read. PostgreSQL itself, and libpq, take a password as it is that
        // SASLprep (RFC 4013, with Unicode 3.2) does not, such as one with an emoji.
        sqlx::Error::Configuration(error) if error.to_string().contains("saslprep") => {
            Failure::new(Class::Driver, "our driver takes no user or password with these characters")
        }
        sqlx::Error::Configuration(_) => Failure::new(Class::Driver, "our driver does not take the URL"),
        // The driver's words when the connection ends before the answer to its wish for TLS.
        sqlx::Error::Protocol(text) if text.contains("SSLRequest: 0x00") => connection::closed(),
        // An error instead of that answer: PostgreSQL cannot even start a process for us.
        sqlx::Error::Protocol(text) if text.contains("SSLRequest: 0x45") => {
            Failure::new(Class::Server, "it takes no more connections")
        }
        sqlx::Error::Protocol(_) => {
            let expected = if dialect == Dialect::MySql { "MySQL" } else { "PostgreSQL" };
            Failure::new(Class::Protocol, format!("expected an answer of {expected}, found something else"))
        }
        other => Failure::new(Class::Server, other.to_string()),
    }
}
