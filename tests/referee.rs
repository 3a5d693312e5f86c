//! Referees that may not be on this machine: a missing one is a skip that says its name, and a failure where all are required.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

/// Says that a referee is missing. With `AIRFLOW_ENTRYPOINT_REQUIRE_REFEREES` set that is a failure.
pub(crate) fn missing(name: &str) {
    assert!(
        std::env::var_os("AIRFLOW_ENTRYPOINT_REQUIRE_REFEREES").is_none(),
        "no {name}, and all referees are required"
    );
    skipped(name);
}

/// Says that a test is about to use this, which `make quick` does without.
#[track_caller]
pub(crate) fn heavy(name: &str) {
    assert!(
        std::env::var_os("AIRFLOW_ENTRYPOINT_QUICK").is_none(),
        "`make quick` does without {name}: leave this test out of its filter in .config/nextest.toml"
    );
}

/// Says that something was not tested for want of this. The run's summary names it too, if it has given a file for the names.
pub(crate) fn skipped(name: &str) {
    println!("skipped: {name}");
    if let Some(path) = std::env::var_os("AIRFLOW_ENTRYPOINT_SKIPPED") {
        let mut names = File::options().append(true).create(true).open(path).unwrap();
        names.write_all(format!("{name}\n").as_bytes()).unwrap();
    }
}

/// The folder of what is kept from run to run, as in `tests/install-common`.
pub(crate) fn cache() -> Option<PathBuf> {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    variable("AIRFLOW_ENTRYPOINT_CACHE")
        .or_else(|| variable("XDG_CACHE_HOME").map(|cache| cache.join("airflow-entrypoint")))
        .or_else(|| variable("HOME").map(|home| home.join(".cache/airflow-entrypoint")))
}

/// The virtual environment that `tests/install-referees` has made, if it is complete. One that is not `required` may be missing
/// everywhere.
pub(crate) fn venv(name: &str, required: bool) -> Option<PathBuf> {
    if name.starts_with("airflow-") {
        heavy(name);
    }
    let venv = cache()?.join("venvs").join(name);
    if venv.join(".complete").exists() {
        return Some(venv);
    }
    if required {
        missing(name);
    } else {
        skipped(name);
    }
    None
}

/// Runs a Python program on a JSON value and gives back what it prints.
pub(crate) fn ask(venv: &Path, program: &str, question: &Value) -> Value {
    let mut python = Command::new(venv.join("bin/python"));
    python.args(["-c", &format!("import json, sys\nq = json.load(sys.stdin)\n{program}")]);
    let mut child = python.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(question.to_string().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "the referee failed");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The environment with the libraries that Airflow reads its values with.
pub(crate) fn referee() -> Option<PathBuf> {
    venv("referee", true)
}
