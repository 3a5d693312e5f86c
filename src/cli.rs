//! Our command line: which of our verbs was meant, or the command of Airflow to run. Everything behind it is left alone.

mod key;

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use clap::{CommandFactory, Parser, Subcommand};

pub(crate) use self::key::{ExportForm, KeyVerb};
use crate::error::Error;
use crate::launch::dumb_init::{self, Asked};
use crate::launch::forwarding::{Manner, Scope};
use crate::seeds::SeedMode;

/// The ENTRYPOINT of an Airflow container.
///
/// Settles the secrets, writes airflow.cfg, waits for database and broker, migrates, and becomes the command: one of
/// Airflow's (with or without `airflow` in front) or any program. Without a command it is `webserver`.
#[derive(Parser)]
#[command(
    name = "airflow-entrypoint",
    version,
    override_usage = "airflow-entrypoint [COMMAND [ARGUMENT...]]\n       airflow-entrypoint -- PROGRAM [ARGUMENT...]\n       airflow-entrypoint <VERB>"
)]
struct Cli {
    #[command(subcommand)]
    verb: Verbs,
}

#[derive(Subcommand)]
#[command(subcommand_value_name = "VERB", subcommand_help_heading = "Verbs")]
enum Verbs {
    /// Show what would be done for a command, and do nothing
    #[command(override_usage = "airflow-entrypoint explain [--json] [COMMAND [ARGUMENT...]]")]
    Explain {
        /// For programs
        #[arg(long)]
        json: bool,
    },
    /// Run a program as its init, and prepare nothing
    #[command(override_usage = "airflow-entrypoint init -- PROGRAM [ARGUMENT...]")]
    Init,
    /// Show, make, check or hand on the secrets
    #[command(subcommand, subcommand_value_name = "VERB", subcommand_help_heading = "Verbs")]
    Key(KeyVerb),
    /// Print the `airflow.cfg` that would be written for a command, and write nothing
    #[command(override_usage = "airflow-entrypoint render-cfg [--show-secrets] [COMMAND [ARGUMENT...]]")]
    RenderCfg {
        /// Print secrets and passwords as they are
        #[arg(long)]
        show_secrets: bool,
    },
    /// Write connections, variables and pools of files into the database, and end
    #[command(override_usage = "airflow-entrypoint seed [--mode add|sync] [FILE...]")]
    Seed {
        /// `add`: what is there already stays as it is; `sync`: it becomes what the files say; by default as `ENTRYPOINT_SEED_MODE` says
        #[arg(long, value_enum, hide_possible_values = true)]
        mode: Option<SeedMode>,
        /// Files or folders; by default those of `ENTRYPOINT_SEED`
        #[arg(value_name = "FILE")]
        files: Vec<PathBuf>,
    },
    /// Prepare everything (secrets, airflow.cfg, database), and end
    Setup,
    /// Run several commands of Airflow as equals: the end of one is the end of all
    #[command(override_usage = "airflow-entrypoint supervise COMMAND...")]
    Supervise,
}

/// What we were asked to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Invocation {
    /// What to do about the plan.
    pub mode: Mode,
    /// The job itself.
    pub job: Job,
}

/// What to do about the plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Carry it out.
    Carry,
    /// Print it.
    Explain(Form),
    /// Print the `airflow.cfg` that it would write.
    RenderConfig(Secrets),
}

/// How the plan is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Json,
    Text,
}

/// Whether secrets are printed as they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Secrets {
    Hidden,
    Shown,
}

/// The job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Job {
    /// Run this command; `raw` was said with `--`.
    Command { words: Vec<OsString>, raw: bool },
    /// Be an init.
    Init(InitJob),
    /// Do this with the secrets.
    Key(KeyVerb),
    /// Print this.
    Say(String),
    /// Seed from these files, or from those of the settings, and end.
    Seed { files: Vec<PathBuf>, mode: Option<SeedMode> },
    /// Prepare and end.
    Setup,
    /// Run these commands of Airflow, one an argument, as equals.
    Supervise(Vec<OsString>),
}

/// What to be an init of. Nothing else is done for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum InitJob {
    /// Of our child of this number: what a start goes on with, when it has dropped all that it needed before.
    Attend { child: i32, manner: Manner },
    /// As dumb-init.
    DumbInit(Asked),
    /// Of this program.
    Run(Vec<OsString>),
}

/// Reads the arguments behind the name by which we were called.
pub(crate) fn read_as(name: &OsStr, arguments: Vec<OsString>) -> Result<Invocation, Error> {
    if Path::new(name).file_name() == Some(OsStr::new("dumb-init")) {
        let job = Job::Init(InitJob::DumbInit(dumb_init::read(name, &arguments)));
        return Ok(Invocation { mode: Mode::Carry, job });
    }
    read(arguments)
}

/// Reads the arguments behind our own name.
fn read(arguments: Vec<OsString>) -> Result<Invocation, Error> {
    let text = |index: usize| arguments.get(index).and_then(|word| word.to_str()).unwrap_or_default();
    let (mode, taken) = match (text(0), text(1)) {
        ("explain", "--json") => (Mode::Explain(Form::Json), 2),
        ("explain", _) => (Mode::Explain(Form::Text), 1),
        ("render-cfg", "--show-secrets") => (Mode::RenderConfig(Secrets::Shown), 2),
        ("render-cfg", _) => (Mode::RenderConfig(Secrets::Hidden), 1),
        _ => (Mode::Carry, 0),
    };
    let rest = &arguments[taken..];
    let asks_for_help = |word: &str| is_option(word) || word.is_empty();
    match (text(taken), text(taken + 1)) {
        // A word that begins like an option is one of ours here, and there is none.
        (first, _) if is_option(first) || taken > 0 && first.starts_with('-') && first != "--" => verb(&arguments),
        ("init", next) if taken == 0 && !asks_for_help(next) => Ok(Invocation { mode, job: init(&rest[1..])? }),
        ("supervise", next) if !asks_for_help(next) => Ok(Invocation { mode, job: Job::Supervise(rest[1..].to_vec()) }),
        ("setup", _) if taken > 0 && rest.len() == 1 => Ok(Invocation { mode, job: Job::Setup }),
        ("seed", _) => Ok(Invocation { mode, ..verb(rest)? }),
        ("help" | "init" | "key" | "setup" | "supervise", _) if taken == 0 => verb(&arguments),
        _ => Ok(Invocation { mode, job: command(rest) }),
    }
}

fn is_option(word: &str) -> bool {
    matches!(word, "-h" | "--help" | "-V" | "--version")
}

fn command(arguments: &[OsString]) -> Job {
    match arguments.split_first() {
        Some((first, rest)) if first == "--" && !rest.is_empty() => Job::Command { words: rest.to_vec(), raw: true },
        _ => Job::Command { words: arguments.to_vec(), raw: false },
    }
}

/// What stands behind `init`: a program, behind `--` or not, or the words of `attending`.
fn init(arguments: &[OsString]) -> Result<Job, Error> {
    let words = match arguments.split_first() {
        Some((first, rest)) if first == "--" => rest,
        Some((first, rest)) if first == ATTEND => {
            let text = |index: usize| rest.get(index).and_then(|word| word.to_str()).unwrap_or_default();
            let child = text(0).parse().ok().filter(|&child| child > 1);
            if let (Some(child), Some(scope)) = (child, Scope::parse(text(1))) {
                let manner = Manner { scope, withholds: text(2) == WITHHOLDS };
                return Ok(Job::Init(InitJob::Attend { child, manner }));
            }
            &[]
        }
        _ => arguments,
    };
    match words.first() {
        Some(_) => Ok(Job::Init(InitJob::Run(words.to_vec()))),
        None => Err(Error::Usage {
            message: "cannot be an init of nothing: expected a program behind `init --`".to_owned(),
        }),
    }
}

const ATTEND: &str = "--attend";
const WITHHOLDS: &str = "airflow";

/// The arguments by which we go on as the init of a child that we have.
pub(crate) fn attending(child: i32, manner: Manner) -> Vec<String> {
    let withholds = manner.withholds.then(|| WITHHOLDS.to_owned());
    ["init".to_owned(), ATTEND.to_owned(), child.to_string(), manner.scope.to_string()]
        .into_iter()
        .chain(withholds)
        .collect()
}

fn verb(arguments: &[OsString]) -> Result<Invocation, Error> {
    let parsed =
        Cli::try_parse_from(std::iter::once(OsString::from("airflow-entrypoint")).chain(arguments.iter().cloned()));
    let job = match parsed {
        Ok(Cli { verb: Verbs::Seed { files, mode } }) => Job::Seed { files, mode },
        Ok(Cli { verb: Verbs::Setup }) => Job::Setup,
        Ok(Cli { verb: Verbs::Init | Verbs::Supervise }) => {
            return Err(Error::Usage { message: format!("the verb `{}` needs a command", arguments[0].display()) });
        }
        Ok(Cli { verb: Verbs::Key(verb) }) => Job::Key(verb),
        Ok(Cli { verb: Verbs::Explain { .. } | Verbs::RenderCfg { .. } }) => command(&[]),
        Err(asked) if !asked.use_stderr() => Job::Say(asked.render().to_string()),
        Err(_) if arguments.len() == 1 => Job::Say(Cli::command().render_help().to_string()),
        Err(problem) => {
            let rendered = problem.render().to_string();
            // The first paragraph says what is wrong; usage and tips follow.
            let paragraph: Vec<_> = rendered.lines().take_while(|line| !line.is_empty()).map(str::trim).collect();
            let message = paragraph.join(" ").trim_start_matches("error: ").replace('\'', "`");
            return Err(Error::Usage { message });
        }
    };
    Ok(Invocation { mode: Mode::Carry, job })
}

#[cfg(test)]
#[path = "cli_tests.rs"]
mod tests;
