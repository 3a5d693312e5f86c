//! Errors about the schema of the database.

use std::fmt::{self, Display, Formatter};

use super::{Error, Exit};
use crate::readiness::schema::{Foreign, Pending, Why};

/// Why a start ends at the schema.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SchemaError {
    /// It is that of an Airflow that this one does not know.
    #[error("cannot use the database {database}: {foreign}")]
    Foreign { database: String, foreign: Foreign },
    /// Nobody has migrated in this time.
    #[error("cannot start `{command}`: {pending}; {waited} (waited for {time})")]
    NotReady { command: String, pending: Pending, waited: Waited, time: String },
}

/// What there was to wait for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Waited {
    /// Somebody who migrates.
    For(String),
    ForNobody,
    /// The database does not say so any more: why.
    Unseen(String),
}

impl Display for Waited {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::For(holder) => write!(f, "{holder} migrates"),
            Self::ForNobody => write!(f, "nobody migrates"),
            Self::Unseen(cause) => write!(f, "the database cannot be asked any more: {cause}"),
        }
    }
}

impl SchemaError {
    /// As the end of a start.
    pub(crate) fn ends(self) -> Error {
        Error::Schema(Box::new(self))
    }

    pub(super) fn exit(&self) -> Exit {
        match self {
            Self::Foreign { .. } => Exit::Configuration,
            Self::NotReady { .. } => Exit::Unavailable,
        }
    }

    pub(super) fn hint(&self) -> &'static str {
        match self {
            Self::Foreign { foreign, .. } => match foreign.why {
                Why::BeforeSquash => {
                    "Airflow 3 migrates from 2.6.2 on: back the database up, migrate it with an image of the newest 2.x (`setup` does), and \
                     then start this one"
                }
                Why::Unknown => {
                    "most likely a newer Airflow has migrated it: start that image again, restore the backup from before, or go back with \
                     that image's `airflow db downgrade`"
                }
                Why::UnknownFab => {
                    "most likely a newer FAB provider has migrated it: install that one, or restore the backup from before"
                }
            },
            Self::NotReady { waited: Waited::For(_), .. } => {
                "its log says how far it is; `ENTRYPOINT_WAIT_TIMEOUT` sets how long to wait"
            }
            Self::NotReady { waited: Waited::Unseen(_), .. } => "`ENTRYPOINT_WAIT_TIMEOUT` sets how long to wait",
            Self::NotReady { .. } => {
                "start a container that migrates (the web server, or the command `setup`), or set `ENTRYPOINT_MIGRATE=true` here"
            }
        }
    }
}
