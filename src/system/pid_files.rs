//! Stale pid files: looked at and removed just before the command starts.

use std::fs;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;

use nix::libc;
use nix::sys::signal::kill;
use nix::unistd::Pid;

use super::cause;
use crate::launch::pid_files::{Owner, PidFile, Verdict};
use crate::log;

/// Removes what would keep the command from starting. That it cannot is no reason not to try it.
pub(crate) fn clear(files: &[PidFile]) {
    for file in files {
        let mut text = String::new();
        let opened =
            fs::OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOFOLLOW).open(&file.path);
        let Ok(content) = opened else { continue };
        if content.metadata().is_ok_and(|metadata| !metadata.is_file())
            || content.take(64).read_to_string(&mut text).is_err()
        {
            continue;
        }
        match file.judge(&text, owner) {
            Verdict::Keep(what) => log::warning(what),
            Verdict::Remove(what) => match fs::remove_file(&file.path) {
                Ok(()) => log::info(what),
                Err(error) => {
                    log::warning(format_args!(
                        "cannot remove the pid file `{}`: {}",
                        file.path.display(),
                        cause(&error)
                    ));
                }
            },
        }
    }
}

fn owner(pid: i32) -> Owner {
    if ancestors().any(|ancestor| ancestor == pid) {
        return Owner::Us;
    }
    if kill(Pid::from_raw(pid), None) == Err(nix::Error::ESRCH) {
        return Owner::Nobody;
    }
    let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    Owner::Process(String::from_utf8_lossy(&words).replace('\0', " "))
}

/// This process and all that it descends from. An outer init has the command's words in its own command line.
fn ancestors() -> impl Iterator<Item = i32> {
    let parent = |pid: &i32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        stat.rsplit(')').next()?.split_ascii_whitespace().nth(1)?.parse().ok().filter(|&parent: &i32| parent > 0)
    };
    std::iter::successors(Some(std::process::id().cast_signed()), parent)
}
