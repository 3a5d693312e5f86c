//! The variables of the official image: what they do, in order, with programs that log how they were called.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};

use nix::sys::signal::Signal;

use crate::namespace::isolated;
use crate::sandbox::{LINES, Sandbox, V1, V2, V3, key_mode};

const FAB: &str = "airflow.providers.fab.auth_manager.fab_auth_manager.FabAuthManager";

const DATABASE: &str = "home/airflow.db";
/// An account, as far as we look at it.
pub(crate) const MAKE: &str = "CREATE TABLE ab_user (id INTEGER PRIMARY KEY, first_name TEXT, last_name TEXT, username TEXT, password TEXT, \
    email TEXT); CREATE TABLE ab_role (id INTEGER PRIMARY KEY, name TEXT); CREATE TABLE ab_user_role (id INTEGER PRIMARY KEY, \
    user_id INTEGER, role_id INTEGER); INSERT INTO ab_user (username, email) VALUES ('airflow', 'x');";

/// What the compose file of Airflow's documentation gives its first container.
fn init(version: &str) -> Sandbox {
    let sandbox = Sandbox::new(version)
        .with("AIRFLOW__CORE__AUTH_MANAGER", FAB)
        .with("_AIRFLOW_DB_MIGRATE", "true")
        .with("_AIRFLOW_WWW_USER_CREATE", "true")
        .with("_AIRFLOW_WWW_USER_USERNAME", "airflow")
        .with("_AIRFLOW_WWW_USER_PASSWORD", "a password")
        .with("_PIP_ADDITIONAL_REQUIREMENTS", "");
    // Reads what it is told as Airflow does, keeps it for the test, and makes the account.
    let create = format!(
        "cat > '{}'\npython3 -c 'import sqlite3, sys; sqlite3.connect(sys.argv[1]).executescript(sys.argv[2])' '{}' \"{MAKE}\"",
        sandbox.text("told"),
        sandbox.text(DATABASE)
    );
    sandbox.behave("airflow-users", &create);
    sandbox.behave("airflow-create_user", &create);
    sandbox
}

fn create(version: &str) -> &'static str {
    if version == V1 { "airflow create_user" } else { "airflow users create" }
}

#[test]
fn u01_any_command_of_airflows_migrates_and_creates_the_account() {
    for version in LINES {
        let sandbox = init(version);
        let migrate = if version == V1 { "airflow initdb" } else { "airflow db migrate" };
        let create = format!(
            "{} --username airflow --firstname Airflow --lastname Admin --email airflowadmin@example.com --role Admin",
            create(version)
        );
        for arguments in [&["airflow", "version"][..], &["version"], &["config", "list"]] {
            sandbox.write("calls", "");
            let _ = fs::remove_file(sandbox.path(DATABASE));
            let outcome = sandbox.run(arguments);
            let command = format!("airflow {}", arguments.join(" ").trim_start_matches("airflow "));
            outcome.succeeds().same(sandbox.calls(), vec![migrate.to_owned(), create.clone(), command]);
            outcome.says("info: create the account `airflow`, if there is none of that name");
            outcome.same(sandbox.read("told").as_str(), "a password\na password\n");
        }
        // The password goes no further; neither does what would print it.
        let seen = sandbox.seen("airflow-config");
        assert!(
            !seen.contains_key("_AIRFLOW_WWW_USER_PASSWORD")
                && !seen.values().any(|value| value.contains("a password"))
        );
        // A key was made: the services that follow have the same one.
        assert!(sandbox.names("keys").contains(&"fernet.key".to_owned()));
        // Others than Airflow's own are left alone, and so are tasks.
        sandbox.write("calls", "");
        sandbox.run(&["mycmd"]).succeeds();
        sandbox.run(&["tasks", "run", "d", "t", "x"]).succeeds();
        assert!(
            sandbox.calls().iter().all(|call| !call.contains("migrate") && !call.contains("create")),
            "{:?}",
            sandbox.calls()
        );
    }
}

#[test]
fn what_says_no_is_no() {
    let sandbox = init(V2).with("_AIRFLOW_DB_MIGRATE", "false").with("_AIRFLOW_WWW_USER_CREATE", "0");
    sandbox.run(&["version"]).succeeds().same(sandbox.calls(), vec!["airflow version".to_owned()]);
    // Our own setting is the more explicit word.
    let sandbox = init(V2).with("ENTRYPOINT_MIGRATE", "false").without("_AIRFLOW_WWW_USER_CREATE");
    sandbox.run(&["version"]).succeeds().same(sandbox.calls(), vec!["airflow version".to_owned()]);
    let sandbox = init(V2).without("_AIRFLOW_DB_MIGRATE").with("_AIRFLOW_DB_UPGRADE", "true");
    let outcome = sandbox.run(&["version"]);
    outcome.succeeds().same(sandbox.calls()[0].as_str(), "airflow db migrate");
}

#[test]
fn u01_the_password_by_file_and_by_command() {
    let sandbox =
        init(V3).without("_AIRFLOW_WWW_USER_PASSWORD").with_path("_AIRFLOW_WWW_USER_PASSWORD_FILE", "password");
    sandbox.write("password", "of the file\n");
    sandbox.run(&["setup"]).succeeds().same(sandbox.read("told").as_str(), "of the file\nof the file\n");
    // A command wins, and a shell runs it, as in the official image.
    let sandbox = init(V3).with("_AIRFLOW_WWW_USER_PASSWORD_CMD", "printf '%s' of; echo ' the command'");
    sandbox.run(&["setup"]).succeeds().same(sandbox.read("told").as_str(), "of the command\nof the command\n");
    for (line, problem) in [
        ("exit 3", "it ended with status 3"),
        ("true", "it printed nothing"),
        ("printf 'a\\nb'", "expected one line, found a line end"),
        ("printf '\\377'", "expected UTF-8 text"),
    ] {
        let sandbox = init(V3).with("_AIRFLOW_WWW_USER_PASSWORD_CMD", line);
        let name = if problem.starts_with("expected one") {
            "_AIRFLOW_WWW_USER_PASSWORD"
        } else {
            "_AIRFLOW_WWW_USER_PASSWORD_CMD"
        };
        let outcome = sandbox.run(&["setup"]);
        outcome
            .fails(78, &format!("<lines>airflow-entrypoint: error: cannot use the password of `{name}`: {problem}\n"));
        assert!(!sandbox.calls().iter().any(|call| call.contains("users")), "{outcome:?}");
    }
}

#[test]
fn u02_what_goes_wrong_ends_the_start() {
    let sandbox = init(V2);
    sandbox.behave("airflow-users", "cat > /dev/null; echo 'Admn is not a valid role' >&2; exit 1");
    let outcome = sandbox.run(&["webserver"]);
    outcome.fails(1, "<lines>Admn is not a valid role\nairflow-entrypoint: error: cannot create the account: `airflow users create ...` ended with status 1\n");
    assert!(!sandbox.calls().contains(&"airflow webserver".to_owned()));
    let sandbox = init(V2).without("_AIRFLOW_WWW_USER_PASSWORD");
    let outcome = sandbox.run(&["webserver"]);
    outcome.fails(78, "airflow-entrypoint: error: cannot create the account of `_AIRFLOW_WWW_USER_CREATE`: expected its password in `_AIRFLOW_WWW_USER_PASSWORD`, `_AIRFLOW_WWW_USER_PASSWORD_FILE` or `_AIRFLOW_WWW_USER_PASSWORD_CMD`, found none\n");
    outcome.same((sandbox.calls(), sandbox.names("keys"), sandbox.names("home")), (vec![], vec![], vec![]));
}

#[test]
fn u08_a_start_that_was_killed_before_the_account_is_made_up_for() {
    let sandbox = init(V2);
    let create = sandbox.read("behaviour/airflow-users");
    sandbox.behave("airflow-users", "echo asked >&2; exec sleep 1000");
    let killed = sandbox.start(&["webserver"]);
    killed.until_stderr("asked\n");
    killed.signal(killed.main_pid(false), Signal::SIGKILL);
    killed.ends();
    assert!(!sandbox.path(DATABASE).exists());
    sandbox.behave("airflow-users", &create);
    let outcome = sandbox.run(&["webserver"]);
    outcome.succeeds().says("info: create the account `airflow`, if there is none of that name");
    sandbox.write("calls", "");
    let outcome = sandbox.run(&["webserver"]);
    outcome.succeeds().says("info: the account `airflow` exists");
    outcome.check(!sandbox.calls().iter().any(|call| call.contains("users")), "it is created again");
}

#[test]
fn u03_the_simple_login_gets_the_user_and_the_password() {
    let file = "keys/simple_auth_manager_passwords.json";
    for sandbox in [
        init(V3).without("AIRFLOW__CORE__AUTH_MANAGER"),
        init(V3).with("AIRFLOW__CORE__AUTH_MANAGER", "x.SimpleAuthManager"),
    ] {
        let mut sandbox = sandbox.with("ENTRYPOINT_EPHEMERAL_KEY", "true");
        sandbox.write(file, "{\"superairflow\": \"y\"}");
        let outcome = sandbox.run(&["version"]);
        let path = sandbox.text(file);
        outcome
            .succeeds()
            .says(&format!("info: create the account `airflow` in `{path}`, if there is none of that name"));
        outcome.same(sandbox.calls(), vec!["airflow db migrate".to_owned(), "airflow version".to_owned()]);
        let variable =
            |name: &str| sandbox.variable("airflow-version", &format!("AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_{name}"));
        outcome.same(variable("USERS").as_deref(), Some("airflow:admin"));
        outcome.same(variable("PASSWORDS_FILE"), Some(path));
        let text = "{\"airflow\":\"a password\",\"superairflow\":\"y\"}\n";
        outcome.same((sandbox.read(file).as_str(), sandbox.mode(file)), (text, key_mode()));
        // U06: it stays what it is unless that is asked for.
        sandbox.set("_AIRFLOW_WWW_USER_PASSWORD", "another");
        let outcome = sandbox.run(&["version"]);
        outcome.succeeds().says("info: the account `airflow` exists").same(sandbox.read(file).as_str(), text);
        sandbox.set("ENTRYPOINT_USER_MODE", "sync");
        let outcome = sandbox.run(&["version"]);
        outcome.succeeds().says("info: the account `airflow` exists; updated: password");
        outcome.same(sandbox.read(file), text.replace("a password", "another"));
        sandbox.run(&["version"]).succeeds().says("info: the account `airflow` exists");
        sandbox.write(file, "[\"another\"]");
        let error = format!("cannot use the password file `{}`: it is not a JSON object of texts", sandbox.text(file));
        let hint = "it is JSON, `{\"name\": \"password\"}`";
        let lines = format!("<lines>airflow-entrypoint: error: {error}\nairflow-entrypoint: hint: {hint}\n");
        sandbox.run(&["version"]).fails(78, &lines);
    }
}

#[test]
fn u03_what_the_simple_login_has_not_is_told() {
    let simple = || init(V3).without("AIRFLOW__CORE__AUTH_MANAGER");
    let sandbox = simple().with("_AIRFLOW_WWW_USER_ROLE", "Public");
    let error = "cannot give the account `airflow` the role `Public`: there is none of that name";
    let hint = "set `_AIRFLOW_WWW_USER_ROLE` to one of `admin`, `op`, `user`, `viewer`";
    let lines = format!("airflow-entrypoint: error: {error}\nairflow-entrypoint: hint: {hint}\n");
    sandbox.run(&["version"]).fails(78, &lines).same(sandbox.calls(), vec![]);
    let sandbox = simple().with("_AIRFLOW_WWW_USER_USERNAME", "a:b");
    let error = "cannot name a user of the simple login `a:b`: expected no comma, no colon and no blank at the ends";
    let hint = "set `_AIRFLOW_WWW_USER_USERNAME` to another one";
    let lines = format!("airflow-entrypoint: error: {error}\nairflow-entrypoint: hint: {hint}\n");
    sandbox.run(&["version"]).fails(78, &lines).same(sandbox.calls(), vec![]);
    // Whoever names the users is believed.
    let sandbox = simple().with("AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS", "superairflow:op");
    let outcome = sandbox.run(&["version"]);
    outcome.succeeds().says("warning: the account `airflow` is not created: `AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS` says who the users of the simple login are, and does not name it");
}

#[test]
fn w02_the_number_of_checks_is_the_time_limit() {
    let sandbox = Sandbox::new(V2)
        .with("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", "postgresql://u:p@127.0.0.1:1/d")
        .with("CONNECTION_CHECK_MAX_COUNT", "1")
        .with("CONNECTION_CHECK_SLEEP_TIME", "1");
    let outcome = sandbox.run(&["connections", "list"]);
    outcome.check(outcome.code() == 69, "it goes on without the database");
    outcome.says("info: waiting for the database `127.0.0.1:1`, at most 1s");
    let outcome = sandbox.run_with("CONNECTION_CHECK_MAX_COUNT", "0", &["connections", "list"]);
    outcome.succeeds().same(sandbox.calls(), vec!["airflow connections list".to_owned()]);
    // Our own setting is the more explicit word.
    let outcome = sandbox.run_with("ENTRYPOINT_WAIT_TIMEOUT", "off", &["connections", "list"]);
    outcome.succeeds();
}

#[test]
fn p01_root_opens_the_folders_that_the_engine_made_for_it() {
    isolated("official::p01_root_opens_the_folders_that_the_engine_made_for_it", "", || {
        // The engine makes the folder of a bind mount for root; the compose file's first container is root, and Airflow must write there.
        let sandbox = init(V3)
            .without("_AIRFLOW_WWW_USER_CREATE")
            .made_executable()
            .with_path("AIRFLOW_CONFIG", "config/airflow.cfg")
            .with("AIRFLOW_UID", "50123");
        let passwd = fs::read_to_string("/etc/passwd").unwrap();
        for folder in ["config", "home/logs", "home/logs/kept"] {
            fs::create_dir_all(sandbox.path(folder)).unwrap();
            fs::set_permissions(sandbox.path(folder), fs::Permissions::from_mode(0o755)).unwrap();
        }
        for ours in ["seen", "calls", ""] {
            chown(sandbox.path(ours), Some(50_123), Some(0)).unwrap();
        }
        let outcome = sandbox.run(&["version"]);
        let owner = |relative: &str| fs::metadata(sandbox.path(relative)).unwrap().uid();
        outcome.succeeds().says(&format!("info: `{}`: root's, given to 50123:0", sandbox.text("config")));
        outcome.same(
            ["config", "home/logs", "home/logs/kept", "config/airflow.cfg"].map(owner),
            [50_123, 50_123, 0, 50_123],
        );
        outcome.same(owner("keys/fernet.key"), 50_123);
        fs::write("/etc/passwd", passwd).unwrap();
        // An unknown user finds Airflow in the home that the image names.
        let sandbox = sandbox.with("AIRFLOW_USER_HOME_DIR", "/home/airflow");
        sandbox.run(&["version"]).succeeds();
        assert_eq!(sandbox.variable("airflow-version", "HOME").as_deref(), Some("/home/airflow"));
    });
}

#[test]
fn p01_root_becomes_whom_the_folders_were_made_by() {
    isolated("official::p01_root_becomes_whom_the_folders_were_made_by", "", || {
        // The compose file does not tell its first container whose the folders are that it mounts.
        let sandbox = init(V3)
            .without("_AIRFLOW_WWW_USER_CREATE")
            .made_executable()
            .with_path("AIRFLOW_CONFIG", "config/airflow.cfg");
        for (folder, uid, gid) in [("config", 51_000, 51_000), ("home/logs", 51_000, 51_000), ("home", 50_000, 0)] {
            fs::create_dir_all(sandbox.path(folder)).unwrap();
            fs::set_permissions(sandbox.path(folder), fs::Permissions::from_mode(0o755)).unwrap();
            chown(sandbox.path(folder), Some(uid), Some(gid)).unwrap();
        }
        for ours in ["seen", "calls", ""] {
            chown(sandbox.path(ours), Some(51_000), Some(0)).unwrap();
        }
        let outcome = sandbox.run(&["version"]);
        outcome.succeeds().says("info: become the user `default` (51000:0)");
        let metadata = fs::metadata(sandbox.path("config/airflow.cfg")).unwrap();
        outcome.same((metadata.uid(), metadata.gid(), metadata.mode() & 0o777), (51_000, 0, 0o640));
        outcome.same(fs::metadata(sandbox.path("keys/fernet.key")).unwrap().uid(), 51_000);
        // The control: a log folder that everybody may write to says nothing about whose Airflow is.
        fs::set_permissions(sandbox.path("home/logs"), fs::Permissions::from_mode(0o1777)).unwrap();
        sandbox.run(&["version"]).says("info: become the user `default` (50000:0)");
    });
}

#[test]
fn slips_of_the_pen_are_told() {
    let sandbox =
        Sandbox::new(V2).with("AIRFLOW__CORE__FERNETKEY", "x").with("AIRFLOW_CORE__EXECUTOR", "LocalExecutor");
    let outcome = sandbox.run(&["scheduler"]);
    for (name, meant) in [
        ("AIRFLOW__CORE__FERNETKEY", "AIRFLOW__CORE__FERNET_KEY"),
        ("AIRFLOW_CORE__EXECUTOR", "AIRFLOW__CORE__EXECUTOR"),
    ] {
        outcome
            .says(&format!("warning: `{name}` is nothing that Airflow or this program reads; did you mean `{meant}`?"));
    }
    outcome.succeeds();
    let control = sandbox.without("AIRFLOW__CORE__FERNETKEY").without("AIRFLOW_CORE__EXECUTOR").run(&["scheduler"]);
    control.succeeds().check(!control.stderr.contains("warning"), "the control warns");
}
