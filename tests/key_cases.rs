//! Cases of the field about keys and permissions that no other file has, each by its name.

use std::fs;
use std::process::Command;

use crate::namespace::is_root;
use crate::sandbox::{Sandbox, V2, V3, fingerprint, new_key};

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
