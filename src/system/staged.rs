//! A file written beside its final place, through to the disk, before it gets its name.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::unistd::getegid;

/// How old a staged file must be to be one that nobody is writing any more.
const ABANDONED: Duration = Duration::from_secs(60);

/// The staged file; removed when it has served.
pub(super) struct Staged(PathBuf);

impl Staged {
    /// Writes the bytes to a new file beside `path`.
    pub(super) fn write(path: &Path, bytes: &[u8], mode: u32) -> io::Result<Self> {
        let prefix = hidden_prefix(path);
        // Containers share process numbers: a name that is taken is somebody else's, unless they were killed over it.
        for attempt in 0..1000 {
            let staged = path.with_file_name(format!("{prefix}{}.{attempt}", std::process::id()));
            if is_abandoned(&staged) {
                let _ = fs::remove_file(&staged);
            }
            match write_new(&staged, bytes, mode) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                done => return done.map(|()| Self(staged)),
            }
        }
        Err(io::Error::other("too many files of unfinished starts"))
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        // Gone already when it was renamed.
        let _ = fs::remove_file(&self.0);
    }
}

/// How the names begin that a file of ours has before its own, or behind a link of its own.
pub(super) fn hidden_prefix(path: &Path) -> String {
    format!(".{}.", path.file_name().unwrap_or_default().to_string_lossy())
}

/// Removes what was staged for this path by those who were killed over it: a secret that has been left out is in no other file.
pub(super) fn clear_up(path: &Path) {
    let prefix = hidden_prefix(path);
    for entry in path.parent().and_then(|folder| fs::read_dir(folder).ok()).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let numbers = name.to_str().and_then(|name| name.strip_prefix(&prefix)?.split_once('.'));
        let ours = numbers.is_some_and(|(pid, attempt)| pid.parse::<u32>().is_ok() && attempt.parse::<u32>().is_ok());
        if ours && is_abandoned(&entry.path()) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Whether a staged file is older than any write of one takes.
fn is_abandoned(staged: &Path) -> bool {
    let age = fs::symlink_metadata(staged).and_then(|metadata| metadata.modified()).map(|time| time.elapsed());
    matches!(age, Ok(Ok(age)) if age > ABANDONED)
}

/// Gives a file its mode whatever the umask is. Where modes cannot be set, as on vfat, what `open` gave it stays.
pub(super) fn set_mode(file: &File, mode: u32) {
    let _ = file.set_permissions(Permissions::from_mode(mode));
}

/// Writes a file that must not exist yet. What is not whole is removed again.
pub(super) fn write_new(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    set_mode(&file, mode);
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    if written.is_err() {
        let _ = fs::remove_file(path);
    }
    written
}

/// Readable by us alone; under group 0 by the group too, since OpenShift gives each start another user of it.
pub(super) fn private_mode() -> u32 {
    if getegid().as_raw() == 0 { 0o640 } else { 0o600 }
}
