//! `NAME_FILE`: the value of a variable in a file, as Docker and Compose give secrets.

use crate::sandbox::{LINES, Sandbox, V2, V3, fingerprint, new_key};

#[test]
fn x01_every_value_may_be_in_a_file() {
    let key = new_key();
    for version in LINES {
        let mut sandbox = Sandbox::new(version).with("EXECUTOR_FILE", "").with("EXECUTOR", "Celery");
        for (name, text) in [
            ("FERNET_KEY", format!("{key}\n")),
            ("POSTGRES_PASSWORD", "p@ss\r\n".to_owned()),
            ("REDIS_PASSWORD", " r\n\n".to_owned()),
            ("ENTRYPOINT_WAIT_TIMEOUT", "off".to_owned()),
            ("AIRFLOW_CONN_MY_DB", "mysql://u:p@h/d\n".to_owned()),
            ("AIRFLOW__SMTP__SMTP_PASSWORD", "s\n".to_owned()),
        ] {
            sandbox.write(&format!("run/{name}"), text);
            let path = sandbox.text(&format!("run/{name}"));
            sandbox.set(&format!("{name}_FILE"), path);
        }
        let outcome = sandbox.run(&["scheduler"]);
        let (file, print) = (sandbox.text("run/FERNET_KEY"), fingerprint(&key));
        outcome.succeeds().says(&format!("info: Fernet key: from `FERNET_KEY_FILE` (`{file}`), fingerprint {print}"));
        let seen = sandbox.seen("airflow-scheduler");
        let conn = if version == "1.10.15" {
            "AIRFLOW__CORE__SQL_ALCHEMY_CONN"
        } else {
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"
        };
        for (name, value) in [
            ("AIRFLOW__CORE__FERNET_KEY", Some(key.as_str())),
            (conn, Some("postgresql+psycopg2://airflow:p%40ss@postgres:5432/airflow")),
            // One line end is the file's, all else is the value.
            ("AIRFLOW__CELERY__BROKER_URL", Some("redis://:%20r%0A@redis:6379/1")),
            ("AIRFLOW_CONN_MY_DB", Some("mysql://u:p@h/d")),
            ("AIRFLOW__SMTP__SMTP_PASSWORD", Some("s")),
            // X08: what was for us alone goes no further, and what has served neither.
            ("FERNET_KEY", None),
            ("POSTGRES_PASSWORD", None),
            ("FERNET_KEY_FILE", None),
            ("POSTGRES_PASSWORD_FILE", None),
            ("AIRFLOW__SMTP__SMTP_PASSWORD_FILE", None),
            ("AIRFLOW_CONN_MY_DB_FILE", None),
        ] {
            outcome.same((name, seen.get(name).map(String::as_str)), (name, value));
        }
    }
}

#[test]
fn x05_a_file_that_is_named_and_not_there_stops_the_start() {
    let sandbox =
        Sandbox::new(V3).with("AIRFLOW__CORE__FERNET_KEY_FILE", "/no/such/file").with("FERNET_KEY", new_key());
    let outcome = sandbox.run(&["scheduler"]);
    let error = "cannot read the file of `AIRFLOW__CORE__FERNET_KEY_FILE` `/no/such/file`: no such file or directory";
    outcome.fails(78, &format!("airflow-entrypoint: error: {error}\n"));
    outcome.same(sandbox.calls(), vec![]).same(sandbox.names("keys"), vec![]);
}

#[test]
fn x01_a_variable_and_its_file_are_one_too_many() {
    let sandbox = Sandbox::new(V2).with("POSTGRES_PASSWORD", "x").with_path("POSTGRES_PASSWORD_FILE", "run/password");
    sandbox.write("run/password", "x");
    let outcome = sandbox.run(&["scheduler"]);
    let error = "cannot use both `POSTGRES_PASSWORD` and `POSTGRES_PASSWORD_FILE`: expected one of them";
    outcome.fails(78, &format!("airflow-entrypoint: error: {error}\n"));
    // The control: each alone will do, and an empty one is none.
    sandbox.with("POSTGRES_PASSWORD", "").run(&["mycmd"]).succeeds();
}

#[test]
fn what_is_a_path_to_airflow_stays_one() {
    let name = "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE";
    let sandbox = Sandbox::new(V3).with(name, "/not/there/yet.json");
    sandbox.run(&["scheduler"]).succeeds();
    assert_eq!(sandbox.variable("airflow-scheduler", name).as_deref(), Some("/not/there/yet.json"));
}

#[test]
fn x04_a_file_of_somebody_else() {
    if !crate::namespace::is_root() {
        return;
    }
    let nobody = crate::sandbox::NOBODY;
    let sandbox = Sandbox::new(V2).owned_by(nobody, nobody).made_executable().with_path("FERNET_KEY_FILE", "key");
    sandbox.write("key", new_key());
    let path = sandbox.path("key");
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let outcome = sandbox.run(&["scheduler"]);
    outcome.fails(
        77,
        &format!(
            "airflow-entrypoint: error: cannot read the file of `FERNET_KEY_FILE` `{0}`: permission denied; owner 0:0, mode 0600, and we are {nobody}:{nobody}\n\
             airflow-entrypoint: hint: let this user read `{0}` (chown or chmod it where it comes from, or set `user:` of the container)\n",
            path.display()
        ),
    );
    outcome.same(sandbox.calls(), vec![]).same(sandbox.names("keys"), vec![]);
}
