//! Encrypted values that no key reads, to be forgotten: whether they may be, what they are, and what is to be set anew.

use crate::error::rotation::RotationError;
use crate::fernet_keys::FernetKeys;
use crate::verdict::Holder;
use crate::verdict::registration::Entry;

/// How far it may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::Args)]
pub(crate) struct Forgetting {
    /// Where the keys read nothing at all, or others have registered one that is not here, too
    #[arg(long)]
    pub all: bool,
    /// Without being asked
    #[arg(long)]
    pub yes: bool,
}

/// What the keys of a list do not read, and how many values they do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Unreadable {
    pub rows: Vec<Row>,
    pub read: u64,
}

/// A row with values that no key reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    pub holder: Holder,
    pub table: &'static str,
    pub id: String,
    pub name: String,
    pub values: Vec<Value>,
}

/// One of its values: what is forgotten later is this one, and none that was put in its place meanwhile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Value {
    /// The number of its column among those of the table that may be encrypted.
    pub index: usize,
    pub column: &'static str,
    pub shape: Shape,
    /// The hash of its text, which is not kept.
    pub print: [u8; 32],
}

/// What it looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// It is marked as encrypted, and is plain text perhaps, which somebody may want to copy.
    Other,
    Token,
}

impl Shape {
    /// Of a text. Every token begins like this (its version, and a time before the year 4147), perhaps behind a quote or a blank.
    pub(crate) fn of(text: &str) -> Self {
        if text.contains("gAAAAA") { Self::Token } else { Self::Other }
    }
}

impl Unreadable {
    /// How many values they are.
    pub(crate) fn values(&self) -> u64 {
        self.rows.iter().map(|row| row.values.len() as u64).sum()
    }

    /// Why they are not forgotten: another key may well read them. A wrong one reads nothing, and where somebody has registered a key that is
    /// not here, that one may read what ours do not.
    pub(crate) fn stops(&self, keys: &FernetKeys, registered: Option<Entry>) -> Result<(), RotationError> {
        let (ours, values) = (keys.fingerprints(), self.values());
        if values == 0 {
            return Ok(());
        }
        if self.read == 0 {
            return Err(RotationError::ReadsNothing { keys: ours, values });
        }
        let Some(entry) = registered else { return Ok(()) };
        let missing = entry.fingerprint.split(',').find(|print| !ours.split(',').any(|our| our == *print));
        match missing.map(str::to_owned) {
            Some(print) => {
                let who = format!("`{}` ({})", entry.host, entry.role);
                Err(RotationError::KeyElsewhere { who, print, keys: ours })
            }
            None => Ok(()),
        }
    }

    /// Each row with its table and its columns, a line each.
    pub(crate) fn listing(&self) -> String {
        let line = |row: &Row| {
            let column = |value: &Value| match value.shape {
                Shape::Other => format!("{} (no Fernet token)", value.column),
                Shape::Token => value.column.to_owned(),
            };
            let columns: Vec<_> = row.values.iter().map(column).collect();
            format!("{} {}: {}\n", row.table, quoted(&row.name), columns.join(", "))
        };
        self.rows.iter().map(line).collect()
    }

    /// What is to be done once they are forgotten, a line for each kind, with all names.
    pub(crate) fn consequences(&self) -> Vec<String> {
        let all = [
            ("connections that need a new password", Holder::Connection, Some("password")),
            ("connections that need a new extra", Holder::Connection, Some("extra")),
            ("variables to set anew", Holder::Variable, None),
            ("triggers whose tasks fail", Holder::Trigger, None),
            ("connection tests to repeat", Holder::ConnectionTest, None),
        ];
        let line = |(what, holder, column): (&str, Holder, Option<&str>)| {
            let concerned = |row: &&Row| {
                row.holder == holder
                    && column.is_none_or(|column| row.values.iter().any(|value| value.column == column))
            };
            let names: Vec<_> = self.rows.iter().filter(concerned).map(|row| quoted(&row.name)).collect();
            (!names.is_empty()).then(|| format!("{what}: {}", names.join(", ")))
        };
        all.into_iter().filter_map(line).collect()
    }
}

/// Names are anybody's: no line end of theirs is one of ours.
fn quoted(name: &str) -> String {
    format!("`{}`", name.escape_debug())
}

#[cfg(test)]
#[path = "forgetting_tests.rs"]
mod tests;
