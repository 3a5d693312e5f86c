//! Where a missing secret may be made: only where it is kept as long as what it protects. Without such a place a key that was given
//! is enough for all the others.

use std::process::Command;

use crate::namespace::isolated;
use crate::outcome::Outcome;
use crate::sandbox::{Sandbox, V1, V2, V3, new_key};

/// Derived from this key by another implementation of HKDF-SHA256 (Python's `cryptography`).
const KEY: &str = "46BKJoQYlPPOexq0OhDZnIlNepKFf87WFwLbfzqDDho=";
const JWT_OF_KEY: &str = "c4KxZcVVMyNreVgqE5CRBn7JmE0AmQd00fNvkF-0x-CVOCFTbM_LwvhrW7-FfsSu7HGrcDep8UChWuGFoD1DTg";
const WEB_OF_KEY: &str = "UI-YnTN01sLIrC0_4ddUyfOzfOoGpTmyBKTR_4DBDuwF2L1n79wG0vThKxNBL_bgf68u9qN2uuSXc5XkLhougg";

/// A folder in memory, and one that is on no mount of its own (`isolated`).
const IN_MEMORY: &str = "/dev/shm/keys";

fn mount(arguments: &[&str]) {
    assert!(Command::new("mount").args(arguments).status().unwrap().success(), "mount {arguments:?}");
}

/// A container whose tasks run elsewhere, with a database elsewhere that need not answer.
fn without_volume(version: &str, dir: &str) -> Sandbox {
    Sandbox::new(version)
        .with("ENTRYPOINT_KEY_DIR", dir)
        .with("EXECUTOR", "Celery")
        .with("ENTRYPOINT_WAIT_TIMEOUT", "off")
}

fn refused(sandbox: &Sandbox, outcome: &Outcome, dir: &str, why: &str) {
    outcome.fails(
        78,
        &format!(
            "airflow-entrypoint: error: cannot create a Fernet key in `{dir}`: {why}\n\
             airflow-entrypoint: hint: mount a named volume at `{dir}` in every Airflow container, or set `FERNET_KEY` to the same value in \
             all of them; `ENTRYPOINT_EPHEMERAL_KEY=true` accepts the loss\n"
        ),
    );
    outcome.same(sandbox.calls(), vec![]).same(sandbox.names("home"), vec![]);
    outcome.check(!std::path::Path::new(dir).join("fernet.key").exists(), "it made a key all the same");
}

#[test]
fn k08_no_key_is_made_where_it_would_not_be_kept() {
    isolated("key_places::k08_no_key_is_made_where_it_would_not_be_kept", "", || {
        let in_memory = "`/dev/shm` is in memory, which ends with the container";
        for version in [V1, V2, V3] {
            let sandbox = without_volume(version, IN_MEMORY);
            for command in ["scheduler", "setup", "connections"] {
                refused(&sandbox, &sandbox.run(&[command]), IN_MEMORY, in_memory);
            }
            refused(&sandbox, &sandbox.run(&["explain", "scheduler"]), IN_MEMORY, in_memory);
            // Who only uses secrets starts.
            sandbox.run(&["mycmd"]).succeeds();
        }
        // A folder of the sandbox is kept (that is the control of them all), but not one that nobody may write to.
        let sandbox = without_volume(V3, IN_MEMORY);
        let dir = sandbox.text("keys");
        let sandbox = sandbox.with("ENTRYPOINT_KEY_DIR", &*dir);
        mount(&["--bind", &dir, &dir]);
        mount(&["-o", "remount,bind,ro", &dir]);
        let outcome = sandbox.run(&["scheduler"]);
        refused(&sandbox, &outcome, &dir, &format!("`{dir}` is mounted read-only"));
        mount(&["-o", "remount,bind,rw", &dir]);
        sandbox.run(&["scheduler"]).succeeds();
        assert_eq!(sandbox.names("keys"), ["fernet.key", "jwt_secret.key", "web_secret.key"]);
        Command::new("umount").arg(&dir).status().unwrap();
    });
}

#[test]
fn a_key_that_may_be_lost_may_be_made() {
    isolated("key_places::a_key_that_may_be_lost_may_be_made", "", || {
        for version in [V1, V2, V3] {
            let dir = format!("{IN_MEMORY}-accepted-{version}");
            let sandbox = without_volume(version, &dir).with("ENTRYPOINT_EPHEMERAL_KEY", "true");
            let outcome = sandbox.run(&["scheduler"]);
            outcome
                .succeeds()
                .says(&format!("info: Fernet key: made, and kept in `{dir}/fernet.key`, fingerprint <fp>"));
            // With the database in the same container, it ends with its key.
            let dir = format!("{IN_MEMORY}-sqlite-{version}");
            let sandbox =
                Sandbox::new(version).with("ENTRYPOINT_KEY_DIR", &*dir).with("AIRFLOW_HOME", "/usr/local/airflow");
            sandbox.run(&["scheduler"]).succeeds().says("info: Fernet key: made, and kept in <any>");
            // The control: a database that outlives the container does not.
            let dir = format!("{IN_MEMORY}-kept-{version}");
            let sandbox = Sandbox::new(version).with("ENTRYPOINT_KEY_DIR", &*dir);
            let why = "`/dev/shm` is in memory, which ends with the container";
            refused(&sandbox, &sandbox.run(&["scheduler"]), &dir, why);
        }
    });
}

#[test]
fn without_a_volume_the_other_secrets_follow_from_a_given_key() {
    isolated("key_places::without_a_volume_the_other_secrets_follow_from_a_given_key", "", || {
        let newer = new_key();
        for list in [KEY.to_owned(), format!("{newer},{KEY}")] {
            // Two containers that share nothing but the variable.
            for _ in ["one", "the other"] {
                let sandbox = without_volume(V3, IN_MEMORY).with("FERNET_KEY", &*list);
                let outcome = sandbox.run(&["scheduler"]);
                outcome
                    .succeeds()
                    .says("info: web secret: derived from the Fernet key, fingerprint <fp>")
                    .says("info: JWT secret: derived from the Fernet key, fingerprint <fp>");
                let seen = sandbox.seen("airflow-scheduler");
                outcome.same(seen["AIRFLOW__API__SECRET_KEY"].as_str(), WEB_OF_KEY);
                outcome.same(seen["AIRFLOW__API_AUTH__JWT_SECRET"].as_str(), JWT_OF_KEY);
                outcome.same(seen["AIRFLOW__CORE__FERNET_KEY"].as_str(), &list);
                outcome.check(!std::path::Path::new(IN_MEMORY).exists(), "it wrote something");
            }
        }
        for version in [V1, V2] {
            let sandbox = without_volume(version, IN_MEMORY).with("FERNET_KEY", KEY);
            let outcome = sandbox.run(&["scheduler"]);
            let seen = sandbox.seen("airflow-scheduler");
            outcome.same(seen["AIRFLOW__WEBSERVER__SECRET_KEY"].as_str(), WEB_OF_KEY);
            outcome.same(seen.get("AIRFLOW__API_AUTH__JWT_SECRET"), None);
        }
        // The control: another key, other secrets.
        let sandbox = without_volume(V3, IN_MEMORY).with("FERNET_KEY", &*newer);
        sandbox.run(&["scheduler"]).succeeds();
        assert_ne!(sandbox.seen("airflow-scheduler")["AIRFLOW__API_AUTH__JWT_SECRET"], JWT_OF_KEY);
        // What uses no secret of its own making gets the same ones.
        let sandbox = without_volume(V3, IN_MEMORY).with("FERNET_KEY", KEY);
        sandbox.run(&["mycmd"]).succeeds();
        assert_eq!(sandbox.variable("mycmd", "AIRFLOW__API_AUTH__JWT_SECRET").as_deref(), Some(JWT_OF_KEY));
    });
}

#[test]
fn a_full_disk_leaves_nothing_behind() {
    isolated("key_places::a_full_disk_leaves_nothing_behind", "", || {
        let sandbox = without_volume(V3, "").with("ENTRYPOINT_EPHEMERAL_KEY", "true");
        let dir = sandbox.text("keys");
        let sandbox = sandbox.with("ENTRYPOINT_KEY_DIR", &*dir);
        mount(&["-t", "tmpfs", "-o", "size=4k", "tmpfs", &dir]);
        sandbox.write("keys/ballast", [0; 4096]);
        let outcome = sandbox.run(&["scheduler"]);
        outcome.fails(
            73,
            &format!(
                "<lines>airflow-entrypoint: error: cannot write the Fernet key `{dir}/fernet.key`: no space left on device\n"
            ),
        );
        outcome.same(sandbox.names("keys"), vec!["ballast".to_owned()]).same(sandbox.calls(), vec![]);
        // The control: with room it is made.
        std::fs::remove_file(sandbox.path("keys/ballast")).unwrap();
        mount(&["-o", "remount,size=64k", &dir]);
        sandbox.run(&["scheduler"]).succeeds();
        Command::new("umount").arg(&dir).status().unwrap();
    });
}

/// A Fernet key that Airflow fetches itself is none to derive a web secret from, and where one would not be kept none is made.
#[test]
fn without_a_place_the_web_secret_is_left_out_and_why_is_said() {
    isolated("key_places::without_a_place_the_web_secret_is_left_out_and_why_is_said", "", || {
        let sandbox = without_volume(V2, IN_MEMORY).with("AIRFLOW__CORE__FERNET_KEY_SECRET", "fernet");
        let line = "web secret: none, and none is made: `/dev/shm` is in memory, which ends with the container";
        let outcome = sandbox.run(&["scheduler"]);
        outcome.succeeds().says(&format!("info: {line}"));
        outcome.same(sandbox.variable("airflow-scheduler", "AIRFLOW__WEBSERVER__SECRET_KEY"), None);
        let shown = sandbox.run(&["explain", "scheduler"]);
        shown.succeeds().check(shown.stdout.contains(&format!("\n   {line}\n")), "the plan says something else");
        // The controls: a command that makes none anyway, and a place.
        sandbox.run(&["mycmd"]).succeeds().says("info: web secret: none, and this command makes none");
        let sandbox = sandbox.with("ENTRYPOINT_EPHEMERAL_KEY", "true");
        sandbox.run(&["scheduler"]).succeeds().says("info: web secret: made, and kept in <any>");
    });
}
