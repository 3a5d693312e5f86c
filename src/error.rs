//! Everything that can end a start: its message, its hint, its exit status.

pub(crate) mod exit;
pub(crate) mod nearest;

use std::path::PathBuf;

pub(crate) mod account;
pub(crate) mod rotation;
pub(crate) mod schema;
pub(crate) mod verdict;
pub(crate) mod wait;

use self::account::AccountError;
use self::rotation::RotationError;
use self::schema::SchemaError;
use self::verdict::VerdictError;
use self::wait::WaitError;
pub(crate) use crate::error::exit::Exit;
use crate::secret::SecretKind;
use crate::seeds::error::SeedError;
use crate::settings::official::{PASSWORD, PASSWORD_CMD};
use crate::source::Source;
use crate::template::TemplateError;

/// Why a start ends. A message never holds a secret.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The account that is asked for.
    #[error(transparent)]
    Account(Box<AccountError>),
    /// What has to do with a seed.
    #[error(transparent)]
    Seed(#[from] SeedError),
    /// Asked for a secret that we do not have.
    #[error("cannot {deed} {kind}: {why}")]
    NoSecret { deed: &'static str, kind: SecretKind, why: Lacking },
    /// `NAME` and `NAME_FILE`.
    #[error("cannot use both `{name}` and `{name}_FILE`: expected one of them")]
    BothSet { name: String },
    /// Something that cannot happen did.
    #[error("unexpected: {what}")]
    Bug { what: String },
    /// We cannot be the user that we should be.
    #[error("cannot become `{whom}`: {cause}")]
    CannotBecome { whom: String, cause: String },
    /// A file or folder could not be created or written.
    #[error("cannot write {what} `{}`: {cause}", path.display())]
    CannotWrite { what: String, path: PathBuf, cause: String, denied: bool },
    /// A program could not be started.
    #[error("cannot run `{program}`: {cause}")]
    CannotRun { program: String, cause: String, found: Found },
    /// The first word is no command.
    #[error("cannot run `{word}`: it is neither a command of Airflow nor a program in `{path}`")]
    CommandNotFound { word: String, path: String, nearest: Option<String> },
    /// A file in the key folder that does not hold what it should.
    #[error("cannot use the {kind} of `{}`: {problem} ({facts})", path.display())]
    DamagedSecret { kind: SecretKind, path: PathBuf, problem: String, facts: String },
    /// No such executor.
    #[error(
        "cannot use the executor `{found}` of {source_of_it}: expected one of {}, or a class path",
        crate::connections::executor::known_names()
    )]
    Executor { source_of_it: Source, found: String, nearest: Option<String> },
    /// A given secret that is none.
    #[error("cannot use the {kind} of {source_of_it}: {problem}")]
    InvalidSecret { kind: SecretKind, source_of_it: Source, problem: String },
    /// TERM, INT, QUIT or HUP came during the start.
    #[error("stopped by {name} while {step}")]
    Interrupted { signal: u8, name: &'static str, step: String },
    /// The metadata database did not do what we asked.
    #[error("cannot ask the database of {source_of_it}: {cause} (while {step})")]
    Metadb { step: String, source_of_it: Source, cause: String },
    /// A folder that Airflow must be able to write to.
    #[error("cannot write to the folder `{}`: {cause}", path.display())]
    FolderNotWritable { path: PathBuf, cause: Unreadable, by_module: bool, owner: String },
    /// There is another key already.
    #[error("cannot import the Fernet key {given}: `{}` holds another one, fingerprint {kept}", path.display())]
    KeyExists { path: PathBuf, kept: String, given: String },
    /// A secret is missing and would not be kept if it were made.
    #[error("cannot create a {kind} in `{}`: {why}", dir.display())]
    NoPlaceForSecret { kind: SecretKind, dir: PathBuf, why: String },
    /// An account is asked for, and has no password.
    #[error(
        "cannot create the account of `_AIRFLOW_WWW_USER_CREATE`: expected its password in `{PASSWORD}`, `{PASSWORD}_FILE` or `{PASSWORD_CMD}`, found none"
    )]
    NoPassword,
    /// The password of an account.
    #[error("cannot use the password of `{source_of_it}`: {cause}")]
    UserPassword { source_of_it: &'static str, cause: String },
    /// Celery's result backend follows from nothing that we know.
    #[error("cannot choose Celery's result backend: the database's URL is left to Airflow by {source_of_it}")]
    NoResultBackend { source_of_it: Source },
    /// There is nothing to render.
    #[error("cannot render `{}`: it is your own, and stays as it is", path.display())]
    OwnConfig { path: PathBuf },
    /// A variable that we must understand.
    #[error("cannot read `{variable}`: expected UTF-8 text")]
    NotUnicode { variable: String },
    /// A change of the Fernet key does not go on.
    #[error(transparent)]
    Rotation(#[from] RotationError),
    /// The schema is not the one that this Airflow needs.
    #[error(transparent)]
    Schema(Box<SchemaError>),
    /// Nobody has migrated.
    #[error("cannot start `{command}`: the schema of the database is not ready after {time}")]
    SchemaNotReady { command: String, time: String },
    /// The command of a `..._CMD`.
    #[error("cannot get the {kind} by `{variable}`: {cause}")]
    SecretCommand { kind: SecretKind, variable: String, cause: String },
    /// A setting with a value that it does not take.
    #[error("cannot use {source_of_it}: expected {expected}, found `{found}`")]
    Setting { source_of_it: Source, expected: &'static str, found: String },
    /// The settings file is not TOML.
    #[error("cannot read the settings file `{}`: line {line}: {problem}", path.display())]
    SettingsFile { path: PathBuf, line: usize, problem: String },
    /// A step's command failed.
    #[error("cannot {step}: `{command}` ended with {ending}")]
    StepFailed { step: &'static str, command: String, ending: String, status: u8 },
    /// A template that cannot be filled in.
    #[error("cannot render `airflow.cfg`: {}:{}:{}: {problem}", template.plain(), problem.line, problem.column)]
    Template { template: Source, problem: TemplateError },
    /// A file that cannot be read.
    #[error("cannot read the {what} `{}`: {cause}", path.display())]
    Unreadable { what: String, path: PathBuf, cause: Unreadable },
    /// A setting that does not exist.
    #[error("cannot use the setting {name}: there is none of that name")]
    UnknownSetting { name: String, nearest: Option<String> },
    /// A URL that cannot be waited for.
    #[error("cannot use the URL `{redacted}` of {source_of_it}: {problem}")]
    Url { source_of_it: Source, redacted: String, problem: &'static str },
    /// Our own command line is wrong.
    #[error("{message}")]
    Usage { message: String },
    /// The secrets do not fit the database.
    #[error(transparent)]
    Verdict(Box<VerdictError>),
    /// A server that is not ready, or does not let us in.
    #[error(transparent)]
    Wait(Box<WaitError>),
}

/// Why a file cannot be read or written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unreadable {
    /// By its permissions: the cause, with owner, mode and who we are.
    #[error("{0}")]
    Denied(String),
    /// By what it is.
    #[error("{0}")]
    Unusable(String),
}

/// Why we do not have a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Lacking {
    #[error("it is left to Airflow by {0}")]
    LeftToAirflow(Source),
    #[error("none is set, and there is none in `{}`", .0.display())]
    Nowhere(PathBuf),
}

/// Whether a program that could not be started was there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// It is there, and what it needs is not.
    Incomplete,
    No,
    NotExecutable,
}

impl Error {
    /// The status to leave with.
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::Account(_) => Exit::Configuration,
            Self::Bug { .. } => Exit::Bug,
            Self::Seed(error) => error.exit(),
            Self::CannotBecome { .. }
            | Self::CannotWrite { denied: true, .. }
            | Self::FolderNotWritable { cause: Unreadable::Denied(_), .. }
            | Self::Unreadable { cause: Unreadable::Denied(_), .. } => Exit::Permission,
            Self::CannotWrite { .. } | Self::FolderNotWritable { .. } | Self::KeyExists { .. } => Exit::CannotCreate,
            Self::CannotRun { found: Found::Incomplete | Found::No, .. } | Self::CommandNotFound { .. } => {
                Exit::NotFound
            }
            Self::CannotRun { .. } => Exit::NotExecutable,
            Self::Interrupted { signal, .. } => Exit::Signal(*signal),
            Self::Metadb { .. } | Self::SchemaNotReady { .. } => Exit::Unavailable,
            Self::Schema(error) => error.exit(),
            Self::StepFailed { status, .. } => Exit::Command(*status),
            Self::Rotation(error) => error.exit(),
            Self::Usage { .. } => Exit::Usage,
            Self::Verdict(error) => error.exit(),
            Self::Wait(error) => error.exit(),
            Self::BothSet { .. }
            | Self::DamagedSecret { .. }
            | Self::Executor { .. }
            | Self::InvalidSecret { .. }
            | Self::NoPassword
            | Self::NoPlaceForSecret { .. }
            | Self::NoResultBackend { .. }
            | Self::NoSecret { .. }
            | Self::NotUnicode { .. }
            | Self::OwnConfig { .. }
            | Self::SecretCommand { .. }
            | Self::Setting { .. }
            | Self::SettingsFile { .. }
            | Self::Template { .. }
            | Self::UnknownSetting { .. }
            | Self::Unreadable { .. }
            | Self::UserPassword { .. }
            | Self::Url { .. } => Exit::Configuration,
        }
    }

    /// What to do about it.
    pub(crate) fn hint(&self) -> Option<String> {
        let did_you_mean = |nearest: &Option<String>| nearest.as_ref().map(|name| format!("did you mean `{name}`?"));
        Some(match self {
            Self::Account(error) => error.hint(),
            Self::Seed(error) => return error.hint(),
            Self::Bug { .. } => "this is a bug of airflow-entrypoint; please report it".to_owned(),
            Self::CannotBecome { .. } => {
                "start the container as that user (`user:`), or as root with `cap_add: [SETUID, SETGID, CHOWN]`".to_owned()
            }
            Self::CannotWrite { path, denied: true, .. } => {
                format!("let this user write to `{}` (chown, or `user:` of the container)", path.parent().unwrap_or(path).display())
            }
            Self::CannotWrite { .. } | Self::CannotRun { found: Found::Incomplete | Found::NotExecutable, .. } => {
                return None;
            }
            Self::CannotRun { program, .. } if program == "airflow" => {
                "install Airflow in this image, or put the folder of its `airflow` on `PATH`".to_owned()
            }
            Self::CannotRun { .. } => return None,
            Self::CommandNotFound { nearest, .. } => return did_you_mean(nearest),
            Self::DamagedSecret { kind: SecretKind::Fernet, .. } => {
                "restore the file from a backup; a new key cannot read what the old one encrypted".to_owned()
            }
            Self::DamagedSecret { .. } => {
                "restore the file from a backup, or remove it to have a new one made (logins and running tasks end)".to_owned()
            }
            Self::Executor { nearest, .. } => return did_you_mean(nearest),
            Self::InvalidSecret { kind: SecretKind::Fernet, .. } => {
                "make a key with `openssl rand -base64 32`, or unset it to have one made and kept on the key volume".to_owned()
            }
            Self::InvalidSecret { .. } => return None,
            Self::Interrupted { .. } => return None,
            Self::NoPlaceForSecret { kind, dir, .. } => {
                let variables = match kind {
                    SecretKind::Fernet => "`FERNET_KEY`",
                    SecretKind::Jwt => "`AIRFLOW__API_AUTH__JWT_SECRET`",
                    SecretKind::Web => "`AIRFLOW__WEBSERVER__SECRET_KEY`",
                };
                format!(
                    "mount a named volume at `{}` in every Airflow container, or set {variables} to the same value in all of \
                     them; `ENTRYPOINT_EPHEMERAL_KEY=true` accepts the loss",
                    dir.display()
                )
            }
            Self::FolderNotWritable { by_module: true, .. } => {
                "its mode allows it, so SELinux or AppArmor may not: mount it with `:z`".to_owned()
            }
            Self::FolderNotWritable { path, owner, cause: Unreadable::Denied(_), .. } => format!(
                "`chown -R {owner}` what is mounted at `{}`, or start the container as its owner (`user:`)",
                path.display()
            ),
            Self::FolderNotWritable { .. } => "mount a volume there".to_owned(),
            Self::KeyExists { .. } => {
                "no key is ever overwritten; set `FERNET_KEY` to the given one, and Airflow gets both".to_owned()
            }
            Self::NoSecret { why: Lacking::LeftToAirflow(_), .. } => {
                "give it to this command by `AIRFLOW__CORE__FERNET_KEY_FILE`".to_owned()
            }
            Self::NoSecret { .. } => "`airflow-entrypoint key generate` makes one on the key volume".to_owned(),
            Self::NoResultBackend { .. } => "set `AIRFLOW__CELERY__RESULT_BACKEND`, or its `_CMD`".to_owned(),
            Self::OwnConfig { .. } => "move it away to have one rendered".to_owned(),
            Self::NoPassword | Self::NotUnicode { .. } => return None,
            Self::Rotation(error) => return error.hint(),
            Self::Schema(error) => error.hint().to_owned(),
            Self::SchemaNotReady { .. } => {
                "start a container that migrates (the web server, or the command `setup`), or set `ENTRYPOINT_MIGRATE=true` here"
                    .to_owned()
            }
            Self::SecretCommand { .. } => {
                "Airflow runs it without a shell; it must print the value and end with 0".to_owned()
            }
            Self::Setting { .. } => return None,
            Self::SettingsFile { .. } | Self::StepFailed { .. } | Self::Template { .. } => return None,
            Self::Unreadable { path, cause: Unreadable::Denied(_), .. } => format!(
                "let this user read `{}` (chown or chmod it where it comes from, or set `user:` of the container)",
                path.display()
            ),
            Self::BothSet { .. } | Self::Metadb { .. } | Self::Unreadable { .. } | Self::UserPassword { .. } => return None,
            Self::UnknownSetting { nearest, .. } => return did_you_mean(nearest),
            Self::Url { .. } => {
                "percent-encode every special character of user and password: `@` is `%40`, `:` is `%3A`, `/` is `%2F`".to_owned()
            }
            Self::Usage { .. } => "`airflow-entrypoint --help` lists the commands".to_owned(),
            Self::Verdict(error) => return error.hint(),
            Self::Wait(error) => error.hint().to_owned(),
        })
    }
}
