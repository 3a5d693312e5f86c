//! The programs of the database servers: how they make their data, serve them and are asked.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::unistd::{User, geteuid};
use tempfile::TempDir;

use crate::client;
use crate::namespace::present;
use crate::prepared::{copy, with_kept};

/// The same for a server's data and for the server.
const MARIADB_LOG: &str = "--innodb-log-file-size=16M";

/// Whose server it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    MariaDb,
    Postgres,
}

/// Where a server's programs are, and who runs them: neither server runs as root.
pub(crate) struct Host {
    pub(crate) kind: Kind,
    programs: PathBuf,
    account: Option<User>,
}

impl Host {
    /// None, said by name, where there is no such server.
    pub(crate) fn of(kind: Kind) -> Option<Self> {
        crate::referee::heavy(kind.name());
        let programs = kind.programs();
        let programs = present(kind.name(), programs.is_some()).then_some(programs?)?;
        let account = geteuid().is_root().then(|| User::from_name(kind.account()).unwrap().unwrap());
        Some(Self { kind, programs, account })
    }

    /// A folder of the server's account.
    pub(crate) fn folder(&self) -> TempDir {
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

    pub(crate) fn recipe(&self) -> Vec<u8> {
        let version = Command::new(self.programs.join(self.kind.program())).arg("--version").output().unwrap().stdout;
        [version, format!("{:?}", self.kind.initializer()).into_bytes()].concat()
    }

    /// The server's data as its own program makes them, for `then` to copy.
    pub(crate) fn with_data(&self, then: impl FnOnce(&Path)) {
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
    pub(crate) fn serve(&self, folder: &Path, options: &[&str]) -> (u16, Child) {
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
    pub(crate) fn client(self, folder: &Path, port: u16, statement: &str, database: Option<&str>) -> Option<String> {
        let said = match self {
            Self::Postgres => client::postgres(folder, port, database.unwrap_or("postgres"), statement),
            Self::MariaDb => client::mariadb(&folder.join("socket"), database, statement),
        };
        said.ok()
    }
}
