//! The Fernet key is judged by what the database holds, and none is made that could not read it: on PostgreSQL, MariaDB and SQLite.

use fernet::Fernet;

use crate::databases::{Database, Kind};
use crate::outcome::Outcome;
use crate::sandbox::{Sandbox, V1, V2, V3, fingerprint, new_key};

pub(crate) const CONN: &str = "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN";
const KEY: &str = "AIRFLOW__CORE__FERNET_KEY";

/// A database of one of the three kinds, beside a sandbox.
pub(crate) enum Place<'d> {
    Server { server: &'d Database, name: String },
    Sqlite,
}

impl Place<'_> {
    /// A sandbox whose Airflow has this database.
    pub(crate) fn sandbox(&self, version: &str) -> Sandbox {
        let sandbox = Sandbox::new(version).with("ENTRYPOINT_WAIT_TIMEOUT", "20s").with("ENTRYPOINT_MIGRATE", "false");
        let url = match self {
            Self::Server { server, name } => server.url(name),
            Self::Sqlite => format!("sqlite:///{}", sandbox.text("home/airflow.db")),
        };
        let name = if version == V1 { "AIRFLOW__CORE__SQL_ALCHEMY_CONN" } else { CONN };
        sandbox.with(name, url)
    }

    /// Does these statements, and gives back what the last one yields.
    #[track_caller]
    pub(crate) fn sql(&self, sandbox: &Sandbox, statements: &str) -> String {
        match self {
            // What is made is Airflow's, not the administrator's.
            Self::Server { server, name } if server.kind == Kind::Postgres => {
                server.sql(Some(name), &format!("SET ROLE airflow; {statements}"))
            }
            Self::Server { server, name } => server.sql(Some(name), statements),
            Self::Sqlite => {
                let said = crate::client::sqlite(&sandbox.text("home/airflow.db"), statements);
                said.unwrap_or_else(|error| panic!("{statements}: {error}"))
            }
        }
    }

    /// Airflow's tables as far as they hold something encrypted, with its own column types (2.11 and 3.3; 1.10).
    fn tables(&self, sandbox: &Sandbox, version: &str) {
        let (id, name, long, flag) = match self {
            Self::Server { server, .. } if server.kind == Kind::MariaDb => (
                "INTEGER NOT NULL AUTO_INCREMENT PRIMARY KEY",
                "VARCHAR(250) COLLATE utf8mb3_bin",
                "MEDIUMTEXT",
                "BOOL",
            ),
            Self::Server { .. } => ("SERIAL PRIMARY KEY", "VARCHAR(250)", "TEXT", "BOOLEAN"),
            Self::Sqlite => ("INTEGER NOT NULL PRIMARY KEY", "VARCHAR(250)", "TEXT", "BOOLEAN"),
        };
        let secret = if version == V1 { "VARCHAR(5000)" } else { "TEXT" };
        let flagged = format!("password {secret}, extra {secret}, is_encrypted {flag}, is_extra_encrypted {flag}");
        let (key, trigger) = (self.quoted("key"), self.quoted("trigger"));
        let mut all = vec![
            format!("CREATE TABLE connection (id {id}, conn_id {name}, conn_type VARCHAR(500), {flagged})"),
            format!("CREATE TABLE variable (id {id}, {key} {name} UNIQUE, val {long}, is_encrypted {flag})"),
        ];
        if version != V1 {
            all.push(format!(
                "CREATE TABLE {trigger} (id {id}, classpath VARCHAR(1000) NOT NULL, kwargs TEXT NOT NULL)"
            ));
        }
        if version == V3 {
            all.push(format!(
                "CREATE TABLE connection_test_request (id VARCHAR(32) NOT NULL PRIMARY KEY, connection_id {name} NOT NULL, {flagged}, state \
                 VARCHAR(20), active_connection_id VARCHAR(250) UNIQUE, result_message VARCHAR(2000))"
            ));
        }
        self.sql(sandbox, &all.join("; "));
    }

    pub(crate) fn quoted(&self, word: &str) -> String {
        match self {
            Self::Server { server, .. } if server.kind == Kind::MariaDb => format!("`{word}`"),
            _ => format!("\"{word}\""),
        }
    }

    pub(crate) fn variable(&self, sandbox: &Sandbox, name: &str, value: &str) {
        let key = self.quoted("key");
        self.sql(
            sandbox,
            &format!("INSERT INTO variable ({key}, val, is_encrypted) VALUES ('{name}', '{value}', TRUE)"),
        );
    }

    /// What a deployment of this version holds, encrypted with this key; how many values that is.
    pub(crate) fn fill(&self, sandbox: &Sandbox, version: &str, key: &str) -> usize {
        self.tables(sandbox, version);
        let token = |text: &str| Fernet::new(key).unwrap().encrypt(text.as_bytes());
        let row = |id: &str, password: &str, extra: &str, flags: &str| {
            format!(
                "INSERT INTO connection (conn_id, conn_type, password, extra, is_encrypted, is_extra_encrypted) \
                 VALUES ('{id}', 'http', {password}, {extra}, {flags})"
            )
        };
        let quoted = |text: &str| format!("'{}'", token(text));
        let long = if version == V1 { "long".repeat(800) } else { "é世".repeat(9_000) };
        let (key, trigger) = (self.quoted("key"), self.quoted("trigger"));
        let mut all = vec![
            row("both", &quoted("p"), &quoted(&long), "TRUE, TRUE"),
            row("password", &quoted("p"), "'{}'", "TRUE, FALSE"),
            row("plain", "'gAAAAAplain'", "NULL", "FALSE, FALSE"),
            row("empty", "''", "NULL", "TRUE, TRUE"),
            row("old", "NULL", "NULL", "NULL, NULL"),
            format!(
                "INSERT INTO variable ({key}, val, is_encrypted) VALUES ('v', {}, TRUE), ('w', 'plain', FALSE), ('x', NULL, TRUE)",
                quoted("")
            ),
        ];
        let mut values = 4;
        if version != V1 {
            all.push(format!(
                "INSERT INTO {trigger} (classpath, kwargs) VALUES ('a', {}), ('b', '{{\"a\": 1}}')",
                quoted("{}")
            ));
            values += 1;
        }
        if version == V3 {
            all.push(format!(
                "INSERT INTO connection_test_request VALUES ('1', 'tested', {}, {}, TRUE, TRUE, 'pending', 'tested', NULL)",
                quoted("p"),
                quoted("e")
            ));
            values += 2;
        }
        self.sql(sandbox, &all.join("; "));
        values
    }
}

/// Each kind of database that is on this machine, with a new database in it.
pub(crate) fn places<'d>(servers: &'d [Database], name: &str) -> Vec<Place<'d>> {
    let servers = servers.iter().map(|server| {
        server.create(name);
        Place::Server { server, name: name.to_owned() }
    });
    servers.chain([Place::Sqlite]).collect()
}

pub(crate) fn servers() -> Vec<Database> {
    Database::all()
}

/// Nothing was made and nothing was started.
#[track_caller]
fn leaves_nothing(outcome: &Outcome, sandbox: &Sandbox) {
    outcome.same(
        (sandbox.names("keys"), sandbox.names("home").join(" ").replace("airflow.db", "")),
        (vec![], String::new()),
    );
    outcome.same(sandbox.calls(), vec![]);
}

#[test]
fn k09_each_key_is_judged_by_what_it_reads() {
    let servers = servers();
    for version in [V1, V2, V3] {
        for place in places(&servers, &format!("judged{}", version.replace('.', "_"))) {
            let (key, other) = (new_key(), new_key());
            let mut sandbox = place.sandbox(version).with(KEY, key.clone());
            let values = place.fill(&sandbox, version, &key);
            let all = format!(" all {values} encrypted values in the database");
            let reads = format!("info: the Fernet key `{}` reads{all}", fingerprint(&key));
            sandbox.run(&["scheduler"]).succeeds().says(&reads);
            // A list reads with each of its keys.
            sandbox.set(KEY, format!("{other},{key}"));
            let list = format!("info: the Fernet keys `{},{}` read{all}", fingerprint(&other), fingerprint(&key));
            sandbox.run(&["scheduler"]).succeeds().says(&list);

            sandbox.set(KEY, other.clone());
            let before = sandbox.calls();
            let outcome = sandbox.run(&["scheduler"]);
            let tests = if version == V3 { "; connection test `tested`" } else { "" };
            let triggers = if version == V1 { "" } else { "; trigger `1`" };
            outcome.same(outcome.code(), 65).says(&format!(
                "error: cannot use the Fernet key `{}`: it reads none of the {values} encrypted values in the database of \
                 <any> (connections `both`, `password`{tests}{triggers}; variable `v`)",
                fingerprint(&other)
            ));
            outcome.says(
                "hint: start with the key that encrypted them: mount its volume, or set `AIRFLOW__CORE__FERNET_KEY` to it, behind the new \
                 one and a comma if there is one; `ENTRYPOINT_CHECK_SECRETS=warn` starts all the same, and they stay unreadable",
            );
            outcome.check(
                !sandbox.calls()[before.len()..].iter().any(|call| call.contains("scheduler")),
                "it was started",
            );
            // A command may be there to put it right.
            sandbox.run(&["variables", "list"]).succeeds().says("warning: cannot use the Fernet key <any>");
            sandbox
                .run_with("ENTRYPOINT_CHECK_SECRETS", "warn", &["scheduler"])
                .succeeds()
                .says("warning: cannot use the Fernet key <any>");
            let off = sandbox.run_with("ENTRYPOINT_CHECK_SECRETS", "off", &["scheduler"]);
            off.succeeds().check(!off.stderr.contains("encrypted value"), "it was judged");
            sandbox.run(&["key", "check"]).same(sandbox.run(&["key", "check"]).code(), 65);

            // Half of it has another key: what was written with the wrong one.
            place.variable(&sandbox, "foreign", &Fernet::new(&other).unwrap().encrypt(b"x"));
            let half = sandbox.run_with(KEY, &key, &["scheduler"]);
            half.succeeds().says(&format!(
                "warning: the Fernet key `{}` reads {values} of {} encrypted values in the database; the others have another key: \
                 variable `foreign`",
                fingerprint(&key),
                values + 1
            ));
        }
    }
}

#[test]
fn k09_no_key_is_made_where_something_is_encrypted() {
    let servers = servers();
    for place in places(&servers, "lost") {
        let sandbox = place.sandbox(V2);
        let values = place.fill(&sandbox, V2, &new_key());
        let path = sandbox.text("keys/fernet.key");
        for (more, command) in [
            (("X", ""), &["scheduler"][..]),
            (("X", ""), &["setup"]),
            (("X", ""), &["variables", "list"]),
            (("X", ""), &["key", "generate"]),
            (("ENTRYPOINT_EPHEMERAL_KEY", "true"), &["webserver"]),
            (("ENTRYPOINT_WAIT_TIMEOUT", "off"), &["scheduler"]),
            (("ENTRYPOINT_CHECK_SECRETS", "off"), &["scheduler"]),
            (("ENTRYPOINT_PREPARE", "always"), &["mycmd"]),
        ] {
            let outcome = sandbox.run_with(more.0, more.1, command);
            let keys = sandbox.text("keys");
            outcome.fails(
                65,
                &format!(
                    "<lines>airflow-entrypoint: error: cannot make a Fernet key: the database of <any> holds {values} encrypted values, \
                     and the key that they need is neither set nor in `{path}`\nairflow-entrypoint: hint: mount the volume that has \
                     the old key at `{keys}`, set `AIRFLOW__CORE__FERNET_KEY` to it, or restore it from a backup with \
                     `airflow-entrypoint key import`; a new key would never read them\n"
                ),
            );
            leaves_nothing(&outcome, &sandbox);
        }
    }
}

/// The control of the test above.
#[test]
fn k01_a_key_is_made_for_a_database_that_holds_nothing_encrypted() {
    let servers = servers();
    for place in places(&servers, "fresh") {
        // No table, and no file of SQLite's.
        let sandbox = place.sandbox(V2);
        sandbox.run(&["scheduler"]).succeeds().same(sandbox.names("keys").contains(&"fernet.key".to_owned()), true);
        // Tables with plain rows alone.
        let sandbox = place.sandbox(V2);
        place.tables(&sandbox, V2);
        place.sql(&sandbox, "INSERT INTO connection (conn_id, password, is_encrypted) VALUES ('c', 'p', FALSE)");
        sandbox.run_with("ENTRYPOINT_CHECK_SECRETS", "off", &["scheduler"]).succeeds();
        assert!(sandbox.names("keys").contains(&"fernet.key".to_owned()));
    }
}

/// `..._CMD` and `..._SECRET`: Airflow gets the key itself, and what we know of it is judged.
#[test]
fn x03_a_key_that_is_left_to_airflow_is_judged_where_it_is_known() {
    let key = new_key();
    let sandbox = Place::Sqlite.sandbox(V2);
    let values = Place::Sqlite.fill(&sandbox, V2, &key);
    let with_command =
        |key: &str| sandbox.run_with("AIRFLOW__CORE__FERNET_KEY_CMD", &format!("echo {key}"), &["scheduler"]);
    with_command(&key).succeeds().says(&format!(
        "info: the Fernet key `{}` reads all {values} encrypted values in the database",
        fingerprint(&key)
    ));
    let wrong = with_command(&new_key());
    wrong.same(wrong.code(), 65).says("error: cannot use the Fernet key `<fp>`: it reads none of the <any>");
    sandbox.run_with("AIRFLOW__CORE__FERNET_KEY_SECRET", "name", &["scheduler"]).succeeds().says(&format!(
        "info: the database holds {values} encrypted values; whether the Fernet key reads them is not known here, since it is left to \
         Airflow by `AIRFLOW__CORE__FERNET_KEY_SECRET`"
    ));
}

#[test]
fn what_cannot_be_asked_is_said_or_ends_the_start() {
    let (listener, port) = crate::services::local();
    drop(listener);
    let sandbox = Sandbox::new(V2).with(CONN, format!("postgresql://u@127.0.0.1:{port}/a"));
    let unknown = "info: whether the database holds encrypted values is not known: <any>";
    sandbox.run(&["key", "generate"]).succeeds().says(unknown);
    assert!(sandbox.names("keys").contains(&"fernet.key".to_owned()));
    // A file that cannot be read may hold anything.
    let sandbox = Place::Sqlite.sandbox(V2).with("ENTRYPOINT_WAIT_TIMEOUT", "off");
    sandbox.write(
        "home/airflow.db",
        "what is no database of SQLite's, as long as its head is: 100 bytes or more".repeat(20),
    );
    let outcome = sandbox.run(&["scheduler"]);
    outcome.same(outcome.code(), 69).same(sandbox.names("keys"), vec![]);
    let sandbox = Sandbox::new(V2)
        .with(CONN, format!("postgresql://u@127.0.0.1:{port}/a"))
        .with("ENTRYPOINT_WAIT_TIMEOUT", "300ms");
    let outcome = sandbox.run(&["scheduler"]);
    outcome.same(outcome.code(), 69);
    leaves_nothing(&outcome, &sandbox);
}
