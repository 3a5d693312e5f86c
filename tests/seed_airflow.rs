//! What we seed, real Airflows read; what they encrypt and export, we read: on SQLite, PostgreSQL and MariaDB.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::databases::Kind;
use crate::home::{Home, Said};
use crate::sandbox::{V1, V2, V3, new_key};

/// What Airflow is asked in one go: what it holds, how it takes URIs apart, to write something of its own, and to export all of it.
const REFEREE: &str = r#"
import json, os, sys
q = json.load(sys.stdin)
out, sys.stdout = sys.stdout, sys.stderr
from airflow.models import Connection, Variable, Pool
from airflow.settings import Session
def fields(c):
    names = "conn_type host login password schema port extra".split()
    return dict({n: getattr(c, n) or None for n in names}, description=getattr(c, "description", None))
session = Session()
a = {"connections": {}, "variables": {}, "pools": {}, "uris": {}, "refused": [], "flags": {}}
for c in session.query(Connection):
    a["connections"][c.conn_id] = fields(c)
    a["flags"][c.conn_id] = [bool(c.is_encrypted), bool(c.is_extra_encrypted), (c._password or "")[:6], (c._extra or "")[:6]]
for v in session.query(Variable):
    a["variables"][v.key] = [v.val, bool(v.is_encrypted), getattr(v, "description", None)]
for p in session.query(Pool):
    a["pools"][p.pool] = [p.slots, p.description, getattr(p, "include_deferred", None)]
for name, uri in q["uris"].items():
    a["uris"][name] = fields(Connection(conn_id=name, uri=uri))
for uri in q["bad"]:
    try:
        Connection(conn_id="bad", uri=uri)
    except Exception:
        a["refused"].append(uri)
for name, c in q["connections"].items():
    session.add(Connection(conn_id=name, **c))
for key, value in q["variables"].items():
    session.add(Variable(key=key, val=value))
session.commit()
if q["hook"]:
    from airflow.models.connection import Connection
    get = getattr(Connection, "get_connection_from_secrets", None)
    if get is None:
        from airflow.hooks.base_hook import BaseHook
        get = BaseHook.get_connection
    a["hook"] = fields(get("db"))
for words in q["exports"]:
    from airflow.cli import cli_parser
    arguments = cli_parser.get_parser().parse_args(words)
    arguments.func(arguments)
json.dump(a, out)
"#;

const SEED: &str = r#"
connections:
  db: {uri: 'postgresql://u@h:5432/s?sslmode=require', password: "${DB_PASSWORD}", description: größe}
  web:
    conn_type: http
    host: https://x
    port: 443
    extra: {token: {file: token}, "\u00fc😀": [1, 2.5, 1e16, true, null, {}]}
  bare: {conn_type: fs}
variables:
  text: "$$ größe"
  empty: ""
  json: {a: [1, {b: ü}]}
  described: {value: x, description: told}
pools:
  small: 3
  told: {slots: 4, description: two, include_deferred: false}
"#;

const PASSWORD: &str = "p%24:/@ '\"\\$x`ü€😀";

/// One Airflow that has a key in its environment.
struct Real {
    home: Home,
    key: String,
}

impl Real {
    #[track_caller]
    fn ours(&self, words: &[&str]) -> String {
        let seeds = format!("{}:{}", self.home.path("seed.yaml"), self.home.path("uri-connections.env"));
        let variables =
            [("AIRFLOW__CORE__FERNET_KEY", &*self.key), ("DB_PASSWORD", PASSWORD), ("ENTRYPOINT_SEED", &*seeds)];
        let Said { status, text } = self.home.ours(words, &variables);
        assert_eq!(status, 0, "{text}");
        text.lines().find(|line| line.contains("seeded: ")).unwrap_or_else(|| panic!("{text}")).to_owned()
    }

    fn asked(&self, question: &Value) -> Value {
        let answer = self.home.asked(REFEREE, &[], &question.to_string(), &self.key);
        assert_eq!(answer.status, 0, "{}: {}", self.home.version, answer.stderr);
        serde_json::from_str(&answer.stdout).unwrap()
    }
}

/// URIs of every shape, by names that sort as they stand here.
fn uris(version: &str) -> Vec<(String, String)> {
    let common = [
        "postgresql://us%40er:p%2Fw%24d@h%2FOst:5433/sch%2Fema?sslmode=require&x=%7B1%7D",
        "my-type://u:p@HOST:80/S",
        "http://",
        "http://h",
        "http://h/",
        "a://:80",
        "a://@:80",
        "a://u@h",
        "a://u:@h",
        "a://:p@h",
        "a://u:p@",
        "a://u:p:q@h:1",
        "a://u@x:p@h:1",
        "a://[::1]:8080/x",
        "a://h/a/b%2Fc",
        "a://h?x=1&y=&z&x=2",
        "a://h/?a+b=c+d&e=%2B%20%C3%BC",
        "a://h/s#f?x=1",
        "a://H%C3%BC%2FX:1/",
        "A-B://h",
        "s3://KEY:sec%2Bret@S3",
        "a://h:/x",
        "a://%E2%82%AC:%F0%9F%98%80@h",
        "a://h/%zz%",
        "google-cloud-platform://?extra__google_cloud_platform__project=p&n=5&f=1.50&b=true&l=%5B1%5D&s=%22q%22&big=123456789012345678901234567890",
    ];
    let newer = [
        "http://https://h:80/s",
        "http://https://u:p%40@h:80/s?x=y",
        "http://h/?__extra__=%7B%22a%22%3A+%7B%22b%22%3A+1%7D%7D",
        "http://h/?x=1&__extra__=%7B%22a%22%3A1%7D",
    ];
    let newer = newer.iter().filter(|_| version != V1);
    let all = common.iter().chain(newer).enumerate();
    all.map(|(index, uri)| (format!("uri_{index:02}"), (*uri).to_owned())).collect()
}

/// What is wrong to Airflow as well as to us.
const BAD: [&str; 4] = ["a://h:x", "a://h:70000", "a://b://c://d", "a://u:p@b://h"];

fn check(version: &'static str, kind: Option<Kind>) {
    let Some(home) = Home::new(version, kind) else { return };
    let real = Real { home, key: new_key() };
    let home = &real.home;
    let is_old = version == V1;
    let label = format!("{version} {kind:?}");
    let uris = uris(version);
    home.write("seed.yaml", SEED);
    home.write("token", "t0ken\n");
    home.write("uri-connections.env", &uris.iter().map(|(name, uri)| format!("{name}={uri}\n")).collect::<String>());
    let seeded = real.ours(&["setup"]);
    let count = uris.len() + 3;
    assert!(
        seeded.contains(&format!("connections: {count} added (`db`, `web`, `bare`, `uri_00`")),
        "{label}: {seeded}"
    );
    assert!(seeded.contains("; pools: 2 added (`small`, `told`)"), "{label}: {seeded}");

    // MariaDB's TEXT ends at 64 KiB, 1.10's column at 5000 characters.
    let is_maria = home.is_on(Kind::MariaDb);
    let long = "ü".repeat(if is_old {
        500
    } else if is_maria {
        16_000
    } else {
        33_000
    });
    let theirs = json!({
        "their_1": {"conn_type": "http", "host": "h", "login": "l", "password": PASSWORD, "port": 1, "schema": "s",
            "extra": format!("{{\"a\": \"{long}\", \"b\":1}}")},
        "their_2": {"conn_type": "ftp", "password": "\n €", "extra": "{\"x\": {\"y\": [1]}}"},
    });
    let their_variables =
        json!({"their_text": long, "their_json": "{\"a\":   [1, \"ü\"]}", "their_number": "5", "their_empty": ""});
    let export = |words: &[&str]| -> Vec<String> { words.iter().map(|&word| word.to_owned()).collect() };
    let exports = match is_old {
        true => vec![],
        false => vec![
            export(&["connections", "export", "connections.json"]),
            export(&["connections", "export", "connections.yaml"]),
            export(&["connections", "export", "connections.env"]),
            export(&["connections", "export", "json-connections.env", "--serialization-format", "json"]),
            export(&["variables", "export", "variables.json"]),
            export(&["pools", "export", "pools.json"]),
        ],
    };
    let bad: &[&str] = if is_old { &BAD[..2] } else { &BAD };
    let answer = real.asked(&json!({
        "uris": uris.iter().cloned().collect::<BTreeMap<_, _>>(),
        "bad": bad, "connections": theirs, "variables": their_variables, "exports": exports, "hook": true,
    }));
    let connection = |name: &str| answer["connections"][name].clone();
    let described = |text: &str| if is_old { Value::Null } else { text.into() };
    assert_eq!(
        connection("db"),
        json!({"conn_type": "postgres", "host": "h", "login": "u", "password": PASSWORD, "schema": "s", "port": 5432,
            "extra": "{\"sslmode\": \"require\"}", "description": described("größe")}),
        "{label}"
    );
    assert_eq!(answer["hook"], connection("db"), "{label}");
    let extra = "{\"token\": \"t0ken\", \"\\u00fc\\ud83d\\ude00\": [1, 2.5, 1e+16, true, null, {}]}";
    assert_eq!(
        (&connection("web")["extra"], &connection("web")["host"]),
        (&json!(extra), &json!("https://x")),
        "{label}"
    );
    for (name, flags) in [
        ("db", json!([true, true, "gAAAAA", "gAAAAA"])),
        ("web", json!([false, true, "", "gAAAAA"])),
        ("bare", json!([false, false, "", ""])),
    ] {
        assert_eq!(answer["flags"][name], flags, "{label} {name}");
    }
    assert_eq!(answer["variables"]["text"], json!(["$ größe", true, null]), "{label}");
    assert_eq!(answer["variables"]["empty"], json!(["", true, null]), "{label}");
    assert_eq!(
        answer["variables"]["json"][0],
        json!("{\n  \"a\": [\n    1,\n    {\n      \"b\": \"\\u00fc\"\n    }\n  ]\n}"),
        "{label}"
    );
    assert_eq!(answer["variables"]["described"], json!(["x", true, described("told")]), "{label}");
    assert_eq!(answer["pools"]["told"], json!([4, "two", if is_old { Value::Null } else { false.into() }]), "{label}");
    assert_eq!(answer["pools"]["small"][0], json!(3), "{label}");
    for (name, uri) in &uris {
        assert_eq!(connection(name), answer["uris"][name], "{label} {uri}");
    }
    assert_eq!(answer["refused"], json!(bad), "{label}");

    // What Airflow has encrypted is what it was: nothing is written.
    home.write(
        "their.json",
        &json!({"connections": theirs, "variables": their_variables}).to_string().replace('$', "$$"),
    );
    let same = real.ours(&["seed", "--mode", "sync", "their.json"]);
    assert!(same.ends_with("seeded: connections: 2 as before; variables: 4 as before"), "{label}: {same}");
    for (name, expected) in [
        ("connections.json", format!("connections: {} as before", count + 2)),
        ("connections.yaml", format!("connections: {} as before", count + 2)),
        ("connections.env", format!("connections: {} as before", count + 2)),
        ("json-connections.env", format!("connections: {} as before", count + 2)),
        ("variables.json", "variables: 8 as before".to_owned()),
        ("pools.json", "pools: 3 as before".to_owned()),
    ] {
        if !is_old {
            let same = real.ours(&["seed", "--mode", "sync", name]);
            assert!(same.ends_with(&format!("seeded: {expected}")), "{label} {name}: {same}");
        }
    }
    // The control: another letter is seen.
    home.write("their.json", &json!({"variables": {"their_text": format!("{long}u")}}).to_string());
    let other = real.ours(&["seed", "--mode", "sync", "their.json"]);
    assert!(other.ends_with("seeded: variables: 1 changed (`their_text`)"), "{label}: {other}");
}

#[test]
fn u09_airflow_1_on_sqlite() {
    check(V1, None);
}

#[test]
fn u09_airflow_2_on_sqlite() {
    check(V2, None);
}

#[test]
fn u09_airflow_3_on_sqlite() {
    check(V3, None);
}

#[test]
fn u09_airflow_2_on_postgres() {
    check(V2, Some(Kind::Postgres));
}

#[test]
fn u09_airflow_3_on_postgres() {
    check(V3, Some(Kind::Postgres));
}

#[test]
fn u09_airflow_2_on_mariadb() {
    check(V2, Some(Kind::MariaDb));
}

#[test]
fn u09_airflow_3_on_mariadb() {
    check(V3, Some(Kind::MariaDb));
}
