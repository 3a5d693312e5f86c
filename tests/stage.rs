//! An Airflow whose migrations are two small files, in front of a database that is real.

use std::process::Command;
use std::thread;

use crate::databases::{Database, Kind};
use crate::sandbox::{Sandbox, V1};

pub(crate) const VERSIONS: &str = "prefix/lib/python3.11/site-packages/airflow/migrations/versions";
pub(crate) const FAB: &str = "prefix/lib/python3.11/site-packages/airflow/providers/fab/migrations/versions";
pub(crate) const MIGRATE: &str = "airflow db migrate";
/// All that a migration to the head leaves behind, as far as we look.
pub(crate) const AT_HEAD: &str = "CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL PRIMARY KEY); \
    INSERT INTO alembic_version VALUES (''b2''); CREATE TABLE slot_pool (id INTEGER PRIMARY KEY, pool VARCHAR(256)); \
    INSERT INTO slot_pool VALUES (1, ''default_pool'')";

/// A database, and containers in front of it.
pub(crate) struct Stage {
    pub(crate) sandbox: Sandbox,
    /// None for SQLite.
    pub(crate) server: Option<Database>,
}

/// The text of a migration.
pub(crate) fn migration(revision: &str, down: &str) -> String {
    format!("\"\"\"Text.\"\"\"\n\nrevision = \"{revision}\"\ndown_revision = {down}\nbranch_labels = None\n")
}

impl Stage {
    /// In front of a server, or of SQLite. The head is `b2`.
    pub(crate) fn new(version: &str, server: Option<Database>) -> Self {
        let mut sandbox = Sandbox::new(version).with("ENTRYPOINT_WAIT_TIMEOUT", "30s");
        sandbox.write(&format!("{VERSIONS}/0001_first.py"), migration("a1", "None"));
        sandbox.write(&format!("{VERSIONS}/0002_second.py"), migration("b2", "\"a1\""));
        let section = if version == V1 { "CORE" } else { "DATABASE" };
        match &server {
            Some(server) => {
                sandbox.set("EXECUTOR", "Local");
                sandbox.set(&format!("AIRFLOW__{section}__SQL_ALCHEMY_CONN"), server.create("airflow"));
            }
            None => {
                let url = format!("sqlite:///{}", sandbox.text("home/airflow.db"));
                sandbox.set(&format!("AIRFLOW__{section}__SQL_ALCHEMY_CONN"), url);
            }
        }
        let stage = Self { sandbox, server };
        stage.migrator(&stage.script(AT_HEAD));
        stage
    }

    /// Does this with one in front of each kind of database that is here, side by side: most of the time is spent waiting.
    pub(crate) fn each(version: &str, test: impl Fn(Self) + Sync) {
        let starters = [|| Database::postgres().map(Some), || Database::mariadb().map(Some), || Some(None)];
        thread::scope(|scope| {
            for start in starters {
                let (test, start): (_, fn() -> Option<Option<Database>>) = (&test, start);
                scope.spawn(move || {
                    if let Some(server) = start() {
                        test(Self::new(version, server));
                    }
                });
            }
        });
    }

    /// What Airflow's command does.
    pub(crate) fn migrator(&self, script: &str) {
        for call in ["airflow-db", "airflow-initdb", "airflow-upgradedb"] {
            self.sandbox.behave(call, script);
        }
    }

    /// A line of shell that does this to the database; quotes in it are doubled.
    pub(crate) fn script(&self, sql: &str) -> String {
        match &self.server {
            Some(server) => format!("{} '{}'\n", server.client("airflow"), sql.replace("''", "'\\''")),
            None => format!(
                "python3 -c 'import sqlite3, sys; sqlite3.connect(sys.argv[1]).executescript(sys.argv[2])' {} '{}'\n",
                self.sandbox.text("home/airflow.db"),
                sql.replace("''", "'\\''")
            ),
        }
    }

    /// Does this to the database.
    #[track_caller]
    pub(crate) fn sql(&self, sql: &str) {
        let done = Command::new("sh").args(["-c", &self.script(sql)]).status().unwrap();
        assert!(done.success(), "{sql}");
    }

    /// How often Airflow has migrated.
    pub(crate) fn migrations(&self) -> usize {
        self.sandbox.calls().iter().filter(|call| *call == MIGRATE).count()
    }

    /// The line of who waits for this process.
    pub(crate) fn holder(&self, pid: nix::unistd::Pid) -> String {
        match self.server.as_ref().map(|server| server.kind) {
            Some(Kind::Postgres) => format!("(process {pid}) at 127.0.0.1 migrates\n"),
            Some(Kind::MariaDb) => "; airflow-entrypoint at 127.0.0.1:".to_owned(),
            None => format!("; another process at `{}` migrates\n", self.sandbox.text("home")),
        }
    }

    /// The database in a message.
    pub(crate) fn name(&self) -> String {
        match self.server {
            Some(_) => "of `AIRFLOW__DATABASE__SQL_ALCHEMY_CONN`".to_owned(),
            None => format!("`{}`", self.sandbox.text("home/airflow.db")),
        }
    }
}
