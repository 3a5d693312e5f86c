//! Commands that print a secret. Those of `..._CMD` variables are run as Airflow runs them: split like a shell line, without a shell,
//! stdout is the value.

use std::ffi::OsString;
use std::time::Duration;

use zeroize::Zeroizing;

use super::process::{self, Captured};
use super::signals::{Signals, interrupted};
use crate::airflow_version::AirflowOption;
use crate::environment::Environment;
use crate::error::Error;
use crate::secrets::Printed;

/// How long a command may take. Airflow has no limit, and runs it at each look at the option.
const LIMIT: Duration = Duration::from_secs(30);

/// Runs the commands that Airflow would run for the secrets: those of variables that are set and that no plain variable hides.
pub(super) fn run(environment: &Environment, signals: &Signals) -> Result<Vec<(String, Printed)>, Error> {
    let mut all = Vec::new();
    for option in AirflowOption::SECRETS {
        let variable = option.with_suffix("_cmd").variable();
        if environment.is_set(&option.variable()) {
            continue;
        }
        let Some(line) = environment.text(&variable)? else { continue };
        all.push((variable, printed(line, environment, signals)?));
    }
    Ok(all)
}

fn printed(line: &str, environment: &Environment, signals: &Signals) -> Result<Printed, Error> {
    let words: Vec<_> = match shlex::split(line) {
        Some(words) if !words.is_empty() => words.into_iter().map(Into::into).collect(),
        _ => return Ok(Err("expected a command line, found an open quote or nothing".to_owned())),
    };
    output(&words, environment, signals, "getting a secret by its command", <[u8]>::trim_ascii)
}

/// What a command prints, of which `value` is the part that counts, or why that is nothing. `step` says what it is for.
pub(super) fn output(
    words: &[OsString],
    environment: &Environment,
    signals: &Signals,
    step: &str,
    value: impl Fn(&[u8]) -> &[u8],
) -> Result<Printed, Error> {
    let Captured { status, stop, output } = match process::capture(words, environment, signals, LIMIT) {
        Ok(captured) => captured,
        Err(Error::CannotRun { program, cause, .. }) => return Ok(Err(format!("`{program}` cannot be run: {cause}"))),
        Err(error) => return Err(error),
    };
    if let Some(signal) = stop {
        return Err(interrupted(signal, step));
    }
    let value = Zeroizing::new(value(&output).to_vec());
    Ok(match status {
        None => Err(format!("it has not ended after {} s", LIMIT.as_secs())),
        Some(status) if !status.success() => Err(format!("it ended with {}", process::ending(status))),
        Some(_) if value.is_empty() => Err("it printed nothing".to_owned()),
        Some(_) => Ok(value),
    })
}
