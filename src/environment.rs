//! The environment as a value: what we were given, and what the command gets.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::PathBuf;

use crate::error::Error;

/// Variables and their values. A value need not be text; `Debug` shows names alone.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Environment(BTreeMap<OsString, OsString>);

impl Environment {
    /// Of variables and their values.
    pub(crate) fn new(variables: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        Self(variables.into_iter().collect())
    }

    /// The value of a variable; an empty one counts as unset.
    pub(crate) fn text(&self, name: &str) -> Result<Option<&str>, Error> {
        match self.os(name) {
            None => Ok(None),
            Some(value) => value.to_str().map(Some).ok_or_else(|| Error::NotUnicode { variable: name.to_owned() }),
        }
    }

    /// The same, for values that need not be text.
    pub(crate) fn os(&self, name: &str) -> Option<&OsStr> {
        self.0.get(OsStr::new(name)).map(OsString::as_os_str).filter(|value| !value.is_empty())
    }

    /// Whether the variable is there and not empty.
    pub(crate) fn is_set(&self, name: &str) -> bool {
        self.os(name).is_some()
    }

    /// Whether the variable is there, be it empty.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.contains_key(OsStr::new(name))
    }

    /// The names of the variables that are text and pass the filter, with their values.
    pub(crate) fn texts(&self, wanted: impl Fn(&str) -> bool) -> Result<Vec<(String, String)>, Error> {
        let mut texts = Vec::new();
        for (name, value) in &self.0 {
            let Some(name) = name.to_str().filter(|name| wanted(name)) else { continue };
            let Some(value) = value.to_str() else { return Err(Error::NotUnicode { variable: name.to_owned() }) };
            if !value.is_empty() {
                texts.push((name.to_owned(), value.to_owned()));
            }
        }
        Ok(texts)
    }

    /// The value of a variable for a template: only text can be rendered.
    pub(crate) fn lookup(&self, name: &str) -> Option<&str> {
        self.0.get(OsStr::new(name)).and_then(|value| value.to_str())
    }

    /// Sets a variable, or removes it.
    pub(crate) fn change(&mut self, name: &str, value: Option<&str>) {
        match value {
            Some(value) => self.0.insert(name.into(), value.into()),
            None => self.0.remove(OsStr::new(name)),
        };
    }

    /// Sets a variable to a path.
    pub(crate) fn set_path(&mut self, name: &str, path: PathBuf) {
        self.0.insert(name.into(), path.into());
    }

    /// All variables.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&OsStr, &OsStr)> {
        self.0.iter().map(|(name, value)| (name.as_os_str(), value.as_os_str()))
    }
}

/// An environment may hold secrets: names alone are shown.
impl fmt::Debug for Environment {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_set().entries(self.0.keys()).finish()
    }
}
