//! Real Airflows of all three lines behind the binary, on SQLite, in a virtual environment each.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

const LINES: [&str; 3] = ["1.10.15", "2.11.2", "3.3.2"];

/// A home and a key folder for one Airflow.
struct Home {
    folder: TempDir,
    airflow: PathBuf,
    version: &'static str,
}

struct Said {
    status: i32,
    text: String,
}

impl Home {
    /// `None`, said by name, where this Airflow is not installed. 1.10 needs a Python that few machines have.
    fn new(version: &'static str) -> Option<Self> {
        let airflow = crate::referee::venv(&format!("airflow-{version}"), version != "1.10.15")?;
        Some(Self { folder: TempDir::new().unwrap(), airflow, version })
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    fn command(&self, program: &Path, words: &[&str], variables: &[(&str, &str)]) -> Said {
        let path = format!("{}:/usr/bin:/bin", self.airflow.join("bin").display());
        let mut command = Command::new("timeout");
        command.arg("120").arg(program).args(words).env_clear().env("PATH", path).env("HOME", self.folder.path());
        command.env("AIRFLOW_HOME", self.path("home")).env("AIRFLOW__CORE__UNIT_TEST_MODE", "False");
        command.envs(variables.iter().copied());
        let output = command.output().unwrap();
        let streams = [output.stdout, output.stderr].concat();
        let text = format!("$ {command:?}\n{}", String::from_utf8_lossy(&streams));
        Said { status: output.status.code().unwrap_or(-1), text }
    }

    /// Through our binary.
    fn ours(&self, words: &[&str], variables: &[(&str, &str)]) -> Said {
        let keys = self.path("keys");
        let variables = [&[("ENTRYPOINT_KEY_DIR", &*keys), ("ENTRYPOINT_EPHEMERAL_KEY", "true")], variables].concat();
        self.command(Path::new(crate::sandbox::BINARY), words, &variables)
    }

    /// Airflow alone, as a bare `docker exec` would run it.
    fn bare(&self, words: &[&str], variables: &[(&str, &str)]) -> Said {
        self.command(&self.airflow.join("bin/airflow"), words, variables)
    }

    fn is_1(&self) -> bool {
        self.version.starts_with('1')
    }

    fn set_variable(&self, value: &str) {
        let words = if self.is_1() { ["variables", "--set", "v", value] } else { ["variables", "set", "v", value] };
        let said = self.ours(&words, &[]);
        assert_eq!(said.status, 0, "{}", said.text);
    }

    fn get_variable(&self) -> [&'static str; 3] {
        if self.is_1() { ["variables", "--get", "v"] } else { ["variables", "get", "v"] }
    }
}

#[test]
fn k01_what_one_start_encrypts_the_next_one_reads() {
    for home in LINES.into_iter().filter_map(Home::new) {
        let setup = home.ours(&["setup"], &[]);
        assert_eq!(setup.status, 0, "{}", setup.text);
        home.set_variable("precious");
        // E09: a bare `airflow` has the same database and key, by the rendered file alone.
        for said in [home.ours(&home.get_variable(), &[]), home.bare(&home.get_variable(), &[])] {
            assert_eq!(said.status, 0, "{}", said.text);
            assert!(said.text.contains("precious"), "{}", said.text);
        }
        // The control: with another key it is lost.
        let key = fernet_key();
        let other = home.bare(&home.get_variable(), &[("AIRFLOW__CORE__FERNET_KEY", &key)]);
        assert!(!other.text.contains("precious"), "{}", other.text);
    }
}

/// With `ENTRYPOINT_SECRETS=cmd` no secret is in the environment nor in the file, and Airflow works all the same.
#[test]
fn x08_airflow_reads_its_secrets_by_command() {
    for home in LINES.into_iter().filter_map(Home::new) {
        let folder = home.path("");
        let by_command = [("ENTRYPOINT_SECRETS", "cmd"), ("TMPDIR", &*folder)];
        let setup = home.ours(&["setup"], &by_command);
        assert_eq!(setup.status, 0, "{}", setup.text);
        let set =
            if home.is_1() { ["variables", "--set", "v", "precious"] } else { ["variables", "set", "v", "precious"] };
        let set = home.ours(&set, &by_command);
        assert_eq!(set.status, 0, "{}", set.text);
        // By us, by a bare `airflow`, and with the key itself: it was encrypted with that one.
        let key = std::fs::read_to_string(home.path("keys/fernet.key")).unwrap();
        for said in [
            home.ours(&home.get_variable(), &by_command),
            home.bare(&home.get_variable(), &[]),
            home.bare(&home.get_variable(), &[("AIRFLOW__CORE__FERNET_KEY", key.trim())]),
        ] {
            assert!(said.status == 0 && said.text.contains("precious"), "{}", said.text);
        }
        let seen = home.ours(&["--", "env"], &by_command).text
            + &std::fs::read_to_string(home.path("home/airflow.cfg")).unwrap();
        assert!(seen.contains("AIRFLOW__CORE__FERNET_KEY_CMD=cat ") && !seen.contains(key.trim()), "{seen}");
    }
}

/// As README has it: the new key in front, rotate, leave out the old one.
#[test]
fn k10_rotation_by_airflows_own_command() {
    for home in LINES.into_iter().filter_map(Home::new) {
        let (old, new) = (fernet_key(), fernet_key());
        let setup = home.ours(&["setup"], &[("FERNET_KEY", &old)]);
        assert_eq!(setup.status, 0, "{}", setup.text);
        let set =
            if home.is_1() { ["variables", "--set", "v", "precious"] } else { ["variables", "set", "v", "precious"] };
        let set = home.ours(&set, &[("FERNET_KEY", &old)]);
        assert_eq!(set.status, 0, "{}", set.text);
        let both = format!("{new},{old}");
        let rotated = home.ours(&["rotate-fernet-key"], &[("FERNET_KEY", &both)]);
        assert_eq!(rotated.status, 0, "{}", rotated.text);
        let read = |key: &str| home.ours(&home.get_variable(), &[("FERNET_KEY", key)]).text.contains("precious");
        assert!(read(&new), "{}: the new key alone does not read it", home.version);
        assert!(!read(&old), "{}: the old key still reads it", home.version);
    }
}

/// H07: a scheduler that ends on purpose ends with 0.
#[test]
fn h07_a_real_scheduler_runs_and_its_status_is_passed_on() {
    for home in LINES.into_iter().filter_map(Home::new) {
        let said = home.ours(&["scheduler", "-n", "1"], &[]);
        assert_eq!(said.status, 0, "{}", said.text);
        assert!(said.text.contains("become `airflow scheduler ...`"), "{}", said.text);
    }
}

/// M05: commands by the names of other lines, run by the real thing.
#[test]
fn m05_commands_of_other_lines_run() {
    for home in LINES.into_iter().filter_map(Home::new) {
        let setup = home.ours(&["setup"], &[]);
        assert_eq!(setup.status, 0, "{}", setup.text);
        for words in [
            &["initdb"][..],
            &["db", "migrate"],
            &["upgradedb"],
            &["checkdb"],
            &["db", "check"],
            &["list_dags"],
            &["dags", "list"],
            &["worker", "--help"],
            &["celery", "worker", "--help"],
            &["api-server", "--help"],
            &["webserver", "--help"],
            &["airflow", "rotate_fernet_key"],
            &["version"],
        ] {
            // The command group `celery` exists on 2.x only with a Celery executor.
            let executor = if words.contains(&"--help") { "Celery" } else { "Sequential" };
            let said = home.ours(words, &[("EXECUTOR", executor)]);
            assert_eq!(said.status, 0, "{} on {}: {}", words.join(" "), home.version, said.text);
        }
    }
}

/// What scheduler, worker and flower wait for in place of the fixed `sleep 10`: with us, and by Airflow's own command where its
/// migrations cannot be read.
#[test]
fn m01_the_schema_is_waited_for_before_and_found_after_the_migration() {
    for home in LINES.into_iter().filter_map(Home::new) {
        let wait = [("ENTRYPOINT_MIGRATE", "false"), ("ENTRYPOINT_WAIT_TIMEOUT", "1s")];
        let early = home.ours(&["scheduler", "-n", "1"], &wait);
        assert_eq!(early.status, 69, "{}", early.text);
        let error = "error: cannot start `scheduler`: the database has no schema, and this Airflow's head is `";
        assert!(early.text.contains(error), "{}", early.text);
        let managers = ("AIRFLOW__DATABASE__EXTERNAL_DB_MANAGERS", "other.Manager");
        if home.version.starts_with('3') {
            let blind = home.ours(&["scheduler", "-n", "1"], &[&wait[..], &[managers]].concat());
            assert_eq!(blind.status, 69, "{}", blind.text);
            let error = "error: cannot start `scheduler`: the schema of the database is not ready after ";
            assert!(blind.text.contains(error), "{}", blind.text);
        }
        let setup = home.ours(&["setup"], &[]);
        assert_eq!(setup.status, 0, "{}", setup.text);
        let late = home.ours(&["scheduler", "-n", "1"], &wait);
        assert_eq!(late.status, 0, "{}", late.text);
    }
}

fn fernet_key() -> String {
    let output = Command::new("openssl").args(["rand", "-base64", "32"]).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}
