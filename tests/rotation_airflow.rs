//! What real Airflows have encrypted is read by them with the new key alone, on all three kinds of databases.

use std::fs;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use crate::databases::Database;
use crate::sandbox::new_key;
use crate::verdict::servers;

/// A thousand variables and connections, and triggers: one as Airflow encrypts it, one plain as a task of Airflow 3 leaves it.
const WRITE: &str = r#"
import datetime
from airflow.models import Connection, Variable
from airflow.models.trigger import Trigger
from airflow.utils.session import create_session
with create_session() as session:
    for number in range(500):
        session.add(Connection(conn_id=f"c{number}", conn_type="http", password=f"Grüße {number}", extra='{"a": "世界"}'))
        variable = Variable(key=f"v{number}")
        variable.set_val(f"wert {number}")
        session.add(variable)
    session.add(Trigger("airflow.triggers.temporal.DateTimeTrigger", {"moment": "ü"}))
    plain = Trigger("airflow.triggers.temporal.DateTimeTrigger", {})
    plain.encrypted_kwargs = '{"plain": 1}'
    session.add(plain)
"#;

/// All of it as Airflow reads it.
const READ: &str = r#"
from airflow.models import Connection, Variable
from airflow.models.trigger import Trigger
from airflow.utils.session import create_session
with create_session() as session:
    found = {c.conn_id: (c.get_password(), c.get_extra()) for c in session.query(Connection)}
    values = {v.key: v.get_val() for v in session.query(Variable)}
    encrypted, plain = session.query(Trigger).order_by(Trigger.id)
    triggers = [dict(encrypted.kwargs), plain.encrypted_kwargs]
assert found == {f"c{n}": (f"Grüße {n}", '{"a": "世界"}') for n in range(500)}
assert values == {f"v{n}": f"wert {n}" for n in range(500)}
assert triggers == [{"moment": "ü"}, '{"plain": 1}'], triggers
print("reads all")
"#;

/// How many of the tokens the key reads. Airflow does not even load a connection whose password it cannot read.
const COUNT: &str = r#"
import os
from cryptography.fernet import Fernet, InvalidToken
from sqlalchemy import text
from airflow.utils.session import create_session
key = Fernet(os.environ["AIRFLOW__CORE__FERNET_KEY"])
with create_session() as session:
    queries = ["SELECT password FROM connection", "SELECT extra FROM connection", "SELECT val FROM variable"]
    tokens = [row[0] for query in queries for row in session.execute(text(query))]
def reads(token):
    try:
        return key.decrypt(token.encode()) is not None
    except InvalidToken:
        return False
print("reads", sum(map(reads, tokens)), "of", len(tokens))
"#;

struct Home {
    folder: TempDir,
    version: &'static str,
    url: String,
}

impl Home {
    /// With this key in the environment, or the one of the key folder.
    fn run(&self, program: &Path, words: &[&str], key: Option<&str>) -> (i32, String) {
        let venv = crate::referee::venv(&format!("airflow-{}", self.version), true).unwrap();
        let mut command = Command::new("timeout");
        command.arg("120").arg(program).args(words).env_clear().env("HOME", self.folder.path());
        command.env("PATH", format!("{}:/usr/bin:/bin", venv.join("bin").display()));
        command.env("AIRFLOW_HOME", self.folder.path()).env("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", &self.url);
        command.env("AIRFLOW__CORE__LOAD_EXAMPLES", "False");
        command.env("AIRFLOW__DATABASE__LOAD_DEFAULT_CONNECTIONS", "False");
        command.env("ENTRYPOINT_KEY_DIR", self.folder.path().join("keys")).env("ENTRYPOINT_EPHEMERAL_KEY", "true");
        command.envs(key.map(|key| ("AIRFLOW__CORE__FERNET_KEY", key)));
        let output = command.output().unwrap();
        let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        (output.status.code().unwrap_or(-1), format!("{words:?}\n{text}"))
    }

    #[track_caller]
    fn says(&self, words: &[&str], line: &str) {
        let (ended, text) = self.run(Path::new(env!("CARGO_BIN_EXE_airflow-entrypoint")), words, None);
        assert!(ended == 0 && text.contains(line), "expected `{line}`: {ended} {text}");
    }

    #[track_caller]
    fn airflow(&self, program: &str, key: &str, line: &str) {
        let venv = crate::referee::venv(&format!("airflow-{}", self.version), true).unwrap();
        let (ended, text) = self.run(&venv.join("bin/python"), &["-c", program], Some(key));
        assert!(ended == 0 && text.contains(line), "expected `{line}`: {ended} {text}");
    }
}

fn rotated(version: &'static str, server: Option<&Database>) {
    if crate::referee::venv(&format!("airflow-{version}"), true).is_none() {
        return;
    }
    let folder = TempDir::new().unwrap();
    let url = match server {
        Some(server) => server.create(&format!("rotated{}", version.replace('.', "_"))),
        None => format!("sqlite:///{}", folder.path().join("airflow.db").display()),
    };
    let home = Home { folder, version, url };
    let (file, old) = (home.folder.path().join("keys/fernet.key"), new_key());
    fs::create_dir(home.folder.path().join("keys")).unwrap();
    fs::write(&file, format!("{old}\n")).unwrap();
    home.says(&["setup"], "end, since all is prepared");
    home.airflow(WRITE, &old, "");
    home.says(&["key", "rotate"], "1501 encrypted anew, all 1501 are read by");
    let list = fs::read_to_string(&file).unwrap();
    let new = list.trim_end().strip_suffix(&format!(",{old}")).unwrap();
    home.airflow(READ, new, "reads all");
    home.airflow(COUNT, new, "reads 1500 of 1500");
    home.airflow(COUNT, &old, "reads 0 of 1500");
    home.says(&["key", "retire"], "no longer in");
    assert_eq!(fs::read_to_string(&file).unwrap(), format!("{new}\n"));
    home.says(&["setup"], "reads all 1501 encrypted values");
}

#[test]
fn k10_what_airflow_2_has_encrypted_is_rotated() {
    for server in servers().iter().map(Some).chain([None]) {
        rotated("2.11.2", server);
    }
}

#[test]
fn k10_what_airflow_3_has_encrypted_is_rotated() {
    for server in servers().iter().map(Some).chain([None]) {
        rotated("3.3.2", server);
    }
}
