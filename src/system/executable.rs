//! Programs that cannot be run: why, told by the file itself.

use std::ffi::{CString, OsStr};
use std::fs;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sys::statvfs::{FsFlags, statvfs};

use super::reading::unreadable;
use super::{cause, is_denied};
use crate::error::{Error, Found};
use crate::launch::executable::{HEAD, Kind, kind, what_is_missing, what_it_is};

/// The machine that we were built for.
const OURS: &str = std::env::consts::ARCH;

/// A command as execve(2) takes it.
pub(super) struct Program {
    pub path: CString,
    pub arguments: Vec<CString>,
    pub environment: Vec<CString>,
}

/// The command, if its file is for another machine: an emulator may know it, and a shell does not.
pub(super) fn foreign(command: &Command) -> Option<Program> {
    let path = file(command)?;
    if !matches!(head(&path), Kind::Foreign { .. }) {
        return None;
    }
    let c = |text: &OsStr| CString::new(text.as_bytes()).ok();
    let variables =
        command.get_envs().filter_map(|(name, value)| Some([name.as_bytes(), b"=", value?.as_bytes()].concat()));
    Some(Program {
        path: c(path.as_os_str())?,
        arguments: [command.get_program()].into_iter().chain(command.get_args()).map(c).collect::<Option<_>>()?,
        environment: variables.map(CString::new).collect::<Result<_, _>>().ok()?,
    })
}

/// Why a command could not be started.
pub(super) fn cannot_run(command: &Command, error: &io::Error) -> Error {
    let (cause, found) = match file(command) {
        Some(path) => why(&path, error),
        None if error.kind() == io::ErrorKind::NotFound => (cause(error), Found::No),
        None => (cause(error), Found::NotExecutable),
    };
    Error::CannotRun { program: command.get_program().to_string_lossy().into_owned(), cause, found }
}

fn why(path: &Path, error: &io::Error) -> (String, Found) {
    if error.kind() == io::ErrorKind::NotFound {
        return (what_is_missing(&head(path), path).unwrap_or_else(|| cause(error)), Found::Incomplete);
    }
    if !is_denied(error) {
        return (what_it_is(&head(path), OURS).unwrap_or_else(|| cause(error)), Found::NotExecutable);
    }
    let text = match fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => "is a directory".to_owned(),
        Ok(metadata) if metadata.permissions().mode() & 0o111 == 0 => unreadable(path, error).to_string(),
        _ if statvfs(path).is_ok_and(|system| system.flags().contains(FsFlags::ST_NOEXEC)) => {
            "its file system is mounted `noexec`".to_owned()
        }
        _ => unreadable(path, error).to_string(),
    };
    (text, Found::NotExecutable)
}

/// The file of a command, as execvp(3) looks for it.
fn file(command: &Command) -> Option<PathBuf> {
    let word = Path::new(command.get_program());
    if word.as_os_str().as_bytes().contains(&b'/') {
        return fs::metadata(word).is_ok().then(|| word.to_owned());
    }
    let path = command.get_envs().find(|(name, _)| *name == "PATH").and_then(|(_, value)| value)?;
    std::env::split_paths(path).map(|folder| folder.join(word)).find(|file| file.is_file())
}

fn head(path: &Path) -> Kind {
    let mut head = Vec::with_capacity(HEAD);
    // One that cannot be read may be run all the same.
    let _ = fs::File::open(path).map(|file| file.take(HEAD as u64).read_to_end(&mut head));
    kind(&head, OURS)
}
