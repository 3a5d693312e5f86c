//! The steps of a plan, each with all that its effect needs.

use std::ffi::OsString;
use std::path::PathBuf;

use crate::airflow_version::AirflowOption;
use crate::secret::SecretKind;
use crate::secrets::Decision;
use crate::source::Source;
use crate::urls::Endpoint;
use crate::values::WaitTimeout;

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
    Url(String),
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

/// Python packages to install.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RequirementsStep {
    pub file: PathBuf,
    pub words: Vec<OsString>,
}

/// What to wait for, and how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct WaitStep {
    pub services: Vec<Service>,
    pub timeout: WaitTimeout,
    /// Why there is less to wait for than one may think.
    pub skipped: Vec<String>,
}

/// A service that must answer: any one of its endpoints will do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Service {
    pub role: &'static str,
    pub endpoints: Vec<Endpoint>,
    pub source: Source,
}

/// What to do about the schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum MigrateStep {
    Nothing,
    Run(Vec<OsString>),
    /// Somebody else migrates; this command ends with 0 when they have.
    WaitForSchema {
        check: Vec<OsString>,
        timeout: WaitTimeout,
        command: String,
    },
}

/// What becomes of us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum LaunchStep {
    End,
    Exec(Vec<OsString>),
    /// Several processes as equals: the end of one is the end of all.
    Supervise(Vec<Vec<OsString>>),
}
