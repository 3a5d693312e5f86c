//! What this project exists for, in real containers: a real Airflow, PostgreSQL on a volume, a key that outlives the image.

#[path = "containers_init.rs"]
mod init;

use std::collections::BTreeSet;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::engine::{DATABASE_PASSWORD, Deployment};
use crate::said::{repository, run};
use crate::sandbox::BINARY;

const PATIENCE: Duration = Duration::from_secs(180);

/// Starts a scheduler on the deployment's PostgreSQL, and waits until it is Airflow.
fn scheduler(deployment: &Deployment, image: &str, key: &[&str]) -> String {
    let container = start_scheduler(deployment, image, key);
    deployment.log_line(&container, "the init of `airflow scheduler`", PATIENCE);
    container
}

fn start_scheduler(deployment: &Deployment, image: &str, key: &[&str]) -> String {
    let password = format!("POSTGRES_PASSWORD={DATABASE_PASSWORD}");
    // It is alone, so nobody else migrates.
    let variables = ["EXECUTOR=Local", "POSTGRES_HOST=postgres", "ENTRYPOINT_MIGRATE=true", &password];
    let options = variables.map(|variable| ["-e", variable]).concat();
    deployment.run(image, &[&options, key].concat(), &["scheduler"])
}

fn add_connection(deployment: &Deployment, container: &str, password: &str) {
    let add =
        ["airflow", "connections", "add", "story", "--conn-type", "http", "--conn-host", "h", "--conn-login", "u"];
    deployment.exec(container, &[&add[..], &["--conn-password", password]].concat()).succeeded();
}

fn password_in_database(deployment: &Deployment) -> String {
    let query = "select password from connection where conn_id = 'story'";
    deployment.exec("postgres", &["psql", "-U", "airflow", "-tAc", query]).succeeded().stdout.trim().to_owned()
}

/// Start, add a connection through a bare `docker exec`, throw away container and image, build again, start again: Airflow still
/// reads the password.
fn a_rebuild_keeps_the_connections(version: &str) {
    let Some(deployment) = Deployment::new(version) else { return };
    let password = deployment.secret();
    // Airflow makes its own tables, through a URL with a hard password.
    deployment.empty_postgres(DATABASE_PASSWORD);

    let keys = format!("{}:/keys", deployment.volume("keys"));
    let kept = ["-v", &keys];
    let image = deployment.own_image("first");
    let first = scheduler(&deployment, &image, &kept);
    let fingerprint =
        deployment.log_line(&first, "Fernet key: made, and kept in `/keys/fernet.key`, fingerprint ", PATIENCE);
    add_connection(&deployment, &first, &password);
    let stored = password_in_database(&deployment);
    assert!(stored.starts_with("gAAAAA") && !stored.contains(&password), "not encrypted: {stored}");
    deployment.remove(&first);
    deployment.remove_image(&image);

    let image = deployment.own_image("second");
    let second = scheduler(&deployment, &image, &kept);
    let again = deployment.log_line(&second, "Fernet key: from `/keys/fernet.key`, fingerprint ", PATIENCE);
    assert_eq!(fingerprint, again);
    let connection = deployment.exec(&second, &["airflow", "connections", "get", "story", "-o", "json"]).succeeded();
    assert!(connection.stdout.contains(&password), "the password is lost: {connection}");
    assert_eq!(password_in_database(&deployment), stored);
    deployment.remove(&second);
}

/// The control, on a database of its own: with a new key at each start, as the bash entrypoint did it, the start ends, or else it is
/// Airflow's own InvalidToken.
fn a_new_key_at_each_start_loses_them(version: &str) {
    let Some(control) = Deployment::new(version) else { return };
    let (image, password) = (control.image(), control.secret());
    control.postgres();
    let new_key = || format!("FERNET_KEY={}", control.fernet_key());
    let first = scheduler(&control, &image, &["-e", &new_key()]);
    add_connection(&control, &first, &password);
    control.remove(&first);
    // Ours does not let it come that far.
    let stopped = start_scheduler(&control, &image, &["-e", &new_key()]);
    assert_eq!(control.wait(&stopped), 65);
    control.remove(&stopped);
    let second = scheduler(&control, &image, &["-e", &new_key(), "-e", "ENTRYPOINT_CHECK_SECRETS=warn"]);
    let list = control.exec(&second, &["airflow", "connections", "list"]);
    assert_ne!(list.status, 0, "{list}");
    assert!(format!("{list}").contains("InvalidToken"), "{list}");
}

fn rebuilt_beside_the_control(version: &str) {
    std::thread::scope(|scope| {
        scope.spawn(|| a_new_key_at_each_start_loses_them(version));
        a_rebuild_keeps_the_connections(version);
    });
}

#[test]
fn k01_a_rebuild_keeps_the_connections_of_airflow_3() {
    rebuilt_beside_the_control("3.3.2");
}

#[test]
fn k01_a_rebuild_keeps_the_connections_of_airflow_2() {
    rebuilt_beside_the_control("2.11.2");
}

/// The Dockerfile as the README has it compiles the sources, without what is compiled here: the same program.
#[test]
fn the_dockerfile_compiles_the_sources() {
    let Some(deployment) = Deployment::new("3.3.2") else { return };
    let image = deployment.image_from_source();
    let key = format!("FERNET_KEY={}", deployment.fernet_key());
    for words in [&["--version"][..], &["key", "fingerprint"]] {
        let ours = run(Command::new("env").args(["-i", &key, BINARY]).args(words)).succeeded();
        let said = run(Command::new("docker").args(["run", "--rm", "-e", &key, &image]).args(words)).succeeded();
        assert!(!ours.stdout.is_empty() && said.stdout == ours.stdout, "{said}{ours}");
    }
}

/// Web server, scheduler and worker started in the same second on an empty volume.
#[test]
fn k02_three_containers_at_once_use_one_key() {
    let Some(deployment) = Deployment::new("3.3.2") else { return };
    let image = deployment.image();
    deployment.postgres();
    deployment.redis();
    let keys = format!("{}:/keys", deployment.volume("keys"));
    let password = format!("POSTGRES_PASSWORD={DATABASE_PASSWORD}");
    let options = [
        "-v",
        &keys,
        "-e",
        "EXECUTOR=Celery",
        "-e",
        "POSTGRES_HOST=postgres",
        "-e",
        "REDIS_HOST=redis",
        "-e",
        &password,
    ];
    let containers: Vec<String> = ["webserver", "scheduler", "worker"]
        .iter()
        .map(|command| deployment.create(&image, &options, &[command]))
        .collect();
    std::thread::scope(|scope| {
        for container in &containers {
            scope.spawn(|| deployment.start(container));
        }
    });
    let mut made = Vec::new();
    for kind in ["Fernet key", "web secret", "JWT secret"] {
        let lines: Vec<String> = containers
            .iter()
            .map(|container| deployment.log_line(container, &format!("info: {kind}: "), PATIENCE))
            .collect();
        let fingerprints: BTreeSet<&str> = lines.iter().map(|line| line.rsplit(' ').next().unwrap()).collect();
        assert_eq!(fingerprints.len(), 1, "{lines:?}");
        made.push(lines.iter().filter(|line| line.starts_with("made, and kept")).count());
    }
    assert_eq!(made, [1, 1, 1]);
    // Each one gets as far as Airflow itself.
    for (container, command) in containers.iter().zip(["api-server", "scheduler", "celery worker"]) {
        deployment.log_line(container, &format!("the init of `airflow {command}`"), PATIENCE);
    }
    let files = deployment.exec(&containers[0], &["ls", "-A", "/keys"]).succeeded();
    assert_eq!(files.stdout, "fernet.key\njwt_secret.key\nweb_secret.key\n");
}

#[test]
fn docker_stop_during_the_wait_ends_at_once_with_143() {
    let Some(deployment) = Deployment::new("3.3.2") else { return };
    let image = deployment.image();
    let options =
        ["-e", "EXECUTOR=Local", "-e", "POSTGRES_HOST=nowhere.invalid", "-e", "ENTRYPOINT_EPHEMERAL_KEY=true"];
    let waiting = deployment.run(&image, &options, &["scheduler"]);
    deployment.log_line(&waiting, "waiting for the database", PATIENCE);
    let started = Instant::now();
    deployment.stop(&waiting, 30);
    let time = started.elapsed();
    assert_eq!(deployment.exit_status(&waiting), 143);
    assert!(time < Duration::from_secs(10), "docker stop took {time:?}");
    // The control: a PID 1 without handlers is deaf, and the engine kills it when its patience ends.
    let deaf = deployment.run(&image, &["--entrypoint", "sleep"], &["1000"]);
    deployment.stop(&deaf, 1);
    assert_eq!(deployment.exit_status(&deaf), 137);
}

#[test]
fn after_the_exec_no_process_of_ours_is_left() {
    let Some(deployment) = Deployment::new("2.11.2") else { return };
    let image = deployment.image();
    let password = format!("POSTGRES_PASSWORD={DATABASE_PASSWORD}");
    let variables = [
        "ENTRYPOINT_INIT=false",
        "ENTRYPOINT_MIGRATE=true",
        "ENTRYPOINT_WAIT_TIMEOUT=forever",
        "ENTRYPOINT_EPHEMERAL_KEY=true",
        "EXECUTOR=Local",
        "POSTGRES_HOST=postgres",
        &password,
    ];
    let container = deployment.run(&image, &variables.map(|variable| ["-e", variable]).concat(), &["scheduler"]);
    // The control: as long as it waits, it is there.
    deployment.log_line(&container, "waiting for the database", PATIENCE);
    let top = deployment.top(&container);
    assert!(top.contains("airflow-entrypoint"), "{top}");
    deployment.postgres();
    deployment.log_line(&container, "become `airflow scheduler`", PATIENCE);
    let top =
        deployment.until(PATIENCE, || Some(deployment.top(&container)).filter(|top| top.contains("airflow scheduler")));
    assert!(!top.contains("airflow-entrypoint"), "{top}");
    let first = deployment.exec(&container, &["cat", "/proc/1/cmdline"]).succeeded().stdout.replace('\0', " ");
    assert!(first.contains("airflow scheduler"), "{first}");
}

/// The README's first command, with ports and names of its own.
fn up(version: &str) {
    let Some(deployment) = Deployment::new(version) else { return };
    let up = deployment.compose(&["docker/up", "--local"]).succeeded();
    let line = |name: &str| {
        up.stdout.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("{up}")).trim().to_owned()
    };
    let url = line("Airflow");
    let fingerprint = line("Fernet key");
    assert!(line("login").starts_with("admin, password "), "{up}");
    let web = |path: &str| {
        let script = "import sys, urllib.request as u; print(u.urlopen(sys.argv[1], timeout=20).read().decode())";
        let output = Command::new("python3").args(["-c", script, &format!("{url}{path}")]).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let health = web(if version.starts_with('3') { "/api/v2/monitor/health" } else { "/health" });
    assert!(health.contains("\"metadatabase\""), "{health}");
    // The same command again changes nothing, not even the key.
    let again = deployment.compose(&["docker/up", "--local"]).succeeded();
    assert!(again.stdout.contains(&fingerprint), "{again}");
    deployment.compose(&["docker/down", "--volumes"]).succeeded();
    assert_eq!(deployment.compose_leftovers(), "");
}

#[test]
fn make_up_starts_airflow_3() {
    up("3.3.2");
}

#[test]
fn make_up_starts_airflow_2() {
    up("2.11.2");
}

/// The compose file is one that both generations of Compose take, whichever of them is here.
#[test]
fn the_compose_file_is_valid() {
    let mut tried = 0;
    for program in [&["docker-compose"][..], &["docker", "compose"]] {
        let run = |words: &[&str]| {
            Command::new(program[0]).args(&program[1..]).args(words).current_dir(repository()).output()
        };
        if !run(&["version"]).is_ok_and(|output| output.status.success()) {
            crate::referee::skipped(&format!("`{}`", program.join(" ")));
            continue;
        }
        tried += 1;
        let output = run(&["config", "-q"]).unwrap();
        assert!(output.status.success(), "{}: {}", program.join(" "), String::from_utf8_lossy(&output.stderr));
    }
    if tried == 0 {
        crate::referee::missing("Compose");
    }
}
