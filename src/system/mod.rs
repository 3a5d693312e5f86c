//! The edge: the one place that touches files, environment, processes and the network. Everything above it is pure.
#![expect(clippy::disallowed_methods, reason = "this is where the effects live")]

mod account;
mod account_password;
mod account_tables;
pub(crate) mod airflow;
pub(crate) mod alias;
mod broken_pipe;
mod dumb_init;
mod executable;
pub(crate) mod files;
mod folder_lock;
mod forgetting;
pub(crate) mod ground;
pub(crate) mod init;
pub(crate) mod keys;
mod memory;
pub(crate) mod metadb;
mod migration;
mod migration_lock;
mod output;
pub(crate) mod packages;
mod password_file;
pub(crate) mod pid_files;
mod places;
pub(crate) mod process;
mod progress;
mod python;
mod reading;
mod redacted;
mod reencryption;
mod registry;
mod renewal;
mod replacing;
mod rotation;
mod runtime;
mod schema;
mod secret_commands;
mod secret_file;
pub(crate) mod seed_files;
pub(crate) mod seeds;
pub(crate) mod services;
pub(crate) mod settled;
pub(crate) mod signals;
mod staged;
pub(crate) mod store;
mod supervise;
pub(crate) mod user;
pub(crate) mod verdict;
pub(crate) mod world;

use std::io;

/// The cause of a failed system call, in lower case and without the number.
fn cause(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut letters = text.chars();
    letters.next().map(|first| first.to_lowercase().chain(letters).collect()).unwrap_or_default()
}

/// Whether it failed because of who we are.
fn is_denied(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::PermissionDenied
}
