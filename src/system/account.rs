//! The account that was asked for: looked up first, so that no Airflow is started for one that is there; created by Airflow itself; and
//! looked up again, since Airflow's command may end with 0 without having made it.

use std::path::Path;
use std::time::{Duration, Instant};

use zeroize::Zeroizing;

use super::account_password as password;
use super::account_tables::{self as tables, Found};
use super::airflow::{must_succeed, succeeded};
use super::metadb::Session;
use super::migration_lock::{self as lock, Lock, Taken};
use super::password_file;
use super::process::{Ended, Output, run_with_input};
use super::signals::{Event, Signals, interrupted};
use crate::account::{BUILT_IN_ROLES, FAB, FIRST_ROLES, password as hashes};
use crate::environment::Environment;
use crate::error::Error;
use crate::error::account::AccountError;
use crate::explain::Words;
use crate::log;
use crate::settings::official::AdminUser;
use crate::settings::values::UserMode;
use crate::steps::{AccountCommands, Keeper, UserStep};

const STEP: &str = "create the account";
/// The pause between two looks for an account that somebody else may be creating.
const PAUSE: Duration = Duration::from_millis(500);

/// Whether the login's provider is installed: without it Airflow 3 has no command that works.
pub(crate) fn must_have_a_login(step: Option<&UserStep>) -> Result<(), Error> {
    let Some(Keeper::Database(commands)) = step.map(|step| &step.keeper) else { return Ok(()) };
    let provider = &commands.provider;
    match provider.is_empty() || provider.iter().any(|folder| folder.exists()) {
        true => Ok(()),
        false => Err(AccountError::NoProvider { login: FAB }.ends()),
    }
}

/// Sees to it that the account is there.
pub(crate) fn create_user(
    step: Option<&UserStep>,
    metadb: &mut Option<Session<'_>>,
    environment: &Environment,
    signals: &Signals,
) -> Result<(), Error> {
    let Some(step) = step else { return Ok(()) };
    match (&step.keeper, metadb) {
        (Keeper::PasswordFile(path), _) => in_file(step, path, environment, signals),
        (Keeper::Database(commands), Some(session)) => Work { step, commands, session, environment, signals }.settle(),
        (Keeper::Database(commands), None) => {
            // Only Airflow can ask: it is for its command to see that there is nothing to do.
            log::info(step);
            let ended = create(step, commands, environment, signals)?;
            succeeded(STEP, &commands.create, &ended)
        }
    }
}

fn in_file(step: &UserStep, path: &Path, environment: &Environment, signals: &Signals) -> Result<(), Error> {
    let password = password::of(&step.account.password, environment, signals)?;
    password_file::settle(step, path, &password, signals)
}

/// Airflow is told the password by its standard input, as if somebody typed it twice: an argument could be read by everybody.
fn create(
    step: &UserStep,
    commands: &AccountCommands,
    environment: &Environment,
    signals: &Signals,
) -> Result<Ended, Error> {
    let password = password::of(&step.account.password, environment, signals)?;
    let input = Zeroizing::new(format!("{0}\n{0}\n", *password));
    signals.check(STEP)?;
    run_with_input(&commands.create, environment, signals, Output::Shown, input.as_bytes())
}

struct Work<'w, 's> {
    step: &'w UserStep,
    commands: &'w AccountCommands,
    session: &'w mut Session<'s>,
    environment: &'w Environment,
    signals: &'w Signals,
}

impl Work<'_, '_> {
    fn settle(&mut self) -> Result<(), Error> {
        let mut told = false;
        loop {
            if let Some(found) = self.find()? {
                return self.is_there(&found);
            }
            // Airflow's command knows nothing of others that run at the same time.
            match lock::take(self.session, &self.commands.lock)? {
                Taken::Ours(held) => return self.make(held),
                Taken::By(holder) if !told => {
                    log::info(format_args!("waiting for {holder}, which migrates or creates an account"));
                    told = true;
                }
                Taken::By(_) => {}
            }
            self.session.close();
            if let Event::Stop(signal) = self.signals.next(Some(Instant::now() + PAUSE), None) {
                return Err(interrupted(signal, "waiting for the account"));
            }
        }
    }

    fn account(&self) -> &AdminUser {
        &self.step.account
    }

    fn find(&mut self) -> Result<Option<Found>, Error> {
        tables::find(self.session, &self.step.account.username)
    }

    /// Creates the account under the lock, unless somebody did so before we had that.
    fn make(&mut self, held: Lock) -> Result<(), Error> {
        if let Some(found) = self.find()? {
            held.release(self.session)?;
            return self.is_there(&found);
        }
        self.role_must_exist()?;
        self.email_must_be_free()?;
        log::info(self.step);
        let ended = create(self.step, self.commands, self.environment, self.signals)?;
        held.release(self.session)?;
        if ended.stop.is_none() && self.find()?.is_some() {
            return Ok(());
        }
        succeeded(STEP, &self.commands.create, &ended)?;
        let command = Words(&self.commands.create).plain();
        Err(AccountError::NotThere { username: self.account().username.clone(), command }.ends())
    }

    /// What there is to do for an account that is there.
    fn is_there(&mut self, found: &Found) -> Result<(), Error> {
        let updated = match self.step.mode {
            UserMode::Create => Vec::new(),
            UserMode::Sync => self.update(found)?,
        };
        match updated.is_empty() {
            true => log::info(format_args!("the account `{}` exists", found.username)),
            false => {
                log::info(format_args!("the account `{}` exists; updated: {}", found.username, updated.join(", ")));
            }
        }
        Ok(())
    }

    /// Makes the account what was said, and says what was not. Each of these is looked at by itself at the next start too.
    fn update(&mut self, found: &Found) -> Result<Vec<&'static str>, Error> {
        let account = &self.step.account;
        let password = password::of(&account.password, self.environment, self.signals)?;
        let mut updated = Vec::new();
        // What may not be done ends it before anything is.
        if found.roles != [account.role.as_str()] {
            self.role_must_exist()?;
        }
        if !found.is_named_as(account) {
            self.email_must_be_free()?;
        }
        if !hashes::fits(&found.hash, &password) {
            let salt: String = fernet::Fernet::generate_key().chars().filter(char::is_ascii_alphanumeric).collect();
            tables::set_hash(self.session, found, &hashes::hash(&password, &salt))?;
            updated.push("password");
        }
        if found.roles != [account.role.as_str()] {
            tables::set_role(self.session, found, &account.role)?;
            updated.push("role");
        }
        if !found.is_named_as(account) {
            tables::set_names(self.session, found, account)?;
            updated.push("name or e-mail address");
        }
        Ok(updated)
    }

    /// A database that is new has the first roles at most; Airflow is asked for the others where one of them may be meant.
    fn role_must_exist(&mut self) -> Result<(), Error> {
        let role = self.step.account.role.as_str();
        if FIRST_ROLES.contains(&role) {
            return Ok(());
        }
        let mut roles = tables::roles(self.session)?;
        let has = |roles: &[String], role: &str| roles.iter().any(|present| present == role);
        if !has(&roles, role) && !BUILT_IN_ROLES.iter().all(|role| has(&roles, role)) {
            must_succeed("make the roles", &self.commands.roles, self.environment, self.signals)?;
            roles = tables::roles(self.session)?;
        }
        let username = self.step.account.username.clone();
        match has(&roles, role) || roles.is_empty() {
            true => Ok(()),
            false => Err(AccountError::NoRole { username, role: role.to_owned(), roles }.ends()),
        }
    }

    fn email_must_be_free(&mut self) -> Result<(), Error> {
        let AdminUser { username, email, .. } = &self.step.account;
        match tables::owner_of(self.session, email, username)? {
            None => Ok(()),
            Some(owner) => {
                let (username, email) = (username.clone(), email.clone());
                Err(AccountError::EmailTaken { username, email, owner }.ends())
            }
        }
    }
}
