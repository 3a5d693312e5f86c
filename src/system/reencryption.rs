//! The encrypted values of the metadata database, counted by key, and encrypted anew.

use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

use sqlx::any::AnyRow;

use super::metadb::{Argument, Login, Session, Trouble, text};
use super::places::{self, Place};
use crate::error::Error;
use crate::fernet_keys::FernetKeys;
use crate::fernet_keys::fernet_tokens::{Reader, Renewal, Renewer};
use crate::fernet_keys::rotation::{Survey, Unread};
use crate::log;
use crate::metadb::Dialect;
use crate::verdict::Holder;

/// How many rows are held at once.
const ROWS: usize = 100;
/// How often a row is looked at again that somebody else changes.
const TRIES: usize = 5;
const COUNTING: &str = "counting the encrypted values";
const REENCRYPTING: &str = "encrypting the values anew";

/// Counts them by key, as they come.
pub(super) fn survey(session: &mut Session<'_>, keys: &FernetKeys) -> Result<Survey, Error> {
    let mut reader = Reader::new(keys)?;
    session.ask(COUNTING, async |login| count(login, &mut reader, Survey::new(keys)).await)
}

async fn count(login: &mut Login, reader: &mut Reader, mut survey: Survey) -> Result<Survey, Trouble> {
    for place in places::all(login).await? {
        login
            .each(&place.select(""), &[], |row| {
                let (mut values, mut older, mut unread) = (0, 0, 0);
                for value in [text(row, 2)?, text(row, 3)?].iter().flatten().filter(|value| is_token(&place, value)) {
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
                Ok(())
            })
            .await?;
    }
    Ok(survey)
}

/// Airflow takes an empty password or extra for none, whatever its flag says, and an empty variable for a token.
fn is_token(place: &Place, value: &str) -> bool {
    place.holder == Holder::Variable || !value.is_empty()
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
    let mut progress = Progress::new(all);
    let done = session.ask(REENCRYPTING, async |login| {
        // What others have committed meanwhile is seen; what is written is compared with what was read.
        match login.dialect {
            Dialect::Sqlite => login.command("BEGIN IMMEDIATE").await?,
            Dialect::MySql => {
                login.command("SET TRANSACTION ISOLATION LEVEL READ COMMITTED").await?;
                login.command("BEGIN").await?;
            }
            Dialect::Postgres => login.command("BEGIN ISOLATION LEVEL READ COMMITTED").await?,
        }
        let mut renewed = 0;
        for place in places::all(login).await? {
            let mut last: Option<String> = None;
            loop {
                let behind = [place.argument(last.as_deref())];
                let rows = login.rows(&place.select(&place.following(ROWS)), &behind).await?;
                for row in &rows {
                    renewed += renew_row(login, &place, row, &mut renewer).await?;
                }
                progress.say(renewed);
                match rows.last() {
                    Some(row) if rows.len() == ROWS => last = text(row, 0)?,
                    _ => break,
                }
            }
        }
        let survey = count(login, &mut reader, Survey::new(keys)).await?;
        let end = if survey.stops(unread).is_ok() { "COMMIT" } else { "ROLLBACK" };
        login.command(end).await?;
        Ok((renewed, survey))
    });
    progress.end();
    if done.is_err() {
        // The server takes back what was begun.
        session.close();
    }
    done
}

/// Encrypts the values of one row anew; looks again where somebody else was faster. Says how many values it were.
async fn renew_row(login: &mut Login, place: &Place, row: &AnyRow, renewer: &mut Renewer) -> Result<u64, Trouble> {
    let Some(id) = text(row, 0)? else { return Ok(0) };
    let mut values = [text(row, 2)?, text(row, 3)?];
    for _ in 0..TRIES {
        let (mut columns, mut new, mut old) = (Vec::new(), Vec::new(), Vec::new());
        for (column, value) in values.iter().enumerate() {
            let Some(value) = value.as_deref().filter(|value| is_token(place, value)) else { continue };
            if let Renewal::Renewed(renewed) = renewer.renew(value) {
                columns.push(column);
                new.push(renewed);
                old.push(value);
            }
        }
        if columns.is_empty() {
            return Ok(0);
        }
        let mut arguments: Vec<_> = new.iter().map(|value| Argument::Text(value)).collect();
        arguments.push(place.argument(Some(&id)));
        arguments.extend(old.iter().map(|value| Argument::Text(value)));
        if login.execute(&place.update(&columns), &arguments).await? > 0 {
            return Ok(columns.len() as u64);
        }
        let again = login.rows(&place.select(&place.only()), &[place.argument(Some(&id))]).await?;
        let Some(row) = again.first() else { return Ok(0) };
        values = [text(row, 2)?, text(row, 3)?];
    }
    // The count at the end finds it.
    Ok(0)
}

/// A line that is written over, for somebody who looks.
struct Progress {
    all: u64,
    begun: Instant,
    said: Option<Instant>,
    shown: bool,
}

impl Progress {
    fn new(all: u64) -> Self {
        Self { all, begun: Instant::now(), said: None, shown: io::stderr().is_terminal() }
    }

    fn say(&mut self, done: u64) {
        if !self.shown || self.said.is_some_and(|said| said.elapsed() < Duration::from_millis(200)) {
            return;
        }
        self.said = Some(Instant::now());
        let rate = done as f64 / self.begun.elapsed().as_secs_f64().max(0.001);
        let left = self.all.saturating_sub(done) as f64 / rate.max(1.0);
        log::plain(&format!("\r{done} of {} encrypted anew, {rate:.0} a second, {left:.0} s left \x1b[K", self.all));
    }

    fn end(&self) {
        if self.said.is_some() {
            log::plain("\r\x1b[K");
        }
    }
}
