//! The ground that Airflow runs on: folders that it must be able to write to, and the file mode mask.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::sys::stat::{Mode, umask};
use nix::unistd::{AccessFlags, access, getegid, geteuid, getgroups};

use super::{cause, is_denied};
use crate::error::{Error, Unreadable};
use crate::source::mode;
use crate::steps::GroundStep;

/// Checks the folders, as the user that the command will run as, and sets the mask.
pub(crate) fn prepare(step: &GroundStep) -> Result<(), Error> {
    if let Some(mask) = step.umask {
        umask(Mode::from_bits_truncate(mask));
    }
    step.folders.iter().try_for_each(|folder| must_be_writable(folder))
}

/// A folder that is not there is Airflow's to make, and whether it can is Airflow's to say.
fn must_be_writable(path: &Path) -> Result<(), Error> {
    let Ok(metadata) = fs::metadata(path) else { return Ok(()) };
    let Err(errno) = access(path, AccessFlags::W_OK | AccessFlags::X_OK) else { return Ok(()) };
    let error = io::Error::from(errno);
    let (uid, gid) = (geteuid(), getegid());
    let facts = format!(
        "{}; owner {}:{}, mode {}, and we are {uid}:{gid}",
        cause(&error),
        metadata.uid(),
        metadata.gid(),
        mode(metadata.mode())
    );
    Err(Error::FolderNotWritable {
        path: path.to_owned(),
        by_module: is_denied(&error) && mode_allows(&metadata),
        cause: if is_denied(&error) { Unreadable::Denied(facts) } else { Unreadable::Unusable(facts) },
        owner: format!("{uid}:{gid}"),
    })
}

/// Whether owner, group and mode alone would let us write.
fn mode_allows(metadata: &Metadata) -> bool {
    let group = metadata.gid();
    let ours =
        || getegid().as_raw() == group || getgroups().is_ok_and(|all| all.iter().any(|one| one.as_raw() == group));
    let shift = if metadata.uid() == geteuid().as_raw() {
        6
    } else if ours() {
        3
    } else {
        0
    };
    metadata.mode() >> shift & 0o3 == 0o3
}
