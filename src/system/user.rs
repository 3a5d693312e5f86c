//! Being the right user: root is given up, an unknown user becomes somebody.

use std::fs::{OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::Path;

use nix::libc::{O_NOFOLLOW, O_NONBLOCK};
use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};

use super::{cause, is_denied, secret_file};
use crate::environment::Environment;
use crate::error::Error;
use crate::identity::{Account, IdentityStep, is_open_to};
use crate::log;
use crate::secret::SecretKind;
use crate::steps::GroundStep;

/// Becomes whom the plan says, and tells the environment.
pub(crate) fn settle(
    step: &IdentityStep,
    key_dir: &Path,
    ground: &GroundStep,
    environment: &mut Environment,
) -> Result<(), Error> {
    match step {
        IdentityStep::Stay => return Ok(()),
        IdentityStep::Become(account) => {
            log::info(step);
            hand_over(key_dir, account)?;
            ground.folders.iter().chain(&ground.config_folder).for_each(|folder| open_up(folder, account));
            if account.unknown {
                introduce(account);
            }
            become_user(account)?;
            environment.set_path("HOME", account.home.clone());
        }
        IdentityStep::Introduce(account) => {
            introduce(account);
        }
    }
    let (IdentityStep::Become(account) | IdentityStep::Introduce(account)) = step else { return Ok(()) };
    tell(account, environment);
    Ok(())
}

/// Says in the environment who we are: Python asks for a name there before it asks the system.
pub(super) fn tell(account: &Account, environment: &mut Environment) {
    // Docker's answer to an unknown user is `/`, where nothing can be written.
    if environment.os("HOME").is_none_or(|home| home == "/") {
        environment.set_path("HOME", account.home.clone());
    }
    for name in ["USER", "LOGNAME"] {
        environment.change(name, Some(&account.name));
    }
}

/// Gives our files in the key folder and the folder itself to the user who must read them; what else is there is not ours. The folder
/// comes last: as long as it is ours, nobody can put something else in the place of a file.
pub(super) fn hand_over(key_dir: &Path, account: &Account) -> Result<(), Error> {
    let group = account.gid == 0;
    let files = SecretKind::ALL.iter().map(|kind| {
        let path = secret_file::behind_link(&key_dir.join(kind.file_name()));
        (path, if group { 0o640 } else { 0o600 })
    });
    let folder = (key_dir.to_owned(), if group { 0o770 } else { 0o700 });
    for (path, mode) in files.chain([folder]) {
        // A mounted secret is a link of somebody else's, and what it leads to is not ours.
        let Ok(file) = OpenOptions::new().read(true).custom_flags(O_NOFOLLOW | O_NONBLOCK).open(&path) else {
            continue;
        };
        let Ok(metadata) = file.metadata() else { continue };
        let foreign = metadata.uid() != account.uid;
        if foreign {
            match fchown(&file, Some(account.uid), Some(account.gid)) {
                // The user may be able to read it all the same.
                Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => continue,
                done => done.map_err(|error| Error::CannotWrite {
                    what: "the owner of".to_owned(),
                    denied: is_denied(&error),
                    cause: cause(&error),
                    path: path.clone(),
                })?,
            }
        }
        // Ours to close, or open to everybody.
        let open = foreign || metadata.mode() & 0o007 != 0;
        if open && let Err(error) = file.set_permissions(Permissions::from_mode(mode)) {
            log::warning(format_args!("`{}` may be read by others: {}", path.display(), cause(&error)));
        }
    }
    Ok(())
}

/// Gives a folder that Airflow must write to, and that the engine made for root, to the user who must write there; not what is in it.
fn open_up(folder: &Path, account: &Account) {
    let Ok(metadata) = std::fs::metadata(folder) else { return };
    let open = is_open_to(account.gid, metadata.gid(), metadata.mode());
    if !metadata.is_dir() || metadata.uid() != 0 || open {
        return;
    }
    // Where that cannot be done, the check of the folder tells what is wrong with it.
    if std::os::unix::fs::chown(folder, Some(account.uid), Some(account.gid)).is_ok() {
        log::info(format_args!("`{}`: root's, given to {}:{}", folder.display(), account.uid, account.gid));
    }
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
    let written = OpenOptions::new().read(true).append(true).open("/etc/passwd").and_then(|mut passwd| {
        let mut text = String::new();
        passwd.read_to_string(&mut text)?;
        let end = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
        passwd.write_all([end, &account.passwd_line()].concat().as_bytes())
    });
    match written {
        Ok(()) => log::info(format_args!("user {}: named `{}` in `/etc/passwd`", account.uid, account.name)),
        Err(_) => log::info(format_args!("user {} has no name in `/etc/passwd`, which we may not write", account.uid)),
    }
}
