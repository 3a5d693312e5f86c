//! The judges are the libraries that Airflow itself uses: Python's `cryptography` says what is a Fernet key, SQLAlchemy and kombu what a
//! URL means. Ours must agree.

use serde_json::{Value, json};

use crate::referee::{ask, referee};
use crate::sandbox::{Sandbox, V1, V2, V3, new_key};

const FIRST: &str = "46BKJoQYlPPOexq0OhDZnIlNepKFf87WFwLbfzqDDho=";
const SECOND: &str = "7qmma0wOpce2BrpK8rdF8708-tO0ikF09KaKpnOyE9I=";

/// What ours hands on for the text of a key file; nothing when it refuses.
fn ours(sandbox: &Sandbox, text: &str) -> Option<String> {
    sandbox.write("keys/fernet.key", text);
    sandbox.write("calls", "");
    let outcome = sandbox.run(&["mycmd"]);
    if outcome.code() == 0 {
        return sandbox.variable("mycmd", "AIRFLOW__CORE__FERNET_KEY");
    }
    outcome.check(outcome.code() == 78, "neither taken nor refused").same(sandbox.calls(), vec![]);
    None
}

fn recorded(file: &str, list: &str) -> Vec<Value> {
    let value: Value = serde_json::from_str(file).unwrap();
    value[list].as_array().unwrap().clone()
}

/// The recorded keys, lists of keys, and a few hundred accidents of copying and pasting, the same at each run.
fn keys() -> Vec<String> {
    let cases = recorded(include_str!("vectors/fernet_keys.json"), "cases");
    let mut keys: Vec<_> = cases.iter().map(|case| case["input"].as_str().unwrap().to_owned()).collect();
    assert_eq!(keys.len(), 29);
    keys.extend([", ", ",\n", " ,", "\r\n,\t"].map(|comma| format!("{FIRST}{comma}{SECOND}")));
    keys.extend([format!("{FIRST},no key"), format!("{FIRST},{SECOND},{FIRST}"), format!("'{FIRST},{SECOND}'")]);
    let mut state = 0x2545_f491_u32;
    let mut chance = |below: usize| {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state as usize % below
    };
    let strange: Vec<char> = "=!\"' \t\n+/-_$%.aZ9äß\u{feff}".chars().collect();
    for number in 0..200 {
        let mut key: Vec<char> = if number % 2 == 0 { FIRST } else { SECOND }.chars().collect();
        for _ in 0..=chance(3) {
            let at = chance(key.len());
            match chance(4) {
                0 => drop(key.remove(at)),
                1 => key.swap(at, at.saturating_sub(1)),
                2 => key[at] = strange[chance(strange.len())],
                _ => key.insert(at, strange[chance(strange.len())]),
            }
        }
        keys.push(key.into_iter().collect());
    }
    keys
}

#[test]
fn k11_a_key_is_what_python_takes_for_one() {
    let Some(venv) = referee() else { return };
    // As Airflow does it: one Fernet an element. With padding added: the one thing that ours takes besides.
    let program = "
import base64
from cryptography.fernet import Fernet
def canonical(text, padding):
    try:
        keys = [key.encode() + padding for key in text.split(',')]
        [Fernet(key) for key in keys]
        return ','.join(base64.urlsafe_b64encode(base64.urlsafe_b64decode(key)).decode() for key in keys)
    except Exception:
        return None
json.dump([canonical(text, b'') or canonical(text, b'=') for text in q], sys.stdout)";
    let (keys, sandbox) = (keys(), Sandbox::new(V2));
    let verdicts = ask(&venv, program, &json!(keys));
    let mut taken = 0;
    for (key, verdict) in keys.iter().zip(verdicts.as_array().unwrap()) {
        assert_eq!(ours(&sandbox, key).as_deref(), verdict.as_str(), "for the key file {key:?}");
        taken += usize::from(!verdict.is_null());
    }
    // The control: there were many of both.
    assert!(taken > 50 && keys.len() - taken > 50, "{taken} of {}", keys.len());
    // Ours refuses what Python silently cuts: the second key would never be used.
    assert_eq!(ours(&sandbox, &format!("{FIRST}{SECOND}")), None);
    assert_eq!(ask(&venv, program, &json!([format!("{FIRST}{SECOND}")])), json!([FIRST]));
}

#[test]
fn a_variable_and_a_file_are_read_alike() {
    for case in recorded(include_str!("vectors/fernet_keys.json"), "cases") {
        let input = case["input"].as_str().unwrap();
        // A variable cannot hold a NUL, and an empty one is none.
        if input.contains('\0') || input.is_empty() {
            continue;
        }
        let sandbox = Sandbox::new(V2);
        let file = ours(&sandbox, input);
        std::fs::remove_file(sandbox.path("keys/fernet.key")).unwrap();
        let outcome = sandbox.run_with("FERNET_KEY", input, &["mycmd"]);
        let handed_on = (outcome.code() == 0).then(|| sandbox.variable("mycmd", "AIRFLOW__CORE__FERNET_KEY").unwrap());
        outcome.same(handed_on, file);
    }
}

#[test]
fn a_key_of_ours_and_python_understand_each_other() {
    let Some(venv) = referee() else { return };
    let sandbox = Sandbox::new(V3);
    sandbox.run(&["scheduler"]).succeeds();
    let text = sandbox.read("keys/fernet.key");
    let fernet = fernet::Fernet::new(text.trim()).unwrap();
    let program = "
from cryptography.fernet import Fernet
f = Fernet(q['key'])
json.dump([f.decrypt(q['token']).decode(), f.encrypt(b'from Python').decode()], sys.stdout)";
    let answer = ask(&venv, program, &json!({ "key": text, "token": fernet.encrypt(b"from us") }));
    assert_eq!(answer[0], "from us");
    assert_eq!(fernet.decrypt(answer[1].as_str().unwrap()).unwrap(), b"from Python");
}

/// The token and the key of the specification.
#[test]
fn the_key_of_the_specification_passes_and_reads_its_token() {
    for vector in recorded(&format!("{{\"all\":{}}}", include_str!("vectors/fernet-spec/verify.json")), "all") {
        let secret = vector["secret"].as_str().unwrap();
        let key = ours(&Sandbox::new(V2), secret).unwrap();
        assert_eq!(key, secret);
        let token = vector["token"].as_str().unwrap();
        assert_eq!(
            fernet::Fernet::new(&key).unwrap().decrypt(token).unwrap(),
            vector["src"].as_str().unwrap().as_bytes()
        );
        assert!(fernet::Fernet::new(&new_key()).unwrap().decrypt(token).is_err(), "the control: another key reads it");
    }
}

#[test]
fn c01_c26_passwords_come_out_of_the_urls_as_they_went_in() {
    let rows = recorded(include_str!("vectors/userinfo_encoding.json"), "userinfo");
    assert_eq!(rows.len(), 32);
    let mut question = Vec::new();
    for (number, row) in rows.iter().enumerate() {
        let (raw, encoded) = (row["raw"].as_str().unwrap(), row["encoded"].as_str().unwrap());
        let sandbox = Sandbox::new([V1, V2, V3][number % 3]).with("EXECUTOR", "Celery");
        let sandbox = ["POSTGRES_USER", "POSTGRES_PASSWORD", "REDIS_PASSWORD"]
            .into_iter()
            .fold(sandbox, |sandbox, name| sandbox.with(name, raw));
        let outcome = sandbox.run(&["mycmd"]);
        let seen = sandbox.seen("mycmd");
        let section = if number % 3 == 0 { "CORE" } else { "DATABASE" };
        let urls = [&format!("{section}__SQL_ALCHEMY_CONN"), "CELERY__RESULT_BACKEND", "CELERY__BROKER_URL"]
            .map(|name| seen[&format!("AIRFLOW__{name}")].clone());
        outcome.succeeds().same(
            urls.clone(),
            [
                format!("postgresql+psycopg2://{encoded}:{encoded}@postgres:5432/airflow"),
                format!("db+postgresql://{encoded}:{encoded}@postgres:5432/airflow"),
                format!("redis://:{encoded}@redis:6379/1"),
            ],
        );
        question.push(urls);
    }
    let Some(venv) = referee() else { return };
    // Celery cuts `db+` off and gives the rest to SQLAlchemy.
    let program = "
from sqlalchemy.engine import make_url
from kombu.utils.url import parse_url
def read(conn, backend, broker):
    urls = [make_url(conn), make_url(backend.removeprefix('db+'))]
    return [text for url in urls for text in (url.username, url.password)] + [parse_url(broker)['password']]
json.dump([read(*urls) for urls in q], sys.stdout)";
    let answer = ask(&venv, program, &json!(question));
    for (row, texts) in rows.iter().zip(answer.as_array().unwrap()) {
        assert_eq!(texts, &json!(vec![&row["raw"]; 5]), "{row}");
    }
}
