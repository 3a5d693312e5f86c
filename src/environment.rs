//! The environment as a value: what we were given, and what the command gets.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::PathBuf;

use crate::airflow_version::AirflowOption;
use crate::error::Error;
use crate::settings::{self, official, puckel};
use crate::source::Source;

/// Variables and their values. A value need not be text; `Debug` shows names alone.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Environment {
    variables: BTreeMap<OsString, OsString>,
    /// The files that values were read from, by the variable that has the value.
    files: BTreeMap<String, PathBuf>,
    /// The variables whose value was wrapped in quotes.
    unwrapped: BTreeSet<String>,
}

/// What is put behind a variable's name when its value is in a file.
const FILE_SUFFIX: &str = "_FILE";

/// Options of Airflow whose own names end in `_file`: their value is a path, and stays one.
const OPTIONS_THAT_ARE_PATHS: [&str; 4] = ["CONFIG", "POD_TEMPLATE", "SIMPLE_AUTH_MANAGER_PASSWORDS", "SSL_CA"];

impl Environment {
    /// Of variables and their values.
    pub(crate) fn new(variables: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        Self { variables: variables.into_iter().collect(), ..Self::default() }
    }

    /// The value of a variable; an empty one counts as unset.
    pub(crate) fn text(&self, name: &str) -> Result<Option<&str>, Error> {
        match self.os(name) {
            None => Ok(None),
            Some(value) => value.to_str().map(Some).ok_or_else(|| Error::NotUnicode { variable: name.to_owned() }),
        }
    }

    /// The value of a variable that is text and not empty.
    pub(crate) fn filled(&self, name: &str) -> Option<&str> {
        self.os(name)?.to_str()
    }

    /// The value of a variable, which need not be text; an empty one counts as unset.
    pub(crate) fn os(&self, name: &str) -> Option<&OsStr> {
        self.variables.get(OsStr::new(name)).map(OsString::as_os_str).filter(|value| !value.is_empty())
    }

    /// Airflow's home; the puckel image's where none is set.
    pub(crate) fn airflow_home(&self) -> PathBuf {
        self.os("AIRFLOW_HOME").map_or_else(|| PathBuf::from("/usr/local/airflow"), PathBuf::from)
    }

    /// The home of an unknown user: where the official image has Airflow itself, in a user site that all must share.
    pub(crate) fn user_home(&self) -> PathBuf {
        self.os("AIRFLOW_USER_HOME_DIR").map_or_else(|| self.airflow_home(), PathBuf::from)
    }

    /// The folder that Airflow logs to.
    pub(crate) fn log_folder(&self) -> PathBuf {
        let said = ["AIRFLOW__LOGGING__BASE_LOG_FOLDER", "AIRFLOW__CORE__BASE_LOG_FOLDER"];
        let said = said.into_iter().find_map(|name| self.os(name).map(PathBuf::from));
        said.unwrap_or_else(|| self.airflow_home().join("logs"))
    }

    /// Whether the variable is there and not empty.
    pub(crate) fn is_set(&self, name: &str) -> bool {
        self.os(name).is_some()
    }

    /// Whether the variable is there, be it empty.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.variables.contains_key(OsStr::new(name))
    }

    /// The names of the variables that are text and pass the filter, with their values.
    pub(crate) fn texts(&self, wanted: impl Fn(&str) -> bool) -> Result<Vec<(String, String)>, Error> {
        let mut texts = Vec::new();
        for (name, value) in &self.variables {
            let Some(name) = name.to_str().filter(|name| wanted(name)) else { continue };
            let Some(value) = value.to_str() else { return Err(Error::NotUnicode { variable: name.to_owned() }) };
            if !value.is_empty() {
                texts.push((name.to_owned(), value.to_owned()));
            }
        }
        Ok(texts)
    }

    /// The variables whose value is in a file (`NAME_FILE`), with the path.
    pub(crate) fn named_files(&self) -> Vec<(String, PathBuf)> {
        let named = |(name, path): (&OsString, &OsString)| {
            let name = name.to_str()?.strip_suffix(FILE_SUFFIX)?;
            (!path.is_empty() && may_be_in_a_file(name)).then(|| (name.to_owned(), PathBuf::from(path)))
        };
        self.variables.iter().filter_map(named).collect()
    }

    /// Takes in what such a file holds: `NAME` has the value, and `NAME_FILE` has served.
    pub(crate) fn take_file(&mut self, name: &str, path: PathBuf, value: &str) {
        self.change(name, Some(value));
        self.change(&[name, FILE_SUFFIX].concat(), None);
        self.files.insert(name.to_owned(), path);
    }

    /// Where the value of a variable came from.
    pub(crate) fn source(&self, name: &str) -> Source {
        match self.files.get(name) {
            Some(path) => Source::FileOf { variable: [name, FILE_SUFFIX].concat(), path: path.clone() },
            None => Source::Variable(name.to_owned()),
        }
    }

    /// Whether a variable is ours to understand and its value came from a file: nobody after us needs it.
    pub(crate) fn is_helper(&self, name: &str) -> bool {
        self.files.contains_key(name) && !name.starts_with("AIRFLOW")
    }

    /// Takes the quotes off the values that we understand: `docker run --env-file` and the list form of Compose make them part of the
    /// value, where a shell would not. A password keeps them; they may be meant.
    pub(crate) fn unwrap_quotes(&mut self) {
        let wrapped = |(name, value): (&OsString, &OsString)| {
            let (name, value) = (name.to_str()?, value.to_str()?);
            let inner = ['"', '\''].into_iter().find_map(|quote| value.strip_prefix(quote)?.strip_suffix(quote))?;
            has_no_quotes(name).then(|| (name.to_owned(), inner.to_owned()))
        };
        for (name, inner) in self.variables.iter().filter_map(wrapped).collect::<Vec<_>>() {
            self.change(&name, Some(&inner));
            self.unwrapped.insert(name);
        }
    }

    /// The variables whose quotes were taken off.
    pub(crate) fn unwrapped(&self) -> impl Iterator<Item = &String> {
        self.unwrapped.iter()
    }

    /// The value of a variable for a template: only text can be rendered.
    pub(crate) fn lookup(&self, name: &str) -> Option<&str> {
        self.variables.get(OsStr::new(name)).and_then(|value| value.to_str())
    }

    /// Sets a variable, or removes it.
    pub(crate) fn change(&mut self, name: &str, value: Option<&str>) {
        match value {
            Some(value) => self.variables.insert(name.into(), value.into()),
            None => self.variables.remove(OsStr::new(name)),
        };
    }

    /// Sets a variable to a path.
    pub(crate) fn set_path(&mut self, name: &str, path: PathBuf) {
        self.variables.insert(name.into(), path.into());
    }

    /// All variables.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&OsStr, &OsStr)> {
        self.variables.iter().map(|(name, value)| (name.as_os_str(), value.as_os_str()))
    }
}

/// Whether a variable is one that may be given as `NAME_FILE`: every one that we read, and Airflow's options, connections and
/// variables.
fn may_be_in_a_file(name: &str) -> bool {
    if let Some(option) = name.strip_prefix("AIRFLOW__") {
        return option
            .split_once("__")
            .is_some_and(|(_, key)| !key.is_empty() && !OPTIONS_THAT_ARE_PATHS.contains(&key));
    }
    let airflow =
        ["AIRFLOW_CONN_", "AIRFLOW_VAR_"].iter().any(|prefix| name.len() > prefix.len() && name.starts_with(prefix));
    airflow || is_ours(name)
}

/// The variables of our own, of the puckel image and of the official one.
fn is_ours(name: &str) -> bool {
    name == "FERNET_KEY"
        || puckel::NAMES.contains(&name)
        || official::NAMES.contains(&name)
        || settings::TABLE.iter().any(|row| settings::variable(row.name) == name)
}

/// Whether quotes around the value of this variable are a mistake: it is one that we understand, and free text is none of its values.
fn has_no_quotes(name: &str) -> bool {
    let free = ["EXTRAS", "PASSWORD", "SECRET", "USER", "_DB"].iter().any(|part| name.contains(part));
    !free && (is_ours(name) || AirflowOption::MANAGED.iter().any(|option| option.variable() == name))
}

/// An environment may hold secrets: names alone are shown.
impl fmt::Debug for Environment {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_set().entries(self.variables.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(names: &[&str]) -> Environment {
        Environment::new(names.iter().map(|name| ((*name).into(), "/run/secrets/x".into())))
    }

    #[test]
    fn x01_every_variable_that_we_read_may_be_in_a_file() {
        for name in [
            "FERNET_KEY_FILE",
            "_AIRFLOW_WWW_USER_PASSWORD_FILE",
            "POSTGRES_PASSWORD_FILE",
            "REDIS_PASSWORD_FILE",
            "EXECUTOR_FILE",
            "ENTRYPOINT_KEY_DIR_FILE",
            "AIRFLOW__CORE__FERNET_KEY_FILE",
            "AIRFLOW__CELERY__BROKER_URL_FILE",
            "AIRFLOW__SMTP__SMTP_PASSWORD_FILE",
            "AIRFLOW_CONN_MY_DB_FILE",
            "AIRFLOW_VAR_TOKEN_FILE",
        ] {
            let expected = vec![(name.trim_end_matches("_FILE").to_owned(), PathBuf::from("/run/secrets/x"))];
            assert_eq!(environment(&[name]).named_files(), expected, "{name}");
        }
    }

    #[test]
    fn d01_quotes_come_off_what_has_none() {
        for (name, value, expected) in [
            ("FERNET_KEY", "\"key=\"", "key="),
            ("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", "'postgresql://u@h/d'", "postgresql://u@h/d"),
            ("EXECUTOR", "\"Celery\"", "Celery"),
            ("EXECUTOR", "\"Celery'", "\"Celery'"),
            ("EXECUTOR", "\"", "\""),
            ("POSTGRES_HOST", "'db'", "db"),
            ("POSTGRES_PASSWORD", "'quoted'", "'quoted'"),
            ("POSTGRES_USER", "'quoted'", "'quoted'"),
            ("_AIRFLOW_WWW_USER_PASSWORD", "'quoted'", "'quoted'"),
            ("AIRFLOW__API__SECRET_KEY", "'quoted'", "'quoted'"),
            ("AIRFLOW__SMTP__SMTP_USER", "'quoted'", "'quoted'"),
            ("SOMETHING", "'quoted'", "'quoted'"),
        ] {
            let mut environment = Environment::new([(name.into(), value.into())]);
            environment.unwrap_quotes();
            assert_eq!(environment.lookup(name), Some(expected), "{name}={value}");
            assert_eq!(environment.unwrapped().count(), usize::from(value != expected), "{name}={value}");
        }
    }

    #[test]
    fn what_is_a_path_to_airflow_or_not_ours_stays_one() {
        let names = [
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE",
            "AIRFLOW__KUBERNETES_EXECUTOR__POD_TEMPLATE_FILE",
            "AIRFLOW__FAB__CONFIG_FILE",
            "AIRFLOW_CONN_FILE",
            "AIRFLOW_HOME_FILE",
            "ENTRYPOINT_SETTINGS_FILE",
            "SSL_CERT_FILE",
            "_FILE",
        ];
        assert_eq!(environment(&names).named_files(), []);
    }
}
