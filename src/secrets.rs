//! Where each secret comes from, and what to do when there is none.
//!
//! Decides only. What is on the volume was read before, what has to be made is made after (`system/store`).

use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::airflow_version::{AirflowOption, Version};
use crate::environment::Environment;
use crate::error::{Error, Unreadable};
use crate::secret::{Secret, SecretKind};
use crate::source::{Source, mode};

/// What the key folder holds for one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Stored {
    /// No such file.
    Absent,
    /// The file, with the secret that it holds or what is wrong with it.
    Present {
        /// The parsed content.
        content: Result<Secret, String>,
        /// Size, owner, mode and time, for the message about a damaged file.
        facts: String,
        /// Its permission bits.
        mode: u32,
    },
    /// A file that we may not read: the cause, with owner, mode and who we are.
    Unreadable(Unreadable),
}

/// What a `..._CMD` has printed, blanks around it removed, or why it has not.
pub(crate) type Printed = Result<Zeroizing<Vec<u8>>, String>;

/// Whether and where this start may create a secret that is missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Creation {
    /// In the key folder.
    Allowed,
    /// The key folder would not keep it; why.
    Refused(String),
    /// This command makes none; a service will, in the key folder. So none may be derived meanwhile.
    Later,
    /// This command makes none, and the key folder would not keep it.
    UseOnly,
}

/// What is to be done about one secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// It follows from the Fernet key.
    Derive,
    /// Create it, once, in this file; whoever loses the race uses the winner's.
    Generate(PathBuf),
    /// Airflow gets it from there itself; the value where we know it.
    Leave { source: Source, secret: Option<Secret> },
    /// Hand this on.
    Use { secret: Secret, source: Source },
    /// There is none, and this command makes none.
    Without,
    /// There is none, and one would not be kept; why. Airflow does without.
    WithoutPlace(String),
}

impl Decision {
    /// The secret, where it is known before anything is made.
    pub(crate) fn known(&self) -> Option<&Secret> {
        match self {
            Self::Leave { secret, .. } => secret.as_ref(),
            Self::Use { secret, .. } => Some(secret),
            Self::Derive | Self::Generate(_) | Self::Without | Self::WithoutPlace(_) => None,
        }
    }
}

/// All that a decision about secrets rests on.
pub(crate) struct Evidence<'a> {
    /// The environment as it was given.
    pub environment: &'a Environment,
    /// What the key folder holds, by kind.
    pub stored: &'a dyn Fn(SecretKind) -> Stored,
    /// What a `..._CMD` variable's command has printed, or why it has not.
    pub command: &'a dyn Fn(&str) -> Option<Printed>,
    /// The value of an option in the user's own `airflow.cfg`, with its source.
    pub configured: &'a dyn Fn(AirflowOption) -> Option<(String, Source)>,
    /// The key folder.
    pub key_dir: &'a Path,
    /// Whether a missing one may be created.
    pub creation: &'a Creation,
    /// Whose option names count.
    pub version: Version,
}

/// Decides for one secret: the first source that is set wins, a source that cannot be used is an error and never a reason to
/// take the next one. Warnings are added to `warnings`.
pub(crate) fn decide(
    kind: SecretKind,
    evidence: &Evidence<'_>,
    fernet: Option<&Decision>,
    warnings: &mut Vec<String>,
) -> Result<Decision, Error> {
    let decision = choose(kind, evidence, fernet, warnings)?;
    if let (Decision::Use { secret, source }, Some((text, file))) = (&decision, configured(kind, evidence))
        && let Ok(other) = Secret::parse(kind, text.as_bytes())
        && !secret.holds(&other)
    {
        warnings.push(format!(
            "{file} holds another {kind} (fingerprint {other}) than {source} (fingerprint {secret}); {source} is used"
        ));
    }
    Ok(decision)
}

/// The value in the user's own `airflow.cfg`. A reference to a variable is not a value: without that variable it means nothing.
fn configured(kind: SecretKind, evidence: &Evidence<'_>) -> Option<(String, Source)> {
    let found = kind.option(evidence.version).and_then(evidence.configured);
    found.filter(|(text, _)| !text.starts_with(['$', '{']) && !kind.is_known_default(text))
}

fn choose(
    kind: SecretKind,
    evidence: &Evidence<'_>,
    fernet: Option<&Decision>,
    warnings: &mut Vec<String>,
) -> Result<Decision, Error> {
    let path = evidence.key_dir.join(kind.file_name());
    let stored = (evidence.stored)(kind);
    let values = values(kind, evidence, warnings)?;
    match (values.first(), left_to_airflow(kind, evidence)) {
        // A plain variable hides a `_CMD` from Airflow, so none may be made of an alias.
        (first, Some(source)) if first.is_none_or(|value| value.alias) => return leave(kind, source, evidence),
        (Some(first), _) => {
            let (secret, source) = (parse(kind, first.text, &first.source)?, first.source.clone());
            warn_of_others(kind, &secret, &values, warnings);
            return Ok(Decision::Use { secret: beside_stored(secret, &source, stored, &path, warnings), source });
        }
        (None, _) => {}
    }
    match stored {
        Stored::Present { content: Ok(secret), .. } => return Ok(Decision::Use { secret, source: Source::File(path) }),
        Stored::Present { content: Err(problem), facts, .. } => {
            return Err(Error::DamagedSecret { kind, path, problem, facts });
        }
        Stored::Unreadable(cause) => return Err(Error::Unreadable { what: kind.to_string(), path, cause }),
        Stored::Absent => {}
    }
    if let Some((text, source)) = configured(kind, evidence) {
        let secret = parse(kind, &text, &source)?;
        return Ok(Decision::Use { secret, source });
    }
    let derivable = kind != SecretKind::Fernet && fernet.and_then(Decision::known).is_some();
    match evidence.creation {
        Creation::Allowed => Ok(Decision::Generate(path)),
        Creation::Later => Ok(Decision::Without),
        _ if derivable => Ok(Decision::Derive),
        Creation::UseOnly => Ok(Decision::Without),
        // Airflow makes up a web secret per process; that works until a second process has to agree.
        Creation::Refused(why) if kind == SecretKind::Web => Ok(Decision::WithoutPlace(why.clone())),
        Creation::Refused(why) => {
            Err(Error::NoPlaceForSecret { kind, dir: evidence.key_dir.to_owned(), why: why.clone() })
        }
    }
}

/// A value that Airflow fetches itself. A command's output is looked at all the same: what is wrong with it would show much later.
fn leave(kind: SecretKind, source: Source, evidence: &Evidence<'_>) -> Result<Decision, Error> {
    let printed = match &source {
        Source::Variable(variable) => (evidence.command)(variable).map(|printed| (variable, printed)),
        _ => None,
    };
    let secret = match printed {
        None => None,
        Some((_, Ok(text))) => Some(Secret::parse(kind, &text).map_err(|problem| Error::InvalidSecret {
            kind,
            source_of_it: source.clone(),
            problem,
        })?),
        Some((variable, Err(cause))) => {
            return Err(Error::SecretCommand { kind, variable: variable.clone(), cause });
        }
    };
    Ok(Decision::Leave { source, secret })
}

/// A variable that is set and not empty.
struct Value<'a> {
    source: Source,
    text: &'a str,
    /// Ours, not Airflow's own.
    alias: bool,
}

/// The values in the environment: Airflow's own variable, its names on other lines, then the aliases.
fn values<'a>(kind: SecretKind, evidence: &Evidence<'a>, warnings: &mut Vec<String>) -> Result<Vec<Value<'a>>, Error> {
    let airflow = kind.option(evidence.version).into_iter().flat_map(AirflowOption::with_other_names);
    let names = airflow
        .map(|option| (option.variable(), false))
        .chain(kind.aliases().iter().map(|&alias| (alias.to_owned(), true)));
    let mut values = Vec::new();
    for (name, alias) in names {
        let Some(text) = evidence.environment.text(&name)? else { continue };
        let source = evidence.environment.source(&name);
        if kind.is_known_default(text) {
            warnings.push(format!("{source} holds a published default, which protects nothing; it is not used"));
        } else {
            values.push(Value { source, text, alias });
        }
    }
    Ok(values)
}

/// A variable that nobody reads is worth a word, but no reason to stop.
fn warn_of_others(kind: SecretKind, secret: &Secret, values: &[Value<'_>], warnings: &mut Vec<String>) {
    let Some((used, others)) = values.split_first() else { return };
    for other in others {
        let (used, ignored) = (&used.source, &other.source);
        match Secret::parse(kind, other.text.as_bytes()) {
            Ok(second) if second == *secret => {}
            Ok(second) => warnings.push(format!(
                "{used} (fingerprint {secret}) and {ignored} (fingerprint {second}) hold different values; {used} is used"
            )),
            Err(_) => warnings.push(format!("{ignored} does not hold a {kind}; {used} is used")),
        }
    }
}

/// Whether Airflow is told to fetch the value itself (`..._CMD`, `..._SECRET`). To export one would hide that from it.
fn left_to_airflow(kind: SecretKind, evidence: &Evidence<'_>) -> Option<Source> {
    kind.option(evidence.version)?.left_to_airflow(evidence.environment, evidence.configured)
}

fn parse(kind: SecretKind, text: &str, source: &Source) -> Result<Secret, Error> {
    Secret::parse(kind, text.as_bytes()).map_err(|problem| Error::InvalidSecret {
        kind,
        source_of_it: source.clone(),
        problem,
    })
}

/// A given Fernet key that is not on the volume: what the volume's key encrypted must stay readable, so both go to Airflow,
/// the given one first.
fn beside_stored(secret: Secret, source: &Source, stored: Stored, path: &Path, warnings: &mut Vec<String>) -> Secret {
    match (&secret, stored) {
        (Secret::Fernet(given), Stored::Present { content: Ok(Secret::Fernet(kept)), .. }) if !given.hold(&kept) => {
            warnings.push(format!(
                "{source} (fingerprint {}) and `{}` (fingerprint {}) hold different Fernet keys; both are handed to Airflow, {source} first",
                given.fingerprints(),
                path.display(),
                kept.fingerprints(),
            ));
            Secret::Fernet(given.followed_by(&kept))
        }
        (Secret::Fernet(_), Stored::Present { content: Err(problem), .. }) => {
            warnings.push(format!("{source} is used; `{}` could not be: {problem}", path.display()));
            secret
        }
        (Secret::Fernet(_), Stored::Unreadable(problem)) => {
            warnings.push(format!("{source} is used; `{}` could not be: {problem}", path.display()));
            secret
        }
        _ => secret,
    }
}

/// A word on the key files that others than owner and group may read or write. Those of `/run/secrets` have the mode that their mount
/// gives them, and nobody but this container sees them.
pub(crate) fn open_to_everybody(
    kinds: impl Iterator<Item = SecretKind>,
    stored: &dyn Fn(SecretKind) -> Stored,
    key_dir: &Path,
) -> Option<String> {
    let open = kinds.filter_map(|kind| match stored(kind) {
        Stored::Present { mode, .. } if mode & 0o006 != 0 => Some((key_dir.join(kind.file_name()), mode)),
        _ => None,
    });
    let open: Vec<_> = open.filter(|(path, _)| !path.starts_with("/run/secrets")).collect();
    let named: Vec<_> =
        open.iter().map(|(path, bits)| format!("`{}` (mode {})", path.display(), mode(*bits))).collect();
    let paths: Vec<_> = open.iter().map(|(path, _)| path.display().to_string()).collect();
    let (named, paths) = (named.join(", "), paths.join(" "));
    (!open.is_empty()).then(|| format!("everybody can get at {named}; `chmod o= {paths}` keeps it to owner and group"))
}

/// What is known of a key file, for a message about it.
pub(crate) fn facts(size: u64, uid: u32, gid: u32, permissions: u32, modified: &str) -> String {
    format!("{size} bytes, owner {uid}:{gid}, mode {}, modified {modified}", mode(permissions))
}

#[cfg(test)]
#[path = "secrets_tests.rs"]
mod tests;
