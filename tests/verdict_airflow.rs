//! What real Airflows have encrypted is judged right, on all three kinds of databases, and our table is in the way of none of their commands.

use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use crate::databases::{Database, Kind};
use crate::sandbox::{fingerprint, new_key};
use crate::verdict::servers;

/// Rows of the hard kinds: Unicode, 64 KB, an empty value, one without any secret.
const WRITE: &str = r#"
import json, sys
from airflow.models import Connection, Variable
from airflow.utils.session import create_session
with create_session() as session:
    extra = json.dumps({"text": "é世界😀" * int(sys.argv[1])}, ensure_ascii=False)
    session.add(Connection(conn_id="wide", conn_type="http", password="Grüße, 世界", extra=extra))
    session.add(Connection(conn_id="narrow", conn_type="http", password="p"))
    session.add(Connection(conn_id="open", conn_type="http", host="h"))
    for key, val in [("v", "wert: ü"), ("empty", "")]:
        variable = Variable(key=key)
        variable.set_val(val)
        session.add(variable)
"#;

struct Home {
    folder: TempDir,
    version: &'static str,
    url: String,
}

impl Home {
    fn run(&self, program: &Path, words: &[&str], key: &str) -> (i32, String) {
        let venv = crate::referee::venv(&format!("airflow-{}", self.version), true).unwrap();
        let keys = self.folder.path().join("keys");
        let mut command = Command::new("timeout");
        command.arg("120").arg(program).args(words).env_clear().env("HOME", self.folder.path());
        command.env("PATH", format!("{}:/usr/bin:/bin", venv.join("bin").display()));
        command.env("AIRFLOW_HOME", self.folder.path()).env("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", &self.url);
        command.env("AIRFLOW__CORE__LOAD_EXAMPLES", "False").env("AIRFLOW__CORE__FERNET_KEY", key);
        command.env("AIRFLOW__DATABASE__LOAD_DEFAULT_CONNECTIONS", "False");
        command.env("ENTRYPOINT_KEY_DIR", keys).env("ENTRYPOINT_EPHEMERAL_KEY", "true");
        let output = command.output().unwrap();
        let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        (output.status.code().unwrap_or(-1), format!("{words:?}\n{text}"))
    }

    fn ours(&self, words: &[&str], key: &str) -> (i32, String) {
        self.run(Path::new(env!("CARGO_BIN_EXE_airflow-entrypoint")), words, key)
    }

    #[track_caller]
    fn says(&self, words: &[&str], key: &str, status: i32, line: &str) {
        let (ended, text) = self.ours(words, key);
        assert!(ended == status && text.contains(line), "expected {status} and `{line}`: {ended} {text}");
    }
}

fn judged(version: &'static str, server: Option<&Database>) {
    let Some(venv) = crate::referee::venv(&format!("airflow-{version}"), true) else { return };
    let folder = TempDir::new().unwrap();
    let url = match server {
        Some(server) => server.create(&format!("airflow{}", version.replace('.', "_"))),
        None => format!("sqlite:///{}", folder.path().join("airflow.db").display()),
    };
    let home = Home { folder, version, url };
    let (key, other) = (new_key(), new_key());
    home.says(&["setup"], &key, 0, "end, since all is prepared");
    // 96 KB; MariaDB takes 64 KB of token.
    let wide = if server.is_some_and(|server| server.kind == Kind::MariaDb) { "3500" } else { "8000" };
    let (status, text) = home.run(&venv.join("bin/python"), &["-c", WRITE, wide], &key);
    assert_eq!(status, 0, "{text}");
    let reads = format!("the Fernet key `{}` reads all 5 encrypted values in the database", fingerprint(&key));
    home.says(&["setup"], &key, 0, &reads);
    let list = format!("the Fernet keys `{},{}` read all 5 encrypted values", fingerprint(&other), fingerprint(&key));
    home.says(&["key", "check"], &format!("{other},{key}"), 0, &list);
    let (status, text) = home.ours(&["setup"], &other);
    let expected = format!(
        "error: cannot use the Fernet key `{}`: it reads none of the 5 encrypted values in the",
        fingerprint(&other)
    );
    assert!(status == 65 && text.contains(&expected), "{text}");
    assert!(
        ["connections ", "`wide`", "`narrow`", "variables ", "`v`", "`empty`"].iter().all(|name| text.contains(name)),
        "{text}"
    );
    assert!(!text.contains("`open`"), "{text}");
    if server.is_some_and(|server| server.kind == Kind::Postgres) {
        // Our table is there, and Airflow's own commands do with the rest what they always do.
        for words in [
            &["db", "migrate"][..],
            &["db", "check-migrations", "-t", "10"],
            &["db", "clean", "--clean-before-timestamp", "2100-01-01", "--yes", "--skip-archive"],
            &["db", "reset", "--yes"],
        ] {
            let (status, text) = home.run(&venv.join("bin/airflow"), words, &key);
            assert_eq!(status, 0, "{text}");
        }
        // What was encrypted is gone, and who is registered is not.
        let (status, text) = home.ours(&["key", "check"], &other);
        assert!(status == 0 && !text.contains("encrypted value"), "{text}");
        let (status, text) = home.ours(&["setup"], &other);
        assert!(status == 65 && text.contains("has registered another one in the database of"), "{text}");
    }
}

#[test]
fn k09_what_airflow_2_has_encrypted() {
    for server in servers().iter().map(Some).chain([None]) {
        judged("2.11.2", server);
    }
}

#[test]
fn k09_what_airflow_3_has_encrypted() {
    for server in servers().iter().map(Some).chain([None]) {
        judged("3.3.2", server);
    }
}
