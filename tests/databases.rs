//! Database servers of a test: each on a port of the kernel's, with its data in a folder that vanishes with it.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Child;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::prepared::{Ready, copy};
use crate::servers::Host;
pub(crate) use crate::servers::Kind;

/// The user that Airflow logs in as.
const USER: &str = "airflow";
/// How long a server may take to answer, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A server that ends with the test.
pub(crate) struct Database {
    pub(crate) kind: Kind,
    pub(crate) port: u16,
    pub(crate) password: String,
    host: Host,
    server: Child,
    folder: TempDir,
}

impl Database {
    /// PostgreSQL; none, said by name, where there is none.
    pub(crate) fn postgres() -> Option<Self> {
        Self::new(Kind::Postgres)
    }

    /// The same with these options of the server.
    pub(crate) fn postgres_with(options: &[&str]) -> Option<Self> {
        Self::start(Kind::Postgres, None, options)
    }

    /// MariaDB; none, said by name, where there is none.
    pub(crate) fn mariadb() -> Option<Self> {
        Self::new(Kind::MariaDb)
    }

    pub(crate) fn new(kind: Kind) -> Option<Self> {
        Self::start(kind, None, &[])
    }

    /// Each kind of server that is here. They start side by side.
    pub(crate) fn all() -> Vec<Self> {
        let hosts = [Kind::Postgres, Kind::MariaDb].into_iter().filter_map(Host::of);
        let launched: Vec<_> = hosts.map(|host| Self::launch(host, None, &[])).collect();
        launched.into_iter().map(|database| database.answered("CREATE", &[])).collect()
    }

    /// One whose database `airflow` is as an Airflow has migrated it; none, said by name, where there is no such server.
    pub(crate) fn ready(kind: Kind, ready: Ready) -> Option<Self> {
        Self::start(kind, Some(ready), &[])
    }

    fn start(kind: Kind, ready: Option<Ready>, options: &[&str]) -> Option<Self> {
        let verb = if ready.is_some() { "ALTER" } else { "CREATE" };
        Some(Self::launch(Host::of(kind)?, ready, options).answered(verb, options))
    }

    /// A server with data that are a copy, since to make them takes seconds. It is about to answer.
    fn launch(host: Host, ready: Option<Ready>, options: &[&str]) -> Self {
        let folder = host.folder();
        let put = |kept: &Path| copy(&kept.join("data"), folder.path());
        match ready {
            Some(ready) => ready.with(Some(host.kind), put),
            None => host.with_data(put),
        }
        let password = crate::sandbox::new_key().replace(['-', '_', '='], "x");
        let (port, server) = host.serve(folder.path(), options);
        Self { kind: host.kind, port, password, host, server, folder }
    }

    /// The same once it answers and has Airflow's user.
    fn answered(mut self, verb: &str, options: &[&str]) -> Self {
        // Another process may take the port between our look and the server's start.
        for _ in 0..5 {
            if self.until_ready() {
                self.give_user(verb);
                return self;
            }
            (self.port, self.server) = self.host.serve(self.folder.path(), options);
        }
        panic!("{:?} does not start: {}", self.kind, fs::read_to_string(self.folder.path().join("log")).unwrap());
    }

    /// Whether it is ready before it ends. Nothing is started to ask it.
    fn until_ready(&mut self) -> bool {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline && self.server.try_wait().unwrap().is_none() {
            let is_ready = match self.kind {
                Kind::Postgres => fs::read_to_string(self.folder.path().join("data/postmaster.pid"))
                    .is_ok_and(|text| text.lines().any(|line| line.trim_end() == "ready")),
                Kind::MariaDb => UnixStream::connect(self.folder.path().join("socket")).is_ok(),
            };
            if is_ready {
                return true;
            }
            thread::sleep(Duration::from_millis(10));
        }
        let _ = self.server.kill();
        let _ = self.server.wait();
        false
    }

    /// Airflow's user, with a password of this server's own.
    fn give_user(&self, verb: &str) {
        match self.kind {
            Kind::Postgres => self.sql(None, &format!("{verb} ROLE {USER} LOGIN PASSWORD '{}'", self.password)),
            // An anonymous user of this host would be taken before one of any host.
            Kind::MariaDb => self.sql(
                None,
                &format!(
                    "DELETE FROM mysql.global_priv WHERE user = ''; FLUSH PRIVILEGES; {verb} USER '{USER}'@'%' IDENTIFIED BY '{}'",
                    self.password
                ),
            ),
        };
    }

    /// What the data of such a server depend on.
    pub(crate) fn recipe(kind: Option<Kind>) -> Vec<u8> {
        kind.and_then(Host::of).map(|host| host.recipe()).unwrap_or_default()
    }

    /// Ends the server in its own time, and has its data copied.
    pub(crate) fn keep(mut self, kept: &Path) {
        kill(Pid::from_raw(self.server.id().cast_signed()), Signal::SIGTERM).unwrap();
        assert!(self.server.wait().unwrap().success(), "{:?} does not stop", self.kind);
        copy(&self.folder.path().join("data"), kept);
    }

    /// A new and empty database of that name, which is Airflow's, and its URL for SQLAlchemy.
    pub(crate) fn create(&self, name: &str) -> String {
        match self.kind {
            Kind::Postgres => self.sql(None, &format!("CREATE DATABASE {name} OWNER {USER}")),
            Kind::MariaDb => self.sql(
                None,
                &format!("CREATE DATABASE {name} CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci; GRANT ALL ON {name}.* TO '{USER}'@'%'"),
            ),
        };
        self.url(name)
    }

    /// The URL of a database for SQLAlchemy.
    pub(crate) fn url(&self, name: &str) -> String {
        let driver = if self.kind == Kind::Postgres { "postgresql+psycopg2" } else { "mysql+mysqldb" };
        format!("{driver}://{USER}:{}@127.0.0.1:{}/{name}", self.password, self.port)
    }

    /// The server's client as Airflow's user in a database, as words for a shell: a statement is to follow.
    pub(crate) fn client(&self, name: &str) -> String {
        match self.kind {
            Kind::Postgres => {
                let url = self.url(name).replace("+psycopg2", "");
                format!("psql -X -q -v ON_ERROR_STOP=1 '{url}' -c")
            }
            Kind::MariaDb => {
                format!("mariadb --no-defaults -u {USER} -p{} -h 127.0.0.1 -P {} {name} -e", self.password, self.port)
            }
        }
    }

    /// The folder of its socket.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// What a statement prints, as the server's administrator: a line a row, tabs between the columns.
    #[track_caller]
    pub(crate) fn sql(&self, database: Option<&str>, statement: &str) -> String {
        let said = self.kind.client(self.folder.path(), self.port, statement, database);
        said.unwrap_or_else(|| panic!("{:?} refuses {statement}", self.kind))
    }

    /// Waits until a query of the administrator's yields something.
    #[track_caller]
    pub(crate) fn until(&self, query: &str) {
        let deadline = Instant::now() + crate::running::DEADLINE;
        while self.sql(None, query).is_empty() {
            assert!(Instant::now() < deadline, "{query}");
            // MariaDB does not look anew at its transactions where somebody has looked within a tenth of a second.
            thread::sleep(Duration::from_millis(200));
        }
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

#[test]
fn both_servers_take_a_database_of_airflows_user() {
    for database in Database::all() {
        database.create("one");
        assert_eq!(database.sql(Some("one"), "SELECT 1, 'two'"), "1\ttwo\n");
    }
}
