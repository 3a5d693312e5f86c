//! What somebody said about Airflow's own options, under any of their names.

use crate::airflow_version::AirflowOption;
use crate::connections::Said;
use crate::error::Error;
use crate::settings::puckel;
use crate::source::Source;
use crate::steps::{Change, Value};
use crate::urls::Redacted;
use crate::urls::parts;

/// A value with its source, and whether Airflow must be told of it.
pub(crate) struct Settled {
    pub value: String,
    pub source: Source,
    change: bool,
}

/// What comes of it.
#[derive(Default)]
pub(crate) struct Found {
    /// What the environment must say.
    pub changes: Vec<Change>,
    /// What is read otherwise than it was written.
    pub notes: Vec<String>,
    /// What was said in vain.
    pub warnings: Vec<String>,
}

impl Settled {
    /// A value of ours.
    pub(crate) fn built(value: String, source: Source) -> Self {
        Self { value, source, change: true }
    }

    /// With a dialect that SQLAlchemy knows.
    pub(crate) fn with_known_dialect(self, found: &mut Found) -> Self {
        let (celery, url) = self.value.strip_prefix("db+").map_or(("", self.value.as_str()), |url| ("db+", url));
        let Some(known) = parts::with_known_dialect(url) else { return self };
        found.notes.push(format!("`postgres://` of {} is `postgresql://` to SQLAlchemy", self.source));
        Self::built([celery, &known].concat(), self.source)
    }
}

impl Found {
    /// Takes in what Airflow must be told.
    pub(crate) fn push(&mut self, settled: Settled, option: AirflowOption) {
        if settled.change {
            let value = Value::Url(Redacted(settled.value));
            self.changes.push(Change { name: option.variable(), value, source: settled.source });
        }
    }
}

impl Said<'_> {
    /// The value in the environment. Under another line's name it must be said again.
    pub(crate) fn variable(&self, option: AirflowOption, found: &mut Found) -> Result<Option<Settled>, Error> {
        for name in option.with_other_names() {
            let Some(text) = self.environment.text(&name.variable())? else { continue };
            let source = self.environment.source(&name.variable());
            if name != option {
                let (said, meant, version) = (name.variable(), option.variable(), self.version);
                found.notes.push(format!("`{said}` is `{meant}` in Airflow {version}"));
            }
            return Ok(Some(Settled { value: text.to_owned(), source, change: name != option }));
        }
        Ok(None)
    }

    /// The value in the user's own `airflow.cfg`, likewise.
    pub(crate) fn configured(&self, option: AirflowOption) -> Option<Settled> {
        option.with_other_names().find_map(|name| {
            let (value, source) = (self.configured)(name)?;
            Some(Settled { value, source, change: name != option })
        })
    }

    /// Where Airflow is told to fetch the value itself.
    pub(crate) fn left_to_airflow(&self, option: AirflowOption) -> Option<Source> {
        option.with_other_names().find_map(|name| name.left_to_airflow(self.environment, self.configured))
    }

    /// A warning of the parts of a URL that were said in vain.
    pub(crate) fn unused(&self, prefix: &str, why: &str) -> Option<String> {
        let is_link = |name: &str| {
            self.environment
                .lookup(name)
                .is_some_and(|value| value.starts_with("tcp://") || value.starts_with("udp://"))
        };
        let names = puckel::NAMES.iter().filter(|name| name.starts_with(prefix));
        let said: Vec<String> = names
            .filter(|name| self.environment.is_set(name) && !is_link(name))
            .map(|name| format!("`{name}`"))
            .collect();
        let verb = if said.len() == 1 { "is" } else { "are" };
        (!said.is_empty()).then(|| format!("{} {verb} not used: {why}", said.join(", ")))
    }
}
