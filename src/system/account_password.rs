//! The password of the account, as it was said or as its command prints it.

use zeroize::Zeroizing;

use super::secret_commands;
use super::signals::Signals;
use crate::environment::Environment;
use crate::error::Error;
use crate::settings::official::{PASSWORD, PASSWORD_CMD, Password};

/// The password: one line.
pub(super) fn of(
    password: &Password,
    environment: &Environment,
    signals: &Signals,
) -> Result<Zeroizing<String>, Error> {
    let text = match password {
        Password::Text(text) => text.clone(),
        Password::Command(line) => printed(line, environment, signals)?,
    };
    match text.contains(['\n', '\r']) {
        true => {
            Err(Error::UserPassword { source_of_it: PASSWORD, cause: "expected one line, found a line end".to_owned() })
        }
        false => Ok(text),
    }
}

/// What the line prints, run by a shell as in the official image, without the line end.
fn printed(line: &str, environment: &Environment, signals: &Signals) -> Result<Zeroizing<String>, Error> {
    let words = ["/bin/sh".into(), "-c".into(), line.into()];
    let printed =
        secret_commands::output(&words, environment, signals, "getting a password by its command", without_line_end);
    let text = printed?.and_then(|bytes| match std::str::from_utf8(&bytes) {
        Ok(text) => Ok(Zeroizing::new(text.to_owned())),
        Err(_) => Err("expected UTF-8 text".to_owned()),
    });
    text.map_err(|cause| Error::UserPassword { source_of_it: PASSWORD_CMD, cause })
}

fn without_line_end(bytes: &[u8]) -> &[u8] {
    let end = bytes.iter().rposition(|byte| !matches!(byte, b'\n' | b'\r')).map_or(0, |last| last + 1);
    &bytes[..end]
}
