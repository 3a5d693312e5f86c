//! Who migrates and who waits: one container at a time, by a lock that ends with it. The real Airflow is in `migrate_airflow`.

use std::fs::File;

use nix::sys::signal::Signal;

use crate::databases::Database;
use crate::outcome::Outcome;
use crate::running::Running;
use crate::sandbox::V2;
use crate::stage::{AT_HEAD, MIGRATE, Stage};

const HINT: &str =
    "start a container that migrates (the web server, or the command `setup`), or set `ENTRYPOINT_MIGRATE=true` here";

#[test]
fn m02_ten_at_once_migrate_once() {
    Stage::each(V2, |stage| {
        let sandbox = &stage.sandbox;
        let here = sandbox.text("");
        let alone = |sql: &str| format!("mkdir {here}/busy || echo two >> {here}/overlaps\n{sql}rmdir {here}/busy\n");
        stage.migrator(&alone(&stage.script(AT_HEAD)));
        let all: Vec<Running> = (0..10).map(|_| sandbox.start(&["setup"])).collect();
        for running in all {
            running.finish().succeeds().says("info: the schema is at its head `b2`");
        }
        assert_eq!((stage.migrations(), sandbox.read("overlaps").as_str()), (1, ""));
        // The control: with a migration that leads to nothing each one migrates, and one at a time.
        stage.sql("DELETE FROM slot_pool");
        stage.migrator(&alone(""));
        let all: Vec<Running> = (0..3).map(|_| sandbox.start(&["setup"])).collect();
        for running in all {
            let after = "after the migration the last migration was not finished, and this Airflow's head is `b2`";
            running.finish().succeeds().says(&format!("warning: {after}"));
        }
        assert_eq!((stage.migrations(), sandbox.read("overlaps").as_str()), (4, ""));
    });
}

/// A migrator that says that it has begun, and goes on when there is a file `go`.
fn slow(stage: &Stage) -> String {
    let go = stage.sandbox.text("go");
    format!("echo begun >&2; until [ -e {go} ]; do sleep 0.05; done\n{}", stage.script(AT_HEAD))
}

#[test]
fn m01_who_does_not_migrate_waits_for_the_head_and_knows_for_whom() {
    Stage::each(V2, |stage| {
        let sandbox = &stage.sandbox;
        stage.migrator(&slow(&stage));
        let mut waits = sandbox.command(&["scheduler"]);
        waits.env("ENTRYPOINT_MIGRATE", "false");
        let waits = sandbox.start_command(waits);
        waits.until_stderr(
            "info: wait, at most 30s, until somebody has migrated the database and its schema is at its head\n",
        );
        waits.until_stderr("info: the database has no schema, and this Airflow's head is `b2`; nobody migrates\n");
        // H06: any service migrates that is told to.
        let mut migrates = sandbox.command(&["triggerer"]);
        migrates.env("ENTRYPOINT_MIGRATE", "true");
        let migrates = sandbox.start_command(migrates);
        migrates.until_stderr("begun\n");
        let another = sandbox.start(&["setup"]);
        another.until_stderr(&stage.holder(migrates.main_pid(false)));
        if stage.server.is_some() {
            waits.until_stderr(&stage.holder(migrates.main_pid(false)));
        }
        assert_eq!(sandbox.calls(), [MIGRATE]);
        sandbox.write("go", "");
        for running in [waits, migrates, another] {
            running.finish().succeeds().says("info: the schema is at its head `b2`");
        }
        let mut calls = sandbox.calls();
        calls[1..].sort();
        assert_eq!(calls, [MIGRATE, "airflow scheduler", "airflow triggerer"]);
    });
}

/// Four connections are enough for a migration and eight who wait for it.
#[test]
fn who_waits_holds_no_connection() {
    let Some(server) = Database::postgres() else { return };
    let stage = Stage::new(V2, Some(server));
    let server = stage.server.as_ref().unwrap();
    server.sql(None, "ALTER ROLE airflow CONNECTION LIMIT 4");
    stage.migrator(&slow(&stage));
    let migrates = stage.sandbox.start(&["setup"]);
    migrates.until_stderr("begun\n");
    let all: Vec<Running> = (0..8)
        .map(|_| {
            let running = stage.sandbox.start(&["scheduler"]);
            running.until_stderr(&stage.holder(migrates.main_pid(false)));
            running
        })
        .collect();
    // And it is waited for again when it has no connection for us at the moment.
    server.sql(None, "ALTER ROLE airflow CONNECTION LIMIT 0");
    for running in &all {
        running.until_stderr("the database cannot be asked any more: too many connections for role \"airflow\"\n");
    }
    server.sql(None, "ALTER ROLE airflow CONNECTION LIMIT 4");
    stage.sandbox.write("go", "");
    for running in all.into_iter().chain([migrates]) {
        running.finish().succeeds();
    }
    assert_eq!(stage.migrations(), 1);
}

#[test]
fn m02_when_the_migrator_is_killed_another_takes_over() {
    Stage::each(V2, |stage| {
        let sandbox = &stage.sandbox;
        let once = sandbox.text("once");
        stage.migrator(&format!(
            "[ -e {once} ] || {{ touch {once}; echo begun >&2; exec sleep 60; }}\n{}",
            stage.script(AT_HEAD)
        ));
        let killed = sandbox.start(&["setup"]);
        killed.until_stderr("begun\n");
        let next = sandbox.start(&["setup"]);
        next.until_stderr(&stage.holder(killed.main_pid(false)));
        killed.signal(killed.main_pid(false), Signal::SIGKILL);
        // Its migration ends with it: nothing holds its streams any more.
        killed.ends();
        next.finish().succeeds().says("info: the schema is at its head `b2`");
        assert_eq!(stage.migrations(), 2);
    });
}

#[test]
fn a_migration_that_fails_ends_the_start_and_leaves_the_lock() {
    Stage::each(V2, |stage| {
        let sandbox = &stage.sandbox;
        stage.sql(AT_HEAD);
        stage.sql("UPDATE alembic_version SET version_num = ''a1''");
        stage.migrator("echo this is wrong >&2; exit 3");
        let failed =
            "airflow-entrypoint: error: cannot migrate the database: `airflow db migrate` ended with status 3\n";
        let outcome = sandbox.run(&["setup"]);
        outcome.fails(3, &format!("<lines>this is wrong\n{failed}"));
        outcome.says("info: the schema is at `a1`, and this Airflow's head is `b2`");
        stage.migrator(&stage.script("UPDATE alembic_version SET version_num = ''b2''"));
        sandbox.run(&["setup"]).succeeds().says("info: the schema is at its head `b2`");
    });
}

#[test]
fn m07_who_waited_in_vain_says_for_what() {
    Stage::each(V2, |stage| {
        let sandbox = &stage.sandbox;
        let run = || {
            let mut command = sandbox.command(&["scheduler"]);
            command.env("ENTRYPOINT_WAIT_TIMEOUT", "1200ms").env("ENTRYPOINT_MIGRATE", "false");
            sandbox.start_command(command).finish()
        };
        let vain = |outcome: &Outcome, found: &str, whom: &str, hint: &str| {
            let error = format!("error: cannot start `scheduler`: {found}, and this Airflow's head is `b2`; {whom}");
            let hint = format!("airflow-entrypoint: hint: {hint}\n");
            outcome.fails(69, &format!("<lines>airflow-entrypoint: {error} (waited for 1.<n> s)\n{hint}"));
            outcome.same(sandbox.calls(), vec![]);
        };
        vain(&run(), "the database has no schema", "nobody migrates", HINT);
        stage.sql(AT_HEAD);
        stage.sql("UPDATE alembic_version SET version_num = ''a1''");
        vain(&run(), "the schema is at `a1`", "nobody migrates", HINT);
        if stage.server.is_some() {
            stage.migrator("echo begun >&2; exec sleep 60");
            let migrates = sandbox.start(&["setup"]);
            migrates.until_stderr("begun\n");
            sandbox.write("calls", "");
            let hint = "its log says how far it is; `ENTRYPOINT_WAIT_TIMEOUT` sets how long to wait";
            vain(&run(), "the schema is at `a1`", "airflow-entrypoint <any> migrates", hint);
            migrates.signal(migrates.main_pid(false), Signal::SIGTERM);
            migrates.finish();
        }
        // Who does not want to wait goes on.
        let mut command = sandbox.command(&["scheduler"]);
        command.env("ENTRYPOINT_WAIT_TIMEOUT", "off").env("ENTRYPOINT_MIGRATE", "false");
        let outcome = sandbox.start_command(command).finish();
        let warning = "warning: the schema is at `a1`, and this Airflow's head is `b2`; going on all the same, since waiting is switched off";
        outcome.succeeds().says(warning).same(sandbox.calls(), vec!["airflow scheduler".to_owned()]);
    });
}

#[test]
fn a_stop_ends_the_wait_at_once() {
    Stage::each(V2, |stage| {
        let mut command = stage.sandbox.command(&["scheduler"]);
        command.env("ENTRYPOINT_MIGRATE", "false");
        let running = stage.sandbox.start_command(command);
        running.until_stderr("nobody migrates\n");
        running.signal(running.main_pid(false), Signal::SIGTERM);
        let stopped = "airflow-entrypoint: info: stopped by SIGTERM while waiting for the schema\n";
        // The look of this second may be what it ends.
        let outcome = running.finish();
        let looking = stopped.replace("waiting for", "looking at");
        outcome.check(outcome.stderr.ends_with(stopped) || outcome.stderr.ends_with(&looking), "another end");
        outcome.same(outcome.code(), 143).same(stage.sandbox.calls(), vec![]);
    });
}

/// The lock is that of a folder, which nobody sees.
#[test]
fn sqlite_is_locked_beside_its_file() {
    let stage = Stage::new(V2, None);
    let folder = File::open(stage.sandbox.path("home")).unwrap();
    let held = nix::fcntl::Flock::lock(folder, nix::fcntl::FlockArg::LockExclusive).unwrap();
    let running = stage.sandbox.start(&["setup"]);
    running.until_stderr(&stage.holder(running.main_pid(false)));
    assert_eq!(stage.migrations(), 0);
    drop(held);
    running.finish().succeeds();
    assert_eq!(stage.sandbox.names("home"), ["airflow.cfg", "airflow.db"]);
}
