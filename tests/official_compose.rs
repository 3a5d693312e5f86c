//! The compose file of Airflow's documentation with only the images changed, on real Airflow: everything comes up, for the image's own
//! user and for one that it does not know, and what was encrypted is readable when all containers are new.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::Path;
use std::time::Duration;

use tempfile::TempDir;

use crate::engine::{Deployment, PAUSE};
use crate::said::{Said, repository};

/// For all the services of the file on a machine that has other things to do.
const PATIENCE: Duration = Duration::from_secs(420);

/// Logs in with an account of the database, starts the DAG `hello`, waits for its end, and prints the log of its task.
const CLIENT: &str = r#"
import json, sys, time
from urllib import error, request
password, run, patience = sys.stdin.readline().strip(), sys.argv[1], float(sys.argv[2])
deadline = time.monotonic() + patience

def ask(method, path, body=None, **headers):
    headers["Content-Type"] = "application/json"
    question = request.Request("http://localhost:8080" + path, body and json.dumps(body).encode(), headers, method=method)
    return json.load(request.urlopen(question, timeout=60))

def until(what, wanted):
    while True:
        try:
            answer = what()
            if wanted(answer):
                return answer
        except error.HTTPError as problem:
            answer = f"status {problem.code}: {problem.read().decode()}"
        except OSError as problem:
            answer = repr(problem)
        if time.monotonic() > deadline:
            sys.exit(f"at last: {answer}")
        time.sleep(0.25)

def token(password):
    return ask("POST", "/auth/token", {"username": "airflow", "password": password})["access_token"]

try:
    sys.exit(f"any password will do: {token('another one')}")
except error.HTTPError as problem:
    assert problem.code == 401, problem
bearer = {"Authorization": "Bearer " + token(password)}
dag = "/api/v2/dags/hello/dagRuns"
until(lambda: ask("POST", dag, {"dag_run_id": run, "logical_date": None}, **bearer), lambda answer: True)
end = until(lambda: ask("GET", f"{dag}/{run}", **bearer), lambda answer: answer["state"] in ("success", "failed"))
log = ask("GET", f"{dag}/{run}/taskInstances/greet/logs/1?full_content=true", **bearer)
print(end["state"], json.dumps(log))
"#;

/// The file started as a project of its own, on a folder of its own.
struct Project<'a> {
    deployment: &'a Deployment,
    folder: TempDir,
    variables: Vec<String>,
    program: &'static [&'static str],
}

impl<'a> Project<'a> {
    fn new(deployment: &'a Deployment, image: &str, uid: u32, password: &str) -> Self {
        // On a disk: in memory a key would not be kept.
        let folder = tempfile::Builder::new().prefix("airflow-entrypoint-official-").tempdir_in("/var/tmp").unwrap();
        let program: &[&str] = if deployment.compose(&["docker", "compose", "version"]).status == 0 {
            &["docker", "compose"]
        } else {
            &["docker-compose"]
        };
        let variables = [
            ("AIRFLOW_IMAGE_NAME", image),
            ("POSTGRES_IMAGE", &deployment.local_image("postgres")),
            ("REDIS_IMAGE", &deployment.local_image("redis")),
            ("AIRFLOW_UID", &uid.to_string()),
            ("AIRFLOW_PROJ_DIR", folder.path().to_str().unwrap()),
            ("LOAD_EXAMPLES", "false"),
            // Asked often, and not given up for that: a busy machine takes minutes.
            ("SERVER_HEALTH_INTERVAL", "1s"),
            ("HEALTH_INTERVAL", "2s"),
            ("HEALTH_RETRIES", "100"),
            ("AIRFLOW_HEALTH_INTERVAL", "15s"),
            ("HEALTH_TIMEOUT", "60s"),
            // `docker-compose` gives up on an engine that does not answer for a minute.
            ("COMPOSE_HTTP_TIMEOUT", "600"),
            ("_AIRFLOW_WWW_USER_PASSWORD", password),
        ];
        let variables = variables.map(|(name, value)| format!("{name}={value}")).to_vec();
        Self { deployment, folder, variables, program }
    }

    fn compose(&self, words: &[&str]) -> Said {
        let file = ["-f", "tests/compose/official.yaml"];
        let variables: Vec<&str> = self.variables.iter().map(String::as_str).collect();
        self.deployment.compose(&[&["env"], &*variables, self.program, &file, words].concat())
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    /// The container of a service, be it one that has ended.
    fn container(&self, service: &str) -> Option<String> {
        let containers = self.deployment.compose_containers();
        containers.into_iter().find(|(name, _)| name == service).map(|(_, id)| id)
    }

    #[track_caller]
    fn exec(&self, service: &str, command: &[&str]) -> Said {
        self.deployment.exec(&self.container(service).unwrap(), command).succeeded()
    }

    /// Starts all of it. Gives what could be seen of the first container's arguments meanwhile.
    fn up(&self) -> String {
        let seen = std::thread::scope(|scope| {
            let up = scope.spawn(|| self.compose(&["up", "-d"]));
            let mut seen = String::new();
            while !up.is_finished() {
                let top = self.container("airflow-init").map(|init| self.deployment.top(&init)).unwrap_or_default();
                if top.is_empty() && !seen.is_empty() {
                    break;
                }
                seen.push_str(&top);
                std::thread::sleep(PAUSE);
            }
            up.join().unwrap().succeeded();
            seen
        });
        assert_eq!(self.deployment.exit_status(&self.container("airflow-init").unwrap()), 0);
        // What a bare `docker exec` needs is written.
        for service in ["scheduler", "triggerer"] {
            let container = self.container(&format!("airflow-{service}")).unwrap();
            self.deployment.log_line(&container, &format!("the init of `airflow {service}"), PATIENCE);
        }
        seen
    }

    /// Waits until each service says that it is well.
    fn is_healthy(&self) {
        for service in ["apiserver", "scheduler", "dag-processor", "worker", "triggerer"] {
            let container = self.container(&format!("airflow-{service}")).unwrap();
            let health = ["inspect", "--format", "{{.State.Health.Status}}", &container];
            let is_healthy = || self.deployment.docker(&health).stdout.trim() == "healthy";
            self.deployment.until(PATIENCE, || is_healthy().then_some(()));
        }
    }

    /// Logs in with the account that was asked for, and has a task run on the worker.
    #[track_caller]
    fn runs(&self, run: &str, password: &str) {
        let web = self.container("airflow-apiserver").unwrap();
        let client = ["python", "-c", CLIENT, run, &PATIENCE.as_secs().to_string()];
        let said = self.deployment.exec_with_input(&web, &client, &format!("{password}\n")).succeeded();
        assert!(said.stdout.starts_with("success ") && said.stdout.contains("hello from a task"), "{said}");
        self.deployment.log_line(&self.container("airflow-worker").unwrap(), "final_state=success", PATIENCE);
    }

    /// Adds a connection with this program, by a bare `docker exec` as whom the container is.
    fn add(&self, program: &[&str], name: &str, password: &str) {
        let add = ["connections", "add", name, "--conn-type", "http", "--conn-password", password];
        self.exec("airflow-scheduler", &[program, &add].concat());
    }

    fn stored(&self, name: &str) -> String {
        let query = format!("select password from connection where conn_id = '{name}'");
        self.exec("postgres", &["psql", "-U", "airflow", "-tAc", &query]).stdout.trim().to_owned()
    }

    fn owner(&self, path: &Path) -> (u32, u32) {
        let metadata = fs::metadata(path).unwrap();
        (metadata.uid(), metadata.gid())
    }
}

/// With folders that a user made before, or that are left to the engine, which makes them for root. Runs a task, and keeps a password
/// in the connection `story`.
fn the_official_file_comes_up<'a>(
    deployment: &'a Deployment,
    uid: u32,
    made_by: Option<u32>,
    secrets: [&str; 2],
) -> Project<'a> {
    let [login, password] = secrets;
    let image = deployment.image();
    let project = Project::new(deployment, &image, uid, login);
    fs::create_dir(project.path("dags")).unwrap();
    fs::copy(repository().join("docker/dags/hello.py"), project.path("dags/hello.py")).unwrap();
    if let Some(user) = made_by {
        for folder in ["dags", "logs", "plugins", "config"] {
            fs::create_dir_all(project.path(folder)).unwrap();
            chown(project.path(folder), Some(user), Some(user)).unwrap();
        }
    }

    let seen = project.up();
    // The password is in no argument; the control: the command that needs it was seen.
    assert!(seen.contains("users create") && !seen.contains(login), "{seen}");
    // The control: to Airflow alone the file's empty variable means no encryption.
    let alone = ["env", "USER=default", "/home/airflow/.local/bin/airflow"];
    std::thread::scope(|scope| {
        scope.spawn(|| project.add(&["airflow"], "story", password));
        scope.spawn(|| project.add(&alone, "clear", "in the clear"));
        project.runs("first", login);
    });
    let stored = project.stored("story");
    assert!(stored.starts_with("gAAAAA"), "not encrypted: {stored}");
    assert_eq!(project.stored("clear"), "in the clear");

    for file in ["config", "config/airflow.cfg", "config/airflow-keys", "config/airflow-keys/fernet.key", "logs"] {
        assert_eq!(project.owner(&project.path(file)), (uid, 0), "{file}");
    }
    project.is_healthy();
    let logs = project.compose(&["logs", "--no-color"]).succeeded().stdout;
    let kept = fs::read_dir(project.path("config/airflow-keys")).unwrap().map(|entry| entry.unwrap().path());
    let secrets: Vec<String> = kept.map(|path| fs::read_to_string(path).unwrap().trim().to_owned()).collect();
    assert!(secrets.len() >= 3 && logs.contains("the init of `airflow celery worker`"), "{logs}");
    for secret in secrets.iter().map(String::as_str).chain([login, password]) {
        assert!(!logs.contains(secret), "a secret is in the logs");
    }
    project
}

#[test]
fn the_official_file_comes_up_for_the_images_own_user() {
    let Some(deployment) = Deployment::new("3.3.2") else { return };
    let (login, password) = (deployment.secret(), deployment.secret());
    let project = the_official_file_comes_up(&deployment, 50_000, None, [&login, &password]);
    let key = fs::read_to_string(project.path("config/airflow-keys/fernet.key")).unwrap();

    // When all containers are new.
    project.compose(&["down"]).succeeded();
    assert_eq!(deployment.compose_containers(), []);
    project.up();
    assert_eq!(fs::read_to_string(project.path("config/airflow-keys/fernet.key")).unwrap(), key);
    let get = ["airflow", "connections", "get", "story", "-o", "json"];
    // From a shell in a container of its own, too.
    let shell = ["run", "--rm", "-T", "airflow-cli", "bash", "-c", &get.join(" ")];
    std::thread::scope(|scope| {
        let one = scope.spawn(|| project.exec("airflow-triggerer", &get));
        let other = scope.spawn(|| project.compose(&shell).succeeded());
        project.runs("second", &login);
        for connection in [one, other].map(|read| read.join().unwrap()) {
            assert!(connection.stdout.contains(&password), "the password is lost: {connection}");
        }
    });
    project.is_healthy();
}

/// As Airflow's documentation has it: `mkdir`, and `AIRFLOW_UID` for who did that.
#[test]
fn the_official_file_comes_up_for_a_user_that_the_image_does_not_know() {
    let Some(deployment) = Deployment::new("3.3.2") else { return };
    the_official_file_comes_up(&deployment, 1000, Some(1000), [&deployment.secret(), &deployment.secret()]);
}
