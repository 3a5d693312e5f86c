//! A wire to a database server that is cut: before the server has got what the client sends, or after it has done that and before the
//! client hears of it, or by the server itself.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread;

use crate::databases::{Database, Kind};

/// Where a wire is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// The server never gets it.
    BeforeTheServer,
    /// The server has done it, and the client does not get the answer.
    BeforeTheClient,
    /// The server ends the login before it gets it.
    ByTheServer,
}

/// What is to happen at which message of the client's, and how many there have been.
#[derive(Debug, Default)]
struct Orders {
    cut: Option<(Cut, usize)>,
    messages: usize,
    /// The next answer is not passed on.
    unanswered: bool,
}

/// A port that leads to a server.
pub(crate) struct Wire {
    port: u16,
    server: u16,
    orders: Arc<Mutex<Orders>>,
}

impl Wire {
    /// A wire to a server, as long as the test lasts.
    pub(crate) fn to(server: &Database) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let orders = Arc::default();
        let wire =
            Self { port: listener.local_addr().unwrap().port(), server: server.port, orders: Arc::clone(&orders) };
        let (kind, port, folder) = (server.kind, server.port, server.folder().display().to_string());
        thread::spawn(move || {
            for one in listener.incoming() {
                let (questions, answers) = (one.unwrap(), TcpStream::connect(("127.0.0.1", port)).unwrap());
                let login = answers.local_addr().unwrap().port();
                // By the administrator: only that one sees a login that has not ended.
                let end = match kind {
                    Kind::Postgres => format!(
                        "psql -X -U postgres -h {folder} -p {port} -c \
                         'SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE client_port = {login}'"
                    ),
                    Kind::MariaDb => format!(
                        "mariadb --no-defaults -u root --socket={folder}/socket -e \
                         'SET @id = (SELECT id FROM information_schema.processlist WHERE host = \"127.0.0.1:{login}\"); KILL @id'"
                    ),
                };
                for stream in [&questions, &answers] {
                    stream.set_nodelay(true).unwrap();
                }
                let back = (answers.try_clone().unwrap(), questions.try_clone().unwrap(), Arc::clone(&orders));
                let orders = Arc::clone(&orders);
                thread::spawn(move || pass(&questions, &answers, || passes_question(&orders, &end)));
                thread::spawn(move || pass(&back.0, &back.1, || !back.2.lock().unwrap().unanswered));
            }
        });
        wire
    }

    /// The URL of the server, by this wire.
    pub(crate) fn url(&self, url: &str) -> String {
        url.replace(&format!(":{}/", self.server), &format!(":{}/", self.port))
    }

    /// What the next client is in for.
    pub(crate) fn cut(&self, cut: Option<(Cut, usize)>) {
        *self.orders.lock().unwrap() = Orders { cut, ..Orders::default() };
    }

    /// How many messages the client has sent since.
    pub(crate) fn messages(&self) -> usize {
        self.orders.lock().unwrap().messages
    }
}

/// Hands on what comes while that may pass; then both ends hear that the wire is cut.
fn pass(mut from: &TcpStream, mut to: &TcpStream, mut passes: impl FnMut() -> bool) {
    let mut buffer = [0; 1 << 16];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        if !passes() || to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    // Who has gone already hears nothing.
    let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
}

fn passes_question(orders: &Mutex<Orders>, end: &str) -> bool {
    let mut orders = orders.lock().unwrap();
    orders.messages += 1;
    match orders.cut {
        Some((cut, number)) if number == orders.messages => match cut {
            Cut::BeforeTheServer => return false,
            Cut::BeforeTheClient => orders.unanswered = true,
            Cut::ByTheServer => {
                let ended = Command::new("sh").args(["-c", end]).output().unwrap();
                assert!(ended.status.success(), "{end}: {}", String::from_utf8_lossy(&ended.stderr));
            }
        },
        _ => {}
    }
    true
}
