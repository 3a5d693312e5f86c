//! The file of a changed Fernet key: whose it is, and where it cannot be replaced nothing is changed at all.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::process::Command;
use std::time::{Duration, SystemTime};

use crate::namespace::{is_root, isolated};
use crate::outcome::Outcome;
use crate::rotation::{FILE, deployment, read_by, tokens};
use crate::sandbox::{NOBODY, Sandbox, V2, fingerprint, key_mode, new_key};
use crate::verdict::Place;

/// Every verb that replaces the file.
const REPLACING: [&str; 4] = ["stage", "promote", "rotate", "retire"];

/// A file with two keys, of which the second is staged for the verb that wants it so.
fn with_keys(sandbox: &Sandbox, verb: &str, key: &str) -> String {
    let other = new_key();
    let text = if ["promote", "retire"].contains(&verb) { format!("{key},{other}\n") } else { format!("{key}\n") };
    sandbox.write(FILE, &text);
    if verb == "promote" {
        sandbox.write("keys/fernet.staged", format!("{}\n", fingerprint(&other)));
    }
    text
}

/// Nothing has been changed.
#[track_caller]
fn is_as_before(outcome: &Outcome, sandbox: &Sandbox, text: &str, names: &[String], key: &str, values: usize) {
    outcome.same((sandbox.read(FILE).as_str(), sandbox.names("keys").as_slice()), (text, names));
    outcome.same(read_by(key, &tokens(&Place::Sqlite, sandbox, V2)), values);
}

#[test]
fn the_new_file_is_its_owners_with_the_old_mode() {
    if !is_root() {
        return;
    }
    for (owner, group, mode) in [(50_000, 0, 0o640), (50_000, 50_000, 0o600), (0, 0, 0o440), (0, 0, key_mode())] {
        for verb in REPLACING {
            let (sandbox, key, _) = deployment(&Place::Sqlite, V2);
            let before = with_keys(&sandbox, verb, &key);
            chown(sandbox.path(FILE), Some(owner), Some(group)).unwrap();
            fs::set_permissions(sandbox.path(FILE), Permissions::from_mode(mode)).unwrap();
            let outcome = sandbox.run(&["key", verb]);
            let found = fs::metadata(sandbox.path(FILE)).unwrap();
            outcome.succeeds().same((found.uid(), found.gid(), found.mode() & 0o7777), (owner, group, mode));
            outcome.check(sandbox.read(FILE) != before, "it is not replaced");
        }
    }
}

#[test]
fn who_may_not_write_to_the_folder_changes_nothing() {
    if !is_root() {
        return;
    }
    for verb in REPLACING {
        let (sandbox, key, values) = deployment(&Place::Sqlite, V2);
        let text = with_keys(&sandbox, verb, &key);
        let sandbox = sandbox.owned_by(NOBODY, NOBODY).made_executable();
        chown(sandbox.path("home/airflow.db"), Some(NOBODY), None).unwrap();
        for name in sandbox.names("keys") {
            chown(sandbox.path("keys").join(name), Some(NOBODY), None).unwrap();
        }
        fs::set_permissions(sandbox.path("keys"), Permissions::from_mode(0o555)).unwrap();
        let names = sandbox.names("keys");
        let refused = sandbox.run(&["key", verb]);
        let path = sandbox.text(if verb == "stage" { "keys/fernet.staged" } else { FILE });
        let folder = sandbox.text("keys");
        refused.fails(
            77,
            &format!(
                "<lines>airflow-entrypoint: error: cannot write the Fernet key `{path}`: permission denied\nairflow-entrypoint: hint: let \
                 this user write to `{folder}` (chown, or `user:` of the container)\n"
            ),
        );
        is_as_before(&refused, &sandbox, &text, &names, &key, values);
        // The control.
        fs::set_permissions(sandbox.path("keys"), Permissions::from_mode(0o755)).unwrap();
        let done = sandbox.run(&["key", verb]);
        let found = fs::metadata(sandbox.path(FILE)).unwrap();
        done.succeeds().same((found.uid(), found.gid()), (NOBODY, NOBODY));
        done.check(sandbox.read(FILE) != text, "it is not replaced");
    }
}

#[test]
fn a_file_that_is_mounted_alone_is_refused_before_anything_is_changed() {
    isolated("rotation_places::a_file_that_is_mounted_alone_is_refused_before_anything_is_changed", "", || {
        for verb in REPLACING {
            let (sandbox, key, values) = deployment(&Place::Sqlite, V2);
            let text = with_keys(&sandbox, verb, &key);
            sandbox.write("elsewhere", &text);
            mount(&["--bind", &sandbox.text("elsewhere"), &sandbox.text(FILE)]);
            let names = sandbox.names("keys");
            let refused = sandbox.run(&["key", verb]);
            refused.fails(
                73,
                &format!(
                    "<lines>airflow-entrypoint: error: cannot replace `{}`: it is mounted as a single file, which could only be \
                     overwritten\nairflow-entrypoint: hint: mount its folder in its place, so that a whole new file can take the name of \
                     the old one\n",
                    sandbox.text(FILE)
                ),
            );
            is_as_before(&refused, &sandbox, &text, &names, &key, values);
            // What does not replace it goes on.
            sandbox.run(&["key", "reencrypt"]).succeeds();
            sandbox.run(&["key", "status"]).succeeds();
            unmount(&sandbox.text(FILE));
            // The control.
            sandbox.run(&["key", verb]).succeeds();
        }
        let (sandbox, web) = (Sandbox::new(V2), "keys/web_secret.key");
        sandbox.write("keys/fernet.key", new_key());
        for name in ["elsewhere", web] {
            sandbox.write(name, "a secret\n");
        }
        mount(&["--bind", &sandbox.text("elsewhere"), &sandbox.text(web)]);
        let refused = sandbox.run(&["key", "rotate", "--web"]);
        refused.same(refused.code(), 73).same(sandbox.read(web), "a secret\n".to_owned());
        refused.says(&format!("error: cannot replace `{}`: it is mounted as a single file, <any>", sandbox.text(web)));
        unmount(&sandbox.text(web));
        sandbox.run(&["key", "rotate", "--web"]).succeeds().check(sandbox.read(web).len() == 87, "it is not replaced");
    });
}

#[test]
fn a_read_only_or_full_volume_changes_nothing() {
    isolated("rotation_places::a_read_only_or_full_volume_changes_nothing", "", || {
        for (verb, full) in REPLACING.iter().flat_map(|verb| [(*verb, true), (*verb, false)]) {
            let (sandbox, key, values) = deployment(&Place::Sqlite, V2);
            mount(&["-t", "tmpfs", "-o", "size=16k", "tmpfs", &sandbox.text("keys")]);
            let text = with_keys(&sandbox, verb, &key);
            if full {
                // Until there is no room for one byte more.
                let _ = fs::write(sandbox.path("keys/filler"), [0; 1 << 16]);
            } else {
                mount(&["-o", "remount,ro", &sandbox.text("keys")]);
            }
            let names = sandbox.names("keys");
            let refused = sandbox.run(&["key", verb]);
            let (file, print) = (sandbox.text(FILE), fingerprint(&key));
            match (verb, full) {
                (_, true) => {
                    let path = sandbox.text(if verb == "stage" { "keys/fernet.staged" } else { FILE });
                    let said = format!("cannot write the Fernet key `{path}`: no space left on device\n");
                    refused.fails(73, &format!("<lines>airflow-entrypoint: error: {said}"));
                }
                // A Secret of Kubernetes, say: somebody else has to change it, and is told when.
                ("retire", false) => {
                    refused.succeeds().says(&format!(
                        "info: Fernet key: nothing in the database needs `<fp>`; set `{file}` to `{print}` alone, and restart all containers"
                    ));
                }
                (_, false) => {
                    let order = match verb {
                        "stage" => format!("`{print}`, then the new one"),
                        "promote" => format!("the key to promote, then the others of `{print},<fp>`"),
                        _ => format!("the new one, then `{print}`"),
                    };
                    refused.fails(
                        73,
                        &format!(
                            "<lines>airflow-entrypoint: error: cannot replace `{file}`: its file system is read-only\nairflow-entrypoint: hint: \
                             mount it so that it can be written; or make a key with `openssl rand -base64 32`, and put the keys where it comes \
                             from in this order, joined by commas: {order}\n"
                        ),
                    );
                }
            }
            is_as_before(&refused, &sandbox, &text, &names, &key, values);
            if full {
                fs::remove_file(sandbox.path("keys/filler")).unwrap();
            } else {
                mount(&["-o", "remount,rw", &sandbox.text("keys")]);
            }
            // The control.
            sandbox.run(&["key", verb]).succeeds();
            unmount(&sandbox.text("keys"));
        }
    });
}

/// A key that was staged is not taken for an old one by somebody who may not know of it.
#[test]
fn a_note_that_cannot_be_read_is_not_none() {
    if !is_root() {
        return;
    }
    let (sandbox, key, values) = deployment(&Place::Sqlite, V2);
    let text = with_keys(&sandbox, "promote", &key);
    let sandbox = sandbox.owned_by(NOBODY, NOBODY).made_executable();
    for name in [FILE, "home/airflow.db"] {
        chown(sandbox.path(name), Some(NOBODY), None).unwrap();
    }
    let (note, names) = (sandbox.text("keys/fernet.staged"), sandbox.names("keys"));
    for verb in ["stage", "promote", "reencrypt", "retire", "rotate", "status"] {
        let refused = sandbox.run(&["key", verb]);
        refused.fails(
            77,
            &format!(
                "<lines>airflow-entrypoint: error: cannot read the note about the staged Fernet key `{note}`: permission denied; owner \
                 0:0, mode 0600, and we are {NOBODY}:{NOBODY}\nairflow-entrypoint: hint: let this user read `{note}` <any>\n"
            ),
        );
        is_as_before(&refused, &sandbox, &text, &names, &key, values);
    }
    // The control: ours is for those to read who read the key.
    fs::remove_file(sandbox.path("keys/fernet.staged")).unwrap();
    sandbox.write(FILE, format!("{key}\n"));
    chown(sandbox.path(FILE), Some(NOBODY), None).unwrap();
    sandbox.run(&["key", "stage"]).succeeds().same(sandbox.mode("keys/fernet.staged"), 0o600);
    sandbox.run(&["key", "promote"]).succeeds();
}

/// A copy of the keys that somebody was killed over outlives no change by more than a minute.
#[test]
fn what_was_staged_and_left_is_removed_by_the_next_change() {
    let (sandbox, key, _) = deployment(&Place::Sqlite, V2);
    let others = [".fernet.key.0123456789abcdef", ".fernet.key.7.x", ".other.key.7.0", ".fernet.key.7.1"];
    for name in others.iter().chain(&[".fernet.key.7.0", ".fernet.staged.7.12"]) {
        sandbox.write(&format!("keys/{name}"), &key);
        let file = fs::File::options().write(true).open(sandbox.path("keys").join(name)).unwrap();
        let age = if *name == ".fernet.key.7.1" { 30 } else { 120 };
        file.set_modified(SystemTime::now() - Duration::from_secs(age)).unwrap();
    }
    sandbox.run(&["key", "stage"]).succeeds();
    let mut left = sandbox.names("keys");
    left.retain(|name| name.starts_with('.'));
    // The control: what is young may be just being written, and what is not ours or is behind a link stays.
    let mut kept = others.to_vec();
    kept.sort_unstable();
    assert_eq!(left, kept);
}

fn mount(arguments: &[&str]) {
    let mounted = Command::new("mount").args(arguments).env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").output().unwrap();
    assert!(mounted.status.success(), "{arguments:?}: {mounted:?}");
}

fn unmount(path: &str) {
    let unmounted = Command::new("umount").arg(path).env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").output().unwrap();
    assert!(unmounted.status.success(), "{path}: {unmounted:?}");
}
