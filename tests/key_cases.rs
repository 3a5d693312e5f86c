//! Cases of the field about keys and permissions that no other file has, each by its name.

use std::fs;
use std::process::Command;

use crate::namespace::is_root;
use crate::sandbox::{LINES, Sandbox, V2, V3, fingerprint, new_key};

const FERNET: &str = "AIRFLOW__CORE__FERNET_KEY";

/// The official compose file sets the key to nothing, which switches encryption off.
#[test]
fn k05_an_empty_variable_is_unset() {
    for version in [V2, V3] {
        let sandbox = Sandbox::new(version).with(FERNET, "").with("FERNET_KEY", "");
        sandbox.run(&["scheduler"]).succeeds().says(&format!(
            "info: Fernet key: made, and kept in `{}`, fingerprint <fp>",
            sandbox.text("keys/fernet.key")
        ));
        let key = sandbox.read("keys/fernet.key");
        assert_eq!(sandbox.variable("airflow-scheduler", FERNET).as_deref(), Some(key.trim_end()));
    }
}

/// A list is a key with its predecessors: as many elements as there are, in their order, each looked at.
#[test]
fn k10_a_list_of_keys_is_handed_on_in_its_order() {
    let keys = [new_key(), new_key(), new_key()];
    let [new, old, oldest] = &keys;
    let (list, prints) = (keys.join(","), keys.each_ref().map(|key| fingerprint(key)).join(","));
    for version in LINES {
        for (name, text) in [(FERNET, format!(" {new} ,\t{old}, {oldest} ")), ("FERNET_KEY", list.clone())] {
            let sandbox = Sandbox::new(version).with(name, text);
            sandbox
                .run(&["scheduler"])
                .succeeds()
                .says(&format!("info: Fernet key: from `{name}`, fingerprint {prints}"));
            assert_eq!(sandbox.variable("airflow-scheduler", FERNET), Some(list.clone()));
        }
        // In the file, which is left as it is.
        let sandbox = Sandbox::new(version);
        sandbox.write("keys/fernet.key", format!("{new} , {old},{oldest}\n"));
        let line = format!("info: Fernet key: from `{}`, fingerprint {prints}", sandbox.text("keys/fernet.key"));
        sandbox.run(&["scheduler"]).succeeds().says(&line);
        assert_eq!(sandbox.variable("airflow-scheduler", FERNET), Some(list.clone()));
        assert_eq!(sandbox.read("keys/fernet.key"), format!("{new} , {old},{oldest}\n"));
        // The new one set before the old one on the volume: nothing that the old one encrypted is lost, nor is the order.
        let sandbox = Sandbox::new(version).with("FERNET_KEY", format!("{new},{old}"));
        sandbox.write("keys/fernet.key", format!("{old}\n"));
        let outcome = sandbox.run(&["scheduler"]);
        outcome.succeeds().check(!outcome.stderr.contains("warning"), "it warns of a key that is in the list");
        assert_eq!(sandbox.variable("airflow-scheduler", FERNET), Some(format!("{new},{old}")));
    }
}

#[test]
fn k10_each_key_of_a_list_is_looked_at() {
    let (new, old) = (new_key(), new_key());
    let (short, empty) = (
        "expected 32 bytes in url-safe base64 (44 characters), found 6 bytes at position",
        "expected keys joined by single commas, found an empty element at position",
    );
    for (list, problem) in [
        (format!("{new},deadbeef"), format!("{short} 2")),
        (format!("deadbeef,{old}"), format!("{short} 1")),
        (format!("{new},,{old}"), format!("{empty} 2")),
        (format!("{new},{old},"), format!("{empty} 3")),
        (format!("{new} {old}"), "found two keys without a comma between them".to_owned()),
    ] {
        let sandbox = Sandbox::new(V2).with("FERNET_KEY", list.as_str());
        let error = format!("cannot use the Fernet key of `FERNET_KEY`: {problem}");
        let outcome = sandbox.run(&["scheduler"]);
        outcome.fails(78, &format!("airflow-entrypoint: error: {error}\nairflow-entrypoint: hint: <any>\n"));
        outcome.same(sandbox.names("keys"), vec![]).same(sandbox.calls(), vec![]);
    }
}

/// A key in an `airflow.cfg` that somebody made, beside another one that is used.
#[test]
fn k19_a_file_of_the_users_with_another_key_is_told() {
    let (used, other) = (new_key(), new_key());
    let sandbox = Sandbox::new(V2).with("FERNET_KEY", &*used);
    sandbox.write("home/airflow.cfg", format!("[core]\nfernet_key = {other}\n"));
    sandbox.run(&["scheduler"]).succeeds().says(&format!(
        "warning: `[core] fernet_key` in `{}` holds another Fernet key (fingerprint {}) than `FERNET_KEY` (fingerprint {}); `FERNET_KEY` is used",
        sandbox.text("home/airflow.cfg"),
        fingerprint(&other),
        fingerprint(&used)
    ));
    assert_eq!(sandbox.variable("airflow-scheduler", FERNET), Some(used.clone()));
    // The control: the same key in both is nothing to tell, nor is a reference to a variable.
    for text in [used.as_str(), "$FERNET_KEY"] {
        sandbox.write("home/airflow.cfg", format!("[core]\nfernet_key = {text}\n"));
        let outcome = sandbox.run(&["scheduler"]);
        outcome.succeeds().check(!outcome.stderr.contains("warning"), "it warns");
    }
}

/// Each secret has a file and a life of its own: another Fernet key changes no other secret.
#[test]
fn k20_no_secret_is_used_for_two_jobs() {
    let sandbox = Sandbox::new(V3);
    sandbox.run(&["scheduler"]).succeeds();
    let secrets = ["fernet.key", "web_secret.key", "jwt_secret.key"].map(|name| sandbox.read(&format!("keys/{name}")));
    assert!(secrets[0] != secrets[1] && secrets[1] != secrets[2] && secrets[0] != secrets[2]);
    sandbox.run_with("FERNET_KEY", &new_key(), &["scheduler"]).succeeds();
    for (option, secret) in [("AIRFLOW__API__SECRET_KEY", &secrets[1]), ("AIRFLOW__API_AUTH__JWT_SECRET", &secrets[2])]
    {
        assert_eq!(sandbox.variable("airflow-scheduler", option).as_deref(), Some(secret.trim_end()));
    }
}

/// Judged by what it can read and write, not by its group.
#[test]
fn p03_a_user_of_another_group_starts_where_it_has_access() {
    if !is_root() {
        return;
    }
    let sandbox = Sandbox::new(V2).owned_by(1001, 1003).made_executable();
    sandbox.run(&["scheduler"]).succeeds();
    assert_eq!(sandbox.mode("keys/fernet.key"), 0o600);
}

/// The mode allows it and it is denied all the same: a security module, which an immutable folder stands in for.
#[test]
fn p07_what_the_mode_allows_and_is_denied_is_a_security_modules_work() {
    if !is_root() {
        return;
    }
    let sandbox = Sandbox::new(V2);
    fs::create_dir(sandbox.path("home/logs")).unwrap();
    let logs = sandbox.text("home/logs");
    let chattr =
        |flag: &str| Command::new("chattr").args([flag, &logs]).output().is_ok_and(|output| output.status.success());
    if !chattr("+i") {
        return crate::referee::missing("chattr on this file system");
    }
    let outcome = sandbox.run(&["scheduler"]);
    assert!(chattr("-i"));
    let facts = "operation not permitted; owner 0:0, mode 0755, and we are 0:0";
    let hint = "its mode allows it, so SELinux or AppArmor may not: mount it with `:z`";
    outcome.fails(
        77,
        &format!("<lines>airflow-entrypoint: error: cannot write to the folder `{logs}`: {facts}\nairflow-entrypoint: hint: {hint}\n"),
    );
    outcome.same(sandbox.calls(), vec![]);
    // The control.
    sandbox.run(&["scheduler"]).succeeds();
}
