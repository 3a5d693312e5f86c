//! The lock under which one container migrates and the others wait. It is the database's own, and ends with the login that took it;
//! it is not the one that Airflow takes (`DBLocks` in `airflow/utils/db.py`: 1 on PostgreSQL, `airflow_MIGRATIONS` on MySQL).

use std::fs::{self, File};
use std::path::Path;
use std::time::Duration;

use nix::fcntl::Flock;

use super::folder_lock::{Held, take_folder};
use super::metadb::{Argument, Login, Session, Trouble, text};
use crate::error::Error;
use crate::metadb::Dialect;

/// PostgreSQL's locks by two numbers are others than those by one, which Airflow uses. The first is "airf".
const KEYS: (i32, i32) = (0x6169_7266, 1);
/// MySQL's locks are those of the whole server, and their names have 64 characters at most.
const NAME: &str = "CONCAT('airflow-entrypoint:', MD5(DATABASE()))";
/// How long the server may take to have it back.
const PATIENCE: Duration = Duration::from_secs(5);
const STEP: &str = "taking the lock for the migration";

/// Whether it is ours.
pub(super) enum Taken {
    Ours(Lock),
    /// Who has it, as far as can be told.
    By(String),
}

/// The lock while it is ours.
pub(super) enum Lock {
    /// It is held by the login of the session.
    Server,
    /// A folder's, which is held by this process; none where there are no locks.
    Folder(#[expect(dead_code, reason = "it is held")] Option<Flock<File>>),
}

/// Takes the lock of the database, or that of this folder where it has no server; or says who has it.
pub(super) fn take(session: &mut Session<'_>, folder: &Path) -> Result<Taken, Error> {
    if session.target.dialect == Dialect::Sqlite {
        return Ok(match take_folder(folder) {
            Ok(lock) => Taken::Ours(Lock::Folder(lock)),
            Err(Held) => Taken::By(format!("another process at `{}`", folder.display())),
        });
    }
    let who = who();
    session.ask(STEP, async |login| {
        introduce(login, &who).await?;
        Ok(match try_lock(login).await? {
            true => {
                login.unlock = Some(unlock(login.dialect));
                Taken::Ours(Lock::Server)
            }
            // Its holder may have ended at this very moment.
            false => Taken::By(holder(login).await.unwrap_or_else(|| "another container".to_owned())),
        })
    })
}

/// Who migrates, if anybody does.
pub(super) fn held_by(session: &mut Session<'_>) -> Result<Option<String>, Error> {
    if session.target.dialect == Dialect::Sqlite {
        return Ok(None);
    }
    session.ask("waiting for the schema", async |login| Ok(holder(login).await))
}

impl Lock {
    /// Gives it back; with a login that was lost meanwhile it was lost too.
    pub(super) fn release(self, session: &mut Session<'_>) -> Result<(), Error> {
        let Self::Server = self else { return Ok(()) };
        let given_back = session.ask("giving back the lock of the migration", async |login| {
            let Some(sql) = login.unlock.take() else { return Ok(Vec::new()) };
            // Nobody may have spoken over it for so long that a router has forgotten it.
            let late = Trouble { cause: "no answer".to_owned(), code: None };
            tokio::time::timeout(PATIENCE, login.rows(&sql, &[])).await.unwrap_or(Err(late))
        });
        match given_back {
            Err(Error::Metadb { .. }) => session.close(),
            ended => drop(ended?),
        }
        Ok(())
    }
}

/// The statement that gives it back.
fn unlock(dialect: Dialect) -> String {
    match dialect {
        Dialect::MySql => format!("SELECT CAST(RELEASE_LOCK({NAME}) AS CHAR)"),
        _ => format!("SELECT CASE WHEN pg_advisory_unlock({}, {}) THEN '1' ELSE '0' END", KEYS.0, KEYS.1),
    }
}

/// Our name for the others: host and process.
fn who() -> String {
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!("airflow-entrypoint on {} (process {})", host.trim(), std::process::id())
}

/// Says who we are, and that this login shall last: a long migration is no reason to end it.
async fn introduce(login: &mut Login, who: &str) -> Result<(), Trouble> {
    match login.dialect {
        Dialect::MySql => {
            login.execute("SET SESSION wait_timeout = 2147483", &[]).await?;
        }
        _ => {
            let name = [Argument::Text(who)];
            login.rows("SELECT set_config('application_name', ?, false)", &name).await?;
            // Since PostgreSQL 14.
            let never = "SELECT set_config(name, '0', false) FROM pg_settings WHERE name = 'idle_session_timeout'";
            login.rows(never, &[]).await?;
        }
    }
    Ok(())
}

async fn try_lock(login: &mut Login) -> Result<bool, Trouble> {
    let sql = match login.dialect {
        Dialect::MySql => format!("SELECT CAST(GET_LOCK({NAME}, 0) AS CHAR)"),
        _ => format!("SELECT CASE WHEN pg_try_advisory_lock({}, {}) THEN '1' ELSE '0' END", KEYS.0, KEYS.1),
    };
    Ok(first(login, &sql).await?.as_deref() == Some("1"))
}

/// Its holder; that a server does not tell is no trouble of ours.
async fn holder(login: &mut Login) -> Option<String> {
    let sql = match login.dialect {
        Dialect::MySql => format!(
            "SELECT CAST(CONCAT('airflow-entrypoint at ', host, ' (connection ', id, ')') AS CHAR) FROM information_schema.processlist \
             WHERE id = IS_USED_LOCK({NAME})"
        ),
        _ => format!(
            "SELECT a.application_name || coalesce(' at ' || host(a.client_addr), '') FROM pg_locks l JOIN pg_stat_activity a USING \
             (pid) WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 2 AND l.classid = {} AND l.objid = {} AND l.database = \
             (SELECT oid FROM pg_database WHERE datname = current_database())",
            KEYS.0, KEYS.1
        ),
    };
    first(login, &sql).await.ok().flatten()
}

async fn first(login: &mut Login, sql: &str) -> Result<Option<String>, Trouble> {
    login.rows(sql, &[]).await?.first().map_or(Ok(None), |row| text(row, 0))
}
