//! Whoever is asked whether to forget may say no, and what is set anew meanwhile stays.

use std::io::Write;
use std::process::{Command, Stdio};

use crate::databases::Kind;
use crate::forget::{Deployment, FORGET, LISTING, token};
use crate::namespace::present;
use crate::sandbox::V2;
use crate::verdict::{Place, places, servers};

const PROMPT: &str = "type `yes` to forget them: ";

#[test]
fn at_a_terminal_it_asks() {
    if !present("script", Command::new("script").arg("--version").output().is_ok()) {
        return;
    }
    let servers = servers();
    for place in places(&servers, "asked") {
        let deployment = Deployment::new(&place, V2);
        let before = deployment.rows();
        let answered = |typed: &str| {
            let (running, mut terminal) = deployment.at_terminal(&["key", "forget-unreadable"]);
            running.until_stdout(PROMPT);
            terminal.write_all(typed.as_bytes()).unwrap();
            let outcome = running.finish();
            outcome.check(outcome.stdout.contains(&LISTING.replace('\n', "\r\n")), "they are not all shown");
            outcome
        };
        for (typed, status, said) in [
            ("no\n", 64, "error: nothing was forgotten: expected the answer `yes`, found `no`"),
            ("\n", 64, "error: nothing was forgotten: expected the answer `yes`, found ``"),
            // The end of the input, and an interrupt.
            ("\x04", 64, "error: nothing was forgotten: expected the answer `yes`, found ``"),
            ("\x03", 130, "info: stopped by SIGINT while asking whether to forget what no key reads"),
        ] {
            let outcome = answered(typed);
            outcome.same(outcome.code(), status).check(
                outcome.stdout.lines().last() == Some(&format!("airflow-entrypoint: {said}")),
                &format!("expected {said}"),
            );
            deployment.is_unchanged_after(&before, &outcome);
        }
        // The control.
        let outcome = answered("yes\n");
        outcome
            .succeeds()
            .check(outcome.stdout.contains("variables to set anew: `lost`"), "it does not say what to do");
        deployment.is_forgotten(&outcome);
    }
}

/// While somebody reads the question.
#[test]
fn what_is_set_anew_meanwhile_stays() {
    if !present("script", Command::new("script").arg("--version").output().is_ok()) {
        return;
    }
    let servers = servers();
    for place in places(&servers, "anew") {
        let deployment = Deployment::new(&place, V2);
        let sql = |statement: &str| deployment.place.sql(&deployment.sandbox, statement);
        let (running, mut terminal) = deployment.at_terminal(&["key", "forget-unreadable"]);
        running.until_stdout(PROMPT);
        // No rotation meanwhile, wherever its key folder is.
        let refused = place.sandbox(V2).with("AIRFLOW__CORE__FERNET_KEY", deployment.key.clone());
        if let Place::Server { .. } = &place {
            let refused = refused.run(&["key", "reencrypt"]);
            refused
                .same(refused.code(), 69)
                .says("error: cannot change the keys now: airflow-entrypoint <any> holds the lock");
        }
        let (new, foreign) = (token(&deployment.key, "new"), token(&deployment.lost, "later"));
        sql(&format!("UPDATE connection SET password = '{new}' WHERE conn_id = 'lost'"));
        // As Airflow sets a variable: the row is another one.
        sql(&format!("DELETE FROM variable WHERE {} = 'lost'", place.quoted("key")));
        deployment.place.variable(&deployment.sandbox, "lost", &new);
        // Whoever has the lost key still: nobody was asked about that.
        sql(&format!("UPDATE connection SET password = '{foreign}' WHERE conn_id = 'pass'"));
        deployment.place.variable(&deployment.sandbox, "later", &foreign);
        terminal.write_all(b"yes\n").unwrap();
        let outcome = running.finish();
        for line in [
            "Fernet key: 4 encrypted values forgotten, all others are as they were",
            "3 of them changed meanwhile, and stayed",
            "connections that need a new password: `half`",
            "connections that need a new extra: `lost`",
            "variables to set anew: `odd\\nname`",
        ] {
            let line = format!("airflow-entrypoint: info: {line}\r\n");
            outcome.succeeds().check(outcome.stdout.contains(&line), &line);
        }
        let now = |row: &String| match row.split(' ').next() {
            Some("lost") if row.ends_with("none none no no") => format!("lost {new} none yes no"),
            Some("pass") => format!("pass {foreign} {{}} yes no"),
            _ => row.clone(),
        };
        let mut expected: Vec<_> = deployment.forgotten.iter().map(now).collect();
        expected.extend([format!("lost {new} yes"), format!("later {foreign} yes")]);
        expected.sort();
        outcome.same(deployment.rows(), expected);
    }
}

/// Between our look at a row and our change of it: the other's transaction has changed the row and is not at its end yet.
#[test]
fn what_is_just_being_set_anew_stays() {
    for server in &servers() {
        server.create("midway");
        let place = Place::Server { server, name: "midway".to_owned() };
        let deployment = Deployment::new(&place, V2);
        let new = token(&deployment.key, "new");
        let client = server.client("midway");
        let client = client.rsplit_once(' ').unwrap().0;
        // MariaDB's keeps to itself what it prints, unless it is told not to.
        let unbuffered = if server.kind == Kind::MariaDb { "-n" } else { "" };
        let mut other = Command::new("sh");
        other.args(["-c", &format!("exec {client} {unbuffered}")]);
        let (reader, mut typed) = std::io::pipe().unwrap();
        let other = deployment.sandbox.start_with_input(other, Stdio::from(reader));
        let change = format!(
            "BEGIN; UPDATE variable SET val = '{new}' WHERE {} = 'lost'; SELECT 'changed';\n",
            place.quoted("key")
        );
        typed.write_all(change.as_bytes()).unwrap();
        other.until_stdout("changed");
        let running = deployment.sandbox.start(&FORGET);
        let waits = match server.kind {
            Kind::Postgres => "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'",
            Kind::MariaDb => "SELECT 1 FROM information_schema.innodb_trx WHERE trx_state = 'LOCK WAIT'",
        };
        server.until(waits);
        typed.write_all(b"COMMIT;\n").unwrap();
        drop(typed);
        other.finish().succeeds();
        let outcome = running.finish();
        outcome.succeeds().says("info: Fernet key: 6 encrypted values forgotten, all others are as they were");
        outcome.says("info: 1 of them changed meanwhile, and stayed").says("info: variables to set anew: `odd\\nname`");
        let mut expected = deployment.forgotten.clone();
        expected.push(format!("lost {new} yes"));
        expected.sort();
        outcome.same(deployment.rows(), expected);
    }
}
