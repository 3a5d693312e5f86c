//! Our command line: which of our verbs was meant, or the command of Airflow to run. Everything behind it is left alone.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use clap::{CommandFactory, Parser, Subcommand, ValueEnum};

use crate::error::Error;
use crate::launch::dumb_init::{self, Asked};
use crate::launch::forwarding::{Manner, Scope};

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
    #[command(override_usage = "airflow-entrypoint explain [COMMAND [ARGUMENT...]]")]
    Explain,
    /// Run a program as its init, and prepare nothing
    #[command(override_usage = "airflow-entrypoint init -- PROGRAM [ARGUMENT...]")]
    Init,
    /// Show, make, check or hand on the secrets
    #[command(subcommand, subcommand_value_name = "VERB", subcommand_help_heading = "Verbs")]
    Key(KeyVerb),
    /// Prepare everything (secrets, airflow.cfg, database), and end
    Setup,
    /// Run several commands of Airflow as equals: the end of one is the end of all
    #[command(override_usage = "airflow-entrypoint supervise COMMAND...")]
    Supervise,
}

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
    /// Make the secrets that are missing, in the key folder
    Generate,
    /// Take a Fernet key from standard input into the key folder, if there is none
    Import,
    /// Print the Fernet key
    Show {
        /// Print it to something that is not a terminal, too
        #[arg(long)]
        yes: bool,
    },
}

/// The forms of `key export`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ExportForm {
    DockerSecret,
    Env,
    K8sSecret,
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
    Carry,
    Show,
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
    match (text(0), text(1)) {
        ("explain", "setup") if arguments.len() == 2 => Ok(Invocation { mode: Mode::Show, job: Job::Setup }),
        ("explain", "supervise") if arguments.len() > 2 => {
            Ok(Invocation { mode: Mode::Show, job: Job::Supervise(arguments[2..].to_vec()) })
        }
        ("explain", second) if !is_option(second) => Ok(Invocation { mode: Mode::Show, job: command(&arguments[1..]) }),
        ("init" | "supervise", second) if arguments.len() > 1 && !is_option(second) => {
            let job = if text(0) == "init" { init(&arguments[1..])? } else { Job::Supervise(arguments[1..].to_vec()) };
            Ok(Invocation { mode: Mode::Carry, job })
        }
        (first, _)
            if is_option(first) || matches!(first, "explain" | "help" | "init" | "key" | "setup" | "supervise") =>
        {
            verb(&arguments)
        }
        _ => Ok(Invocation { mode: Mode::Carry, job: command(&arguments) }),
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
        Ok(Cli { verb: Verbs::Setup }) => Job::Setup,
        Ok(Cli { verb: Verbs::Init | Verbs::Supervise }) => {
            return Err(Error::Usage { message: format!("the verb `{}` needs a command", arguments[0].display()) });
        }
        Ok(Cli { verb: Verbs::Key(verb) }) => Job::Key(verb),
        Ok(Cli { verb: Verbs::Explain }) => command(&[]),
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
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Invocation, String> {
        let arguments = text.split(' ').filter(|word| !word.is_empty()).map(OsString::from).collect();
        super::read(arguments).map_err(|error| error.to_string())
    }

    fn run(mode: Mode, text: &str, raw: bool) -> Result<Invocation, String> {
        let words = text.split(' ').filter(|word| !word.is_empty()).map(OsString::from).collect();
        Ok(Invocation { mode, job: Job::Command { words, raw } })
    }

    #[test]
    fn commands_are_left_alone() {
        assert_eq!(read("webserver --help"), run(Mode::Carry, "webserver --help", false));
        assert_eq!(read(""), run(Mode::Carry, "", false));
        assert_eq!(read("-- setup x"), run(Mode::Carry, "setup x", true));
        assert_eq!(read("explain"), run(Mode::Show, "", false));
        assert_eq!(read("explain webserver -p 1"), run(Mode::Show, "webserver -p 1", false));
        assert_eq!(read("explain -- bash"), run(Mode::Show, "bash", true));
    }

    #[test]
    fn verbs() {
        assert_eq!(read("setup"), Ok(Invocation { mode: Mode::Carry, job: Job::Setup }));
        assert_eq!(read("key show --yes").unwrap().job, Job::Key(KeyVerb::Show { yes: true }));
        let export = KeyVerb::Export { form: ExportForm::K8sSecret };
        assert_eq!(read("key export --as k8s-secret").unwrap().job, Job::Key(export));
        assert!(read("key shwo").unwrap_err().contains("unrecognized subcommand `shwo`"));
        assert_eq!(read("explain setup"), Ok(Invocation { mode: Mode::Show, job: Job::Setup }));
        let words = |text: &str| text.split(' ').map(OsString::from).collect::<Vec<_>>();
        assert_eq!(read("supervise a b").unwrap().job, Job::Supervise(words("a b")));
        assert_eq!(
            read("explain supervise a").unwrap(),
            Invocation { mode: Mode::Show, job: Job::Supervise(words("a")) }
        );
        for text in ["init -- a --help", "init a --help"] {
            assert_eq!(read(text).unwrap().job, Job::Init(InitJob::Run(words("a --help"))), "{text}");
        }
        for text in ["init", "supervise", "init --", "init --attend", "init --attend 1 group"] {
            assert!(read(text).is_err(), "{text}");
        }
        let manner = Manner { scope: Scope::Process, withholds: true };
        for manner in [manner, Manner { scope: Scope::Group, withholds: false }] {
            let arguments = attending(7, manner).into_iter().map(OsString::from).collect();
            let job = super::read(arguments).unwrap().job;
            assert_eq!(job, Job::Init(InitJob::Attend { child: 7, manner }));
        }
        assert!(read("setup now").unwrap_err().contains("unexpected argument `now`"));
        for words in [
            "init --help",
            "supervise -h",
            "key --help",
            "key",
            "--help",
            "-h",
            "setup --help",
            "explain --help",
            "--version",
        ] {
            assert!(
                matches!(read(words), Ok(Invocation { job: Job::Say(text), .. }) if text.contains("airflow-entrypoint")),
                "{words}"
            );
        }
    }
}
