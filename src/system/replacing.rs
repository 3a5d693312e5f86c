//! A secret's file replaced: at every moment the name leads to the whole old content or the whole new one.

use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::Flock;
use nix::unistd::{AccessFlags, access};
use zeroize::Zeroizing;

use super::folder_lock::{Held, take_folder};
use super::reading::unreadable;
use super::secret_file;
use super::staged::{self, Staged};
use super::{cause, is_denied};
use crate::error::Error;
use crate::error::rotation::RotationError;
use crate::mounts;
use crate::secret::{Secret, SecretKind};
use crate::secrets::Stored;

/// How long a look at the lock may take.
const A_MOMENT: Duration = Duration::from_millis(100);

/// The key folder while only we may change what is in it. A folder that knows no locks has none.
pub(super) struct Folder(#[expect(dead_code, reason = "it is held")] Option<Flock<File>>);

/// Takes it, or says who has it. A start that looks whether anybody has it has it itself for that moment.
pub(super) fn take(folder: &Path) -> Result<Folder, Error> {
    let deadline = Instant::now() + A_MOMENT;
    loop {
        match take_folder(folder) {
            Ok(lock) => return Ok(Folder(lock)),
            Err(Held) if Instant::now() < deadline => thread::sleep(A_MOMENT / 10),
            Err(Held) => {
                return Err(RotationError::Busy { who: format!("another process at `{}`", folder.display()) }.into());
            }
        }
    }
}

impl Folder {
    /// Puts a new secret in the place of the one that is in this file, if it still is.
    pub(super) fn replace(&self, kind: SecretKind, path: &Path, old: &Secret, new: &Secret) -> Result<(), Error> {
        match secret_file::observe(kind, path) {
            Stored::Present { content: Ok(found), .. } if found == *old => {}
            _ => return Err(RotationError::Changed { path: path.to_owned() }.into()),
        }
        let line = Zeroizing::new(format!("{}\n", *new.reveal()));
        exchange(path, line.as_bytes()).map_err(|error| failed(kind, path, &error))
    }

    /// What is noted there. A note that cannot be read is not none.
    pub(super) fn noted(&self, path: &Path) -> Result<Option<String>, Error> {
        match fs::read_to_string(path) {
            Ok(note) => Ok(Some(note)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => {
                let what = "note about the staged Fernet key".to_owned();
                Err(Error::Unreadable { what, path: path.to_owned(), cause: unreadable(path, &error) })
            }
        }
    }

    /// Notes something beside a secret, in one piece and for the same readers; nothing removes the note.
    pub(super) fn note(&self, path: &Path, secret: &Path, text: Option<&str>) -> Result<(), Error> {
        let done = match text {
            Some(text) => fs::metadata(secret).and_then(|like| put(path, format!("{text}\n").as_bytes(), &like)),
            // Where nothing can be written nothing can be removed, not even what is not there.
            None if fs::symlink_metadata(path).is_err() => return Ok(()),
            None => fs::remove_file(path),
        };
        done.and_then(|()| sync_folder(path)).map_err(|error| failed(SecretKind::Fernet, path, &error))
    }
}

/// Whether nothing can be written where this file is: a mounted Secret of Kubernetes, or what is mounted with `ro`.
pub(super) fn is_read_only(path: &Path) -> bool {
    let real = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    access(real.parent().unwrap_or(Path::new("/")), AccessFlags::W_OK) == Err(Errno::EROFS)
}

/// Whether another file can take the name of this one: a mount point keeps its name.
pub(super) fn must_be_replaceable(path: &Path) -> Result<(), RotationError> {
    if is_read_only(path) {
        return Err(RotationError::ReadOnly { path: path.to_owned(), order: None });
    }
    let real = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let mountinfo = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    match mounts::is_mount_point(&mountinfo, &real) {
        true => Err(RotationError::MountedAlone { path: path.to_owned() }),
        false => Ok(()),
    }
}

/// By a file beside it that takes over its name, owner and mode. Where the name is a link, what it leads to is replaced.
fn exchange(path: &Path, line: &[u8]) -> io::Result<()> {
    let real = fs::canonicalize(path)?;
    put(&real, line, &fs::metadata(&real)?)?;
    sync_folder(&real)
}

/// Puts a file there in one piece, with the owner and the mode of another one.
fn put(path: &Path, line: &[u8], like: &Metadata) -> io::Result<()> {
    staged::clear_up(path);
    let staged = Staged::write(path, line, like.mode() & 0o7777)?;
    let new = fs::metadata(staged.path())?;
    if (new.uid(), new.gid()) != (like.uid(), like.gid()) {
        // Who is not root keeps the group, by which the owner reads it then.
        chown(staged.path(), Some(like.uid()), Some(like.gid())).or_else(|error| match like.mode() & 0o040 {
            // No group reads it, and the owner is the same.
            0 if new.uid() == like.uid() => Ok(()),
            0 => Err(error),
            _ if new.gid() == like.gid() => Ok(()),
            _ => chown(staged.path(), None, Some(like.gid())),
        })?;
    }
    fs::rename(staged.path(), path)
}

fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path.parent().unwrap_or(Path::new("/")))?.sync_all()
}

fn failed(kind: SecretKind, path: &Path, error: &io::Error) -> Error {
    Error::CannotWrite {
        what: format!("the {kind}"),
        path: path.to_owned(),
        cause: cause(error),
        denied: is_denied(error),
    }
}
