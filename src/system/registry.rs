//! Our own small table in the metadata database: the fingerprint of each secret, who registered it, and when. Airflow knows nothing of it.

use std::fs;
use std::time::SystemTime;

use super::metadb::{Argument, Login, Session, Trouble, text};
use super::signals::Signals;
use super::store::Secrets;
use super::verdict::{Proof, misfit, open};
use crate::error::Error;
use crate::error::verdict::VerdictError;
use crate::log;
use crate::metadb::{Dialect, Metadb};
use crate::secret::{Secret, SecretKind};
use crate::source::timestamp;
use crate::verdict::VerdictStep;
use crate::verdict::registration::{Comparison, Entry, compare};

/// The table. Its name begins like nothing of Airflow's.
const TABLE: &str = "airflow_entrypoint_secret";
const STEP: &str = "registering the secrets";

/// Compares each secret with the registered one, and registers those that nobody has registered. `proof` is that of the Fernet key.
pub(super) fn compare_all(
    step: &VerdictStep,
    session: &mut Session<'_>,
    secrets: &Secrets,
    proof: Proof,
) -> Result<(), Error> {
    let database = session.target.source.clone();
    let mut ours = ours(step, secrets);
    // With a warning of its own, and not to be taken for an example by others.
    ours.retain(|(kind, _)| *kind != SecretKind::Fernet || proof != Proof::Misfit);
    let found = session.ask(STEP, async |login| {
        if !exists(login).await? {
            create(login).await?;
        }
        let mut found: Vec<(SecretKind, Comparison, Entry)> = Vec::new();
        for (kind, entry) in &ours {
            let registered = match entry_of(login, *kind).await? {
                Some(registered) => registered,
                None => insert(login, *kind, entry).await?,
            };
            let comparison = match compare(*kind, &entry.fingerprint, &registered.fingerprint) {
                // What it reads was written by those who have it: it has been changed on purpose.
                Comparison::Differs if *kind == SecretKind::Fernet && proof == Proof::Read => Comparison::Follows,
                Comparison::Differs if step.derived.contains(kind) && agrees(&found) => Comparison::Rotated,
                comparison => comparison,
            };
            if matches!(comparison, Comparison::Follows | Comparison::Rotated) {
                replace(login, *kind, entry, &registered.fingerprint).await?;
            }
            found.push((*kind, comparison, registered));
        }
        Ok(found)
    });
    let found = match found {
        // It is no part of Airflow's schema, and a role may well be kept from making tables.
        Err(Error::Metadb { cause, .. }) => {
            log::warning(format_args!(
                "the secrets cannot be registered in the database, so that nobody compares those of other containers with them: {cause}"
            ));
            return Ok(());
        }
        found => found?,
    };
    for ((_, entry), (kind, comparison, registered)) in ours.into_iter().zip(found) {
        match comparison {
            Comparison::Agrees | Comparison::Follows => {}
            Comparison::Differs => {
                let database = database.clone();
                misfit(step, VerdictError::Differs { kind, ours: entry.fingerprint, entry: registered, database })?;
            }
            Comparison::Rotated => log::warning(format_args!(
                "the {kind} follows from the last Fernet key, and has changed with it: `{}`, where `{}` ({}) has registered `{}` at {}; \
                 restart all containers together",
                entry.fingerprint, registered.host, registered.role, registered.fingerprint, registered.registered
            )),
        }
    }
    Ok(())
}

/// Whether the Fernet keys, which come first, are those of the others.
fn agrees(found: &[(SecretKind, Comparison, Entry)]) -> bool {
    found.iter().any(|(kind, comparison, _)| *kind == SecretKind::Fernet && *comparison != Comparison::Differs)
}

/// Registers the secrets of this container in place of what is registered, at once or not at all.
pub(super) fn register_by_hand(step: &VerdictStep, secrets: &Secrets, signals: &Signals) -> Result<(), Error> {
    let refused = |why: &str| VerdictError::NotRegistered { why: why.to_owned() }.boxed();
    if let Metadb::LeftToAirflow(why) = &step.metadb {
        return Err(refused(why));
    }
    let Some(mut session) = open(&step.metadb, signals)? else {
        return Err(refused("there is no such database yet"));
    };
    let ours = ours(step, secrets);
    session.ask(STEP, async |login| {
        if !exists(login).await? {
            create(login).await?;
        }
        for (kind, entry) in &ours {
            put(login, *kind, entry).await?;
        }
        Ok(())
    })?;
    for (kind, entry) in ours {
        log::info(format_args!("{kind}: registered in the database, fingerprint {}", entry.fingerprint));
    }
    Ok(())
}

/// What is registered of a secret.
pub(super) fn registered(session: &mut Session<'_>, kind: SecretKind) -> Result<Option<Entry>, Error> {
    session.ask("looking for the registered secrets", async |login| match exists(login).await? {
        true => entry_of(login, kind).await,
        false => Ok(None),
    })
}

/// Registers a changed Fernet key in place of the old one, where one is registered: nobody who has the new list is refused.
pub(super) fn follow(step: &VerdictStep, session: &mut Session<'_>, secret: &Secret) {
    let kind = SecretKind::Fernet;
    let followed = session.ask(STEP, async |login| {
        if !step.registered.contains(&kind) || !exists(login).await? {
            return Ok(());
        }
        match entry_of(login, kind).await? {
            Some(old) => replace(login, kind, &entry(step, secret), &old.fingerprint).await,
            None => Ok(()),
        }
    });
    if let Err(error) = followed {
        log::warning(error);
    }
}

/// Registers a changed secret, whatever is registered.
pub(super) fn renew(
    step: &VerdictStep,
    session: &mut Session<'_>,
    kind: SecretKind,
    secret: &Secret,
) -> Result<(), Error> {
    session.ask(STEP, async |login| match step.registered.contains(&kind) && exists(login).await? {
        true => put(login, kind, &entry(step, secret)).await,
        false => Ok(()),
    })
}

/// Forgets what is registered for a kind: the next start registers what it has.
pub(super) fn forget(session: &mut Session<'_>, kind: SecretKind) -> Result<(), Error> {
    session.ask(STEP, async |login| {
        if exists(login).await? {
            let sql = format!("DELETE FROM {TABLE} WHERE kind = ?");
            login.execute(&sql, &[Argument::Text(name(kind))]).await?;
        }
        Ok(())
    })
}

/// What this container would register.
fn ours(step: &VerdictStep, secrets: &Secrets) -> Vec<(SecretKind, Entry)> {
    step.registered.iter().filter_map(|kind| Some((*kind, entry(step, secrets.of(*kind)?)))).collect()
}

fn entry(step: &VerdictStep, secret: &Secret) -> Entry {
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let registered = timestamp(SystemTime::now());
    Entry { fingerprint: secret.to_string(), host: host.trim().to_owned(), role: step.role.clone(), registered }
}

/// What a kind is called in the table.
fn name(kind: SecretKind) -> &'static str {
    kind.file_name().trim_end_matches(".key")
}

async fn exists(login: &mut Login) -> Result<bool, Trouble> {
    let sql = match login.dialect {
        Dialect::MySql => {
            format!(
                "SELECT 'yes' FROM information_schema.tables WHERE table_schema = DATABASE() AND table_name = '{TABLE}'"
            )
        }
        Dialect::Postgres => {
            format!(
                "SELECT 'yes' FROM pg_class WHERE relname = '{TABLE}' AND relkind = 'r' AND pg_table_is_visible(oid)"
            )
        }
        Dialect::Sqlite => format!("SELECT 'yes' FROM sqlite_master WHERE type = 'table' AND name = '{TABLE}'"),
    };
    Ok(!login.rows(&sql, &[]).await?.is_empty())
}

/// Makes the table, or sees that somebody was first: PostgreSQL takes no lock for `IF NOT EXISTS`.
async fn create(login: &mut Login) -> Result<(), Trouble> {
    let sql = format!(
        "CREATE TABLE IF NOT EXISTS {TABLE} (kind VARCHAR(32) NOT NULL PRIMARY KEY, fingerprint VARCHAR(1000) NOT NULL, \
         host VARCHAR(255) NOT NULL, role VARCHAR(255) NOT NULL, registered VARCHAR(32) NOT NULL)"
    );
    match login.execute(&sql, &[]).await {
        Err(trouble) if !exists(login).await? => Err(trouble),
        _ => Ok(()),
    }
}

async fn entry_of(login: &mut Login, kind: SecretKind) -> Result<Option<Entry>, Trouble> {
    let sql = format!("SELECT fingerprint, host, role, registered FROM {TABLE} WHERE kind = ?");
    let rows = login.rows(&sql, &[Argument::Text(name(kind))]).await?;
    let Some(row) = rows.first() else { return Ok(None) };
    let column = |index| Ok::<_, Trouble>(text(row, index)?.unwrap_or_default());
    Ok(Some(Entry { fingerprint: column(0)?, host: column(1)?, role: column(2)?, registered: column(3)? }))
}

/// Registers ours, or gives back that of whoever was first.
async fn insert(login: &mut Login, kind: SecretKind, entry: &Entry) -> Result<Entry, Trouble> {
    let sql = format!("INSERT INTO {TABLE} (fingerprint, host, role, registered, kind) VALUES (?, ?, ?, ?, ?)");
    let [fingerprint, host, role, registered] = columns(entry);
    match login.execute(&sql, &[fingerprint, host, role, registered, Argument::Text(name(kind))]).await {
        Ok(_) => Ok(entry.clone()),
        Err(trouble) => entry_of(login, kind).await?.ok_or(trouble),
    }
}

/// Registers ours, in the place of whatever is there.
async fn put(login: &mut Login, kind: SecretKind, entry: &Entry) -> Result<(), Trouble> {
    let registered = match entry_of(login, kind).await? {
        Some(registered) => registered,
        None => insert(login, kind, entry).await?,
    };
    replace(login, kind, entry, &registered.fingerprint).await
}

/// Puts ours in the place of that one, unless somebody else just has.
async fn replace(login: &mut Login, kind: SecretKind, entry: &Entry, old: &str) -> Result<(), Trouble> {
    let sql = format!(
        "UPDATE {TABLE} SET fingerprint = ?, host = ?, role = ?, registered = ? WHERE kind = ? AND fingerprint = ?"
    );
    let [fingerprint, host, role, registered] = columns(entry);
    let arguments = [fingerprint, host, role, registered, Argument::Text(name(kind)), Argument::Text(old)];
    login.execute(&sql, &arguments).await.map(drop)
}

fn columns(entry: &Entry) -> [Argument<'_>; 4] {
    [&entry.fingerprint, &entry.host, &entry.role, &entry.registered].map(|text| Argument::Text(text))
}
