//! The values that settings take.

use std::fmt;
use std::time::Duration;

/// A switch that can also be left to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Choice {
    Auto,
    No,
    Yes,
}

/// Which commands get what a service gets: secrets made, requirements, waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Prepare {
    /// Every command, as the bash entrypoint did.
    Always,
    /// Each command what its class needs.
    Auto,
}

/// Which signals an init hands on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Forwarded {
    All,
    /// All but those that kill Airflow.
    Auto,
}

/// What becomes of secrets that do not fit the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SecretsCheck {
    /// Nobody looks.
    Off,
    /// The start ends.
    Stop,
    /// It goes on with a warning.
    Warn,
}

/// How Airflow is given secrets and URLs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Handover {
    /// By `..._CMD`, from files: none is in the environment or in `airflow.cfg`, where Airflow can do so.
    Command,
    /// In the environment and in `airflow.cfg`.
    Plain,
}

/// What becomes of an account that is there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum UserMode {
    /// It stays as it is.
    Create,
    /// Its password, role, name and e-mail address become those that were said.
    Sync,
}

impl UserMode {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        match text.trim().to_ascii_lowercase().as_str() {
            "create" => Some(Self::Create),
            "sync" => Some(Self::Sync),
            _ => None,
        }
    }
}

/// How long to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WaitTimeout {
    After(Duration),
    Forever,
    Off,
}

/// The one reading of yes and no.
pub(crate) fn boolean(text: &str) -> Option<bool> {
    match text.trim().to_ascii_lowercase().as_str() {
        "1" | "on" | "t" | "true" | "y" | "yes" => Some(true),
        "0" | "f" | "false" | "n" | "no" | "off" => Some(false),
        _ => None,
    }
}

/// `auto`, or a value of its own.
pub(crate) fn auto_or<T>(text: &str, parse: impl Fn(&str) -> Option<T>) -> Option<Option<T>> {
    if text.trim().eq_ignore_ascii_case("auto") { Some(None) } else { parse(text).map(Some) }
}

/// How long something may take to end: always limited by a time, or not at all.
pub(crate) fn grace(text: &str) -> Option<WaitTimeout> {
    WaitTimeout::parse(text).filter(|time| *time != WaitTimeout::Off)
}

/// Three or four octal digits.
pub(crate) fn umask(text: &str) -> Option<u32> {
    let text = text.trim();
    matches!(text.len(), 3 | 4).then(|| u32::from_str_radix(text, 8).ok()).flatten().filter(|mask| *mask <= 0o777)
}

impl Choice {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        if text.trim().eq_ignore_ascii_case("auto") {
            return Some(Self::Auto);
        }
        boolean(text).map(Self::of)
    }

    /// What is not left to us.
    pub(crate) fn of(yes: bool) -> Self {
        if yes { Self::Yes } else { Self::No }
    }
}

impl Forwarded {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        match text.trim().to_ascii_lowercase().as_str() {
            "all" => Some(Self::All),
            "auto" => Some(Self::Auto),
            _ => None,
        }
    }
}

impl Prepare {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        match text.trim().to_ascii_lowercase().as_str() {
            "always" => Some(Self::Always),
            "auto" => Some(Self::Auto),
            _ => None,
        }
    }
}

impl SecretsCheck {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        match text.trim().to_ascii_lowercase().as_str() {
            "off" => Some(Self::Off),
            "stop" => Some(Self::Stop),
            "warn" => Some(Self::Warn),
            _ => None,
        }
    }
}

impl Handover {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        match text.trim().to_ascii_lowercase().as_str() {
            "cmd" => Some(Self::Command),
            "env+cfg" => Some(Self::Plain),
            _ => None,
        }
    }
}

impl WaitTimeout {
    /// `off`, `forever`, or a number with `ms`, `s`, `m` or `h`. A bare `0` is refused: it means "off" to some and "forever" to
    /// others; any other bare number is seconds.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let text = text.trim().to_ascii_lowercase();
        match text.as_str() {
            "off" => return Some(Self::Off),
            "forever" => return Some(Self::Forever),
            _ => {}
        }
        let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let number: u64 = text[..digits].parse().ok().filter(|&number| number > 0)?;
        let milliseconds = match text[digits..].trim() {
            "ms" => 1,
            "" | "s" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            _ => return None,
        };
        number.checked_mul(milliseconds).map(|total| Self::After(Duration::from_millis(total)))
    }
}

impl WaitTimeout {
    /// As it would be written.
    pub(crate) fn written(self) -> String {
        match self {
            Self::After(time) => format!("{time:?}"),
            Self::Forever => "forever".to_owned(),
            Self::Off => "off".to_owned(),
        }
    }
}

impl fmt::Display for WaitTimeout {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::After(time) => write!(formatter, "at most {time:?}"),
            Self::Forever => write!(formatter, "without a limit"),
            Self::Off => write!(formatter, "not at all"),
        }
    }
}
