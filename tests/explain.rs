//! The dry run, word for word: what would be done, with the source of every value; and that nothing is done.

use crate::sandbox::{Sandbox, V1, V2, V3, fingerprint, new_key};

/// Compares the whole of it; `HERE` stands for the sandbox.
fn explains(sandbox: &Sandbox, arguments: &[&str], expected: &str) {
    let outcome = sandbox.run(&[&["explain"], arguments].concat());
    let shown = outcome.stdout.replace(&sandbox.text(""), "HERE");
    outcome.succeeds().same(outcome.stderr.as_str(), "");
    assert_eq!(shown, expected, "{outcome:?}");
    // Nothing was done: no file, no call. (That it would have been is tested everywhere else.)
    outcome.same((sandbox.names("home"), sandbox.calls()), (vec![], vec![]));
}

#[test]
fn e10_celery_on_1_10_with_a_key() {
    let key = new_key();
    let sandbox = Sandbox::new(V1)
        .with("EXECUTOR", "Celery")
        .with("FERNET_KEY", key.as_str())
        .with("POSTGRES_PASSWORD", "secret")
        .with("AIRFLOW__CELERY__BROKER_URL", "redis://:secret@cache:6380/2");
    sandbox.write("requirements.txt", "six\n");
    let print = fingerprint(&key);
    explains(
        &sandbox,
        &["celery", "worker", "-q", "secret"],
        &format!(
            "Airflow 1.10.15 (`HERE/prefix/lib/python3.11/site-packages/airflow/version.py`)
command: `airflow worker ...` (service)
note: `celery worker` is `worker` in Airflow 1.10.15
1. settle the secrets
   Fernet key: from `FERNET_KEY`, fingerprint {print}
   web secret: make one, once, in `HERE/keys/web_secret.key`
2. stay the user that we are
   it must be able to write to `HERE/home/logs`
3. write `HERE/home/airflow.cfg` from the built-in template `airflow-1.10.cfg`
4. install the requirements of `HERE/requirements.txt`
5. wait, at most 100s, until these answer
   database `postgres:5432` (`POSTGRES_...`)
   broker `cache:6380` (`AIRFLOW__CELERY__BROKER_URL`)
6. wait, at most 100s, until somebody has migrated the database and `airflow connections ...` succeeds
7. become `airflow worker ...`
environment of the command
   AIRFLOW__CORE__EXECUTOR=CeleryExecutor (`EXECUTOR`)
   AIRFLOW__CORE__LOAD_EXAMPLES=False (the default)
   AIRFLOW__CORE__SQL_ALCHEMY_CONN=postgresql+psycopg2://airflow:***@postgres:5432/airflow (`POSTGRES_...`)
   AIRFLOW__CELERY__RESULT_BACKEND=db+postgresql://airflow:***@postgres:5432/airflow (the database's URL)
   AIRFLOW__CORE__FERNET_KEY=*** (fingerprint {print})
   AIRFLOW__WEBSERVER__SECRET_KEY=*** (of `HERE/keys/web_secret.key`)
   ENTRYPOINT_KEY_DIR removed (`ENTRYPOINT_KEY_DIR`)
   ENTRYPOINT_REQUIREMENTS removed (`ENTRYPOINT_REQUIREMENTS`)
   ENTRYPOINT_SETTINGS_FILE removed (`ENTRYPOINT_SETTINGS_FILE`)
"
        ),
    );
}

#[test]
fn e10_the_web_server_on_3_with_empty_variables() {
    let sandbox = Sandbox::new(V3).with("AIRFLOW__CORE__FERNET_KEY", "").with("AIRFLOW__WEBSERVER__SECRET_KEY", "");
    sandbox.write("keys/jwt_secret.key", "0123456789\n");
    let print = crate::sandbox::text_fingerprint(b"0123456789");
    explains(
        &sandbox,
        &["webserver"],
        &format!(
            "Airflow 3.3.2 (`HERE/prefix/lib/python3.11/site-packages/airflow/__init__.py`)
command: `airflow api-server` (service)
note: `webserver` is `api-server` in Airflow 3.3.2
1. settle the secrets
   Fernet key: make one, once, in `HERE/keys/fernet.key`
   web secret: make one, once, in `HERE/keys/web_secret.key`
   JWT secret: from `HERE/keys/jwt_secret.key`, fingerprint {print}
2. stay the user that we are
   it must be able to write to `HERE/home/logs`
3. write `HERE/home/airflow.cfg` from the built-in template `airflow-3.cfg`
4. no requirements to install
5. wait for nothing
6. migrate the database with `airflow db migrate`
7. run as equals `airflow api-server`, `airflow scheduler`, `airflow dag-processor`, `airflow triggerer`
environment of the command
   AIRFLOW__CORE__EXECUTOR=LocalExecutor (the default)
   AIRFLOW__CORE__LOAD_EXAMPLES=False (the default)
   AIRFLOW__CORE__FERNET_KEY=*** (of `HERE/keys/fernet.key`)
   AIRFLOW__API__SECRET_KEY=*** (of `HERE/keys/web_secret.key`)
   AIRFLOW__API_AUTH__JWT_SECRET=*** (fingerprint {print})
   AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE=HERE/keys/simple_auth_manager_passwords.json (the key folder)
   AIRFLOW__WEBSERVER__SECRET_KEY removed (`AIRFLOW__WEBSERVER__SECRET_KEY`)
   ENTRYPOINT_KEY_DIR removed (`ENTRYPOINT_KEY_DIR`)
   ENTRYPOINT_REQUIREMENTS removed (`ENTRYPOINT_REQUIREMENTS`)
   ENTRYPOINT_SETTINGS_FILE removed (`ENTRYPOINT_SETTINGS_FILE`)
"
        ),
    );
    assert_eq!(sandbox.names("keys"), ["jwt_secret.key"]);
}

#[test]
fn e10_a_program_on_2_and_the_set_up() {
    let sandbox = Sandbox::new(V2).with("EXECUTOR", "Sequential");
    let common = "environment of the command
   AIRFLOW__CORE__EXECUTOR=SequentialExecutor (`EXECUTOR`)
   AIRFLOW__CORE__LOAD_EXAMPLES=False (the default)
";
    explains(
        &sandbox,
        &["--", "mycmd", "--password", "secret"],
        &format!(
            "Airflow 2.11.2 (`HERE/prefix/lib/python3.11/site-packages/airflow/__init__.py`)
command: `mycmd ...` (not Airflow's)
1. settle the secrets
   Fernet key: none, and this command makes none
   web secret: none, and this command makes none
2. stay the user that we are
3. write `HERE/home/airflow.cfg` from the built-in template `airflow-2.cfg`
4. no requirements to install
5. wait for nothing
6. leave the database as it is
7. become `mycmd ...`
{common}"
        ),
    );
    explains(
        &sandbox,
        &["setup"],
        &format!(
            "Airflow 2.11.2 (`HERE/prefix/lib/python3.11/site-packages/airflow/__init__.py`)
command: `setup` (set-up)
1. settle the secrets
   Fernet key: make one, once, in `HERE/keys/fernet.key`
   web secret: make one, once, in `HERE/keys/web_secret.key`
2. stay the user that we are
   it must be able to write to `HERE/home/logs`
3. write `HERE/home/airflow.cfg` from the built-in template `airflow-2.cfg`
4. no requirements to install
5. wait for nothing
6. migrate the database with `airflow db migrate`
7. end, since all is prepared
{common}   AIRFLOW__CORE__FERNET_KEY=*** (of `HERE/keys/fernet.key`)
   AIRFLOW__WEBSERVER__SECRET_KEY=*** (of `HERE/keys/web_secret.key`)
   ENTRYPOINT_KEY_DIR removed (`ENTRYPOINT_KEY_DIR`)
   ENTRYPOINT_REQUIREMENTS removed (`ENTRYPOINT_REQUIREMENTS`)
   ENTRYPOINT_SETTINGS_FILE removed (`ENTRYPOINT_SETTINGS_FILE`)
"
        ),
    );
    assert_eq!(sandbox.names("keys"), [""; 0]);
}
