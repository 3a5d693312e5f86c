//! The real Airflows' migrations: what we read of them is what they leave in the database.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::databases::Database;
use crate::namespace::present;
use crate::running::Running;
use crate::sandbox::{Sandbox, V1, V2, V3};

/// For an Airflow that migrates beside others.
const PATIENCE: Duration = Duration::from_secs(120);
/// What is said by who migrates.
const MIGRATES: &str =
    "info: migrate the database under a lock with `airflow db migrate`, unless its schema is at its head\n";

/// Containers of a real Airflow in front of a database, which is SQLite's where none is given; none where it is not installed.
fn airflow(version: &str, database: Option<&Database>) -> Option<Sandbox> {
    let venv = crate::referee::venv(&format!("airflow-{version}"), version != V1)?;
    let sandbox = Sandbox::new("").with("PATH", path(&venv)).with_path("HOME", "home");
    Some(match database {
        Some(database) => {
            let section = if version == V1 { "CORE" } else { "DATABASE" };
            let url = database.create("airflow");
            sandbox.with("EXECUTOR", "Local").with(&format!("AIRFLOW__{section}__SQL_ALCHEMY_CONN"), url)
        }
        None => sandbox,
    })
}

fn path(venv: &std::path::Path) -> String {
    format!("{}:/usr/bin:/bin", venv.join("bin").display())
}

/// Whether this Airflow can talk to MariaDB.
pub(crate) fn speaks_mariadb(version: &str) -> bool {
    let folder =
        crate::referee::venv(&format!("airflow-{version}"), true).map(|venv| venv.join("lib/python3.11/site-packages"));
    present("mysqlclient", folder.is_some_and(|folder: PathBuf| folder.join("MySQLdb").exists()))
}

fn heads(version: &str) -> &'static str {
    if version == V2 { "`5f2621c13b39`" } else { "`d2f4e1b3c5a7` and `02ca36b0235b`" }
}

/// The programs that were run, as strace has noted them.
fn programs(sandbox: &Sandbox, command: &str) -> String {
    let log = sandbox.text("strace");
    let words = ["strace", "-f", "-qq", "-e", "trace=execve", "-e", "signal=none", "-o", &log];
    sandbox.start_command(behind(sandbox, &words, command)).finish_within(PATIENCE).succeeds();
    fs::read_to_string(log)
        .unwrap()
        .lines()
        .filter(|line| line.ends_with("= 0"))
        .map(|line| format!("{line}\n"))
        .collect()
}

fn behind(sandbox: &Sandbox, words: &[&str], command: &str) -> std::process::Command {
    let ours = sandbox.command(&[command]);
    let mut all = std::process::Command::new(words[0]);
    all.args(&words[1..]).arg(ours.get_program()).args(ours.get_args()).env_clear().current_dir(sandbox.path(""));
    all.envs(ours.get_envs().filter_map(|(name, value)| Some((name, value?))));
    all
}

/// Several start at once on an empty database: one migrates. Then none runs any Python for it.
fn one_migrates_and_then_none(version: &str, database: Option<&Database>, starters: usize) {
    let Some(sandbox) = airflow(version, database) else { return };
    let all: Vec<Running> = (0..starters).map(|_| sandbox.start(&["setup"])).collect();
    let all: Vec<_> = all.into_iter().map(|running| running.finish_within(PATIENCE)).collect();
    let at_head = format!("info: the schema is at its head {}", heads(version));
    for outcome in &all {
        outcome.succeeds().says(&at_head);
    }
    assert_eq!(all.iter().filter(|outcome| outcome.stderr.contains(MIGRATES)).count(), 1);

    let programs_of_setup = || programs(&sandbox, "setup");
    let seen = programs_of_setup();
    assert_eq!(seen.lines().count(), 1, "{seen}");
    // The control: a migration that was not finished is.
    let Some(database) = database else { return };
    database.sql(Some("airflow"), "DELETE FROM slot_pool");
    let seen = programs_of_setup();
    assert!(seen.contains(r#"["airflow", "db", "migrate"]"#), "{seen}");
    assert_eq!(database.sql(Some("airflow"), "SELECT pool FROM slot_pool"), "default_pool\n");
    let seen = programs_of_setup();
    assert_eq!(seen.lines().count(), 1, "{seen}");
}

#[test]
fn m02_one_of_several_migrates_to_airflow_2_on_postgresql_and_at_the_head_no_python_runs() {
    let Some(database) = Database::postgres() else { return };
    one_migrates_and_then_none(V2, Some(&database), 4);
}

#[test]
fn m02_one_of_several_migrates_to_airflow_3_on_postgresql_and_at_the_head_no_python_runs() {
    let Some(database) = Database::postgres() else { return };
    one_migrates_and_then_none(V3, Some(&database), 2);
}

#[test]
fn m02_one_of_several_migrates_to_airflow_2_on_mariadb_and_at_the_head_no_python_runs() {
    let Some(database) = Database::mariadb().filter(|_| speaks_mariadb(V2)) else { return };
    one_migrates_and_then_none(V2, Some(&database), 2);
}

#[test]
fn m02_one_of_several_migrates_to_airflow_3_on_mariadb_and_at_the_head_no_python_runs() {
    let Some(database) = Database::mariadb().filter(|_| speaks_mariadb(V3)) else { return };
    one_migrates_and_then_none(V3, Some(&database), 2);
}

#[test]
fn m02_one_of_several_migrates_to_airflow_2_on_sqlite_and_at_the_head_no_python_runs() {
    one_migrates_and_then_none(V2, None, 2);
}

#[test]
fn m02_one_of_several_migrates_to_airflow_3_on_sqlite_and_at_the_head_no_python_runs() {
    one_migrates_and_then_none(V3, None, 2);
}

/// 1.10 has another command for it.
#[test]
fn airflow_1_is_migrated_on_postgresql() {
    let Some(database) = Database::postgres() else { return };
    let Some(sandbox) = airflow(V1, Some(&database)) else { return };
    let outcome = sandbox.start(&["setup"]).finish_within(PATIENCE);
    outcome.succeeds().says("info: the schema is at its head `03afc6b6f902`");
    assert_eq!(database.sql(Some("airflow"), "SELECT pool FROM slot_pool"), "default_pool\n");
}

fn when_a_real_migrator_is_killed_half_way_another_takes_over(version: &str) {
    let Some(database) = Database::postgres() else { return };
    let Some(sandbox) = airflow(version, Some(&database)) else { return };
    let killed = sandbox.start(&["setup"]);
    // It is about to make the tables.
    killed.until_stderr("Context impl PostgresqlImpl");
    let next = sandbox.start(&["setup"]);
    next.until_stderr(&format!("(process {}) at 127.0.0.1 migrates\n", killed.main_pid(false)));
    killed.signal(killed.main_pid(false), Signal::SIGKILL);
    // Its migration ends with it.
    killed.ends();
    let outcome = next.finish_within(PATIENCE);
    outcome.succeeds().says(&format!("info: the schema is at its head {}", heads(version)));
    outcome.check(outcome.stderr.contains(MIGRATES), "it did not migrate");
    assert_eq!(database.sql(Some("airflow"), "SELECT pool FROM slot_pool"), "default_pool\n");
}

#[test]
fn m02_when_a_real_migrator_of_airflow_2_is_killed_half_way_another_takes_over() {
    when_a_real_migrator_is_killed_half_way_another_takes_over(V2);
}

#[test]
fn m02_when_a_real_migrator_of_airflow_3_is_killed_half_way_another_takes_over() {
    when_a_real_migrator_is_killed_half_way_another_takes_over(V3);
}

/// A database of 1.10 cannot go straight to 3, and can by way of 2.
#[test]
fn the_way_from_an_old_database_to_airflow_3_is_the_one_that_is_told() {
    let Some(old) = airflow(V1, None) else { return };
    old.start(&["setup"]).finish_within(PATIENCE).succeeds().says("info: the schema is at its head `03afc6b6f902`");
    let mut sandbox = old;
    let become_version = |sandbox: &mut Sandbox, version: &str| {
        let venv = crate::referee::venv(&format!("airflow-{version}"), true)?;
        sandbox.set("PATH", path(&venv));
        Some(())
    };
    let Some(()) = become_version(&mut sandbox, V3) else { return };
    let outcome = sandbox.start(&["setup"]).finish_within(PATIENCE);
    let error = format!(
        "cannot use the database `{}`: the schema is at `03afc6b6f902`, which this Airflow does not know (its head is `d2f4e1b3c5a7`)",
        sandbox.text("home/airflow.db")
    );
    let hint = "Airflow 3 migrates from 2.6.2 on: back the database up, migrate it with an image of the newest 2.x (`setup` does), and then start this one";
    outcome.fails(78, &format!("<lines>airflow-entrypoint: error: {error}\nairflow-entrypoint: hint: {hint}\n"));
    for version in [V2, V3] {
        let Some(()) = become_version(&mut sandbox, version) else { return };
        let outcome = sandbox.start(&["setup"]).finish_within(PATIENCE);
        outcome.succeeds().says(&format!("info: the schema is at its head {}", heads(version)));
        outcome.check(outcome.stderr.contains(MIGRATES), "it did not migrate");
    }
    // And back it does not go.
    let Some(()) = become_version(&mut sandbox, V2) else { return };
    let outcome = sandbox.start(&["setup"]).finish_within(PATIENCE);
    outcome.same(outcome.code(), 78);
    outcome.says("hint: most likely a newer Airflow has migrated it: <any>");
}
