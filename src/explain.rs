//! The steps in words: the lines of the log, and of the dry run (`report`). What is shown is what is logged.

use std::ffi::OsString;
use std::fmt::{self, Display, Formatter};

use crate::commands::Class;
use crate::identity::IdentityStep;
use crate::launch::forwarding::Scope;
use crate::plan::Plan;
use crate::secret::Secret;
use crate::secrets::Decision;
use crate::settings::values::UserMode;
use crate::source::Source;
use crate::steps::{ConfigStep, Keeper, LaunchStep, MigrateStep, Migration, SecretStep, Service, UserStep};

impl Plan {
    /// What is worth saying before anything happens.
    pub(crate) fn notes(&self) -> impl Iterator<Item = &String> {
        self.command.note.iter().chain(&self.notes).chain(&self.wait.skipped)
    }
}

impl SecretStep {
    /// What the log says once the secret is there.
    pub(crate) fn settled(&self, secret: &Secret, made: bool) -> String {
        match &self.decision {
            Decision::Generate(path) if made => {
                format!("{}: made, and kept in `{}`, fingerprint {secret}", self.kind, path.display())
            }
            Decision::Generate(path) => {
                Self { decision: used(secret, Source::File(path.clone())), ..self.clone() }.to_string()
            }
            Decision::Derive => format!("{self}, fingerprint {secret}"),
            _ => self.to_string(),
        }
    }
}

fn used(secret: &Secret, source: Source) -> Decision {
    Decision::Use { secret: secret.clone(), source }
}

impl Display for SecretStep {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.kind)?;
        match &self.decision {
            Decision::Derive => write!(f, "derived from the Fernet key"),
            Decision::Generate(path) => write!(f, "make one, once, in `{}`", path.display()),
            Decision::Leave { source, secret: Some(secret) } => {
                write!(f, "left to Airflow by {source}, fingerprint {secret}")
            }
            Decision::Leave { source, secret: None } => write!(f, "left to Airflow by {source}"),
            Decision::Use { secret, source } => write!(f, "from {source}, fingerprint {secret}"),
            Decision::Without => write!(f, "none, and this command makes none"),
            Decision::WithoutPlace(why) => write!(f, "none, and none is made: {why}"),
        }
    }
}

impl Display for IdentityStep {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Become(account) => write!(f, "become the user `{}` ({}:{})", account.name, account.uid, account.gid),
            Self::Introduce(account) => write!(f, "name the unknown user {} `{}`", account.uid, account.name),
            Self::Stay => write!(f, "stay the user that we are"),
        }
    }
}

impl Display for ConfigStep {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Keep(path) => write!(f, "leave `{}` as it is, since it is the user's own", path.display()),
            Self::Write { path, template_source, .. } => write!(f, "write `{}` from {template_source}", path.display()),
        }
    }
}

impl Display for Service {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{} `", self.role)?;
        for (index, endpoint) in self.endpoints.iter().enumerate() {
            write!(f, "{}{endpoint}", if index == 0 { "" } else { "," })?;
        }
        f.write_str("`")
    }
}

impl Display for MigrateStep {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => write!(f, "leave the database as it is"),
            Self::Run { migration: Migration { words, upgrade, .. }, known: Ok(_), .. } => {
                write!(f, "migrate the database under a lock with {}", Words(words))?;
                if upgrade != words {
                    write!(f, " ({} where there is a schema)", Words(upgrade))?;
                }
                write!(f, ", unless its schema is at its head")
            }
            Self::Run { migration, known: Err(_), .. } => {
                write!(f, "migrate the database with {}", Words(&migration.words))
            }
            Self::WaitForSchema { known: Ok(_), timeout, .. } => {
                write!(f, "wait, {timeout}, until somebody has migrated the database and its schema is at its head")
            }
            Self::WaitForSchema { check, timeout, .. } => {
                write!(f, "wait, {timeout}, until somebody has migrated the database and {} succeeds", Words(check))
            }
        }
    }
}

impl Display for UserStep {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "create the account `{}`", self.account.username)?;
        if let Keeper::PasswordFile(path) = &self.keeper {
            write!(f, " in `{}`", path.display())?;
        }
        f.write_str(match self.mode {
            UserMode::Create => ", if there is none of that name",
            UserMode::Sync => ", or update the one of that name",
        })
    }
}

impl Display for LaunchStep {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::End => write!(f, "end, since all is prepared"),
            Self::Exec(words) => write!(f, "become {}", Words(words)),
            Self::Init { words, manner } => {
                let scope = match manner.scope {
                    Scope::Group => "its whole group",
                    Scope::Process => "its main process alone",
                };
                write!(f, "stay as the init of {}; signals are for {scope}", Words(words))
            }
            Self::Supervise(step) => {
                write!(f, "run as equals")?;
                for (index, words) in step.members.iter().enumerate() {
                    write!(f, "{} {}", if index == 0 { "" } else { "," }, Words(words))?;
                }
                Ok(())
            }
        }
    }
}

impl Display for Class {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Database => "uses the database",
            Self::Key => "secrets",
            Self::Other => "not Airflow's",
            Self::Plain => "needs no database",
            Self::Seed => "seed",
            Self::Service => "service",
            Self::Setup => "set-up",
            Self::Task => "one task",
        })
    }
}

/// What a command is in Airflow: `scheduler`, `celery worker`.
pub(crate) fn role(words: &[OsString]) -> String {
    let name = Words(words).to_string();
    name.trim_matches('`').trim_end_matches(" ...").trim_start_matches("airflow ").to_owned()
}

/// A command by its name alone: arguments may hold passwords.
pub(crate) struct Words<'a>(pub &'a [OsString]);

impl Words<'_> {
    /// Without the marks around it.
    pub(crate) fn plain(&self) -> String {
        self.to_string().replace('`', "")
    }
}

impl Display for Words<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let is_name = |word: &&OsString| word.to_str().is_some_and(|word| !word.is_empty() && !word.starts_with('-'));
        let words = if self.0.first().is_some_and(|word| word == "airflow") { 3 } else { 1 };
        let names: Vec<_> = self.0.iter().take(words).take_while(is_name).map(|word| word.to_string_lossy()).collect();
        write!(f, "`{}{}`", names.join(" "), if names.len() < self.0.len() { " ..." } else { "" })
    }
}
