//! Steps that are commands of Airflow's.

use std::ffi::OsString;
use std::fs::File;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::fcntl::Flock;

pub(crate) use super::account::{create_user, must_have_a_login};
use super::folder_lock::{Held, take_folder};
pub(crate) use super::migration::migrate;
use super::process::{Ended, Output, ending, exit, run};
use super::signals::{Event, Signals, interrupted};
use crate::environment::Environment;
use crate::error::Error;
use crate::log;
use crate::report::explain::Words;
use crate::settings::values::WaitTimeout;
use crate::steps::MigrateStep;

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

pub(super) fn succeeded(step: &'static str, words: &[OsString], ended: &Ended) -> Result<(), Error> {
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
