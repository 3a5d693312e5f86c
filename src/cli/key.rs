//! The verbs behind `key`.

use clap::{Subcommand, ValueEnum};

use crate::fernet_keys::forgetting::Forgetting;
use crate::fernet_keys::rotation::{Others, Rotation, Unread};
use crate::secret::SecretKind;

/// What to do with the secrets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Subcommand)]
pub(crate) enum KeyVerb {
    /// Say where each secret comes from and whether it is sound
    Check,
    /// Print the secrets in a form for another place to keep them
    Export {
        /// `env`: variables; `docker-secret`: the Fernet key alone; `k8s-secret`: a manifest with all of them
        #[arg(long = "as", value_enum, value_name = "FORM")]
        form: ExportForm,
    },
    /// Print the Fernet key's fingerprint
    Fingerprint,
    /// Forget the encrypted values that no Fernet key reads, so that they can be set anew
    ForgetUnreadable(Forgetting),
    /// Make the secrets that are missing, in the key folder
    Generate,
    /// Take a Fernet key from standard input into the key folder, if there is none
    Import,
    /// Put the staged Fernet key in front, so that it encrypts
    Promote,
    /// Encrypt anew what an older Fernet key has encrypted
    Reencrypt {
        /// Leave what no key reads as it is
        #[arg(long)]
        skip_unreadable: bool,
    },
    /// Register the fingerprints of this container's secrets in the database, in place of those that are
    Register,
    /// Leave out the Fernet keys that nothing needs any more
    Retire,
    /// Change the Fernet key of a deployment that is stopped, and encrypt everything anew; or change other secrets
    Rotate {
        /// While Airflow runs, too
        #[arg(long)]
        force: bool,
        /// Change the JWT secret, not the Fernet key
        #[arg(long)]
        jwt: bool,
        /// Leave what no key reads as it is
        #[arg(long, conflicts_with_all = ["jwt", "web"])]
        skip_unreadable: bool,
        /// Change the web secret, not the Fernet key
        #[arg(long)]
        web: bool,
    },
    /// Print the Fernet key
    Show {
        /// Print it to something that is not a terminal, too
        #[arg(long)]
        yes: bool,
    },
    /// Put a new Fernet key behind the others, so that all containers can read what it will encrypt
    Stage,
    /// Say what each Fernet key is there for
    Status,
}

impl KeyVerb {
    /// Which secrets it changes that are one text each, and what becomes of that while Airflow runs.
    pub(crate) fn renewal(self) -> Option<(&'static [SecretKind], Others)> {
        let Self::Rotate { force, jwt, web, .. } = self else { return None };
        let kinds: &[SecretKind] = match (web, jwt) {
            (true, true) => &[SecretKind::Web, SecretKind::Jwt],
            (true, false) => &[SecretKind::Web],
            (false, true) => &[SecretKind::Jwt],
            (false, false) => return None,
        };
        Some((kinds, others(force)))
    }

    /// What it means for the Fernet key's list and the rows.
    pub(crate) fn rotation(self) -> Option<Rotation> {
        let unread = |skipped| if skipped { Unread::Skipped } else { Unread::Stops };
        Some(match self {
            Self::ForgetUnreadable(how) => Rotation::Forget(how),
            Self::Promote => Rotation::Promote,
            Self::Reencrypt { skip_unreadable } => Rotation::Reencrypt { unread: unread(skip_unreadable) },
            Self::Retire => Rotation::Retire,
            Self::Rotate { force, skip_unreadable, jwt: false, web: false } => {
                Rotation::Rotate { others: others(force), unread: unread(skip_unreadable) }
            }
            Self::Stage => Rotation::Stage,
            Self::Status => Rotation::Status,
            _ => return None,
        })
    }
}

fn others(force: bool) -> Others {
    if force { Others::Ignored } else { Others::Stop }
}

/// The forms of `key export`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ExportForm {
    DockerSecret,
    Env,
    K8sSecret,
}
