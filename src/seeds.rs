//! First-boot data: the connections, variables and pools of a deployment, from files of our own form or as Airflow exports them.
//!
//! Decides only. Files are read and rows written by `system/seeds`. No message has a value in it, nor has any `Debug`.

pub(crate) mod changes;
mod connections;
pub(crate) mod error;
mod formats;
mod node;
mod pools;
mod shapes;
mod uri;
mod values;
mod variables;

use std::fmt::{self, Display, Formatter};
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use zeroize::Zeroizing;

pub(crate) use self::formats::is_seed;
use crate::airflow_version::Line;
use crate::cli::Job;
use crate::metadb::Metadb;
use crate::secrets::Decision;
use crate::seeds::error::SeedError;
use crate::seeds::shapes::Shape;
use crate::settings::Settings;
use crate::steps::{MigrateStep, SecretStep};

/// What to seed, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SeedStep {
    /// Files, or folders of files.
    pub sources: Vec<PathBuf>,
    pub mode: SeedMode,
    /// Whose URIs and columns count.
    pub line: Line,
}

/// What becomes of what is there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum SeedMode {
    /// It stays as it is.
    Add,
    /// It becomes what the seed says. What the seed does not name stays.
    Sync,
}

impl SeedMode {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        match text.trim().to_ascii_lowercase().as_str() {
            "add" => Some(Self::Add),
            "sync" => Some(Self::Sync),
            _ => None,
        }
    }
}

impl SeedStep {
    /// The step of the verb, and of what migrates where the settings name files; an error where database or key are not ours to ask.
    pub(crate) fn decide(
        job: &Job,
        settings: &Settings,
        migrate: &MigrateStep,
        line: Line,
        metadb: &Metadb,
        fernet: Option<&SecretStep>,
    ) -> Result<Option<Self>, SeedError> {
        let (sources, mode) = match job {
            Job::Seed { files, mode } => {
                let sources = if files.is_empty() { &settings.seed } else { files };
                (sources, mode.unwrap_or(settings.seed_mode))
            }
            _ if settings.seed.is_empty() || !matches!(migrate, MigrateStep::Run { .. }) => return Ok(None),
            _ => (&settings.seed, settings.seed_mode),
        };
        if sources.is_empty() {
            return Err(SeedError::Nothing);
        }
        if let Metadb::LeftToAirflow(why) = metadb {
            return Err(SeedError::LeftToAirflow { why: why.clone() });
        }
        if let Some(Decision::Leave { source, secret: None }) = fernet.map(|step| &step.decision) {
            return Err(SeedError::NoKey { source_of_it: source.clone() });
        }
        Ok(Some(Self { sources: sources.clone(), mode, line }))
    }
}

impl Display for SeedStep {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let sources: Vec<_> = self.sources.iter().map(|path| format!("`{}`", path.display())).collect();
        let what = match self.mode {
            SeedMode::Add => "add what is missing",
            SeedMode::Sync => "add what is missing, change what differs",
        };
        write!(f, "seed from {}: {what}", sources.join(", "))
    }
}

/// What a row describes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Connection,
    Variable,
    Pool,
}

impl Kind {
    /// In the order in which they are seeded.
    pub(crate) const ALL: [Self; 3] = [Self::Connection, Self::Variable, Self::Pool];

    pub(crate) fn table(self) -> &'static str {
        match self {
            Self::Connection => "connection",
            Self::Variable => "variable",
            Self::Pool => "slot_pool",
        }
    }

    /// The column of its name.
    pub(crate) fn key(self) -> &'static str {
        match self {
            Self::Connection => "conn_id",
            Self::Variable => "key",
            Self::Pool => "pool",
        }
    }

    /// The name of a table in a file of ours, and of what a file of Airflow's holds.
    pub(crate) fn plural(self) -> &'static str {
        match self {
            Self::Connection => "connections",
            Self::Variable => "variables",
            Self::Pool => "pools",
        }
    }
}

impl Display for Kind {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connection => "connection",
            Self::Variable => "variable",
            Self::Pool => "pool",
        })
    }
}

/// One connection, variable or pool, as the columns that it says something about.
#[derive(Clone, PartialEq)]
pub(crate) struct Row {
    pub kind: Kind,
    pub name: String,
    pub cells: Vec<(&'static str, Cell)>,
}

impl Display for Row {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{} `{}`", self.kind, self.name)
    }
}

/// What a column is to hold.
#[derive(Clone, PartialEq)]
pub(crate) enum Cell {
    Null,
    Number(i64),
    /// Encrypted; `flag` is the column that says so.
    Secret {
        text: Option<Zeroizing<String>>,
        flag: &'static str,
        same: Same,
    },
    Switch(bool),
    Text(Zeroizing<String>),
}

/// When a text that is there already is the one that it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Same {
    /// When it is the same JSON, laid out in whatever way.
    AsJson,
    /// When each character is the same.
    AsText,
}

/// What the files of a seed say together.
pub(crate) struct Seeds {
    pub mode: SeedMode,
    pub rows: Vec<Row>,
    /// The file of each row.
    files: Vec<PathBuf>,
}

/// What reading a file may need besides its text.
pub(crate) struct Surroundings<'a> {
    pub line: Line,
    /// A variable of the environment.
    pub variable: &'a dyn Fn(&str) -> Option<&'a str>,
    /// What a file holds that a value refers to, or why it cannot be read.
    pub file: &'a dyn Fn(&Path) -> Result<Zeroizing<String>, String>,
}

impl Seeds {
    pub(crate) fn new(mode: SeedMode) -> Self {
        Self { mode, rows: Vec::new(), files: Vec::new() }
    }

    /// Takes in what a file says.
    pub(crate) fn take(&mut self, path: &Path, text: &str, around: &Surroundings<'_>) -> Result<(), SeedError> {
        let mut problems = Vec::new();
        let rows = self.rows_of(path, text, around, &mut problems);
        if !problems.is_empty() {
            return Err(SeedError::File { path: path.to_owned(), problems });
        }
        self.files.extend(rows.iter().map(|_| path.to_owned()));
        self.rows.extend(rows);
        Ok(())
    }

    fn rows_of(&self, path: &Path, text: &str, around: &Surroundings<'_>, problems: &mut Vec<String>) -> Vec<Row> {
        let told = |problem: String, problems: &mut Vec<String>| {
            problems.push(problem);
            Vec::new()
        };
        let node = match formats::parse(path, text) {
            Ok(node) => node,
            Err(problem) => return told(problem, problems),
        };
        let (shape, mut sections) = match shapes::sections(path, node) {
            Ok(found) => found,
            Err(problem) => return told(problem, problems),
        };
        let mut rows: Vec<Row> = Vec::new();
        for (kind, entries) in &mut sections {
            for (name, node) in entries {
                let before = problems.len();
                let mut place = values::Place::of(*kind, name, problems);
                if shape == Shape::Ours {
                    values::resolve(node, &mut place, path, around);
                }
                // What could not be filled in is not looked at: it would be wrong in another way.
                let row = (problems.len() == before).then(|| row(*kind, name, node, around.line, problems)).flatten();
                if let Some(row) = row {
                    self.must_be_new(&row, &rows, problems);
                    rows.push(row);
                }
            }
        }
        rows
    }

    fn must_be_new(&self, row: &Row, beside: &[Row], problems: &mut Vec<String>) {
        let same = |other: &Row| other.kind == row.kind && other.name == row.name;
        if let Some((_, file)) = self.rows.iter().zip(&self.files).find(|(other, _)| same(other)) {
            problems.push(format!("{row}: it is in `{}` already", file.display()));
        } else if beside.iter().any(same) {
            problems.push(format!("{row}: it is there twice"));
        }
    }
}

fn row(kind: Kind, name: &str, node: &node::Node, line: Line, problems: &mut Vec<String>) -> Option<Row> {
    let mut place = values::Place::of(kind, name, problems);
    let cells = match kind {
        Kind::Connection => connections::cells(name, node, line, &mut place),
        Kind::Variable => variables::cells(name, node, &mut place),
        Kind::Pool => pools::cells(name, node, &mut place),
    }?;
    Some(Row { kind, name: name.to_owned(), cells })
}

#[cfg(test)]
#[path = "seeds_tests.rs"]
mod tests;
