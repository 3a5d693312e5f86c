//! Referees that may not be on this machine: a missing one is a skip that says its name, and a failure where all are required.

use std::path::PathBuf;

/// Says that a referee is missing. With `AIRFLOW_ENTRYPOINT_REQUIRE_REFEREES` set that is a failure.
pub(crate) fn missing(name: &str) {
    assert!(
        std::env::var_os("AIRFLOW_ENTRYPOINT_REQUIRE_REFEREES").is_none(),
        "no {name}, and all referees are required"
    );
    println!("skipped: {name}");
}

/// The virtual environment that `tests/install-referees` has made, if it is complete. One that is not `required` may be missing
/// everywhere.
pub(crate) fn venv(name: &str, required: bool) -> Option<PathBuf> {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache = variable("AIRFLOW_ENTRYPOINT_CACHE")
        .or_else(|| variable("XDG_CACHE_HOME").map(|cache| cache.join("airflow-entrypoint")))
        .or_else(|| variable("HOME").map(|home| home.join(".cache/airflow-entrypoint")))?;
    let venv = cache.join("venvs").join(name);
    if venv.join(".complete").exists() {
        return Some(venv);
    }
    if required {
        missing(name);
    } else {
        println!("skipped: {name}");
    }
    None
}
