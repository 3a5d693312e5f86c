//! What a command gets before it runs, and why (the table in README).

use crate::commands::{Class, Command};
use crate::requirements::RequirementsStep;
use crate::seeds::SeedStep;
use crate::settings::Settings;
use crate::settings::values::{Choice, Prepare, WaitTimeout};
use crate::steps::{MigrateStep, WaitStep};

/// What a class of commands gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Needs {
    class: Class,
    /// Whether the command, or a step before it, needs the metadata database; that is one of Airflow's, which works with its folders.
    pub database: bool,
    pub may_create_secrets: bool,
    pub requirements: bool,
    pub wait: bool,
    pub migrate: bool,
    pub user: bool,
}

/// Why each step is taken or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reasons {
    pub requirements: String,
    pub wait: String,
    pub migrate: String,
    pub user: String,
    pub seed: String,
}

impl Needs {
    pub(crate) fn of(class: Class, settings: &Settings) -> Self {
        let service = matches!(class, Class::Service | Class::Setup);
        let all = settings.prepare == Prepare::Always;
        // The official image's entrypoint does these for every command; here they are for Airflow's own.
        let airflows = service || matches!(class, Class::Database | Class::Plain);
        let user = airflows && settings.official.user.is_some();
        let migrate = service
            || airflows && settings.official.migrate.is_some_and(|(yes, _)| yes) && settings.migrate == Choice::Yes;
        let database = service || matches!(class, Class::Database | Class::Seed) || user || migrate;
        Self {
            class,
            database,
            may_create_secrets: database || all,
            requirements: class == Class::Service || all,
            wait: (database || all) && settings.wait_timeout != WaitTimeout::Off,
            migrate,
            user,
        }
    }

    /// Why the steps are what they are.
    pub(crate) fn reasons(
        self,
        settings: &Settings,
        requirements: Option<&RequirementsStep>,
        wait: &WaitStep,
        migrate: &MigrateStep,
        seed: Option<&SeedStep>,
        command: &Command,
    ) -> Reasons {
        Reasons {
            seed: self.why_seed(settings, seed),
            requirements: self.why_requirements(settings, requirements),
            wait: self.why_wait(settings, wait),
            migrate: self.why_migrate(settings, migrate, command),
            user: match &settings.official.user {
                None => "`_AIRFLOW_WWW_USER_CREATE` asks for none".to_owned(),
                Some(_) if self.user => "`_AIRFLOW_WWW_USER_CREATE` asks for it".to_owned(),
                Some(_) => "the command is not Airflow's".to_owned(),
            },
        }
    }

    fn why_requirements(self, settings: &Settings, step: Option<&RequirementsStep>) -> String {
        match step {
            Some(_) if self.class == Class::Service => "it is a service".to_owned(),
            Some(_) => "`ENTRYPOINT_PREPARE` says so".to_owned(),
            None if self.requirements => format!(
                "there is no `{}`, and `_PIP_ADDITIONAL_REQUIREMENTS` names none",
                settings.requirements.display()
            ),
            None => "only a service installs any".to_owned(),
        }
    }

    fn why_seed(self, settings: &Settings, step: Option<&SeedStep>) -> String {
        let said = settings.written.iter().find(|(name, ..)| *name == "seed").map(|(.., source)| source.to_string());
        match (step, said) {
            (Some(_), _) if self.class == Class::Seed => "that is what it is for".to_owned(),
            (Some(_), said) => format!("{} says so", said.unwrap_or_default()),
            (None, None) => "`ENTRYPOINT_SEED` names no file".to_owned(),
            (None, Some(_)) => "a service that migrates, `setup` or `seed` does".to_owned(),
        }
    }

    fn why_wait(self, settings: &Settings, step: &WaitStep) -> String {
        if self.wait {
            return match step.services.is_empty() {
                true => "there is no server to wait for".to_owned(),
                false => "the command needs them".to_owned(),
            };
        }
        match settings.wait_timeout {
            WaitTimeout::Off => "waiting is switched off".to_owned(),
            _ => "the command needs no server".to_owned(),
        }
    }

    fn why_migrate(self, settings: &Settings, step: &MigrateStep, command: &Command) -> String {
        let said = settings.written.iter().find(|(name, ..)| *name == "migrate").map(|(.., source)| source.to_string());
        match (step, settings.migrate) {
            (MigrateStep::Nothing, _) => "only a service or `setup` migrates".to_owned(),
            (_, Choice::Yes | Choice::No) => format!("{} says so", said.unwrap_or_default()),
            (MigrateStep::Run { .. }, Choice::Auto) if command.class == Class::Setup => {
                "that is what it is for".to_owned()
            }
            (MigrateStep::Run { .. }, Choice::Auto) => {
                "the web server does, and so does every service whose database is its own file".to_owned()
            }
            (MigrateStep::WaitForSchema { .. }, Choice::Auto) => "the web server or `setup` migrates".to_owned(),
        }
    }
}
