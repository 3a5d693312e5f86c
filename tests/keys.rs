//! The secrets are made once, kept, and the same for everybody; no start changes what an earlier one wrote; nothing shows them.

use std::collections::BTreeSet;
use std::fs::{self, File};

use crate::namespace::is_root;
use crate::outcome::Outcome;
use crate::sandbox::{LINES, NOBODY, Sandbox, V2, V3, fingerprint, key_mode, modified, new_key, text_fingerprint};

/// The files of a line, with the variable of each and its name in the log.
fn secrets(version: &str) -> Vec<(&'static str, &'static str, &'static str)> {
    let fernet = ("fernet.key", "AIRFLOW__CORE__FERNET_KEY", "Fernet key");
    match version {
        V3 => vec![
            fernet,
            ("web_secret.key", "AIRFLOW__API__SECRET_KEY", "web secret"),
            ("jwt_secret.key", "AIRFLOW__API_AUTH__JWT_SECRET", "JWT secret"),
        ],
        _ => vec![fernet, ("web_secret.key", "AIRFLOW__WEBSERVER__SECRET_KEY", "web secret")],
    }
}

fn shown(file: &str, text: &str) -> String {
    if file == "fernet.key" { fingerprint(text) } else { text_fingerprint(text.trim_end().as_bytes()) }
}

#[test]
fn k01_secrets_are_made_once_and_read_ever_after() {
    for version in LINES {
        let sandbox = Sandbox::new(version);
        let made = sandbox.run(&["scheduler"]);
        made.succeeds();
        let secrets = secrets(version);
        let mut names: Vec<_> = secrets.iter().map(|(file, ..)| (*file).to_owned()).collect();
        names.sort();
        made.same(sandbox.names("keys"), names.clone());
        let before: Vec<_> = secrets.iter().map(|(file, ..)| sandbox.read(&format!("keys/{file}"))).collect();
        for ((file, variable, name), text) in secrets.iter().zip(&before) {
            let path = sandbox.text(&format!("keys/{file}"));
            made.says(&format!("info: {name}: made, and kept in `{path}`, fingerprint {}", shown(file, text)));
            made.same(text.len(), if *file == "fernet.key" { 45 } else { 87 });
            made.same(text.matches('\n').count(), 1);
            made.same(sandbox.mode(&format!("keys/{file}")), key_mode());
            for call in ["airflow-scheduler", if version == "1.10.15" { "airflow-initdb" } else { "airflow-db" }] {
                made.same(sandbox.variable(call, variable).as_deref(), Some(text.trim_end()));
            }
        }
        let times: Vec<_> = names.iter().map(|name| modified(&sandbox.path(&format!("keys/{name}")))).collect();

        let read = sandbox.run(&["scheduler"]);
        read.succeeds();
        read.same(sandbox.names("keys"), names.clone());
        for ((file, variable, name), text) in secrets.iter().zip(&before) {
            let path = sandbox.text(&format!("keys/{file}"));
            read.says(&format!("info: {name}: from `{path}`, fingerprint {}", shown(file, text)));
            read.same(&sandbox.read(&format!("keys/{file}")), text);
            read.same(sandbox.variable("airflow-scheduler", variable).as_deref(), Some(text.trim_end()));
        }
        read.same(names.iter().map(|name| modified(&sandbox.path(&format!("keys/{name}")))).collect::<Vec<_>>(), times);
        // The control: another folder is another deployment.
        let other = Sandbox::new(version);
        other.run(&["scheduler"]).succeeds();
        assert_ne!(other.read("keys/fernet.key"), before[0]);
    }
}

#[test]
fn key_files_are_for_their_owner_and_for_group_0_under_openshift() {
    if !is_root() {
        return;
    }
    for (gid, file, folder) in [(0, 0o640, 0o770), (NOBODY, 0o600, 0o700)] {
        let sandbox = Sandbox::new(V3).owned_by(NOBODY, gid).made_executable();
        fs::remove_dir(sandbox.path("keys")).unwrap();
        let outcome = sandbox.run(&["scheduler"]);
        outcome.succeeds();
        // A folder that is not there is made for the same people.
        outcome.same(sandbox.mode("keys"), folder);
        outcome.same(sandbox.mode("home/airflow.cfg"), file);
        for name in ["fernet.key", "web_secret.key", "jwt_secret.key"] {
            outcome.same((name, sandbox.mode(&format!("keys/{name}"))), (name, file));
        }
    }
}

/// Starts fifty at the same moment: all wait for one lock, and each says when it does.
fn fifty(sandbox: &Sandbox, arguments: &[&str]) -> Vec<Outcome> {
    let gate = File::create(sandbox.path("gate")).unwrap();
    gate.lock().unwrap();
    let running: Vec<_> = (0..50).map(|_| sandbox.start(arguments)).collect();
    running.iter().for_each(|running| {
        running.until_stderr("at the gate\n");
    });
    gate.unlock().unwrap();
    running.into_iter().map(crate::running::Running::finish).collect()
}

#[test]
fn k02_fifty_starters_in_the_same_moment_use_one_key() {
    let sandbox = Sandbox::new(V3).with("ENTRYPOINT_PREPARE", "always");
    let gate = format!("exec 9<{}; echo at the gate >&2; flock -s 9; exec 9<&-; exec \"$@\"", sandbox.text("gate"));
    let sandbox = sandbox.behind(&["sh", "-c", &gate, "sh"]);
    let outcomes = fifty(&sandbox, &["mycmd"]);
    for (file, _, name) in secrets(V3) {
        let text = sandbox.read(&format!("keys/{file}"));
        let path = sandbox.text(&format!("keys/{file}"));
        let made =
            format!("airflow-entrypoint: info: {name}: made, and kept in `{path}`, fingerprint {}", shown(file, &text));
        let read = format!("airflow-entrypoint: info: {name}: from `{path}`, fingerprint {}", shown(file, &text));
        let mut makers = 0;
        for outcome in &outcomes {
            outcome.succeeds();
            let lines: BTreeSet<_> = outcome.stderr.lines().collect();
            makers += usize::from(lines.contains(made.as_str()));
            outcome
                .check(lines.contains(made.as_str()) != lines.contains(read.as_str()), "neither made it nor read it");
        }
        assert_eq!(makers, 1, "{name}");
    }
    // No temporary file either.
    assert_eq!(sandbox.names("keys"), ["fernet.key", "jwt_secret.key", "web_secret.key"]);
}

/// All that a start says or that anybody could see of it, but for the environment and the files that are made for Airflow.
fn visible(sandbox: &Sandbox, outcome: &Outcome) -> String {
    [&outcome.stdout, &outcome.stderr, &sandbox.read("calls"), &outcome.command].map(String::as_str).concat()
}

#[test]
fn k14_no_secret_is_ever_shown() {
    let password = "p@ss;w:rd/%#?";
    let (given, kept, old) = (new_key(), new_key(), new_key());
    let others = ["web-secret-0123456789", "jwt-secret-0123456789"];
    let urls = ["postgresql://u:first-half;second-half/third@h:1x/d", "redis://:first-half;second-half/third@h:7/1"];
    let pieces = ["w:rd", "w%3Ard", "first-half", "second-half", "third@"];
    for version in LINES {
        let parts = Sandbox::new(version).with("POSTGRES_PASSWORD", password).with("REDIS_PASSWORD", password);
        let whole = Sandbox::new(version)
            .with("AIRFLOW__CORE__SQL_ALCHEMY_CONN", urls[0])
            .with("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", urls[0])
            .with("AIRFLOW__CELERY__BROKER_URL", urls[1]);
        let damaged = Sandbox::new(version).with("AIRFLOW__CORE__FERNET_KEY", format!("{given}{old}"));
        for sandbox in [parts, whole, damaged] {
            sandbox.write("keys/fernet.key", format!("{kept},{old}\n"));
            let mut sandbox = sandbox
                .with("EXECUTOR", "Celery")
                .with("FERNET_KEY", given.as_str())
                .with("AIRFLOW__API_AUTH__JWT_SECRET", others[1])
                .with("ENTRYPOINT_WAIT_TIMEOUT", "1ms");
            for name in ["AIRFLOW__API__SECRET_KEY", "AIRFLOW__WEBSERVER__SECRET_KEY"] {
                sandbox.set(name, others[0]);
            }
            for arguments in
                [&["explain", "scheduler"][..], &["scheduler"], &["mycmd"], &["explain", "mycmd"], &["setup"]]
            {
                let outcome = sandbox.run(arguments);
                let visible = visible(&sandbox, &outcome);
                for secret in [given.as_str(), &kept, &old, password].into_iter().chain(others).chain(pieces) {
                    outcome.check(!visible.contains(secret), &format!("it shows {secret:?}"));
                }
            }
        }
    }
}

/// The control of the test above: those secrets were really there to be shown.
#[test]
fn k14_the_secrets_reach_the_command_all_the_same() {
    let key = new_key();
    let sandbox =
        Sandbox::new(V2).with("EXECUTOR", "Celery").with("POSTGRES_PASSWORD", "p@ss").with("FERNET_KEY", &*key);
    sandbox.run(&["mycmd"]).succeeds();
    let seen = sandbox.seen("mycmd");
    assert_eq!(seen["AIRFLOW__CORE__FERNET_KEY"], key);
    assert!(seen["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"].contains("p%40ss"), "{seen:?}");
}

#[test]
fn commands_that_only_use_secrets_make_none() {
    for version in LINES {
        let sandbox = Sandbox::new(version).with("AIRFLOW__CORE__FERNET_KEY", "");
        for (arguments, call) in [(&["mycmd"][..], "mycmd"), (&["version"], "airflow-version"), (&["tasks", "run"], "")]
        {
            let outcome = sandbox.run(arguments);
            outcome.succeeds().says("info: Fernet key: none, and this command makes none");
            outcome.same(sandbox.names("keys"), vec![]);
            if !call.is_empty() {
                // Empty would switch encryption off.
                outcome.same(sandbox.variable(call, "AIRFLOW__CORE__FERNET_KEY"), None);
            }
        }
        let outcome = sandbox.run(&["explain", "scheduler"]);
        outcome.succeeds().same(sandbox.names("keys"), vec![]);
        outcome.same(sandbox.names("home"), vec!["airflow.cfg".to_owned()]);
        // The control, and K05: the same empty variable does not keep a service from making one.
        let outcome = sandbox.run(&["scheduler"]);
        let text = sandbox.read("keys/fernet.key");
        outcome
            .same(sandbox.variable("airflow-scheduler", "AIRFLOW__CORE__FERNET_KEY").as_deref(), Some(text.trim_end()));
    }
}

#[test]
fn k07_a_second_start_in_the_same_container_uses_the_same_key() {
    let sandbox = Sandbox::new(V2);
    sandbox.run(&["scheduler"]).succeeds();
    for (arguments, call) in [(&["mycmd"][..], "mycmd"), (&["airflow", "connections", "list"], "airflow-connections")] {
        let outcome = sandbox.run(arguments);
        outcome.succeeds().same(
            sandbox.variable(call, "AIRFLOW__CORE__FERNET_KEY").as_deref(),
            Some(sandbox.read("keys/fernet.key").trim_end()),
        );
    }
}
