//! Redis: ready when it lets us in and answers PING; of several, or of Sentinels, when any one does.

use std::error::Error as _;
use std::{fs, io};

use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ErrorKind, IntoConnectionInfo, RedisConnectionInfo, RedisError,
    RedisResult, TlsCertificates,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;

use super::connection::{self, Connection, TRY, broken, closed, silent};
use crate::failure::{Class, Failure};
use crate::protocol::{Certificates, RedisServer, redis_servers};
use crate::system::cause;
use crate::urls::Endpoint;

/// What Python's `ssl` trusts where nothing else is said, in the images of Airflow.
const SYSTEM: &str = "/etc/ssl/certs/ca-certificates.crt";

/// Asks the first server of the URL that answers.
pub(super) async fn ping(url: &str) -> Result<(), Failure> {
    let mut last = Failure::new(Class::Protocol, "the URL names no server");
    for server in redis_servers(url) {
        match ping_one(&server, url.starts_with("sentinel")).await {
            Ok(()) => return Ok(()),
            Err(failure) => last = failure,
        }
    }
    Err(last)
}

async fn ping_one(server: &RedisServer, is_sentinel: bool) -> Result<(), Failure> {
    let mut connection = connect(server).await?;
    let asked = async {
        if let Some(password) = &server.password {
            let mut auth = redis::cmd("AUTH");
            if let Some(user) = &server.user {
                auth.arg(user);
            }
            auth.arg(password).query_async::<()>(&mut connection).await?;
        }
        redis::cmd("PING").query_async::<redis::Value>(&mut connection).await
    };
    match timeout(TRY, asked).await {
        Ok(Ok(_)) => Ok(()),
        // The Sentinels' own password is not in the URL: this is an answer.
        Ok(Err(error)) if is_sentinel && error.code() == Some("NOAUTH") => Ok(()),
        Ok(Err(error)) => Err(failure(&error)),
        Err(_) => Err(silent(TRY)),
    }
}

/// Without a login, so that what the server says to that is heard in its own words.
async fn connect(server: &RedisServer) -> Result<MultiplexedConnection, Failure> {
    let silently = RedisConnectionInfo::default().set_skip_set_lib_name();
    match (&server.endpoint, &server.certificates) {
        (Endpoint::Tcp { host, port }, Certificates::Any | Certificates::Checked { .. }) => {
            connection::resolve(host, *port).await?;
            let insecure = server.certificates == Certificates::Any;
            let address = ConnectionAddr::TcpTls { host: host.clone(), port: *port, insecure, tls_params: None };
            let info = address.into_connection_info().map_err(|error| failure(&error))?.set_redis_settings(silently);
            let certificates = TlsCertificates { client_tls: None, root_cert: authorities(server)? };
            let client = Client::build_with_tls(info, certificates).map_err(|error| failure(&error))?;
            let made = timeout(TRY, client.get_multiplexed_async_connection()).await.map_err(|_| silent(TRY))?;
            made.map_err(|error| failure(&error))
        }
        _ => {
            let made = match connection::to(&server.endpoint).await? {
                Connection::Tcp(stream) => driven(&silently, stream).await,
                Connection::Unix(stream) => driven(&silently, stream).await,
            };
            made.map_err(|error| failure(&error))
        }
    }
}

/// A connection by this stream, with what moves it in the background.
async fn driven(
    info: &RedisConnectionInfo,
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
) -> RedisResult<MultiplexedConnection> {
    let config = AsyncConnectionConfig::new();
    let (connection, driver) = MultiplexedConnection::new_with_config(info, stream, config).await?;
    tokio::spawn(driver);
    Ok(connection)
}

/// Those that a certificate must be signed by; none for the ones that are built in.
fn authorities(server: &RedisServer) -> Result<Option<Vec<u8>>, Failure> {
    match &server.certificates {
        Certificates::Checked { authorities: Some(path) } => {
            let text = fs::read(path);
            text.map(Some).map_err(|error| Failure::new(Class::Certificate, format!("`{path}`: {}", cause(&error))))
        }
        Certificates::Checked { authorities: None } => Ok(fs::read(SYSTEM).ok()),
        _ => Ok(None),
    }
}

fn failure(error: &RedisError) -> Failure {
    if let Some(code) = error.code() {
        let said = error.detail().unwrap_or_default();
        return Failure::new(Class::of_redis(code, said), format!("{code} {said}").trim_end());
    }
    let text = error.source().map_or_else(|| error.to_string(), |source| source.to_string());
    let text = cause(&io::Error::other(text));
    match error.kind() {
        _ if text.contains("peer certificate") => Failure::new(Class::Certificate, text),
        _ if error.is_connection_dropped() => closed(),
        ErrorKind::Io if error.is_timeout() => silent(TRY),
        ErrorKind::Io => broken(&io::Error::other(text)),
        _ => Failure::new(Class::Protocol, "expected an answer of Redis, found something else"),
    }
}
