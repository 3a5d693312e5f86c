//! Steps that are commands of Airflow's: the schema, the account.

use std::ffi::OsString;
use std::fs::File;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::fcntl::Flock;
use zeroize::Zeroizing;

pub(crate) use super::migration::migrate;
use super::migration_lock::{Held, take_folder};
use super::process::{Ended, Output, ending, exit, run, run_with_input};
use super::secret_commands;
use super::signals::{Event, Signals, interrupted};
use crate::environment::Environment;
use crate::error::Error;
use crate::explain::Words;
use crate::log;
use crate::settings::official::{PASSWORD, PASSWORD_CMD, Password};
use crate::settings::values::WaitTimeout;
use crate::steps::{MigrateStep, UserStep};

/// The pause between two looks at a schema that is not there yet.
const PAUSE: Duration = Duration::from_secs(1);

/// The pause between two tries to take the lock.
const LOCK_PAUSE: Duration = Duration::from_millis(100);

/// Migrates the database, or waits until somebody has, by Airflow's own commands: it is for them to see that there is nothing to do.
pub(super) fn migrate_blindly(step: &MigrateStep, environment: &Environment, signals: &Signals) -> Result<(), Error> {
    match step {
        MigrateStep::Nothing => Ok(()),
        MigrateStep::Run { migration, .. } => {
            let _held = hold(&migration.lock, signals)?;
            log::info(step);
            must_succeed("migrate the database", &migration.words, environment, signals)
        }
        MigrateStep::WaitForSchema { check, timeout, command, .. } => {
            log::info(step);
            wait_for_schema(check, *timeout, command, environment, signals)
        }
    }
}

/// Creates an account, if there is none of its name. Airflow is told the password by its standard input, as if somebody typed it twice:
/// an argument could be read by everybody.
pub(crate) fn create_user(step: Option<&UserStep>, environment: &Environment, signals: &Signals) -> Result<(), Error> {
    const STEP: &str = "create the account";
    let Some(step) = step else { return Ok(()) };
    log::info(step);
    let password = match &step.password {
        Password::Text(text) => text.clone(),
        Password::Command(line) => printed_password(line, environment, signals)?,
    };
    if password.contains(['\n', '\r']) {
        return Err(Error::UserPassword {
            source_of_it: PASSWORD,
            cause: "expected one line, found a line end".to_owned(),
        });
    }
    let input = Zeroizing::new(format!("{0}\n{0}\n", *password));
    signals.check(STEP)?;
    let ended = run_with_input(&step.words, environment, signals, Output::Shown, input.as_bytes())?;
    succeeded(STEP, &step.words, &ended)
}

/// What the line prints, run by a shell as in the official image, without the line end.
fn printed_password(line: &str, environment: &Environment, signals: &Signals) -> Result<Zeroizing<String>, Error> {
    let words = ["/bin/sh".into(), "-c".into(), line.into()];
    let printed =
        secret_commands::output(&words, environment, signals, "getting a password by its command", without_line_end);
    let text = printed?.and_then(|bytes| match std::str::from_utf8(&bytes) {
        Ok(text) => Ok(Zeroizing::new(text.to_owned())),
        Err(_) => Err("expected UTF-8 text".to_owned()),
    });
    text.map_err(|cause| Error::UserPassword { source_of_it: PASSWORD_CMD, cause })
}

fn without_line_end(bytes: &[u8]) -> &[u8] {
    let end = bytes.iter().rposition(|byte| !matches!(byte, b'\n' | b'\r')).map_or(0, |last| last + 1);
    &bytes[..end]
}

/// Waits for the lock of a folder.
fn hold(folder: &Path, signals: &Signals) -> Result<Option<Flock<File>>, Error> {
    let mut told = false;
    loop {
        match take_folder(folder) {
            Ok(lock) => return Ok(lock),
            Err(Held) if told => {}
            Err(Held) => {
                log::info("waiting for another container that migrates the database");
                told = true;
            }
        }
        if let Event::Stop(signal) = signals.next(Some(Instant::now() + LOCK_PAUSE), None) {
            return Err(interrupted(signal, "waiting for another container that migrates the database"));
        }
    }
}

fn wait_for_schema(
    check: &[OsString],
    timeout: WaitTimeout,
    command: &str,
    environment: &Environment,
    signals: &Signals,
) -> Result<(), Error> {
    const STEP: &str = "waiting for the schema";
    let started = Instant::now();
    let deadline = match timeout {
        WaitTimeout::After(time) => Some(started + time),
        WaitTimeout::Forever => None,
        WaitTimeout::Off => return Ok(()),
    };
    loop {
        let Ended { status, stop } = run(check, environment, signals, Output::Hidden)?;
        if let Some(signal) = stop {
            return Err(interrupted(signal, STEP));
        }
        if status.success() {
            return Ok(());
        }
        if deadline.is_some_and(|deadline| Instant::now() + PAUSE > deadline) {
            let time = format!("{:.1} s", started.elapsed().as_secs_f64());
            return Err(Error::SchemaNotReady { command: command.to_owned(), time });
        }
        if let Event::Stop(signal) = signals.next(Some(Instant::now() + PAUSE), None) {
            return Err(interrupted(signal, STEP));
        }
    }
}

pub(super) fn must_succeed(
    step: &'static str,
    words: &[OsString],
    environment: &Environment,
    signals: &Signals,
) -> Result<(), Error> {
    signals.check(step)?;
    succeeded(step, words, &run(words, environment, signals, Output::Shown)?)
}

fn succeeded(step: &'static str, words: &[OsString], ended: &Ended) -> Result<(), Error> {
    let Ended { status, stop } = *ended;
    match stop {
        Some(signal) => Err(interrupted(signal, step)),
        None if status.success() => Ok(()),
        None => Err(Error::StepFailed {
            step,
            command: Words(words).plain(),
            ending: ending(status),
            status: exit(status).status(),
        }),
    }
}
