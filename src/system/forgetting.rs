//! Our verb `key forget-unreadable`: the values that no key reads are shown, and forgotten when somebody says so.

use std::io::{self, IsTerminal};

use sha2::{Digest, Sha256};

use super::metadb::{Argument, Login, Session, Trouble, text};
use super::places::{self, Place};
use super::progress::Progress;
use super::reencryption::{TRIES, begin};
use super::registry;
use crate::error::Error;
use crate::error::rotation::RotationError;
use crate::fernet_keys::FernetKeys;
use crate::fernet_keys::fernet_tokens::Reader;
use crate::fernet_keys::forgetting::{Forgetting, Row, Shape, Unreadable, Value};
use crate::log;
use crate::secret::{Secret, SecretKind};
use crate::verdict::{VerdictStep, encrypted};

const KIND: SecretKind = SecretKind::Fernet;
const LOOKING: &str = "looking for what no key reads";
const ASKING: &str = "asking whether to forget what no key reads";
const FORGETTING: &str = "forgetting what no key reads";

/// Shows them, asks, forgets them, and says what is to be set anew.
pub(super) fn carry_out(
    how: Forgetting,
    step: &VerdictStep,
    session: &mut Session<'_>,
    keys: &FernetKeys,
) -> Result<(), Error> {
    let found = look(session, keys)?;
    let (values, prints) = (found.values(), keys.fingerprints());
    if values == 0 {
        log::info(format_args!(
            "{KIND}: nothing to forget: {} in the database, and `{prints}` reads all",
            encrypted(found.read)
        ));
        return Ok(());
    }
    if !how.all {
        found.stops(keys, registry::registered(session, KIND)?)?;
    }
    log::warning(format_args!("no key of `{prints}` reads {}:", encrypted(values)));
    log::data(found.listing());
    if !how.yes {
        ask(session, values)?;
    }
    let forgotten = forget(session, &found)?;
    if how.all {
        // Whoever has registered the lost key would keep the next container from its start.
        registry::follow(step, session, &Secret::Fernet(keys.clone()));
    }
    session.close();
    let now = forgotten.values();
    log::info(format_args!("{KIND}: {} forgotten, all others are as they were", encrypted(now)));
    if now < values {
        log::info(format_args!("{} of them changed meanwhile, and stayed", values - now));
    }
    forgotten.consequences().iter().for_each(log::info);
    Ok(())
}

/// Finds them. Of each there is a hash in memory, and not the value.
fn look(session: &mut Session<'_>, keys: &FernetKeys) -> Result<Unreadable, Error> {
    let mut reader = Reader::new(keys)?;
    let mut progress = Progress::new("encrypted values looked at", None);
    session.ask(LOOKING, async |login| {
        let (mut found, mut seen) = (Unreadable::default(), 0);
        for place in places::all(login).await? {
            login
                .each(&place.select(&place.in_order()), &[], |row| {
                    let mut values = Vec::new();
                    for (index, value) in [text(row, 2)?, text(row, 3)?].iter().enumerate() {
                        let Some(value) = value.as_deref().filter(|value| place.is_token(value)) else { continue };
                        seen += 1;
                        match reader.reads(value) {
                            true => found.read += 1,
                            false => {
                                let (column, shape) = (place.column(index), Shape::of(value));
                                values.push(Value { index, column, shape, print: print(value) });
                            }
                        }
                    }
                    if !values.is_empty() {
                        let [id, name] = [text(row, 0)?, text(row, 1)?].map(Option::unwrap_or_default);
                        found.rows.push(Row { holder: place.holder, table: place.table, id, name, values });
                    }
                    progress.say(seen);
                    Ok(())
                })
                .await?;
        }
        Ok(found)
    })
}

/// Goes on when somebody at the terminal says so.
fn ask(session: &Session<'_>, values: u64) -> Result<(), Error> {
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        let values = encrypted(values);
        let message = format!("cannot ask whether to forget {values}, since there is no terminal: expected `--yes`");
        return Err(Error::Usage { message });
    }
    log::info(
        "to forget them empties passwords and extras, removes variables, and lets tasks and tests that wait with them fail; nothing brings \
         them back",
    );
    log::plain("airflow-entrypoint: type `yes` to forget them: ");
    let answer = session.runtime.complete(ASKING, async {
        // In a thread of its own, which a signal leaves behind.
        let line = tokio::task::spawn_blocking(|| {
            let mut line = String::new();
            // What cannot be read is no `yes`.
            let _ = io::stdin().read_line(&mut line);
            line
        });
        line.await.map_err(|error| Error::Bug { what: error.to_string() })
    });
    if !answer.as_ref().is_ok_and(|line| line.ends_with('\n')) {
        // The prompt's line is still open.
        log::plain("\n");
    }
    match answer?.trim() {
        "yes" => Ok(()),
        found => Err(RotationError::NotForgotten { found: found.escape_debug().to_string() }.into()),
    }
}

/// Forgets these in one transaction, each if it still is what it was. Gives back those that were forgotten.
fn forget(session: &mut Session<'_>, found: &Unreadable) -> Result<Unreadable, Error> {
    let mut progress = Progress::new("forgotten", Some(found.values()));
    let done = session.ask(FORGETTING, async |login| {
        begin(login).await?;
        let (mut forgotten, mut count) = (Unreadable { rows: Vec::new(), read: found.read }, 0);
        for place in places::all(login).await? {
            for row in found.rows.iter().filter(|row| row.holder == place.holder) {
                let values = forget_row(login, &place, row).await?;
                count += values.len() as u64;
                progress.say(count);
                if !values.is_empty() {
                    forgotten.rows.push(Row { values, ..row.clone() });
                }
            }
        }
        login.command("COMMIT").await?;
        Ok(forgotten)
    });
    if done.is_err() {
        // The server takes back what was begun.
        session.close();
    }
    done
}

/// Forgets the values of one row; looks again where somebody else was faster.
async fn forget_row(login: &mut Login, place: &Place, row: &Row) -> Result<Vec<Value>, Trouble> {
    let id = place.argument(Some(&row.id));
    for _ in 0..TRIES {
        let rows = login.rows(&place.select(&place.only()), &[id]).await?;
        let Some(now) = rows.first() else { break };
        let texts = [text(now, 2)?, text(now, 3)?];
        let same = row.values.iter().filter_map(|value| {
            let text = texts.get(value.index)?.as_deref()?;
            (print(text) == value.print).then_some((value, text))
        });
        let same: Vec<_> = same.collect();
        if same.is_empty() {
            break;
        }
        let columns: Vec<_> = same.iter().map(|(value, _)| value.index).collect();
        let old = same.iter().map(|(_, text)| Argument::Text(text));
        let arguments: Vec<_> = [id].into_iter().chain(old).collect();
        if login.execute(&place.forget(&columns), &arguments).await? > 0 {
            return Ok(same.into_iter().map(|(value, _)| value.clone()).collect());
        }
    }
    Ok(Vec::new())
}

fn print(value: &str) -> [u8; 32] {
    Sha256::digest(value).into()
}
