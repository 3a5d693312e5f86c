//! The variables of the official image: what they do, in order, with programs that log how they were called.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};

use crate::namespace::isolated;
use crate::sandbox::{LINES, Sandbox, V1, V2, V3};

const FAB: &str = "airflow.providers.fab.auth_manager.fab_auth_manager.FabAuthManager";

/// What the compose file of Airflow's documentation gives its first container.
fn init(version: &str) -> Sandbox {
    let sandbox = Sandbox::new(version)
        .with("AIRFLOW__CORE__AUTH_MANAGER", FAB)
        .with("_AIRFLOW_DB_MIGRATE", "true")
        .with("_AIRFLOW_WWW_USER_CREATE", "true")
        .with("_AIRFLOW_WWW_USER_USERNAME", "airflow")
        .with("_AIRFLOW_WWW_USER_PASSWORD", "a password")
        .with("_PIP_ADDITIONAL_REQUIREMENTS", "");
    // Reads what it is told as Airflow does, and keeps it for the test.
    sandbox.behave("airflow-users", &format!("cat > '{}'", sandbox.text("told")));
    sandbox.behave("airflow-create_user", &format!("cat > '{}'", sandbox.text("told")));
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
fn u03_the_simple_login_keeps_no_accounts() {
    for sandbox in [
        init(V3).without("AIRFLOW__CORE__AUTH_MANAGER"),
        init(V3).with("AIRFLOW__CORE__AUTH_MANAGER", "x.SimpleAuthManager"),
    ] {
        let outcome = sandbox.run(&["version"]);
        outcome.succeeds().says("warning: `_AIRFLOW_WWW_USER_CREATE` is not used: the simple login of Airflow 3 keeps no accounts in the database; `AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS` names its users, and `AIRFLOW__CORE__AUTH_MANAGER` chooses another one");
        outcome.same(sandbox.calls(), vec!["airflow db migrate".to_owned(), "airflow version".to_owned()]);
    }
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
        let sandbox =
            init(V3).made_executable().with_path("AIRFLOW_CONFIG", "config/airflow.cfg").with("AIRFLOW_UID", "50123");
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
        let sandbox = init(V3).made_executable().with_path("AIRFLOW_CONFIG", "config/airflow.cfg");
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
