//! What the schema in the database is to the installed Airflow: its head, older, newer. Decided without Python, from the installed
//! migrations (Alembic's files) and what the database says of itself.

use std::collections::BTreeSet;
use std::fmt::{self, Display, Formatter};
use std::path::{Path, PathBuf};

use crate::airflow_version::{Installed, Line};

/// Alembic's table for Airflow's own migrations (`airflow/migrations/env.py`).
pub(crate) const CORE: &str = "alembic_version";
/// The same for those of the FAB provider on Airflow 3 (`version_table_name` in its `auth_manager/models/db.py`). On 2.x its tables
/// belong to Airflow's own migrations, and its folder of migrations holds one that is never applied.
pub(crate) const FAB: &str = "alembic_version_fab";

/// The folder of migrations in a package.
pub(crate) const VERSIONS: &str = "migrations/versions";

/// Where the migrations of the installed Airflow are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Migrations {
    pub line: Line,
    pub core: PathBuf,
    /// Those of the FAB provider, which need not be installed.
    pub fab: Option<PathBuf>,
    /// Whether this Airflow cannot do without the provider's tables.
    pub needs_fab: FabTables,
}

/// Whether the tables of the FAB provider must be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FabTables {
    /// Only what is there is compared: `db migrate` makes them since 3.3 wherever the provider is installed, and nothing looks at them.
    MayBeMissing,
    /// The accounts are in them.
    Needed,
}

impl Migrations {
    /// Those of an Airflow whose sources are there.
    pub(crate) fn of(installed: &Installed, line: Line, needs_fab: FabTables) -> Option<Self> {
        let package = installed.package.as_deref()?;
        let fab = (line == Line::V3).then(|| package.join("providers/fab").join(VERSIONS));
        Some(Self { line, core: package.join(VERSIONS), fab, needs_fab })
    }
}

/// The migrations of one table, as their files tell of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct History {
    revisions: BTreeSet<String>,
    heads: BTreeSet<String>,
}

impl History {
    /// Reads the files' texts; none without a single migration. A head is what no other one goes on from.
    pub(crate) fn read<'t>(texts: impl IntoIterator<Item = &'t str>) -> Option<Self> {
        let (mut revisions, mut gone_on_from) = (BTreeSet::new(), BTreeSet::new());
        for text in texts {
            let Some(revision) = assigned(text, "revision").and_then(|value| strings(value).next()) else { continue };
            revisions.insert(revision.to_owned());
            gone_on_from.extend(assigned(text, "down_revision").into_iter().flat_map(strings).map(str::to_owned));
        }
        let heads: BTreeSet<String> = revisions.difference(&gone_on_from).cloned().collect();
        (!heads.is_empty()).then_some(Self { revisions, heads })
    }
}

/// What stands behind `name =` or `name: type =` at the start of a line: the rest of it, or all between brackets.
fn assigned<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    let starts = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1));
    starts.map(|at| &text[at..]).find_map(|rest| {
        let line = rest.lines().next()?;
        let behind = line.strip_prefix(name)?;
        behind.starts_with([' ', '\t', ':', '=']).then_some(())?;
        let value = &rest[line.find('=')? + 1..];
        let end = if value.trim_start().starts_with(['(', '[']) { [')', ']'].as_slice() } else { &['\n', '#'] };
        Some(&value[..value.find(end).unwrap_or(value.len())])
    })
}

/// The string literals in a piece of Python, none of which has a quote or a backslash in it.
fn strings(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let start = rest.find(['"', '\''])?;
        let quote = rest[start..].chars().next()?;
        let (string, behind) = rest[start + 1..].split_once(quote)?;
        rest = behind;
        Some(string)
    })
}

/// What the installed Airflow expects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Expected {
    pub line: Line,
    pub core: History,
    pub fab: Option<History>,
    pub needs_fab: FabTables,
}

/// What the database says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stored {
    /// The rows of [`CORE`]; empty without the table.
    pub core: BTreeSet<String>,
    /// The rows of [`FAB`], if the table is there.
    pub fab: Option<BTreeSet<String>>,
    /// Whether the pool `default_pool` is there, which a migration makes last and nobody can remove.
    pub default_pool: Presence,
    /// Whether there is a table that only Airflow 1.10 and 2.x have.
    pub table_before_3: Presence,
}

/// Whether something is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Presence {
    #[default]
    Absent,
    There,
}

/// What follows.
#[must_use]
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum State {
    AtHead(Revisions),
    /// Not made yet, older, or left half-way: to be migrated.
    Pending(Pending),
    /// Of an Airflow that this one does not know: nothing that we could do would be right.
    Foreign(Foreign),
}

/// What has to be migrated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pending {
    pub start: Start,
    pub expected: Revisions,
}

/// Where a migration starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Start {
    Empty,
    /// All migrations are applied, and what comes behind them is not.
    Unfinished,
    Revisions(Revisions),
    /// The tables of the FAB provider are missing.
    WithoutFab,
}

/// A schema of another Airflow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Foreign {
    pub found: Revisions,
    pub expected: Revisions,
    pub why: Why,
}

/// Whose it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    /// Of one before 2.6.2, with whose head the migrations of Airflow 3 begin (`0000_2_6_2_squashed_migrations.py`).
    BeforeSquash,
    /// Most likely of a newer one.
    Unknown,
    /// The same, of the FAB provider.
    UnknownFab,
}

/// Revisions, those of Airflow's own before the provider's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Revisions(Vec<String>);

impl Expected {
    /// The heads that the database should be at.
    fn heads(&self, stored: &Stored) -> Revisions {
        let fab = self.fab.iter().filter(|_| stored.fab.is_some() || self.needs_fab == FabTables::Needed);
        Revisions(self.core.heads.iter().chain(fab.flat_map(|fab| &fab.heads)).cloned().collect())
    }
}

/// Judges a database.
pub(crate) fn judge(expected: &Expected, stored: &Stored) -> State {
    let heads = expected.heads(stored);
    let foreign = |found: &BTreeSet<String>, history: &History, why| {
        State::Foreign(Foreign { found: Revisions::of(found), expected: Revisions::of(&history.heads), why })
    };
    let pending = |start| State::Pending(Pending { start, expected: heads.clone() });
    if !stored.core.is_subset(&expected.core.revisions) {
        let is_old = expected.line == Line::V3 && stored.table_before_3 == Presence::There;
        return foreign(&stored.core, &expected.core, if is_old { Why::BeforeSquash } else { Why::Unknown });
    }
    let fab = expected.fab.as_ref().zip(stored.fab.as_ref());
    if let Some((known, found)) = fab.filter(|(known, found)| !found.is_subset(&known.revisions)) {
        return foreign(found, known, Why::UnknownFab);
    }
    if stored.core.is_empty() {
        return pending(Start::Empty);
    }
    let found = stored.core.iter().chain(fab.into_iter().flat_map(|(_, found)| found));
    let found = Revisions(found.cloned().collect());
    if found != heads {
        let without = stored.core == expected.core.heads && stored.fab.is_none();
        return pending(if without { Start::WithoutFab } else { Start::Revisions(found) });
    }
    // 1.10 makes it since 1.10.4.
    if stored.default_pool == Presence::Absent && expected.line != Line::V1 {
        return pending(Start::Unfinished);
    }
    State::AtHead(heads)
}

impl Revisions {
    fn of(all: &BTreeSet<String>) -> Self {
        Self(all.iter().cloned().collect())
    }
}

impl Display for Revisions {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for (index, revision) in self.0.iter().enumerate() {
            let between = match index {
                0 => "",
                _ if index + 1 == self.0.len() => " and ",
                _ => ", ",
            };
            write!(f, "{between}`{revision}`")?;
        }
        Ok(())
    }
}

impl Display for Start {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => write!(f, "the database has no schema"),
            Self::Unfinished => write!(f, "the last migration was not finished"),
            Self::Revisions(found) => write!(f, "the schema is at {found}"),
            Self::WithoutFab => write!(f, "the schema is without the tables of the FAB provider"),
        }
    }
}

impl Display for Pending {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}, and this Airflow's head is {}", self.start, self.expected)
    }
}

impl Display for State {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtHead(heads) => write!(f, "the schema is at its head {heads}"),
            Self::Pending(pending) => pending.fmt(f),
            Self::Foreign(foreign) => foreign.fmt(f),
        }
    }
}

impl Display for Foreign {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { found, expected, .. } = self;
        write!(f, "the schema is at {found}, which this Airflow does not know (its head is {expected})")
    }
}

/// The files of a folder of migrations that may hold one.
pub(crate) fn is_migration(file: &Path) -> bool {
    file.extension().is_some_and(|extension| extension == "py")
}

#[cfg(test)]
#[path = "schema_tests.rs"]
mod tests;
