//! Databases with the tables that a seed goes into, as Airflow has migrated them; without an Airflow.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::rc::Rc;

use sqlx::{AssertSqlSafe, Connection, Row, SqliteConnection};

use crate::databases::{Database, Kind};
use crate::sandbox::{Sandbox, V1, V3, new_key};

/// The tables by the words of each database; `{}` stands for those of 3.3.2, which 1.10.15 lacks.
const TABLES: &str = "
    CREATE TABLE connection (id SERIAL, conn_id ID NOT_NULL, conn_type VARCHAR(500) NOT_NULL, {description LONG,} host VARCHAR(500),
        ~schema~ VARCHAR(500), login LONG, password SECRET, port INTEGER, {team_name VARCHAR(50),} extra SECRET,
        is_encrypted BOOLEAN NOT_NULL, is_extra_encrypted BOOLEAN NOT_NULL {, CONSTRAINT connection_conn_id_uq UNIQUE (conn_id)});
    CREATE TABLE variable (id SERIAL, ~key~ ID NOT_NULL, val VALUE NOT_NULL, {description LONG,} is_encrypted BOOLEAN NOT_NULL,
        {team_name VARCHAR(50),} CONSTRAINT variable_key_uq UNIQUE (~key~));
    CREATE TABLE slot_pool (id SERIAL, pool VARCHAR(256), slots INTEGER NOT_NULL, description LONG,
        {include_deferred BOOLEAN NOT NULL, team_name VARCHAR(50),} CONSTRAINT slot_pool_pool_uq UNIQUE (pool))";

/// The tables of a release for SQLite, PostgreSQL or MariaDB.
fn tables(kind: Option<Kind>, version: &str) -> String {
    let is_new = version == V3;
    let mut text = String::new();
    for piece in TABLES.split('{') {
        match piece.split_once('}') {
            Some((new, behind)) => text.extend([if is_new { new } else { "" }, behind]),
            None => text.push_str(piece),
        }
    }
    let (serial, quote, id, value) = match kind {
        None => ("INTEGER PRIMARY KEY", "\"", "VARCHAR(250)", "TEXT"),
        Some(Kind::Postgres) => ("SERIAL PRIMARY KEY", "\"", "VARCHAR(250)", "TEXT"),
        Some(Kind::MariaDb) => (
            "INTEGER AUTO_INCREMENT PRIMARY KEY",
            "`",
            "VARCHAR(250) CHARACTER SET utf8mb3 COLLATE utf8mb3_bin",
            "MEDIUMTEXT",
        ),
    };
    let secret = if is_new { "TEXT" } else { "VARCHAR(5000)" };
    let pairs = [
        ("SERIAL", serial),
        ("~", quote),
        (" ID ", &format!(" {id} ")),
        ("NOT_NULL", if is_new { "NOT NULL" } else { "" }),
        ("SECRET", secret),
        ("LONG", "TEXT"),
        ("VALUE", value),
    ];
    pairs.into_iter().fold(text, |text, (word, meaning)| text.replace(word, meaning))
}

/// A sandbox with a database.
pub(crate) struct Base {
    pub(crate) sandbox: Sandbox,
    pub(crate) server: Option<Rc<Database>>,
    /// Its name on the server.
    pub(crate) database: String,
    pub(crate) key: String,
    pub(crate) version: String,
}

impl Base {
    /// SQLite's file where Airflow looks for it.
    pub(crate) fn sqlite(version: &str) -> Self {
        let base = Self::of(version, None);
        base.sandbox.write("home/airflow.db", "");
        base.sql(&tables(None, version));
        base
    }

    /// A server's.
    pub(crate) fn server(version: &str, server: Option<Database>) -> Option<Self> {
        Some(Self::on(version, &Rc::new(server?)))
    }

    fn on(version: &str, server: &Rc<Database>) -> Self {
        let database = format!("airflow_{}", version.replace('.', "_"));
        let url = server.create(&database);
        let mut base = Self::of(version, Some(Rc::clone(server)));
        base.database = database;
        let name = if version == V1 { "CORE" } else { "DATABASE" };
        base.sandbox.set(&format!("AIRFLOW__{name}__SQL_ALCHEMY_CONN"), url);
        base.sandbox.set("EXECUTOR", "Local");
        let tables = tables(base.server.as_ref().map(|server| server.kind), version);
        base.sql(&tables);
        if base.is(Kind::Postgres) {
            base.sql("ALTER TABLE connection OWNER TO airflow; ALTER TABLE variable OWNER TO airflow; ALTER TABLE slot_pool OWNER TO airflow");
        }
        base
    }

    /// Of these releases one of each kind, as far as there is one.
    pub(crate) fn all(versions: &[&str]) -> Vec<Self> {
        let servers: Vec<_> = Database::all().into_iter().map(Rc::new).collect();
        let of = |version: &&str| {
            let on_servers = servers.iter().map(|server| Self::on(version, server));
            std::iter::once(Self::sqlite(version)).chain(on_servers).collect::<Vec<_>>()
        };
        versions.iter().flat_map(of).collect()
    }

    fn of(version: &str, server: Option<Rc<Database>>) -> Self {
        let key = new_key();
        let sandbox = Sandbox::new(version).with("FERNET_KEY", &key);
        Self { sandbox, server, key, version: version.to_owned(), database: String::new() }
    }

    pub(crate) fn is(&self, kind: Kind) -> bool {
        self.server.as_ref().is_some_and(|server| server.kind == kind)
    }

    pub(crate) fn name(&self) -> String {
        self.server.as_ref().map_or_else(|| "SQLite".to_owned(), |server| format!("{:?}", server.kind))
    }

    fn file(&self) -> PathBuf {
        self.sandbox.path("home/airflow.db")
    }

    /// The first column of what a statement gives, as text.
    #[track_caller]
    pub(crate) fn sql(&self, statement: &str) -> Vec<String> {
        if let Some(server) = &self.server {
            return server.sql(Some(&self.database), statement).lines().map(str::to_owned).collect();
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let url = format!("sqlite://{}", self.file().display());
            let mut connection = SqliteConnection::connect(&url).await.unwrap();
            let rows = sqlx::raw_sql(AssertSqlSafe(statement.to_owned())).fetch_all(&mut connection).await.unwrap();
            connection.close().await.unwrap();
            rows.iter().map(|row| row.try_get_unchecked::<Option<String>, _>(0).unwrap().unwrap_or_default()).collect()
        })
    }

    /// All that the tables hold, and where the database says so also the version of each row.
    pub(crate) fn rows(&self) -> Vec<String> {
        let quote = if self.is(Kind::MariaDb) { "`" } else { "\"" };
        let version = if self.is(Kind::Postgres) { "CAST(xmin AS TEXT)" } else { "''" };
        let tables = [
            ("connection", vec!["conn_id", "conn_type", "host", "schema", "login", "password", "port", "extra"]),
            ("variable", vec!["key", "val"]),
            ("slot_pool", vec!["pool", "slots", "description"]),
        ];
        let rows = tables.into_iter().flat_map(|(table, columns)| {
            let columns: Vec<_> = columns.iter().map(|name| self.text(&format!("{quote}{name}{quote}"))).collect();
            let all = [&[version.to_owned()], columns.as_slice()].concat();
            let row = match self.is(Kind::MariaDb) {
                true => format!("CONCAT_WS('|', {})", all.join(", ")),
                false => all.join(" || '|' || "),
            };
            self.sql(&format!("SELECT {row} FROM {table} ORDER BY id"))
        });
        rows.collect()
    }

    fn text(&self, column: &str) -> String {
        let kind = if self.is(Kind::MariaDb) { "CHAR" } else { "TEXT" };
        format!("COALESCE(CAST({column} AS {kind}), '-')")
    }

    /// The column of all connections, by their names, with what is encrypted decrypted.
    pub(crate) fn secrets(&self, column: &str) -> Vec<String> {
        let quote = if self.is(Kind::MariaDb) { "`" } else { "\"" };
        let (table, name) = if column == "val" { ("variable", "key") } else { ("connection", "conn_id") };
        let column = self.text(&format!("{quote}{column}{quote}"));
        let tokens = self.sql(&format!("SELECT {column} FROM {table} ORDER BY {quote}{name}{quote}"));
        let key = fernet::Fernet::new(&self.key).unwrap();
        let decrypted = |token: String| match key.decrypt(&token) {
            Ok(bytes) => String::from_utf8(bytes).unwrap(),
            Err(_) => format!("in clear: {token}"),
        };
        tokens.into_iter().map(decrypted).collect()
    }

    pub(crate) fn count(&self, table: &str) -> usize {
        let kind = if self.is(Kind::MariaDb) { "CHAR" } else { "TEXT" };
        self.sql(&format!("SELECT CAST(count(*) AS {kind}) FROM {table}"))[0].parse().unwrap()
    }

    /// A `psql` of Airflow's user whose statements come from a pipe.
    pub(crate) fn psql(&self) -> Child {
        let server = self.server.as_ref().unwrap();
        let url = server.url(&self.database).replace("+psycopg2", "");
        let mut psql = Command::new("psql");
        psql.args(["-X", "-q", "-A", "-t", &url]).stdin(Stdio::piped()).stdout(Stdio::piped());
        psql.spawn().unwrap()
    }
}
