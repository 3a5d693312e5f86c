//! Servers that take connections and say nothing: databases and brokers, as far as waiting for them goes.

use std::collections::BTreeSet;
use std::net::TcpListener;

/// Listening servers by the name under which they are reached, each on a loopback address of its own.
pub(crate) struct Services(Vec<(String, TcpListener)>);

/// The address of a name: any of 127.0.0.0/8 is this machine, and two names on one port must not be one server.
fn address(name: &str) -> String {
    let sum = name.bytes().fold(7_u32, |sum, byte| (sum * 31 + u32::from(byte)) % 64_000);
    format!("127.1.{}.{}", sum / 250, 1 + sum % 250)
}

/// The lines of `/etc/hosts` for these.
pub(crate) fn hosts(services: &[(&str, u16)]) -> String {
    let names: BTreeSet<_> = services.iter().map(|(name, _)| name).collect();
    names.iter().map(|name| format!("{} {name}\n", address(name))).collect()
}

impl Services {
    /// Servers for all of these.
    pub(crate) fn listen(services: &[(&str, u16)]) -> Self {
        let mut all = Self(Vec::new());
        services.iter().for_each(|(name, port)| all.add(name, *port));
        all
    }

    /// One more server.
    pub(crate) fn add(&mut self, name: &str, port: u16) {
        let listener = TcpListener::bind((address(name), port)).unwrap();
        listener.set_nonblocking(true).unwrap();
        self.0.push((format!("{name}:{port}"), listener));
    }

    /// Takes a server away.
    pub(crate) fn remove(&mut self, name: &str, port: u16) {
        let name = format!("{name}:{port}");
        self.0.retain(|(known, _)| *known != name);
    }

    /// Who was connected to since the last time.
    pub(crate) fn connected(&self) -> BTreeSet<String> {
        let count = |listener: &TcpListener| std::iter::from_fn(|| listener.accept().ok()).count();
        self.0.iter().filter(|(_, listener)| count(listener) > 0).map(|(name, _)| name.clone()).collect()
    }
}

/// A server on this machine, with its port.
pub(crate) fn local() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    (listener, port)
}
