//! Airflow 3 with Celery in containers and no secret given: what one container signs, another one must accept. And the users and
//! the file systems that container platforms give to a start.

#[path = "celery_stop.rs"]
mod stop;

use std::time::Duration;

use crate::engine::{DATABASE_PASSWORD, Deployment};
use crate::hard_password::servers;
use crate::said::repository;

/// For several Airflows that start at once.
const PATIENCE: Duration = Duration::from_secs(300);

/// Logs in at the web server, in whose container it runs, and asks until the answer holds one of the words. Prints that answer.
const CLIENT: &str = r#"
import json, sys, time
from urllib import error, request
patience, method, path, body, *words = sys.argv[1:]
deadline = time.monotonic() + float(patience)

def ask(method, path, body, **headers):
    headers["Content-Type"] = "application/json"
    question = request.Request("http://localhost:8080" + path, body.encode() or None, headers, method=method)
    try:
        return request.urlopen(question, timeout=60).read().decode()
    except error.HTTPError as problem:
        return f"status {problem.code}: {problem.read().decode()}"

while True:
    try:
        password = json.load(open("/keys/simple_auth_manager_passwords.json"))["admin"]
        login = ask("POST", "/auth/token", json.dumps({"username": "admin", "password": password}))
        answer = ask(method, path, body, Authorization="Bearer " + json.loads(login)["access_token"])
    except (OSError, ValueError) as problem:
        answer = repr(problem)
    if any(word in answer for word in words):
        sys.exit(print(answer))
    if time.monotonic() > deadline:
        sys.exit(f"{method} {path}: none of {words} in {answer}")
    time.sleep(0.25)
"#;

/// It looks for no other workers at its start.
const WORKER: [&str; 3] = ["worker", "--without-gossip", "--without-mingle"];
/// What the task of the DAG `hello` prints.
const PRINTED: &str = "hello from a task";
/// What Airflow adds to a log that the worker refuses to give.
const REFUSED: &str = "have the same 'secret_key' configured";

/// The containers of one Celery deployment. Database, keys and the worker's logs are on volumes.
struct Stack<'a> {
    deployment: &'a Deployment,
    /// What all of them are given besides.
    variables: Vec<String>,
    web: String,
    worker: String,
}

impl<'a> Stack<'a> {
    /// On the deployment's PostgreSQL and Redis.
    fn on(deployment: &'a Deployment, image: &str, variables: Vec<String>) -> Self {
        let web = service(deployment, image, &variables, &["--network-alias", "web"], &["webserver"]);
        let worker = worker(deployment, image, &variables, &WORKER);
        let start = |command| service(deployment, image, &variables, &[], &[command]);
        let (scheduler, processor) = (start("scheduler"), start("dag-processor"));
        // `webserver` runs nothing but the web server when tasks run elsewhere.
        let commands = [
            (&web, "api-server"),
            (&scheduler, "scheduler"),
            (&processor, "dag-processor"),
            (&worker, "celery worker ..."),
        ];
        for (container, command) in commands {
            deployment.log_line(container, &format!("the init of `airflow {command}`"), PATIENCE);
        }
        Self { deployment, variables, web, worker }
    }

    /// Another worker in the place of the one that is there, with this variable besides.
    fn new_worker(&mut self, image: &str, variable: &[&str], command: &[&str]) {
        self.deployment.remove(&self.worker);
        let variables = self.variables.iter().cloned().chain(variable.iter().map(|&variable| variable.to_owned()));
        self.worker = worker(self.deployment, image, &variables.collect::<Vec<_>>(), command);
    }

    /// Asks the web server until the answer holds one of the words.
    #[track_caller]
    fn ask(&self, method: &str, path: &str, body: &str, words: &[&str]) -> String {
        let patience = PATIENCE.as_secs().to_string();
        let client = ["python", "-c", CLIENT, &patience, method, path, body];
        self.deployment.exec(&self.web, &[&client, words].concat()).succeeded().stdout
    }

    /// Runs the DAG `hello` to its end.
    #[track_caller]
    fn run_dag(&self, run: &str) {
        let body = format!(r#"{{"dag_run_id": "{run}", "logical_date": null}}"#);
        self.ask("POST", "/api/v2/dags/hello/dagRuns", &body, &[&format!(r#""dag_run_id":"{run}""#)]);
        let path = format!("/api/v2/dags/hello/dagRuns/{run}");
        let end = self.ask("GET", &path, "", &[r#""state":"success""#, r#""state":"failed""#]);
        assert!(end.contains(r#""state":"success""#), "{end}");
    }

    /// The log of the task as the web server shows it: what the task printed, or that the worker refused.
    #[track_caller]
    fn log_of(&self, run: &str) -> String {
        let path = format!("/api/v2/dags/hello/dagRuns/{run}/taskInstances/greet/logs/1?full_content=true");
        self.ask("GET", &path, "", &[PRINTED, REFUSED])
    }

    #[track_caller]
    fn log_opens(&self, run: &str) {
        let log = self.log_of(run);
        assert!(log.contains(PRINTED), "{log}");
        // From the worker, over the network: the web server has no such file.
        assert!(log.contains("http://worker:8793/log/"), "{log}");
        assert!(!log.contains(REFUSED) && !log.contains("Could not read served logs"), "{log}");
    }

    /// What stands on the key volume: names and contents.
    fn keys(&self) -> String {
        let script = "cd /keys && ls -A && cat *";
        self.deployment.exec(&self.web, &["sh", "-c", script]).succeeded().stdout
    }

    /// No secret is in what the containers said.
    fn said_no_secret(&self) {
        let secrets = self.deployment.exec(&self.web, &["sh", "-c", "cat /keys/*.key"]).succeeded();
        let said = self.deployment.logs();
        assert_eq!(secrets.stdout.lines().count(), 3);
        for secret in secrets.stdout.lines() {
            assert!(!said.contains(secret), "a secret is in the output of a container");
        }
        // The control: Airflow itself prints the first password of its login, and that is found.
        let passwords =
            self.deployment.exec(&self.web, &["cat", "/keys/simple_auth_manager_passwords.json"]).succeeded();
        let password = passwords.stdout.split('"').nth(3).unwrap();
        assert!(said.contains(password), "nothing was searched");
    }
}

/// A container of the deployment, with nothing that is a secret but what is in the variables.
fn service(deployment: &Deployment, image: &str, given: &[String], options: &[&str], command: &[&str]) -> String {
    let keys = format!("{}:/keys", deployment.volume("keys"));
    let dags = ["docker/dags/hello.py", "tests/dags/long.py"].map(|file| {
        let name = file.rsplit('/').next().unwrap();
        format!("{}:/opt/airflow/dags/{name}:ro", repository().join(file).display())
    });
    let variables = [
        "EXECUTOR=Celery",
        "POSTGRES_HOST=postgres",
        "REDIS_HOST=redis",
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL=http://web:8080/execution/",
        "AIRFLOW__CELERY__WORKER_CONCURRENCY=1",
    ];
    let variables: Vec<&str> =
        variables.into_iter().chain(given.iter().map(String::as_str)).flat_map(|variable| ["-e", variable]).collect();
    deployment.run(image, &[&["-v", &keys, "-v", &dags[0], "-v", &dags[1]], &*variables, options].concat(), command)
}

/// The one container that has the logs, under a name that the others can look up.
fn worker(deployment: &Deployment, image: &str, given: &[String], command: &[&str]) -> String {
    let logs = format!("{}:/opt/airflow/logs", deployment.volume("logs"));
    let options = ["--hostname", "worker", "--network-alias", "worker", "-v", &logs];
    service(deployment, image, given, &options, command)
}

/// K15, K16: the web server opens a log that the worker serves, the worker reports to the web server what the scheduler gave it; and
/// when all containers are new, old logs and the old login still work. However hard the password of database and broker is, which
/// Airflow has from its environment at first, and by `cat` then.
#[test]
fn k15_k16_s04_tasks_and_logs_outlive_the_containers() {
    let Some(deployment) = Deployment::new("3.3.2") else { return };
    let image = deployment.image();
    let mut stack = Stack::on(&deployment, &image, servers(&deployment, Deployment::empty_postgres));
    stack.run_dag("first");
    stack.log_opens("first");
    stack.said_no_secret();
    let keys = stack.keys();
    stop::s04_docker_stop_lets_a_running_task_finish(&mut stack, &image);

    // The control: a worker with a web secret of its own refuses.
    let own = format!("AIRFLOW__API__SECRET_KEY={}", deployment.secret());
    stack.new_worker(&image, &[], &["env", &own, "airflow", "celery", "worker"]);
    let log = stack.log_of("first");
    assert!(log.contains(REFUSED) && !log.contains(PRINTED), "{log}");
    deployment.log_line(&stack.worker, "Signature verification failed", PATIENCE);

    deployment.remove_all();
    let variables = servers(&deployment, Deployment::empty_postgres);
    let stack = Stack::on(&deployment, &image, [variables, vec!["ENTRYPOINT_SECRETS=cmd".to_owned()]].concat());
    stack.log_opens("first");
    stack.run_dag("second");
    stack.log_opens("second");
    assert_eq!(stack.keys(), keys, "secrets or passwords are others than before");
}

/// The container's status when it has ended, and what it said.
fn ended(deployment: &Deployment, image: &str, options: &[&str], command: &[&str]) -> (i32, String) {
    let container = deployment.run(image, options, command);
    let status = deployment.wait(&container);
    (status, deployment.logs_of(&container))
}

/// OpenShift starts each container as a user that nobody knows, in group 0.
#[test]
fn p02_an_unknown_user_of_group_0() {
    let Some(deployment) = Deployment::new("3.3.2") else { return };
    let image = deployment.image();
    let keys = format!("{}:/keys", deployment.volume("keys"));
    let stranger = ["-v", &*keys, "--user", "1000720000:0"];
    let (status, said) = ended(&deployment, &image, &stranger, &["setup"]);
    assert_eq!(status, 0, "{said}");
    assert!(said.contains("user 1000720000 has no name in `/etc/passwd`, which we may not write"), "{said}");
    let fingerprint =
        said.split("made, and kept in `/keys/fernet.key`, fingerprint ").nth(1).unwrap().lines().next().unwrap();
    let script = "import getpass, os; print(os.getuid(), os.environ['HOME'], getpass.getuser(), os.access(os.environ['HOME'], os.W_OK))";
    let (status, said) = ended(&deployment, &image, &stranger, &["python", "-c", script]);
    assert!(status == 0 && said.contains("1000720000 /opt/airflow default True\n"), "{said}");
    // Any other user of that group has the same key, and a user of another group may not even look.
    let (status, said) = ended(&deployment, &image, &["-v", &keys, "--user", "1000730000:0"], &["key", "fingerprint"]);
    assert!(status == 0 && said.starts_with(&format!("{fingerprint}\n")), "{said}");
    let (status, said) =
        ended(&deployment, &image, &["-v", &keys, "--user", "1000730000:1000"], &["key", "fingerprint"]);
    assert!(status != 0 && !said.contains(fingerprint) && said.contains("/keys/fernet.key"), "{status}: {said}");
}

/// A key that root has made on a volume of root's: the start as root hands it over, and gives up root.
#[test]
fn started_as_root_airflow_runs_as_its_own_user() {
    let Some(deployment) = Deployment::new("3.3.2") else { return };
    let image = deployment.image();
    let keys = format!("{}:/keys", deployment.volume("keys"));
    let root = ["-v", &*keys, "--user", "root"];
    let sh = [&root[..], &["--entrypoint", "sh"]].concat();
    let make = "chown 0:0 /keys; chmod 700 /keys; ENTRYPOINT_RUN_AS=root airflow-entrypoint key generate";
    let (status, said) = ended(&deployment, &image, &sh, &["-c", make]);
    assert_eq!(status, 0, "{said}");
    let list = || ended(&deployment, &image, &sh, &["-c", "stat -c '%u:%g %a %n' /keys /keys/fernet.key"]).1;
    assert_eq!(list(), "0:0 700 /keys\n0:0 640 /keys/fernet.key\n");
    // The control: Airflow's user can do nothing with that.
    let (status, said) = ended(&deployment, &image, &["-v", &keys], &["key", "fingerprint"]);
    assert!(status != 0 && said.contains("/keys/fernet.key"), "{status}: {said}");

    deployment.postgres();
    let database = ["EXECUTOR=Local", "POSTGRES_HOST=postgres", &format!("POSTGRES_PASSWORD={DATABASE_PASSWORD}")];
    let database = database.map(|variable| ["-e", variable]).concat();
    let container = deployment.run(&image, &[&root[..], &database].concat(), &["scheduler"]);
    deployment.log_line(&container, "the init of `airflow scheduler`", PATIENCE);
    let status = deployment.exec(&container, &["cat", "/proc/1/status"]).succeeded().stdout;
    assert!(status.contains("Uid:\t50000\t50000\t50000\t50000\n"), "{status}");
    assert!(status.contains("Gid:\t0\t0\t0\t0\n") && status.contains("Groups:\t0 \n"), "{status}");
    let read = ["setpriv", "--reuid=50000", "--clear-groups", "cat", "/proc/1/environ"];
    let environment = deployment.exec(&container, &read).succeeded().stdout;
    assert!(environment.contains("\0HOME=/home/airflow\0") && environment.contains("USER=airflow\0"), "{environment}");
    assert_eq!(list(), "50000:0 770 /keys\n50000:0 640 /keys/fernet.key\n");
    let (status, said) = ended(&deployment, &image, &["-v", &keys], &["key", "fingerprint"]);
    assert_eq!(status, 0, "{said}");
}

/// Nothing can be written but `/tmp` and the volumes.
#[test]
fn a_read_only_root_file_system() {
    let Some(deployment) = Deployment::new("3.3.2") else { return };
    let image = deployment.image();
    let keys = format!("{}:/keys", deployment.volume("keys"));
    let read_only = ["-v", &*keys, "--read-only", "--tmpfs", "/tmp"];
    deployment.postgres();
    let variables = [
        "EXECUTOR=Local",
        "POSTGRES_HOST=postgres",
        &format!("POSTGRES_PASSWORD={DATABASE_PASSWORD}"),
        "AIRFLOW__LOGGING__BASE_LOG_FOLDER=/tmp/logs",
    ];
    let options = [&read_only[..], &variables.map(|variable| ["-e", variable]).concat()].concat();
    let container = deployment.run(&image, &options, &["scheduler"]);
    let config = "/tmp/airflow-entrypoint-50000/airflow.cfg";
    let line = format!("(read-only file system); it is in `{config}`, and `AIRFLOW_CONFIG` names that");
    deployment.log_line(&container, &line, PATIENCE);
    deployment.log_line(&container, "Starting the scheduler", PATIENCE);
    // Airflow's own reading of it, with nothing in the environment that says the same.
    let alone = ["env", "-u", "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", &format!("AIRFLOW_CONFIG={config}")];
    let get = ["airflow", "config", "get-value", "database", "sql_alchemy_conn"];
    let value = deployment.exec(&container, &[&alone[..], &get].concat()).succeeded().stdout;
    assert!(value.contains("postgresql") && value.contains("@postgres"), "{value}");
}
