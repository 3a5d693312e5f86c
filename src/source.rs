//! Where a value came from. Every message about a value names its source.

use std::fmt;
use std::path::PathBuf;

/// The origin of a setting, an option or a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// Nobody said anything.
    Default,
    /// It follows from other values, named here.
    Derived(String),
    /// A file that holds this one value.
    File(PathBuf),
    /// The file that a variable `NAME_FILE` names.
    FileOf { variable: String, path: PathBuf },
    /// A setting of the settings file, or an option of the user's own `airflow.cfg`.
    Option { file: PathBuf, name: String },
    /// A variable of the environment.
    Variable(String),
}

impl fmt::Display for Source {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => write!(formatter, "the default"),
            Self::Derived(from) => write!(formatter, "{from}"),
            Self::File(path) => write!(formatter, "`{}`", path.display()),
            Self::FileOf { variable, path } => write!(formatter, "`{variable}` (`{}`)", path.display()),
            Self::Option { file, name } => write!(formatter, "`{name}` in `{}`", file.display()),
            Self::Variable(name) => write!(formatter, "`{name}`"),
        }
    }
}

/// Permission bits as people write them.
pub(crate) fn mode(permissions: u32) -> String {
    format!("{:04o}", permissions & 0o7777)
}
