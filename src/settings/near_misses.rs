//! Names that look like one of those that count: Airflow and the official image's entrypoint ignore them without a word.

use crate::airflow_version::AirflowOption;
use crate::environment::Environment;
use crate::settings::{official, puckel};

/// The most letters that a slip of the pen leaves out, adds or changes.
const SLIPS: usize = 2;

/// A name that counts, and its letters.
struct Known {
    name: String,
    letters: String,
}

/// A warning for each variable that is nearly one of those that we understand.
pub(crate) fn warnings(environment: &Environment) -> Vec<String> {
    let ours = official::NAMES.iter().chain(&puckel::NAMES).map(|&name| name.to_owned());
    let names = AirflowOption::MANAGED.iter().map(|option| option.variable()).chain(ours);
    let known = names.map(|name| Known { letters: letters(&name), name });
    let known: Vec<Known> = known.filter(|known| is_family(&known.letters)).collect();
    let names = environment.iter().filter_map(|(name, _)| name.to_str());
    names
        .filter_map(|name| {
            let meant = near(name, &known)?;
            Some(format!("`{name}` is nothing that Airflow or this program reads; did you mean `{meant}`?"))
        })
        .collect()
}

/// The name that was probably meant.
fn near<'k>(name: &str, known: &'k [Known]) -> Option<&'k str> {
    let letters = letters(name);
    if !is_family(&letters) || known.iter().any(|known| is(name, &known.name)) {
        return None;
    }
    let is_near = |known: &&Known| letters == known.letters || strsim::osa_distance(name, &known.name) <= SLIPS;
    // A short name is near too much.
    known.iter().filter(|known| known.name.len() > 14).find(is_near).map(|known| known.name.as_str())
}

/// Whether a name is of the families that are looked at: a variable of somebody else's may be called like ours.
fn is_family(letters: &str) -> bool {
    ["AIRFLOW", "PIP"].iter().any(|start| letters.starts_with(start))
}

fn is(name: &str, known: &str) -> bool {
    name.strip_prefix(known).is_some_and(|rest| matches!(rest, "" | "_CMD" | "_FILE" | "_SECRET"))
}

/// Underscores are what people get wrong most.
fn letters(name: &str) -> String {
    name.chars().filter(|c| *c != '_').map(|c| c.to_ascii_uppercase()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn warned(name: &str) -> Vec<String> {
        warnings(&Environment::new([(name.into(), "x".into())]))
    }

    #[test]
    fn a_slip_is_told_with_what_was_meant() {
        for (name, meant) in [
            ("AIRFLOW__CORE_FERNET_KEY", "AIRFLOW__CORE__FERNET_KEY"),
            ("AIRFLOW_CORE__FERNET_KEY", "AIRFLOW__CORE__FERNET_KEY"),
            ("AIRFLOW__CORE__FERNETKEY", "AIRFLOW__CORE__FERNET_KEY"),
            ("airflow__core__fernet_key", "AIRFLOW__CORE__FERNET_KEY"),
            ("AIRFLOW__CORE__EXECUTER", "AIRFLOW__CORE__EXECUTOR"),
            ("AIRFLOW__CELERY__BROKERURL", "AIRFLOW__CELERY__BROKER_URL"),
            ("AIRFLOW__DATABASE__SQL_ALCHEMY_CON", "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"),
            ("_AIRFLOW_WWW_USER_PASSWRD", "_AIRFLOW_WWW_USER_PASSWORD"),
            ("_PIP_ADDITIONAL_REQUIREMENT", "_PIP_ADDITIONAL_REQUIREMENTS"),
        ] {
            let expected = format!("`{name}` is nothing that Airflow or this program reads; did you mean `{meant}`?");
            assert_eq!(warned(name), [expected], "{name}");
        }
    }

    #[test]
    fn what_is_right_or_somebody_elses_is_left_alone() {
        for name in [
            "AIRFLOW__CORE__FERNET_KEY",
            "AIRFLOW__CORE__FERNET_KEY_CMD",
            "AIRFLOW__CORE__FERNET_KEY_SECRET",
            "AIRFLOW__CORE__FERNET_KEY_FILE",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_ASYNC",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_POOL_SIZE",
            "AIRFLOW__CELERY__RESULT_BACKEND_SQLALCHEMY_ENGINE_OPTIONS",
            "AIRFLOW__API__PORT",
            "AIRFLOW__API__BASE_URL",
            "AIRFLOW__CORE__PARALLELISM",
            "AIRFLOW__CORE__INTERNAL_API_SECRET_KEY",
            "AIRFLOW_CONN_FERNET_KEY",
            "AIRFLOW_HOME",
            "AIRFLOW_UID",
            "AIRFLOW_GID",
            "AIRFLOW_VERSION",
            "EXECUTORS",
            "POSTGRES_HOSTS",
            "REDIS_HOS",
        ] {
            assert_eq!(warned(name), <[String; 0]>::default(), "{name}");
        }
    }
}
