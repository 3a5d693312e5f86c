//! Writing the rows of a seed: all of them in one transaction, or none.

use fernet::Fernet;
use zeroize::Zeroizing;

use super::metadb::{Argument, Login, Session, Trouble, text};
use super::store::Secrets;
use crate::error::Error;
use crate::log;
use crate::metadb::Dialect;
use crate::secret::{Secret, SecretKind};
use crate::seeds::changes::{self, Columns, Fate, Held, Sown, Statement, Value};
use crate::seeds::error::SeedError;
use crate::seeds::{Cell, Kind, Row, SeedMode, Seeds};

/// How many names one query asks for.
const ASKED_AT_ONCE: usize = 500;
/// How often the transaction is tried: somebody else may add the same row meanwhile.
const TRIES: u32 = 5;
/// No token is from later, whatever its clock said: how old one is does not count.
const END_OF_TIME: u64 = u64::MAX - 60;
/// What is held while one container seeds; any number will do that nobody else takes.
const LOCK: i64 = 0x5eed_a1f1;

/// Writes what is missing, and in mode `sync` what differs, in one transaction.
pub(crate) fn sow(seeds: Option<&Seeds>, metadb: &mut Option<Session<'_>>, secrets: &Secrets) -> Result<(), Error> {
    let Some(seeds) = seeds else { return Ok(()) };
    let bug = |what: &str| Error::Bug { what: what.to_owned() };
    let session = metadb.as_mut().ok_or_else(|| bug("no database to seed"))?;
    let keys = Keys::of(secrets).ok_or_else(|| bug("no Fernet key to seed with"))?;
    let source_of_it = session.target.source.clone();
    let sown = session.ask("seeding", async |login| try_to_sow(seeds, &keys, login).await)?;
    session.close();
    match sown {
        Ok(sown) => log::info(sown),
        Err(Refusal::NoTable(table)) => return Err(SeedError::NoTable { table, source_of_it }.into()),
        Err(Refusal::Values(problems)) => return Err(SeedError::Values { problems }.into()),
    }
    Ok(())
}

/// Why the database cannot take a seed.
enum Refusal {
    NoTable(&'static str),
    Values(Vec<String>),
}

/// The Fernet keys: the first one encrypts, all decrypt.
struct Keys(Vec<Fernet>);

impl Keys {
    fn of(secrets: &Secrets) -> Option<Self> {
        match secrets.of(SecretKind::Fernet)? {
            Secret::Fernet(keys) => keys.canonical().split(',').map(Fernet::new).collect::<Option<_>>().map(Self),
            Secret::Text(_) => None,
        }
    }

    fn encrypted(&self, text: &str) -> Zeroizing<String> {
        let token = self.0.first().map(|key| key.encrypt(text.as_bytes()));
        Zeroizing::new(token.unwrap_or_default())
    }

    fn decrypted(&self, token: &str) -> Option<Zeroizing<String>> {
        let bytes =
            self.0.iter().find_map(|key| key.decrypt_at_time(token, None, END_OF_TIME).ok()).map(Zeroizing::new)?;
        str::from_utf8(&bytes).ok().map(|text| Zeroizing::new(text.to_owned()))
    }
}

async fn try_to_sow(seeds: &Seeds, keys: &Keys, login: &mut Login) -> Result<Result<Sown, Refusal>, Trouble> {
    // Most starts find everything there: they wait for nobody and lock nothing.
    match look(seeds, keys, login).await? {
        Ok(Plot { sown, statements }) if statements.is_empty() => return Ok(Ok(sown)),
        Ok(_) => {}
        Err(refusal) => return Ok(Err(refusal)),
    }
    for tries in 1.. {
        begin(login).await?;
        let sown = sow_once(seeds, keys, login).await;
        let ended = end(login, if matches!(sown, Ok(Ok(_))) { "COMMIT" } else { "ROLLBACK" }).await;
        match sown.and_then(|sown| ended.map(|()| sown)) {
            Err(trouble) if tries < TRIES && was_somebody_else(&trouble, login.dialect) => {}
            done => return done,
        }
    }
    Err(Trouble { cause: "it was tried too often".to_owned(), code: None })
}

/// Whether the transaction may succeed when it is tried again: a row that was not there has come, or two waited for each other.
fn was_somebody_else(trouble: &Trouble, dialect: Dialect) -> bool {
    let code = trouble.code.as_deref().unwrap_or_default();
    match dialect {
        Dialect::Postgres => matches!(code, "23505" | "40001" | "40P01"),
        Dialect::MySql => matches!(code, "23000" | "40001"),
        // SQLITE_BUSY, SQLITE_BUSY_SNAPSHOT, SQLITE_CONSTRAINT_UNIQUE, SQLITE_CONSTRAINT_PRIMARYKEY
        Dialect::Sqlite => matches!(code, "5" | "517" | "2067" | "1555"),
    }
}

/// One container seeds at a time: the connections of 1.10 have no constraint that would keep two of a name apart.
async fn begin(login: &mut Login) -> Result<(), Trouble> {
    match login.dialect {
        Dialect::Postgres => {
            login.command("BEGIN").await?;
            login.command(&format!("SELECT pg_advisory_xact_lock({LOCK})")).await
        }
        // Of the whole server, so it has the database in its name.
        Dialect::MySql => {
            login.command(&format!("SELECT GET_LOCK(CONCAT({LOCK}, MD5(DATABASE())), 60)")).await?;
            login.command("BEGIN").await
        }
        Dialect::Sqlite => login.command("BEGIN IMMEDIATE").await,
    }
}

async fn end(login: &mut Login, how: &str) -> Result<(), Trouble> {
    let ended = login.command(how).await;
    if login.dialect == Dialect::MySql {
        login.command(&format!("SELECT RELEASE_LOCK(CONCAT({LOCK}, MD5(DATABASE())))")).await?;
    }
    ended
}

async fn sow_once(seeds: &Seeds, keys: &Keys, login: &mut Login) -> Result<Result<Sown, Refusal>, Trouble> {
    let Plot { sown, statements } = match look(seeds, keys, login).await? {
        Ok(plot) => plot,
        Err(refusal) => return Ok(Err(refusal)),
    };
    for statement in &statements {
        login.carry_out(statement).await?;
    }
    Ok(Ok(sown))
}

/// What there is to do.
struct Plot {
    sown: Sown,
    statements: Vec<Statement>,
}

/// Compares the seed with what is there.
async fn look(seeds: &Seeds, keys: &Keys, login: &mut Login) -> Result<Result<Plot, Refusal>, Trouble> {
    let encrypted = |text: &str| keys.encrypted(text);
    let dialect = login.dialect;
    let (mut sown, mut statements, mut problems) = (Sown::default(), Vec::new(), Vec::new());
    for kind in Kind::ALL {
        let rows: Vec<_> = seeds.rows.iter().filter(|row| row.kind == kind).collect();
        if rows.is_empty() {
            continue;
        }
        let columns = columns(kind.table(), login).await?;
        if columns.0.is_empty() {
            return Ok(Err(Refusal::NoTable(kind.table())));
        }
        let held = held(&rows, &columns, seeds.mode, keys, login).await?;
        for row in rows {
            let mut cells = match row.fitting(&columns) {
                Ok(cells) => cells,
                Err(problem) => {
                    problems.push(problem);
                    continue;
                }
            };
            let there: Vec<_> = held.iter().filter(|held| held.name == row.name).collect();
            let fate = match (there.as_slice(), seeds.mode) {
                ([], _) => Fate::Added,
                (_, SeedMode::Add) => Fate::Kept,
                ([held], SeedMode::Sync) => {
                    cells.retain(|(column, cell)| changes::differs(cell, held.of(column)));
                    match cells.as_slice() {
                        [] => Fate::Kept,
                        some if some.iter().any(|(column, _)| *held.of(column) == Held::Unreadable) => Fate::Replaced,
                        _ => Fate::Changed,
                    }
                }
                (several, SeedMode::Sync) => {
                    log::warning(format_args!(
                        "the {row} is there {} times, of which Airflow takes any: none of them is changed",
                        several.len()
                    ));
                    Fate::Kept
                }
            };
            if fate != Fate::Kept {
                problems.extend(row.too_long(&cells, &columns, &encrypted));
            }
            match fate {
                Fate::Added => statements.push(row.insertion(&cells, &columns, dialect, &encrypted)),
                Fate::Changed | Fate::Replaced => statements.push(row.update(&cells, dialect, &encrypted)),
                Fate::Kept => {}
            }
            sown.0.push((kind, fate, row.name.clone()));
        }
    }
    Ok(if problems.is_empty() { Ok(Plot { sown, statements }) } else { Err(Refusal::Values(problems)) })
}

/// The columns of a table; none where there is no such table.
async fn columns(table: &str, login: &mut Login) -> Result<Columns, Trouble> {
    let sql = match login.dialect {
        Dialect::Postgres => format!(
            "SELECT CAST(attname AS TEXT), CAST(CASE WHEN atttypid = 'varchar'::regtype AND atttypmod > 4 THEN atttypmod - 4 END AS TEXT) \
             FROM pg_attribute WHERE attrelid = to_regclass('{table}') AND attnum > 0 AND NOT attisdropped"
        ),
        Dialect::MySql => format!(
            "SELECT CONVERT(column_name USING utf8mb4), CONVERT(character_maximum_length USING utf8mb4) \
             FROM information_schema.columns WHERE table_schema = DATABASE() AND table_name = '{table}'"
        ),
        Dialect::Sqlite => format!("SELECT CAST(name AS TEXT), NULL FROM pragma_table_info('{table}')"),
    };
    let rows = login.rows(&sql, &[]).await?;
    let column = |row| Ok((text(row, 0)?.unwrap_or_default(), text(row, 1)?.and_then(|longest| longest.parse().ok())));
    rows.iter().map(column).collect::<Result<_, Trouble>>().map(Columns)
}

/// A row that is there.
struct HeldRow {
    name: String,
    columns: Vec<(&'static str, Held)>,
}

impl HeldRow {
    fn of(&self, column: &str) -> &Held {
        const NOTHING: Held = Held::Text(None);
        self.columns.iter().find(|(name, _)| *name == column).map_or(&NOTHING, |(_, held)| held)
    }
}

/// The rows that are there of those of the seed; with what they hold, where that may be changed.
async fn held(
    rows: &[&Row],
    columns: &Columns,
    mode: SeedMode,
    keys: &Keys,
    login: &mut Login,
) -> Result<Vec<HeldRow>, Trouble> {
    let Some(kind) = rows.first().map(|row| row.kind) else { return Ok(Vec::new()) };
    // A secret's column is followed by its flag.
    let mut asked: Vec<(&'static str, Option<&'static str>)> = Vec::new();
    for (column, cell) in rows.iter().flat_map(|row| &row.cells).filter(|_| mode == SeedMode::Sync) {
        if columns.has(column) && !asked.iter().any(|(known, _)| known == column) {
            asked.push((column, if let Cell::Secret { flag, .. } = cell { Some(flag) } else { None }));
        }
    }
    let names: Vec<&str> = std::iter::once(kind.key())
        .chain(asked.iter().flat_map(|(column, flag)| [Some(*column), *flag]).flatten())
        .collect();
    let mut held = Vec::new();
    for some in rows.chunks(ASKED_AT_ONCE) {
        let sql = changes::query(kind, &names, some.len(), login.dialect);
        let arguments: Vec<_> = some.iter().map(|row| Argument::Text(&row.name)).collect();
        login
            .each(&sql, &arguments, |row| {
                let mut position = 0;
                let mut next = || {
                    position += 1;
                    text(row, position).map(|text| text.map(Zeroizing::new))
                };
                let mut columns = Vec::with_capacity(asked.len());
                for (column, flag) in &asked {
                    let mut value = Held::Text(next()?);
                    if flag.is_some() && next()?.is_some_and(|flag| changes::is_true(&flag)) {
                        value = match value {
                            Held::Text(Some(token)) => match keys.decrypted(&token) {
                                Some(text) => Held::Text(Some(text)),
                                None => Held::Unreadable,
                            },
                            other => other,
                        };
                    }
                    columns.push((*column, value));
                }
                held.push(HeldRow { name: text(row, 0)?.unwrap_or_default(), columns });
                Ok(())
            })
            .await?;
    }
    Ok(held)
}

impl Login {
    async fn carry_out(&mut self, statement: &Statement) -> Result<(), Trouble> {
        let arguments = statement.values.iter().map(|value| match value {
            Value::Number(number) => Argument::Number(*number),
            Value::Switch(switch) => Argument::Switch(*switch),
            Value::Text(text) => Argument::Text(text),
        });
        let arguments: Vec<_> = arguments.collect();
        self.execute(&statement.sql, &arguments).await.map(drop)
    }
}
