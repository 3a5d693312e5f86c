//! Installing Python packages, unless the very same are installed already.

use std::fs;
use std::path::{Path, PathBuf};

use super::airflow::succeeded;
use super::files::write_private;
use super::process::{Output, run};
use super::signals::Signals;
use crate::environment::Environment;
use crate::error::Error;
use crate::log;
use crate::plan::requirements::{Installer, RequirementsStep};

const STEP: &str = "install the requirements";

/// Where the hash of what is installed is noted, beside the packages: both end with the container.
const STAMP: &str = ".airflow-entrypoint-requirements";

/// Installs them, and puts the folder of their programs on `PATH`.
pub(crate) fn install(
    step: Option<&RequirementsStep>,
    environment: &mut Environment,
    signals: &Signals,
) -> Result<(), Error> {
    let Some(step) = step else { return Ok(()) };
    let target = match &step.installer {
        Installer::Pip(environment) | Installer::Uv(environment) => Some(environment.folder.clone()),
        Installer::PipUser => environment.os("HOME").map(|home| Path::new(home).join(".local")),
    };
    let stamp = target.as_ref().filter(|_| step.repeatable).map(|target| target.join(STAMP));
    let is_there = |stamp: &PathBuf| fs::read_to_string(stamp).is_ok_and(|hash| hash == step.hash);
    if stamp.as_ref().is_some_and(is_there) {
        log::info(format_args!("the requirements are installed already (set {})", step.hash));
    } else {
        log::info(step);
        let mut with = environment.clone();
        constrain(step, &mut with)?;
        // Not in an argument, which everybody can read: a URL may have a password in it.
        let additional = match step.additional_file() {
            Some(text) => Some(write_private("requirements.txt", &text)?),
            None => None,
        };
        let words = step.words(additional);
        signals.check(STEP)?;
        // Old pips and new uvs say some URLs as they are.
        succeeded(STEP, &words, &run(&words, &with, signals, Output::Redacted)?)?;
        // Without it they are installed again next time.
        let _ = stamp.map(|stamp| fs::write(stamp, &step.hash));
    }
    if let (Installer::PipUser, Some(target)) = (&step.installer, target) {
        put_on_path(&target.join("bin"), environment);
    }
    Ok(())
}

/// Keeps the installed Airflow as it is, beside what the user constrains.
fn constrain(step: &RequirementsStep, environment: &mut Environment) -> Result<(), Error> {
    if step.constraints.is_empty() {
        return Ok(());
    }
    let path = write_private("constraints.txt", &step.constraints)?.display().to_string();
    for name in ["PIP_CONSTRAINT", "UV_CONSTRAINT"] {
        let all = [environment.lookup(name).unwrap_or_default(), &path].join(" ");
        environment.change(name, Some(all.trim()));
    }
    Ok(())
}

/// Behind all that is there: nothing that a requirement brings takes the place of a program of the image.
fn put_on_path(folder: &Path, environment: &mut Environment) {
    let path = environment.os("PATH").unwrap_or_default();
    if std::env::split_paths(path).any(|known| known == folder) {
        return;
    }
    if let Ok(all) = std::env::join_paths(std::env::split_paths(path).chain([folder.to_owned()])) {
        environment.set_path("PATH", all.into());
    }
}
