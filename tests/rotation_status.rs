//! What the verbs that change the Fernet key say of keys that are none of theirs, or none at all, and of where each key is needed.

use fernet::Fernet;

use crate::rotation::{FILE, deployment, keys, read_by, tokens};
use crate::sandbox::{Sandbox, V2, fingerprint, new_key};
use crate::services::local;
use crate::verdict::{CONN, Place};

/// Each verb, and what it cannot do without a key.
const VERBS: [(&str, &str); 6] = [
    ("stage", "stage another"),
    ("promote", "promote a"),
    ("reencrypt", "encrypt anew with the"),
    ("retire", "retire a"),
    ("rotate", "rotate the"),
    ("status", "tell the status of the"),
];
const CMD: &str = "AIRFLOW__CORE__FERNET_KEY_CMD";

#[test]
fn without_a_key_each_verb_says_what_it_cannot_do() {
    let sandbox = Sandbox::new(V2);
    let left = Sandbox::new(V2).with("AIRFLOW__CORE__FERNET_KEY_SECRET", "name");
    for (verb, deed) in VERBS {
        let (error, hint) = ("airflow-entrypoint: error: cannot", "airflow-entrypoint: hint:");
        let nowhere = format!(
            "{error} {deed} Fernet key: none is set, and there is none in `{}`\n{hint} `airflow-entrypoint key generate` makes one on the \
             key volume\n",
            sandbox.text("keys")
        );
        sandbox.run(&["key", verb]).fails(78, &format!("<lines>{nowhere}")).same(sandbox.names("keys"), vec![]);
        let airflows = format!(
            "{error} {deed} Fernet key: it is left to Airflow by `AIRFLOW__CORE__FERNET_KEY_SECRET`\n{hint} give it to this command by \
             `AIRFLOW__CORE__FERNET_KEY_FILE`\n"
        );
        left.run(&["key", verb]).fails(78, &format!("<lines>{airflows}")).same(left.names("keys"), vec![]);
    }
}

/// What a secrets manager has is known where it is given by a file, and the rows are worked on.
#[test]
fn a_key_of_a_secrets_manager_is_given_by_a_file() {
    let (sandbox, old, values) = deployment(&Place::Sqlite, V2);
    let (new, file) = (new_key(), sandbox.text("given"));
    std::fs::remove_file(sandbox.path(FILE)).unwrap();
    sandbox.write("given", format!("{new},{old}\n"));
    let sandbox = sandbox.with("AIRFLOW__CORE__FERNET_KEY_SECRET", "name").with("AIRFLOW__CORE__FERNET_KEY_FILE", file);
    sandbox.run(&["key", "reencrypt"]).succeeds().says(&format!("info: Fernet key: {values} encrypted anew, <any>"));
    assert_eq!(read_by(&new, &tokens(&Place::Sqlite, &sandbox, V2)), values);
}

#[test]
fn a_key_that_a_command_prints_is_yours_to_change() {
    let (sandbox, old, values) = deployment(&Place::Sqlite, V2);
    let (new, print) = (new_key(), fingerprint(&old));
    std::fs::remove_file(sandbox.path(FILE)).unwrap();
    let mut sandbox = sandbox.with(CMD, format!("echo {old}"));
    for (verb, order) in [
        ("stage", format!("`{print}`, then the new one")),
        ("rotate", format!("the new one, then `{print}`")),
        ("promote", format!("the key to promote, then the others of `{print}`")),
    ] {
        sandbox.run(&["key", verb]).fails(
            78,
            &format!(
                "<lines>airflow-entrypoint: error: cannot change the Fernet key of `{CMD}`: it is not in the key folder, so that only you \
                 can\nairflow-entrypoint: hint: make a key with `openssl rand -base64 32` and let `{CMD}` print the keys in this order, \
                 joined by commas: {order}\n"
            ),
        );
    }
    sandbox.run(&["key", "retire"]).succeeds().says(&format!("info: Fernet key: `{print}` is the only one"));
    sandbox.set(CMD, format!("echo {new},{old}"));
    sandbox.run(&["key", "reencrypt"]).succeeds().says(&format!("info: Fernet key: {values} encrypted anew, <any>"));
    let status = sandbox.run(&["key", "status"]);
    status.succeeds().says(&format!("info: Fernet key: from `{CMD}`, which only you can change"));
    sandbox.run(&["key", "retire"]).succeeds().says(&format!(
        "info: Fernet key: nothing in the database needs `{print}`; let `{CMD}` print `{}` alone, and restart all containers",
        fingerprint(&new)
    ));
    assert_eq!((read_by(&new, &tokens(&Place::Sqlite, &sandbox, V2)), sandbox.names("keys")), (values, vec![]));
}

#[test]
fn the_status_says_what_each_key_is_there_for() {
    let place = Place::Sqlite;
    let (sandbox, old, values) = deployment(&place, V2);
    let [second, third] = [new_key(), new_key()];
    let line = |key: &str, role: &str, held: &str| format!("{}  {role}; {held}\n", fingerprint(key));
    let (none, lost) = ("no encrypted value needs it", "would be lost without it");
    let all = format!("{values} encrypted values {lost}");
    let from =
        format!("info: Fernet key: from `{}` (<n> bytes, owner <any>, mode 0<n>, modified <time>)", sandbox.text(FILE));
    let says = |expected: String| {
        let status = sandbox.run(&["key", "status"]);
        status.succeeds().same(status.stdout.clone(), expected).says(&from);
        status
    };
    says(line(&old, "encrypts and reads", &all));
    sandbox.run(&["key", "stage"]).succeeds();
    let staged = keys(&sandbox).remove(1);
    says(line(&old, "encrypts and reads", &all) + &line(&staged, "staged: reads", none));
    // Three keys, of which the last has made one value.
    sandbox.write(FILE, format!("{second},{old},{third}\n"));
    place.variable(&sandbox, "one", &Fernet::new(&third).unwrap().encrypt(b"x"));
    let three = line(&second, "encrypts and reads", none)
        + &line(&old, "reads", &all)
        + &line(&third, "reads", &format!("1 encrypted value {lost}"));
    let known = says(three.clone());
    known.check(!known.stderr.contains("warning"), "it warns of nothing");
    place.variable(&sandbox, "foreign", &Fernet::new(&new_key()).unwrap().encrypt(b"x"));
    says(three).says("warning: no key reads variable `foreign`");
    for table in ["connection", "variable", "\"trigger\""] {
        place.sql(&sandbox, &format!("DELETE FROM {table}"));
    }
    says(
        [(&second, "encrypts and reads"), (&old, "reads"), (&third, "reads")]
            .map(|(key, role)| line(key, role, none))
            .concat(),
    );
    // A database that is down, and one that is not there yet.
    let (listener, port) = local();
    drop(listener);
    for (url, why) in [
        (
            format!("postgresql://u@127.0.0.1:{port}/a"),
            format!(
                "cannot ask the database of `{CONN}`: connection refused (while taking the lock for the migration)"
            ),
        ),
        (
            format!("sqlite:///{}", sandbox.text("home/none.db")),
            "cannot tell which key the encrypted values need: there is no database yet".to_owned(),
        ),
    ] {
        let status = sandbox.run_with(CONN, &url, &["key", "status"]);
        let unasked = "the database was not asked";
        let table = [(&second, "encrypts and reads"), (&old, "reads"), (&third, "reads")];
        status.succeeds().same(status.stdout.clone(), table.map(|(key, role)| line(key, role, unasked)).concat());
        status.says(&format!("warning: {why}")).says(&from);
    }
}
