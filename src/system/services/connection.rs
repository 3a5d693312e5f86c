//! A connection to any address of any endpoint, with every name resolved anew.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpStream, UnixStream, lookup_host};
use tokio::time::timeout;

use crate::failure::{Class, Failure};
use crate::system::cause;
use crate::urls::Endpoint;

/// How long one connection, or one answer, may take.
pub(super) const TRY: Duration = Duration::from_secs(3);

/// A connection of either kind.
pub(super) enum Connection {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// A connection to the first that takes one.
pub(super) async fn to_any(endpoints: &[Endpoint]) -> Result<Connection, Failure> {
    let mut last = nowhere();
    for endpoint in endpoints {
        match to(endpoint).await {
            Ok(connection) => return Ok(connection),
            Err(failure) => last = failure,
        }
    }
    Err(last)
}

/// A connection to any address of this one.
pub(super) async fn to(endpoint: &Endpoint) -> Result<Connection, Failure> {
    match endpoint {
        Endpoint::Unix(path) => answered(UnixStream::connect(path)).await.map(Connection::Unix),
        Endpoint::Tcp { host, port } => {
            let mut last = nowhere();
            for address in resolve(host, *port).await? {
                match answered(TcpStream::connect(address)).await {
                    Ok(stream) => return Ok(Connection::Tcp(stream)),
                    Err(failure) => last = failure,
                }
            }
            Err(last)
        }
    }
}

/// The addresses of a name, as it is known now: names appear and move while containers start.
pub(super) async fn resolve(host: &str, port: u16) -> Result<Vec<SocketAddr>, Failure> {
    let found = lookup_host((host, port)).await;
    found.map(Iterator::collect).map_err(|error| Failure::new(Class::Name, unresolved(&error)))
}

/// What comes of something that should not take long.
pub(super) async fn answered<T>(work: impl Future<Output = io::Result<T>>) -> Result<T, Failure> {
    match timeout(TRY, work).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(error)) => Err(broken(&error)),
        Err(_) => Err(silent(TRY)),
    }
}

/// A failure of the connection itself.
pub(super) fn broken(error: &io::Error) -> Failure {
    match error.kind() {
        _ if error.to_string().contains("peer certificate") => Failure::new(Class::Certificate, cause(error)),
        io::ErrorKind::TimedOut => Failure::new(Class::Time, cause(error)),
        // Which of them it is, is chance.
        io::ErrorKind::BrokenPipe
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::UnexpectedEof => closed(),
        _ => Failure::new(Class::Connection, cause(error)),
    }
}

/// It took the connection, and ended it.
pub(super) fn closed() -> Failure {
    Failure::new(Class::Connection, "it closes the connection before it answers")
}

pub(super) fn silent(time: Duration) -> Failure {
    Failure::new(Class::Time, format!("no answer within {} s", time.as_secs()))
}

fn nowhere() -> Failure {
    Failure::new(Class::Name, "the name has no address")
}

/// std's message is "failed to lookup address information: Name or service not known".
fn unresolved(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.rsplit(": ").next().unwrap_or(&text);
    cause(&io::Error::other(text.to_owned()))
}
