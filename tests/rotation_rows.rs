//! What the database holds besides: what is registered, tables and values that are not ours to change, and rows of strange content.

use fernet::Fernet;

use crate::databases::Kind;
use crate::rotation::{FILE, deployment, keys, read_by, tokens};
use crate::sandbox::{Sandbox, V2, V3, fingerprint, new_key};
use crate::verdict::{Place, places, servers};

const REGISTERED: &str = "SELECT fingerprint FROM airflow_entrypoint_secret WHERE kind = 'fernet'";

/// The fingerprints of the keys that are registered.
fn registered(place: &Place<'_>, sandbox: &Sandbox) -> String {
    place.sql(sandbox, REGISTERED).trim_matches(|letter: char| "(',)\n".contains(letter)).to_owned()
}

#[test]
fn k10_what_is_registered_follows() {
    let servers = servers();
    for place in places(&servers, "followed") {
        let (sandbox, old, values) = deployment(&place, V2);
        let list = || keys(&sandbox).iter().map(|key| fingerprint(key)).collect::<Vec<_>>().join(",");
        sandbox.run(&["scheduler"]).succeeds().same(registered(&place, &sandbox), list());
        // By every verb that is not refused, a start with the new list is content.
        for (verb, follows) in
            [("stage", false), ("promote", false), ("reencrypt", true), ("retire", true), ("rotate", true)]
        {
            let outcome = sandbox.run(&["key", verb]);
            outcome.succeeds();
            if follows {
                outcome.same(registered(&place, &sandbox), list());
            }
            sandbox.run(&["scheduler"]).succeeds().says(&format!("<any>all {values} encrypted values<any>"));
        }
        // The control: one with the old key alone is told.
        let before = registered(&place, &sandbox);
        let other = place.sandbox(V2).with("AIRFLOW__CORE__FERNET_KEY", old.clone());
        if matches!(place, Place::Sqlite) {
            std::fs::copy(sandbox.path("home/airflow.db"), other.path("home/airflow.db")).unwrap();
        }
        let refused = other.run(&["scheduler"]);
        refused.same(refused.code(), 65).says(&format!(
            "error: cannot use the Fernet key `{}`: it reads none of the {values} encrypted values in the database of <any>",
            fingerprint(&old)
        ));
        assert_eq!(registered(&place, &sandbox), before);
    }
}

#[test]
fn what_is_not_ours_to_change_is_named() {
    let servers = servers();
    for place in places(&servers, "others") {
        let (sandbox, old, values) = deployment(&place, V3);
        // The control.
        let said = sandbox.run(&["key", "status"]);
        said.succeeds().check(!said.stderr.contains("warning"), "it warns of nothing");
        let (bytes, hex, text) = match &place {
            Place::Server { server, .. } if server.kind == Kind::MariaDb => ("BLOB", "X'", "HEX(value)"),
            Place::Server { .. } => ("BYTEA", "'\\x", "CAST(value AS TEXT)"),
            Place::Sqlite => ("BLOB", "X'", "HEX(value)"),
        };
        let token = Fernet::new(&old).unwrap().encrypt(b"delta");
        let pickled: String = format!("\u{1}{token}").bytes().map(|byte| format!("{byte:02x}")).collect();
        let json = if bytes == "BYTEA" { "JSONB" } else { "JSON" };
        // Airflow 3 keeps JSON, Airflow 2 keeps bytes of JSON or of a pickle.
        for (kind, with, without) in [
            (json, format!("'{{\"key\": \"{token}\"}}'"), "'{\"key\": \"plain\"}'".to_owned()),
            (bytes, format!("{hex}{pickled}'"), format!("{hex}00ff'")),
        ] {
            place.sql(
                &sandbox,
                &format!(
                    "DROP TABLE IF EXISTS xcom; CREATE TABLE xcom (value {kind}); INSERT INTO xcom VALUES ({with}), ({without}), ({with})"
                ),
            );
            let look = format!("SELECT {text} FROM xcom");
            let unchanged = place.sql(&sandbox, &look);
            sandbox.write(FILE, format!("{},{old}\n", new_key()));
            let said = sandbox.run(&["key", "status"]);
            said.succeeds().says(
                "warning: 2 XCom values hold Fernet tokens (Delta Lake, Iceberg), which are not encrypted anew: those of an older key are \
                 lost with it",
            );
            assert_eq!(place.sql(&sandbox, &look), unchanged);
        }
        place.sql(
            &sandbox,
            "DROP TABLE xcom; CREATE TABLE dag_secret (id INTEGER, value VARCHAR(500), is_value_encrypted INTEGER); CREATE TABLE plain_one (id INTEGER); \
             ALTER TABLE connection ADD COLUMN is_login_encrypted INTEGER",
        );
        let outcome = sandbox.run(&["key", "rotate"]);
        outcome.succeeds().says(
            "warning: no verb of ours reads or changes what `connection.is_login_encrypted`, `dag_secret.is_value_encrypted` may mark as \
             encrypted: whether it is under one of the keys is not known here",
        );
        outcome
            .check(!outcome.stderr.contains("plain_one") && !outcome.stderr.contains("XCom"), "it warns of too much");
        assert_eq!(read_by(&keys(&sandbox)[0], &tokens(&place, &sandbox, V3)), values);
    }
}

/// Before Airflow 2.9 a trigger has JSON there, which was never encrypted.
#[test]
fn a_trigger_of_json_is_left_alone() {
    let servers = servers();
    for place in places(&servers, "json") {
        let (sandbox, _, values) = deployment(&place, V2);
        let trigger = place.quoted("trigger");
        place.sql(
            &sandbox,
            &format!(
                "DROP TABLE {trigger}; CREATE TABLE {trigger} (id INTEGER, classpath VARCHAR(1000), kwargs JSON); \
                 INSERT INTO {trigger} VALUES (1, 'a', '{{\"a\": 1}}'), (2, 'b', '{{}}')"
            ),
        );
        let before = place.sql(&sandbox, &format!("SELECT * FROM {trigger} ORDER BY id"));
        let left = values - 1;
        sandbox
            .run(&["key", "rotate"])
            .succeeds()
            .says(&format!("info: Fernet key: {left} encrypted anew, all {left} <any>"));
        sandbox.run(&["key", "retire"]).succeeds();
        sandbox.run(&["scheduler"]).succeeds().says(&format!("<any>reads all {left} encrypted values<any>"));
        assert_eq!(place.sql(&sandbox, &format!("SELECT * FROM {trigger} ORDER BY id")), before);
    }
}

#[test]
fn rows_of_strange_content_are_rotated_like_any() {
    let servers = servers();
    for place in places(&servers, "strange") {
        let (sandbox, old, values) = deployment(&place, V2);
        let (old_key, key) = (Fernet::new(&old).unwrap(), place.quoted("key"));
        let names = ["it''s", "a \"b\"", "two\nlines", "`; DROP TABLE variable", "世界 é", "%s ? $1", "CASE", "case"];
        for name in names {
            let token = old_key.encrypt(name.as_bytes());
            place.sql(
                &sandbox,
                &format!("INSERT INTO variable ({key}, val, is_encrypted) VALUES ('{name}', '{token}', TRUE)"),
            );
        }
        // A megabyte.
        let huge = old_key.encrypt("x".repeat(1 << 20).as_bytes());
        place
            .sql(&sandbox, &format!("INSERT INTO variable ({key}, val, is_encrypted) VALUES ('huge', '{huge}', TRUE)"));
        place.sql(
            &sandbox,
            &format!(
                "INSERT INTO variable ({key}, val, is_encrypted) VALUES \
                 ('none', NULL, TRUE), ('unflagged', 'gAAAAAplain', NULL); INSERT INTO connection (conn_id, password, extra, is_encrypted, \
                 is_extra_encrypted) VALUES ('nothing', NULL, NULL, TRUE, TRUE), ('unflagged', 'gAAAAAplain', '', NULL, NULL)"
            ),
        );
        let all = values + names.len() + 1;
        sandbox
            .run(&["key", "rotate"])
            .succeeds()
            .says(&format!("info: Fernet key: {all} encrypted anew, all {all} <any>"));
        let (new, found) = (keys(&sandbox)[0].clone(), tokens(&place, &sandbox, V2));
        assert_eq!((read_by(&new, &found), read_by(&old, &found), found.len()), (all, 0, all));
        let new = Fernet::new(&new).unwrap();
        let texts: Vec<_> = found.iter().map(|token| new.decrypt(token).unwrap()).collect();
        assert!(texts.iter().any(|text| text.len() == 1 << 20) && texts.iter().any(|text| text == "世界 é".as_bytes()));
        // Both cases of one name have their own value.
        assert!([&b"CASE"[..], b"case"].iter().all(|case| texts.iter().any(|text| text == case)));
        sandbox.run(&["key", "retire"]).succeeds();
        sandbox.run(&["scheduler"]).succeeds().says(&format!("<any>reads all {all} encrypted values<any>"));
    }
}

#[test]
fn where_nothing_is_encrypted_the_key_alone_changes() {
    let servers = servers();
    for place in places(&servers, "nothing") {
        let (sandbox, old, _) = deployment(&place, V2);
        for table in ["connection", "variable", &place.quoted("trigger")] {
            place.sql(&sandbox, &format!("DELETE FROM {table}"));
        }
        sandbox.run(&["key", "rotate"]).succeeds().says("info: Fernet key: 0 encrypted anew, all 0 <any>");
        sandbox.run(&["key", "retire"]).succeeds().check(!sandbox.read(FILE).contains(&old), "it is still there");
    }
}
