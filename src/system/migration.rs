//! The schema, brought to its head: by this container under a lock, or by another one that this one waits for. No Airflow is started
//! where the schema is at its head already.

use std::time::{Duration, Instant};

use super::airflow::{migrate_blindly, must_succeed};
use super::metadb::Session;
use super::migration_lock::{self as lock, Lock, Taken};
use super::schema::{expected, look};
use super::signals::{Event, Signals, interrupted};
use crate::environment::Environment;
use crate::error::Error;
use crate::error::schema::{SchemaError, Waited};
use crate::log;
use crate::readiness::schema::{Expected, Pending, Start, State};
use crate::settings::values::WaitTimeout;
use crate::steps::{MigrateStep, Migration};

/// The pause between two looks at a schema that is not there yet.
const PAUSE: Duration = Duration::from_secs(1);

/// Brings the schema to its head, or waits until somebody has. Where we cannot tell, Airflow's own commands do the same.
pub(crate) fn migrate(
    step: &MigrateStep,
    metadb: &mut Option<Session<'_>>,
    environment: &Environment,
    signals: &Signals,
) -> Result<(), Error> {
    let (role, known, timeout, command) = match step {
        MigrateStep::Nothing => return Ok(()),
        MigrateStep::Run { migration, known, timeout, command } => (Role::Migrates(migration), known, timeout, command),
        MigrateStep::WaitForSchema { known, timeout, command, .. } => (Role::Waits, known, timeout, command),
    };
    let expected = known.as_ref().map_err(Clone::clone).and_then(expected);
    let (session, expected) = match (metadb, expected) {
        (Some(session), Ok(expected)) => (session, expected),
        (_, expected) => {
            let why = expected.err().unwrap_or_else(|| "the database is not asked".to_owned());
            log::info(format_args!("the schema is left to Airflow's own commands: {why}"));
            return migrate_blindly(&step.left_to_airflow(why), environment, signals);
        }
    };
    let mut work = Work { step, role, session, expected, environment, signals, seen: None };
    if role == Role::Waits && *timeout == WaitTimeout::Off {
        if let Some(pending) = work.look()? {
            log::warning(format_args!("{pending}; going on all the same, since waiting is switched off"));
        }
        return Ok(());
    }
    let started = Instant::now();
    let deadline = match timeout {
        WaitTimeout::After(time) => Some(started + *time),
        WaitTimeout::Forever | WaitTimeout::Off => None,
    };
    loop {
        let Some((pending, waited)) = work.attempt()? else { return Ok(()) };
        // Others need the server's connections as long as we do not.
        work.session.close();
        let now = Instant::now();
        if deadline.is_some_and(|deadline| deadline <= now) {
            let time = format!("{:.1} s", started.elapsed().as_secs_f64());
            return Err(SchemaError::NotReady { command: command.clone(), pending, waited, time }.ends());
        }
        if let Event::Stop(signal) = signals.next(deadline.into_iter().chain([now + PAUSE]).min(), None) {
            return Err(interrupted(signal, "waiting for the schema"));
        }
    }
}

/// What this container does about a schema that is not at its head.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role<'w> {
    Migrates(&'w Migration),
    Waits,
}

struct Work<'w, 's> {
    step: &'w MigrateStep,
    role: Role<'w>,
    session: &'w mut Session<'s>,
    expected: Expected,
    environment: &'w Environment,
    signals: &'w Signals,
    /// What was seen last.
    seen: Option<(Pending, Waited)>,
}

impl Work<'_, '_> {
    /// Looks, and does what can be done: nothing more is to be done where there is nothing to wait for. Once it has answered, a
    /// database that has no connection for us, or is just starting again, is waited for as well.
    fn attempt(&mut self) -> Result<Option<(Pending, Waited)>, Error> {
        let now = match (self.try_once(), &self.seen) {
            (Err(Error::Metadb { cause, .. }), Some((pending, _))) => Some((pending.clone(), Waited::Unseen(cause))),
            (done, _) => done?,
        };
        if let Some((pending, waited)) = now.as_ref().filter(|now| self.seen.as_ref() != Some(now)) {
            if self.seen.is_none() && self.role == Role::Waits {
                log::info(self.step);
            }
            log::info(format_args!("{pending}; {waited}"));
        }
        self.seen.clone_from(&now);
        Ok(now)
    }

    fn try_once(&mut self) -> Result<Option<(Pending, Waited)>, Error> {
        let Some(pending) = self.look()? else { return Ok(None) };
        let waited = match self.role {
            Role::Migrates(migration) => match lock::take(self.session, &migration.lock)? {
                Taken::Ours(held) => return self.migrate(migration, held).map(|()| None),
                Taken::By(holder) => Waited::For(holder),
            },
            Role::Waits => lock::held_by(self.session)?.map_or(Waited::ForNobody, Waited::For),
        };
        Ok(Some((pending, waited)))
    }

    /// What is to be migrated, if anything is.
    fn look(&mut self) -> Result<Option<Pending>, Error> {
        match look(self.session, &self.expected)? {
            State::Pending(pending) => Ok(Some(pending)),
            state @ State::AtHead(_) => {
                log::info(state);
                Ok(None)
            }
            State::Foreign(foreign) => Err(SchemaError::Foreign { database: self.database(), foreign }.ends()),
        }
    }

    /// Its name in a message.
    fn database(&self) -> String {
        match self.session.target.file() {
            Some(file) => format!("`{}`", file.display()),
            None => format!("of {}", self.session.target.source),
        }
    }

    fn migrate(&mut self, migration: &Migration, held: Lock) -> Result<(), Error> {
        // Somebody may have done so between our look and the lock.
        let Some(pending) = self.look()? else { return held.release(self.session) };
        log::info(&pending);
        log::info(self.step);
        let words = if pending.start == Start::Empty { &migration.words } else { &migration.upgrade };
        must_succeed("migrate the database", words, self.environment, self.signals)?;
        held.release(self.session)?;
        if let Some(pending) = self.look()? {
            log::warning(format_args!("after the migration {pending}"));
        }
        Ok(())
    }
}
