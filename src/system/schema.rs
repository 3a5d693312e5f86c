//! The schema, looked at: the migrations that are installed, and what the database says of itself.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use super::metadb::{Login, Session, Trouble, text};
use super::reading::read;
use crate::error::Error;
use crate::metadb::Dialect;
use crate::readiness::schema::{
    self, CORE, Expected, FAB, FabTables, History, Migrations, Presence, State, Stored, is_migration,
};

/// A table of 1.10 and 2.x that Airflow 3 has dropped.
const BEFORE_3: &str = "sla_miss";
const POOLS: &str = "slot_pool";

/// What the installed files expect, or which of them cannot be read.
pub(super) fn expected(migrations: &Migrations) -> Result<Expected, String> {
    let unread = |folder: &Path| format!("there are no migrations that we could read in `{}`", folder.display());
    let Migrations { line, core, fab, needs_fab } = migrations;
    let fab = match fab.as_deref().map(|folder| history(folder).ok_or_else(|| unread(folder))) {
        Some(Err(why)) if *needs_fab == FabTables::Needed => return Err(why),
        Some(history) => history.ok(),
        None => None,
    };
    let core = history(core).ok_or_else(|| unread(core))?;
    Ok(Expected { line: *line, core, fab, needs_fab: *needs_fab })
}

fn history(folder: &Path) -> Option<History> {
    let files = fs::read_dir(folder).ok()?.flatten().map(|entry| entry.path()).filter(|path| is_migration(path));
    let texts: Vec<String> =
        files.filter_map(|path| Some(String::from_utf8_lossy(&read(&path).ok()?.0).into_owned())).collect();
    History::read(texts.iter().map(String::as_str))
}

/// Looks at the database.
pub(super) fn look(session: &mut Session<'_>, expected: &Expected) -> Result<State, Error> {
    const STEP: &str = "looking at the schema";
    // A file that is not there is an empty database, and stays none.
    let stored = match session.target.file() {
        Some(file) if !file.exists() => Stored::default(),
        _ => session.ask(STEP, stored)?,
    };
    Ok(schema::judge(expected, &stored))
}

async fn stored(login: &mut Login) -> Result<Stored, Trouble> {
    let tables = tables(login).await?;
    let presence = |holds: bool| if holds { Presence::There } else { Presence::Absent };
    let mut stored = Stored { table_before_3: presence(tables.contains(BEFORE_3)), ..Stored::default() };
    if tables.contains(CORE) {
        stored.core = versions(login, CORE).await?;
    }
    if tables.contains(FAB) {
        stored.fab = Some(versions(login, FAB).await?);
    }
    if tables.contains(POOLS) {
        let pools = login.rows("SELECT pool FROM slot_pool WHERE pool = 'default_pool'", &[]).await?;
        stored.default_pool = presence(!pools.is_empty());
    }
    Ok(stored)
}

/// Those of the tables that we look for that are there.
async fn tables(login: &mut Login) -> Result<BTreeSet<String>, Trouble> {
    let names = format!("('{CORE}', '{FAB}', '{BEFORE_3}', '{POOLS}')");
    column(login, &match login.dialect {
        Dialect::MySql => format!(
            "SELECT CAST(table_name AS CHAR) FROM information_schema.tables WHERE table_schema = DATABASE() AND table_name IN {names}"
        ),
        Dialect::Postgres => format!(
            "SELECT CAST(relname AS TEXT) FROM pg_class WHERE relname IN {names} AND relkind IN ('r', 'p', 'v') AND \
             pg_table_is_visible(oid)"
        ),
        Dialect::Sqlite => format!("SELECT name FROM sqlite_master WHERE type = 'table' AND name IN {names}"),
    })
    .await
}

async fn versions(login: &mut Login, table: &str) -> Result<BTreeSet<String>, Trouble> {
    column(login, &format!("SELECT version_num FROM {table}")).await
}

async fn column(login: &mut Login, sql: &str) -> Result<BTreeSet<String>, Trouble> {
    let rows = login.rows(sql, &[]).await?;
    rows.iter().filter_map(|row| text(row, 0).transpose()).collect()
}
