//! The Fernet key is changed and no row is lost: on PostgreSQL, MariaDB and SQLite, with Airflow's own tables.

use std::fs::{self, File};

use fernet::Fernet;

use crate::databases::Kind;
use crate::sandbox::{Sandbox, V1, V2, V3, fingerprint, key_mode, new_key};
use crate::verdict::{Place, places, servers};

pub(crate) const FILE: &str = "keys/fernet.key";

/// The keys of the file.
pub(crate) fn keys(sandbox: &Sandbox) -> Vec<String> {
    sandbox.read(FILE).trim_end().split(',').map(str::to_owned).collect()
}

/// All texts of the database that may be tokens.
pub(crate) fn tokens(place: &Place<'_>, sandbox: &Sandbox, version: &str) -> Vec<String> {
    let mut all = vec!["SELECT password FROM connection", "SELECT extra FROM connection", "SELECT val FROM variable"];
    let trigger = format!("SELECT kwargs FROM {}", place.quoted("trigger"));
    if version != V1 {
        all.push(&trigger);
    }
    if version == V3 {
        all.extend(["SELECT password FROM connection_test_request", "SELECT extra FROM connection_test_request"]);
    }
    let texts: String = all.iter().map(|query| format!("{}\n", place.sql(sandbox, query))).collect();
    let words = texts.split(|letter: char| !letter.is_ascii_alphanumeric() && !"-_=".contains(letter));
    words.filter(|word| word.starts_with("gAAAAA") && !word.contains("plain")).map(str::to_owned).collect()
}

/// How many of these a key reads.
pub(crate) fn read_by(key: &str, tokens: &[String]) -> usize {
    let key = Fernet::new(key).unwrap();
    tokens.iter().filter(|token| key.decrypt(token).is_ok()).count()
}

/// A deployment whose key is in the file: the sandbox, the key, and how many values it has encrypted.
pub(crate) fn deployment(place: &Place<'_>, version: &str) -> (Sandbox, String, usize) {
    let (sandbox, key) = (place.sandbox(version), new_key());
    sandbox.write(FILE, format!("{key}\n"));
    fs::set_permissions(sandbox.path(FILE), std::os::unix::fs::PermissionsExt::from_mode(key_mode())).unwrap();
    let values = place.fill(&sandbox, version, &key);
    (sandbox, key, values)
}

#[test]
fn k10_everything_is_encrypted_anew_and_the_old_key_reads_none_of_it() {
    let servers = servers();
    for version in [V1, V2, V3] {
        for place in places(&servers, &format!("rotated{}", version.replace('.', "_"))) {
            let (sandbox, old, values) = deployment(&place, version);
            let before = tokens(&place, &sandbox, version);
            assert_eq!((before.len(), read_by(&old, &before)), (values, values));
            let outcome = sandbox.run(&["key", "rotate"]);
            let now = keys(&sandbox);
            let [new, kept] = now.as_slice() else { panic!("{} keys", now.len()) };
            outcome.succeeds().same(kept, &old).same(sandbox.mode(FILE), key_mode()).says(&format!(
                "info: Fernet key: {values} encrypted anew, all {values} are read by `{}` alone; when no container runs without that \
                 key any more, `key retire`",
                fingerprint(new)
            ));
            let after = tokens(&place, &sandbox, version);
            outcome.same((read_by(new, &after), read_by(&old, &after), after.len()), (values, 0, values));
            if version != V1 {
                let plain = place.sql(&sandbox, &format!("SELECT kwargs FROM {}", place.quoted("trigger")));
                outcome.check(plain.contains("\"a\": 1}"), "the plain row is another one");
            }
            // It is not begun anew; and a start in between is content.
            sandbox
                .run(&["key", "rotate"])
                .succeeds()
                .says(&format!("info: Fernet key: 0 encrypted anew, all {values} <any>"));
            assert_eq!(keys(&sandbox), now);
            sandbox.run(&["scheduler"]).succeeds();
            sandbox.run(&["key", "retire"]).succeeds().says(&format!(
                "info: Fernet key: `{}` is no longer in `{}`, which has `{}` alone; containers forget it at their next start",
                fingerprint(&old),
                sandbox.text(FILE),
                fingerprint(new)
            ));
            assert_eq!(keys(&sandbox), std::slice::from_ref(new));
            sandbox.run(&["scheduler"]).succeeds().says(&format!("<any>reads all {values} encrypted values<any>"));
            let left: Vec<_> =
                sandbox.names("keys").into_iter().filter(|name| !name.ends_with("_secret.key")).collect();
            assert_eq!(left, ["fernet.key"]);
        }
    }
}

#[test]
fn k10_a_running_deployment_changes_its_key_in_four_steps() {
    let servers = servers();
    for place in places(&servers, "rolled") {
        let (sandbox, old, values) = deployment(&place, V3);
        sandbox.run(&["key", "promote"]).fails(
            78,
            &format!(
                "<lines>airflow-entrypoint: error: cannot promote a Fernet key: none is staged (the keys are `{}`)\nairflow-entrypoint: \
                 hint: `airflow-entrypoint key stage` stages one\n",
                fingerprint(&old)
            ),
        );
        let staged = sandbox.run(&["key", "stage"]);
        let new = keys(&sandbox)[1].clone();
        staged.succeeds().same(keys(&sandbox), vec![old.clone(), new.clone()]).says(&format!(
            "info: Fernet key: `{}` is staged in `{}`, where it reads and does not encrypt yet; restart all containers, then `key promote`",
            fingerprint(&new),
            sandbox.text(FILE)
        ));
        for verb in ["stage", "retire"] {
            let refused = sandbox.run(&["key", verb]);
            refused.fails(
                78,
                &format!(
                    "<lines>airflow-entrypoint: error: cannot do that now: the Fernet key `{}` is staged\nairflow-entrypoint: hint: go on with \
                     `airflow-entrypoint key promote`, when all containers have been restarted\n",
                    fingerprint(&new)
                ),
            );
            refused.same(keys(&sandbox).len(), 2);
        }
        sandbox.run(&["scheduler"]).succeeds();
        sandbox.run(&["key", "promote"]).succeeds().says(&format!(
            "info: Fernet key: the keys are `{},{}` now, of which the first encrypts; restart all containers, then `key reencrypt`",
            fingerprint(&new),
            fingerprint(&old)
        ));
        sandbox.run(&["scheduler"]).succeeds();
        // Each row is named that would be lost.
        let refused = sandbox.run(&["key", "retire"]);
        refused.same(refused.code(), 65).same(keys(&sandbox), vec![new.clone(), old.clone()]).says(&format!(
            "error: cannot retire the Fernet key `{}`: {values} encrypted values need it (connections `both`, `password`; connection test \
             `tested`; trigger `1`; variable `v`)",
            fingerprint(&old)
        ));
        let status = sandbox.run(&["key", "status"]);
        status.succeeds().same(
            status.stdout.as_str(),
            &format!(
                "{}  encrypts and reads; no encrypted value needs it\n{}  reads; {values} encrypted values would be lost without it\n",
                fingerprint(&new),
                fingerprint(&old)
            ),
        );
        sandbox.run(&["key", "reencrypt"]).succeeds();
        // One container still has the old list.
        place.variable(&sandbox, "late", &Fernet::new(&old).unwrap().encrypt(b"x"));
        let refused = sandbox.run(&["key", "retire"]);
        refused.fails(
            65,
            &format!(
                "<lines>airflow-entrypoint: error: cannot retire the Fernet key `{}`: 1 encrypted value needs it (variable `late`)\n\
                 airflow-entrypoint: hint: `airflow-entrypoint key reencrypt` encrypts them anew\n",
                fingerprint(&old)
            ),
        );
        refused.same(keys(&sandbox).len(), 2);
        sandbox.run(&["key", "reencrypt"]).succeeds().says("info: Fernet key: 1 encrypted anew, all <any>");
        sandbox.run(&["key", "retire"]).succeeds();
        assert_eq!(keys(&sandbox), std::slice::from_ref(&new));
        let all = tokens(&place, &sandbox, V3);
        assert_eq!((read_by(&new, &all), all.len()), (values + 1, values + 1));
        sandbox
            .run(&["key", "retire"])
            .succeeds()
            .says(&format!("info: Fernet key: `{}` is the only one", fingerprint(&new)));
    }
}

#[test]
fn k10_what_no_key_reads_is_named_and_stops_it() {
    let servers = servers();
    for place in places(&servers, "unread") {
        let (sandbox, old, values) = deployment(&place, V2);
        let foreign = Fernet::generate_key();
        place.variable(&sandbox, "foreign", &Fernet::new(&foreign).unwrap().encrypt(b"x"));
        for verb in ["rotate", "reencrypt"] {
            let refused = sandbox.run(&["key", verb]);
            refused.fails(
                65,
                "<lines>airflow-entrypoint: error: cannot rotate the Fernet key: no key reads 1 encrypted value: variable `foreign`\n\
                 airflow-entrypoint: hint: put the key that encrypted them behind the others; where it is lost, `airflow-entrypoint key \
                 forget-unreadable` forgets them, so that you can set them anew; `--skip-unreadable` leaves them as they are\n",
            );
            refused.same(keys(&sandbox), vec![old.clone()]);
            refused.same(read_by(&old, &tokens(&place, &sandbox, V2)), values);
        }
        let outcome = sandbox.run(&["key", "rotate", "--skip-unreadable"]);
        outcome.succeeds().says("warning: no key reads variable `foreign`; they stay as they are");
        let (now, all) = (keys(&sandbox), tokens(&place, &sandbox, V2));
        outcome.same((read_by(&now[0], &all), read_by(&foreign, &all), all.len()), (values, 1, values + 1));
    }
}

#[test]
fn k10_nothing_is_rotated_under_a_running_airflow() {
    let servers = servers();
    for place in places(&servers, "running") {
        let (sandbox, old, values) = deployment(&place, V2);
        let (kind, now, long_ago) = match &place {
            Place::Server { server, .. } if server.kind == Kind::MariaDb => {
                ("TIMESTAMP(6) NULL", "UTC_TIMESTAMP()", "UTC_TIMESTAMP() - INTERVAL 1 HOUR")
            }
            Place::Server { .. } => ("TIMESTAMP WITH TIME ZONE", "now()", "now() - INTERVAL '1 hour'"),
            Place::Sqlite => ("TIMESTAMP", "strftime('%Y-%m-%d %H:%M:%f000', 'now')", "'2020-01-01 00:00:00.000000'"),
        };
        let zone = if kind.ends_with("NULL") { "SET time_zone = '+00:00'; " } else { "" };
        place.sql(
            &sandbox,
            &format!(
                "{zone}CREATE TABLE job (id INTEGER, job_type VARCHAR(30), hostname VARCHAR(500), state VARCHAR(20), latest_heartbeat {kind}); \
                 INSERT INTO job VALUES (1, 'SchedulerJob', 'one', 'running', {now}), (2, 'TriggererJob', 'two', 'running', {long_ago}), \
                 (3, 'SchedulerJob', 'three', 'success', {now})"
            ),
        );
        let refused = sandbox.run(&["key", "rotate"]);
        refused.fails(
            69,
            "<lines>airflow-entrypoint: error: cannot rotate the Fernet key: Airflow runs (SchedulerJob on one)\nairflow-entrypoint: hint: \
             stop the deployment, or change the key while it runs by `key stage`, `key promote`, `key reencrypt` and `key retire`; \
             `--force` rotates all the same\n",
        );
        refused.same(keys(&sandbox), vec![old.clone()]);
        let forced = sandbox.run(&["key", "rotate", "--force"]);
        forced.succeeds().same(read_by(&keys(&sandbox)[0], &tokens(&place, &sandbox, V2)), values);
    }
}

#[test]
fn k10_one_at_a_time() {
    let servers = servers();
    for place in places(&servers, "locked") {
        let (sandbox, old, _) = deployment(&place, V2);
        let folder = File::open(sandbox.path("keys")).unwrap();
        folder.lock().unwrap();
        for verb in ["stage", "rotate", "retire", "reencrypt"] {
            let keys = sandbox.text("keys");
            sandbox.run(&["key", verb]).fails(
                69,
                &format!(
                    "<lines>airflow-entrypoint: error: cannot change the keys now: another process at `{keys}` holds the lock\n\
                     airflow-entrypoint: hint: try again when it has ended\n"
                ),
            );
        }
        folder.unlock().unwrap();
        assert_eq!(keys(&sandbox), [old]);
        // The control.
        sandbox.run(&["key", "stage"]).succeeds();
    }
}

/// A container that still has the old key in front writes while everything is encrypted anew.
#[test]
fn k10_what_is_written_meanwhile_with_the_old_key_is_found() {
    let Some(server) = crate::databases::Database::postgres() else { return };
    server.create("meanwhile");
    let place = Place::Server { server: &server, name: "meanwhile".to_owned() };
    let (sandbox, old, values) = deployment(&place, V2);
    let token = Fernet::new(&old).unwrap().encrypt(b"late");
    place.sql(
        &sandbox,
        &format!(
            "CREATE FUNCTION late() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO connection (conn_id, password, is_encrypted) \
             VALUES ('late', '{token}', TRUE); RETURN NULL; END $$; \
             CREATE TRIGGER late AFTER UPDATE ON variable FOR EACH STATEMENT EXECUTE FUNCTION late()"
        ),
    );
    let outcome = sandbox.run(&["key", "rotate"]);
    outcome.fails(
        65,
        "<lines>airflow-entrypoint: error: cannot finish the rotation: somebody has written 1 encrypted value with an older key meanwhile \
         (connection `late`)\nairflow-entrypoint: hint: restart what still runs with it, then `airflow-entrypoint key reencrypt` again\n",
    );
    let (now, all) = (keys(&sandbox), tokens(&place, &sandbox, V2));
    outcome.same((read_by(&now[0], &all), read_by(&old, &all), now.len()), (values, 1, 2));
    place.sql(&sandbox, "DROP TRIGGER late ON variable");
    sandbox.run(&["key", "reencrypt"]).succeeds().says("info: Fernet key: 1 encrypted anew, all <any>");
    assert_eq!(read_by(&now[0], &tokens(&place, &sandbox, V2)), values + 1);
}

#[test]
fn keys_that_are_not_ours_are_yours_to_change() {
    let place = Place::Sqlite;
    let (sandbox, old, values) = deployment(&place, V2);
    fs::remove_file(sandbox.path(FILE)).unwrap();
    let mut sandbox = sandbox.with("AIRFLOW__CORE__FERNET_KEY", old.clone());
    let print = fingerprint(&old);
    for (verb, order) in [
        ("stage", format!("`{print}`, then the new one")),
        ("rotate", format!("the new one, then `{print}`")),
        ("promote", format!("the key to promote, then the others of `{print}`")),
    ] {
        if verb != "rotate" {
            sandbox.run(&["key", verb]).fails(
                78,
                &format!(
                    "<lines>airflow-entrypoint: error: cannot change the Fernet key of `AIRFLOW__CORE__FERNET_KEY`: it is not in the key folder, \
                     so that only you can\nairflow-entrypoint: hint: make a key with `openssl rand -base64 32` and set \
                     `AIRFLOW__CORE__FERNET_KEY` to the keys in this order, joined by commas: {order}\n"
                ),
            );
        } else {
            let outcome = sandbox.run(&["key", verb]);
            outcome.same(outcome.code(), 78).says(&format!("hint: <any>joined by commas: {order}"));
        }
    }
    let new = new_key();
    sandbox.set("AIRFLOW__CORE__FERNET_KEY", format!("{new},{old}"));
    let refused = sandbox.run(&["key", "retire"]);
    refused.same(refused.code(), 65);
    sandbox.run(&["key", "rotate"]).succeeds().same(read_by(&new, &tokens(&place, &sandbox, V2)), values);
    sandbox.run(&["key", "retire"]).succeeds().says(&format!(
        "info: Fernet key: nothing in the database needs `{print}`; set `AIRFLOW__CORE__FERNET_KEY` to `{}` alone, and restart all containers",
        fingerprint(&new)
    ));
    assert!(!sandbox.path(FILE).exists());
}
