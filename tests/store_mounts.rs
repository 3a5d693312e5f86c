//! The key folder on real mounts without hard links (SFTP over FUSE): no files without a name, no move that does not overwrite. A key
//! is then a link to what is beside it; where there are no links of any kind it is written in place.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use tempfile::TempDir;

use crate::namespace::{isolated, present};
use crate::refused_calls::{NO_SYMBOLIC_LINKS, refusing, refusing_works};
use crate::sandbox::{NOBODY, Sandbox, fingerprint};
use crate::store_kills::{
    From, Left, all_agree, is_hidden, kill_everywhere, sandbox, start_at_once, state, strace_works,
};

const SFTP: &str = "/usr/lib/openssh/sftp-server";

/// A file server with a folder that some hosts have mounted.
struct Server {
    // Unmounted before the folder goes.
    hosts: Vec<Mount>,
    _folder: TempDir,
    served: PathBuf,
}

impl Server {
    /// `None`, said by name, where there is no such file system.
    fn new(hosts: usize) -> Option<Self> {
        let sshfs = Command::new("sshfs").arg("--version").output().is_ok();
        if !present("sshfs", sshfs && Path::new(SFTP).exists() && Path::new("/dev/fuse").exists()) {
            return None;
        }
        // In memory: what the disk of this machine is busy with is not what these tests are about.
        let folder = tempfile::tempdir_in("/dev/shm").unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let (served, ssh) = (folder.path().join("served"), folder.path().join("ssh"));
        fs::create_dir(&served).unwrap();
        // In place of `ssh`, whose arguments it does not want.
        fs::write(&ssh, format!("#!/bin/sh\nexec {SFTP}\n")).unwrap();
        fs::set_permissions(&ssh, fs::Permissions::from_mode(0o755)).unwrap();
        let hosts = (0..hosts).map(|host| Mount::new(&served, &ssh, folder.path().join(host.to_string()))).collect();
        Some(Self { hosts, _folder: folder, served })
    }

    /// The folder as a host sees it.
    fn at(&self, host: usize) -> &str {
        self.hosts[host].0.to_str().unwrap()
    }

    /// A world whose key folder is this one of the first host. Of several hosts none sees at once what another has done: the test
    /// looks at what the server has.
    fn sandbox(&self, keys: &str) -> Sandbox {
        let (sandbox, mounted) = (sandbox(), Path::new(self.at(0)).join(keys));
        fs::create_dir_all(&mounted).unwrap();
        fs::remove_dir(sandbox.path("keys")).unwrap();
        let seen = if self.hosts.len() == 1 { mounted.clone() } else { self.served.join(keys) };
        symlink(seen, sandbox.path("keys")).unwrap();
        sandbox.with("ENTRYPOINT_KEY_DIR", mounted)
    }
}

/// Undone with this value, whatever happens.
struct Mount(PathBuf);

impl Mount {
    fn new(served: &Path, ssh: &Path, at: PathBuf) -> Self {
        fs::create_dir(&at).unwrap();
        let options = format!("disable_hardlink,allow_other,default_permissions,ssh_command={}", ssh.display());
        let source = format!("server:{}", served.display());
        let mut command = Command::new("timeout");
        command.args(["20", "sshfs", "-o", &options, &source]).arg(&at);
        let output = command.output().unwrap();
        let mount = Self(at);
        assert!(output.status.success(), "{command:?}: {output:?}");
        // The control: this is another file system, and there are no hard links here.
        let [one, two] = ["one", "two"].map(|name| mount.0.join(name));
        fs::write(&one, "").unwrap();
        assert!(served.join("one").exists(), "it is not mounted");
        let refused = fs::hard_link(&one, two).unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(nix::libc::EPERM), "{refused}");
        fs::hard_link(served.join("one"), served.join("two")).unwrap();
        for name in ["one", "two"] {
            fs::remove_file(served.join(name)).unwrap();
        }
        mount
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // Waits for nobody; what is left ends with the namespace of the test.
        let _ = Command::new("umount").args(["--lazy", "--force"]).arg(&self.0).output();
    }
}

#[test]
fn k02_two_hundred_first_starts_use_one_key_on_a_mount_without_hard_links() {
    isolated("store_mounts::k02_two_hundred_first_starts_use_one_key_on_a_mount_without_hard_links", "", || {
        two_hundred_on_hosts(1, &[]);
    });
}

/// Each host has a cache of its own, and the server decides who was first.
#[test]
fn k02_two_hundred_first_starts_on_two_hosts_use_one_key() {
    isolated("store_mounts::k02_two_hundred_first_starts_on_two_hosts_use_one_key", "", || {
        two_hundred_on_hosts(2, &[]);
    });
}

#[test]
fn k02_two_hundred_first_starts_on_two_hosts_without_links_use_one_key() {
    isolated("store_mounts::k02_two_hundred_first_starts_on_two_hosts_without_links_use_one_key", "", || {
        if refusing_works() {
            two_hundred_on_hosts(2, &refusing(NO_SYMBOLIC_LINKS));
        }
    });
}

fn two_hundred_on_hosts(hosts: usize, front: &[&str]) {
    let Some(server) = Server::new(hosts) else { return };
    let folders: Vec<_> = (0..hosts).map(|host| server.at(host)).collect();
    let (sandbox, outcomes) = start_at_once(200, server.sandbox(""), front, &folders);
    all_agree(&sandbox, &outcomes, &folders);
    // One file of each, and the links to them where there are links.
    assert_eq!(sandbox.names("keys").len(), if front.is_empty() { 6 } else { 3 });
}

/// Worlds whose key folders are on one mount.
fn kill_on_a_mount(what: &str, front: &[&str], judge: impl FnOnce(Left)) {
    let Some(server) = Server::new(1) else { return };
    let count = AtomicUsize::new(0);
    let new = || server.sandbox(&count.fetch_add(1, Ordering::Relaxed).to_string());
    judge(kill_everywhere(what, front, &new, From::FirstWrite));
}

#[test]
fn a_kill_on_a_mount_without_hard_links_leaves_a_whole_key_or_none() {
    isolated("store_mounts::a_kill_on_a_mount_without_hard_links_leaves_a_whole_key_or_none", "", || {
        if strace_works() {
            kill_on_a_mount("on a mount without hard links", &[], |left| {
                is_hidden(&left);
                assert_eq!(left.empty, [""; 0]);
            });
        }
    });
}

/// Nothing but a file in its place can be made at once and by one alone. A kill in the moment before it is written leaves it empty,
/// which the next start says: an empty file may be what is left of a key.
#[test]
fn a_kill_on_a_mount_without_links_leaves_a_whole_key_or_none_or_an_empty_file_that_is_told() {
    let test = "a_kill_on_a_mount_without_links_leaves_a_whole_key_or_none_or_an_empty_file_that_is_told";
    isolated(&format!("store_mounts::{test}"), "", || {
        if strace_works() && refusing_works() {
            kill_on_a_mount("on a mount without links", &refusing(NO_SYMBOLIC_LINKS), |left| {
                is_hidden(&left);
                // Before the mode is set and before the line is written.
                assert!((1..=6).contains(&left.empty.len()), "{:?}", left.empty);
            });
        }
    });
}

/// What root has made is given to the user who reads it, behind the link too.
#[test]
fn a_key_behind_a_link_is_handed_over() {
    isolated("store_mounts::a_key_behind_a_link_is_handed_over", "", || {
        let Some(server) = Server::new(1) else { return };
        let sandbox = server.sandbox("keys").with("ENTRYPOINT_RUN_AS", NOBODY.to_string()).made_executable();
        for folder in ["home", "seen", "calls"] {
            chown(sandbox.path(folder), Some(NOBODY), Some(NOBODY)).unwrap();
        }
        let first = sandbox.run(&["mycmd"]);
        first.succeeds();
        let (before, others) = state(&sandbox);
        first.same((before.len(), others.len()), (3, 0)).same(sandbox.mode("keys/fernet.key"), 0o600);
        first.check(sandbox.path("keys/fernet.key").is_symlink(), "it is no link");
        // By that user alone, who reads the same.
        let sandbox = sandbox.without("ENTRYPOINT_RUN_AS").owned_by(NOBODY, NOBODY);
        let second = sandbox.run(&["mycmd"]);
        let line = format!(
            "info: Fernet key: from `{}`, fingerprint {}",
            format_args!("{}/keys/fernet.key", server.at(0)),
            fingerprint(&before["fernet.key"])
        );
        second.succeeds().says(&line).same(state(&sandbox), (before, others));
    });
}
