//! Writing `airflow.cfg`: staged beside it, compared, renamed over it. The same input gives the same bytes and leaves the file alone.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use nix::unistd::geteuid;

use super::staged::{Staged, private_mode};
use super::{cause, is_denied};
use crate::airflow_version::AirflowOption;
use crate::environment::Environment;
use crate::error::Error;
use crate::log;
use crate::steps::ConfigStep;
use crate::template;

/// Where the file was written, when not where Airflow looks by itself.
pub(crate) type Elsewhere = Option<PathBuf>;

/// Renders and writes the file, or leaves the user's own alone.
pub(crate) fn write_config(step: &ConfigStep, environment: &Environment) -> Result<Elsewhere, Error> {
    let ConfigStep::Write { path, template, template_source } = step else {
        log::info(step);
        return Ok(None);
    };
    let text = template::render(template, &|name| environment.lookup(name))
        .map_err(|problem| Error::Template { template: template_source.clone(), problem })?;
    let text = [crate::plan::user_config::MARK, " at each start; changes here are lost.\n", &text].concat();
    if fs::read(path).is_ok_and(|present| present == text.as_bytes()) {
        return Ok(None);
    }
    log::info(step);
    let written = path.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| replace(path, &text));
    match written {
        Ok(()) => Ok(None),
        Err(error) if is_read_only(&error) => {
            let elsewhere = runtime_folder()?.join("airflow.cfg");
            replace(&elsewhere, &text).map_err(|second| failed(&elsewhere, &second))?;
            log::warning(format_args!(
                "`{}` cannot be written ({}); it is in `{}`, and `AIRFLOW_CONFIG` names that",
                path.display(),
                cause(&error),
                elsewhere.display()
            ));
            Ok(Some(elsewhere))
        }
        Err(error) => Err(failed(path, &error)),
    }
}

/// Puts the values of these options into files, and tells Airflow to read them by `..._CMD`. Without a line end: Airflow keeps that,
/// and it would be part of the database's name.
pub(crate) fn hide(options: &[AirflowOption], environment: &mut Environment) -> Result<(), Error> {
    for option in options {
        let variable = option.variable();
        let Some(value) = environment.filled(&variable) else { continue };
        let path = write_private(&format!("{}.{}", option.section(), option.key()), value)?;
        environment.change(&variable, None);
        environment.change(&option.with_suffix("_cmd").variable(), Some(&format!("cat {}", path.display())));
    }
    Ok(())
}

/// Writes a file that this user alone reads, and that ends with the container.
pub(super) fn write_private(name: &str, text: &str) -> Result<PathBuf, Error> {
    let path = runtime_folder()?.join(name);
    replace(&path, text).map_err(|error| failed(&path, &error))?;
    Ok(path)
}

fn failed(path: &Path, error: &io::Error) -> Error {
    let (path, what) = (path.to_owned(), "the configuration".to_owned());
    Error::CannotWrite { what, path, cause: cause(error), denied: is_denied(error) }
}

fn is_read_only(error: &io::Error) -> bool {
    is_denied(error) || error.kind() == io::ErrorKind::ReadOnlyFilesystem
}

/// Puts a new text in the place of the old one, whole or not at all.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let staged = Staged::write(path, text.as_bytes(), private_mode())?;
    match fs::rename(staged.path(), path) {
        // The file itself is a mount: it cannot be replaced, only written to.
        Err(error) if matches!(error.kind(), io::ErrorKind::ResourceBusy | io::ErrorKind::CrossesDevices) => {
            fs::write(path, text)
        }
        done => done,
    }
}

/// A folder of ours alone that can be written to when the home cannot. Anybody may have made it first; then it is not ours.
fn runtime_folder() -> Result<PathBuf, Error> {
    let folder = std::env::temp_dir().join(format!("airflow-entrypoint-{}", geteuid()));
    match fs::DirBuilder::new().mode(0o700).create(&folder) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        done => return done.map_err(|error| failed(&folder, &error)).map(|()| folder),
    }
    let metadata = fs::symlink_metadata(&folder).map_err(|error| failed(&folder, &error))?;
    if metadata.is_dir() && metadata.uid() == geteuid().as_raw() && metadata.mode() & 0o077 == 0 {
        return Ok(folder);
    }
    let cause = format!(
        "expected a folder of {} alone, found owner {}, mode {}",
        geteuid(),
        metadata.uid(),
        crate::source::mode(metadata.mode())
    );
    Err(Error::CannotWrite { what: "the configuration".to_owned(), path: folder, cause, denied: false })
}
