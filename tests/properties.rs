//! What must hold for every text: it comes out of a URL, and out of `airflow.cfg`, as it went in. The judges are those who read them in
//! the end: SQLAlchemy, kombu and Python's configparser.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, TestRng, TestRunner};
use serde_json::{Value, json};

use crate::referee::{ask, referee};
use crate::sandbox::{LINES, Sandbox};

/// Texts of any characters but those that no variable can hold (NUL) or no line (line ends); they start and end with something that is
/// not blank, since configparser keeps no blanks there.
fn texts(count: usize) -> Vec<String> {
    let any = prop_oneof![
        3 => proptest::char::range(' ', '~'),
        1 => any::<char>(),
        1 => prop::sample::select("$%{}@:/?#&=+;,[]'\"\\`^| ~".chars().collect::<Vec<_>>()),
    ];
    let text =
        vec(any, 1..24).prop_map(|chars| chars.into_iter().filter(|c| !"\0\r\n".contains(*c)).collect::<String>());
    // The same texts in every run: a failure is there again for whoever looks for it.
    let mut runner = TestRunner::new_with_rng(Config::default(), TestRng::deterministic_rng(Default::default()));
    let mut texts = vec!["$NAME ${NAME:-x} $$ %% %(x)s".to_owned(), "日本 pässwort 😀".to_owned()];
    while texts.len() < count {
        let text = text.new_tree(&mut runner).unwrap().current().trim().to_owned();
        if !text.is_empty() {
            texts.push(text);
        }
    }
    texts
}

/// What `airflow.cfg` would be for this sandbox.
fn rendered(sandbox: &Sandbox) -> String {
    let outcome = sandbox.run(&["render-cfg", "--show-secrets", "scheduler"]);
    outcome.succeeds();
    outcome.stdout
}

#[test]
fn c01_c21_a_value_comes_out_of_the_file_as_it_went_in() {
    let texts = texts(120);
    let mut files = Vec::new();
    for text in &texts {
        let sandbox =
            Sandbox::new(LINES[files.len() % 3]).with("OWN", text).with_path("ENTRYPOINT_TEMPLATE", "own.cfg");
        sandbox.write("own.cfg", "[own]\nplain = $OWN\ndefault = ${NONE:-${OWN}}\nother = ${OWN:+<${OWN}>}\n");
        let file = rendered(&sandbox);
        // Nothing is left to fill in, and nothing was filled in twice.
        let value = text.replace('%', "%%");
        let expected = format!("[own]\nplain = {value}\ndefault = {value}\nother = <{value}>\n");
        assert!(file.ends_with(&expected), "{text:?} became {file:?}");
        files.push(file);
    }
    let Some(venv) = referee() else { return };
    let program = "
import configparser
def read(text):
    parser = configparser.ConfigParser(inline_comment_prefixes=None, interpolation=configparser.BasicInterpolation())
    parser.read_string(text)
    return [parser.get('own', key) for key in ('plain', 'default', 'other')]
json.dump([read(text) for text in q], sys.stdout)";
    let answer = ask(&venv, program, &json!(files));
    for (text, found) in texts.iter().zip(answer.as_array().unwrap()) {
        assert_eq!(found, &json!([text, text, format!("<{text}>")]));
    }
}

#[test]
fn c01_every_part_comes_out_of_the_urls_as_it_went_in() {
    let texts = texts(120);
    let mut question = Vec::new();
    for (number, text) in texts.iter().enumerate() {
        let version = LINES[number % 3];
        let sandbox = Sandbox::new(version).with("EXECUTOR", "Celery");
        let sandbox = ["POSTGRES_USER", "POSTGRES_PASSWORD", "POSTGRES_DB", "REDIS_PASSWORD"]
            .into_iter()
            .fold(sandbox, |sandbox, name| sandbox.with(name, text));
        let outcome = sandbox.run(&["mycmd"]);
        outcome.succeeds();
        let mut seen = sandbox.seen("mycmd");
        let section = if version == LINES[0] { "CORE" } else { "DATABASE" };
        let names = [&format!("{section}__SQL_ALCHEMY_CONN"), "CELERY__RESULT_BACKEND", "CELERY__BROKER_URL"];
        let urls = names.map(|name| seen.remove(&format!("AIRFLOW__{name}")).unwrap());
        assert!(urls.iter().all(|url| !url.contains('$')), "Airflow would expand {urls:?}");
        question.push(json!(urls));
    }
    let Some(venv) = referee() else { return };
    let program = "
from sqlalchemy.engine import make_url
from kombu.utils.url import parse_url
def database(url):
    url = make_url(url)
    return url.query.get('dbname', url.database)
def read(conn, backend, broker):
    urls = [make_url(conn), make_url(backend.removeprefix('db+'))]
    texts = [text for url in urls for text in (url.username, url.password)]
    return texts + [database(conn), database(backend.removeprefix('db+')), parse_url(broker)['password']]
json.dump([read(*urls) for urls in q], sys.stdout)";
    let answer: Value = ask(&venv, program, &json!(question));
    for (text, found) in texts.iter().zip(answer.as_array().unwrap()) {
        assert_eq!(found, &json!(vec![text; 7]));
    }
}
