//! One file of the key folder as it is found. Nothing here changes anything.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant, UNIX_EPOCH};

use nix::unistd::{AccessFlags, access};
use zeroize::Zeroizing;

use super::reading::{read, unreadable};
use super::staged;
use crate::error::Unreadable;
use crate::secret::{Secret, SecretKind};
use crate::secrets::{Stored, facts};
use crate::source::timestamp;

/// How long the content of a file may take to follow its name, where a secret must be written in place. Another host may see it a
/// second later than we do (attribute caches of FUSE and NFS), and both may be busy.
const WRITER_PATIENCE: Duration = Duration::from_secs(10);

/// How old the file of somebody who is just writing it may look: the clocks of a file server and its clients differ.
const CLOCKS_DIFFER: Duration = Duration::from_secs(30);

/// Reads the file of a secret. One that is linked or moved into place is whole; one that is written in place is not for a moment, and
/// that is waited for.
pub(super) fn observe(kind: SecretKind, path: &Path) -> Stored {
    let deadline = Instant::now() + WRITER_PATIENCE;
    loop {
        // Judged by what was read: between two looks the file may have been made.
        let (stored, whole) = stored(kind, path);
        if whole || !may_be_unfinished(path) || Instant::now() >= deadline {
            return stored;
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// The file itself, which is another one where the name is a link of ours to what is beside it.
pub(super) fn behind_link(path: &Path) -> PathBuf {
    let target = fs::read_link(path).unwrap_or_default();
    let prefix = staged::hidden_prefix(path);
    match (target.components().next(), target.components().nth(1)) {
        (Some(Component::Normal(name)), None) if name.to_string_lossy().starts_with(&prefix) => {
            path.with_file_name(name)
        }
        _ => path.to_owned(),
    }
}

/// What is there, and whether it is all that somebody wrote in one call: before that a file is empty, or has its length and no content.
fn stored(kind: SecretKind, path: &Path) -> (Stored, bool) {
    let unusable = |found: &str| (Stored::Unreadable(Unreadable::Unusable(found.to_owned())), true);
    // Asked first: a link that somebody makes between two questions leads to something.
    let is_link = path.is_symlink();
    // A pipe would be waited for, and a link that leads nowhere would look like nothing.
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => return unusable("is a directory"),
        Ok(metadata) if !metadata.is_file() => return unusable("expected a file, found something else"),
        Err(error) if error.kind() == io::ErrorKind::NotFound && is_link => {
            return unusable("expected a file, found a link to nothing");
        }
        _ => {}
    }
    match read(path) {
        Ok((bytes, metadata)) => {
            let bytes = Zeroizing::new(bytes);
            let modified = metadata.modified().unwrap_or(UNIX_EPOCH);
            let mode = metadata.mode();
            let facts = facts(metadata.len(), metadata.uid(), metadata.gid(), mode, &timestamp(modified));
            let whole = !bytes.is_empty() && !bytes.contains(&0);
            (Stored::Present { content: Secret::parse(kind, &bytes), facts, mode }, whole)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => (Stored::Absent, true),
        Err(error) => (Stored::Unreadable(unreadable(path, &error)), true),
    }
}

/// Whether somebody may just be writing the file: it is young and can be written to.
fn may_be_unfinished(path: &Path) -> bool {
    let Ok(metadata) = fs::metadata(path) else { return false };
    // A time in the future is that of another clock, too.
    let age = metadata.modified().map(|time| time.elapsed().unwrap_or_default());
    age.is_ok_and(|age| age < CLOCKS_DIFFER) && metadata.is_file() && access(path, AccessFlags::W_OK).is_ok()
}
