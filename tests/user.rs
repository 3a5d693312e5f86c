//! Who the command runs as: root is given up, an unknown user becomes somebody, secrets may be in files that this user alone reads.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};

use crate::namespace::{is_root, isolated};
use crate::sandbox::{NOBODY, Sandbox, V1, V2, V3};

/// The numbers of a process, as `/proc/PID/status` gives them.
fn ids(status: &str, name: &str) -> Vec<u32> {
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    line.split_whitespace().map(|number| number.parse().unwrap()).collect()
}

/// A sandbox whose home belongs to `nobody`, started by root.
fn for_nobody(version: &str) -> Sandbox {
    let sandbox = Sandbox::new(version).made_executable();
    for folder in ["home", "seen", "calls"] {
        chown(sandbox.path(folder), Some(NOBODY), Some(NOBODY)).unwrap();
    }
    sandbox.behave("airflow-scheduler", "exec cat /proc/self/status");
    sandbox
}

#[test]
fn root_is_given_up_for_the_owner_of_the_home() {
    if !is_root() {
        return;
    }
    for version in [V1, V2, V3] {
        let sandbox = for_nobody(version).with("HOME", "/root").with("USER", "root");
        let outcome = sandbox.run(&["scheduler"]);
        outcome.succeeds().says(&format!("info: become the user `nobody` ({NOBODY}:{NOBODY})"));
        for (name, expected) in [("Uid:", vec![NOBODY; 4]), ("Gid:", vec![NOBODY; 4]), ("Groups:", vec![NOBODY])] {
            outcome.same((name, ids(&outcome.stdout, name)), (name, expected));
        }
        // No way back, and nothing left of root's might.
        for set in ["CapPrm:", "CapEff:"] {
            let line = outcome.stdout.lines().find_map(|line| line.strip_prefix(set)).unwrap().trim();
            outcome.same((set, line), (set, "0000000000000000"));
        }
        let seen = sandbox.seen("airflow-scheduler");
        outcome.same((seen["USER"].as_str(), seen["LOGNAME"].as_str()), ("nobody", "nobody"));
        outcome.check(seen["HOME"] != "/root", "root's home");
        // What it must read is its own.
        for file in ["keys", "keys/fernet.key", "keys/web_secret.key", "home/airflow.cfg"] {
            let metadata = fs::metadata(sandbox.path(file)).unwrap();
            outcome.same((file, metadata.uid(), metadata.gid()), (file, NOBODY, NOBODY));
            outcome.same((file, metadata.permissions().mode() & 0o077), (file, 0));
        }
        sandbox.run(&["scheduler"]).succeeds();
    }
    // The controls: a home of root's, and a program that is not Airflow's.
    let sandbox = for_nobody(V2);
    let outcome = sandbox.run(&["--", "cat", "/proc/self/status"]);
    outcome.succeeds().same(ids(&outcome.stdout, "Uid:"), vec![0; 4]);
    chown(sandbox.path("home"), Some(0), Some(0)).unwrap();
    let outcome = sandbox.run(&["scheduler"]);
    outcome.succeeds().same(ids(&outcome.stdout, "Uid:"), vec![0; 4]);
}

#[test]
fn run_as_names_somebody() {
    isolated("user::run_as_names_somebody", "", || {
        let sandbox = for_nobody(V2);
        chown(sandbox.path("home"), Some(0), Some(0)).unwrap();
        for (whom, uid, gid) in
            [("nobody", NOBODY, NOBODY), ("65534:7", NOBODY, 7), ("1234:5", 1234, 5), ("1235", 1235, 0)]
        {
            let outcome = sandbox.run_with("ENTRYPOINT_RUN_AS", whom, &["--", "cat", "/proc/self/status"]);
            outcome
                .succeeds()
                .same((ids(&outcome.stdout, "Uid:"), ids(&outcome.stdout, "Gid:")), (vec![uid; 4], vec![gid; 4]));
        }
        let hint = "start the container as that user (`user:`), or as root with `cap_add: [SETUID, SETGID, CHOWN]`";
        for (whom, cause) in [
            ("no-such-user", "there is no user of that name in `/etc/passwd`"),
            ("nobody:no-such-group", "there is no group of that name in `/etc/group`"),
        ] {
            let outcome = sandbox.run_with("ENTRYPOINT_RUN_AS", whom, &["scheduler"]);
            let error = format!("cannot become `{whom}`: {cause}");
            outcome.fails(77, &format!("airflow-entrypoint: error: {error}\nairflow-entrypoint: hint: {hint}\n"));
        }
        let other = Sandbox::new(V2).owned_by(NOBODY, NOBODY).made_executable();
        let outcome = other.run_with("ENTRYPOINT_RUN_AS", "root", &["scheduler"]);
        let error = format!("cannot become `root`: we are {NOBODY}:{NOBODY}, and only root can become another user");
        outcome.fails(77, &format!("airflow-entrypoint: error: {error}\nairflow-entrypoint: hint: {hint}\n"));
        other.run_with("ENTRYPOINT_RUN_AS", "nobody", &["scheduler"]).succeeds();
    });
}

/// Root without the right to be anybody else.
#[test]
fn p05_root_without_its_capabilities_says_what_is_missing() {
    if !is_root() {
        return;
    }
    let drop = ["setpriv", "--bounding-set=-setuid,-setgid", "--inh-caps=-setuid,-setgid"];
    let sandbox = for_nobody(V2).behind(&drop);
    let outcome = sandbox.run(&["scheduler"]);
    outcome.check(outcome.code() == 77, "expected status 77");
    outcome.check(
        outcome.stderr.contains(&format!("error: cannot become `{NOBODY}:{NOBODY}`: operation not permitted\n")),
        "why",
    );
    outcome.same(sandbox.calls(), vec![]);
}

#[test]
fn p02_an_unknown_user_becomes_somebody_where_that_may_be_written() {
    isolated("user::p02_an_unknown_user_becomes_somebody_where_that_may_be_written", "", || {
        let uid = 1_000_720_000;
        let sandbox = Sandbox::new(V2).owned_by(uid, 0).made_executable().with("HOME", "/");
        let outcome = sandbox.run(&["scheduler"]);
        outcome.succeeds().says(&format!("info: user {uid} has no name in `/etc/passwd`, which we may not write"));
        outcome.same(sandbox.variable("airflow-scheduler", "HOME"), Some(sandbox.text("home")));
        outcome.same(sandbox.variable("airflow-scheduler", "USER").as_deref(), Some("default"));
        // In a copy of the file that group 0 may write to, as in images for OpenShift.
        let before = fs::read_to_string("/etc/passwd").unwrap();
        sandbox.write("passwd", &before);
        fs::set_permissions(sandbox.path("passwd"), fs::Permissions::from_mode(0o664)).unwrap();
        let status =
            std::process::Command::new("mount").arg("--bind").arg(sandbox.path("passwd")).arg("/etc/passwd").status();
        assert!(status.unwrap().success());
        for _ in ["first start", "second start"] {
            sandbox.run(&["scheduler"]).succeeds();
            let added = format!("default:x:{uid}:0:default:{}:/sbin/nologin\n", sandbox.text("home"));
            assert_eq!(fs::read_to_string("/etc/passwd").unwrap(), [before.as_str(), &added].concat());
        }
        // The folder is still in use for the mount.
        std::process::Command::new("umount").arg("/etc/passwd").status().unwrap();
    });
}

#[test]
fn x08_secrets_by_command_are_nowhere_else() {
    for version in [V1, V2, V3] {
        let sandbox = Sandbox::new(version)
            .with("ENTRYPOINT_SECRETS", "cmd")
            .with("EXECUTOR", "Celery")
            .with("POSTGRES_PASSWORD", "s3cret-1")
            .with("REDIS_PASSWORD", "s3cret-2")
            .with("ENTRYPOINT_WAIT_TIMEOUT", "off");
        // What Airflow does with such a variable.
        let read = "for name in CORE__FERNET_KEY CELERY__BROKER_URL; do eval \"\\$(eval echo \\\"\\$AIRFLOW__${name}_CMD\\\")\"; echo; done";
        sandbox.behave("airflow-scheduler", read);
        let outcome = sandbox.run(&["scheduler"]);
        let key = sandbox.read("keys/fernet.key");
        outcome.succeeds().same(outcome.stdout.clone(), format!("{key}redis://:s3cret-2@redis:6379/1\n"));
        let visible = [sandbox.read("seen/airflow-scheduler"), sandbox.read("home/airflow.cfg")].concat();
        for secret in ["s3cret", key.trim_end()] {
            outcome.check(!visible.contains(secret), &format!("{secret:?} is in the environment or in airflow.cfg"));
        }
        outcome.check(visible.contains("\nfernet_key_cmd = cat "), "airflow.cfg does not say how to read the key");
        for folder in fs::read_dir(sandbox.path("tmp")).unwrap() {
            let folder = folder.unwrap().path();
            for path in
                [&folder].into_iter().cloned().chain(fs::read_dir(&folder).unwrap().map(|file| file.unwrap().path()))
            {
                let mode = fs::metadata(&path).unwrap().permissions().mode();
                outcome.check(mode & 0o007 == 0, &format!("{} is open to all", path.display()));
            }
        }
        // The control: by default they are there.
        sandbox.behave("airflow-scheduler", "");
        sandbox.run_with("ENTRYPOINT_SECRETS", "env+cfg", &["scheduler"]).succeeds();
        assert!(sandbox.read("seen/airflow-scheduler").contains("s3cret-1"));
        assert!(sandbox.read("home/airflow.cfg").contains("s3cret-2"));
    }
}
