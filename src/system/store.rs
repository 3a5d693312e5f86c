//! The key folder: a secret is created there once, whole, and never written again.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use nix::fcntl::{AT_FDCWD, AtFlags};
use nix::libc::O_TMPFILE;
use nix::unistd::{getegid, linkat};
use zeroize::Zeroizing;

use super::staged::{self, Staged, private_mode};
use super::{cause, is_denied, world};
use crate::error::Error;
use crate::log;
use crate::secret::{Secret, SecretKind};
use crate::secrets::{Decision, Stored};
use crate::steps::SecretStep;

/// How long to wait for the one who creates a file without hard links to have written it.
const WRITER_PATIENCE: Duration = Duration::from_secs(5);

/// The secrets as Airflow gets them.
pub(crate) struct Secrets(Vec<(SecretKind, Secret)>);

impl Secrets {
    /// The secret of a kind, if there is one.
    pub(crate) fn of(&self, kind: SecretKind) -> Option<&Secret> {
        self.0.iter().find(|(known, _)| *known == kind).map(|(_, secret)| secret)
    }
}

/// Does what was decided about each secret, in order.
pub(crate) fn settle(steps: &[SecretStep]) -> Result<Secrets, Error> {
    let mut secrets = Secrets(Vec::with_capacity(steps.len()));
    for step in steps {
        let (secret, made) = match &step.decision {
            Decision::Leave { secret: Some(secret), .. } => (secret.clone(), false),
            Decision::Leave { secret: None, .. } | Decision::Without => {
                log::info(step);
                continue;
            }
            Decision::Use { secret, .. } => (secret.clone(), false),
            Decision::Generate(path) => create_once(step.kind, path, generate(step.kind)?)?,
            Decision::Derive => match secrets.of(SecretKind::Fernet) {
                Some(Secret::Fernet(keys)) => (Secret::derive(step.kind, keys)?, true),
                _ => return Err(Error::Bug { what: "nothing to derive a secret from".to_owned() }),
            },
        };
        log::info(step.settled(&secret, made));
        secrets.0.push((step.kind, secret));
    }
    Ok(secrets)
}

/// Creates the file of a secret, or reads the one of whoever was first. Says whether it was us.
pub(super) fn create_once(kind: SecretKind, path: &Path, secret: Secret) -> Result<(Secret, bool), Error> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    let failed = |path: &Path, error: &io::Error| Error::CannotWrite {
        what: format!("the {kind}"),
        path: path.to_owned(),
        cause: cause(error),
        denied: is_denied(error),
    };
    create_folder(folder).map_err(|error| failed(folder, &error))?;
    let line = Zeroizing::new(format!("{}\n", *secret.reveal()));
    match publish(folder, path, line.as_bytes()) {
        Ok(()) => Ok((secret, true)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => winner(kind, path).map(|secret| (secret, false)),
        Err(error) => Err(failed(path, &error)),
    }
}

/// A new random secret: one Fernet key, or two keys' worth of randomness for the others.
fn generate(kind: SecretKind) -> Result<Secret, Error> {
    let mut text = Zeroizing::new(fernet::Fernet::generate_key());
    if kind != SecretKind::Fernet {
        text.push_str(&Zeroizing::new(fernet::Fernet::generate_key()));
        text.retain(|letter| letter != '=');
    }
    Secret::parse(kind, text.as_bytes()).map_err(|what| Error::Bug { what })
}

/// Makes the whole line appear under the name, or nothing. `AlreadyExists` when somebody was first.
fn publish(folder: &Path, path: &Path, line: &[u8]) -> io::Result<()> {
    let done = publish_nameless(folder, path, line).or_else(|error| match error.kind() {
        io::ErrorKind::AlreadyExists | io::ErrorKind::PermissionDenied | io::ErrorKind::StorageFull => Err(error),
        // The file system has no nameless files, or there is no /proc.
        _ => publish_named(path, line),
    });
    done.and_then(|()| File::open(folder)?.sync_all())
}

/// By a file that has no name until it is whole: whenever we are killed, nothing is left behind (open(2), `O_TMPFILE`).
fn publish_nameless(folder: &Path, path: &Path, line: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).custom_flags(O_TMPFILE).mode(private_mode()).open(folder)?;
    file.set_permissions(Permissions::from_mode(private_mode()))?;
    file.write_all(line)?;
    file.sync_all()?;
    let nameless = format!("/proc/self/fd/{}", file.as_raw_fd());
    Ok(linkat(AT_FDCWD, nameless.as_str(), AT_FDCWD, path, AtFlags::AT_SYMLINK_FOLLOW)?)
}

/// By a file beside it, or in place where there are no hard links (vfat, some FUSE and SMB mounts).
fn publish_named(path: &Path, line: &[u8]) -> io::Result<()> {
    let staged = Staged::write(path, line, private_mode())?;
    match fs::hard_link(staged.path(), path) {
        Err(error) if is_without_links(&error) => staged::write_new(path, line, private_mode()),
        done => done,
    }
}

fn is_without_links(error: &io::Error) -> bool {
    use nix::libc::{EMLINK, ENOSYS, ENOTSUP, EPERM};
    matches!(error.raw_os_error(), Some(EPERM | ENOTSUP | ENOSYS | EMLINK))
}

fn create_folder(folder: &Path) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    let mode = if getegid().as_raw() == 0 { 0o770 } else { 0o700 };
    DirBuilder::new().recursive(true).mode(mode).create(folder)?;
    // The umask has had its say; under group 0 the next start may be another user of it.
    fs::set_permissions(folder, Permissions::from_mode(mode))
}

/// The secret of whoever was first. A file that was linked is whole; one that was written in place may still be growing.
fn winner(kind: SecretKind, path: &Path) -> Result<Secret, Error> {
    let deadline = Instant::now() + WRITER_PATIENCE;
    loop {
        match world::stored(kind, path) {
            Stored::Present { content: Ok(secret), .. } => return Ok(secret),
            Stored::Present { content: Err(problem), facts } if Instant::now() > deadline => {
                return Err(Error::DamagedSecret { kind, path: path.to_owned(), problem, facts });
            }
            Stored::Unreadable(cause) => {
                return Err(Error::Unreadable { what: kind.to_string(), path: path.to_owned(), cause });
            }
            Stored::Absent | Stored::Present { .. } => thread::sleep(Duration::from_millis(5)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn made_secrets_are_good_ones_and_never_the_same() {
        let key = generate(SecretKind::Fernet).unwrap();
        let fernet = fernet::Fernet::new(&key.reveal()).unwrap();
        assert_eq!(fernet.decrypt(&fernet.encrypt(b"x")).unwrap(), b"x");
        assert_ne!(generate(SecretKind::Fernet).unwrap(), key);
        // PyJWT asks for 64 bytes to sign with HS512.
        assert_eq!(generate(SecretKind::Jwt).unwrap().reveal().len(), 86);
        assert_ne!(generate(SecretKind::Web).unwrap(), generate(SecretKind::Web).unwrap());
    }
}
