//! Servers that let everybody in and hold nothing: databases and brokers, as far as waiting for them goes (`fakes`).

use std::collections::BTreeSet;

use crate::fakes::Fake;

/// Servers by the name under which they are reached, each on a loopback address of its own.
pub(crate) struct Services(Vec<(String, Fake)>);

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
        self.0.push((format!("{name}:{port}"), Fake::ready((address(name).as_str(), port))));
    }

    /// Takes a server away.
    pub(crate) fn remove(&mut self, name: &str, port: u16) {
        let name = format!("{name}:{port}");
        self.0.retain(|(known, _)| *known != name);
    }

    /// Who was connected to since the last time.
    pub(crate) fn connected(&self) -> BTreeSet<String> {
        self.0.iter().filter(|(_, fake)| fake.connections() > 0).map(|(name, _)| name.clone()).collect()
    }
}

/// A server on this machine, with its port.
pub(crate) fn local() -> (Fake, String) {
    let fake = Fake::ready("127.0.0.1:0");
    let port = fake.port.to_string();
    (fake, port)
}
