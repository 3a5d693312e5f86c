//! Dry runs word for word, in `tests/plans/`: the compose files that people have, each on one release of every line. After a change that
//! is meant, `AIRFLOW_ENTRYPOINT_WRITE_PLANS=1` writes them anew; the difference is for a reader to judge.

use std::fs;
use std::path::PathBuf;

use crate::sandbox::{LINES, Sandbox, V3, fingerprint, new_key};

/// A service: its command, and the variables that it has beside those of all.
type Service<'a> = (&'a [&'a str], &'a [(&'a str, &'a str)]);

/// Compares the dry runs of all services of a deployment. `HERE` stands for the sandbox.
fn plans(name: &str, sandbox: &Sandbox, key: &str, services: &[Service<'_>]) {
    let mut shown = String::new();
    for (arguments, variables) in services {
        let mut command = sandbox.command(&[&["explain"], *arguments].concat());
        command.envs(variables.iter().copied());
        let outcome = sandbox.start_command(command).finish();
        outcome.succeeds().same(outcome.stderr.as_str(), "");
        let text = outcome.stdout.replace(&sandbox.text(""), "HERE");
        let text = if key.is_empty() { text } else { text.replace(&fingerprint(key), "FINGERPRINT") };
        shown.push_str(&format!("### {}\n\n{text}\n", arguments.join(" ")));
        // Nothing was done: no file, no call.
        outcome.same((sandbox.names("home"), sandbox.names("keys"), sandbox.calls()), (vec![], vec![], vec![]));
    }
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/plans").join(format!("{name}.txt"));
    if std::env::var_os("AIRFLOW_ENTRYPOINT_WRITE_PLANS").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, &shown).unwrap();
    }
    let expected = fs::read_to_string(&path).unwrap_or_default();
    let first = shown.lines().zip(expected.lines()).position(|(shown, expected)| shown != expected);
    assert!(
        shown == expected,
        "not as in {}, first in line {:?}:\n{shown}",
        path.display(),
        first.map(|line| line + 1)
    );
}

#[test]
fn e10_the_puckel_image_alone() {
    for version in LINES {
        let name = format!("puckel-sequential-{version}");
        plans(&name, &Sandbox::new(version), "", &[(&["webserver"], &[]), (&["list_dags"], &[]), (&["bash"], &[])]);
    }
}

#[test]
fn e10_the_puckel_image_with_the_local_executor() {
    for version in LINES {
        let sandbox = Sandbox::new(version).with("LOAD_EX", "n").with("EXECUTOR", "Local");
        plans(&format!("puckel-local-{version}"), &sandbox, "", &[(&["webserver"], &[])]);
    }
}

#[test]
fn e10_the_puckel_image_with_the_celery_executor() {
    for version in LINES {
        let key = new_key();
        let sandbox = Sandbox::new(version).with("EXECUTOR", "Celery").with("FERNET_KEY", &*key);
        let web: Service<'_> = (&["webserver"], &[("LOAD_EX", "n")]);
        let services = [web, (&["flower"], &[]), (&["scheduler"], &[("LOAD_EX", "n")]), (&["worker"], &[])];
        plans(&format!("puckel-celery-{version}"), &sandbox, &key, &services);
    }
}

/// The compose file of Airflow's documentation, with the names of each line.
#[test]
fn e10_the_official_compose_file() {
    for version in LINES {
        let (section, web) = (
            if version == "1.10.15" { "CORE" } else { "DATABASE" },
            if version == V3 { "api-server" } else { "webserver" },
        );
        let conn = format!("AIRFLOW__{section}__SQL_ALCHEMY_CONN");
        let fab = "airflow.providers.fab.auth_manager.fab_auth_manager.FabAuthManager";
        let sandbox = Sandbox::new(version)
            .with("AIRFLOW__CORE__EXECUTOR", "CeleryExecutor")
            .with("AIRFLOW__CORE__AUTH_MANAGER", fab)
            .with(&conn, "postgresql+psycopg2://airflow:airflow@postgres/airflow")
            .with("AIRFLOW__CELERY__RESULT_BACKEND", "db+postgresql://airflow:airflow@postgres/airflow")
            .with("AIRFLOW__CELERY__BROKER_URL", "redis://:@redis:6379/0")
            .with("AIRFLOW__CORE__FERNET_KEY", "")
            .with("AIRFLOW__CORE__LOAD_EXAMPLES", "true")
            .with("_PIP_ADDITIONAL_REQUIREMENTS", "");
        let init = [
            ("_AIRFLOW_DB_MIGRATE", "true"),
            ("_AIRFLOW_WWW_USER_CREATE", "true"),
            ("_AIRFLOW_WWW_USER_USERNAME", "airflow"),
            ("_AIRFLOW_WWW_USER_PASSWORD", "airflow"),
        ];
        let services: [Service<'_>; 8] = [
            (&["airflow", "version"], &init),
            (&[web], &[]),
            (&["scheduler"], &[]),
            (&["dag-processor"], &[]),
            (&["celery", "worker"], &[("DUMB_INIT_SETSID", "0")]),
            (&["triggerer"], &[]),
            (&["celery", "flower"], &[]),
            (&["bash", "-c", "airflow"], &[("CONNECTION_CHECK_MAX_COUNT", "0")]),
        ];
        plans(&format!("official-{version}"), &sandbox, "", &services);
    }
}
