//! Database servers of a test: each on a port of the kernel's, with its data in a folder that vanishes with it.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::chown;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, User, geteuid};
use tempfile::TempDir;

use crate::client;
use crate::namespace::present;
use crate::prepared::{Ready, copy, with_kept};

/// The user that Airflow logs in as.
const USER: &str = "airflow";
/// How long a server may take to answer, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// The same for a server's data and for the server.
const MARIADB_LOG: &str = "--innodb-log-file-size=16M";

/// Whose server it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    MariaDb,
    Postgres,
}

/// A server that ends with the test.
pub(crate) struct Database {
    pub(crate) kind: Kind,
    pub(crate) port: u16,
    pub(crate) password: String,
    host: Host,
    server: Child,
    folder: TempDir,
}

/// Where a server's programs are, and who runs them: neither server runs as root.
struct Host {
    kind: Kind,
    programs: PathBuf,
    account: Option<User>,
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

impl Host {
    /// None, said by name, where there is no such server.
    fn of(kind: Kind) -> Option<Self> {
        crate::referee::heavy(kind.name());
        let programs = kind.programs();
        let programs = present(kind.name(), programs.is_some()).then_some(programs?)?;
        let account = geteuid().is_root().then(|| User::from_name(kind.account()).unwrap().unwrap());
        Some(Self { kind, programs, account })
    }

    /// A folder of the server's account.
    fn folder(&self) -> TempDir {
        let folder = tempfile::Builder::new().prefix("airflow-entrypoint-db-").tempdir_in("/var/tmp").unwrap();
        if let Some(account) = &self.account {
            chown(folder.path(), Some(account.uid.as_raw()), Some(account.gid.as_raw())).unwrap();
        }
        folder
    }

    /// One of the server's programs, which logs in the folder.
    fn command(&self, folder: &Path, program: &str) -> Command {
        // Whatever becomes of the test, the server ends with it.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]);
        if let Some(account) = &self.account {
            command.args(["--reuid", &account.uid.to_string(), "--regid", &account.gid.to_string(), "--clear-groups"]);
        }
        let log = fs::File::options().append(true).create(true).open(folder.join("log")).unwrap();
        // A MariaDB that starts removes the temporary tables of every other one that has the same folder for them.
        command.env("TMPDIR", folder);
        command.arg("--").arg(self.programs.join(program)).current_dir(folder);
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        command
    }

    fn recipe(&self) -> Vec<u8> {
        let version = Command::new(self.programs.join(self.kind.program())).arg("--version").output().unwrap().stdout;
        [version, format!("{:?}", self.kind.initializer()).into_bytes()].concat()
    }

    /// The server's data as its own program makes them, for `then` to copy.
    fn with_data(&self, then: impl FnOnce(&Path)) {
        let (program, options) = self.kind.initializer();
        let make = |kept: &Path| {
            let folder = self.folder();
            let data = folder.path().join("data");
            let flag = if self.kind == Kind::Postgres { "--pgdata=" } else { "--datadir=" };
            let mut command = self.command(folder.path(), program);
            let status = command.args(options).arg(format!("{flag}{}", data.display())).status().unwrap();
            let log = fs::read_to_string(folder.path().join("log")).unwrap();
            assert!(status.success(), "{:?} cannot make its data: {log}", self.kind);
            copy(&data, kept);
        };
        with_kept(self.kind.account(), &[self.recipe()], make, then);
    }

    /// The server on a free port.
    fn serve(&self, folder: &Path, options: &[&str]) -> (u16, Child) {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let command = |program: &str| self.command(folder, program);
        (port, self.kind.serve(&command, folder, port).args(options).spawn().unwrap())
    }
}

impl Kind {
    fn name(self) -> &'static str {
        if self == Self::Postgres { "PostgreSQL" } else { "MariaDB" }
    }

    fn program(self) -> &'static str {
        if self == Self::Postgres { "postgres" } else { "mariadbd" }
    }

    fn account(self) -> &'static str {
        if self == Self::Postgres { "postgres" } else { "mysql" }
    }

    /// The folder of its programs.
    fn programs(self) -> Option<PathBuf> {
        let folders = match self {
            Self::MariaDb => vec!["/usr/sbin".into(), "/usr/bin".into()],
            Self::Postgres => {
                let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
                let mut folders: Vec<PathBuf> = versions.map(|version| version.path().join("bin")).collect();
                folders.push("/usr/bin".into());
                folders
            }
        };
        folders.into_iter().find(|folder| folder.join(self.program()).exists())
    }

    /// What makes the server's data: small, since each test has a copy.
    fn initializer(self) -> (&'static str, &'static [&'static str]) {
        match self {
            Self::Postgres => (
                "initdb",
                &[
                    "--no-sync",
                    "--wal-segsize=1",
                    "--auth-local=trust",
                    "--auth-host=scram-sha-256",
                    "--username=postgres",
                    "--encoding=UTF8",
                    "--locale=C",
                ],
            ),
            Self::MariaDb => (
                "../bin/mariadb-install-db",
                &[
                    "--no-defaults",
                    "--auth-root-authentication-method=normal",
                    "--skip-test-db",
                    MARIADB_LOG,
                    "--innodb-doublewrite=0",
                    "--innodb-flush-method=nosync",
                ],
            ),
        }
    }

    /// Without waiting for the disk: what it holds is lost with the test.
    fn serve(self, command: &impl Fn(&str) -> Command, folder: &Path, port: u16) -> Command {
        let data = folder.join("data");
        match self {
            Self::Postgres => {
                let mut server = command("postgres");
                server.arg("-D").arg(data).args(["-p", &port.to_string(), "-k"]).arg(folder);
                server.args(["-c", "listen_addresses=127.0.0.1", "-c", "fsync=off", "-c", "full_page_writes=off"]);
                server.args(["-c", "max_wal_size=1GB"]);
                server
            }
            Self::MariaDb => {
                let mut server = command("mariadbd");
                server.args(["--no-defaults", "--bind-address=127.0.0.1", "--skip-name-resolve"]);
                server.args([format!("--datadir={}", data.display()), format!("--port={port}")]);
                server.arg(format!("--socket={}", folder.join("socket").display()));
                server.arg(format!("--pid-file={}", folder.join("pid").display()));
                server.args(["--innodb-flush-log-at-trx-commit=0", "--innodb-buffer-pool-size=64M", MARIADB_LOG]);
                server.args(["--innodb-doublewrite=0", "--innodb-flush-method=nosync"]);
                server
            }
        }
    }

    /// What a statement yields, by its socket as its administrator; none when it fails.
    fn client(self, folder: &Path, port: u16, statement: &str, database: Option<&str>) -> Option<String> {
        let said = match self {
            Self::Postgres => client::postgres(folder, port, database.unwrap_or("postgres"), statement),
            Self::MariaDb => client::mariadb(&folder.join("socket"), database, statement),
        };
        said.ok()
    }
}

#[test]
fn both_servers_take_a_database_of_airflows_user() {
    for database in Database::all() {
        database.create("one");
        assert_eq!(database.sql(Some("one"), "SELECT 1, 'two'"), "1\ttwo\n");
    }
}
