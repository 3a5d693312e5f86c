//! What another key may well read is not forgotten: the wrong key, a key that others have, no key.

use std::fs::{self, File};

use crate::forget::{Deployment, FORGET, token};
use crate::rotation::{keys, read_by, tokens};
use crate::sandbox::{V2, V3, fingerprint, new_key};
use crate::verdict::{Place, places, servers};

const HINT: &str = "airflow-entrypoint: hint: mount the volume that has the key that encrypted them, or set `AIRFLOW__CORE__FERNET_KEY` to it, \
    behind the one that is there and a comma; where it is lost for good, `--all` forgets them\n";

#[test]
fn a_key_that_reads_nothing_is_probably_the_wrong_one() {
    let servers = servers();
    for place in places(&servers, "wrong") {
        let Deployment { sandbox, .. } = Deployment::new(&place, V3);
        let (wrong, all) = (new_key(), tokens(&place, &sandbox, V3));
        sandbox.write("keys/fernet.key", format!("{wrong}\n"));
        let refused = sandbox.run(&FORGET);
        refused.fails(
            65,
            &format!(
                "<lines>airflow-entrypoint: error: cannot forget what is not read here: the Fernet key `{}` reads none of the {} encrypted \
                 values\n{HINT}",
                fingerprint(&wrong),
                all.len()
            ),
        );
        refused.same(refused.stdout.as_str(), "").same(tokens(&place, &sandbox, V3), all.clone());
        // Is it lost for good, somebody says so; and is asked nevertheless.
        let asked = sandbox.run(&["key", "forget-unreadable", "--all"]);
        asked.same(asked.code(), 64).same(tokens(&place, &sandbox, V3), all.clone());
        let forgotten = sandbox.run(&[&FORGET[..], &["--all"]].concat());
        forgotten
            .succeeds()
            .same(tokens(&place, &sandbox, V3), vec![])
            .says(&format!("info: Fernet key: {} encrypted values forgotten, all others are as they were", all.len()));
        sandbox.run(&["scheduler"]).succeeds();
        let again = sandbox.run(&FORGET);
        again
            .succeeds()
            .says("info: Fernet key: nothing to forget: 0 encrypted values in the database, and <any> reads all");
    }
}

#[test]
fn a_key_that_others_have_registered_may_read_it() {
    let servers = servers();
    for place in places(&servers, "registered") {
        let deployment = Deployment::new(&place, V2);
        let (sandbox, lost) = (&deployment.sandbox, &deployment.lost);
        let [ours, missing] = [&deployment.key, lost].map(|key| fingerprint(key));
        // Another container, which has both.
        sandbox.run_with("AIRFLOW__CORE__FERNET_KEY", &format!("{lost},{}", deployment.key), &["scheduler"]).succeeds();
        let before = deployment.rows();
        let refused = sandbox.run(&FORGET);
        refused.fails(
            65,
            &format!(
                "<lines>airflow-entrypoint: error: cannot forget what is not read here: `<any>` (scheduler) has registered the Fernet key \
                 `{missing}`, which is not here (the keys are `{ours}`)\n{HINT}"
            ),
        );
        deployment.is_unchanged_after(&before, &refused);
        let outcome = sandbox.run(&[&FORGET[..], &["--all"]].concat());
        outcome.succeeds();
        deployment.is_forgotten(&outcome);
        // What is registered is no longer that key: another row of it, and nobody has it.
        place.variable(sandbox, "later", &token(lost, "x"));
        sandbox.run(&FORGET).succeeds().says("info: variables to set anew: `later`");
        sandbox.run(&["scheduler"]).succeeds();
    }
}

#[test]
fn a_key_of_a_variable_will_do() {
    let deployment = Deployment::new(&Place::Sqlite, V2);
    fs::remove_file(deployment.sandbox.path("keys/fernet.key")).unwrap();
    let outcome = deployment.sandbox.run_with("AIRFLOW__CORE__FERNET_KEY", &deployment.key, &FORGET);
    outcome.succeeds().same(deployment.sandbox.names("keys"), vec![]);
    deployment.is_forgotten(&outcome);
    // Marked as encrypted, and perhaps worth a look.
    Place::Sqlite.variable(&deployment.sandbox, "marked", "plain");
    let outcome =
        deployment.sandbox.run_with("AIRFLOW__CORE__FERNET_KEY", &deployment.key, &["key", "forget-unreadable"]);
    outcome.same((outcome.code(), outcome.stdout.as_str()), (64, "variable `marked`: val (no Fernet token)\n"));
}

#[test]
fn without_key_or_database_nothing_is_forgotten() {
    let deployment = Deployment::new(&Place::Sqlite, V2);
    let (sandbox, before) = (&deployment.sandbox, deployment.rows());
    let folder = File::open(sandbox.path("keys")).unwrap();
    folder.lock().unwrap();
    let keys_of = sandbox.text("keys");
    let locked = sandbox.run(&FORGET);
    locked.fails(
        69,
        &format!(
            "<lines>airflow-entrypoint: error: cannot change the keys now: another process at `{keys_of}` holds the lock\n\
             airflow-entrypoint: hint: try again when it has ended\n"
        ),
    );
    folder.unlock().unwrap();
    let unknown = sandbox.run_with("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", "oracle://u@h/d", &FORGET);
    unknown.same(unknown.code(), 69).says("error: cannot tell which key the encrypted values need: <any>");
    assert_eq!(keys(sandbox), std::slice::from_ref(&deployment.key));
    fs::remove_file(sandbox.path("keys/fernet.key")).unwrap();
    let none = sandbox.run(&[&FORGET[..], &["--all"]].concat());
    none.fails(
        78,
        &format!(
            "<lines>airflow-entrypoint: error: cannot tell what is unreadable without the Fernet key: none is set, and there is none in `{keys_of}`\n\
             airflow-entrypoint: hint: `airflow-entrypoint key generate` makes one on the key volume\n"
        ),
    );
    none.same(sandbox.names("keys"), vec![]);
    deployment.is_unchanged_after(&before, &none);
    assert!(read_by(&deployment.lost, &tokens(&Place::Sqlite, sandbox, V2)) > 0);
}
