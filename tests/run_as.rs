//! What becomes of the files and of the environment when root is given up, beside who the command runs as (`user`).

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::process::Command;

use crate::namespace::{is_root, isolated};
use crate::sandbox::{NOBODY, Sandbox, V2, V3, modified, new_key};

const KEYS: [&str; 3] = ["keys/fernet.key", "keys/jwt_secret.key", "keys/web_secret.key"];
const HINT: &str = "airflow-entrypoint: hint: start the container as that user (`user:`), or as root with `cap_add: [SETUID, SETGID, CHOWN]`\n";

/// Who may write to it is somebody else than who owns the key folder, so that all there is to be changed is that.
fn sandbox(version: &str) -> Sandbox {
    let sandbox = Sandbox::new(version).made_executable();
    for path in ["home", "seen", "calls"] {
        let everybody = if path == "calls" { 0o666 } else { 0o777 };
        fs::set_permissions(sandbox.path(path), fs::Permissions::from_mode(everybody)).unwrap();
    }
    sandbox.behave("airflow-scheduler", "exec cat /proc/self/status");
    sandbox
}

/// Owner, group and mode.
fn owner(sandbox: &Sandbox, path: &str) -> (u32, u32, u32) {
    let metadata = fs::symlink_metadata(sandbox.path(path)).unwrap();
    (metadata.uid(), metadata.gid(), metadata.mode() & 0o7777)
}

/// The words of a line of `/proc/PID/status`.
fn status<'t>(text: &'t str, name: &str) -> Vec<&'t str> {
    text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().split_whitespace().collect()
}

#[test]
fn what_is_ours_in_the_key_folder_is_handed_over_and_nothing_else() {
    isolated("run_as::what_is_ours_in_the_key_folder_is_handed_over_and_nothing_else", "", || {
        for (whom, uid, gid, file, folder) in [
            ("65534", NOBODY, NOBODY, 0o600, 0o700),
            ("nobody", NOBODY, NOBODY, 0o600, 0o700),
            ("nobody:0", NOBODY, 0, 0o640, 0o770),
            ("1234:root", 1234, 0, 0o640, 0o770),
            ("1234", 1234, 0, 0o640, 0o770),
        ] {
            let sandbox = sandbox(V3).with("ENTRYPOINT_RUN_AS", whom);
            sandbox.write("keys/notes.txt", "not ours");
            sandbox.write("keys/old/fernet.key", "not ours either");
            sandbox.write("elsewhere", "web");
            symlink(sandbox.path("elsewhere"), sandbox.path("keys/web_secret.key")).unwrap();
            let key = new_key();
            sandbox.write("keys/fernet.key", &key);
            let others = ["keys/notes.txt", "keys/old", "keys/old/fernet.key", "elsewhere", "keys/web_secret.key"];
            let before: Vec<_> = others.iter().map(|path| owner(&sandbox, path)).collect();
            let time = modified(&sandbox.path("keys/fernet.key"));
            let outcome = sandbox.run(&["scheduler"]);
            outcome.succeeds();
            outcome.same((whom, owner(&sandbox, "keys")), (whom, (uid, gid, folder)));
            for path in &KEYS[..2] {
                outcome.same((whom, *path, owner(&sandbox, path)), (whom, *path, (uid, gid, file)));
            }
            outcome.same(others.iter().map(|path| owner(&sandbox, path)).collect::<Vec<_>>(), before);
            outcome.same((sandbox.read("keys/fernet.key"), modified(&sandbox.path("keys/fernet.key"))), (key, time));
            // The second start finds nothing to do, and can read what the first one left.
            sandbox.run(&["scheduler"]).succeeds();
            // The control: without a name for it root stays, and the folder is root's.
            let sandbox = self::sandbox(V3);
            sandbox.run(&["scheduler"]).succeeds();
            assert_eq!(owner(&sandbox, "keys/fernet.key"), (0, 0, 0o640));
        }
    });
}

/// What was handed over by another start, or another program, may be open to all.
#[test]
fn a_key_of_the_user_that_is_open_to_all_is_closed() {
    if !is_root() {
        return;
    }
    let sandbox = sandbox(V2).with("ENTRYPOINT_RUN_AS", "nobody");
    sandbox.write("keys/fernet.key", new_key());
    for (path, mode) in [("keys", 0o777), ("keys/fernet.key", 0o644)] {
        chown(sandbox.path(path), Some(NOBODY), Some(NOBODY)).unwrap();
        fs::set_permissions(sandbox.path(path), fs::Permissions::from_mode(mode)).unwrap();
    }
    let outcome = sandbox.run(&["scheduler"]);
    outcome.succeeds();
    outcome.same(owner(&sandbox, "keys"), (NOBODY, NOBODY, 0o700));
    outcome.same(owner(&sandbox, "keys/fernet.key"), (NOBODY, NOBODY, 0o600));
}

/// A user of files of our own making, with groups.
#[test]
fn groups_and_home_are_those_of_the_user() {
    isolated("run_as::groups_and_home_are_those_of_the_user", "", || {
        let sandbox = sandbox(V2).with("HOME", "/root").with("USER", "root").with("LOGNAME", "root");
        let home = sandbox.text("home");
        for (file, text) in [
            ("passwd", format!("root:x:0:0:root:/root:/bin/sh\nairflow:x:50000:0:Airflow:{home}:/bin/sh\n")),
            ("group", "root:x:0:\nstaff:x:70:airflow,other\nwheel:x:71:\ndocker:x:72:other,airflow\n".to_owned()),
        ] {
            sandbox.write(file, text);
            let path = sandbox.text(file);
            let bound = Command::new("mount").args(["--bind", &path, &format!("/etc/{file}")]).status().unwrap();
            assert!(bound.success());
        }
        for (whom, gid) in [("airflow", "0"), ("50000", "0"), ("airflow:wheel", "71"), ("airflow:71", "71")] {
            let outcome = sandbox.run_with("ENTRYPOINT_RUN_AS", whom, &["scheduler"]);
            outcome.succeeds().says(&format!("info: become the user `airflow` (50000:{gid})"));
            let text = outcome.stdout.as_str();
            outcome.same((whom, status(text, "Uid:")), (whom, vec!["50000"; 4]));
            outcome.same((whom, status(text, "Gid:")), (whom, vec![gid; 4]));
            let mut groups = vec![gid, "70", "72"];
            groups.sort_unstable();
            let mut found = status(text, "Groups:");
            found.sort_unstable();
            outcome.same((whom, found), (whom, groups));
            for set in ["CapPrm:", "CapEff:", "CapAmb:"] {
                outcome.same((set, status(text, set)), (set, vec!["0000000000000000"]));
            }
            let seen = sandbox.seen("airflow-scheduler");
            for (name, value) in [("HOME", &*home), ("USER", "airflow"), ("LOGNAME", "airflow")] {
                outcome.same((name, seen[name].as_str()), (name, value));
            }
            outcome.same(seen.get("ENTRYPOINT_RUN_AS"), None);
        }
        // The control: a shell for somebody who looks around stays root's, unless told otherwise.
        let outcome = sandbox.run(&["--", "sh", "-c", "cat /proc/self/status; echo HOME: $HOME"]);
        outcome.succeeds().same(status(&outcome.stdout, "Uid:"), vec!["0"; 4]);
        outcome.same(status(&outcome.stdout, "HOME:"), vec!["/root"]);
        let bash = "cat /proc/self/status; echo HOME: $HOME";
        let outcome = sandbox.run_with("ENTRYPOINT_RUN_AS", "airflow", &["--", "sh", "-c", bash]);
        outcome.succeeds().same(status(&outcome.stdout, "Uid:"), vec!["50000"; 4]);
        outcome.same(status(&outcome.stdout, "HOME:"), vec![&*home]);
        for file in ["passwd", "group"] {
            Command::new("umount").arg(format!("/etc/{file}")).status().unwrap();
        }
    });
}

#[test]
fn p05_each_capability_that_is_missing_is_told_before_airflow_is_called() {
    if !is_root() {
        return;
    }
    let denied = "operation not permitted";
    for (missing, error, hint) in [
        ("-setuid,-setgid", format!("cannot become `{NOBODY}:{NOBODY}`: {denied}"), HINT.to_owned()),
        ("-setuid", format!("cannot become `{NOBODY}:{NOBODY}`: {denied}"), HINT.to_owned()),
        ("-setgid", format!("cannot become `{NOBODY}:{NOBODY}`: {denied}"), HINT.to_owned()),
        (
            "-chown",
            format!("cannot write the owner of `KEYS/fernet.key`: {denied}"),
            "airflow-entrypoint: hint: <any>\n".to_owned(),
        ),
    ] {
        let drop = [format!("--bounding-set={missing}"), format!("--inh-caps={missing}")];
        let sandbox = sandbox(V2).with("ENTRYPOINT_RUN_AS", "nobody").behind(&["setpriv", &drop[0], &drop[1]]);
        sandbox.write("keys/fernet.key", new_key());
        let before = sandbox.read("keys/fernet.key");
        let outcome = sandbox.run(&["scheduler"]);
        let error = error.replace("KEYS", &sandbox.text("keys"));
        let expected = format!("<lines>airflow-entrypoint: error: {error}\n{hint}");
        outcome.fails(77, &expected).same(sandbox.calls(), vec![]).same(sandbox.names("home"), vec![]);
        outcome.same(sandbox.read("keys/fernet.key"), before);
        // The control: who need not become anybody needs no capability.
        let sandbox = sandbox.without("ENTRYPOINT_RUN_AS");
        sandbox.run(&["scheduler"]).succeeds();
    }
}

/// Who dropped all but what it takes to become another user, after a first start or with a volume of that user's.
#[test]
fn p05_what_is_the_users_already_needs_no_capability() {
    if !is_root() {
        return;
    }
    let missing = "-chown,-fowner";
    let drop = [format!("--bounding-set={missing}"), format!("--inh-caps={missing}")];
    for mode in [0o700, 0o750, 0o755] {
        let sandbox = sandbox(V2).with("ENTRYPOINT_RUN_AS", "nobody").behind(&["setpriv", &drop[0], &drop[1]]);
        sandbox.write("keys/fernet.key", new_key());
        sandbox.write("keys/web_secret.key", "web");
        for path in ["keys", "keys/fernet.key", "keys/web_secret.key"] {
            chown(sandbox.path(path), Some(NOBODY), Some(NOBODY)).unwrap();
            let bits = if path == "keys" { mode } else { mode & 0o666 };
            fs::set_permissions(sandbox.path(path), fs::Permissions::from_mode(bits)).unwrap();
        }
        let outcome = sandbox.run(&["scheduler"]);
        outcome.succeeds().same(status(&outcome.stdout, "Uid:"), vec!["65534"; 4]);
    }
}

/// Starts with this as `/etc/passwd`, and gives back what it is then.
fn with_passwd(sandbox: &Sandbox, text: &str) -> String {
    sandbox.write("passwd", text);
    fs::set_permissions(sandbox.path("passwd"), fs::Permissions::from_mode(0o664)).unwrap();
    let path = sandbox.text("passwd");
    assert!(Command::new("mount").args(["--bind", &path, "/etc/passwd"]).status().unwrap().success());
    let outcome = sandbox.run(&["scheduler"]);
    assert!(Command::new("umount").arg("/etc/passwd").status().unwrap().success());
    let seen = sandbox.seen("airflow-scheduler");
    outcome.succeeds().same((&*seen["HOME"], &*seen["USER"]), (&*sandbox.text("home"), "default"));
    sandbox.read("passwd")
}

const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nlast:x:7:7::/:/bin/sh";

fn entry(sandbox: &Sandbox) -> String {
    format!("default:x:1234:0:default:{}:/sbin/nologin\n", sandbox.text("home"))
}

/// The last line of a file that people have edited may have no end.
#[test]
fn p02_the_entry_of_an_unknown_user_is_a_line_of_its_own() {
    isolated("run_as::p02_the_entry_of_an_unknown_user_is_a_line_of_its_own", "", || {
        for end in ["\n", ""] {
            let sandbox = sandbox(V2).owned_by(1234, 0).with("HOME", "/");
            let text = with_passwd(&sandbox, &format!("{PASSWD}{end}"));
            assert_eq!(text, format!("{PASSWD}\n{}", entry(&sandbox)), "ended by {end:?}");
        }
    });
}

/// Who becomes a number that has no name is as unknown as who was started as one.
#[test]
fn p02_root_makes_an_entry_for_the_number_that_it_becomes() {
    isolated("run_as::p02_root_makes_an_entry_for_the_number_that_it_becomes", "", || {
        let sandbox = sandbox(V2).with("ENTRYPOINT_RUN_AS", "1234").with("HOME", "/root");
        let text = with_passwd(&sandbox, &format!("{PASSWD}\n"));
        assert_eq!(text, format!("{PASSWD}\n{}", entry(&sandbox)));
    });
}
