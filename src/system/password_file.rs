//! The password file of Airflow 3's simple login.

use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use super::folder_lock::{Held, take_folder};
use super::signals::{Event, Signals, interrupted};
use super::staged::{Staged, private_mode};
use super::{cause, is_denied};
use crate::account::{Passwords, put};
use crate::error::Error;
use crate::error::account::AccountError;
use crate::log;
use crate::steps::UserStep;

/// The pause between two tries to take the lock.
const PAUSE: Duration = Duration::from_millis(20);
const STEP: &str = "creating the account";

/// Puts the account's password there, unless that is done. The file is whole at any moment; other starts wait for this one.
pub(super) fn settle(step: &UserStep, path: &Path, password: &str, signals: &Signals) -> Result<(), Error> {
    let folder = path.parent().unwrap_or(path);
    fs::create_dir_all(folder).map_err(|error| failed(path, &error))?;
    let _held = loop {
        match take_folder(folder) {
            Ok(lock) => break lock,
            Err(Held) => {
                if let Event::Stop(signal) = signals.next(Some(Instant::now() + PAUSE), None) {
                    return Err(interrupted(signal, STEP));
                }
            }
        }
    };
    let text = match fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        read => read.map_err(|error| unusable(path, cause(&error)))?,
    };
    let name = &step.account.username;
    match put(&text, name, password, step.mode).map_err(|problem| unusable(path, problem))? {
        Passwords::Kept => log::info(format_args!("the account `{name}` exists")),
        Passwords::Added(text) => {
            log::info(step);
            replace(path, &text)?;
        }
        Passwords::Replaced(text) => {
            replace(path, &text)?;
            log::info(format_args!("the account `{name}` exists; updated: password"));
        }
    }
    Ok(())
}

fn replace(path: &Path, text: &str) -> Result<(), Error> {
    let staged = Staged::write(path, text.as_bytes(), private_mode());
    staged.and_then(|staged| fs::rename(staged.path(), path)).map_err(|error| failed(path, &error))
}

fn unusable(path: &Path, problem: String) -> Error {
    AccountError::PasswordFile { path: path.to_owned(), problem }.ends()
}

fn failed(path: &Path, error: &io::Error) -> Error {
    let what = "the password file".to_owned();
    Error::CannotWrite { what, path: path.to_owned(), cause: cause(error), denied: is_denied(error) }
}
