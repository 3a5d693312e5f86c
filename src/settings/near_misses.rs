//! Names that look like one of those that count: Airflow and the official image's entrypoint ignore them without a word.

use crate::airflow_version::AirflowOption;
use crate::environment::Environment;
use crate::settings::{official, puckel};

/// The most letters that a slip of the pen leaves out, adds or changes.
const SLIPS: usize = 2;

/// A warning for each variable that is nearly one of those that we understand.
pub(crate) fn warnings(environment: &Environment) -> Vec<String> {
    let known: Vec<String> = AirflowOption::MANAGED
        .iter()
        .map(|option| option.variable())
        .chain(official::NAMES.iter().chain(&puckel::NAMES).map(|&name| name.to_owned()))
        .chain(["FERNET_KEY".to_owned()])
        .collect();
    let names = environment.iter().filter_map(|(name, _)| name.to_str());
    names
        .filter_map(|name| {
            let meant = near(name, &known)?;
            Some(format!("`{name}` is nothing that Airflow or this program reads; did you mean `{meant}`?"))
        })
        .collect()
}

/// The name that was probably meant. Only names of the same family are looked at: a variable of somebody else's may be called like
/// ours. A short name is near too much.
fn near<'k>(name: &str, known: &'k [String]) -> Option<&'k str> {
    let family = |name: &str| ["AIRFLOW", "PIP"].iter().any(|start| letters(name).starts_with(start));
    if !family(name) || known.iter().any(|known| is(name, known)) {
        return None;
    }
    known.iter().map(String::as_str).find(|known| known.len() > 14 && family(known) && is_near(name, known))
}

fn is(name: &str, known: &str) -> bool {
    name.strip_prefix(known).is_some_and(|rest| matches!(rest, "" | "_CMD" | "_FILE" | "_SECRET"))
}

fn is_near(name: &str, known: &str) -> bool {
    letters(name) == letters(known) || strsim::osa_distance(name, known) <= SLIPS
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
