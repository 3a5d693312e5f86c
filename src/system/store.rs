//! The key folder: a secret is created there once, whole, and never written again.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::Path;

use nix::fcntl::{AT_FDCWD, AtFlags};
use nix::libc::{EACCES, EDQUOT, EEXIST, EINVAL, EMLINK, ENOSPC, ENOSYS, ENOTSUP, EPERM, EROFS, O_TMPFILE};
use nix::unistd::{getegid, linkat};
use zeroize::Zeroizing;

use super::staged::{self, Staged, private_mode};
use super::{cause, is_denied, secret_file};
use crate::error::Error;
use crate::log;
use crate::secret::{Secret, SecretKind};
use crate::secrets::{Decision, Stored};
use crate::steps::SecretStep;

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
            Decision::Leave { secret: None, .. } | Decision::Without | Decision::WithoutPlace(_) => {
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
pub(super) fn generate(kind: SecretKind) -> Result<Secret, Error> {
    let mut text = Zeroizing::new(fernet::Fernet::generate_key());
    if kind != SecretKind::Fernet {
        text.push_str(&Zeroizing::new(fernet::Fernet::generate_key()));
        text.retain(|letter| letter != '=');
    }
    Secret::parse(kind, text.as_bytes()).map_err(|what| Error::Bug { what })
}

/// Makes the whole line appear under the name, or nothing. `AlreadyExists` when somebody was first.
fn publish(folder: &Path, path: &Path, line: &[u8]) -> io::Result<()> {
    let done = publish_nameless(folder, path, line).or_else(|error| match error.raw_os_error() {
        Some(EACCES | EDQUOT | EEXIST | ENOSPC | EROFS) => Err(error),
        // The file system has no nameless files or does not link them, or there is no /proc.
        _ => publish_named(path, line),
    });
    match done {
        Ok(()) => File::open(folder)?.sync_all(),
        // SFTP has one error for everything, also for a name that another host has just taken.
        Err(_) if path.symlink_metadata().is_ok() => Err(io::ErrorKind::AlreadyExists.into()),
        Err(error) => Err(error),
    }
}

/// By a file that has no name until it is whole: whenever we are killed, nothing is left behind (open(2), `O_TMPFILE`).
fn publish_nameless(folder: &Path, path: &Path, line: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).custom_flags(O_TMPFILE).mode(private_mode()).open(folder)?;
    staged::set_mode(&file, private_mode());
    file.write_all(line)?;
    file.sync_all()?;
    let nameless = format!("/proc/self/fd/{}", file.as_raw_fd());
    Ok(linkat(AT_FDCWD, nameless.as_str(), AT_FDCWD, path, AtFlags::AT_SYMLINK_FOLLOW)?)
}

/// By a file beside it: linked or moved to its name where the file system can do that without overwriting, or by a link to it. Where
/// there are no links of any kind it is written in place.
fn publish_named(path: &Path, line: &[u8]) -> io::Result<()> {
    let staged = Staged::write(path, line, private_mode())?;
    match fs::hard_link(staged.path(), path) {
        Err(error) if is_not_offered(&error) => {}
        done => return done,
    }
    match rename_to_new_name(staged.path(), path) {
        Err(error) if is_not_offered(&error) => {}
        done => return done,
    }
    match publish_link(&staged, path) {
        Err(error) if is_not_offered(&error) && path.symlink_metadata().is_err() => {
            staged::write_new(path, line, private_mode())
        }
        done => done,
    }
}

/// By a symbolic link, which is made whole or not at all and never over something else. What it leads to has a name that nobody will
/// think abandoned.
fn publish_link(staged: &Staged, path: &Path) -> io::Result<()> {
    let name = format!("{}{:016x}", staged::hidden_prefix(path), RandomState::new().hash_one(std::process::id()));
    let whole = path.with_file_name(&name);
    fs::rename(staged.path(), &whole)?;
    let done = symlink(name, path);
    if done.is_err() {
        let _ = fs::remove_file(whole);
    }
    done
}

/// Moves a file to a name that must not be taken (renameat2(2); vfat and SMB have it, and no hard links).
#[cfg(target_env = "gnu")]
fn rename_to_new_name(from: &Path, to: &Path) -> io::Result<()> {
    use nix::fcntl::{RenameFlags, renameat2};
    Ok(renameat2(AT_FDCWD, from, AT_FDCWD, to, RenameFlags::RENAME_NOREPLACE)?)
}

/// Other C libraries have no name for the call.
#[cfg(not(target_env = "gnu"))]
fn rename_to_new_name(_: &Path, _: &Path) -> io::Result<()> {
    Err(io::Error::from_raw_os_error(ENOSYS))
}

fn is_not_offered(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(EINVAL | EMLINK | ENOSYS | ENOTSUP | EPERM))
}

fn create_folder(folder: &Path) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    let mode = if getegid().as_raw() == 0 { 0o770 } else { 0o700 };
    DirBuilder::new().recursive(true).mode(mode).create(folder)?;
    // The umask has had its say; under group 0 the next start may be another user of it. Not every file system has modes.
    let _ = fs::set_permissions(folder, Permissions::from_mode(mode));
    Ok(())
}

/// The secret of whoever was first.
fn winner(kind: SecretKind, path: &Path) -> Result<Secret, Error> {
    let path = path.to_owned();
    match secret_file::observe(kind, &path) {
        Stored::Present { content: Ok(secret), .. } => Ok(secret),
        Stored::Present { content: Err(problem), facts, .. } => {
            Err(Error::DamagedSecret { kind, path, problem, facts })
        }
        Stored::Unreadable(cause) => Err(Error::Unreadable { what: kind.to_string(), path, cause }),
        Stored::Absent => Err(Error::CannotWrite {
            what: format!("the {kind}"),
            path,
            cause: "somebody else made it and took it away again".to_owned(),
            denied: false,
        }),
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
