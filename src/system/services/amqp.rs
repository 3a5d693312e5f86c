//! RabbitMQ's greeting: a server that can speak AMQP begins to, once it has been told of the protocol (AMQP 0-9-1, 2.2.4).

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::connection::{self, Connection, answered};
use crate::failure::{Class, Failure};
use crate::urls::Endpoint;

/// The protocol header of AMQP 0-9-1.
const HEADER: &[u8; 8] = b"AMQP\0\0\x09\x01";
/// The type of a frame with a method, and channel 0.
const METHOD: [u8; 3] = [1, 0, 0];

/// Greets the first server that takes it.
pub(super) async fn greet(endpoints: &[Endpoint]) -> Result<(), Failure> {
    let mut last = None;
    for endpoint in endpoints {
        match greet_one(endpoint).await {
            Ok(()) => return Ok(()),
            Err(failure) => last = Some(failure),
        }
    }
    Err(last.unwrap_or_else(connection::closed))
}

async fn greet_one(endpoint: &Endpoint) -> Result<(), Failure> {
    let Connection::Tcp(mut stream) = connection::to(endpoint).await? else { return Ok(()) };
    answered(stream.write_all(HEADER)).await?;
    let mut start = [0; 8];
    answered(stream.read_exact(&mut start)).await?;
    // A server of another version sends the header of its own.
    if start.starts_with(&METHOD) || start.starts_with(b"AMQP") {
        return Ok(());
    }
    Err(Failure::new(Class::Protocol, "expected AMQP, found something else"))
}
