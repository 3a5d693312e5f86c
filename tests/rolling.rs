//! The Fernet key is changed while Airflow runs, in real containers that are restarted in two halves: not one reading of a connection or
//! a variable fails, and no task.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use tempfile::TempDir;

use crate::deferred::SLOW_MACHINE;
use crate::engine::{DATABASE_PASSWORD, Deployment};
use crate::said::repository;

const PATIENCE: Duration = Duration::from_secs(180);

/// Reads what is in the database with the key that its container was started with.
const WITNESS: &str = include_str!("probes/witness.py");

/// Who notes readings: the tasks of both DAGs, which on Airflow 3 read by the API servers, and the witness.
const READERS: [&str; 3] = ["task left", "task right", "witness"];

/// How many readings a reader has to make before things go on.
const ENOUGH: usize = 3;

#[derive(Clone, Copy, PartialEq)]
enum Role {
    Scheduler,
    Setup,
    Web,
    Witness,
    Worker,
}

/// While the containers of one half are restarted those of the other one work on.
const HALVES: [[Role; 3]; 2] = [[Role::Web, Role::Worker, Role::Scheduler], [Role::Web, Role::Worker, Role::Witness]];

struct Stack<'d> {
    deployment: &'d Deployment,
    image: String,
    /// What is expected, and what was found.
    readings: TempDir,
    /// The values of variables and the passwords of connections, by names that both have.
    expected: BTreeMap<String, String>,
    halves: [Vec<String>; 2],
    /// What the containers said that are gone.
    said: String,
}

impl<'d> Stack<'d> {
    fn start(deployment: &'d Deployment) -> Self {
        deployment.postgres();
        deployment.redis();
        let readings = TempDir::new().unwrap();
        fs::set_permissions(readings.path(), Permissions::from_mode(0o777)).unwrap();
        let image = deployment.image();
        let halves = [Vec::new(), Vec::new()];
        let expected = BTreeMap::new();
        let mut stack = Self { deployment, image, readings, expected, halves, said: String::new() };
        stack.expect();
        let setup = stack.run(Role::Setup, &[]);
        stack.ready(Role::Setup, &setup);
        stack.halves = HALVES.map(|roles| roles.map(|role| stack.run(role, &[])).to_vec());
        for (roles, half) in HALVES.iter().zip(&stack.halves) {
            roles.iter().zip(half).for_each(|(role, container)| stack.ready(*role, container));
        }
        stack
    }

    fn run(&self, role: Role, given: &[&str]) -> String {
        let mounts = [
            format!("{}:/keys", self.deployment.volume("keys")),
            format!("{}:/opt/airflow/logs", self.deployment.volume("logs")),
            format!("{}:/readings", self.readings.path().display()),
            format!("{}:/opt/airflow/dags/reads.py:ro", repository().join("tests/dags/reads.py").display()),
        ];
        let password = format!("POSTGRES_PASSWORD={DATABASE_PASSWORD}");
        let variables = [
            "EXECUTOR=Celery",
            "POSTGRES_HOST=postgres",
            "REDIS_HOST=redis",
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL=http://web:8080/execution/",
            "AIRFLOW__CELERY__WORKER_CONCURRENCY=2",
            SLOW_MACHINE,
            "ENTRYPOINT_STOP_GRACE=60s",
            &password,
        ];
        let mut options: Vec<&str> = mounts.iter().flat_map(|mount| ["-v", mount]).collect();
        options.extend(variables.iter().chain(given).flat_map(|variable| ["-e", variable]));
        let airflow_3 = self.deployment.version.starts_with('3');
        let command: &[&str] = match role {
            Role::Web => {
                options.extend(["--network-alias", "web"]);
                &["webserver"]
            }
            Role::Scheduler if airflow_3 => &["supervise", "scheduler", "dag-processor"],
            Role::Scheduler => &["scheduler"],
            Role::Setup => &["setup"],
            Role::Witness => &["python", "-c", WITNESS],
            Role::Worker => &["worker", "--without-gossip", "--without-mingle"],
        };
        self.deployment.run(&self.image, &options, command)
    }

    fn ready(&self, role: Role, container: &str) {
        let line = match role {
            Role::Scheduler => "Starting the scheduler",
            Role::Setup => "end, since all is prepared",
            Role::Web if self.deployment.version.starts_with('3') => "Application startup complete",
            Role::Web => "Listening at: ",
            Role::Witness => "the witness looks",
            Role::Worker => " ready.",
        };
        self.deployment.log_line(container, line, PATIENCE);
    }

    /// Stops the containers of these roles in these halves, which have time to end what they are doing, and starts new ones with these
    /// variables besides.
    fn renew(&mut self, halves: &[usize], which: &[Role], given: &[&str]) {
        let all = halves
            .iter()
            .flat_map(|&half| HALVES[half].into_iter().zip(0..).map(move |(role, index)| (half, role, index)));
        let roles: Vec<_> = all.filter(|(_, role, _)| which.contains(role)).collect();
        let old: Vec<String> = roles.iter().map(|&(half, _, index)| self.halves[half][index].clone()).collect();
        // Tasks in these containers have read enough.
        for container in &old {
            fs::write(self.readings.path().join(format!("end-{}", &container[..12])), "").unwrap();
        }
        let words: Vec<&str> = ["stop", "-t", "120"].into_iter().chain(old.iter().map(String::as_str)).collect();
        self.deployment.docker(&words);
        for (container, &(half, role, index)) in old.iter().zip(&roles) {
            let log = self.deployment.logs_of(container);
            assert_eq!(self.deployment.exit_status(container), 0, "{log}");
            self.said += &log;
            self.deployment.remove(container);
            self.halves[half][index] = self.run(role, given);
        }
        for (half, role, index) in roles {
            self.ready(role, &self.halves[half][index]);
        }
    }

    /// All containers, one half after the other. In between each half adds something that both read from then on.
    fn roll(&mut self) {
        self.renew(&[0], &HALVES[0], &[]);
        self.add();
        self.look("one half has been restarted, and both have added something");
        self.renew(&[1], &HALVES[1], &[]);
        self.look("all have been restarted");
    }

    /// Adds a variable in one half and a connection in the other one, by a bare `docker exec` in the web server.
    fn add(&mut self) {
        let (name, secret) = (format!("added_{}", self.expected.len()), self.deployment.secret());
        let variable = ["airflow", "variables", "set", &name, &secret];
        let connection = ["airflow", "connections", "add", &name, "--conn-type", "http", "--conn-password", &secret];
        std::thread::scope(|scope| {
            for (half, command) in self.halves.iter().zip([&variable[..], &connection]) {
                scope.spawn(|| self.deployment.exec(&half[0], command).succeeded());
            }
        });
        self.expected.insert(name, secret);
        self.expect();
    }

    /// Tells the readers what is there.
    fn expect(&self) {
        let path = self.readings.path().join("expected");
        let whole = path.with_extension("whole");
        fs::write(&whole, serde_json::to_string(&self.expected).unwrap()).unwrap();
        fs::rename(whole, path).unwrap();
    }

    fn notes(&self) -> Vec<String> {
        let notes = fs::read_to_string(self.readings.path().join("notes")).unwrap_or_default();
        // The last one may be half written.
        notes.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')).map(str::to_owned).collect()
    }

    /// Waits until each reader has read all that is expected several times more.
    fn look(&self, when: &str) {
        let before = self.notes().len();
        self.deployment.until(PATIENCE, || {
            let notes = self.notes();
            let wrong: Vec<_> = notes.iter().filter(|note| note.contains(" wrong ")).collect();
            assert!(wrong.is_empty(), "{wrong:#?}");
            let right = format!("right {}", self.expected.len());
            let enough = |reader: &str| {
                let line = format!("{reader} {right}");
                notes[before..].iter().filter(|note| **note == line).count() >= ENOUGH
            };
            READERS.iter().all(|reader| enough(reader)).then_some(())
        });
        assert_eq!(self.failed_tasks(), "0", "{when}");
        println!("{}: {when}, {} readings", self.deployment.version, self.notes().len() - before);
    }

    /// A verb in the web server's container, as this user.
    fn key(&self, user: &str, verb: &str, says: &str) {
        let exec = ["exec", "--user", user, &self.halves[0][0], "airflow-entrypoint", "key", verb];
        let said = self.deployment.docker(&exec);
        assert!(said.stderr.contains(says), "{said}");
    }

    fn sql(&self, query: &str) -> String {
        let psql = ["psql", "-U", "airflow", "-tAc", query];
        self.deployment.exec("postgres", &psql).succeeded().stdout.trim().to_owned()
    }

    fn failed_tasks(&self) -> String {
        self.sql("select count(*) from task_instance where state in ('failed', 'up_for_retry', 'upstream_failed')")
    }

    /// All that was said of a value that could not be read, by containers and by tasks.
    fn complaints(&self) -> String {
        const NOT_READ: &str = "InvalidToken|Can't decrypt|isn't defined|VARIABLE_NOT_FOUND";
        let grep = ["grep", "-rE", NOT_READ, "/opt/airflow/logs"];
        let said: String = [self.said.clone(), self.deployment.logs()].concat();
        let of_containers = said.lines().filter(|line| NOT_READ.split('|').any(|words| line.contains(words)));
        let of_tasks = self.deployment.exec(&self.halves[0][1], &grep);
        of_tasks.stdout.lines().chain(of_containers).map(|line| format!("{line}\n")).collect()
    }

    fn keys(&self) -> Vec<String> {
        let said = self.deployment.exec(&self.halves[0][0], &["cat", "/keys/fernet.key"]).succeeded();
        said.stdout.trim_end().split(',').map(str::to_owned).collect()
    }
}

fn rolled(version: &str) {
    let Some(deployment) = Deployment::new(version) else { return };
    let mut stack = Stack::start(&deployment);
    stack.add();
    stack.look("before");
    let old = stack.keys();
    stack.key("root", "stage", "is staged in `/keys/fernet.key`");
    stack.look("`key stage`");
    stack.roll();
    stack.key("50000", "promote", "of which the first encrypts");
    stack.look("`key promote`");
    stack.roll();
    stack.key("root", "reencrypt", "alone; when no container runs without that key any more");
    stack.look("`key reencrypt`");
    stack.key("50000", "retire", "containers forget it at their next start");
    stack.look("`key retire`");
    stack.roll();

    let [new] = stack.keys().try_into().unwrap();
    let tokens = stack.sql("select password from connection union all select val from variable where is_encrypted");
    assert!(tokens.lines().count() >= 2 * stack.expected.len(), "{tokens}");
    for (key, reads) in [(&new, true), (&old[0], false)] {
        let key = fernet::Fernet::new(key).unwrap();
        assert!(tokens.lines().all(|token| key.decrypt(token).is_ok() == reads), "{tokens}");
    }
    assert_eq!(stack.failed_tasks(), "0");
    // Of each DAG the last run alone may still be running: none was lost.
    let open = stack.sql("select count(*) from dag_run where state <> 'success'");
    assert!(open.parse::<u8>().unwrap() <= 2, "{open} runs of DAGs have not ended well");
    assert_eq!(stack.complaints(), "");

    // The control: another key in the place of the old one, as people do it.
    let web = &stack.halves[0][0];
    let replace = ["sh", "-c", "cat > /keys/fernet.key"];
    deployment.exec_with_input(web, &replace, &deployment.fernet_key()).succeeded();
    let before = stack.notes().len();
    // Who decrypts for tasks: on Airflow 3 the API server, before that the worker. Without any server tasks would fail for want of it.
    let (role, turns): (_, &[&[usize]]) =
        if version.starts_with('3') { (Role::Web, &[&[0], &[1]]) } else { (Role::Worker, &[&[0, 1]]) };
    for halves in turns {
        stack.renew(halves, &[role], &["ENTRYPOINT_CHECK_SECRETS=warn"]);
    }
    let fails = |note: &String| note.starts_with("task ") && note.contains(" wrong ");
    deployment.until(PATIENCE, || stack.notes()[before..].iter().any(fails).then_some(()));
    deployment.until(PATIENCE, || (stack.failed_tasks() != "0").then_some(()));
    assert!(stack.complaints().contains("isn't defined"), "{}", stack.complaints());
}

#[test]
fn k10_nothing_fails_while_a_running_airflow_3_changes_its_key() {
    rolled("3.3.2");
}

#[test]
fn k10_nothing_fails_while_a_running_airflow_2_changes_its_key() {
    rolled("2.11.2");
}
