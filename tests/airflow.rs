//! Real Airflows of all three lines behind the binary, on SQLite, in a virtual environment each.

use std::collections::BTreeMap;
use std::thread;

use crate::home::{Home, Said};
use crate::sandbox::{V1, V2, V3, new_key};

/// What Airflow's Python reads as the variable, with all that the rendered file says.
const READ: &str = "from airflow.models import Variable\nprint(Variable.get('v'))";
const WRITE: &str = "from airflow.models import Variable\nVariable.set('v', 'precious')";

fn setting(version: &str) -> &'static [&'static str] {
    if version == V1 { &["variables", "--set", "v", "precious"] } else { &["variables", "set", "v", "precious"] }
}

fn getting(version: &str) -> &'static [&'static str] {
    if version == V1 { &["variables", "--get", "v"] } else { &["variables", "get", "v"] }
}

#[track_caller]
fn succeeds(said: &Said) {
    assert_eq!(said.status, 0, "{}", said.text);
}

/// By us and by a bare `airflow`, at once.
#[track_caller]
fn both_read(home: &Home, variables: &[(&str, &str)]) {
    let words = getting(home.version);
    let (ours, bare) = thread::scope(|scope| {
        let ours = scope.spawn(|| home.ours(words, variables));
        (home.bare(words, &[]), ours.join().unwrap())
    });
    for said in [ours, bare] {
        assert!(said.status == 0 && said.text.contains("precious"), "{}", said.text);
    }
}

fn what_one_start_encrypts_the_next_one_reads(version: &'static str) {
    let Some(home) = Home::new(version, None) else { return };
    succeeds(&home.ours(&["setup"], &[]));
    succeeds(&home.ours(setting(version), &[]));
    // E09: a bare `airflow` has the same database and key, by the rendered file alone.
    both_read(&home, &[]);
    // The control: with another key it is lost.
    let other = home.asked(READ, &[], "", &new_key());
    assert!(!other.stdout.contains("precious") && other.status == 1, "{}{}", other.stdout, other.stderr);
}

#[test]
fn k01_what_one_start_encrypts_the_next_one_reads_on_airflow_1() {
    what_one_start_encrypts_the_next_one_reads(V1);
}

#[test]
fn k01_what_one_start_encrypts_the_next_one_reads_on_airflow_2() {
    what_one_start_encrypts_the_next_one_reads(V2);
}

#[test]
fn k01_what_one_start_encrypts_the_next_one_reads_on_airflow_3() {
    what_one_start_encrypts_the_next_one_reads(V3);
}

/// With `ENTRYPOINT_SECRETS=cmd` no secret is in the environment nor in the file, and Airflow works all the same.
fn airflow_reads_its_secrets_by_command(version: &'static str) {
    let Some(home) = Home::new(version, None) else { return };
    let folder = home.path("");
    let by_command = [("ENTRYPOINT_SECRETS", "cmd"), ("TMPDIR", &*folder)];
    succeeds(&home.ours(&["setup"], &by_command));
    succeeds(&home.ours(setting(version), &by_command));
    both_read(&home, &by_command);
    // With the key itself: it was encrypted with that one.
    let key = std::fs::read_to_string(home.file()).unwrap();
    home.python(READ, &[], key.trim(), "precious");
    let seen =
        home.ours(&["--", "env"], &by_command).text + &std::fs::read_to_string(home.path("home/airflow.cfg")).unwrap();
    assert!(seen.contains("AIRFLOW__CORE__FERNET_KEY_CMD=cat ") && !seen.contains(key.trim()), "{seen}");
}

#[test]
fn x08_airflow_1_reads_its_secrets_by_command() {
    airflow_reads_its_secrets_by_command(V1);
}

#[test]
fn x08_airflow_2_reads_its_secrets_by_command() {
    airflow_reads_its_secrets_by_command(V2);
}

#[test]
fn x08_airflow_3_reads_its_secrets_by_command() {
    airflow_reads_its_secrets_by_command(V3);
}

/// As README has it: the new key in front, rotate, leave out the old one.
fn rotation_by_airflows_own_command(version: &'static str) {
    let Some(home) = Home::new(version, None) else { return };
    let (old, new) = (new_key(), new_key());
    succeeds(&home.ours(&["setup"], &[("FERNET_KEY", &old)]));
    home.python(WRITE, &[], &old, "");
    let read = |key: &str| home.asked(READ, &[], "", key).stdout.contains("precious");
    assert!(read(&old) && !read(&new));
    succeeds(&home.ours(&["rotate-fernet-key"], &[("FERNET_KEY", &format!("{new},{old}"))]));
    assert!(read(&new), "{version}: the new key alone does not read it");
    assert!(!read(&old), "{version}: the old key still reads it");
}

#[test]
fn k10_rotation_by_the_command_of_airflow_1() {
    rotation_by_airflows_own_command(V1);
}

#[test]
fn k10_rotation_by_the_command_of_airflow_2() {
    rotation_by_airflows_own_command(V2);
}

#[test]
fn k10_rotation_by_the_command_of_airflow_3() {
    rotation_by_airflows_own_command(V3);
}

/// M05: commands by the names of other lines, run by the real thing. Which names become the same command is said by `explain`; that
/// command runs once.
fn commands_of_other_lines_run(version: &'static str) {
    let Some(home) = Home::new(version, None) else { return };
    succeeds(&home.ours(&["setup"], &[]));
    // The command group `celery` exists on 2.x only with a Celery executor.
    let executor = |words: &[&str]| [("EXECUTOR", if words.contains(&"--help") { "Celery" } else { "Sequential" })];
    let mut all: BTreeMap<String, &[&str]> = BTreeMap::new();
    for words in [
        &["initdb"][..],
        &["db", "migrate"],
        &["upgradedb"],
        &["checkdb"],
        &["db", "check"],
        &["list_dags"],
        &["dags", "list"],
        &["worker", "--help"],
        &["celery", "worker", "--help"],
        &["api-server", "--help"],
        &["webserver", "--help"],
        &["airflow", "rotate_fernet_key"],
        &["version"],
    ] {
        let plan = home.ours(&[&["explain"], words].concat(), &executor(words));
        succeeds(&plan);
        let becomes = plan.text.lines().find_map(|line| line.split_once(". become `airflow "));
        all.insert(becomes.unwrap_or_else(|| panic!("{}", plan.text)).1.to_owned(), words);
    }
    assert_eq!(all.len(), if version == V1 { 8 } else { 7 }, "{all:?}");
    let run = |words: &[&str]| {
        let said = home.ours(words, &executor(words));
        assert_eq!(said.status, 0, "{} on {version}: {}", words.join(" "), said.text);
    };
    // At once those that only read. The rendered file is as the executor wants it.
    let changes =
        |name: &str| ["db migrate", "initdb", "upgradedb", "rotate"].iter().any(|word| name.starts_with(word));
    let (changing, reading): (Vec<_>, Vec<_>) = all.iter().partition(|(name, _)| changes(name));
    changing.into_iter().for_each(|(_, words)| run(words));
    let (helping, reading): (Vec<_>, Vec<_>) = reading.into_iter().partition(|(_, words)| words.contains(&"--help"));
    for group in [helping, reading] {
        thread::scope(|scope| {
            for (_, words) in group {
                scope.spawn(|| run(words));
            }
        });
    }
}

#[test]
fn m05_commands_of_other_lines_run_on_airflow_1() {
    commands_of_other_lines_run(V1);
}

#[test]
fn m05_commands_of_other_lines_run_on_airflow_2() {
    commands_of_other_lines_run(V2);
}

#[test]
fn m05_commands_of_other_lines_run_on_airflow_3() {
    commands_of_other_lines_run(V3);
}

/// What scheduler, worker and flower wait for in place of the fixed `sleep 10`: with us, and by Airflow's own command where its
/// migrations cannot be read. H07: a scheduler that ends on purpose ends with 0.
fn the_schema_is_waited_for_before_and_found_after_the_migration(version: &'static str) {
    let Some(home) = Home::empty(version) else { return };
    let wait = [("ENTRYPOINT_MIGRATE", "false"), ("ENTRYPOINT_WAIT_TIMEOUT", "1s")];
    let early = home.ours(&["scheduler", "-n", "1"], &wait);
    assert_eq!(early.status, 69, "{}", early.text);
    let error = "error: cannot start `scheduler`: the database has no schema, and this Airflow's head is `";
    assert!(early.text.contains(error), "{}", early.text);
    let managers = ("AIRFLOW__DATABASE__EXTERNAL_DB_MANAGERS", "other.Manager");
    if version == V3 {
        let blind = home.ours(&["scheduler", "-n", "1"], &[&wait[..], &[managers]].concat());
        assert_eq!(blind.status, 69, "{}", blind.text);
        let error = "error: cannot start `scheduler`: the schema of the database is not ready after ";
        assert!(blind.text.contains(error), "{}", blind.text);
    }
    succeeds(&home.ours(&["setup"], &[]));
    let late = home.ours(&["scheduler", "-n", "1"], &wait);
    succeeds(&late);
    assert!(late.text.contains("become `airflow scheduler ...`"), "{}", late.text);
}

#[test]
fn m01_h07_the_schema_is_waited_for_and_a_real_scheduler_runs_on_airflow_1() {
    the_schema_is_waited_for_before_and_found_after_the_migration(V1);
}

#[test]
fn m01_h07_the_schema_is_waited_for_and_a_real_scheduler_runs_on_airflow_2() {
    the_schema_is_waited_for_before_and_found_after_the_migration(V2);
}

#[test]
fn m01_h07_the_schema_is_waited_for_and_a_real_scheduler_runs_on_airflow_3() {
    the_schema_is_waited_for_before_and_found_after_the_migration(V3);
}
