//! What an init does about a signal: whom it is for, and which ones are kept from Airflow.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::Path;

/// Whom a signal is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// Everything that the main process has started and that did not leave its group.
    Group,
    /// The main process alone: to a Celery worker it is a warm shutdown, to its group the death of running tasks.
    Process,
}

/// How an init treats its main process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Manner {
    pub scope: Scope,
    /// Whether the signals of `WITHHELD` are kept from it.
    pub withholds: bool,
}

/// They kill every process of Airflow but the Celery worker, and what those have started stays behind.
const WITHHELD: [&str; 2] = ["SIGHUP", "SIGUSR1"];

/// What programs are called that end their own children.
const STOP_THEIR_OWN: [&str; 2] = ["airflow", "celery"];

impl Scope {
    /// `process` or `group`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        match text.trim().to_ascii_lowercase().as_str() {
            "group" => Some(Self::Group),
            "process" => Some(Self::Process),
            _ => None,
        }
    }

    /// That of a command when nobody has said one. `setsid` is dumb-init's `DUMB_INIT_SETSID`: its 0 is a wish, and its 1 is what
    /// the official image has in every container, where it would kill running tasks.
    pub(crate) fn of(words: &[OsString], setsid: Option<&OsStr>) -> Self {
        let program = words.first().and_then(|word| Path::new(word).file_name());
        let stops_its_own = program.is_some_and(|name| STOP_THEIR_OWN.iter().any(|known| name == *known));
        if stops_its_own || setsid.is_some_and(|value| value == "0") { Self::Process } else { Self::Group }
    }
}

impl Manner {
    /// Whether a signal of that name is handed on.
    pub(crate) fn forwards(self, name: &str) -> bool {
        !(self.withholds && WITHHELD.contains(&name))
    }

    /// The same for several processes: a web server dies of what a scheduler writes its state for.
    pub(crate) fn forwards_to_many(self, name: &str) -> bool {
        self.forwards(name) && !(self.withholds && name == "SIGUSR2")
    }
}

/// What is said about a signal that is not handed on.
pub(crate) fn withheld(name: &str) -> String {
    let what = if WITHHELD.contains(&name) { "every process of Airflow but the Celery worker" } else { "a web server" };
    format!("{name} is not forwarded: it kills {what}")
}

impl fmt::Display for Scope {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Group => "group",
            Self::Process => "process",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s04_whom_a_signal_is_for() {
        for (words, setsid, expected) in [
            ("airflow celery worker", None, Scope::Process),
            ("airflow celery worker", Some("1"), Scope::Process),
            ("/opt/venv/bin/airflow scheduler", None, Scope::Process),
            ("celery -A airflow worker", None, Scope::Process),
            ("bash -c x", None, Scope::Group),
            ("bash -c x", Some("1"), Scope::Group),
            ("bash -c x", Some("0"), Scope::Process),
            ("", None, Scope::Group),
        ] {
            let words: Vec<OsString> = words.split_whitespace().map(OsString::from).collect();
            assert_eq!(Scope::of(&words, setsid.map(OsStr::new)), expected, "{words:?} {setsid:?}");
        }
    }

    #[test]
    fn s14_all_is_forwarded_but_what_kills_airflow() {
        let airflow = Manner { scope: Scope::Process, withholds: true };
        for name in ["SIGTERM", "SIGINT", "SIGQUIT", "SIGUSR2", "SIGWINCH", "SIGTTIN", "SIGTTOU", "SIGCONT"] {
            assert!(airflow.forwards(name), "{name}");
        }
        for name in WITHHELD {
            assert!(!airflow.forwards(name), "{name}");
            assert!(Manner { withholds: false, ..airflow }.forwards(name), "{name}");
        }
    }
}
