//! The secrets, judged by the metadata database: what is encrypted there is read as it comes, and never shown.

use std::collections::BTreeSet;

use super::metadb::{Login, Session, Trouble, text};
use super::registry;
use super::services;
use super::signals::Signals;
use super::store::Secrets;
use crate::error::Error;
use crate::error::verdict::VerdictError;
use crate::fernet_keys::FernetKeys;
use crate::fernet_keys::fernet_tokens::Reader;
use crate::log;
use crate::metadb::{Dialect, Metadb};
use crate::plan::Plan;
use crate::secret::{Secret, SecretKind};
use crate::secrets::Decision;
use crate::steps::{DATABASE, WaitStep};
use crate::verdict::{self, Held, Holder, Strictness, Tally, Verdict, VerdictStep};

const STEP: &str = "judging the secrets";

/// Ends the start where the plan would make a Fernet key that could not read what the database holds. The only case in which the
/// database is waited for before anything is written.
pub(crate) fn before_a_key_is_made<'s>(plan: &Plan, signals: &'s Signals) -> Result<Option<Session<'s>>, Error> {
    let made = plan.secrets.iter().find_map(|step| match (step.kind, &step.decision) {
        (SecretKind::Fernet, Decision::Generate(path)) => Some(path),
        _ => None,
    });
    let Some(path) = made else { return Ok(None) };
    let unknown =
        |why: &str| log::info(format_args!("whether the database holds encrypted values is not known: {why}"));
    if let Metadb::LeftToAirflow(why) = &plan.verdict.metadb {
        unknown(why);
        return Ok(None);
    }
    let database = plan.wait.services.iter().filter(|service| service.role == DATABASE).cloned().collect();
    let wait = WaitStep { services: database, timeout: plan.wait.timeout, skipped: Vec::new() };
    let Some(mut session) = services::wait(&wait, Some(&plan.verdict.metadb), None, signals)? else {
        unknown("its certificate is left to Airflow to judge");
        return Ok(None);
    };
    if is_missing(&session) {
        return Ok(Some(session));
    }
    // Nobody waited for it, and nobody knows what is in it. A file that is there is no such case.
    let may_be_away = wait.services.is_empty() && session.target.dialect != Dialect::Sqlite;
    let counted = match tally(&mut session, None) {
        Err(Error::Metadb { cause, .. }) if may_be_away => {
            unknown(&cause);
            return Ok(None);
        }
        counted => counted?,
    };
    session.close();
    match counted.values {
        0 => Ok(Some(session)),
        values => {
            let database = session.target.source.clone();
            Err(VerdictError::KeyLost { values, database, path: path.clone() }.boxed())
        }
    }
}

/// Judges the secrets that Airflow is given, and registers their fingerprints. The database has its schema by now.
pub(crate) fn judge(plan: &Plan, metadb: &mut Option<Session<'_>>, secrets: &Secrets) -> Result<(), Error> {
    let step = &plan.verdict;
    let Some(session) = metadb else { return Ok(()) };
    if step.strictness == Strictness::Off || is_missing(session) {
        return Ok(());
    }
    let judged = judge_key(plan, session, secrets).and_then(|proof| match step.registered.is_empty() {
        true => Ok(()),
        false => registry::compare_all(step, session, secrets, proof),
    });
    // Others need the server's connections as long as we do not.
    session.close();
    let waited = plan.wait.services.iter().any(|service| service.role == DATABASE);
    match judged {
        // The command finds out itself whether it can do without.
        Err(Error::Metadb { cause, .. }) => {
            let said = format!("the secrets could not be judged against the database: {cause}");
            match step.strictness {
                Strictness::Remarks | Strictness::Off => {}
                Strictness::Ends | Strictness::Warns if waited => log::warning(said),
                Strictness::Ends | Strictness::Warns => log::info(said),
            }
            Ok(())
        }
        judged => judged,
    }
}

/// The same by hand, at once or not at all.
pub(super) fn check(plan: &Plan, secrets: &Secrets, signals: &Signals) -> Result<(), Error> {
    let Some(mut session) = open(&plan.verdict.metadb, signals)? else { return Ok(()) };
    match judge_key(plan, &mut session, secrets) {
        Err(Error::Metadb { cause, .. }) => {
            log::info(format_args!("the database is not asked: {cause}"));
            Ok(())
        }
        judged => judged.map(drop),
    }
}

/// A session with a database that is there.
pub(super) fn open<'s>(metadb: &Metadb, signals: &'s Signals) -> Result<Option<Session<'s>>, Error> {
    Ok(Session::of(Some(metadb), signals)?.filter(|session| !is_missing(session)))
}

/// A file that is not there is an empty database, and stays none.
fn is_missing(session: &Session<'_>) -> bool {
    session.target.file().is_some_and(|file| !file.exists())
}

/// What the encrypted values have proved of the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Proof {
    /// It reads nothing of them: it is not the one of this deployment.
    Misfit,
    /// There is nothing to prove it by, or others have left values of their own.
    None,
    /// It reads them all.
    Read,
}

fn judge_key(plan: &Plan, session: &mut Session<'_>, secrets: &Secrets) -> Result<Proof, Error> {
    let kind = SecretKind::Fernet;
    let left = plan.secrets.iter().find_map(|step| match &step.decision {
        Decision::Leave { source, secret: None } if step.kind == kind => Some(source),
        _ => None,
    });
    let held = match (secrets.of(kind), left) {
        (Some(Secret::Fernet(keys)), _) => Held::Keys(keys),
        (_, Some(source)) => Held::Unknown(source),
        _ => Held::Nothing,
    };
    let keys = match held {
        Held::Keys(keys) => Some(keys),
        _ => None,
    };
    let tally = tally(session, keys)?;
    let strictness = plan.verdict.strictness;
    match verdict::judge(held, &tally, &session.target.source) {
        Verdict::NothingEncrypted => return Ok(Proof::None),
        Verdict::Fits(_) if strictness == Strictness::Remarks => return Ok(Proof::Read),
        Verdict::Fits(said) => {
            log::info(said);
            return Ok(Proof::Read);
        }
        Verdict::Unknown(_) if strictness == Strictness::Remarks => {}
        Verdict::Unknown(said) => log::info(said),
        Verdict::Partly(said) => log::warning(said),
        Verdict::Misfit(error) => {
            misfit(&plan.verdict, error)?;
            return Ok(Proof::Misfit);
        }
    }
    Ok(Proof::None)
}

/// Ends the start, or warns where that is what was asked for.
pub(super) fn misfit(step: &VerdictStep, error: VerdictError) -> Result<(), Error> {
    match step.strictness {
        Strictness::Ends => Err(error.boxed()),
        Strictness::Off | Strictness::Remarks | Strictness::Warns => {
            log::warning(error);
            Ok(())
        }
    }
}

/// Counts what is encrypted, and what of it these keys do not read. Without keys they read nothing.
fn tally(session: &mut Session<'_>, keys: Option<&FernetKeys>) -> Result<Tally, Error> {
    let mut reader = keys.map(Reader::new).transpose()?;
    session.ask(STEP, async |login| {
        let columns = columns(login).await?;
        let mut tally = Tally::default();
        for (holder, sql) in queries(login.dialect, &columns) {
            login
                .each(&sql, &[], |row| {
                    let values = [text(row, 1)?, text(row, 2)?];
                    // Airflow takes an empty password or extra for none, whatever its flag says, and an empty variable for a token.
                    let values =
                        values.iter().flatten().filter(|value| holder == Holder::Variable || !value.is_empty());
                    let (mut all, mut unread) = (0, 0);
                    for value in values {
                        all += 1;
                        unread += u64::from(!reader.as_mut().is_some_and(|reader| reader.reads(value)));
                    }
                    tally.count(holder, text(row, 0)?.as_deref(), all, unread);
                    Ok(())
                })
                .await?;
        }
        Ok(tally)
    })
}

/// The columns that are there of those that may hold something encrypted, as `table.column`: what there is depends on the version
/// of Airflow that has made the database.
async fn columns(login: &mut Login) -> Result<BTreeSet<String>, Trouble> {
    const TABLES: &str = "('connection', 'connection_test_request', 'trigger', 'variable')";
    let sql = match login.dialect {
        Dialect::MySql => format!(
            "SELECT CONVERT(CONCAT(table_name, '.', column_name) USING utf8mb4) FROM information_schema.columns \
             WHERE table_schema = DATABASE() AND table_name IN {TABLES}"
        ),
        Dialect::Postgres => format!(
            "SELECT CAST(relname AS TEXT) || '.' || CAST(attname AS TEXT) FROM pg_class JOIN pg_attribute ON attrelid = pg_class.oid \
             WHERE relname IN {TABLES} AND relkind IN ('r', 'p', 'v') AND attnum > 0 AND pg_table_is_visible(pg_class.oid)"
        ),
        Dialect::Sqlite => format!(
            "SELECT tables.name || '.' || columns.name FROM sqlite_master AS tables JOIN pragma_table_info(tables.name) AS columns \
             WHERE tables.type = 'table' AND tables.name IN {TABLES}"
        ),
    };
    let rows = login.rows(&sql, &[]).await?;
    rows.iter().filter_map(|row| text(row, 0).transpose()).collect()
}

/// One query for each table: a name and up to two encrypted values, null where there is none. Flags are null in old rows.
fn queries(dialect: Dialect, columns: &BTreeSet<String>) -> Vec<(Holder, String)> {
    let quoted = |name: &str| if dialect == Dialect::MySql { format!("`{name}`") } else { format!("\"{name}\"") };
    let text = |name: &str| match dialect {
        Dialect::MySql => format!("CONVERT({} USING utf8mb4)", quoted(name)),
        Dialect::Postgres | Dialect::Sqlite => format!("CAST({} AS TEXT)", quoted(name)),
    };
    let flagged = |table: &str, name: &str| {
        format!(
            "SELECT {}, CASE WHEN is_encrypted THEN {} END, CASE WHEN is_extra_encrypted THEN {} END FROM {} \
             WHERE is_encrypted OR is_extra_encrypted",
            text(name),
            text("password"),
            text("extra"),
            quoted(table)
        )
    };
    let (key, val, id, kwargs) = (text("key"), text("val"), text("id"), text("kwargs"));
    let all = [
        (Holder::Connection, "connection.is_extra_encrypted", flagged("connection", "conn_id")),
        (
            Holder::ConnectionTest,
            "connection_test_request.is_extra_encrypted",
            flagged("connection_test_request", "connection_id"),
        ),
        // No flag: what begins like JSON is JSON (`decrypt_kwargs` in `airflow/models/trigger.py`). Before 2.9 all of it is.
        (
            Holder::Trigger,
            "trigger.kwargs",
            format!("SELECT {id}, {kwargs}, NULL FROM {} WHERE {kwargs} NOT LIKE '{{%'", quoted("trigger")),
        ),
        (
            Holder::Variable,
            "variable.is_encrypted",
            format!("SELECT {key}, {val}, NULL FROM {} WHERE is_encrypted", quoted("variable")),
        ),
    ];
    all.into_iter().filter(|(_, column, _)| columns.contains(*column)).map(|(holder, _, sql)| (holder, sql)).collect()
}
