//! One writer for all that we say to people: a line to stderr, in one write, that cannot fail.
//!
//! `eprintln!` panics when stderr is a closed pipe; an entrypoint must not die of that.

#![expect(clippy::disallowed_methods, reason = "the one writer")]

use std::fmt::{Arguments, Display};
use std::io::Write;

use crate::error::{Error, Exit};

/// Says that a step is being taken, or what it found.
pub(crate) fn info(message: impl Display) {
    line("info", format_args!("{message}"));
}

/// Says that something goes on although it is probably not what the user meant.
pub(crate) fn warning(message: impl Display) {
    line("warning", format_args!("{message}"));
}

/// Says why the start ends here, and what to do about it.
pub(crate) fn report(error: &Error) {
    match error {
        // What was asked for is no error.
        Error::Interrupted { .. } => info(error),
        _ => line("error", format_args!("{error}")),
    }
    if let Some(hint) = error.hint() {
        line("hint", format_args!("{hint}"));
    }
}

/// Writes what the user asked for to stdout, and all is well.
pub(crate) fn data(text: impl Display) -> Exit {
    // A reader that has gone away is not our failure.
    let _ = std::io::stdout().write_all(text.to_string().as_bytes());
    Exit::Success
}

/// Writes text to stderr as it is, for what has words of its own.
pub(crate) fn plain(text: &str) {
    let _ = std::io::stderr().write_all(text.as_bytes());
}

fn line(level: &str, message: Arguments<'_>) {
    let text = format!("airflow-entrypoint: {level}: {message}\n");
    // Nothing is left to tell it to when stderr is gone.
    let _ = std::io::stderr().write_all(text.as_bytes());
}
