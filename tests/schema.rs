//! What the schema in the database is to the installed Airflow, seen without starting it.

use nix::sys::signal::Signal;

use crate::databases::Database;
use crate::sandbox::{V1, V2, V3};
use crate::stage::{AT_HEAD, FAB, MIGRATE, Stage, VERSIONS, migration};

#[test]
fn m01_at_its_head_no_airflow_is_started_for_it() {
    Stage::each(V2, |stage| {
        let sandbox = &stage.sandbox;
        // The control: it is not at its head.
        sandbox
            .run(&["webserver"])
            .succeeds()
            .says("info: the database has no schema, and this Airflow's head is `b2`");
        assert_eq!(stage.migrations(), 1);
        for (command, runs) in [(&["webserver"], true), (&["scheduler"], true), (&["setup"], false)] {
            sandbox.write("calls", "");
            let outcome = sandbox.run(command);
            outcome.succeeds().says("info: the schema is at its head `b2`");
            // The web server runs the scheduler too.
            outcome.same((stage.migrations(), !sandbox.calls().is_empty()), (0, runs));
        }
        // What a migration does last was not done.
        stage.sql("DELETE FROM slot_pool");
        stage.migrator(&stage.script("INSERT INTO slot_pool VALUES (1, ''default_pool'')"));
        sandbox
            .run(&["setup"])
            .succeeds()
            .says("info: the last migration was not finished, and this Airflow's head is `b2`");
        assert_eq!(stage.migrations(), 1);
    });
}

#[test]
fn a_schema_of_another_airflow_ends_the_start() {
    Stage::each(V3, |stage| {
        let sandbox = &stage.sandbox;
        let foreign = |found: &str, hint: &str| {
            for command in [&["setup"], &["scheduler"], &["webserver"]] {
                let error = format!(
                    "cannot use the database {}: the schema is at {found}, which this Airflow does not know (its head is `b2`)",
                    stage.name()
                );
                let outcome = sandbox.run(command);
                outcome.fails(
                    78,
                    &format!("<lines>airflow-entrypoint: error: {error}\nairflow-entrypoint: hint: {hint}\n"),
                );
                outcome.same(sandbox.calls(), vec![]);
            }
        };
        stage.sql(AT_HEAD);
        stage.sql("UPDATE alembic_version SET version_num = ''ffffffffffff''");
        let newer = "most likely a newer Airflow has migrated it: start that image again, restore the backup from before, or go back with that image's `airflow db downgrade`";
        foreign("`ffffffffffff`", newer);
        stage.sql("INSERT INTO alembic_version VALUES (''b2'')");
        foreign("`b2` and `ffffffffffff`", newer);
        // That of 1.10 and of 2.x to 2.6.1, whose revisions Airflow 3 has forgotten.
        stage.sql("DELETE FROM alembic_version; INSERT INTO alembic_version VALUES (''03afc6b6f902''); CREATE TABLE sla_miss (task_id INTEGER)");
        foreign(
            "`03afc6b6f902`",
            "Airflow 3 migrates from 2.6.2 on: back the database up, migrate it with an image of the newest 2.x (`setup` does), and then start this one",
        );
    });
}

#[test]
fn the_fab_providers_tables_are_compared_where_they_are_and_missed_where_they_are_needed() {
    let stage = Stage::new(V3, None);
    let sandbox = &stage.sandbox;
    sandbox.write(&format!("{FAB}/0001_fab.py"), migration("f1", "None"));
    stage.sql(AT_HEAD);
    sandbox.run(&["setup"]).succeeds().says("info: the schema is at its head `b2`");
    let fab = "airflow.providers.fab.auth_manager.fab_auth_manager.FabAuthManager";
    stage.migrator(&stage.script(
        "CREATE TABLE alembic_version_fab (version_num VARCHAR(32)); INSERT INTO alembic_version_fab VALUES (''f1'')",
    ));
    let outcome = sandbox.run_with("AIRFLOW__CORE__AUTH_MANAGER", fab, &["setup"]);
    outcome.succeeds().says("info: the schema is at its head `b2` and `f1`");
    outcome
        .says("info: the schema is without the tables of the FAB provider, and this Airflow's head is `b2` and `f1`");
    sandbox.run(&["setup"]).succeeds().says("info: the schema is at its head `b2` and `f1`");
    assert_eq!(stage.migrations(), 1);
    // Other managers have migrations that we do not know.
    let managers = "airflow.providers.fab.auth_manager.models.db.FABDBManager, my.Manager";
    let outcome = sandbox.run_with("AIRFLOW__DATABASE__EXTERNAL_DB_MANAGERS", managers, &["scheduler"]);
    outcome.says("info: the schema is left to Airflow's own commands: `my.Manager` has migrations that we do not know");
}

#[test]
fn m04_m05_each_line_has_its_own_command() {
    for (version, empty, behind) in [
        (V1, "airflow initdb", "airflow upgradedb"),
        ("2.6.3", "airflow db upgrade", "airflow db upgrade"),
        (V3, MIGRATE, MIGRATE),
    ] {
        let stage = Stage::new(version, None);
        stage.sandbox.run(&["setup"]).succeeds();
        stage.sql("UPDATE alembic_version SET version_num = ''a1''");
        stage.migrator(&stage.script("UPDATE alembic_version SET version_num = ''b2''"));
        stage.sandbox.run(&["setup"]).succeeds();
        // Neither that which a user has removed comes back, nor is anything run once more.
        stage.sandbox.run(&["setup"]).succeeds();
        assert_eq!(stage.sandbox.calls(), [empty, behind], "{version}");
    }
}

#[test]
fn u08_a_set_up_that_was_killed_behind_the_migration_creates_the_account_next_time() {
    let stage = Stage::new(V2, None);
    let sandbox = &stage.sandbox;
    let start = || {
        let mut command = sandbox.command(&["setup"]);
        command.env("_AIRFLOW_WWW_USER_CREATE", "true").env("_AIRFLOW_WWW_USER_PASSWORD", "a good password");
        sandbox.start_command(command)
    };
    sandbox.behave("airflow-users", "echo begun >&2; exec sleep 60");
    let killed = start();
    killed.until_stderr("begun\n");
    killed.signal(killed.main_pid(false), Signal::SIGKILL);
    killed.ends();
    sandbox.write("calls", "");
    let make = stage.script(&crate::official::MAKE.replace("'airflow'", "'admin'").replace('\'', "''"));
    sandbox.behave("airflow-users", &format!("cat > /dev/null\n{make}"));
    start().finish().succeeds().says("info: the schema is at its head `b2`");
    let calls = sandbox.call_words();
    assert_eq!(calls.iter().map(|words| words[1..3].join(" ")).collect::<Vec<_>>(), ["users create"]);
}

#[test]
fn airflows_tables_may_be_in_a_schema_of_their_own() {
    let Some(server) = Database::postgres() else { return };
    let stage = Stage::new(V2, Some(server));
    stage.sql("CREATE SCHEMA \"of its own\"");
    stage.sql(AT_HEAD);
    stage.sql("ALTER TABLE slot_pool SET SCHEMA \"of its own\"");
    let said = |name: &str| {
        let outcome = stage.sandbox.run_with(name, "of its own", &["setup"]);
        outcome.succeeds();
        outcome.stderr.contains("info: the schema is at its head `b2`\n")
    };
    stage.migrator("");
    assert!(said("AIRFLOW__DATABASE__SQL_ALCHEMY_SCHEMA"));
    assert!(said("AIRFLOW__CORE__SQL_ALCHEMY_SCHEMA"));
    assert_eq!(stage.migrations(), 0);
    // The control.
    assert!(!said("OTHER"));
}

#[test]
fn what_cannot_be_read_is_left_to_airflow() {
    let stage = Stage::new(V2, None);
    stage.sql(AT_HEAD);
    for name in ["0001_first.py", "0002_second.py"] {
        std::fs::remove_file(stage.sandbox.path(&format!("{VERSIONS}/{name}"))).unwrap();
    }
    stage.sandbox.write(&format!("{VERSIONS}/0001_first.pyc"), "compiled");
    stage.migrator("");
    let folder = stage.sandbox.text(VERSIONS);
    let outcome = stage.sandbox.run(&["setup"]);
    let why = format!("there are no migrations that we could read in `{folder}`");
    outcome.succeeds().says(&format!("info: the schema is left to Airflow's own commands: {why}"));
    outcome.says("info: migrate the database with `airflow db migrate`");
    assert_eq!(stage.migrations(), 1);
}

#[test]
fn e10_the_plan_says_what_the_log_says() {
    for (version, migrates, said) in [
        (
            V1,
            "true",
            "migrate the database under a lock with `airflow initdb` (`airflow upgradedb` where there is a schema), unless its schema is at its head",
        ),
        (V3, "true", "migrate the database under a lock with `airflow db migrate`, unless its schema is at its head"),
        (V3, "false", "wait, at most 1s, until somebody has migrated the database and its schema is at its head"),
    ] {
        let mut stage = Stage::new(version, None);
        stage.sandbox.set("ENTRYPOINT_MIGRATE", migrates);
        stage.sandbox.set("ENTRYPOINT_WAIT_TIMEOUT", "1s");
        let plan = stage.sandbox.run(&["explain", "scheduler"]);
        plan.check(plan.stdout.contains(&format!(". {said}: ")), said);
        stage.sandbox.run(&["scheduler"]).says(&format!("info: {said}"));
        // What is at its head says that alone.
        stage.sandbox.run_with("ENTRYPOINT_MIGRATE", "true", &["setup"]).succeeds();
        let outcome = stage.sandbox.run(&["setup"]);
        outcome.succeeds().says("info: the schema is at its head `b2`");
        outcome.check(!outcome.stderr.contains(said), "it says what it does not do");
    }
}
