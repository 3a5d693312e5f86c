//! The steps of a plan, each with all that its effect needs.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::airflow_version::AirflowOption;
use crate::commands::Class;
use crate::environment::Environment;
use crate::launch::forwarding::Manner;
use crate::protocol::Protocol;
use crate::schema::Migrations;
use crate::secret::SecretKind;
use crate::secrets::Decision;
use crate::settings::Settings;
use crate::settings::official::AdminUser;
use crate::settings::values::{UserMode, WaitTimeout};
use crate::source::Source;
use crate::urls::{Endpoint, Redacted};

/// One secret, the option that carries it, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SecretStep {
    pub kind: SecretKind,
    pub option: AirflowOption,
    pub decision: Decision,
}

/// A variable that is set or removed for Airflow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    pub name: String,
    pub value: Value,
    pub source: Source,
}

/// A value by how it may be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    Secret(SecretKind),
    Text(String),
    /// An empty variable is not nothing to Airflow: it is removed.
    Unset,
    Url(Redacted<String>),
}

/// The folders that Airflow must be able to write to, and the file mode that it is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GroundStep {
    pub folders: Vec<PathBuf>,
    /// The folder of the `airflow.cfg` that we write.
    pub config_folder: Option<PathBuf>,
    /// The umask of the command, where it is not left as it is.
    pub umask: Option<u32>,
}

impl GroundStep {
    /// Airflow's log folder, which it writes to before it does anything; and under group 0 (OpenShift) files that the next user of
    /// that group may change too, as the official image has it.
    pub(crate) fn new(
        settings: &Settings,
        class: Class,
        runs_airflow: bool,
        gid: u32,
        environment: &Environment,
        config: &ConfigStep,
    ) -> Self {
        let logs = environment.log_folder();
        let by_group = (gid == 0 && !matches!(class, Class::Key | Class::Other)).then_some(0o002);
        Self {
            folders: if runs_airflow && class != Class::Seed && logs.is_absolute() { vec![logs] } else { Vec::new() },
            config_folder: match config {
                ConfigStep::Keep(_) => None,
                ConfigStep::Write { path, .. } => path.parent().map(Path::to_owned),
            },
            umask: settings.umask.or(by_group),
        }
    }
}

/// What to do about `airflow.cfg`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ConfigStep {
    /// It is the user's own.
    Keep(PathBuf),
    Write {
        path: PathBuf,
        template: String,
        template_source: Source,
    },
}

impl ConfigStep {
    /// The file.
    pub(crate) fn path(&self) -> &Path {
        match self {
            Self::Keep(path) | Self::Write { path, .. } => path,
        }
    }
}

/// An account that shall be there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UserStep {
    pub account: AdminUser,
    pub mode: UserMode,
    pub keeper: Keeper,
}

/// Where Airflow keeps its accounts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Keeper {
    Database(AccountCommands),
    /// The simple login of Airflow 3: users in an option, their passwords in this file.
    PasswordFile(PathBuf),
}

/// What makes an account in the database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AccountCommands {
    pub create: Vec<OsString>,
    /// Makes the roles that Airflow comes with.
    pub roles: Vec<OsString>,
    /// What is locked for it where the database has no locks.
    pub lock: PathBuf,
    /// Any of these folders holds the provider that the login is from, if all of them are known.
    pub provider: Vec<PathBuf>,
}

/// What to wait for, and how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct WaitStep {
    pub services: Vec<Service>,
    pub timeout: WaitTimeout,
    /// Why there is less to wait for than one may think.
    pub skipped: Vec<String>,
}

/// A service that must be ready: any one of its endpoints will do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Service {
    pub role: &'static str,
    /// What it is asked by.
    pub protocol: Protocol,
    pub endpoints: Vec<Endpoint>,
    /// As Airflow is given it.
    pub url: Redacted<String>,
    pub source: Source,
}

/// What to do about the schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum MigrateStep {
    Nothing,
    /// One container at a time.
    Run {
        migration: Migration,
        known: Known,
        timeout: WaitTimeout,
        command: String,
    },
    /// Somebody else migrates.
    WaitForSchema {
        /// It ends with 0 when they have.
        check: Vec<OsString>,
        known: Known,
        timeout: WaitTimeout,
        command: String,
    },
}

impl MigrateStep {
    /// The same by Airflow's own commands alone.
    pub(crate) fn left_to_airflow(&self, why: String) -> Self {
        let mut step = self.clone();
        if let Self::Run { known, .. } | Self::WaitForSchema { known, .. } = &mut step {
            *known = Err(why);
        }
        step
    }
}

/// How the database is migrated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Migration {
    pub words: Vec<OsString>,
    /// What is run where there is a schema already.
    pub upgrade: Vec<OsString>,
    /// The folder whose lock is held where we cannot ask the database for one.
    pub lock: PathBuf,
}

/// The migrations of the installed Airflow that we read ourselves, or why we leave the schema to Airflow's own commands.
pub(crate) type Known = Result<Migrations, String>;

/// What becomes of us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum LaunchStep {
    End,
    Exec(Vec<OsString>),
    /// It is our child, and we are its init.
    Init {
        words: Vec<OsString>,
        manner: Manner,
    },
    /// Several processes as equals: the end of one is the end of all.
    Supervise(Supervise),
}

/// Several processes, and what they are to each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Supervise {
    pub members: Vec<Vec<OsString>>,
    pub manner: Manner,
    /// How long they may take to end.
    pub grace: WaitTimeout,
    /// How often each is started again before its end counts.
    pub restarts: u32,
}
