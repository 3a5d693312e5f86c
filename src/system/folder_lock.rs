//! The lock of a folder, which ends with the process that holds it.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

/// Somebody else has it.
#[derive(Debug)]
pub(super) struct Held;

/// Takes the lock of a folder. A folder that is not there or knows no locks has none.
pub(super) fn take_folder(folder: &Path) -> Result<Option<Flock<File>>, Held> {
    lock(folder, FlockArg::LockExclusiveNonblock)
}

/// Whether nobody has it.
pub(super) fn is_free(folder: &Path) -> bool {
    lock(folder, FlockArg::LockSharedNonblock).is_ok()
}

/// Whether both names lead to one folder, which has one lock.
pub(super) fn is_same(one: &Path, other: &Path) -> bool {
    let [one, other] = [one, other].map(|path| fs::metadata(path).ok().map(|found| (found.dev(), found.ino())));
    one.is_some() && one == other
}

fn lock(folder: &Path, how: FlockArg) -> Result<Option<Flock<File>>, Held> {
    let Ok(folder) = File::open(folder) else { return Ok(None) };
    match Flock::lock(folder, how) {
        Ok(lock) => Ok(Some(lock)),
        Err((_, Errno::EAGAIN)) => Err(Held),
        Err(_) => Ok(None),
    }
}
