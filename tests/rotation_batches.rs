//! Many rows are encrypted anew by one statement: each value stays with its row, and what somebody else changes meanwhile is not overwritten.

use std::io::Write;
use std::process::{Command, Stdio};

use fernet::Fernet;

use crate::databases::{Database, Kind};
use crate::namespace::present;
use crate::outcome::is_like;
use crate::rotation::{deployment, keys, read_by, tokens};
use crate::sandbox::{Sandbox, V2, V3};
use crate::verdict::{Place, places, servers};

/// More than two statements change, and four divide.
const MANY: usize = 252;

fn token(key: &str, text: &str) -> String {
    Fernet::new(key).unwrap().encrypt(text.as_bytes())
}

/// Does all of these, some at a time.
fn insert(place: &Place<'_>, sandbox: &Sandbox, into: &str, rows: &[String]) {
    for rows in rows.chunks(100) {
        place.sql(sandbox, &format!("INSERT INTO {into} VALUES {}", rows.join(", ")));
    }
}

/// Variables `n0`, `n1`, ... with their own names in them.
fn variables(place: &Place<'_>, sandbox: &Sandbox, key: &str) {
    let rows: Vec<_> =
        (0..MANY).map(|n| format!("('n{n}', '{}', TRUE)", token(key, &format!("value of n{n}")))).collect();
    insert(place, sandbox, &format!("variable ({}, val, is_encrypted)", place.quoted("key")), &rows);
}

/// What this query of names and tokens yields, decrypted; a name has no sign in it.
fn decrypted(place: &Place<'_>, sandbox: &Sandbox, key: &str, query: &str) -> Vec<(String, String)> {
    let (said, key) = (place.sql(sandbox, query), Fernet::new(key).unwrap());
    let words = said.split(|letter: char| !letter.is_ascii_alphanumeric() && !"-_=".contains(letter));
    let words: Vec<_> = words.filter(|word| !word.is_empty()).collect();
    words
        .chunks(2)
        .map(|pair| (pair[0].to_owned(), String::from_utf8(key.decrypt(pair[1]).unwrap()).unwrap()))
        .collect()
}

#[test]
fn k10_each_value_stays_with_its_row() {
    let servers = servers();
    for place in places(&servers, "rotated_rows") {
        let (sandbox, old, values) = deployment(&place, V3);
        // Airflow's own type.
        let real = matches!(&place, Place::Server { server, .. } if server.kind == Kind::Postgres);
        let cast =
            if real { "; ALTER TABLE connection_test_request ALTER id TYPE uuid USING CAST(id AS uuid)" } else { "" };
        place.sql(&sandbox, &format!("DELETE FROM connection_test_request{cast}"));
        variables(&place, &sandbox, &old);
        // Of four rows one has both, one none, and two have one of them.
        let row = |first: &dyn Fn(usize) -> String, n: usize| {
            let value = |there: bool, text: &str| match there {
                true => (format!("'{}'", token(&old, &format!("{text} of {n}"))), "TRUE"),
                false => ("NULL".to_owned(), if n % 8 < 4 { "FALSE" } else { "NULL" }),
            };
            let (password, extra) = (value(n % 4 < 2, "password"), value(n.is_multiple_of(2), "extra"));
            format!("({}, 'r{n}', {}, {}, {}, {})", first(n), password.0, extra.0, password.1, extra.1)
        };
        let columns = "password, extra, is_encrypted, is_extra_encrypted";
        let connections: Vec<_> = (0..MANY).map(|n| row(&|_| "'http'".to_owned(), n)).collect();
        insert(&place, &sandbox, &format!("connection (conn_type, conn_id, {columns})"), &connections);
        // In another order than they are numbered.
        let id = |n: usize| format!("'{:08x}000040008000000000000000'", n.wrapping_mul(0x9E37_79B1) % (1 << 32));
        let requests: Vec<_> = (0..MANY).map(|n| row(&id, n)).collect();
        insert(&place, &sandbox, &format!("connection_test_request (id, connection_id, {columns})"), &requests);

        let all = values - 2 + MANY + 2 * MANY;
        let outcome = sandbox.run(&["key", "rotate"]);
        outcome.succeeds().says(&format!("info: Fernet key: {all} encrypted anew, all {all} are read by <any>"));
        let new = keys(&sandbox).remove(0);
        for (table, name) in [("connection", "conn_id"), ("connection_test_request", "connection_id")] {
            for (column, holds) in
                [("password", (|n| n % 4 < 2) as fn(usize) -> bool), ("extra", |n| n.is_multiple_of(2))]
            {
                let query = format!(
                    "SELECT {name}, {column} FROM {table} WHERE {column} IS NOT NULL AND {name} LIKE 'r%' ORDER BY CAST(substr({name}, 2) AS {})",
                    if matches!(&place, Place::Server { server, .. } if server.kind == Kind::MariaDb) {
                        "SIGNED"
                    } else {
                        "INTEGER"
                    }
                );
                let numbers = (0..MANY).filter(|n| holds(*n));
                let expected: Vec<_> = numbers.map(|n| (format!("r{n}"), format!("{column} of {n}"))).collect();
                outcome.same(decrypted(&place, &sandbox, &new, &query), expected);
            }
        }
        let key = place.quoted("key");
        let query = format!("SELECT {key}, val FROM variable WHERE {key} LIKE 'n%' ORDER BY id");
        let expected: Vec<_> = (0..MANY).map(|n| (format!("n{n}"), format!("value of n{n}"))).collect();
        outcome.same(decrypted(&place, &sandbox, &new, &query), expected);
    }
}

/// Somebody else's client, which has not ended its transaction when we come to its rows. SQLite has one writer alone: there a trigger
/// changes a row and keeps us from it.
#[test]
fn k10_what_others_change_among_many_rows_is_not_overwritten() {
    let servers = servers();
    for place in places(&servers, "others") {
        let (sandbox, old, values) = deployment(&place, V2);
        variables(&place, &sandbox, &old);
        let (key, newer) = (place.quoted("key"), token(&old, "newer"));
        let outcome = match &place {
            Place::Server { server, name } => {
                let blocked = match server.kind {
                    Kind::Postgres => "SELECT 1 FROM pg_locks WHERE NOT granted",
                    Kind::MariaDb => "SELECT 1 FROM information_schema.innodb_trx WHERE trx_state = 'LOCK WAIT'",
                };
                let held = match server.kind {
                    Kind::Postgres => "SELECT 1 FROM pg_stat_activity WHERE state = 'idle in transaction'",
                    Kind::MariaDb => "SELECT 1 FROM information_schema.innodb_trx WHERE trx_rows_modified = 4",
                };
                let client = server.client(name);
                let mut client = Command::new("sh")
                    .args(["-c", client.rsplit_once(" -").unwrap().0])
                    .stdin(Stdio::piped())
                    .stdout(Stdio::null())
                    .spawn()
                    .unwrap();
                let mut input = client.stdin.take().unwrap();
                writeln!(
                    input,
                    "BEGIN; UPDATE variable SET val = '{newer}' WHERE {key} IN ('n7', 'n107'); \
                     UPDATE variable SET val = 'plain', is_encrypted = FALSE WHERE {key} = 'n8'; DELETE FROM variable WHERE {key} = 'n9';"
                )
                .unwrap();
                server.until(held);
                let running = sandbox.start(&["key", "rotate"]);
                server.until(blocked);
                writeln!(input, "COMMIT;").unwrap();
                drop(input);
                assert!(client.wait().unwrap().success());
                running.finish()
            }
            Place::Sqlite => {
                let triggers: String = [
                    ("newer", format!("key IN ('n7', 'n107') AND OLD.val <> '{newer}'"), format!("UPDATE variable SET val = '{newer}'")),
                    ("plain", "key = 'n8'".to_owned(), "UPDATE variable SET val = 'plain', is_encrypted = FALSE".to_owned()),
                    ("gone", "key = 'n9'".to_owned(), "DELETE FROM variable".to_owned()),
                ]
                .iter()
                .map(|(name, which, what)| {
                    format!(
                        "CREATE TRIGGER {name} BEFORE UPDATE ON variable WHEN OLD.{which} BEGIN {what} WHERE id = OLD.id; \
                         SELECT RAISE(IGNORE); END; "
                    )
                })
                .collect();
                let program = "import sqlite3, sys; sqlite3.connect(sys.argv[1]).executescript(sys.argv[2])";
                let python =
                    Command::new("python3").args(["-c", program, &sandbox.text("home/airflow.db"), &triggers]).status();
                assert!(python.unwrap().success());
                sandbox.run(&["key", "rotate"])
            }
        };
        let all = values + MANY - 2;
        outcome.succeeds().says(&format!("info: Fernet key: {all} encrypted anew, all {all} are read by <any>"));
        let (new, after) = (keys(&sandbox).remove(0), tokens(&place, &sandbox, V2));
        outcome.same((read_by(&new, &after), read_by(&old, &after), after.len()), (all, 0, all));
        let query = format!("SELECT {key}, val FROM variable WHERE {key} IN ('n6', 'n7', 'n10', 'n107') ORDER BY id");
        let expected = [("n6", "value of n6"), ("n7", "newer"), ("n10", "value of n10"), ("n107", "newer")];
        let found = decrypted(&place, &sandbox, &new, &query);
        outcome.same(found, expected.map(|(name, text)| (name.to_owned(), text.to_owned())).to_vec());
        let plain = place.sql(&sandbox, &format!("SELECT val FROM variable WHERE {key} = 'n8'"));
        outcome.check(plain.contains("plain"), "it was overwritten");
    }
}

/// A server takes no statement that is too long; what it takes at least is more than the longest value twice.
#[test]
fn k10_many_long_values_are_no_statement_that_is_too_long() {
    const PACKET: usize = 2 << 20;
    let Some(server) = Database::mariadb() else { return };
    server.create("long_values");
    let place = Place::Server { server: &server, name: "long_values".to_owned() };
    let (sandbox, old, values) = deployment(&place, V2);
    let (long, many) = (token(&old, &"long".repeat(6_000)), 50);
    for n in 0..many {
        place.variable(&sandbox, &format!("n{n}"), &long);
    }
    assert!(2 * many * long.len() > PACKET);
    server.sql(None, &format!("SET GLOBAL max_allowed_packet = {PACKET}"));
    let all = values + many;
    sandbox
        .run(&["key", "rotate"])
        .succeeds()
        .says(&format!("info: Fernet key: {all} encrypted anew, all {all} <any>"));
}

/// `script` is a terminal that we can read.
#[test]
fn a_terminal_shows_how_far_it_is() {
    let Some(server) = Database::postgres() else { return };
    if !present("script", Command::new("script").arg("--version").output().is_ok()) {
        return;
    }
    server.create("slow");
    let place = Place::Server { server: &server, name: "slow".to_owned() };
    let (sandbox, _, values) = deployment(&place, V2);
    // Whoever reads a row waits.
    place.sql(
        &sandbox,
        "CREATE POLICY slow ON variable USING (CAST(pg_sleep(0.1) AS TEXT) = ''); ALTER TABLE variable ENABLE ROW LEVEL SECURITY; \
         ALTER TABLE variable FORCE ROW LEVEL SECURITY",
    );
    let shown = |outcome: &crate::outcome::Outcome| {
        let lines = [
            "<n> encrypted values counted, <n> a second ".to_owned(),
            format!("<n> of {values} encrypted anew, <n> a second, 0 s left "),
            format!("<n> of {values} read back, <n> a second, 0 s left "),
        ];
        let pieces: Vec<_> = outcome.stdout.split(['\r', '\x1b']).collect();
        lines.map(|line| pieces.iter().any(|piece| is_like(piece, &line)))
    };
    let program = sandbox.command(&["key", "rotate"]);
    let mut command = Command::new("sh");
    command.args(["-c", "exec script -qec \"$*\" /dev/null", "sh"]).arg(program.get_program());
    command.args(program.get_args()).env_clear();
    command.envs(program.get_envs().filter_map(|(name, value)| Some((name, value?)))).env("SHELL", "/bin/sh");
    let outcome = sandbox.start_command(command).finish();
    outcome.succeeds().same(shown(&outcome), [true; 3]);
    // The control: nobody looks at a pipe.
    sandbox.run(&["key", "retire"]).succeeds();
    let outcome = sandbox.run(&["key", "rotate"]);
    outcome.succeeds().check(!outcome.stderr.contains(" a second"), "it was shown");
}
