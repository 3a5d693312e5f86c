//! The compatibility contract: every recorded run of the bash entrypoint, again with ours. Same calls and variables, or what the
//! record says that ours does instead.
//!
//! A recorded `nc -z HOST PORT` is a connection that we must really make; a recorded `sleep` is not repeated. Every command is
//! prepared for like a service (`ENTRYPOINT_PREPARE=always`), as the bash entrypoint did.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::namespace::isolated;
use crate::outcome::Outcome;
use crate::sandbox::{Sandbox, V1, key_mode};
use crate::services::{Services, hosts};

/// Every host and port that a record names.
const SERVICES: [(&str, u16); 11] = [
    ("cache", 6380),
    ("db", 6543),
    ("mq", 5672),
    ("my", 3306),
    ("pg.example", 5432),
    ("pg.example", 5433),
    ("postgres", 5432),
    ("r", 6379),
    ("r", 7000),
    ("redis", 6379),
    ("redis", 7000),
];
/// How many tests share the records.
const PARTS: usize = 4;
const SECRET: &str = "AIRFLOW__WEBSERVER__SECRET_KEY";
const KEY: &str = "AIRFLOW__CORE__FERNET_KEY";

type Variables = BTreeMap<String, String>;

/// What must happen.
#[derive(Clone)]
struct Expected {
    calls: Vec<Vec<String>>,
    waits: BTreeSet<String>,
    variables: Variables,
}

fn records() -> Vec<Value> {
    let vectors: Value = serde_json::from_str(include_str!("vectors/puckel.json")).unwrap();
    vectors["cases"].as_array().unwrap().clone()
}

fn words(value: &Value) -> Vec<String> {
    value.as_array().unwrap().iter().map(|word| word.as_str().unwrap().to_owned()).collect()
}

fn variables(value: &Value) -> Variables {
    value.as_object().unwrap().iter().map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned())).collect()
}

fn named<'a>(records: &'a [Value], name: &str) -> &'a Value {
    records.iter().find(|record| record["name"] == name).unwrap_or_else(|| panic!("no record {name:?}"))
}

/// What the record says that happened, without its sleeps.
fn recorded(record: &Value) -> Expected {
    let calls: Vec<_> = record["calls"].as_array().unwrap().iter().map(words).collect();
    let (probes, calls): (Vec<_>, Vec<_>) =
        calls.into_iter().filter(|call| call[0] != "sleep").partition(|call| call[0] == "nc");
    let waits = probes.iter().map(|call| format!("{}:{}", call[2], call[3])).collect();
    Expected { calls, waits, variables: variables(&record["final_env"]) }
}

/// What ours must do instead.
fn expected(records: &[Value], record: &Value) -> Expected {
    let mut expected = recorded(record);
    let name = record["name"].as_str().unwrap();
    let words_of = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let on_sqlite = expected.waits.is_empty();
    let Some(difference) = record.get("ours_differs") else { return expected };
    match difference.as_str().unwrap().split(';').next().unwrap() {
        // The same calls; that they are supervised is tested in `process`.
        "the scheduler runs unsupervised behind the webserver" => {}
        // On 1.10 the web server migrates; a database in the container has nobody else.
        "fixed sleep of 10 s" => {
            expected.calls.insert(0, words_of(if on_sqlite { "airflow initdb" } else { "airflow connections --list" }));
        }
        "arguments after webserver are dropped" => {
            for call in expected.calls.iter_mut().filter(|call| call[1] == "webserver") {
                call.extend(words_of("-p 9090"));
            }
        }
        "no database set-up with the airflow prefix" => {
            return recorded(named(records, name.strip_prefix("airflow ").unwrap()));
        }
        // The record has a placeholder, and every such case is checked for it.
        "a new key at every start" => assert_eq!(expected.variables[KEY], "<generated>"),
        "becomes LocalExecutorExecutor" => {
            expected.variables.insert("AIRFLOW__CORE__EXECUTOR".into(), "LocalExecutor".into());
        }
        "stops because the result backend is missing" => {
            return recorded(named(records, "explicit conn + backend / Celery"));
        }
        "the host name is used as port" => {
            if name.ends_with("Celery") {
                expected = recorded(named(records, "explicit conn + backend / Celery"));
                for value in expected.variables.values_mut() {
                    *value = value.replace("pg.example:5433", "pg.example");
                }
            }
            expected.waits.retain(|wait| !wait.starts_with("pg.example"));
            expected.waits.insert("pg.example:5432".into());
        }
        "only the exact letter n is looked at" => {
            expected.variables = recorded(named(records, "LOAD_EX=y")).variables;
        }
        "the password goes into the URL as it is and breaks it" => {
            for value in expected.variables.values_mut() {
                *value = value.replace("p@ss:w/rd%#?", "p%40ss%3Aw%2Frd%25%23%3F").replace("p@ss/w", "p%40ss%2Fw");
            }
        }
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN is not known and a default database is derived beside it" => {
            let conn = expected.variables["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"].clone();
            if name.ends_with("Celery") {
                let backend = conn.replace("postgresql+psycopg2", "db+postgresql");
                expected.variables.insert("AIRFLOW__CELERY__RESULT_BACKEND".into(), backend);
            }
            expected.variables.insert("AIRFLOW__CORE__SQL_ALCHEMY_CONN".into(), conn);
            expected.waits.remove("postgres:5432");
            expected.waits.insert("pg.example:5433".into());
        }
        "waits for an empty host (or the database) in place of the broker" => {
            let url = &expected.variables["AIRFLOW__CELERY__BROKER_URL"];
            let broker = ["cache:6380", "mq:5672"].into_iter().find(|broker| url.contains(broker)).unwrap().to_owned();
            expected.waits.retain(|wait| wait != ": " && wait != ":");
            expected.waits.insert(broker);
        }
        "ends with 0 and runs nothing" => return recorded(named(records, "webserver / None")),
        other => panic!("{name}: unknown difference {other:?}"),
    }
    expected
}

/// A container as the record had it; its web server ends once the scheduler beside it has begun.
fn sandbox(record: &Value, expected: &Expected) -> Sandbox {
    let mut sandbox = Sandbox::new(V1).with("ENTRYPOINT_PREPARE", "always").without("AIRFLOW_HOME");
    for (name, value) in variables(&record["env"]) {
        // `/opt` is this machine's own.
        let value = if value == "/opt/airflow" { sandbox.text("opt") } else { value };
        sandbox.set(&name, value);
    }
    if let Some(text) = record.get("requirements") {
        sandbox.write("requirements.txt", text.as_str().unwrap());
    }
    if expected.calls.iter().filter(|call| call[0] == "airflow").count() == 3 {
        let pipe = sandbox.path("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
        sandbox.behave("airflow-webserver", &format!("read begun < {}", pipe.display()));
        sandbox.behave("airflow-scheduler", &format!("echo begun > {}; exec sleep 60", pipe.display()));
    }
    sandbox
}

fn arguments(record: &Value) -> Vec<String> {
    words(&record["args"])
}

/// Compares a run with what must happen; `name` is in every message by way of the outcome.
fn compare(sandbox: &Sandbox, outcome: &Outcome, expected: &Expected, connected: BTreeSet<String>) {
    outcome.succeeds();
    outcome.same(connected, expected.waits.clone());
    let mut calls = sandbox.call_words();
    let mut wanted = expected.calls.clone();
    for call in wanted.iter_mut().flatten().filter(|word| *word == "/requirements.txt") {
        *call = sandbox.text("requirements.txt");
    }
    // The two run side by side.
    for calls in [&mut calls, &mut wanted] {
        if calls.iter().any(|call| call[1..].first().is_some_and(|word| word == "webserver")) && calls.len() > 2 {
            let from = calls.len() - 2;
            calls[from..].sort();
        }
    }
    outcome.same(calls, wanted.clone());
    for call in wanted.iter().rev().take(if wanted.iter().any(|call| call[1..] == ["scheduler"]) { 2 } else { 1 }) {
        if call.get(1).is_some_and(|word| word == "initdb" || word == "connections") {
            continue;
        }
        let key = match call[0].as_str() {
            "airflow" => format!("airflow-{}", call[1]),
            _ => call[..call.len().min(2)].join("-"),
        };
        let mut seen = sandbox.seen(&key);
        seen.retain(|name, _| name.starts_with("AIRFLOW"));
        // What we add: the web secret, where one is kept.
        outcome.same(seen.remove(SECRET).is_some(), sandbox.names("keys").contains(&"web_secret.key".to_owned()));
        let mut variables = expected.variables.clone();
        if let Some(home) = variables.get_mut("AIRFLOW_HOME").filter(|home| *home == "/opt/airflow") {
            *home = sandbox.text("opt");
        }
        if variables.get(KEY).is_some_and(|key| key == "<generated>") {
            let file = sandbox.read("keys/fernet.key");
            outcome.check(file.len() == 45 && sandbox.mode("keys/fernet.key") == key_mode(), "not a whole key file");
            fernet::Fernet::new(file.trim()).unwrap_or_else(|| panic!("not a key{outcome:?}"));
            variables.insert(KEY.into(), file.trim().into());
        }
        outcome.same(seen, variables);
    }
}

/// One record: as it was, and a second start, which must be like the first.
fn check(records: &[Value], record: &Value, services: &mut Services) {
    let name = record["name"].as_str().unwrap();
    println!("{name}");
    let mut expected = expected(records, record);
    let mut sandbox = sandbox(record, &expected);
    if expected.variables.values().any(|url| url.starts_with("rediss:") || url.contains("sslmode=require")) {
        // Our servers speak no TLS here; a real one does in `wait_protocol`.
        sandbox.set("ENTRYPOINT_WAIT_TIMEOUT", "off");
        expected.waits.clear();
    }
    if let Some(tries) = name.strip_prefix("postgres up after ") {
        return late(&sandbox, record, &expected, tries, services);
    }
    for _ in ["first start", "second start"] {
        sandbox.write("calls", "");
        let outcome = sandbox.run(&arguments(record));
        compare(&sandbox, &outcome, &expected, services.connected());
        outcome.check(sandbox.names("keys").contains(&"web_secret.key".to_owned()), "it made no web secret");
    }
}

/// The database appears while we wait, or never.
fn late(sandbox: &Sandbox, record: &Value, expected: &Expected, tries: &str, services: &mut Services) {
    services.remove("postgres", 5432);
    if record["exit"] == 1 {
        assert_eq!(tries, "20 tries");
        let outcome = sandbox.run_with("ENTRYPOINT_WAIT_TIMEOUT", "300ms", &arguments(record));
        outcome.fails(
            69,
            "<lines>airflow-entrypoint: error: cannot reach the database `postgres:5432`: connection refused (tries: <n>, in <s> s)\n\
             airflow-entrypoint: hint: is it running, and is it on this container's network? `ENTRYPOINT_WAIT_TIMEOUT` sets how long to wait\n",
        );
        outcome.same(sandbox.calls(), vec![]);
        services.add("postgres", 5432);
        return;
    }
    let running = sandbox.start(&arguments(record));
    running.until_stderr("the database `postgres:5432` does not answer yet: connection refused\n");
    services.add("postgres", 5432);
    let outcome = running.finish();
    outcome.says("info: the database `postgres:5432` answers (tries: <n>, in <s> s)");
    compare(sandbox, &outcome, expected, services.connected());
}

fn part(number: usize, test: &str) {
    isolated(&format!("vectors_puckel::{test}"), &hosts(&SERVICES), || {
        let records = records();
        let mut services = Services::listen(&SERVICES);
        let mine: Vec<_> = records.iter().skip(number).step_by(PARTS).collect();
        mine.iter().for_each(|record| check(&records, record, &mut services));
        assert_eq!(mine.len(), (99 - number).div_ceil(PARTS));
    });
}

#[test]
fn recorded_runs_1_of_4() {
    part(0, "recorded_runs_1_of_4");
}

#[test]
fn recorded_runs_2_of_4() {
    part(1, "recorded_runs_2_of_4");
}

#[test]
fn recorded_runs_3_of_4() {
    part(2, "recorded_runs_3_of_4");
}

#[test]
fn recorded_runs_4_of_4() {
    part(3, "recorded_runs_4_of_4");
}

#[test]
fn no_record_is_lost() {
    let records = records();
    assert_eq!((records.len(), PARTS), (99, 4));
    let names: BTreeSet<_> = records.iter().map(|record| record["name"].as_str().unwrap()).collect();
    // Two names occur twice, with other values.
    assert_eq!(names.len(), 97);
}

/// What the bash entrypoint did for every command ours does for services alone, unless told otherwise.
#[test]
fn by_default_a_command_that_is_no_service_gets_its_variables_and_nothing_else() {
    isolated("vectors_puckel::by_default_a_command_that_is_no_service_gets_its_variables_and_nothing_else", "", || {
        let records = records();
        for name in ["mycmd a b --x=$HOME / Celery", "version / Celery"] {
            let record = named(&records, name);
            let mut expected = recorded(record);
            let sandbox = sandbox(record, &expected).without("ENTRYPOINT_PREPARE");
            sandbox.write("requirements.txt", "six\n");
            let outcome = sandbox.run(&arguments(record));
            outcome.same(sandbox.names("keys"), vec![]);
            // The control: no server is there, so whoever waited would not get here.
            expected.waits.clear();
            compare(&sandbox, &outcome, &expected, BTreeSet::new());
            let outcome = sandbox.with("ENTRYPOINT_PREPARE", "always").run_with(
                "ENTRYPOINT_WAIT_TIMEOUT",
                "1ms",
                &arguments(record),
            );
            outcome.check(outcome.code() == 69, "it did not wait");
            outcome.check(outcome.keys.starts_with("web_secret.key "), "it made no secret");
        }
    });
}
