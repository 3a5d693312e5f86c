//! The Fernet key is changed while real tasks are deferred: they succeed afterwards, with the new key alone.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use tempfile::TempDir;

use crate::engine::{DATABASE_PASSWORD, Deployment};
use crate::said::repository;

/// After five seconds a worker would ask again for what an API server is just doing, and give up the task.
pub(crate) const SLOW_MACHINE: &str = "AIRFLOW__WORKERS__EXECUTION_API_TIMEOUT=120";

const PATIENCE: Duration = Duration::from_secs(240);

/// A deployment whose Airflow is one container, and the folder in which its tasks wait for a file.
struct Airflow<'d> {
    deployment: &'d Deployment,
    image: String,
    folder: TempDir,
}

impl Airflow<'_> {
    fn start(&self, given: &[&str], command: &[&str]) -> String {
        let mounts = [
            format!("{}:/keys", self.deployment.volume("keys")),
            format!("{}:/folder", self.folder.path().display()),
            format!("{}:/opt/airflow/dags/waits.py:ro", repository().join("tests/dags/waits.py").display()),
        ];
        let password = format!("POSTGRES_PASSWORD={DATABASE_PASSWORD}");
        let variables =
            ["EXECUTOR=Local", "POSTGRES_HOST=postgres", "ENTRYPOINT_SEED=/folder/seed.yaml", SLOW_MACHINE, &password];
        let mut options: Vec<&str> = mounts.iter().flat_map(|mount| ["-v", mount]).collect();
        options.extend(variables.iter().chain(given).flat_map(|variable| ["-e", variable]));
        self.deployment.run(&self.image, &options, command)
    }

    /// The status with which a command ends, and what it said.
    fn ended(&self, given: &[&str], command: &[&str]) -> (i32, String) {
        let container = self.start(given, command);
        (self.deployment.wait(&container), self.deployment.logs_of(&container))
    }

    #[track_caller]
    fn says(&self, command: &[&str], line: &str) {
        let (status, said) = self.ended(&[], command);
        assert!(status == 0 && said.contains(line), "expected `{line}`: {status} {said}");
    }

    fn sql(&self, query: &str) -> Vec<String> {
        let said = self.deployment.exec("postgres", &["psql", "-U", "airflow", "-tAc", query]);
        // Asked before Airflow has made its tables, too.
        said.stdout.lines().map(str::to_owned).collect()
    }

    fn states(&self) -> Vec<String> {
        self.sql("select task_id || ' ' || state from task_instance where state is not null order by task_id")
    }

    /// The trigger rows: those in plain text, and the tokens.
    fn triggers(&self) -> (Vec<String>, Vec<String>) {
        self.sql("select kwargs from trigger order by id").into_iter().partition(|kwargs| kwargs.starts_with('{'))
    }

    fn key(&self) -> String {
        let (status, said) = self.ended(&[], &["cat", "/keys/fernet.key"]);
        assert_eq!(status, 0, "{said}");
        said.lines().next().unwrap().to_owned()
    }
}

#[test]
fn k10_deferred_tasks_succeed_under_the_new_key() {
    let Some(deployment) = Deployment::new("3.3.2") else { return };
    deployment.postgres();
    let folder = TempDir::new().unwrap();
    fs::set_permissions(folder.path(), Permissions::from_mode(0o777)).unwrap();
    let secret = deployment.secret();
    let seed = format!(
        "connections:\n  fs_default: {{conn_type: fs, extra: {{path: /folder}}}}\n  story: {{conn_type: http, password: '{secret}'}}\n\
         variables: {{story: '{secret}'}}\n"
    );
    fs::write(folder.path().join("seed.yaml"), seed).unwrap();
    let airflow = Airflow { deployment: &deployment, image: deployment.image(), folder };
    // API server, scheduler, DAG processor and triggerer.
    let all = airflow.start(&["ENTRYPOINT_STOP_GRACE=60s"], &["webserver"]);
    let deferred = ["from_trigger deferred", "from_worker deferred"];
    deployment.until(PATIENCE, || (airflow.states() == deferred).then_some(()));
    let (plain, tokens) = airflow.triggers();
    assert_eq!((plain.len(), tokens.len()), (1, 1), "one as a worker leaves it, one that the scheduler has encrypted");
    let old = airflow.key();

    let (status, said) = airflow.ended(&[], &["key", "rotate"]);
    assert!(status == 69 && said.contains("cannot rotate the Fernet key: Airflow runs ("), "{status} {said}");
    deployment.stop(&all, 90);
    let said = deployment.logs_of(&all);
    assert_eq!(deployment.exit_status(&all), 0, "{said}");

    // Airflow's own command takes the plain row for a token.
    let new = format!("FERNET_KEY={}", deployment.fernet_key());
    let (status, said) = airflow.ended(&[&new], &["airflow", "rotate-fernet-key"]);
    assert!(status == 1 && said.contains("InvalidToken"), "{status} {said}");
    assert_eq!(airflow.triggers(), (plain.clone(), tokens));

    airflow.says(&["key", "rotate"], "4 encrypted anew, all 4 are read by");
    airflow.says(&["key", "retire"], "is no longer in `/keys/fernet.key`");
    let new = airflow.key();
    let (kept, tokens) = airflow.triggers();
    assert_eq!(kept, plain);
    let reads = |key: &str| fernet::Fernet::new(key).unwrap().decrypt(&tokens[0]).is_ok();
    assert!(reads(&new) && !reads(&old));

    let all = airflow.start(&[], &["webserver"]);
    // They wait, and are expected back.
    deployment.log_line(&all, "Uvicorn running on http://0.0.0.0:8080", PATIENCE);
    assert_eq!(airflow.states(), deferred);
    fs::write(airflow.folder.path().join("go"), "").unwrap();
    let ended = || airflow.sql("select state from dag_run where state in ('success', 'failed')").pop();
    assert_eq!(deployment.until(PATIENCE, ended), "success", "{:?}", airflow.states());
    assert_eq!(airflow.states(), ["from_trigger success", "from_worker success", "read success"]);
    let said = deployment.logs_of(&all);
    assert!(!said.contains("InvalidToken"), "{said}");
}
