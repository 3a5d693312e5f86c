//! Seeds that meet each other, others, and their end.

use std::io::{BufRead, BufReader, Write};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::databases::Database;
use crate::running::DEADLINE;
use crate::sandbox::{V1, V3};
use crate::seed_base::Base;
use crate::store_kills::strace_works;

/// Many connections, and a variable behind them.
fn many() -> String {
    let connections: String = (0..300).map(|number| format!("  c{number}: 'http://u:p{number}@h'\n")).collect();
    format!("connections:\n{connections}variables: {{v: 1}}\n")
}

/// 1.10 has no constraint that would keep two connections of one name apart.
#[test]
fn u09_ten_at_once_seed_once() {
    for base in Base::all(&[V1, V3]) {
        base.sandbox.write("seed.yaml", many());
        let all: Vec<_> = (0..10).map(|_| base.sandbox.start(&["seed", "seed.yaml"])).collect();
        let outcomes: Vec<_> = all.into_iter().map(|running| running.finish()).collect();
        let first =
            outcomes.iter().filter(|outcome| outcome.succeeds().stderr.contains("connections: 300 added (")).count();
        let rest = outcomes
            .iter()
            .filter(|outcome| outcome.stderr.contains("connections: 300 as before; variables: 1 as before"))
            .count();
        assert_eq!((base.name(), first, rest), (base.name(), 1, 9));
        assert_eq!((base.name(), base.count("connection"), base.count("variable")), (base.name(), 300, 1));
    }
}

/// Waits until somebody waits for a lock of the server's.
fn until_blocked(base: &Base) {
    let deadline = Instant::now() + DEADLINE;
    while base.sql("SELECT 1 FROM pg_locks WHERE NOT granted LIMIT 1").is_empty() {
        assert!(Instant::now() < deadline, "nobody waits for a lock");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Everything or nothing: killed or stopped between two of its writes, a seed leaves no row.
#[test]
fn u09_a_seed_that_ends_halfway_leaves_nothing() {
    let Some(base) = Base::server(V3, Database::postgres()) else { return };
    base.sandbox.write("seed.yaml", many());
    for (signal, status) in [(Signal::SIGKILL, 137), (Signal::SIGTERM, 143)] {
        let mut psql = base.psql();
        let mut input = psql.stdin.take().unwrap();
        input.write_all(b"BEGIN; LOCK TABLE variable IN EXCLUSIVE MODE; SELECT 'held';\n").unwrap();
        let mut line = String::new();
        BufReader::new(psql.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "held\n");
        let running = base.sandbox.start(&["seed", "seed.yaml"]);
        until_blocked(&base);
        running.signal(running.main_pid(false), signal);
        let outcome = running.ends();
        outcome.same(outcome.code(), status);
        // Its connections were written, and go with its transaction.
        drop(input);
        psql.wait().unwrap();
        let deadline = Instant::now() + DEADLINE;
        while !base.sql("SELECT 1 FROM pg_stat_activity WHERE usename = 'airflow'").is_empty() {
            assert!(Instant::now() < deadline, "the server still has its login");
            std::thread::sleep(Duration::from_millis(20));
        }
        outcome.same((base.count("connection"), base.count("variable")), (0, 0));
    }
    // The control: without the lock all of it is there.
    base.sandbox.run(&["seed", "seed.yaml"]).succeeds();
    assert_eq!((base.count("connection"), base.count("variable")), (300, 1));
}

/// What is there already keeps nobody waiting, and waits for nobody.
#[test]
fn u09_a_seed_that_changes_nothing_takes_no_lock() {
    let Some(base) = Base::server(V3, Database::postgres()) else { return };
    base.sandbox.write("seed.yaml", many());
    base.sandbox.run(&["seed", "seed.yaml"]).succeeds();
    base.sandbox.write("more.yaml", "variables: {w: 1}\n");
    let mut psql = base.psql();
    let mut input = psql.stdin.take().unwrap();
    input.write_all(b"SELECT 'held' FROM pg_advisory_lock(1592631793);\n").unwrap();
    let mut line = String::new();
    BufReader::new(psql.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "held\n");
    base.sandbox.run(&["seed", "--mode", "sync", "seed.yaml"]).succeeds();
    // The control: who has something to write waits.
    let running = base.sandbox.start(&["seed", "more.yaml"]);
    until_blocked(&base);
    drop(input);
    running.finish().succeeds();
    psql.wait().unwrap();
}

/// Somebody adds the same connection by Airflow's own means while we seed.
#[test]
fn u09_a_row_that_comes_meanwhile_is_no_error() {
    let Some(base) = Base::server(V3, Database::postgres()) else { return };
    base.sandbox.write("seed.yaml", many());
    let mut psql = base.psql();
    let mut input = psql.stdin.take().unwrap();
    input
        .write_all(
            b"BEGIN; INSERT INTO connection (conn_id, conn_type, is_encrypted, is_extra_encrypted) VALUES ('c7', 'ftp', false, false); SELECT 'held';\n",
        )
        .unwrap();
    let mut line = String::new();
    BufReader::new(psql.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let running = base.sandbox.start(&["seed", "seed.yaml"]);
    until_blocked(&base);
    input.write_all(b"COMMIT;\n").unwrap();
    drop(input);
    let outcome = running.finish();
    outcome.succeeds().check(outcome.stderr.contains("connections: 299 added ("), "one less");
    outcome.check(outcome.stderr.contains(", ...), 1 as before; variables: 1 added (`v`)"), "one as before");
    psql.wait().unwrap();
    outcome.same(base.sql("SELECT conn_type FROM connection WHERE conn_id = 'c7'"), vec!["ftp".to_owned()]);
}

/// SQLite's file is whole after a kill before each of the calls that write to it.
#[test]
fn u09_a_killed_seed_leaves_all_or_nothing_in_sqlite() {
    if !strace_works() {
        return;
    }
    let base = Base::sqlite(V3);
    base.sandbox.write("seed.yaml", many());
    let seed = base.sandbox.text("seed.yaml");
    let (mut nothing, mut all) = (0, 0);
    for call in ["pwrite64", "fsync", "fdatasync", "unlink"] {
        for number in 1.. {
            let inject = format!("inject={call}:signal=KILL:when={number}");
            let strace = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", &inject];
            let outcome = base.sandbox.try_run_behind(&strace, &["seed", &seed]);
            let count = base.count("connection");
            outcome.check(count == 0 || count == 300, &format!("{count} connections"));
            outcome.same(base.count("variable"), count.min(1));
            base.sql("DELETE FROM connection; DELETE FROM variable");
            if outcome.code() != 137 {
                outcome.succeeds().same(count, 300);
                break;
            }
            *(if count == 0 { &mut nothing } else { &mut all }) += 1;
        }
    }
    println!("killed {nothing} times before the end, and {all} times behind it");
    assert!(nothing > 10, "{nothing} and {all}");
}
