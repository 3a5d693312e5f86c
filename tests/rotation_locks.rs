//! Who changes the Fernet key keeps others out who would, and who migrates: one of them waits or stops with 69, and no row is lost.

use std::fs::{self, File};
use std::io::Write;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use fernet::Fernet;

use crate::databases::Kind;
use crate::interrupted::Login;
use crate::outcome::Outcome;
use crate::rotation::{FILE, deployment, keys, read_by, tokens};
use crate::running::{DEADLINE, Running};
use crate::sandbox::{Sandbox, V2, new_key};
use crate::stage::{AT_HEAD, Stage};
use crate::verdict::{Place, places, servers};

/// How many changes of the key are many.
const ENOUGH: usize = 20;
const AGAIN: &str = "airflow-entrypoint: hint: try again when it has ended\n";

/// A rotation that waits for a transaction of ours; it has both locks, and has changed the file.
fn held(place: &Place<'_>, sandbox: &Sandbox, login: &mut Login) -> Running {
    match place {
        Place::Sqlite => login.command("BEGIN IMMEDIATE"),
        Place::Server { .. } => login.command("BEGIN; UPDATE variable SET is_encrypted = is_encrypted"),
    }
    let running = sandbox.start(&["key", "rotate"]);
    running.until_stderr("` now\n");
    running
}

/// Who has the lock of the database, in a message of somebody who has another key folder.
fn holder(place: &Place<'_>, sandbox: &Sandbox, running: &Running) -> String {
    match place {
        Place::Server { server, .. } if server.kind == Kind::MariaDb => {
            "airflow-entrypoint at 127.0.0.1:<n> (connection <n>)".to_owned()
        }
        Place::Server { .. } => {
            format!("airflow-entrypoint on <any> (process {}) at 127.0.0.1", running.main_pid(false))
        }
        Place::Sqlite => format!("another process at `{}`", sandbox.text("home")),
    }
}

#[track_caller]
fn is_kept_out(outcome: &Outcome, who: &str) {
    let error = format!("airflow-entrypoint: error: cannot change the keys now: {who} holds the lock\n");
    outcome.fails(69, &format!("<lines>{error}{AGAIN}"));
}

#[test]
fn k10_two_at_once_on_one_folder_or_one_database() {
    let servers = servers();
    for place in places(&servers, "twice") {
        let (mut sandbox, old, values) = deployment(&place, V2);
        let mut login = Login::to(&place, &sandbox);
        let first = held(&place, &sandbox, &mut login);
        let list = keys(&sandbox);
        for verb in ["stage", "promote", "reencrypt", "retire", "rotate", "status"] {
            is_kept_out(&sandbox.run(&["key", verb]), &format!("another process at `{}`", sandbox.text("keys")));
        }
        // Another key folder with the same database.
        fs::create_dir(sandbox.path("others")).unwrap();
        sandbox.write("others/fernet.key", format!("{old}\n"));
        let others = sandbox.path("others");
        let ours = sandbox.path("keys");
        sandbox.set("ENTRYPOINT_KEY_DIR", &others);
        for verb in ["reencrypt", "rotate"] {
            is_kept_out(&sandbox.run(&["key", verb]), &holder(&place, &sandbox, &first));
        }
        assert_eq!(sandbox.read("others/fernet.key"), format!("{old}\n"));
        // Nor does somebody make a key or bring one.
        sandbox.set("ENTRYPOINT_KEY_DIR", &ours);
        sandbox.run(&["key", "generate"]).succeeds();
        let (reader, mut writer) = std::io::pipe().unwrap();
        writer.write_all(new_key().as_bytes()).unwrap();
        drop(writer);
        let import = sandbox.start_with_input(sandbox.command(&["key", "import"]), Stdio::from(reader)).finish();
        import.same(import.code(), 73).same(keys(&sandbox), list.clone());
        login.command("ROLLBACK");
        first.finish().succeeds().same(keys(&sandbox), list.clone());
        assert_eq!(read_by(&list[0], &tokens(&place, &sandbox, V2)), values);
        // Who has only the old key is told, and changes nothing.
        sandbox.set("ENTRYPOINT_KEY_DIR", &others);
        let refused = sandbox.run(&["key", "rotate"]);
        refused
            .same(refused.code(), 65)
            .says(&format!("error: cannot rotate the Fernet key: no key reads {values} encrypted values: <any>"));
        assert_eq!(sandbox.read("others/fernet.key"), format!("{old}\n"));
    }
}

#[test]
fn k10_a_migration_and_a_rotation_keep_each_other_out() {
    Stage::each(V2, |stage| {
        let sandbox = &stage.sandbox;
        let go = sandbox.text("go");
        sandbox.write(FILE, format!("{}\n", new_key()));
        let at_head = stage.script(AT_HEAD);
        stage.migrator(&format!("echo begun >&2\nwhile [ ! -e {go} ]; do sleep 0.02; done\n{at_head}"));
        // SQLite's file is made by the migration.
        if stage.server.is_none() {
            stage.sql("CREATE TABLE first (id INTEGER)");
        }
        let migrates = sandbox.start(&["setup"]);
        migrates.until_stderr("begun\n");
        let refused = sandbox.run(&["key", "rotate"]);
        let who = match stage.server.as_ref().map(|server| server.kind) {
            Some(Kind::Postgres) => {
                format!("airflow-entrypoint on <any> (process {}) at 127.0.0.1", migrates.main_pid(false))
            }
            Some(Kind::MariaDb) => "airflow-entrypoint at 127.0.0.1:<n> (connection <n>)".to_owned(),
            None => format!("another process at `{}`", sandbox.text("home")),
        };
        is_kept_out(&refused, &who);
        refused.same(keys(sandbox).len(), 1);
        sandbox.write("go", "");
        migrates.finish().succeeds();
        // The control, and the other way round.
        let place = match &stage.server {
            Some(server) => Place::Server { server, name: "airflow".to_owned() },
            None => Place::Sqlite,
        };
        let values = place.fill(sandbox, V2, &keys(sandbox)[0]);
        stage.sql("UPDATE alembic_version SET version_num = ''a1''");
        stage.migrator(&stage.script("UPDATE alembic_version SET version_num = ''b2''"));
        let mut login = Login::to(&place, sandbox);
        let rotates = held(&place, sandbox, &mut login);
        let waits = sandbox.start(&["setup"]);
        waits.until_stderr(&stage.holder(rotates.main_pid(false)));
        assert_eq!(stage.migrations(), 1);
        login.command("ROLLBACK");
        rotates.finish().succeeds();
        waits.finish().succeeds().says(&format!("<any>read all {values} encrypted values<any>"));
        assert_eq!(stage.migrations(), 2);
    });
}

/// Several change the key again and again in every way, while somebody writes with the key that is the first just then: a container that has
/// been restarted. It has the lock of the folder for that moment, so that its key is not changed in between.
#[test]
fn k10_no_row_is_lost_by_many_at_once() {
    let servers = servers();
    for place in places(&servers, "many") {
        let (sandbox, _, values) = deployment(&place, V2);
        let (stop, tries, changes) = (AtomicBool::new(false), AtomicUsize::new(0), AtomicUsize::new(0));
        let mut written = 0;
        thread::scope(|scope| {
            for number in 0..5 {
                let (sandbox, stop, tries, changes) = (&sandbox, &stop, &tries, &changes);
                scope.spawn(move || {
                    for verb in ["rotate", "stage", "promote", "reencrypt", "retire"].iter().cycle().skip(number) {
                        let outcome = sandbox.run(&["key", verb]);
                        changes.fetch_add(usize::from(outcome.code() == 0), Ordering::Relaxed);
                        tries.fetch_add(1, Ordering::Relaxed);
                        // Busy, needed by a row, or not the time for it.
                        outcome.check([0, 65, 69, 78].contains(&outcome.code()), "it ends in another way");
                        if stop.load(Ordering::Relaxed) {
                            return;
                        }
                    }
                });
            }
            let mut login = Login::to(&place, &sandbox);
            let until = Instant::now() + DEADLINE;
            while changes.load(Ordering::Relaxed) < ENOUGH && Instant::now() < until {
                let folder = File::open(sandbox.path("keys")).unwrap();
                folder.lock().unwrap();
                let token = Fernet::new(&keys(&sandbox)[0]).unwrap().encrypt(b"late");
                let key = place.quoted("key");
                login.command(&format!(
                    "INSERT INTO variable ({key}, val, is_encrypted) VALUES ('late{written}', '{token}', TRUE)"
                ));
                written += 1;
                drop(folder);
                // The others have their turn.
                let tried = tries.load(Ordering::Relaxed);
                while tries.load(Ordering::Relaxed) == tried && Instant::now() < until {
                    thread::sleep(Duration::from_millis(1));
                }
            }
            stop.store(true, Ordering::Relaxed);
        });
        let changes = changes.into_inner();
        println!("{changes} changes, {written} rows written");
        let (now, all) = (keys(&sandbox), tokens(&place, &sandbox, V2));
        let read: usize = now.iter().map(|key| read_by(key, &all)).sum();
        assert_eq!((all.len(), read), (values + written, values + written));
        // The control: something did happen.
        assert!(changes >= ENOUGH && written > 5, "{changes} {written}");
    }
}
