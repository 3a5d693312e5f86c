//! Whether the secrets fit the database: what is encrypted there and the keys that we hold, judged. The rows are read, and the
//! fingerprints registered, by `system/verdict` and `system/registry`.

pub(crate) mod registration;

use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};

use crate::commands::Class;
use crate::error::verdict::VerdictError;
use crate::fernet_keys::FernetKeys;
use crate::metadb::Metadb;
use crate::mounts::Persistence;
use crate::secret::SecretKind;
use crate::secrets::Decision;
use crate::settings::values::SecretsCheck;
use crate::source::Source;
use crate::steps::SecretStep;

/// How many names of each kind a message has.
const NAMES: usize = 5;

/// The judging of the secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct VerdictStep {
    pub strictness: Strictness,
    /// The secrets whose fingerprints all containers on the database must agree on.
    pub registered: Vec<SecretKind>,
    /// Those of them that follow from the Fernet key.
    pub derived: Vec<SecretKind>,
    /// What we register ourselves as.
    pub role: String,
    /// How the database is asked before a Fernet key is made, and by our verb `key`.
    pub metadb: Metadb,
}

/// What becomes of secrets that do not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Strictness {
    /// The start ends.
    Ends,
    /// Nobody looks.
    Off,
    /// A command that ends soon goes on with a warning; all else is left unsaid.
    Remarks,
    /// A service goes on with a warning.
    Warns,
}

impl VerdictStep {
    pub(crate) fn new(
        check: SecretsCheck,
        class: Class,
        role: String,
        secrets: &[SecretStep],
        kept: &Persistence,
        metadb: Metadb,
    ) -> Self {
        let strictness = match (class, check) {
            (_, SecretsCheck::Off) => Strictness::Off,
            (Class::Database, _) => Strictness::Remarks,
            (Class::Other | Class::Plain | Class::Task, _) => Strictness::Off,
            (Class::Key | Class::Seed | Class::Service | Class::Setup, SecretsCheck::Stop) => Strictness::Ends,
            (Class::Key | Class::Seed | Class::Service | Class::Setup, SecretsCheck::Warn) => Strictness::Warns,
        };
        let registers = matches!(strictness, Strictness::Ends | Strictness::Warns);
        let registered = secrets.iter().filter(|step| registers && lasts(&step.decision, kept));
        let derived = secrets.iter().filter(|step| step.decision == Decision::Derive);
        Self {
            strictness,
            registered: registered.map(|step| step.kind).collect(),
            derived: derived.map(|step| step.kind).collect(),
            role,
            metadb,
        }
    }

    /// Why it is taken or not.
    pub(crate) fn why(&self) -> &'static str {
        match self.strictness {
            Strictness::Ends => "a wrong secret would show much later, without its cause",
            Strictness::Off => {
                "only a service, `setup` or a command that uses the database asks, and `ENTRYPOINT_CHECK_SECRETS` may say no"
            }
            Strictness::Remarks => "it is no service: what does not fit is a warning",
            Strictness::Warns => "`ENTRYPOINT_CHECK_SECRETS` makes a warning of what does not fit",
        }
    }
}

/// Whether a secret is the same at the next start. One that vanishes with the container has nobody to agree with.
fn lasts(decision: &Decision, kept: &Persistence) -> bool {
    match decision {
        Decision::Generate(_) => *kept == Persistence::Persistent,
        Decision::Use { source: Source::File(path), .. } => {
            *kept == Persistence::Persistent || !SecretKind::ALL.iter().any(|kind| path.ends_with(kind.file_name()))
        }
        Decision::Derive | Decision::Leave { .. } | Decision::Use { .. } => true,
        Decision::Without | Decision::WithoutPlace(_) => false,
    }
}

impl Display for VerdictStep {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.strictness {
            Strictness::Off => f.write_str("do not judge the secrets against the database"),
            Strictness::Ends | Strictness::Remarks | Strictness::Warns => {
                f.write_str("judge the secrets against the database")
            }
        }
    }
}

/// Whose an encrypted value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Holder {
    Connection,
    ConnectionTest,
    Trigger,
    Variable,
}

impl Holder {
    /// For one or several.
    fn word(self, several: bool) -> &'static str {
        match (self, several) {
            (Self::Connection, false) => "connection",
            (Self::Connection, true) => "connections",
            (Self::ConnectionTest, false) => "connection test",
            (Self::ConnectionTest, true) => "connection tests",
            (Self::Trigger, false) => "trigger",
            (Self::Trigger, true) => "triggers",
            (Self::Variable, false) => "variable",
            (Self::Variable, true) => "variables",
        }
    }
}

/// The encrypted values, counted. It does not grow with them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub values: u64,
    pub unread: u64,
    unread_of: BTreeMap<Holder, Names>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Names {
    first: Vec<String>,
    more: u64,
}

impl Tally {
    /// Counts a row with this many encrypted values, so many of them unread.
    pub(crate) fn count(&mut self, holder: Holder, name: Option<&str>, values: u64, unread: u64) {
        self.values += values;
        self.unread += unread;
        if unread > 0 {
            let names = self.unread_of.entry(holder).or_default();
            match names.first.len() {
                NAMES.. => names.more += 1,
                // Names are anybody's: no line end of theirs is one of ours.
                _ => names.first.push(format!("`{}`", name.unwrap_or_default().escape_debug())),
            }
        }
    }

    /// What cannot be read: by name, the first few of each kind.
    pub(crate) fn unread_names(&self) -> String {
        let kinds = self.unread_of.iter().map(|(holder, names)| {
            let several = names.first.len() > 1;
            let more = if names.more > 0 { format!(" and {} more", names.more) } else { String::new() };
            format!("{} {}{more}", holder.word(several), names.first.join(", "))
        });
        kinds.collect::<Vec<_>>().join("; ")
    }
}

/// What Airflow encrypts with.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Held<'a> {
    Keys(&'a FernetKeys),
    Nothing,
    /// Airflow gets it from there, and we do not.
    Unknown(&'a Source),
}

/// What comes of it.
#[derive(Debug)]
#[must_use]
pub(crate) enum Verdict {
    /// None is wanted.
    NothingEncrypted,
    /// The key reads everything.
    Fits(String),
    /// What is known.
    Unknown(String),
    /// It reads some of it.
    Partly(String),
    /// It reads nothing of it.
    Misfit(VerdictError),
}

/// Judges the key by what it reads in the database of this source.
pub(crate) fn judge(held: Held<'_>, tally: &Tally, database: &Source) -> Verdict {
    let (values, unread) = (tally.values, tally.unread);
    if values == 0 {
        return Verdict::NothingEncrypted;
    }
    let keys = match held {
        Held::Keys(keys) => keys.fingerprints(),
        Held::Nothing => return Verdict::Misfit(VerdictError::NoKey { values, database: database.clone() }),
        Held::Unknown(source) => {
            return Verdict::Unknown(format!(
                "the database holds {}; whether the Fernet key reads them is not known here, since it is left to Airflow by {source}",
                encrypted(values)
            ));
        }
    };
    let (subject, verb) = match keys.contains(',') {
        true => (format!("the Fernet keys `{keys}`"), "read"),
        false => (format!("the Fernet key `{keys}`"), "reads"),
    };
    match unread {
        0 if values == 1 => Verdict::Fits(format!("{subject} {verb} the one encrypted value in the database")),
        0 => Verdict::Fits(format!("{subject} {verb} all {values} encrypted values in the database")),
        _ if unread == values => Verdict::Misfit(VerdictError::Misfit {
            keys,
            values,
            names: tally.unread_names(),
            database: database.clone(),
        }),
        _ => Verdict::Partly(format!(
            "{subject} {verb} {} of {values} encrypted values in the database; the others have another key: {}",
            values - unread,
            tally.unread_names()
        )),
    }
}

/// A number of encrypted values.
pub(crate) fn encrypted(values: u64) -> String {
    if values == 1 { "1 encrypted value".to_owned() } else { format!("{values} encrypted values") }
}

#[cfg(test)]
#[path = "verdict_tests.rs"]
mod tests;
