//! Under the name `airflow`, in front of the real one on `PATH`: for `docker exec`, which has the environment of the container and not
//! that of the command that a start has become.
//!
//! The `airflow.cfg` of that start says all that the environment does not; but to Airflow an empty variable says something too
//! (`AIRFLOW__CORE__FERNET_KEY: ''` of the official compose file: no encryption), and a user without a name is one that Python cannot
//! find. So this takes away what is empty, names who has no name, becomes the real program, and must not do more: no message, no file.

use std::ffi::{OsStr, OsString};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::{env, fs};

use super::executable::cannot_run;
use super::process::command;
use super::{user, world};
use crate::airflow_version::AirflowOption;
use crate::commands::Class;
use crate::environment::Environment;
use crate::error::Error;
use crate::identity::{self, IdentityStep};

const NAME: &str = "airflow";

/// Becomes the real one, if we were called by that name.
pub(crate) fn become_airflow() -> Result<(), Error> {
    if env::args_os().next().is_none_or(|name| Path::new(&name).file_name() != Some(OsStr::new(NAME))) {
        return Ok(());
    }
    let mut environment = Environment::new(env::vars_os());
    step_aside(&mut environment);
    for variable in AirflowOption::MANAGED.map(AirflowOption::variable) {
        if !environment.is_set(&variable) {
            environment.change(&variable, None);
        }
    }
    // A start is told so, too; what it could not write to `/etc/passwd`, Python finds nowhere else.
    let (users, home) = (world::users(&environment), environment.user_home());
    if let Ok(IdentityStep::Introduce(account)) = identity::decide(None, None, Class::Other, &users, &home) {
        user::tell(&account, &mut environment);
    }
    let words: Vec<OsString> = std::iter::once(NAME.into()).chain(env::args_os().skip(1)).collect();
    let mut command = command(&words, &environment);
    let error = command.exec();
    Err(cannot_run(&command, &error))
}

/// Takes the folders where we are `airflow` off `PATH`: whoever looks for that means the real one.
pub(crate) fn step_aside(environment: &mut Environment) {
    let identity = |path: &Path| fs::metadata(path).map(|metadata| (metadata.dev(), metadata.ino())).ok();
    let ours = identity(Path::new("/proc/self/exe"));
    let Some(path) = environment.os("PATH") else { return };
    let folders: Vec<_> = env::split_paths(path).collect();
    let others = folders.iter().filter(|folder| ours.is_none() || identity(&folder.join(NAME)) != ours);
    if others.clone().count() < folders.len()
        && let Ok(path) = env::join_paths(others)
    {
        environment.set_path("PATH", path.into());
    }
}
