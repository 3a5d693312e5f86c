//! All containers on one database use the same secrets: the first one registers them, and another one with others finds out.

use crate::databases::{Database, Kind};
use crate::outcome::Outcome;
use crate::sandbox::{Sandbox, V2, V3, fingerprint, new_key, text_fingerprint};
use crate::verdict::{Place, places, servers};

const WEB: &str = "AIRFLOW__WEBSERVER__SECRET_KEY";
const KEY: &str = "AIRFLOW__CORE__FERNET_KEY";

/// A sandbox with these secrets. SQLite's file is there, as after a migration.
fn container(place: &Place<'_>, key: &str, web: &str) -> Sandbox {
    let sandbox = place.sandbox(V2).with(KEY, key).with(WEB, web);
    place.sql(&sandbox, "SELECT 1");
    sandbox
}

fn registered(place: &Place<'_>, sandbox: &Sandbox) -> String {
    place.sql(sandbox, "SELECT fingerprint FROM airflow_entrypoint_secret ORDER BY kind")
}

#[track_caller]
fn is_refused(outcome: &Outcome, kind: &str, ours: &str, theirs: &str, role: &str) {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    outcome.fails(
        65,
        &format!(
            "<lines>airflow-entrypoint: error: cannot use the {kind} `{ours}`: `{}` ({role}) has registered another one in the database of \
             <any>, `{theirs}`, at <time>\nairflow-entrypoint: hint: give all containers the same {kind}; where it was changed on \
             purpose, `airflow-entrypoint key register` registers this container's; `ENTRYPOINT_CHECK_SECRETS=warn` starts all the same\n",
            host.trim()
        ),
    );
}

#[test]
fn k15_another_web_secret_finds_out_who_has_which() {
    let servers = servers();
    for place in places(&servers, "web") {
        let key = new_key();
        let mut sandbox = container(&place, &key, "one-secret");
        sandbox.run(&["webserver"]).succeeds();
        sandbox.run(&["scheduler"]).succeeds();
        let (one, two) = (text_fingerprint(b"one-secret"), text_fingerprint(b"two-secret"));
        assert!(registered(&place, &sandbox).contains(&one));
        sandbox.set(WEB, "two-secret");
        let before = sandbox.calls().len();
        let outcome = sandbox.run(&["scheduler"]);
        is_refused(&outcome, "web secret", &two, &one, "webserver");
        outcome.check(!sandbox.calls()[before..].contains(&"airflow scheduler".to_owned()), "it was started");
        sandbox.run(&["variables", "list"]).succeeds();
        sandbox
            .run_with("ENTRYPOINT_CHECK_SECRETS", "warn", &["scheduler"])
            .succeeds()
            .says(&format!("warning: cannot use the web secret `{two}`: <any>"));
        sandbox.run_with("ENTRYPOINT_CHECK_SECRETS", "off", &["scheduler"]).succeeds();
        // On purpose.
        sandbox
            .run(&["key", "register"])
            .succeeds()
            .says(&format!("info: web secret: registered in the database, fingerprint {two}"));
        sandbox.run(&["scheduler"]).succeeds();
        sandbox.set(WEB, "one-secret");
        is_refused(&sandbox.run(&["scheduler"]), "web secret", &one, &two, "key");
    }
}

#[test]
fn k10_containers_with_the_lists_of_a_rotation_agree() {
    let servers = servers();
    for place in places(&servers, "rotation") {
        let (old, new) = (new_key(), new_key());
        let mut sandbox = container(&place, &old, "web");
        let (stage, promote) = (format!("{old},{new}"), format!("{new},{old}"));
        for keys in [&old, &stage, &old, &promote, &stage, &old, &promote, &new] {
            sandbox.set(KEY, keys.clone());
            sandbox.run(&["scheduler"]).succeeds();
        }
        assert!(registered(&place, &sandbox).contains(&fingerprint(&new)));
        sandbox.set(KEY, old.clone());
        let (ours, theirs) = (fingerprint(&old), fingerprint(&new));
        is_refused(&sandbox.run(&["scheduler"]), "Fernet key", &ours, &theirs, "scheduler");
    }
}

#[test]
fn a_secret_that_vanishes_with_the_container_is_not_registered() {
    let sandbox =
        Place::Sqlite.sandbox(V3).with("ENTRYPOINT_EPHEMERAL_KEY", "true").with("ENTRYPOINT_KEY_DIR", "/dev/shm/none");
    let folder = tempfile::tempdir_in("/dev/shm").unwrap();
    let sandbox = sandbox.with("ENTRYPOINT_KEY_DIR", folder.path());
    Place::Sqlite.sql(&sandbox, "SELECT 1");
    for _ in 0..2 {
        sandbox.run(&["scheduler"]).succeeds();
        std::fs::remove_file(folder.path().join("fernet.key")).unwrap();
        std::fs::remove_file(folder.path().join("web_secret.key")).unwrap();
    }
    let tables = "SELECT count(*) FROM sqlite_master WHERE name = 'airflow_entrypoint_secret'";
    assert_eq!(Place::Sqlite.sql(&sandbox, tables), "(0,)");
}

#[test]
fn without_the_right_to_make_a_table_it_warns_and_goes_on() {
    let Some(server) = Database::postgres() else { return };
    assert_eq!(server.kind, Kind::Postgres);
    server.create("narrow");
    server.sql(Some("narrow"), "ALTER SCHEMA public OWNER TO postgres; REVOKE ALL ON SCHEMA public FROM PUBLIC, airflow; GRANT USAGE ON SCHEMA public TO airflow; REVOKE CREATE ON DATABASE narrow FROM airflow");
    let place = Place::Server { server: &server, name: "narrow".to_owned() };
    let sandbox = container(&place, &new_key(), "web");
    sandbox.run(&["scheduler"]).succeeds().says(
        "warning: the secrets cannot be registered in the database, so that nobody compares those of other containers with them: \
         permission denied for schema public",
    );
}

/// Of many containers that start at once with different secrets one is registered, and the others name it.
#[test]
fn k16_of_two_at_once_one_is_registered() {
    let servers = servers();
    for place in places(&servers, "race").into_iter().filter(|place| matches!(place, Place::Server { .. })) {
        let key = new_key();
        let containers: Vec<_> = (0..6).map(|number| container(&place, &key, &format!("web-{number}"))).collect();
        let running: Vec<_> = containers.iter().map(|sandbox| sandbox.start(&["scheduler"])).collect();
        let ended: Vec<_> = running.into_iter().map(|running| running.finish()).collect();
        let statuses: Vec<_> = ended.iter().map(Outcome::code).collect();
        let winner = statuses.iter().position(|status| *status == 0).unwrap_or_else(|| panic!("{ended:?}"));
        assert!(
            statuses.iter().enumerate().all(|(index, status)| *status == if index == winner { 0 } else { 65 }),
            "{ended:?}"
        );
        let winner = text_fingerprint(format!("web-{winner}").as_bytes());
        for loser in ended.iter().filter(|outcome| outcome.code() == 65) {
            loser.says(&format!("error: cannot use the web secret <any>, `{winner}`, at <time>"));
        }
    }
}
