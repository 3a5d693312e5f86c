//! Our command line: which of our verbs was meant, or the command of Airflow to run. Everything behind it is left alone.

use std::ffi::OsString;

use clap::{CommandFactory, Parser, Subcommand, ValueEnum};

use crate::error::Error;

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
    /// Prepare everything (secrets, airflow.cfg, database), and end
    Setup,
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
    /// Do this with the secrets.
    Key(KeyVerb),
    /// Print this.
    Say(String),
    /// Prepare and end.
    Setup,
}

/// Reads the arguments behind our own name.
pub(crate) fn read(arguments: Vec<OsString>) -> Result<Invocation, Error> {
    let text = |index: usize| arguments.get(index).and_then(|word| word.to_str()).unwrap_or_default();
    let (mode, taken) = match (text(0), text(1)) {
        ("explain", "--json") => (Mode::Explain(Form::Json), 2),
        ("explain", _) => (Mode::Explain(Form::Text), 1),
        ("render-cfg", "--show-secrets") => (Mode::RenderConfig(Secrets::Shown), 2),
        ("render-cfg", _) => (Mode::RenderConfig(Secrets::Hidden), 1),
        _ => (Mode::Carry, 0),
    };
    match text(taken) {
        // A word that begins like an option is one of ours here, and there is none.
        first if is_option(first) || taken > 0 && first.starts_with('-') && first != "--" => verb(&arguments),
        "help" | "key" if taken == 0 => verb(&arguments),
        "setup" if taken == 0 => verb(&arguments),
        "setup" if arguments.len() == taken + 1 => Ok(Invocation { mode, job: Job::Setup }),
        _ => Ok(Invocation { mode, job: command(&arguments[taken..]) }),
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

fn verb(arguments: &[OsString]) -> Result<Invocation, Error> {
    let parsed =
        Cli::try_parse_from(std::iter::once(OsString::from("airflow-entrypoint")).chain(arguments.iter().cloned()));
    let job = match parsed {
        Ok(Cli { verb: Verbs::Setup }) => Job::Setup,
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
        let (text, json) = (Mode::Explain(Form::Text), Mode::Explain(Form::Json));
        assert_eq!(read("explain"), run(text, "", false));
        assert_eq!(read("explain webserver -p 1"), run(text, "webserver -p 1", false));
        assert_eq!(read("explain -- bash"), run(text, "bash", true));
        assert_eq!(read("explain --json"), run(json, "", false));
        assert_eq!(read("explain --json webserver --json"), run(json, "webserver --json", false));
        assert_eq!(read("render-cfg scheduler"), run(Mode::RenderConfig(Secrets::Hidden), "scheduler", false));
        assert_eq!(read("render-cfg --show-secrets"), run(Mode::RenderConfig(Secrets::Shown), "", false));
    }

    #[test]
    fn verbs() {
        assert_eq!(read("setup"), Ok(Invocation { mode: Mode::Carry, job: Job::Setup }));
        assert_eq!(read("key show --yes").unwrap().job, Job::Key(KeyVerb::Show { yes: true }));
        let export = KeyVerb::Export { form: ExportForm::K8sSecret };
        assert_eq!(read("key export --as k8s-secret").unwrap().job, Job::Key(export));
        assert!(read("key shwo").unwrap_err().contains("unrecognized subcommand `shwo`"));
        assert_eq!(read("explain setup"), Ok(Invocation { mode: Mode::Explain(Form::Text), job: Job::Setup }));
        assert!(read("explain --jsno").unwrap_err().contains("unexpected argument `--jsno`"));
        assert!(read("setup now").unwrap_err().contains("unexpected argument `now`"));
        for words in
            ["key --help", "key", "--help", "-h", "setup --help", "explain --help", "render-cfg --help", "--version"]
        {
            assert!(
                matches!(read(words), Ok(Invocation { job: Job::Say(text), .. }) if text.contains("airflow-entrypoint")),
                "{words}"
            );
        }
    }
}
