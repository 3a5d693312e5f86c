//! The metadata database, asked by its own protocol: one login for all that a start wants to know.

use std::time::Duration;

use sqlx::any::{AnyArguments, AnyRow};
use sqlx::query::Query;
use sqlx::{Any, AnyConnection, AssertSqlSafe, Connection, Row};

use super::runtime::Runtime;
use super::signals::Signals;
use crate::error::Error;
use crate::metadb::{Address, Dialect, Metadb, Target};

/// How long one login may take.
const LOGIN: Duration = Duration::from_secs(5);

/// What the database or the way to it said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Trouble {
    /// In the server's own words, or the system's.
    pub cause: String,
    /// SQLSTATE, or SQLite's result code.
    pub code: Option<String>,
}

/// How long the end of a login waits for a lock to be given back.
const UNLOCK_TIMEOUT: Duration = Duration::from_millis(200);

/// A value for a statement.
#[derive(Clone, Copy, Debug)]
pub(super) enum Argument<'a> {
    Number(i64),
    Switch(bool),
    Text(&'a str),
}

/// One login.
pub(super) struct Login {
    connection: AnyConnection,
    pub dialect: Dialect,
    /// What gives back a lock that it holds. A server that is told of the end alone frees the lock some milliseconds later.
    pub unlock: Option<String>,
}

/// The database during a start: logged in when somebody first asks, and until it is closed. It holds one of the server's
/// connections, which others may wait for: close it before anything that takes long.
pub(crate) struct Session<'s> {
    pub(super) runtime: Runtime<'s>,
    pub(super) target: Target,
    login: Option<Login>,
}

impl<'s> Session<'s> {
    /// A database that can be asked; nothing is asked yet.
    pub(crate) fn of(metadb: Option<&Metadb>, signals: &'s Signals) -> Result<Option<Self>, Error> {
        let Some(target) = metadb.and_then(Metadb::target) else { return Ok(None) };
        Ok(Some(Self { runtime: Runtime::new(signals)?, target: target.clone(), login: None }))
    }

    /// With a login that somebody has made already.
    pub(super) fn logged_in(runtime: Runtime<'s>, target: Target, login: Option<Login>) -> Self {
        Self { runtime, target, login }
    }

    /// Asks, by the login that there is or a new one. `step` says what we are doing.
    pub(super) fn ask<T>(
        &mut self,
        step: &str,
        work: impl AsyncFnOnce(&mut Login) -> Result<T, Trouble>,
    ) -> Result<T, Error> {
        let Self { runtime, target, login } = self;
        runtime.complete(step, async {
            let failed = |trouble: Trouble| Error::Metadb {
                step: step.to_owned(),
                source_of_it: target.source.clone(),
                cause: trouble.cause,
            };
            let open = match login.take() {
                Some(open) => open,
                None => Login::to_any(target).await.map_err(failed)?,
            };
            let open = login.insert(open);
            work(open).await.map_err(failed)
        })
    }

    /// Gives the connection back.
    pub(super) fn close(&mut self) {
        if let Some(login) = self.login.take() {
            self.runtime.clear_up(login.close());
        }
    }
}

impl Drop for Session<'_> {
    /// A connection that just ends is an error in the server's log.
    fn drop(&mut self) {
        self.close();
    }
}

impl Login {
    /// Logs in at the first address that lets us.
    pub(super) async fn to_any(target: &Target) -> Result<Self, Trouble> {
        let mut last = Trouble { cause: "it has no address".to_owned(), code: None };
        for address in &target.addresses {
            match Self::to(target.dialect, address).await {
                Ok(login) => return Ok(login),
                Err(trouble) => last = trouble,
            }
        }
        Err(last)
    }

    /// Logs in at one address.
    pub(super) async fn to(dialect: Dialect, address: &Address) -> Result<Self, Trouble> {
        match tokio::time::timeout(LOGIN, Self::open(dialect, address)).await {
            Ok(opened) => Ok(opened?),
            Err(_) => Err(Trouble { cause: format!("no login within {} s", LOGIN.as_secs()), code: None }),
        }
    }

    /// Logs in at one address, with the error as it is and without a limit of time.
    pub(super) async fn open(dialect: Dialect, address: &Address) -> Result<Self, sqlx::Error> {
        sqlx::any::install_default_drivers();
        let mut login = Self { connection: AnyConnection::connect(&address.url.0).await?, dialect, unlock: None };
        if let Some(schema) = &address.schema {
            // Not as an option of the login: poolers refuse those.
            let first =
                "SELECT set_config('search_path', quote_ident(?) || ', ' || current_setting('search_path'), false)";
            login.query(first, &[Argument::Text(schema)]).fetch_all(&mut login.connection).await?;
        }
        Ok(login)
    }

    /// Asks for nothing, and waits for the answer.
    pub(super) async fn ping(&mut self) -> Result<(), sqlx::Error> {
        let query = self.query("SELECT 1", &[]);
        query.fetch_all(&mut self.connection).await.map(drop)
    }

    /// Gives the connection back.
    pub(super) async fn close(mut self) {
        if let Some(sql) = self.unlock.take() {
            // A statement that a signal has cut short may be in the way; the lock then ends with the login.
            let _ = tokio::time::timeout(UNLOCK_TIMEOUT, self.rows(&sql, &[])).await;
        }
        let _ = self.connection.close().await;
    }

    /// All rows of a query; `?` stands for an argument in every dialect.
    pub(super) async fn rows(&mut self, sql: &str, arguments: &[Argument<'_>]) -> Result<Vec<AnyRow>, Trouble> {
        let query = self.query(sql, arguments);
        Ok(query.fetch_all(&mut self.connection).await?)
    }

    /// Each row of a query as it comes, so that memory does not grow with them. The look ends with the first error.
    pub(super) async fn each(
        &mut self,
        sql: &str,
        arguments: &[Argument<'_>],
        mut look: impl FnMut(&AnyRow) -> Result<(), Trouble>,
    ) -> Result<(), Trouble> {
        use futures_util::TryStreamExt;
        let query = self.query(sql, arguments);
        let mut rows = query.fetch(&mut self.connection);
        while let Some(row) = rows.try_next().await? {
            look(&row)?;
        }
        Ok(())
    }

    /// Does something, and says how many rows it concerned.
    pub(super) async fn execute(&mut self, sql: &str, arguments: &[Argument<'_>]) -> Result<u64, Trouble> {
        let query = self.query(sql, arguments);
        Ok(query.execute(&mut self.connection).await?.rows_affected())
    }

    /// Does what takes no arguments, and may be nothing that can be prepared (a transaction's begin and end).
    pub(super) async fn command(&mut self, sql: &str) -> Result<(), Trouble> {
        use sqlx::Executor;
        self.connection.execute(sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))).await?;
        Ok(())
    }

    /// Not kept prepared: behind a pooler the next statement may reach another connection of the server's. MySQL's protocol has no
    /// answer to the end of a prepared one, for which the next statement would wait 40 ms (Nagle's algorithm and a delayed ACK).
    fn query<'q>(&self, sql: &str, arguments: &[Argument<'_>]) -> Query<'q, Any, AnyArguments> {
        let sql = if self.dialect == Dialect::Postgres { numbered(sql) } else { sql.to_owned() };
        let query = sqlx::query(AssertSqlSafe(sql)).persistent(self.dialect == Dialect::MySql);
        arguments.iter().fold(query, |query, argument| match *argument {
            Argument::Number(number) => query.bind(number),
            Argument::Switch(switch) => query.bind(switch),
            Argument::Text(text) => query.bind(text.to_owned()),
        })
    }
}

/// PostgreSQL's placeholders: `$1` for the first `?`. No statement of ours has a `?` that is none.
fn numbered(sql: &str) -> String {
    let mut pieces = sql.split('?');
    let first = pieces.next().unwrap_or_default().to_owned();
    pieces.enumerate().fold(first, |sql, (index, piece)| format!("{sql}${}{piece}", index + 1))
}

/// A column's text; empty for one that is null.
pub(super) fn text(row: &AnyRow, column: usize) -> Result<Option<String>, Trouble> {
    Ok(row.try_get(column)?)
}

impl From<sqlx::Error> for Trouble {
    fn from(error: sqlx::Error) -> Self {
        match &error {
            sqlx::Error::Database(said) => {
                Self { cause: said.message().to_owned(), code: said.code().map(|code| code.into_owned()) }
            }
            sqlx::Error::Io(error) => Self { cause: super::cause(error), code: None },
            // Never `Configuration` in full: it cites what it could not read.
            sqlx::Error::Configuration(_) => Self { cause: "our driver does not take the URL".to_owned(), code: None },
            other => Self { cause: other.to_string(), code: None },
        }
    }
}
