//! Database servers of a test: each on a port of the kernel's, with its data in a folder that vanishes with it.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::unistd::{User, geteuid};
use tempfile::TempDir;

use crate::namespace::present;

/// The user that Airflow logs in as.
const USER: &str = "airflow";
/// How long a server may take to answer, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

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
    server: Child,
    folder: TempDir,
}

impl Database {
    /// PostgreSQL; none, said by name, where there is none.
    pub(crate) fn postgres() -> Option<Self> {
        Self::start(Kind::Postgres, &[])
    }

    /// The same with these options of the server.
    pub(crate) fn postgres_with(options: &[&str]) -> Option<Self> {
        Self::start(Kind::Postgres, options)
    }

    /// MariaDB; none, said by name, where there is none.
    pub(crate) fn mariadb() -> Option<Self> {
        Self::start(Kind::MariaDb, &[])
    }

    fn start(kind: Kind, options: &[&str]) -> Option<Self> {
        crate::referee::heavy(kind.name());
        let folder = kind.programs();
        let programs = present(kind.name(), folder.is_some()).then_some(folder?)?;
        let folder = tempfile::Builder::new().prefix("airflow-entrypoint-db-").tempdir_in("/var/tmp").unwrap();
        // Neither server runs as root.
        let account = geteuid().is_root().then(|| User::from_name(kind.account()).unwrap().unwrap());
        if let Some(account) = &account {
            chown(folder.path(), Some(account.uid.as_raw()), Some(account.gid.as_raw())).unwrap();
        }
        let command = |program: &str| {
            // Whatever becomes of the test, the server ends with it.
            let mut command = Command::new("setpriv");
            command.args(["--pdeathsig", "KILL"]);
            if let Some(account) = &account {
                command.args([
                    "--reuid",
                    &account.uid.to_string(),
                    "--regid",
                    &account.gid.to_string(),
                    "--clear-groups",
                ]);
            }
            let log = fs::File::options().append(true).create(true).open(folder.path().join("log")).unwrap();
            // A MariaDB that starts removes the temporary tables of every other one that has the same folder for them.
            command.env("TMPDIR", folder.path());
            command.arg("--").arg(programs.join(program)).current_dir(folder.path());
            command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
            command
        };
        kind.initialize(&command, folder.path());
        let password = crate::sandbox::new_key().replace(['-', '_', '='], "x");
        // Somebody else may take the port between our look and the server's start.
        for _ in 0..5 {
            let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            let mut server = kind.serve(&command, folder.path(), port).args(options).spawn().unwrap();
            if until_ready(&mut server, || kind.client(folder.path(), port, "SELECT 1", None).is_some()) {
                let database = Self { kind, port, password, server, folder };
                database.create_user();
                return Some(database);
            }
        }
        panic!("{kind:?} does not start: {}", fs::read_to_string(folder.path().join("log")).unwrap());
    }

    fn create_user(&self) {
        match self.kind {
            Kind::Postgres => self.sql(None, &format!("CREATE ROLE {USER} LOGIN PASSWORD '{}'", self.password)),
            // An anonymous user of this host would be taken before one of any host.
            Kind::MariaDb => self.sql(
                None,
                &format!(
                    "DELETE FROM mysql.global_priv WHERE user = ''; FLUSH PRIVILEGES; CREATE USER '{USER}'@'%' IDENTIFIED BY '{}'",
                    self.password
                ),
            ),
        };
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

/// Whether it answers before it ends.
fn until_ready(server: &mut Child, answers: impl Fn() -> bool) -> bool {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline && server.try_wait().unwrap().is_none() {
        if answers() {
            return true;
        }
        thread::sleep(Duration::from_millis(50));
    }
    let _ = server.kill();
    let _ = server.wait();
    false
}

impl Kind {
    fn name(self) -> &'static str {
        if self == Self::Postgres { "PostgreSQL" } else { "MariaDB" }
    }

    fn account(self) -> &'static str {
        if self == Self::Postgres { "postgres" } else { "mysql" }
    }

    /// The folder of its programs.
    fn programs(self) -> Option<PathBuf> {
        let (program, folders) = match self {
            Self::MariaDb => ("mariadbd", vec!["/usr/sbin".into(), "/usr/bin".into()]),
            Self::Postgres => {
                let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
                let mut folders: Vec<PathBuf> = versions.map(|version| version.path().join("bin")).collect();
                folders.push("/usr/bin".into());
                ("postgres", folders)
            }
        };
        folders.into_iter().find(|folder| folder.join(program).exists())
    }

    fn initialize(self, command: &impl Fn(&str) -> Command, folder: &Path) {
        let data = folder.join("data");
        let status = match self {
            Self::Postgres => command("initdb")
                .args([
                    "--no-sync",
                    "--auth-local=trust",
                    "--auth-host=scram-sha-256",
                    "--username=postgres",
                    "--encoding=UTF8",
                ])
                .args(["--locale=C", "-D"])
                .arg(&data)
                .status(),
            Self::MariaDb => command("../bin/mariadb-install-db")
                .args(["--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db"])
                .arg(format!("--datadir={}", data.display()))
                .status(),
        };
        let log = fs::read_to_string(folder.join("log")).unwrap();
        assert!(status.unwrap().success(), "{self:?} cannot make its data: {log}");
    }

    /// Without waiting for the disk: what it holds is lost with the test.
    fn serve(self, command: &impl Fn(&str) -> Command, folder: &Path, port: u16) -> Command {
        let data = folder.join("data");
        match self {
            Self::Postgres => {
                let mut server = command("postgres");
                server.arg("-D").arg(data).args(["-p", &port.to_string(), "-k"]).arg(folder);
                server.args(["-c", "listen_addresses=127.0.0.1", "-c", "fsync=off", "-c", "full_page_writes=off"]);
                server
            }
            Self::MariaDb => {
                let mut server = command("mariadbd");
                server.args(["--no-defaults", "--bind-address=127.0.0.1", "--skip-name-resolve"]);
                server.args([format!("--datadir={}", data.display()), format!("--port={port}")]);
                server.arg(format!("--socket={}", folder.join("socket").display()));
                server.arg(format!("--pid-file={}", folder.join("pid").display()));
                server.args(["--innodb-flush-log-at-trx-commit=0", "--innodb-buffer-pool-size=64M"]);
                server
            }
        }
    }

    /// What the server's own client prints, as its administrator by its socket; none when it fails.
    fn client(self, folder: &Path, port: u16, statement: &str, database: Option<&str>) -> Option<String> {
        let mut client = match self {
            Self::Postgres => {
                let mut client = Command::new("psql");
                client
                    .args(["-X", "-q", "-A", "-t", "-F", "\t", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-h"])
                    .arg(folder);
                client.args(["-p", &port.to_string(), "-d", database.unwrap_or("postgres"), "-c", statement]);
                client
            }
            Self::MariaDb => {
                let mut client = Command::new("mariadb");
                client.args(["--no-defaults", "-N", "-B", "-u", "root"]);
                client.arg(format!("--socket={}", folder.join("socket").display()));
                client.args(["-e", statement]).args(database);
                client
            }
        };
        let output = client.stdin(Stdio::null()).output().unwrap();
        output.status.success().then(|| String::from_utf8(output.stdout).unwrap())
    }
}

#[test]
fn both_servers_take_a_database_of_airflows_user() {
    for database in [Database::postgres(), Database::mariadb()].into_iter().flatten() {
        database.create("one");
        assert_eq!(database.sql(Some("one"), "SELECT 1, 'two'"), "1\ttwo\n");
    }
}
