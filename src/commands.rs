//! Airflow's commands: which words are one, what each needs before it runs, and its name on the installed line.

use std::ffi::{OsStr, OsString};

use crate::airflow_version::{Line, Version};
use crate::nearest::nearest;

/// What a command needs (the table in README, "Which command gets what").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// A command of Airflow that talks to the database and ends.
    Database,
    /// Our verb `key`.
    Key,
    /// A program that is not Airflow.
    Other,
    /// A command of Airflow that needs no database.
    Plain,
    /// Our verb `seed`.
    Seed,
    /// A long-running part of Airflow.
    Service,
    /// Our verb `setup`.
    Setup,
    /// One task, started by an executor.
    Task,
}

/// A command, ready to be run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Command {
    pub class: Class,
    /// Program and arguments.
    pub words: Vec<OsString>,
    /// What was translated, if anything.
    pub note: Option<String>,
    /// Whether it was asked for as `webserver`: that word brings a scheduler along (the puckel image's rule).
    pub said_webserver: bool,
}

/// What a first word turned out to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Lookup {
    Found(Command),
    /// Neither ours, nor Airflow's, nor a program; the nearest command of Airflow.
    Unknown {
        word: String,
        nearest: Option<String>,
    },
}

/// Names by line: what 1.10 says, and what 2.x and 3.x say. Only names are translated; arguments pass untouched.
const OLD_AND_NEW: [(&str, &[&str]); 33] = [
    ("backfill", &["dags", "backfill"]),
    ("checkdb", &["db", "check"]),
    ("clear", &["tasks", "clear"]),
    ("create_user", &["users", "create"]),
    ("dag_state", &["dags", "state"]),
    ("delete_dag", &["dags", "delete"]),
    ("delete_user", &["users", "delete"]),
    ("flower", &["celery", "flower"]),
    ("initdb", &["db", "init"]),
    ("list_dag_runs", &["dags", "list-runs"]),
    ("list_dags", &["dags", "list"]),
    ("list_jobs", &["dags", "list-jobs"]),
    ("list_tasks", &["tasks", "list"]),
    ("list_users", &["users", "list"]),
    ("next_execution", &["dags", "next-execution"]),
    ("pause", &["dags", "pause"]),
    ("pool", &["pools"]),
    ("render", &["tasks", "render"]),
    ("resetdb", &["db", "reset"]),
    ("rotate_fernet_key", &["rotate-fernet-key"]),
    ("run", &["tasks", "run"]),
    ("shell", &["db", "shell"]),
    ("show_dag", &["dags", "show"]),
    ("sync_perm", &["sync-perm"]),
    ("task_failed_deps", &["tasks", "failed-deps"]),
    ("task_state", &["tasks", "state"]),
    ("test", &["tasks", "test"]),
    ("trigger_dag", &["dags", "trigger"]),
    ("unpause", &["dags", "unpause"]),
    ("upgradedb", &["db", "upgrade"]),
    ("upgradedb", &["db", "migrate"]),
    ("worker", &["celery", "worker"]),
    ("webserver", &["api-server"]),
];

/// The commands of 2.x and 3.x, and those that all lines share.
const CURRENT: [&str; 37] = [
    "api-server",
    "assets",
    "backfill",
    "celery",
    "cheat-sheet",
    "config",
    "connections",
    "dag-processor",
    "dags",
    "db",
    "db-manager",
    "edge",
    "fab-db",
    "flower",
    "info",
    "jobs",
    "kerberos",
    "kubernetes",
    "permissions",
    "plugins",
    "pools",
    "providers",
    "roles",
    "rotate-fernet-key",
    "scheduler",
    "standalone",
    "state-store",
    "sync-perm",
    "tasks",
    "teams",
    "triggerer",
    "users",
    "variables",
    "version",
    "webserver",
    "worker",
    "fab",
];

/// Reads the command that we were given. `on_path` says whether a word is a program; with `raw` (behind `--`) nothing is
/// taken for Airflow's.
pub(crate) fn look_up(words: &[OsString], raw: bool, on_path: bool, version: Version) -> Lookup {
    let Some(first) = words.first() else {
        // The puckel image's CMD.
        return Lookup::Found(asked_for(&["webserver".into()], version));
    };
    // A name that is not text is no command of Airflow.
    let lossy = first.to_string_lossy();
    let name = lossy.as_ref();
    let as_program = || {
        Lookup::Found(Command {
            class: Class::Other,
            words: words.to_vec(),
            note: shell_hint(words),
            said_webserver: false,
        })
    };
    let unknown = |nearest| Lookup::Unknown { word: first.to_string_lossy().into_owned(), nearest };
    let is_program = on_path || name.contains('/');
    if raw {
        return if is_program { as_program() } else { unknown(None) };
    }
    match name {
        "airflow" => Lookup::Found(asked_for(&words[1..], version)),
        _ if CURRENT.contains(&name) => Lookup::Found(asked_for(words, version)),
        // `test`, `clear`, `run`: old commands of Airflow that may also be programs.
        _ if is_program => as_program(),
        _ if new_name(&[name]).is_some() => Lookup::Found(asked_for(words, version)),
        _ if name.starts_with('-') => Lookup::Found(asked_for(words, version)),
        _ => unknown(nearest(
            name,
            CURRENT.iter().chain(OLD_AND_NEW.iter().map(|(old, _)| old)).map(|&known| known.to_owned()),
        )),
    }
}

/// What to say of a shell that does our work in front of Airflow: signals, and the status of all but its last command, end there.
fn shell_hint(words: &[OsString]) -> Option<String> {
    let shell = words.first()?.to_str()?.rsplit('/').next()?;
    let script = words.iter().skip(1).find_map(|word| word.to_str().filter(|word| word.contains("airflow ")))?;
    let migrates = ["airflow db ", "airflow initdb", "airflow upgradedb"].iter().any(|start| script.contains(start));
    (matches!(shell, "bash" | "dash" | "sh") && migrates).then(|| {
        format!("the `{shell}` is not needed: a web server migrates the database by itself, and `setup` does it alone")
    })
}

/// The words of a command of Airflow that we run ourselves.
pub(crate) fn airflow<W: AsRef<str>>(words: &[W]) -> Vec<OsString> {
    std::iter::once("airflow").chain(words.iter().map(AsRef::as_ref)).map(OsString::from).collect()
}

/// A command of Airflow from the words behind `airflow`.
fn asked_for(arguments: &[OsString], version: Version) -> Command {
    let names: Vec<&str> = arguments.iter().map_while(|word| word.to_str()).take(2).collect();
    let (class, taken, translated) = translate(&names, version);
    let asks_for_help = arguments.iter().any(|word| word == OsStr::new("--help") || word == OsStr::new("-h"));
    let note = (names.get(..taken) != Some(translated.as_slice()))
        .then(|| format!("`{}` is `{}` in Airflow {version}", names[..taken].join(" "), translated.join(" ")));
    let words = std::iter::once("airflow".into())
        .chain(translated.iter().map(OsString::from))
        .chain(arguments.iter().skip(taken).cloned())
        .collect();
    let class = if asks_for_help { Class::Plain } else { class };
    Command { class, words, note, said_webserver: names.first() == Some(&"webserver") }
}

/// The class of a command, how many words name it, and its name on this line.
fn translate<'a>(names: &[&'a str], version: Version) -> (Class, usize, Vec<&'a str>) {
    let line = version.line();
    let (taken, new) = match new_name(names) {
        Some(found) => found,
        None => return (class(names), names.len().min(1), names.iter().take(1).copied().collect()),
    };
    let class = class(new);
    let said = names[..taken].to_vec();
    let name: Vec<&'a str> = match (line, new) {
        (Line::V1, ["api-server"]) => vec!["webserver"],
        (Line::V1, ["db", "migrate"]) => vec!["upgradedb"],
        (Line::V1, _) if taken == new.len() && new.len() > 1 => {
            OLD_AND_NEW.iter().find(|(_, name)| *name == new).map_or(said, |(old, _)| vec![*old])
        }
        (Line::V1, _) => said,
        (Line::V2, ["api-server"]) => vec!["webserver"],
        // A command of its own again since 3.0, with other words behind it.
        (Line::V3, ["dags", "backfill"]) => said,
        // `db init` would make the default connections again at each call; the schema is what is asked for.
        (_, ["db", "init" | "upgrade" | "migrate"]) => version.migrate_command().to_vec(),
        _ => new.to_vec(),
    };
    (class, taken, name)
}

/// The current name of a command, and how many words it took to say it.
fn new_name(names: &[&str]) -> Option<(usize, &'static [&'static str])> {
    let rows = || OLD_AND_NEW.iter();
    rows()
        .find(|(_, new)| names.starts_with(new))
        .map(|(_, new)| (new.len(), *new))
        .or_else(|| rows().find(|(old, _)| names.first() == Some(old)).map(|(_, new)| (1, *new)))
}

/// The class of a command by its current name.
fn class(names: &[&str]) -> Class {
    match names {
        ["api-server" | "dag-processor" | "kerberos" | "scheduler" | "standalone" | "triggerer" | "webserver", ..] => {
            Class::Service
        }
        ["celery", "flower" | "worker", ..] | ["edge", "worker", ..] => Class::Service,
        ["tasks", "run", ..] => Class::Task,
        [] | ["celery" | "cheat-sheet" | "config" | "edge" | "info" | "plugins" | "providers" | "version", ..] => {
            Class::Plain
        }
        [first, ..] if first.starts_with('-') => Class::Plain,
        _ => Class::Database,
    }
}

#[cfg(test)]
#[path = "commands_tests.rs"]
mod tests;
