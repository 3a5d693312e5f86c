//! The ground that Airflow runs on: a log folder that it can write to, and the file mode mask.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::process::Command;

use crate::namespace::{is_root, isolated};
use crate::sandbox::{LINES, NOBODY, Sandbox, V2, V3};

#[test]
fn p01_a_log_folder_of_somebody_else_is_named_with_what_to_do() {
    if !is_root() {
        return;
    }
    for (version, variable) in
        [(V2, None), (V2, Some("AIRFLOW__CORE__BASE_LOG_FOLDER")), (V3, Some("AIRFLOW__LOGGING__BASE_LOG_FOLDER"))]
    {
        let sandbox = Sandbox::new(version).owned_by(NOBODY, NOBODY).made_executable();
        let logs = if variable.is_some() { "mounted" } else { "home/logs" };
        fs::create_dir(sandbox.path(logs)).unwrap();
        let path = sandbox.text(logs);
        let sandbox = variable.into_iter().fold(sandbox, |sandbox, name| sandbox.with(name, path.as_str()));
        for command in ["scheduler", "setup", "connections"] {
            let outcome = sandbox.run(&[command]);
            let who = format!("{NOBODY}:{NOBODY}");
            let facts = format!("permission denied; owner 0:0, mode 0755, and we are {who}");
            outcome.fails(
                77,
                &format!(
                    "<lines>airflow-entrypoint: error: cannot write to the folder `{path}`: {facts}\n\
                     airflow-entrypoint: hint: `chown -R {who}` what is mounted at `{path}`, or start the container as its owner (`user:`)\n"
                ),
            );
            outcome.same(sandbox.calls(), vec![]);
        }
        // The controls: who does not run Airflow does not need it, and with the right to write it is fine.
        sandbox.run(&["mycmd"]).succeeds();
        chown(&path, Some(NOBODY), None).unwrap();
        sandbox.run(&["scheduler"]).succeeds();
    }
}

#[test]
fn p01_a_log_folder_that_is_mounted_read_only() {
    isolated("ground::p01_a_log_folder_that_is_mounted_read_only", "", || {
        let sandbox = Sandbox::new(V2);
        fs::create_dir(sandbox.path("home/logs")).unwrap();
        let path = sandbox.text("home/logs");
        for arguments in [&["--bind", &path, &path][..], &["-o", "remount,bind,ro", &path]] {
            assert!(Command::new("mount").args(arguments).status().unwrap().success());
        }
        let outcome = sandbox.run(&["scheduler"]);
        let error =
            format!("cannot write to the folder `{path}`: read-only <any>; owner 0:0, mode 0755, and we are 0:0");
        let hint = "airflow-entrypoint: hint: mount a volume there\n";
        outcome.fails(73, &format!("<lines>airflow-entrypoint: error: {error}\n{hint}"));
        Command::new("umount").arg(&path).status().unwrap();
        sandbox.run(&["scheduler"]).succeeds();
    });
}

/// The mask that a command sees when we are started with 0027.
fn mask(sandbox: &Sandbox, arguments: &[&str]) -> String {
    sandbox.behave("airflow-scheduler", "umask");
    sandbox.behave("mycmd", "umask");
    let outcome = sandbox.run(arguments);
    outcome.succeeds();
    outcome.stdout
}

#[test]
fn p08_files_are_for_group_0_where_that_is_ours_and_as_they_were_elsewhere() {
    if !is_root() {
        return;
    }
    let umask = ["sh", "-c", "umask 0027; exec \"$@\"", "sh"];
    for version in LINES {
        for (gid, service) in [(0, "0002\n"), (NOBODY, "0027\n")] {
            let sandbox = Sandbox::new(version).owned_by(NOBODY, gid).made_executable().behind(&umask);
            assert_eq!(mask(&sandbox, &["scheduler"]), service, "group {gid}");
            // A program that is not Airflow's is left alone.
            assert_eq!(mask(&sandbox, &["mycmd"]), "0027\n");
            let sandbox = sandbox.with("ENTRYPOINT_UMASK", "0077");
            assert_eq!(mask(&sandbox, &["scheduler"]), "0077\n");
            // Ours are as they must be, whatever the mask.
            let expected = if gid == 0 { 0o640 } else { 0o600 };
            assert_eq!((sandbox.mode("keys/fernet.key"), sandbox.mode("home/airflow.cfg")), (expected, expected));
        }
    }
}

#[test]
fn a_folder_that_is_not_there_is_airflows_to_make() {
    let sandbox = Sandbox::new(V2);
    sandbox.run(&["scheduler"]).succeeds();
    assert_eq!(sandbox.names("home"), ["airflow.cfg"]);
    // The mode of a folder of ours is no question.
    fs::create_dir(sandbox.path("home/logs")).unwrap();
    fs::set_permissions(sandbox.path("home/logs"), Permissions::from_mode(0o700)).unwrap();
    sandbox.run(&["scheduler"]).succeeds();
}
