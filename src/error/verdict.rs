//! Errors about secrets that do not fit the database.

use std::path::PathBuf;

use super::{Error, Exit};
use crate::registration::Entry;
use crate::secret::SecretKind;
use crate::source::Source;
use crate::verdict::encrypted;

/// Why a start ends at the secrets.
#[derive(Debug, thiserror::Error)]
pub(crate) enum VerdictError {
    /// Others on this database use another secret.
    #[error(
        "cannot use the {kind} `{ours}`: `{}` ({}) has registered another one in the database of {database}, `{}`, at {}",
        entry.host, entry.role, entry.fingerprint, entry.registered
    )]
    Differs { kind: SecretKind, ours: String, entry: Entry, database: Source },
    /// A new key could not read what is there.
    #[error(
        "cannot make a Fernet key: the database of {database} holds {}, and the key that they need is neither set nor in `{}`",
        encrypted(*values),
        path.display()
    )]
    KeyLost { values: u64, database: Source, path: PathBuf },
    /// No encrypted value can be read.
    #[error("cannot use the Fernet key `{keys}`: it reads none of the {} in the database of {database} ({names})", encrypted(*values))]
    Misfit { keys: String, values: u64, names: String, database: Source },
    /// Airflow runs without a key, and there are encrypted values.
    #[error("cannot do without a Fernet key: the database of {database} holds {}", encrypted(*values))]
    NoKey { values: u64, database: Source },
    /// The verb `key register` without a database to register in.
    #[error("cannot register the secrets: {why}")]
    NotRegistered { why: String },
}

impl VerdictError {
    /// It is the largest one, and no result of ours shall be as large.
    pub(crate) fn boxed(self) -> Error {
        Error::Verdict(Box::new(self))
    }

    pub(super) fn exit(&self) -> Exit {
        match self {
            Self::NotRegistered { .. } => Exit::Unavailable,
            _ => Exit::SecretsMisfit,
        }
    }

    pub(super) fn hint(&self) -> Option<String> {
        const GO_ON: &str = "`ENTRYPOINT_CHECK_SECRETS=warn` starts all the same";
        Some(match self {
            Self::Differs { kind, .. } => format!(
                "give all containers the same {kind}; where it was changed on purpose, `airflow-entrypoint key register` registers this \
                 container's; {GO_ON}"
            ),
            Self::KeyLost { path, .. } => format!(
                "mount the volume that has the old key at `{}`, set `AIRFLOW__CORE__FERNET_KEY` to it, or restore it from a backup with \
                 `airflow-entrypoint key import`; a new key would never read them",
                path.parent().unwrap_or(path).display()
            ),
            Self::Misfit { .. } => format!(
                "start with the key that encrypted them: mount its volume, or set `AIRFLOW__CORE__FERNET_KEY` to it, behind the new one \
                 and a comma if there is one; {GO_ON}, and they stay unreadable"
            ),
            Self::NoKey { .. } => {
                format!(
                    "set `AIRFLOW__CORE__FERNET_KEY` to the key that encrypted them, or mount the volume that has it; {GO_ON}"
                )
            }
            Self::NotRegistered { .. } => return None,
        })
    }
}
