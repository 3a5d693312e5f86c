//! One setting after the other: from the environment, else from the file, else its default.

use std::cell::RefCell;
use std::path::Path;

use super::{TABLE, Text, Written, variable};
use crate::environment::Environment;
use crate::error::Error;
use crate::source::Source;

/// Finds a setting in the environment, else in the file.
pub(super) struct Reader<'a> {
    environment: &'a Environment,
    from_environment: Written,
    from_file: Written,
    path: &'a Path,
    /// What has been read so far.
    written: RefCell<Vec<(&'static str, String, Source)>>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(
        environment: &'a Environment,
        from_environment: Written,
        from_file: Written,
        path: &'a Path,
    ) -> Self {
        Self { environment, from_environment, from_file, path, written: RefCell::default() }
    }

    /// A setting that has a default.
    pub(super) fn required<T>(
        &self,
        name: &str,
        field: impl Fn(&Written) -> &Option<Text>,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Result<T, Error> {
        self.value(name, field, parse)?
            .ok_or_else(|| Error::Bug { what: format!("the setting `{name}` has no default") })
    }

    pub(super) fn value<T>(
        &self,
        name: &str,
        field: impl Fn(&Written) -> &Option<Text>,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Result<Option<T>, Error> {
        let Some(row) = TABLE.iter().find(|row| row.name == name) else {
            return Err(Error::Bug { what: format!("there is no setting `{name}`") });
        };
        let (text, source) = match (field(&self.from_environment), field(&self.from_file)) {
            (Some(text), _) => (text.0.as_str(), self.environment.source(&variable(name))),
            (None, Some(text)) => {
                (text.0.as_str(), Source::Option { file: self.path.to_owned(), name: name.to_owned() })
            }
            (None, None) if row.default.is_empty() => return Ok(None),
            (None, None) => (row.default, Source::Default),
        };
        let value = parse(text).ok_or_else(|| Error::Setting {
            source_of_it: source.clone(),
            expected: row.expects,
            found: text.to_owned(),
        })?;
        self.written.borrow_mut().push((row.name, text.to_owned(), source));
        Ok(Some(value))
    }

    /// Whether anybody said anything.
    pub(super) fn is_said(&self, field: impl Fn(&Written) -> &Option<Text>) -> bool {
        field(&self.from_environment).is_some() || field(&self.from_file).is_some()
    }

    /// Notes that another variable decides instead.
    pub(super) fn overrule(&self, name: &'static str, text: String, source: Source) {
        let mut written = self.written.borrow_mut();
        written.retain(|(other, ..)| *other != name);
        written.push((name, text, source));
    }

    /// What was read, by name.
    pub(super) fn written(&self) -> Vec<(&'static str, String, Source)> {
        let mut written = self.written.take();
        written.sort_by_key(|(name, ..)| *name);
        written
    }
}
