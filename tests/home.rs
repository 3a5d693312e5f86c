//! The home of a real Airflow, with a key folder and a database of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::databases::Database;
use crate::sandbox::{BINARY, V1};

pub(crate) struct Home {
    pub(crate) folder: TempDir,
    venv: PathBuf,
    /// The variable that names the database, and its URL.
    database: (String, String),
}

impl Home {
    /// With a new database on this server, or with SQLite; none where this Airflow is not installed.
    pub(crate) fn new(version: &str, server: Option<&Database>, database: &str) -> Option<Self> {
        let venv = crate::referee::venv(&format!("airflow-{version}"), true)?;
        let folder = TempDir::new().unwrap();
        let url = match server {
            Some(server) => server.create(&format!("{database}{}", version.replace('.', "_"))),
            None => format!("sqlite:///{}", folder.path().join("airflow.db").display()),
        };
        let section = if version == V1 { "CORE" } else { "DATABASE" };
        Some(Self { folder, venv, database: (format!("AIRFLOW__{section}__SQL_ALCHEMY_CONN"), url) })
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

    /// Runs this with a key in the environment, or with that of the key folder: its status, and what it said.
    pub(crate) fn run(&self, program: &Path, words: &[&str], key: Option<&str>) -> (i32, String) {
        let mut command = Command::new("timeout");
        command.arg("300").arg(program).args(words).env_clear().env("HOME", self.folder.path());
        command.env("PATH", format!("{}:/usr/bin:/bin", self.venv.join("bin").display()));
        command.env("AIRFLOW_HOME", self.folder.path()).env(&self.database.0, &self.database.1);
        command.env("AIRFLOW__CORE__LOAD_EXAMPLES", "False");
        command.env("AIRFLOW__DATABASE__LOAD_DEFAULT_CONNECTIONS", "False");
        command.env("ENTRYPOINT_KEY_DIR", self.folder.path().join("keys")).env("ENTRYPOINT_EPHEMERAL_KEY", "true");
        command.envs(key.map(|key| ("AIRFLOW__CORE__FERNET_KEY", key)));
        let output = command.output().unwrap();
        let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        (output.status.code().unwrap_or(-1), format!("{words:?}\n{text}"))
    }

    /// Our program.
    pub(crate) fn ours(&self, words: &[&str], key: Option<&str>) -> (i32, String) {
        self.run(Path::new(BINARY), words, key)
    }

    /// Our program ends with this status and says this.
    #[track_caller]
    pub(crate) fn says(&self, words: &[&str], key: Option<&str>, status: i32, line: &str) {
        let (ended, text) = self.ours(words, key);
        assert!(ended == status && text.contains(line), "expected {status} and `{line}`: {ended} {text}");
    }

    /// Airflow's own command.
    pub(crate) fn airflow(&self, words: &[&str], key: &str) -> (i32, String) {
        self.run(&self.venv.join("bin/airflow"), words, Some(key))
    }

    /// A program for Airflow's Python ends well and says this.
    #[track_caller]
    pub(crate) fn python(&self, program: &str, arguments: &[&str], key: &str, line: &str) {
        let words = [&["-c", program], arguments].concat();
        let (ended, text) = self.run(&self.venv.join("bin/python"), &words, Some(key));
        assert!(ended == 0 && text.contains(line), "expected `{line}`: {ended} {text}");
    }
}
