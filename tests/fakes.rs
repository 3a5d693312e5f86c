//! Servers of the test's own that speak just enough of PostgreSQL, Redis and RabbitMQ to let somebody in, or to say why not.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

/// What a server says to everybody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    /// It lets everybody in, by whichever of the protocols they speak.
    Ready,
    /// The connection is taken, and that is all.
    Silent,
    /// The connection is closed at once.
    Closing,
    /// This, to whatever is said first.
    Says(&'static [u8]),
    /// PostgreSQL's refusal: SQLSTATE and message.
    Refuses(&'static str, &'static str),
}

/// A server that ends with the test.
pub(crate) struct Fake {
    pub(crate) port: u16,
    address: SocketAddr,
    manner: Arc<Mutex<Manner>>,
    connections: Arc<AtomicUsize>,
    partings: Arc<AtomicUsize>,
    ended: Arc<AtomicBool>,
}

impl Fake {
    /// One that is ready.
    pub(crate) fn ready(address: impl ToSocketAddrs) -> Self {
        Self::new(address, Manner::Ready)
    }

    /// One of another manner.
    pub(crate) fn new(address: impl ToSocketAddrs, manner: Manner) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap();
        let fake = Self {
            port: address.port(),
            address,
            manner: Arc::new(Mutex::new(manner)),
            connections: Arc::default(),
            partings: Arc::default(),
            ended: Arc::default(),
        };
        let (manner, connections, ended) = (fake.manner.clone(), fake.connections.clone(), fake.ended.clone());
        let partings = fake.partings.clone();
        thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                if ended.load(Ordering::SeqCst) {
                    return;
                }
                connections.fetch_add(1, Ordering::SeqCst);
                let manner = *manner.lock().unwrap();
                // Whoever goes away in the middle of a word has done so.
                let partings = partings.clone();
                thread::spawn(move || serve(stream, manner, &partings).ok());
            }
        });
        fake
    }

    /// From now on.
    pub(crate) fn becomes(&self, manner: Manner) {
        *self.manner.lock().unwrap() = manner;
    }

    /// How many clients of PostgreSQL's protocol said good-bye.
    pub(crate) fn partings(&self) -> usize {
        self.partings.load(Ordering::SeqCst)
    }

    /// How many connections there were since the last time.
    pub(crate) fn connections(&self) -> usize {
        self.connections.swap(0, Ordering::SeqCst)
    }
}

impl Drop for Fake {
    /// The listener is closed when its thread has seen that this is the end.
    fn drop(&mut self) {
        self.ended.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
        while TcpListener::bind(self.address).is_err_and(|error| error.kind() == std::io::ErrorKind::AddrInUse) {
            thread::yield_now();
        }
    }
}

fn serve(mut stream: TcpStream, manner: Manner, partings: &AtomicUsize) -> std::io::Result<()> {
    let mut first = [0; 8];
    match manner {
        Manner::Closing => return Ok(()),
        Manner::Silent => return stream.read_to_end(&mut Vec::new()).map(drop),
        Manner::Says(text) => {
            let _ = stream.read(&mut [0; 512])?;
            stream.write_all(text)?;
            return stream.read_to_end(&mut Vec::new()).map(drop);
        }
        Manner::Ready | Manner::Refuses(..) => stream.read_exact(&mut first)?,
    }
    match &first {
        b"AMQP\0\0\x09\x01" => stream.write_all(&[1, 0, 0, 0, 0, 0, 4, 0, 10, 0, 10, 206]),
        [b'*', ..] => redis(stream, &first),
        _ => postgres(stream, &first, manner, partings),
    }
}

/// Yes to everything; each command is an array, so it begins with a star at the start of a line.
fn redis(mut stream: TcpStream, first: &[u8]) -> std::io::Result<()> {
    let mut heard = first.to_vec();
    let mut answered = 0;
    loop {
        let text = String::from_utf8_lossy(&heard).into_owned();
        let whole = text.split("\r\n").filter(|line| matches!(*line, "PING" | "AUTH")).collect::<Vec<_>>();
        for command in whole.iter().skip(answered) {
            stream.write_all(if *command == "PING" { b"+PONG\r\n" } else { b"+OK\r\n" })?;
        }
        answered = whole.len();
        let mut more = [0; 512];
        let count = stream.read(&mut more)?;
        if count == 0 {
            return Ok(());
        }
        heard.extend_from_slice(&more[..count]);
    }
}

/// A message of PostgreSQL's: a letter, and a body with its length in front.
fn message(letter: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap().to_be_bytes();
    [&[letter][..], &length, body].concat()
}

/// No TLS, no password, and no row in any answer.
fn postgres(mut stream: TcpStream, first: &[u8; 8], manner: Manner, partings: &AtomicUsize) -> std::io::Result<()> {
    let mut first = *first;
    // The request for TLS.
    if first[4..] == 80_877_103_u32.to_be_bytes() {
        stream.write_all(b"N")?;
        stream.read_exact(&mut first)?;
    }
    let length = u32::from_be_bytes(first[..4].try_into().unwrap()) as usize;
    stream.read_exact(&mut vec![0; length - 8])?;
    if let Manner::Refuses(code, text) = manner {
        let body = format!("SFATAL\0VFATAL\0C{code}\0M{text}\0\0");
        return stream.write_all(&message(b'E', body.as_bytes()));
    }
    stream.write_all(&message(b'R', &[0; 4]))?;
    stream.write_all(&message(b'S', b"server_version\x0015.0\0"))?;
    stream.write_all(&message(b'Z', b"I"))?;
    loop {
        let mut head = [0; 5];
        stream.read_exact(&mut head)?;
        let length = u32::from_be_bytes(head[1..].try_into().unwrap()) as usize;
        stream.read_exact(&mut vec![0; length - 4])?;
        let answer = match head[0] {
            b'P' => message(b'1', b""),
            b'B' => message(b'2', b""),
            b'C' => message(b'3', b""),
            b'D' => [message(b't', &[0; 2]), message(b'n', b"")].concat(),
            b'E' => message(b'C', b"SELECT 0\0"),
            b'Q' => [message(b'C', b"SELECT 0\0"), message(b'Z', b"I")].concat(),
            b'S' => message(b'Z', b"I"),
            b'X' => {
                partings.fetch_add(1, Ordering::SeqCst);
                return Ok(());
            }
            _ => Vec::new(),
        };
        stream.write_all(&answer)?;
    }
}
