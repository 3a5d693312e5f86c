//! What a seed changes in a database that holds something already: which rows, which columns, by which statements.

use std::fmt::{self, Display, Formatter};

use zeroize::Zeroizing;

use super::node::Node;
use super::{Cell, Kind, Row, Same};
use crate::metadb::Dialect;

/// The columns of a table, each with the longest text that it takes.
pub(crate) struct Columns(pub Vec<(String, Option<usize>)>);

impl Columns {
    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(column, _)| column == name)
    }

    fn longest(&self, name: &str) -> Option<usize> {
        self.0.iter().find(|(column, _)| column == name).and_then(|(_, longest)| *longest)
    }
}

/// What a column holds now.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Held {
    /// Of a number or a switch, its text in the database's words.
    Text(Option<Zeroizing<String>>),
    /// Encrypted by a key that we do not have.
    Unreadable,
}

/// A value for a statement.
pub(crate) enum Value {
    Number(i64),
    Switch(bool),
    Text(Zeroizing<String>),
}

/// A statement and its values, one for each `?`.
pub(crate) struct Statement {
    pub sql: String,
    pub values: Vec<Value>,
}

/// What becomes of one row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Added,
    Changed,
    Kept,
    /// Changed, and nobody can read any more what it was.
    Replaced,
}

/// What was done, for the log.
#[derive(Default)]
pub(crate) struct Sown(pub Vec<(Kind, Fate, String)>);

impl Row {
    fn named(&self) -> Value {
        Value::Text(Zeroizing::new(self.name.clone()))
    }

    /// The cells that this database has columns for, or what it lacks. What says nothing of consequence is left out.
    pub(crate) fn fitting(&self, columns: &Columns) -> Result<Vec<&(&'static str, Cell)>, String> {
        let mut fitting = Vec::with_capacity(self.cells.len());
        for cell in &self.cells {
            match cell {
                (column, _) if columns.has(column) => fitting.push(cell),
                ("description", _) | (_, Cell::Null | Cell::Switch(false)) => {}
                (column, _) => return Err(format!("{self}: this Airflow has no `{column}`")),
            }
        }
        Ok(fitting)
    }

    /// The cells of a row that is not there yet.
    pub(crate) fn insertion(
        &self,
        cells: &[&(&'static str, Cell)],
        columns: &Columns,
        dialect: Dialect,
        encrypted: &dyn Fn(&str) -> Zeroizing<String>,
    ) -> Statement {
        let mut values = vec![(self.kind.key(), self.named())];
        let cells_written = cells.iter().flat_map(|(column, cell)| written(column, cell, encrypted));
        values.extend(cells_written.filter_map(|(column, value)| Some((column, value?))));
        let deferred = "include_deferred";
        if columns.has(deferred) && !cells.iter().any(|(column, _)| *column == deferred) {
            values.push((deferred, Value::Switch(false)));
        }
        let names: Vec<_> = values.iter().map(|(column, _)| quoted(dialect, column)).collect();
        let sql = format!(
            "INSERT INTO {} ({}) VALUES ({})",
            quoted(dialect, self.kind.table()),
            names.join(", "),
            marks(values.len())
        );
        Statement { sql, values: values.into_iter().map(|(_, value)| value).collect() }
    }

    /// The change of a row that is there.
    pub(crate) fn update(
        &self,
        cells: &[&(&'static str, Cell)],
        dialect: Dialect,
        encrypted: &dyn Fn(&str) -> Zeroizing<String>,
    ) -> Statement {
        let (mut settings, mut values) = (Vec::new(), Vec::new());
        for (column, value) in cells.iter().flat_map(|(column, cell)| written(column, cell, encrypted)) {
            settings.push(format!("{} = {}", quoted(dialect, column), if value.is_some() { "?" } else { "NULL" }));
            values.extend(value);
        }
        values.push(self.named());
        let (table, key) = (quoted(dialect, self.kind.table()), quoted(dialect, self.kind.key()));
        Statement { sql: format!("UPDATE {table} SET {} WHERE {key} = ?", settings.join(", ")), values }
    }

    /// What a column cannot hold. A database that is lenient would cut it off, and one that is not would not say of which row it is.
    pub(crate) fn too_long(
        &self,
        cells: &[&(&'static str, Cell)],
        columns: &Columns,
        encrypted: &dyn Fn(&str) -> Zeroizing<String>,
    ) -> Option<String> {
        let named = [(self.kind.key(), Some(self.named()))];
        let values = cells.iter().flat_map(|(column, cell)| written(column, cell, encrypted));
        named.into_iter().chain(values).find_map(|(column, value)| {
            let (Some(Value::Text(text)), Some(longest)) = (value, columns.longest(column)) else { return None };
            // A TEXT of MySQL's is counted in bytes.
            let length = if longest >= usize::from(u16::MAX) { text.len() } else { text.chars().count() };
            let encrypted = if cells.iter().any(|(name, cell)| *name == column && matches!(cell, Cell::Secret { .. })) {
                " when it is encrypted"
            } else {
                ""
            };
            (length > longest).then(|| {
                format!("{self}: `{column}` is {length} characters long{encrypted}, and the database takes {longest}")
            })
        })
    }
}

/// A cell as columns, a null one without a value: one that is encrypted has a second column that says so.
fn written(
    column: &'static str,
    cell: &Cell,
    encrypted: &dyn Fn(&str) -> Zeroizing<String>,
) -> Vec<(&'static str, Option<Value>)> {
    match cell {
        Cell::Null => vec![(column, None)],
        Cell::Number(number) => vec![(column, Some(Value::Number(*number)))],
        Cell::Switch(switch) => vec![(column, Some(Value::Switch(*switch)))],
        Cell::Text(text) => vec![(column, Some(Value::Text(text.clone())))],
        Cell::Secret { text: None, flag, .. } => vec![(column, None), (flag, Some(Value::Switch(false)))],
        Cell::Secret { text: Some(text), flag, .. } => {
            vec![(column, Some(Value::Text(encrypted(text)))), (flag, Some(Value::Switch(true)))]
        }
    }
}

/// Whether a column holds something else than it should. To Airflow an empty text is the same as none; JSON may be laid out in
/// another way.
pub(crate) fn differs(cell: &Cell, held: &Held) -> bool {
    let Held::Text(held) = held else { return true };
    let held = held.as_ref().map(|held| held.as_str());
    match cell {
        Cell::Null => held.is_some_and(|held| !held.is_empty()),
        Cell::Number(number) => held != Some(number.to_string().as_str()),
        Cell::Switch(switch) => held.is_some_and(is_true) != *switch,
        Cell::Text(text) => held.unwrap_or_default() != text.as_str(),
        Cell::Secret { text: None, .. } => held.is_some_and(|held| !held.is_empty()),
        Cell::Secret { text: Some(text), same, .. } => {
            held != Some(text.as_str()) && !(*same == Same::AsJson && held.is_some_and(|held| is_same_json(held, text)))
        }
    }
}

fn is_same_json(one: &str, other: &str) -> bool {
    let parsed = |text| {
        // In a `Value` two long integers may be one float.
        serde_json::from_str::<Node>(text).ok().and_then(|_| serde_json::from_str::<serde_json::Value>(text).ok())
    };
    parsed(one).is_some_and(|one| Some(one) == parsed(other))
}

/// A switch as text: PostgreSQL has words for it, the others numbers.
pub(crate) fn is_true(text: &str) -> bool {
    matches!(text, "1" | "t" | "true")
}

/// The query for these columns of the rows of these many names, all as text.
pub(crate) fn query(kind: Kind, columns: &[&str], names: usize, dialect: Dialect) -> String {
    let selected: Vec<_> = columns.iter().map(|column| as_text(dialect, &quoted(dialect, column))).collect();
    let (table, key) = (quoted(dialect, kind.table()), quoted(dialect, kind.key()));
    format!("SELECT {} FROM {table} WHERE {key} IN ({})", selected.join(", "), marks(names))
}

/// An expression as text that our driver takes in every dialect.
pub(crate) fn as_text(dialect: Dialect, expression: &str) -> String {
    match dialect {
        Dialect::MySql => format!("CONVERT({expression} USING utf8mb4)"),
        Dialect::Postgres | Dialect::Sqlite => format!("CAST({expression} AS TEXT)"),
    }
}

fn marks(count: usize) -> String {
    vec!["?"; count].join(", ")
}

fn quoted(dialect: Dialect, name: &str) -> String {
    match dialect {
        Dialect::MySql => format!("`{name}`"),
        Dialect::Postgres | Dialect::Sqlite => format!("\"{name}\""),
    }
}

/// What the log says of what was written.
const WORDS: [(Fate, &str); 3] =
    [(Fate::Added, "added"), (Fate::Changed, "changed"), (Fate::Replaced, "not readable by our keys and replaced")];

/// How many names the log shows of one kind and fate.
const SHOWN: usize = 20;

impl Display for Sown {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("seeded: ")?;
        let mut first = true;
        for kind in Kind::ALL {
            let names = |fate: Fate| self.0.iter().filter(move |row| row.0 == kind && row.1 == fate).map(|row| &row.2);
            let mut parts = Vec::new();
            for (fate, word) in WORDS {
                let count = names(fate).count();
                let shown: Vec<_> = names(fate).take(SHOWN).map(|name| format!("`{name}`")).collect();
                let more = if count > SHOWN { ", ..." } else { "" };
                parts.extend((count > 0).then(|| format!("{count} {word} ({}{more})", shown.join(", "))));
            }
            let kept = names(Fate::Kept).count();
            parts.extend((kept > 0).then(|| format!("{kept} as before")));
            if !parts.is_empty() {
                write!(f, "{}{}: {}", if first { "" } else { "; " }, kind.plural(), parts.join(", "))?;
                first = false;
            }
        }
        if first { f.write_str("nothing") } else { Ok(()) }
    }
}

#[cfg(test)]
#[path = "changes_tests.rs"]
mod tests;
