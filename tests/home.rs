//! The home of a real Airflow: a folder, a key folder and a database of its own.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::databases::{Database, Kind};
use crate::prepared::{Ready, copy};
use crate::sandbox::{BINARY, V1, V2, new_key};
use crate::warm::{Answer, Question};

pub(crate) struct Home {
    folder: TempDir,
    venv: PathBuf,
    pub(crate) version: &'static str,
    /// None for SQLite.
    pub(crate) server: Option<Database>,
    variables: BTreeMap<String, String>,
}

/// What a command has said, and how it ended.
pub(crate) struct Said {
    pub(crate) status: i64,
    /// Stdout and then stderr, behind the command.
    pub(crate) text: String,
}

impl Home {
    /// With an empty SQLite; none, said by name, where this Airflow is not installed. 1.10 needs a Python that few machines have.
    pub(crate) fn empty(version: &'static str) -> Option<Self> {
        let venv = crate::referee::venv(&format!("airflow-{version}"), version != V1)?;
        let folder = TempDir::new().unwrap();
        fs::create_dir(folder.path().join("home")).unwrap();
        let home = Self { folder, venv, version, server: None, variables: BTreeMap::new() };
        let path = format!("{}:/usr/bin:/bin", home.venv.join("bin").display());
        let (root, airflow_home) = (home.path(""), home.path("home"));
        let home = home.with("PATH", &path).with("HOME", &root).with("AIRFLOW_HOME", &airflow_home);
        let home = home.with("AIRFLOW__CORE__UNIT_TEST_MODE", "False").with("AIRFLOW__CORE__LOAD_EXAMPLES", "False");
        Some(home.with("AIRFLOW__DATABASE__LOAD_DEFAULT_CONNECTIONS", "False"))
    }

    /// With a database of this kind, or SQLite's, as this Airflow has migrated it; none where the server is missing, too.
    pub(crate) fn new(version: &'static str, kind: Option<Kind>) -> Option<Self> {
        let mut home = Self::empty(version)?;
        let Some(kind) = kind else {
            Ready::new(version).with(None, |kept| copy(&kept.join("airflow.db"), &home.folder.path().join("home")));
            return Some(home);
        };
        if kind == Kind::MariaDb && !crate::migrate_airflow::speaks_mariadb(version) {
            return None;
        }
        let server = Database::ready(kind, Ready::new(version))?;
        let section = if version == V1 { "CORE" } else { "DATABASE" };
        let home_with = home.with(&format!("AIRFLOW__{section}__SQL_ALCHEMY_CONN"), &server.url("airflow"));
        home = home_with.with("EXECUTOR", "Local");
        home.server = Some(server);
        Some(home)
    }

    /// With this variable from now on.
    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.variables.insert(name.to_owned(), value.to_owned());
        self
    }

    pub(crate) fn is_on(&self, kind: Kind) -> bool {
        self.server.as_ref().is_some_and(|server| server.kind == kind)
    }

    /// A path in the folder.
    pub(crate) fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        fs::write(self.folder.path().join(name), text).unwrap();
    }

    /// The key file.
    pub(crate) fn file(&self) -> PathBuf {
        self.folder.path().join("keys/fernet.key")
    }

    /// Has these keys in the file from now on.
    pub(crate) fn keep(&self, keys: &str) {
        fs::create_dir_all(self.file().parent().unwrap()).unwrap();
        fs::write(self.file(), format!("{keys}\n")).unwrap();
    }

    fn command(&self, program: &Path, words: &[&str], variables: &[(&str, &str)]) -> Said {
        let mut command = Command::new("timeout");
        command.args(["-k", "1", "300"]).arg(program).args(words).env_clear().envs(&self.variables);
        command.envs(variables.iter().copied()).current_dir(self.folder.path());
        let output = command.output().unwrap();
        let streams = [output.stdout, output.stderr].concat();
        let text = format!("$ {command:?}\n{}", String::from_utf8_lossy(&streams));
        Said { status: output.status.code().unwrap_or(-1).into(), text }
    }

    /// Through our program.
    pub(crate) fn ours(&self, words: &[&str], variables: &[(&str, &str)]) -> Said {
        let keys = self.path("keys");
        let variables = [&[("ENTRYPOINT_KEY_DIR", &*keys), ("ENTRYPOINT_EPHEMERAL_KEY", "true")], variables].concat();
        self.command(Path::new(BINARY), words, &variables)
    }

    /// Airflow alone, as a bare `docker exec` would run it.
    pub(crate) fn bare(&self, words: &[&str], variables: &[(&str, &str)]) -> Said {
        self.command(&self.venv.join("bin/airflow"), words, variables)
    }

    /// Our program, with a key in the environment or with that of the key folder, ends with this status and says this.
    #[track_caller]
    pub(crate) fn says(&self, words: &[&str], key: Option<&str>, status: i64, line: &str) {
        let variables: Vec<_> = key.map(|key| ("AIRFLOW__CORE__FERNET_KEY", key)).into_iter().collect();
        let said = self.ours(words, &variables);
        assert!(
            said.status == status && said.text.contains(line),
            "expected {status} and `{line}`: {} {}",
            said.status,
            said.text
        );
    }

    /// What a program for Airflow's Python does with this key.
    pub(crate) fn asked(&self, program: &str, arguments: &[&str], stdin: &str, key: &str) -> Answer {
        let key = ("AIRFLOW__CORE__FERNET_KEY".to_owned(), key.to_owned());
        let environment = self.variables.clone().into_iter().chain([key]).collect();
        let question = Question { program, arguments, stdin, environment, folder: self.folder.path() };
        crate::warm::ask(&self.venv, &question)
    }

    /// Such a program ends well and says this.
    #[track_caller]
    pub(crate) fn python(&self, program: &str, arguments: &[&str], key: &str, line: &str) {
        let Answer { status, stdout, stderr } = self.asked(program, arguments, "", key);
        assert!(
            status == 0 && [&*stdout, &*stderr].concat().contains(line),
            "expected `{line}`: {status} {stdout}{stderr}"
        );
    }
}

/// Nothing of a question is there in the next one, though one process has imported what Airflow needs for all of them.
#[test]
fn each_question_has_the_key_database_and_home_of_its_own() {
    const SET: &str = r#"
import os, sys
from airflow.models import Variable
Variable.set("v", sys.stdin.read())
os.environ["LEFT"] = "behind"
sys.modules["left"] = sys
"#;
    const GET: &str = r#"
import os, sys
from airflow import settings
from airflow.models import Variable
assert "LEFT" not in os.environ and "left" not in sys.modules
print(os.environ["AIRFLOW_HOME"], os.getcwd(), settings.engine.url.database, sys.argv[1:], Variable.get("v", default_var=None))
"#;
    const DECRYPT: &str = r#"
from airflow.models import Variable
from airflow.models.crypto import get_fernet
from airflow.settings import Session
print(get_fernet().decrypt(Session().query(Variable).one()._val.encode()).decode())
"#;
    for version in crate::sandbox::LINES {
        let Some(one) = Home::new(version, None) else { continue };
        let Some(two) = Home::new(version, Some(Kind::Postgres)) else { continue };
        let (key, other) = (new_key(), new_key());
        let expected = |home: &Home, database: &str, value: &str| {
            format!("{} {} {database} ['a', 'b'] {value}\n", home.path("home"), home.folder.path().display())
        };
        assert_eq!(one.asked(SET, &[], "größe", &key).status, 0);
        assert_eq!(two.asked(SET, &[], "another", &other).status, 0);
        let file = one.path("home/airflow.db");
        for (home, key, database, value) in [(&one, &key, &*file, "größe"), (&two, &other, "airflow", "another")] {
            let answer = home.asked(GET, &["a", "b"], "", key);
            assert_eq!((answer.status, answer.stdout), (0, expected(home, database, value)), "{}", answer.stderr);
        }
        // Each with its own key, and with the other one's.
        for (home, key, wrong, value) in [(&one, &key, &other, "größe"), (&two, &other, &key, "another")] {
            let answer = home.asked(DECRYPT, &[], "", key);
            assert_eq!((answer.status, answer.stdout), (0, format!("{value}\n")), "{}", answer.stderr);
            let answer = home.asked(DECRYPT, &[], "", wrong);
            assert!(answer.status == 1 && !answer.stdout.contains(value), "{}", answer.stdout);
            assert!(answer.stderr.ends_with("cryptography.fernet.InvalidToken\n"), "{}", answer.stderr);
        }
    }
    // What ends badly is said.
    let Some(home) = Home::empty(V2) else { return };
    let answer = home.asked("import sys\nprint(1)\nsys.exit(3)", &[], "", "");
    assert_eq!((answer.status, &*answer.stdout), (3, "1\n"));
    let answer = home.asked("nothing", &[], "", "");
    assert_eq!((answer.status, answer.stderr.contains("NameError: name 'nothing' is not defined")), (1, true));
}
