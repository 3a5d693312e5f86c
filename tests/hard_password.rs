//! A password of every printable ASCII character and some more, for PostgreSQL and Redis: it must come through the URLs, the
//! environment, `airflow.cfg` and `..._CMD` as it is. `celery` has it too.

use std::time::Duration;

use crate::engine::Deployment;

const PATIENCE: Duration = Duration::from_secs(300);

/// No line end and no NUL: a container's variable cannot hold them.
fn hard_password() -> String {
    (' '..='~').chain("äßЖ漢€😀\u{a0}".chars()).collect()
}

/// Both servers with that password, and the variables that say so.
pub(crate) fn servers(deployment: &Deployment, postgres: impl Fn(&Deployment, &str)) -> Vec<String> {
    let password = hard_password();
    postgres(deployment, &password);
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

/// Airflow 2 comes through to the database by the environment, by `airflow.cfg` and by `..._CMD`.
#[test]
fn airflow_2_reaches_the_database_however_hard_the_password_is() {
    let Some(deployment) = Deployment::new("2.11.2") else { return };
    let image = deployment.image();
    let keys = format!("{}:/keys", deployment.volume("keys"));
    let variables = servers(&deployment, Deployment::prepared_postgres);
    let ended = |more: &[&str], command: &[&str]| {
        let given = ["EXECUTOR=Celery", "POSTGRES_HOST=postgres", "REDIS_HOST=redis"];
        let variables = given.into_iter().chain(variables.iter().map(String::as_str)).chain(more.iter().copied());
        let options: Vec<&str> = ["-v", &keys].into_iter().chain(variables.flat_map(|name| ["-e", name])).collect();
        let container = deployment.run(&image, &options, command);
        (deployment.wait(&container), deployment.logs_of(&container))
    };
    let connects = |said: &(i32, String)| said.0 == 0 && said.1.contains("Connection successful");
    let check = ["airflow", "db", "check"];
    // The file alone: the shell is ours to prepare for, and what it runs has no variable that says it.
    let file = ["env", "-u", "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", "airflow", "db", "check"];
    // The control: one letter more.
    let wrong = [format!("{}x", variables[0])];
    let wrong = wrong.each_ref().map(String::as_str);
    let [environment, alone, by_command, control] = std::thread::scope(|scope| {
        let runs: [(&[&str], &[&str]); 4] =
            [(&[], &check), (&[], &file), (&["ENTRYPOINT_SECRETS=cmd"], &check), (&wrong, &file)];
        let ended = &ended;
        runs.map(|(more, command)| scope.spawn(move || ended(more, command))).map(|run| run.join().unwrap())
    });
    assert!(connects(&environment) && environment.1.contains("the broker `redis:6379` answers"), "{environment:?}");
    assert!(connects(&alone), "{alone:?}");
    assert!(connects(&by_command), "{by_command:?}");
    assert!(control.0 != 0 && !connects(&control), "{control:?}");
}
