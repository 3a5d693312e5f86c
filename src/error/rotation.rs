//! Errors about a change of the Fernet key.

use std::path::PathBuf;

use super::Exit;
use crate::secret::SecretKind;
use crate::source::Source;
use crate::verdict::encrypted;

/// Why a rotation does not go on. Nothing has been changed then, unless the message says so.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RotationError {
    /// Somebody else is at it, or migrates.
    #[error("cannot change the keys now: {who} holds the lock")]
    Busy { who: String },
    /// Somebody has changed the file without taking the lock.
    #[error("cannot replace `{}`: somebody else has changed it meanwhile", path.display())]
    Changed { path: PathBuf },
    /// A start has another secret than the next one would have.
    #[error("cannot go on with the {kind} `{ours}`: `{}` holds `{now}`, since somebody has changed it during this start", path.display())]
    ChangedSince { kind: SecretKind, path: PathBuf, ours: String, now: String },
    /// The rows cannot be asked for.
    #[error("cannot tell which key the encrypted values need: {why}")]
    DatabaseUnknown { why: String },
    /// Others have a key that may well read what ours do not.
    #[error(
        "cannot forget what is not read here: {who} has registered the Fernet key `{print}`, which is not here (the keys are `{keys}`)"
    )]
    KeyElsewhere { who: String, print: String, keys: String },
    /// Somebody who runs has still an older key in front.
    #[error("cannot finish the rotation: somebody has written {} with an older key meanwhile ({names})", encrypted(*values))]
    Meanwhile { values: u64, names: String },
    /// Nothing can take its name in one step.
    #[error("cannot replace `{}`: it is mounted as a single file, which could only be overwritten", path.display())]
    MountedAlone { path: PathBuf },
    /// The keys are somewhere else than in the key folder.
    #[error("cannot change the Fernet key of {source_of_it}: it is not in the key folder, so that only you can")]
    NotOurs { source_of_it: Source, order: String },
    /// A web or JWT secret that is not in the key folder.
    #[error("cannot change the {kind}: {why}")]
    NotKept { kind: SecretKind, why: String, hint: String },
    /// It was asked, and the answer was another.
    #[error("nothing was forgotten: expected the answer `yes`, found `{found}`")]
    NotForgotten { found: String },
    /// There is no key to promote.
    #[error("cannot promote a Fernet key: none is staged (the keys are `{keys}`)")]
    NothingStaged { keys: String },
    /// Nothing can be written there. In which order the keys are to be, where it is the Fernet key's.
    #[error("cannot replace `{}`: its file system is read-only", path.display())]
    ReadOnly { path: PathBuf, order: Option<String> },
    /// Probably it is the wrong key.
    #[error("cannot forget what is not read here: the Fernet key `{keys}` reads none of the {}", encrypted(*values))]
    ReadsNothing { keys: String, values: u64 },
    /// Processes that would go on with the key that they have.
    #[error("cannot rotate the {}: Airflow runs ({who})", named(kinds))]
    Running { kinds: Vec<SecretKind>, who: String },
    /// One rotation after the other.
    #[error("cannot do that now: the Fernet key `{print}` is staged")]
    StagedAlready { print: String },
    /// A start that waits for somebody else.
    #[error("cannot go on with the keys in `{}`: another process still changes them after {time}", folder.display())]
    StillChanging { folder: PathBuf, time: String },
    /// Rows that only an older key reads.
    #[error("cannot retire the Fernet key `{keys}`: {} {} it ({names})", encrypted(*values), if *values == 1 { "needs" } else { "need" })]
    StillNeeded { keys: String, values: u64, names: String },
    /// The last rotation is not at its end.
    #[error("cannot stage another Fernet key: the last rotation is not finished (the keys are `{keys}`)")]
    Unfinished { keys: String },
    /// Rows that no key reads.
    #[error("cannot rotate the Fernet key: no key reads {}: {names}", encrypted(*values))]
    Unread { values: u64, names: String },
}

/// What its owner does to let a source give these keys.
pub(crate) fn change(source: &Source, keys: &str) -> String {
    match source {
        Source::Variable(name) if name.ends_with("_CMD") => format!("let {source} print {keys}"),
        _ => format!("set {source} to {keys}"),
    }
}

impl RotationError {
    pub(super) fn exit(&self) -> Exit {
        match self {
            Self::Busy { .. }
            | Self::Changed { .. }
            | Self::ChangedSince { .. }
            | Self::DatabaseUnknown { .. }
            | Self::Running { .. }
            | Self::StillChanging { .. } => Exit::Unavailable,
            Self::MountedAlone { .. } | Self::ReadOnly { .. } => Exit::CannotCreate,
            Self::NotKept { .. }
            | Self::NotOurs { .. }
            | Self::NothingStaged { .. }
            | Self::StagedAlready { .. }
            | Self::Unfinished { .. } => Exit::Configuration,
            Self::KeyElsewhere { .. }
            | Self::Meanwhile { .. }
            | Self::ReadsNothing { .. }
            | Self::StillNeeded { .. }
            | Self::Unread { .. } => Exit::SecretsMisfit,
            Self::NotForgotten { .. } => Exit::Usage,
        }
    }

    pub(super) fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Busy { .. } | Self::Changed { .. } => "try again when it has ended".to_owned(),
            Self::ChangedSince { .. } => "start the container again".to_owned(),
            Self::DatabaseUnknown { .. } | Self::NotForgotten { .. } => return None,
            Self::KeyElsewhere { .. } | Self::ReadsNothing { .. } => "mount the volume that has the key that encrypted them, or set \
                `AIRFLOW__CORE__FERNET_KEY` to it, behind the one that is there and a comma; where it is lost for good, `--all` forgets them"
                .to_owned(),
            Self::Meanwhile { .. } => {
                "restart what still runs with it, then `airflow-entrypoint key reencrypt` again".to_owned()
            }
            Self::NotKept { hint, .. } => hint.clone(),
            Self::MountedAlone { .. } => {
                "mount its folder in its place, so that a whole new file can take the name of the old one".to_owned()
            }
            Self::NotOurs { source_of_it, order } => {
                let keys = format!("the keys in this order, joined by commas: {order}");
                format!("make a key with `openssl rand -base64 32` and {}", change(source_of_it, &keys))
            }
            Self::ReadOnly { order: None, .. } => {
                "mount it so that it can be written, or change it where it comes from".to_owned()
            }
            Self::ReadOnly { order: Some(order), .. } => format!(
                "mount it so that it can be written; or make a key with `openssl rand -base64 32`, and put the keys where it comes from in this \
                 order, joined by commas: {order}"
            ),
            Self::NothingStaged { .. } => "`airflow-entrypoint key stage` stages one".to_owned(),
            Self::Running { kinds, .. } if *kinds != [SecretKind::Fernet] => {
                "stop the deployment; `--force` rotates all the same".to_owned()
            }
            Self::Running { .. } => "stop the deployment, or change the key while it runs by `key stage`, `key promote`, `key reencrypt` and \
                `key retire`; `--force` rotates all the same"
                .to_owned(),
            Self::StagedAlready { .. } => {
                "go on with `airflow-entrypoint key promote`, when all containers have been restarted".to_owned()
            }
            Self::StillChanging { .. } => "start the container again when that has ended".to_owned(),
            Self::StillNeeded { .. } => "`airflow-entrypoint key reencrypt` encrypts them anew".to_owned(),
            Self::Unfinished { .. } => {
                "go on with `airflow-entrypoint key reencrypt` and `airflow-entrypoint key retire`".to_owned()
            }
            Self::Unread { .. } => "put the key that encrypted them behind the others; where it is lost, `airflow-entrypoint key \
                forget-unreadable` forgets them, so that you can set them anew; `--skip-unreadable` leaves them as they are"
                .to_owned(),
        })
    }
}

/// Several secrets in a message, behind an article.
pub(crate) fn named(kinds: &[SecretKind]) -> String {
    kinds.iter().map(SecretKind::to_string).collect::<Vec<_>>().join(" and the ")
}
