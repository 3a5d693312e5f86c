//! A task of a real Airflow that uses what was seeded.

use std::time::Duration;

use crate::prepared::{Ready, copy};
use crate::referee::venv;
use crate::sandbox::{Sandbox, V2, V3};

/// Airflow masks a password in what a task prints; it is told in another form.
const DAG: &str = r#"
import datetime
from airflow import DAG
from airflow.models import Variable
try:
    from airflow.providers.standard.operators.python import PythonOperator
    from airflow.sdk.bases.hook import BaseHook
except ImportError:
    from airflow.hooks.base import BaseHook
    from airflow.operators.python import PythonOperator

def work():
    print("the task has", BaseHook.get_connection("db").password.encode().hex(), Variable.get("region"))

with DAG("uses", start_date=datetime.datetime(2026, 1, 1), schedule=None):
    PythonOperator(task_id="work", python_callable=work)
"#;

fn a_task_uses_what_is_seeded(version: &'static str) {
    let patience = Duration::from_secs(120);
    let Some(venv) = venv(&format!("airflow-{version}"), true) else { return };
    let sandbox = Sandbox::new("")
        .with("PATH", format!("{}:/usr/bin:/bin", venv.join("bin").display()))
        .with_path("HOME", "home")
        .with("AIRFLOW__CORE__UNIT_TEST_MODE", "False")
        .with_path("AIRFLOW__CORE__DAGS_FOLDER", "dags")
        .with_path("ENTRYPOINT_SEED", "seed.yaml");
    Ready::new(version).with(None, |kept| copy(&kept.join("airflow.db"), &sandbox.path("home")));
    sandbox.write("dags/uses.py", DAG);
    sandbox
        .write("seed.yaml", "connections: {db: {conn_type: postgres, password: größe}}\nvariables: {region: nord}\n");
    let says = |sandbox: &Sandbox, expected: &str| {
        let outcome = sandbox.start(&["tasks", "test", "uses", "work", "2026-01-02"]).finish_within(patience);
        outcome.check([outcome.stdout.as_str(), &outcome.stderr].concat().contains(expected), expected);
    };
    sandbox.start(&["setup"]).finish_within(patience).succeeds();
    says(&sandbox, "the task has 6772c3b6c39f65 nord");
    // The control: another key, and the task is without its connection.
    std::fs::remove_file(sandbox.path("keys/fernet.key")).unwrap();
    let sandbox = sandbox.with("FERNET_KEY", crate::sandbox::new_key());
    says(&sandbox, "The conn_id `db` isn't defined");
}

#[test]
fn u09_a_task_of_airflow_2_uses_what_is_seeded() {
    a_task_uses_what_is_seeded(V2);
}

#[test]
fn u09_a_task_of_airflow_3_uses_what_is_seeded() {
    a_task_uses_what_is_seeded(V3);
}
