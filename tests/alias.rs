//! Called as `airflow`, in front of the real one: what the link of the Dockerfile is for.

use std::os::unix::fs::{chown, symlink};
use std::os::unix::process::CommandExt;
use std::process::Command;

use crate::namespace::is_root;
use crate::sandbox::{BINARY, Sandbox, V1, V2, V3};

const EMPTY: [&str; 3] =
    ["AIRFLOW__CORE__FERNET_KEY", "AIRFLOW__CORE__SQL_ALCHEMY_CONN", "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"];

/// A container whose variables say nothing, with our link in the first folder on `PATH`.
fn linked(version: &str) -> Sandbox {
    let sandbox = Sandbox::new(version).with("OTHER", "").with("AIRFLOW__CORE__EXECUTOR", "LocalExecutor");
    std::fs::create_dir(sandbox.path("link")).unwrap();
    symlink(BINARY, sandbox.path("link/airflow")).unwrap();
    let path = format!("{}:{}:/usr/bin:/bin", sandbox.text("link"), sandbox.text("prefix/bin"));
    EMPTY.into_iter().fold(sandbox.with("PATH", path), |sandbox, name| sandbox.with(name, ""))
}

/// What a shell does with `airflow connections list ''`.
fn by_name(sandbox: &Sandbox) -> Command {
    let mut command = sandbox.command(&[] as &[&str]);
    let environment: Vec<_> =
        command.get_envs().filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned()))).collect();
    command = Command::new(sandbox.path("link/airflow"));
    command.arg0("airflow").args(["connections", "list", ""]).env_clear().envs(environment);
    command
}

#[test]
fn e09_k07_as_airflow_it_takes_away_what_is_empty_and_no_more() {
    for version in [V1, V2, V3] {
        let sandbox = linked(version);
        sandbox.behave("airflow-connections", "echo listed; exit 3");
        let outcome = sandbox.start_command(by_name(&sandbox)).finish();
        outcome.same((outcome.code(), &*outcome.stdout, &*outcome.stderr), (3, "listed\n", ""));
        outcome.same(sandbox.call_words(), vec![["airflow", "connections", "list", ""].map(str::to_owned).to_vec()]);
        let seen = sandbox.seen("airflow-connections");
        for name in EMPTY {
            outcome.check(!seen.contains_key(name), name);
        }
        outcome.same((&*seen["OTHER"], &*seen["AIRFLOW__CORE__EXECUTOR"]), ("", "LocalExecutor"));
        outcome.same((sandbox.names("keys"), sandbox.names("home")), (vec![], vec![]));
    }
}

#[test]
fn p02_as_airflow_it_gives_an_unknown_user_a_name() {
    if !is_root() {
        return;
    }
    let sandbox = linked(V3).with("HOME", "/");
    for path in ["seen", "calls", ""] {
        chown(sandbox.path(path), Some(51_000), Some(0)).unwrap();
    }
    std::fs::remove_file(sandbox.path("link/airflow")).unwrap();
    std::fs::copy(BINARY, sandbox.path("link/airflow")).unwrap();
    let mut command = by_name(&sandbox);
    command.uid(51_000).gid(0);
    let outcome = sandbox.start_command(command).finish();
    outcome.same((outcome.code(), &*outcome.stderr), (0, ""));
    let seen = sandbox.seen("airflow-connections");
    let home = sandbox.text("home");
    outcome.same([&*seen["USER"], &*seen["LOGNAME"], &*seen["HOME"]], ["default", "default", &home]);
    // The control: who has a name keeps what the environment says.
    let sandbox = linked(V3).with("HOME", "/");
    sandbox.start_command(by_name(&sandbox)).finish();
    let seen = sandbox.seen("airflow-connections");
    outcome.same((seen.contains_key("USER"), &*seen["HOME"]), (false, "/"));
}

#[test]
fn a_start_looks_behind_the_link() {
    let sandbox = linked(V3).with("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", "sqlite:////var/tmp/none.db");
    let outcome = sandbox.run(&["scheduler"]);
    outcome.succeeds().same(sandbox.calls(), vec!["airflow db migrate".to_owned(), "airflow scheduler".to_owned()]);
    // Airflow calls itself by its name, too.
    let path = format!("{}:/usr/bin:/bin", sandbox.text("prefix/bin"));
    outcome.same(sandbox.variable("airflow-scheduler", "PATH"), Some(path));
}

#[test]
fn without_the_real_one_it_is_not_found() {
    let sandbox = linked(V3).with("PATH", "/usr/bin:/bin");
    let outcome = sandbox.start_command(by_name(&sandbox)).finish();
    outcome.fails(127, "airflow-entrypoint: error: cannot run `airflow`: no such file or directory\n<lines>");
}
