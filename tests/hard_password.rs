//! A password of every printable ASCII character and some more, for PostgreSQL and Redis: it must come through the URLs, the
//! environment, `airflow.cfg` and `..._CMD` as it is.

use std::time::Duration;

use crate::celery::Stack;
use crate::engine::Deployment;

const PATIENCE: Duration = Duration::from_secs(300);

/// No line end and no NUL: a container's variable cannot hold them.
fn hard_password() -> String {
    (' '..='~').chain("äßЖ漢€😀\u{a0}".chars()).collect()
}

/// Both servers with that password, and the variables that say so.
fn servers(deployment: &Deployment) -> Vec<String> {
    let password = hard_password();
    deployment.postgres_with(&password);
    deployment.redis();
    let redis = deployment.name("redis");
    deployment.until(PATIENCE, || (deployment.exec(&redis, &["redis-cli", "ping"]).status == 0).then_some(()));
    // From standard input: no shell and no file of Redis' has a word in it.
    let set = ["redis-cli", "-x", "config", "set", "requirepass"];
    assert_eq!(deployment.exec_with_input(&redis, &set, &password).succeeded().stdout, "OK\n");
    let refused = deployment.exec(&redis, &["redis-cli", "ping"]);
    assert!(refused.stdout.contains("NOAUTH"), "Redis asks for no password: {refused}");
    vec![format!("POSTGRES_PASSWORD={password}"), format!("REDIS_PASSWORD={password}")]
}

/// A task runs on the worker, and the web server gets its log from there.
#[test]
fn a_task_runs_on_the_worker_however_hard_the_password_is() {
    let Some(deployment) = Deployment::new("3.3.2") else { return };
    let image = deployment.build("image");
    let variables = servers(&deployment);
    let stack = Stack::on(&deployment, &image, variables);
    stack.run_dag("first");
    stack.log_opens("first");

    // The same when Airflow reads the URLs by `cat`.
    deployment.remove_all();
    let variables = [servers(&deployment), vec!["ENTRYPOINT_SECRETS=cmd".to_owned()]].concat();
    let stack = Stack::on(&deployment, &image, variables);
    stack.run_dag("second");
    stack.log_opens("second");
}

/// Airflow 2 comes through to the database by the environment, by `airflow.cfg` and by `..._CMD`.
#[test]
fn airflow_2_reaches_the_database_however_hard_the_password_is() {
    let Some(deployment) = Deployment::new("2.11.2") else { return };
    let image = deployment.build("image");
    let keys = format!("{}:/keys", deployment.volume("keys"));
    let variables = servers(&deployment);
    let ended = |more: &[&str], command: &[&str]| {
        let given = ["EXECUTOR=Celery", "POSTGRES_HOST=postgres", "REDIS_HOST=redis"];
        let variables = given.into_iter().chain(variables.iter().map(String::as_str)).chain(more.iter().copied());
        let options: Vec<&str> = ["-v", &keys].into_iter().chain(variables.flat_map(|name| ["-e", name])).collect();
        let container = deployment.run(&image, &options, command);
        (deployment.wait(&container), deployment.logs_of(&container))
    };
    let connects = |said: &(i32, String)| said.0 == 0 && said.1.contains("Connection successful");
    let said = ended(&[], &["airflow", "db", "check"]);
    assert!(connects(&said) && said.1.contains("the broker `redis:6379` answers"), "{said:?}");
    // The file alone: the shell is ours to prepare for, and what it runs has no variable that says it.
    let file = ["env", "-u", "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", "airflow", "db", "check"];
    let said = ended(&[], &file);
    assert!(connects(&said), "{said:?}");
    let said = ended(&["ENTRYPOINT_SECRETS=cmd"], &["airflow", "db", "check"]);
    assert!(connects(&said), "{said:?}");
    // The control: one letter more.
    let wrong = format!("{}x", variables[0]);
    let said = ended(&[&wrong], &file);
    assert!(said.0 != 0 && !connects(&said), "{said:?}");
}
