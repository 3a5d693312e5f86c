//! Being the right user: root is given up, an unknown user becomes somebody.

use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;

use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};

use super::{cause, is_denied};
use crate::environment::Environment;
use crate::error::Error;
use crate::identity::{Account, IdentityStep};
use crate::log;
use crate::secret::SecretKind;

/// Becomes whom the plan says, and tells the environment.
pub(crate) fn settle(step: &IdentityStep, key_dir: &Path, environment: &mut Environment) -> Result<(), Error> {
    match step {
        IdentityStep::Stay => return Ok(()),
        IdentityStep::Become(account) => {
            log::info(step);
            hand_over(key_dir, account)?;
            become_user(account)?;
            environment.set_path("HOME", account.home.clone());
        }
        IdentityStep::Introduce(account) => {
            introduce(account);
            // Docker's answer to an unknown user is `/`, where nothing can be written.
            if environment.os("HOME").is_none_or(|home| home == "/") {
                environment.set_path("HOME", account.home.clone());
            }
        }
    }
    let (IdentityStep::Become(account) | IdentityStep::Introduce(account)) = step else { return Ok(()) };
    for name in ["USER", "LOGNAME"] {
        environment.change(name, Some(&account.name));
    }
    Ok(())
}

/// Gives the key folder and our files in it to the user who must read them; what else is there is not ours.
fn hand_over(key_dir: &Path, account: &Account) -> Result<(), Error> {
    let files = SecretKind::ALL
        .iter()
        .map(|kind| (key_dir.join(kind.file_name()), if account.gid == 0 { 0o640 } else { 0o600 }));
    let folder = (key_dir.to_owned(), if account.gid == 0 { 0o770 } else { 0o700 });
    for (path, mode) in std::iter::once(folder).chain(files) {
        let Ok(metadata) = fs::symlink_metadata(&path) else { continue };
        // A mounted secret is a link, and a read-only place is nobody's to change; the user may be able to read them all the same.
        if metadata.is_symlink() || metadata.uid() == account.uid {
            continue;
        }
        let changed = chown(&path, Some(account.uid), Some(account.gid))
            .and_then(|()| fs::set_permissions(&path, Permissions::from_mode(mode)));
        match changed {
            Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => {}
            done => done.map_err(|error| Error::CannotWrite {
                what: "the owner of".to_owned(),
                denied: is_denied(&error),
                cause: cause(&error),
                path,
            })?,
        }
    }
    Ok(())
}

/// Groups, group, user, in this order: the last one takes away the right to the others.
fn become_user(account: &Account) -> Result<(), Error> {
    let (uid, gid) = (Uid::from_raw(account.uid), Gid::from_raw(account.gid));
    let mut groups = vec![gid];
    groups.extend(account.groups.iter().copied().map(Gid::from_raw));
    setgroups(&groups).and_then(|()| setresgid(gid, gid, gid)).and_then(|()| setresuid(uid, uid, uid)).map_err(
        |errno| {
            let cause = cause(&io::Error::from(errno));
            Error::CannotBecome { whom: format!("{}:{}", account.uid, account.gid), cause }
        },
    )
}

/// Adds a line to `/etc/passwd` where that may be written (images for OpenShift allow group 0 to).
fn introduce(account: &Account) {
    let written = OpenOptions::new()
        .append(true)
        .open("/etc/passwd")
        .and_then(|mut passwd| passwd.write_all(account.passwd_line().as_bytes()));
    match written {
        Ok(()) => log::info(format_args!("user {}: named `{}` in `/etc/passwd`", account.uid, account.name)),
        Err(_) => log::info(format_args!("user {} has no name in `/etc/passwd`, which we may not write", account.uid)),
    }
}
