//! What only a root user of a Linux with namespaces can test: a network of its own with names of its own, folders in memory, PID 1.
//! Where that is not to be had the test says so and skips, or fails (`referee`).

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use crate::referee::missing;
use crate::running::{DEADLINE, Running};

/// Set for a test that runs inside.
const INSIDE: &str = "AIRFLOW_ENTRYPOINT_TEST_INSIDE";

/// Whether a test can be done: says which referee is missing when not.
#[track_caller]
pub(crate) fn present(referee: &str, is_present: bool) -> bool {
    if !is_present {
        missing(referee);
    }
    is_present
}

/// Whether we may make namespaces.
#[track_caller]
pub(crate) fn unshare_works() -> bool {
    let command = ["-mnpf", "--mount-proc", "--kill-child", "true"];
    present(
        "unshare as root",
        Command::new("unshare").args(command).output().is_ok_and(|output| output.status.success()),
    )
}

/// Whether we may become somebody else.
#[track_caller]
pub(crate) fn is_root() -> bool {
    present("root", nix::unistd::geteuid().is_root())
}

/// Runs the test itself again in a namespace of mounts, network and processes: `/usr/local` and `/dev/shm` are empty and in memory,
/// names are those of `hosts` (lines of `hosts(5)`) or a question to the name server at 127.0.0.53, and nothing is reachable but the
/// loopback addresses. A copy of `/etc/passwd` may be written to. `test` is the path of the test, as `module::name`.
#[track_caller]
pub(crate) fn isolated(test: &str, hosts: &str, body: impl FnOnce()) {
    if std::env::var_os(INSIDE).is_some() {
        return body();
    }
    if !unshare_works() {
        return;
    }
    let etc = tempfile::tempdir().unwrap();
    fs::set_permissions(etc.path(), Permissions::from_mode(0o755)).unwrap();
    for (name, text) in [
        ("passwd", fs::read_to_string("/etc/passwd").unwrap()),
        ("hosts", format!("127.0.0.1 localhost\n{hosts}")),
        ("resolv.conf", "nameserver 127.0.0.53\noptions timeout:5 attempts:2\n".to_owned()),
        ("nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n".to_owned()),
    ] {
        fs::write(etc.path().join(name), text).unwrap();
    }
    let setup = "set -e; PATH=$PATH:/usr/sbin:/sbin; ip link set lo up; mount -t tmpfs tmpfs /usr/local
        mount -t tmpfs tmpfs /dev/shm; for name in passwd hosts resolv.conf nsswitch.conf; do
        [ -e /etc/$name ] && mount --bind \"$1/$name\" \"$(readlink -f /etc/$name)\"; done; shift; exec \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["-mnpf", "--mount-proc", "--kill-child", "sh", "-c", setup, "sh"]).arg(etc.path());
    command.arg(std::env::current_exe().unwrap()).args([test, "--exact", "--nocapture"]).env(INSIDE, "1");
    let outcome = Running::start(command, Path::new("/nonexistent")).finish_within(5 * DEADLINE);
    outcome.succeeds().check(outcome.stdout.contains("1 passed"), "the test did not run inside");
}
