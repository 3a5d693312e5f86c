//! What can be wrong with a seed. A message names files, connections, variables, pools and fields, never a value.

use std::path::PathBuf;

use crate::exit::Exit;
use crate::source::Source;

/// Why nothing is seeded.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SeedError {
    /// What a file says.
    #[error("cannot seed from `{}`:{}", path.display(), lines(problems))]
    File { path: PathBuf, problems: Vec<String> },
    /// Only Airflow can ask the database.
    #[error("cannot seed the database: {why}")]
    LeftToAirflow { why: String },
    /// Airflow fetches its key itself.
    #[error("cannot seed: the Fernet key is left to Airflow by {source_of_it}, and passwords are encrypted with it")]
    NoKey { source_of_it: Source },
    /// The command line and the settings name no file.
    #[error("cannot seed: expected files or folders behind `seed`, or in `ENTRYPOINT_SEED`")]
    Nothing,
    /// Nobody has migrated.
    #[error("cannot seed: the database of {source_of_it} has no table `{table}`")]
    NoTable { table: &'static str, source_of_it: Source },
    /// The database would not take a value.
    #[error("cannot seed:{}", lines(problems))]
    Values { problems: Vec<String> },
}

/// What stands behind the colon: one problem, several in a line each.
fn lines(problems: &[String]) -> String {
    match problems {
        [problem] => format!(" {problem}"),
        _ => problems.iter().map(|problem| format!("\n  {problem}")).collect(),
    }
}

impl SeedError {
    /// The status to leave with.
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::Nothing => Exit::Usage,
            Self::NoTable { .. } => Exit::Unavailable,
            Self::File { .. } | Self::LeftToAirflow { .. } | Self::NoKey { .. } | Self::Values { .. } => {
                Exit::Configuration
            }
        }
    }

    /// What to do about it.
    pub(crate) fn hint(&self) -> Option<String> {
        Some(match self {
            Self::LeftToAirflow { .. } => {
                "give the database's URL as it is, or leave `ENTRYPOINT_SEED` out and use `airflow connections import`"
                    .to_owned()
            }
            Self::NoKey { .. } => {
                "give the key by `FERNET_KEY`, `..._CMD` or a file, or use `airflow connections import`".to_owned()
            }
            Self::NoTable { .. } => {
                "start a container that migrates (the web server, or the command `setup`)".to_owned()
            }
            Self::File { .. } | Self::Nothing | Self::Values { .. } => return None,
        })
    }
}
