//! Reading what we are pointed to: never without a limit, and a failure says whose file it is.

use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::unistd::{getegid, geteuid};

use super::{cause, is_denied};
use crate::error::Unreadable;
use crate::source::mode;

/// No file that we read is larger than this, but for a mistake.
const LARGEST_FILE: u64 = 1 << 20;

/// The bytes of a file, and what is known of it.
pub(super) fn read(path: &Path) -> io::Result<(Vec<u8>, Metadata)> {
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    if metadata.is_dir() {
        return Err(io::Error::from(io::ErrorKind::IsADirectory));
    }
    let mut bytes = Vec::with_capacity(metadata.len().min(LARGEST_FILE) as usize);
    file.take(LARGEST_FILE).read_to_end(&mut bytes)?;
    Ok((bytes, metadata))
}

/// Why a file cannot be read: the cause, and for a permission the owner, the mode and who we are.
pub(super) fn unreadable(path: &Path, error: &io::Error) -> Unreadable {
    if !is_denied(error) {
        return Unreadable::Unusable(cause(error));
    }
    let owner = fs::metadata(path)
        .map(|metadata| format!("; owner {}:{}, mode {}", metadata.uid(), metadata.gid(), mode(metadata.mode())))
        .unwrap_or_default();
    Unreadable::Denied(format!("{}{owner}, and we are {}:{}", cause(error), geteuid(), getegid()))
}
