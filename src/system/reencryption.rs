//! The encrypted values of the metadata database, counted by key, and encrypted anew.

use sqlx::any::AnyRow;

use super::metadb::{Argument, Login, Session, Trouble, text};
use super::places::{self, Place};
use super::progress::Progress;
use crate::error::Error;
use crate::fernet_keys::FernetKeys;
use crate::fernet_keys::fernet_tokens::{Reader, Renewal, Renewer};
use crate::fernet_keys::rotation::{Survey, Unread};
use crate::metadb::Dialect;

/// How many rows are held at once, and how many values one statement changes at the most.
const ROWS: usize = 100;
/// How long the values of one statement are together, in bytes, unless it is one alone: servers refuse what is too long.
const BYTES: usize = 1 << 20;
/// How often a row is looked at again that somebody else changes.
pub(super) const TRIES: usize = 5;
const COUNTING: &str = "counting the encrypted values";
const REENCRYPTING: &str = "encrypting the values anew";

/// Counts them by key, as they come.
pub(super) fn survey(session: &mut Session<'_>, keys: &FernetKeys) -> Result<Survey, Error> {
    let mut reader = Reader::new(keys)?;
    let progress = Progress::new("encrypted values counted", None);
    session.ask(COUNTING, async |login| count(login, &mut reader, Survey::new(keys), progress).await)
}

async fn count(
    login: &mut Login,
    reader: &mut Reader,
    mut survey: Survey,
    mut progress: Progress,
) -> Result<Survey, Trouble> {
    let mut counted = 0;
    for place in places::all(login).await? {
        login
            .each(&place.select(""), &[], |row| {
                let (mut values, mut older, mut unread) = (0, 0, 0);
                for value in [text(row, 2)?, text(row, 3)?].iter().flatten().filter(|value| place.is_token(value)) {
                    values += 1;
                    match reader.key_of(value) {
                        None => unread += 1,
                        Some(index) => {
                            older += u64::from(index > 0);
                            survey.of_key[index] += 1;
                        }
                    }
                }
                let name = text(row, 1)?;
                survey.older.count(place.holder, name.as_deref(), values, older);
                survey.unread.count(place.holder, name.as_deref(), values, unread);
                counted += values;
                progress.say(counted);
                Ok(())
            })
            .await?;
    }
    Ok(survey)
}

/// Encrypts what an older key made with the first one, in one transaction, and reads all of it back before that ends. Says how many values
/// it were, and what there is now. Nothing has been done where that has values that nobody reads, unless these are to be skipped.
pub(super) fn reencrypt(
    session: &mut Session<'_>,
    keys: &FernetKeys,
    unread: Unread,
    all: u64,
) -> Result<(u64, Survey), Error> {
    let (mut renewer, mut reader) = (Renewer::new(keys)?, Reader::new(keys)?);
    let done = session.ask(REENCRYPTING, async |login| {
        begin(login).await?;
        let renewed = renew_all(login, &mut renewer, Progress::new("encrypted anew", Some(all))).await?;
        let progress = Progress::new("read back", Some(all));
        let survey = count(login, &mut reader, Survey::new(keys), progress).await?;
        let end = if survey.stops(unread).is_ok() { "COMMIT" } else { "ROLLBACK" };
        login.command(end).await?;
        Ok((renewed, survey))
    });
    if done.is_err() {
        // The server takes back what was begun.
        session.close();
    }
    done
}

/// Begins a transaction. What others have committed meanwhile is seen; what is written is compared with what was read.
pub(super) async fn begin(login: &mut Login) -> Result<(), Trouble> {
    match login.dialect {
        Dialect::Sqlite => login.command("BEGIN IMMEDIATE").await,
        Dialect::MySql => {
            login.command("SET TRANSACTION ISOLATION LEVEL READ COMMITTED").await?;
            login.command("BEGIN").await
        }
        Dialect::Postgres => login.command("BEGIN ISOLATION LEVEL READ COMMITTED").await,
    }
}

/// Encrypts all values anew that need it. Says how many it were.
async fn renew_all(login: &mut Login, renewer: &mut Renewer, mut progress: Progress) -> Result<u64, Trouble> {
    let (mut renewed, mut seen) = (0, 0);
    for place in places::all(login).await? {
        let mut last: Option<String> = None;
        loop {
            let behind = [place.argument(last.as_deref())];
            let rows = login.rows(&place.select(&place.following(ROWS)), &behind).await?;
            for column in place.columns() {
                let (mut changes, mut length) = (Vec::new(), 0);
                for row in &rows {
                    let Some(value) = Value::of(&place, column, row)? else { continue };
                    seen += 1;
                    let Some(next) = value.renewed(renewer) else { continue };
                    if length + next.length() > BYTES {
                        renewed += change(login, &place, column, &changes, renewer).await?;
                        changes.clear();
                        length = 0;
                    }
                    length += next.length();
                    changes.push(next);
                }
                renewed += change(login, &place, column, &changes, renewer).await?;
            }
            progress.say(seen);
            match rows.last() {
                Some(row) if rows.len() == ROWS => last = text(row, 0)?,
                _ => break,
            }
        }
    }
    Ok(renewed)
}

/// An encrypted value of a row.
struct Value {
    id: String,
    token: String,
}

impl Value {
    fn of(place: &Place, column: usize, row: &AnyRow) -> Result<Option<Self>, Trouble> {
        let (id, token) = (text(row, 0)?, text(row, 2 + column)?.filter(|value| place.is_token(value)));
        Ok(id.zip(token).map(|(id, token)| Self { id, token }))
    }

    /// What it is to become, if an older key made it.
    fn renewed(self, renewer: &mut Renewer) -> Option<Change> {
        match renewer.renew(&self.token) {
            Renewal::Renewed(new) => Some(Change { id: self.id, old: self.token, new }),
            Renewal::Current | Renewal::Unread => None,
        }
    }
}

/// One value of a row that becomes another one.
struct Change {
    id: String,
    old: String,
    new: String,
}

impl Change {
    fn length(&self) -> usize {
        self.old.len() + self.new.len()
    }
}

/// Changes these values of one column; looks again where somebody else was faster. Says how many were encrypted anew.
async fn change(
    login: &mut Login,
    place: &Place,
    column: usize,
    changes: &[Change],
    renewer: &mut Renewer,
) -> Result<u64, Trouble> {
    if changes.is_empty() {
        return Ok(0);
    }
    let mut changed = exchange(login, place, column, changes).await?;
    if changed == changes.len() as u64 {
        return Ok(changed);
    }
    for Change { id, .. } in changes {
        for _ in 0..TRIES {
            let again = login.rows(&place.select(&place.only()), &[place.argument(Some(id))]).await?;
            let Some(row) = again.first() else { break };
            let Some(value) = Value::of(place, column, row)? else { break };
            let Some(change) = value.renewed(renewer) else { break };
            if exchange(login, place, column, &[change]).await? > 0 {
                changed += 1;
                break;
            }
            // The count at the end finds it.
        }
    }
    Ok(changed)
}

/// Puts each new value in the place of the old one, if that is still there. Says in how many rows it was.
async fn exchange(login: &mut Login, place: &Place, column: usize, changes: &[Change]) -> Result<u64, Trouble> {
    let with_id = |value: fn(&Change) -> &str| {
        changes.iter().flat_map(move |change| [place.argument(Some(&change.id)), Argument::Text(value(change))])
    };
    let mut arguments: Vec<_> = with_id(|change| &change.new).collect();
    arguments.extend(changes.iter().map(|change| place.argument(Some(&change.id))));
    arguments.extend(with_id(|change| &change.old));
    login.execute(&place.update(column, changes.len()), &arguments).await
}
