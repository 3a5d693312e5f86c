//! Which command gets what, in which order, on each line: the table of the README, by what is really called.

use crate::sandbox::{Sandbox, V1, V2, V3};
use crate::services::local;

/// What must be called on a line; `PIP` stands for the installation of the requirements.
fn check(sandbox: &Sandbox, arguments: &[&str], expected: &[&str]) {
    sandbox.write("calls", "");
    let outcome = sandbox.run(arguments);
    let pip = format!("pip install --user -r {}", sandbox.text("requirements.txt"));
    let expected: Vec<_> = expected.iter().map(|call| call.replace("PIP", &pip)).collect();
    outcome.succeeds().same(sandbox.calls(), expected);
}

/// With a database and a broker that answer, and requirements.
fn celery(version: &str, port: &str) -> Sandbox {
    let sandbox = Sandbox::new(version)
        .with("EXECUTOR", "Celery")
        // What listens here holds nothing to judge a key by.
        .with("FERNET_KEY", crate::sandbox::new_key())
        .with("ENTRYPOINT_CHECK_SECRETS", "off")
        .with("POSTGRES_HOST", "127.0.0.1")
        .with("POSTGRES_PORT", port)
        .with("REDIS_HOST", "127.0.0.1")
        .with("REDIS_PORT", port);
    sandbox.write("requirements.txt", "six\n");
    sandbox
}

const MIGRATE_1: &str = "airflow initdb";
const SCHEMA_1: &str = "airflow connections --list";
const MIGRATE: &str = "airflow db migrate";
const SCHEMA: &str = "airflow db check-migrations -t 100";

#[test]
fn each_command_gets_what_its_class_needs() {
    let (_listener, port) = local();
    let [one, two, three] = [V1, V2, V3].map(|version| celery(version, &port));

    // The web server alone migrates; the others wait until it has.
    check(&one, &["webserver"], &["PIP", MIGRATE_1, "airflow webserver"]);
    for service in ["scheduler", "worker", "flower"] {
        check(&one, &[service], &["PIP", SCHEMA_1, &format!("airflow {service}")]);
        check(&one, &["airflow", service, "-x"], &["PIP", SCHEMA_1, &format!("airflow {service} -x")]);
    }
    check(&one, &["celery", "worker"], &["PIP", SCHEMA_1, "airflow worker"]);
    check(&one, &["setup"], &[MIGRATE_1]);
    for (said, called) in [
        ("initdb", "airflow initdb"),
        ("db migrate", "airflow upgradedb"),
        ("list_dags", "airflow list_dags"),
        ("dags list", "airflow list_dags"),
        ("version", "airflow version"),
        ("run d t x", "airflow run d t x"),
        ("scheduler --help", "airflow scheduler --help"),
        ("mycmd x", "mycmd x"),
        ("-- mycmd x", "mycmd x"),
    ] {
        check(&one, &said.split(' ').collect::<Vec<_>>(), &[called]);
    }

    for (line, web) in [(&two, "webserver"), (&three, "api-server")] {
        check(line, &["webserver"], &["PIP", MIGRATE, &format!("airflow {web}")]);
        check(line, &[], &["PIP", MIGRATE, &format!("airflow {web}")]);
        for (said, called) in [
            ("scheduler", "scheduler"),
            ("triggerer", "triggerer"),
            ("dag-processor", "dag-processor"),
            ("worker -q x", "celery worker -q x"),
            ("celery worker", "celery worker"),
            ("flower", "celery flower"),
            ("airflow celery flower", "celery flower"),
            ("standalone", "standalone"),
            ("kerberos", "kerberos"),
        ] {
            let words: Vec<_> = said.split(' ').collect();
            let ready = if called == "standalone" { MIGRATE } else { SCHEMA };
            check(line, &words, &["PIP", ready, &format!("airflow {called}")]);
        }
        check(line, &["setup"], &[MIGRATE]);
        for (said, called) in [
            ("connections list", "airflow connections list"),
            ("initdb", MIGRATE),
            ("db upgrade", MIGRATE),
            ("upgradedb", MIGRATE),
            ("list_dags", "airflow dags list"),
            ("version", "airflow version"),
            ("config list", "airflow config list"),
            ("tasks run d t x", "airflow tasks run d t x"),
            ("run d t x", "airflow tasks run d t x"),
            ("worker --help", "airflow celery worker --help"),
            ("mycmd", "mycmd"),
        ] {
            check(line, &said.split(' ').collect::<Vec<_>>(), &[called]);
        }
    }
    check(&celery("2.6.3", &port), &["webserver"], &["PIP", "airflow db upgrade", "airflow webserver"]);
    check(&celery("2.7.0", &port), &["webserver"], &["PIP", MIGRATE, "airflow webserver"]);
    let told = celery(V2, &port).with("ENTRYPOINT_MIGRATE", "true");
    check(&told, &["scheduler"], &["PIP", MIGRATE, "airflow scheduler"]);
    // An Airflow of unknown version has the newest names.
    check(&celery("", &port), &["worker"], &["PIP", SCHEMA, "airflow celery worker"]);
    let said = celery("", &port).with("ENTRYPOINT_AIRFLOW_VERSION", "1.10.9");
    check(&said, &["worker"], &["PIP", SCHEMA_1, "airflow worker"]);
}

#[test]
fn every_command_is_prepared_for_when_told_so() {
    let (_listener, port) = local();
    for version in [V1, V2, V3] {
        let sandbox = celery(version, &port).with("ENTRYPOINT_PREPARE", "always");
        check(&sandbox, &["mycmd"], &["PIP", "mycmd"]);
        check(&sandbox, &["version"], &["PIP", "airflow version"]);
        check(&sandbox, &["airflow", "connections", "x"], &["PIP", "airflow connections x"]);
    }
}

#[test]
fn w10_who_waits_for_what() {
    let (listener, port) = local();
    let connections = || listener.connections();
    for version in [V1, V2, V3] {
        let sandbox = celery(version, &port);
        for (arguments, waits) in [
            (&["scheduler"][..], true),
            (&["setup"], true),
            (&["connections", "list"], true),
            (&["version"], false),
            (&["scheduler", "--help"], false),
            (&["run", "d", "t", "x"], false),
            (&["tasks", "run", "d", "t", "x"], false),
            (&["mycmd"], false),
            (&["explain", "scheduler"], false),
        ] {
            // A database and a broker, if any.
            sandbox.run(arguments).succeeds().same(connections(), if waits { 2 } else { 0 });
        }
        let local = sandbox.with("EXECUTOR", "Local");
        local.run(&["scheduler"]).succeeds().same(connections(), 1);
        let sequential = local.with("EXECUTOR", "Sequential").without("POSTGRES_HOST").without("POSTGRES_PORT");
        sequential.run(&["scheduler"]).succeeds().same(connections(), 0);
    }
}

#[test]
fn m01_who_does_not_migrate_waits_until_somebody_has() {
    let (_listener, port) = local();
    let hint = "airflow-entrypoint: hint: start a container that migrates (the web server, or the command `setup`), or set \
                `ENTRYPOINT_MIGRATE=true` here\n";
    for (version, call, seconds) in [(V1, "airflow-connections", 0), (V2, "airflow-db", 100), (V3, "airflow-db", 100)] {
        let check = match version {
            V1 => SCHEMA_1.to_owned(),
            _ => format!("airflow db check-migrations -t {seconds}"),
        };
        let sandbox = celery(version, &port).with("ENTRYPOINT_MIGRATE", "false");
        std::fs::remove_file(sandbox.path("requirements.txt")).unwrap();
        // Not ready the first time; what it says then is for nobody.
        let once = sandbox.text("once");
        sandbox.behave(call, &format!("[ -e {once} ] || {{ touch {once}; echo a traceback; exit 1; }}"));
        let outcome = sandbox.run(&["scheduler"]);
        let calls = [check.as_str(), &check, "airflow scheduler"].map(str::to_owned).to_vec();
        outcome.succeeds().same(sandbox.calls(), calls);
        outcome
            .check(![&outcome.stdout, &outcome.stderr].iter().any(|s| s.contains("traceback")), "it shows the check");

        sandbox.write("calls", "");
        sandbox.behave(call, "exit 1");
        let outcome = sandbox.run_with("ENTRYPOINT_WAIT_TIMEOUT", "300ms", &["scheduler"]);
        let error = "cannot start `scheduler`: the schema of the database is not ready after <s> s";
        outcome.fails(69, &format!("<lines>airflow-entrypoint: error: {error}\n{hint}"));
        outcome.same(sandbox.calls().len(), 1);

        // A stop, be it in the check or between two.
        for script in ["exit 1", "echo begun >&2; exec sleep 60"] {
            sandbox.behave(call, script);
            let running = sandbox.start(&["scheduler"]);
            running.until_stderr("until somebody has migrated the database");
            running.signal(running.main_pid(false), nix::sys::signal::Signal::SIGTERM);
            let stopped = "airflow-entrypoint: info: stopped by SIGTERM while waiting for the schema\n";
            running.finish().fails(143, &format!("<lines>{stopped}"));
        }
        // And the one who is told to migrate does.
        sandbox.write("calls", "");
        sandbox.behave(call, "");
        sandbox.run_with("ENTRYPOINT_MIGRATE", "true", &["scheduler"]).succeeds();
        let migrate = if version == V1 { MIGRATE_1 } else { MIGRATE };
        assert_eq!(sandbox.calls(), [migrate, "airflow scheduler"]);
    }
}

#[test]
fn requirements_go_where_the_interpreter_looks() {
    let sandbox = Sandbox::new(V2);
    sandbox.write("requirements.txt", "six\n");
    let file = sandbox.text("requirements.txt");
    check(&sandbox, &["scheduler"], &["PIP", MIGRATE, "airflow scheduler"]);
    // A virtual environment has no user site.
    sandbox.write("prefix/pyvenv.cfg", "");
    check(&sandbox, &["scheduler"], &[&format!("pip install -r {file}"), MIGRATE, "airflow scheduler"]);
    std::fs::remove_file(&file).unwrap();
    check(&sandbox, &["scheduler"], &[MIGRATE, "airflow scheduler"]);
}

/// Airflow's own lock makes who waits for it fail after 1.8 s on PostgreSQL; ours is waited for.
#[test]
fn m02_containers_on_one_key_volume_migrate_one_at_a_time() {
    let sandbox = Sandbox::new(V2);
    let folder = std::fs::File::open(sandbox.path("keys")).unwrap();
    let held = nix::fcntl::Flock::lock(folder, nix::fcntl::FlockArg::LockExclusive).unwrap();
    let running = sandbox.start(&["setup"]);
    running.until_stderr("info: waiting for another container that migrates the database\n");
    assert_eq!(sandbox.calls(), [""; 0]);
    drop(held);
    running.finish().succeeds();
    assert_eq!(sandbox.calls(), [MIGRATE]);
    // Nothing of it is left.
    assert_eq!(sandbox.names("keys"), ["fernet.key", "web_secret.key"]);
}
