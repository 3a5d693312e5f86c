//! A wire to a database server that is cut: before the server has got what the client sends, or after it has done that and before the
//! client hears of it, or by the server itself.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use crate::client;
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
    /// Which was the first that would change something.
    first_change: Option<usize>,
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
        let (kind, port, folder) = (server.kind, server.port, server.folder().to_owned());
        thread::spawn(move || {
            for one in listener.incoming() {
                let (questions, answers) = (one.unwrap(), TcpStream::connect(("127.0.0.1", port)).unwrap());
                let login = answers.local_addr().unwrap().port();
                // By the administrator: only that one sees a login that has not ended.
                let (folder, ours) = (folder.clone(), format!("127.0.0.1:{login}"));
                let end = move || match kind {
                    Kind::Postgres => {
                        let which = format!("FROM pg_stat_activity WHERE client_port = {login}");
                        let end = format!("SELECT pg_terminate_backend(pid, 5000) {which}");
                        client::postgres(&folder, port, "postgres", &end).map(drop)
                    }
                    Kind::MariaDb => {
                        let which = format!("SELECT id FROM information_schema.processlist WHERE host = '{ours}'");
                        let end = format!("SET @id = ({which}); KILL @id");
                        client::mariadb(&folder.join("socket"), None, &end).map(drop)
                    }
                };
                for stream in [&questions, &answers] {
                    stream.set_nodelay(true).unwrap();
                }
                let back = (answers.try_clone().unwrap(), questions.try_clone().unwrap(), Arc::clone(&orders));
                let orders = Arc::clone(&orders);
                thread::spawn(move || pass(&questions, &answers, |said| passes_question(&orders, said, &end)));
                thread::spawn(move || pass(&back.0, &back.1, |_| !back.2.lock().unwrap().unanswered));
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

    /// The first message since that would change something.
    pub(crate) fn first_change(&self) -> Option<usize> {
        self.orders.lock().unwrap().first_change
    }

    /// How many messages the client has sent since.
    pub(crate) fn messages(&self) -> usize {
        self.orders.lock().unwrap().messages
    }
}

/// Hands on what comes while that may pass; then both ends hear that the wire is cut.
fn pass(mut from: &TcpStream, mut to: &TcpStream, mut passes: impl FnMut(&[u8]) -> bool) {
    let mut buffer = [0; 1 << 16];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        if !passes(&buffer[..count]) || to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    // Who has gone already hears nothing.
    let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
}

fn passes_question(orders: &Mutex<Orders>, said: &[u8], end: impl Fn() -> Result<(), sqlx::Error>) -> bool {
    let mut orders = orders.lock().unwrap();
    orders.messages += 1;
    let said = String::from_utf8_lossy(said);
    if orders.first_change.is_none() && ["INSERT", "UPDATE", "DELETE", "CREATE"].iter().any(|word| said.contains(word))
    {
        orders.first_change = Some(orders.messages);
    }
    match orders.cut {
        Some((cut, number)) if number == orders.messages => match cut {
            Cut::BeforeTheServer => return false,
            Cut::BeforeTheClient => orders.unanswered = true,
            Cut::ByTheServer => {
                end().unwrap();
            }
        },
        _ => {}
    }
    true
}
