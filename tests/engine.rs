//! A Docker engine as a referee: deployments with names of their own that leave nothing behind.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};
use std::sync::mpsc::channel;
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use crate::images::INSTALLED;
use crate::said::{Said, repository, run, run_with_input};

/// The pause between two questions: asking must not cost the machine that the answer is waited for on.
pub(crate) const PAUSE: Duration = Duration::from_millis(250);

/// A password that breaks a URL, a configparser and a shell unless each of them is told properly.
pub(crate) const DATABASE_PASSWORD: &str = "p@s:s/w%40 $HOME#?'\"é";

/// An Airflow for a few tasks at a time, that looks for them often.
fn lean(version: &str) -> [&'static str; 4] {
    [
        "AIRFLOW__CORE__PARALLELISM=4",
        "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME=0.25",
        if version.starts_with('3') {
            "AIRFLOW__DAG_PROCESSOR__PARSING_PROCESSES=1"
        } else {
            "AIRFLOW__SCHEDULER__PARSING_PROCESSES=1"
        },
        if version.starts_with('3') { "AIRFLOW__API__WORKERS=1" } else { "AIRFLOW__WEBSERVER__WORKERS=1" },
    ]
}

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    File::open("/dev/urandom").unwrap().read_exact(&mut bytes).unwrap();
    bytes
}

pub(crate) fn docker(words: &[&str]) -> Said {
    run(Command::new("docker").args(words))
}

/// Containers, volumes and a network that belong together; removed with this value.
pub(crate) struct Deployment {
    pub(crate) id: String,
    pub(crate) version: String,
    /// Locks on the images that it uses (`images`).
    pub(crate) in_use: Mutex<Vec<File>>,
    pub(crate) installed: OnceLock<Option<String>>,
}

impl Deployment {
    /// `None`, said by name, on a machine without a Docker engine.
    pub(crate) fn new(version: &str) -> Option<Self> {
        crate::referee::heavy("containers");
        if docker(&["version"]).status != 0 {
            crate::referee::missing("Docker engine");
            return None;
        }
        let id = format!("aetest-{:08x}", u32::from_ne_bytes(random()));
        let deployment = Self { id, version: version.to_owned(), in_use: Mutex::default(), installed: OnceLock::new() };
        deployment.docker(&["network", "create", &deployment.id]);
        Some(deployment)
    }

    #[track_caller]
    pub(crate) fn docker(&self, words: &[&str]) -> Said {
        docker(words).succeeded()
    }

    pub(crate) fn name(&self, name: &str) -> String {
        if name.starts_with("aetest-") { name.to_owned() } else { format!("{}-{name}", self.id) }
    }

    /// Makes sure that a volume of that name is there, and gives its full name.
    pub(crate) fn volume(&self, name: &str) -> String {
        let name = self.name(name);
        self.docker(&["volume", "create", "--label", &self.id, &name]);
        name
    }

    /// PostgreSQL on a new volume, under the name `postgres`: an empty database.
    pub(crate) fn empty_postgres(&self, password: &str) {
        let image = self.local_image("postgres");
        self.postgres_of(&image, password, &[], &["postgres"]);
    }

    /// The same with the database of this Airflow already in it.
    pub(crate) fn postgres(&self) {
        self.prepared_postgres(DATABASE_PASSWORD);
    }

    pub(crate) fn prepared_postgres(&self, password: &str) {
        // Before anyone can connect.
        let script = r#"quote="'"
            printf "ALTER ROLE airflow PASSWORD '%s'" "${POSTGRES_PASSWORD//$quote/$quote$quote}" |
                setpriv --reuid=postgres --regid=postgres --init-groups postgres --single -j -D "$PGDATA" postgres >/dev/null
            exec start "$@""#;
        let image = self.prepared_image();
        self.postgres_of(&image, password, &["--entrypoint", "bash"], &["-ec", script, "start", "postgres"]);
    }

    fn postgres_of(&self, image: &str, password: &str, options: &[&str], command: &[&str]) {
        let data = format!("{}:/var/lib/postgresql/data", self.volume("database"));
        let password = format!("POSTGRES_PASSWORD={password}");
        let settings = ["-v", &data, "-e", "POSTGRES_USER=airflow", "-e", &password, "-e", "POSTGRES_DB=airflow"];
        // No test takes the machine's power away.
        let quick = ["-c", "fsync=off"];
        self.service("postgres", image, &[&settings[..], options].concat(), &[command, &quick].concat());
    }

    /// Redis, under the name `redis`.
    pub(crate) fn redis(&self) {
        let image = self.local_image("redis");
        self.service("redis", &image, &[], &[]);
    }

    fn service(&self, name: &str, image: &str, options: &[&str], command: &[&str]) {
        let full = self.name(name);
        let base = ["run", "-d", "--name", &full, "--label", &self.id, "--network", &self.id, "--network-alias", name];
        self.docker(&[&base, options, &[image], command].concat());
    }

    /// A container that is not started yet. Its Airflow starts no more processes than it needs here.
    pub(crate) fn create(&self, image: &str, options: &[&str], command: &[&str]) -> String {
        let base = ["create", "--label", &self.id, "--network", &self.id];
        let lean = lean(&self.version).map(|variable| ["-e", variable]).concat();
        let installed = self.installed().map(|volume| format!("{volume}:{INSTALLED}:ro"));
        let quick: Vec<&str> = installed.iter().flat_map(|volume| ["-v", volume]).collect();
        let said = self.docker(&[&base, &lean[..], &quick, options, &[image], command].concat());
        said.stdout.trim().to_owned()
    }

    pub(crate) fn start(&self, container: &str) {
        self.docker(&["start", container]);
    }

    pub(crate) fn run(&self, image: &str, options: &[&str], command: &[&str]) -> String {
        let container = self.create(image, options, command);
        self.start(&container);
        container
    }

    pub(crate) fn exec(&self, container: &str, command: &[&str]) -> Said {
        let container = if container == "postgres" { self.name(container) } else { container.to_owned() };
        docker(&[&["exec", &*container], command].concat())
    }

    /// The same with this as its standard input: what is secret is in no argument.
    pub(crate) fn exec_with_input(&self, container: &str, command: &[&str], input: &str) -> Said {
        run_with_input(Command::new("docker").args(["exec", "-i", container]).args(command), input)
    }

    pub(crate) fn remove(&self, container: &str) {
        self.docker(&["rm", "-f", container]);
    }

    pub(crate) fn remove_image(&self, image: &str) {
        self.docker(&["rmi", image]);
        assert_ne!(docker(&["image", "inspect", image]).status, 0, "{image} is still there");
    }

    /// Runs a container at a terminal to its end, which is played by `tests/probes/terminal.py`.
    pub(crate) fn at_terminal(&self, image: &str, steps: &str, options: &[&str], command: &[&str]) -> Said {
        let probe = repository().join("tests/probes/terminal.py");
        let docker = ["docker", "run", "-it", "--rm", "--label", &self.id, "--network", &self.id];
        run(Command::new("python3").arg(probe).arg(steps).args(docker).args(options).arg(image).args(command))
    }

    /// All containers; the volumes stay.
    pub(crate) fn remove_all(&self) {
        let containers = self.docker(&["ps", "-aq", "--filter", &format!("label={}", self.id)]).stdout;
        self.docker(&["rm", "-f"].into_iter().chain(containers.lines()).collect::<Vec<_>>());
    }

    /// Both streams of a container.
    pub(crate) fn logs_of(&self, container: &str) -> String {
        let said = docker(&["logs", container]);
        said.stdout + &said.stderr
    }

    /// What all containers said, each under its command.
    pub(crate) fn logs(&self) -> String {
        // A project's network has the name of ours and `_default` behind it.
        let networks = ["", "_default"].map(|suffix| format!("network={}{suffix}", self.id));
        let mut words = vec!["ps", "-a", "--no-trunc", "--format", "{{.ID}} {{.Image}} {{.Command}} {{.Status}}"];
        words.extend(networks.iter().flat_map(|network| ["--filter", network]));
        let log = |line: &str| format!("==> {line}\n{}", self.logs_of(line.split(' ').next().unwrap()));
        docker(&words).stdout.lines().map(log).collect()
    }

    /// The status with which a container ends.
    pub(crate) fn wait(&self, container: &str) -> i32 {
        self.docker(&["wait", container]).stdout.trim().parse().unwrap()
    }

    pub(crate) fn stop(&self, container: &str, seconds: u32) {
        self.docker(&["stop", "-t", &seconds.to_string(), container]);
    }

    pub(crate) fn exit_status(&self, container: &str) -> i32 {
        self.docker(&["inspect", "--format", "{{.State.ExitCode}}", container]).stdout.trim().parse().unwrap()
    }

    pub(crate) fn top(&self, container: &str) -> String {
        docker(&["top", container, "-eo", "pid,args"]).stdout
    }

    /// Asks until there is an answer.
    #[track_caller]
    pub(crate) fn until<T>(&self, patience: Duration, mut ask: impl FnMut() -> Option<T>) -> T {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(answer) = ask() {
                return answer;
            }
            assert!(Instant::now() < deadline, "no answer within {patience:?}");
            std::thread::sleep(PAUSE);
        }
    }

    /// Follows a container's log up to the first line that holds `needle`, and gives what stands behind it.
    #[track_caller]
    pub(crate) fn log_line(&self, container: &str, needle: &str, patience: Duration) -> String {
        let mut follow = Command::new("sh")
            .args(["-c", "exec docker logs -f \"$1\" 2>&1", "logs", container])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (sender, lines) = channel();
        let stdout = BufReader::new(follow.stdout.take().unwrap());
        std::thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        let deadline = Instant::now() + patience;
        let mut seen = Vec::new();
        let found = loop {
            match lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => match line.split_once(needle) {
                    Some((_, rest)) => break Some(rest.to_owned()),
                    None => seen.push(line),
                },
                Err(_) => break None,
            }
        };
        let _ = follow.kill();
        let _ = follow.wait();
        found.unwrap_or_else(|| panic!("no line with `{needle}` within {patience:?}:\n{}", seen.join("\n")))
    }

    /// Sixteen random hex digits.
    pub(crate) fn secret(&self) -> String {
        format!("{:016x}", u64::from_ne_bytes(random()))
    }

    /// A new Fernet key: 32 random bytes in base64.
    pub(crate) fn fernet_key(&self) -> String {
        run(Command::new("openssl").args(["rand", "-base64", "32"])).succeeded().stdout.trim().to_owned()
    }
}

impl Drop for Deployment {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("{}", self.logs());
        }
        if std::thread::panicking() && std::env::var_os("AIRFLOW_ENTRYPOINT_KEEP").is_some() {
            println!("kept: {}", self.id);
            return;
        }
        let script = "
            for label in \"$1\" \"com.docker.compose.project=$1\"; do
                docker ps -aq --filter label=\"$label\" | xargs -r docker rm -f -v
                docker volume ls -q --filter label=\"$label\" | xargs -r docker volume rm
                docker network ls -q --filter label=\"$label\" | xargs -r docker network rm
            done
            docker network rm \"$1\"
            docker images --format '{{.Repository}}' | grep \"^$1-\" | xargs -r docker rmi";
        let _ = Command::new("sh").args(["-c", script, "clean", &self.id]).output();
    }
}
