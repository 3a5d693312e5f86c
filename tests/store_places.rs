//! States in which the key folder may be found: each is told exactly, and left exactly as it was.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::Path;
use std::process::Command;

use crate::namespace::{is_root, isolated};
use crate::outcome::Outcome;
use crate::refused_calls::{NO_LINKS, NO_NAMELESS_FILES, refusing, refusing_works};
use crate::sandbox::{Sandbox, V2, V3, fingerprint, new_key};

const FERNET: &str = "AIRFLOW__CORE__FERNET_KEY";
/// Owns nothing, and has no name.
const STRANGER: u32 = 12_345;

fn mount(arguments: &[&str]) {
    assert!(Command::new("mount").args(arguments).status().unwrap().success(), "mount {arguments:?}");
}

/// All that may be known of what is in a folder: names, what they are, bytes, targets, times, owners, modes.
fn volume(folder: &Path) -> Vec<String> {
    let mut entries: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            let data = fs::symlink_metadata(&path).unwrap();
            let bytes = if data.is_file() { fs::read(&path).unwrap() } else { Vec::new() };
            let facts = (data.mode(), data.uid(), data.gid(), data.nlink(), data.mtime(), data.mtime_nsec());
            format!("{path:?} {facts:?} {:?} {bytes:?}", fs::read_link(&path).ok())
        })
        .collect();
    entries.sort();
    entries
}

/// Runs a service that fails so, and leaves everything as it was.
#[track_caller]
fn refused(sandbox: &Sandbox, status: i32, stderr: &str) -> Outcome {
    let before = volume(&sandbox.path("keys"));
    let outcome = sandbox.run(&["scheduler"]);
    outcome.fails(status, stderr).same(volume(&sandbox.path("keys")), before);
    outcome.same(sandbox.calls(), vec![]).same(sandbox.names("home"), vec![]);
    outcome
}

#[test]
fn what_is_no_key_is_told_and_left_alone() {
    let key = new_key();
    let expected = "expected 32 bytes in url-safe base64 (44 characters), found";
    let every_byte: Vec<u8> = (0..=255).filter(|byte| *byte != b',').collect();
    for (bytes, problem) in [
        (vec![0; 64], format!("{expected} 0 bytes")),
        (every_byte, format!("{expected} 66 characters that end in the middle of a byte")),
        (vec![b'A'; 1 << 20], format!("{expected} 786432 bytes")),
        (key.as_bytes()[..43 - 3].to_vec(), format!("{expected} 30 bytes")),
        (format!("{key}\n{key}\n").into_bytes(), "found two keys without a comma between them".to_owned()),
    ] {
        let sandbox = Sandbox::new(V3);
        sandbox.write("keys/fernet.key", &bytes);
        let (path, size) = (sandbox.text("keys/fernet.key"), bytes.len());
        let owner = format!("{}:{}", nix::unistd::geteuid(), nix::unistd::getegid());
        let facts = format!("{size} bytes, owner {owner}, mode 0600, modified <time>");
        let hint = "restore the file from a backup; a new key cannot read what the old one encrypted";
        let error = format!("cannot use the Fernet key of `{path}`: {problem} ({facts})");
        let outcome =
            refused(&sandbox, 78, &format!("airflow-entrypoint: error: {error}\nairflow-entrypoint: hint: {hint}\n"));
        outcome.check(!outcome.stderr.contains(&key[..20]), "it shows the key");
        // The control: with a whole key it starts.
        sandbox.write("keys/fernet.key", &key);
        sandbox.run(&["scheduler"]).succeeds();
    }
}

/// Kubernetes mounts a secret as links to files behind another link.
#[test]
fn a_link_to_a_good_key_is_read_and_stays_a_link() {
    let key = new_key();
    let sandbox = Sandbox::new(V2);
    sandbox.write("keys/..2026/fernet.key", format!("\u{feff}{key}\r\n"));
    symlink("..2026", sandbox.path("keys/..data")).unwrap();
    symlink("..data/fernet.key", sandbox.path("keys/fernet.key")).unwrap();
    sandbox.write("keys/web_secret.key", "web");
    let before = (volume(&sandbox.path("keys")), volume(&sandbox.path("keys/..2026")));
    let outcome = sandbox.run(&["scheduler"]);
    let path = sandbox.text("keys/fernet.key");
    outcome.succeeds().says(&format!("info: Fernet key: from `{path}`, fingerprint {}", fingerprint(&key)));
    outcome.same(sandbox.variable("airflow-scheduler", FERNET), Some(key));
    outcome.same((volume(&sandbox.path("keys")), volume(&sandbox.path("keys/..2026"))), before);
}

/// Neither followed nor replaced nor waited for: both by a service and by who makes keys by hand.
fn stands_in_its_place(sandbox: &Sandbox) {
    let path = sandbox.text("keys/fernet.key");
    let error = format!("airflow-entrypoint: error: <any>Fernet key<any>`{path}`<any>\n<lines>");
    let before = volume(&sandbox.path("keys"));
    for arguments in [&["scheduler"][..], &["key", "generate"]] {
        let outcome = sandbox.run(arguments);
        outcome.fails(78, &error).same(volume(&sandbox.path("keys")), before.clone());
        outcome.same(sandbox.calls(), vec![]).same(sandbox.names("home"), vec![]);
    }
}

#[test]
fn a_link_to_nothing_ends_the_start() {
    let sandbox = Sandbox::new(V3);
    let target = sandbox.path("elsewhere");
    symlink(&target, sandbox.path("keys/fernet.key")).unwrap();
    stands_in_its_place(&sandbox);
    assert!(!target.exists(), "it followed the link");
    // The control: with something at its end it starts.
    sandbox.write("elsewhere", new_key());
    sandbox.run(&["scheduler"]).succeeds();
}

#[test]
fn a_pipe_in_the_place_of_a_key_ends_the_start() {
    let sandbox = Sandbox::new(V3);
    nix::unistd::mkfifo(&sandbox.path("keys/fernet.key"), nix::sys::stat::Mode::S_IRUSR).unwrap();
    stands_in_its_place(&sandbox);
}

#[test]
fn a_folder_of_somebody_else_is_told_with_what_would_help() {
    if !is_root() {
        return;
    }
    let sandbox = Sandbox::new(V2).owned_by(STRANGER, STRANGER).made_executable();
    chown(sandbox.path("keys"), Some(0), Some(0)).unwrap();
    let dir = sandbox.text("keys");
    let said = "airflow-entrypoint: info: user 12345 has no name in `/etc/passwd`, which we may not write\n";
    let hint = |place: &str| format!("let this user write to `{place}` (chown, or `user:` of the container)\n");
    let error = format!("cannot write the Fernet key `{dir}/fernet.key`: permission denied");
    let expected = format!("airflow-entrypoint: error: {error}\nairflow-entrypoint: hint: {}", hint(&dir));
    refused(&sandbox, 77, &expected);
    // A folder that cannot be made.
    let sandbox = sandbox.with_path("ENTRYPOINT_KEY_DIR", "keys/more");
    let error = format!("cannot write the Fernet key `{dir}/more`: permission denied");
    refused(&sandbox, 77, &format!("airflow-entrypoint: error: {error}\nairflow-entrypoint: hint: {}", hint(&dir)));
    // The control: with a key that may be read nothing need be written.
    let sandbox = sandbox.with_path("ENTRYPOINT_KEY_DIR", "keys");
    for (name, text) in [("keys/fernet.key", new_key()), ("keys/web_secret.key", "web".to_owned())] {
        sandbox.write(name, text);
        fs::set_permissions(sandbox.path(name), fs::Permissions::from_mode(0o640)).unwrap();
        chown(sandbox.path(name), Some(0), Some(STRANGER)).unwrap();
    }
    let before = volume(&sandbox.path("keys"));
    let outcome = sandbox.run(&["scheduler"]);
    outcome.succeeds().check(outcome.stderr.contains(said), "who it is").same(volume(&sandbox.path("keys")), before);
}

#[test]
fn a_file_in_the_place_of_the_folder_is_told() {
    let sandbox = Sandbox::new(V2).with_path("ENTRYPOINT_KEY_DIR", "keys/file");
    sandbox.write("keys/file", "text");
    let error = format!("cannot read the Fernet key `{}`: not a directory", sandbox.text("keys/file/fernet.key"));
    refused(&sandbox, 78, &format!("airflow-entrypoint: error: {error}\n"));
}

#[test]
fn a_read_only_folder_with_a_key_in_it_is_enough() {
    isolated("store_places::a_read_only_folder_with_a_key_in_it_is_enough", "", || {
        for version in [V2, V3] {
            let key = new_key();
            let sandbox = Sandbox::new(version);
            sandbox.write("keys/fernet.key", &key);
            let dir = sandbox.text("keys");
            mount(&["--bind", &dir, &dir]);
            mount(&["-o", "remount,bind,ro", &dir]);
            let before = volume(&sandbox.path("keys"));
            // The other secrets follow from it, and there is nothing to be handed over.
            let outcome = sandbox.run_with("ENTRYPOINT_RUN_AS", "0", &["scheduler"]);
            outcome
                .succeeds()
                .says("info: web secret: derived from the Fernet key, fingerprint <fp>")
                .same(volume(&sandbox.path("keys")), before.clone());
            outcome.same(sandbox.variable("airflow-scheduler", FERNET), Some(key));
            let outcome = sandbox.run(&["key", "import"]);
            outcome.check(outcome.code() != 0, "imported from nothing").same(volume(&sandbox.path("keys")), before);
            assert!(Command::new("umount").arg(&dir).status().unwrap().success());
        }
    });
}

/// Whatever the file system can do.
#[test]
fn a_full_disk_leaves_nothing_behind_without_nameless_files_or_links() {
    let test = "store_places::a_full_disk_leaves_nothing_behind_without_nameless_files_or_links";
    isolated(test, "", || {
        if !refusing_works() {
            return;
        }
        for calls in [NO_NAMELESS_FILES, NO_LINKS] {
            let sandbox = Sandbox::new(V3).with("ENTRYPOINT_EPHEMERAL_KEY", "true").behind(&refusing(calls));
            let dir = sandbox.text("keys");
            mount(&["-t", "tmpfs", "-o", "size=4k", "tmpfs", &dir]);
            sandbox.write("keys/ballast", [0; 4096]);
            let error = format!("cannot write the Fernet key `{dir}/fernet.key`: no space left on device");
            refused(&sandbox, 73, &format!("airflow-entrypoint: error: {error}\n"));
            // The control: with room it is made.
            fs::remove_file(sandbox.path("keys/ballast")).unwrap();
            mount(&["-o", "remount,size=64k", &dir]);
            sandbox.run(&["scheduler"]).succeeds();
            assert_eq!(sandbox.names("keys").len(), 3);
            assert!(Command::new("umount").arg(&dir).status().unwrap().success());
        }
    });
}

/// A key that everybody may read is no secret. It is used all the same, since nothing would be won by not starting, and said.
#[test]
fn a_key_that_everybody_may_read_is_used_and_told_and_its_mode_is_left() {
    let sandbox = Sandbox::new(V2);
    sandbox.write("keys/fernet.key", new_key());
    sandbox.write("keys/web_secret.key", "web");
    let path = sandbox.text("keys/fernet.key");
    for mode in [0o644, 0o666] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        let before = volume(&sandbox.path("keys"));
        let warning = format!(
            "warning: everybody can get at `{path}` (mode 0{mode:o}); `chmod o= {path}` keeps it to owner and group"
        );
        let outcome = sandbox.run(&["scheduler"]);
        outcome.succeeds().says(&warning).same(volume(&sandbox.path("keys")), before);
        outcome.same(outcome.stderr.matches("warning").count(), 1);
    }
    // The control, and what it says to do helps.
    assert!(Command::new("chmod").args(["o=", &path]).status().unwrap().success());
    let outcome = sandbox.run(&["scheduler"]);
    outcome.succeeds().same(outcome.stderr.matches("warning").count(), 0);
}
