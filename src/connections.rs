//! Executor, database, broker and result backend: what Airflow is told, and what there is to wait for.
//!
//! The order for each: Airflow's own variable, then the puckel image's variables, then the user's own `airflow.cfg`, then the
//! puckel image's defaults.

use std::path::PathBuf;

use crate::airflow_version::{AirflowOption, Line, Version};
use crate::environment::Environment;
use crate::error::Error;
use crate::executor::Executor;
use crate::puckel::Puckel;
use crate::source::Source;
use crate::steps::{Change, Value};
use crate::urls::{self, Endpoint, Redacted};

/// What follows from the variables about Airflow's connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Connections {
    pub executor: Executor,
    pub database: Server,
    /// Only with an executor that needs one.
    pub broker: Option<Server>,
    /// What the environment must say.
    pub changes: Vec<Change>,
    /// What was said in vain.
    pub warnings: Vec<String>,
}

/// A server that Airflow depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Server {
    /// Airflow fetches the URL itself; we do not know it.
    LeftToAirflow(Source),
    /// There is no server: SQLite, with its file where the URL names one.
    None { file: Option<PathBuf> },
    /// It listens at any one of these.
    Listens { endpoints: Vec<Endpoint>, source: Source },
}

/// All that the connections follow from.
pub(crate) struct Said<'a> {
    pub environment: &'a Environment,
    pub puckel: &'a Puckel,
    pub configured: &'a dyn Fn(AirflowOption) -> Option<(String, Source)>,
    pub version: Version,
}

/// A value with its source, and whether Airflow must be told of it.
struct Settled {
    value: String,
    source: Source,
    change: bool,
}

/// Decides all of them.
pub(crate) fn settle(said: &Said<'_>) -> Result<Connections, Error> {
    let mut changes = Vec::new();
    let mut warnings = Vec::new();
    let (executor, wants_server) = said.executor(&mut changes, &mut warnings)?;
    said.load_examples(&mut changes)?;
    let (database, url) = said.database(&executor, wants_server, &mut changes, &mut warnings)?;
    let broker = match executor.needs_broker() {
        true => {
            said.result_backend(url.as_deref(), &mut changes)?;
            Some(said.broker(&mut changes, &mut warnings)?)
        }
        false => None,
    };
    Ok(Connections { executor, database, broker, changes, warnings })
}

impl Said<'_> {
    /// The executor, and whether it wants more than SQLite: all but the sequential one do, and on Airflow 3 the local one when it
    /// was asked for.
    fn executor(&self, changes: &mut Vec<Change>, warnings: &mut Vec<String>) -> Result<(Executor, bool), Error> {
        let settled = match self.variable(AirflowOption::EXECUTOR)? {
            Some(found) => Some((found.value, found.source)),
            None => match &self.puckel.executor {
                Some(text) => Some((text.clone(), self.environment.source("EXECUTOR"))),
                None => (self.configured)(AirflowOption::EXECUTOR),
            },
        };
        let line = self.version.line();
        let (executor, source, wants_server) = match settled {
            Some((text, source)) => {
                let said = Executor::parse(&text, &source)?;
                let wants_server = !said.is_sequential();
                let (executor, note) = said.on(line);
                warnings.extend(note);
                (executor, source, wants_server)
            }
            None => (Executor::default_of(line), Source::Default, false),
        };
        let variable = AirflowOption::EXECUTOR.variable();
        if self.environment.lookup(&variable) != Some(executor.as_str()) {
            changes.push(Change { name: variable, value: Value::Text(executor.as_str().to_owned()), source });
        }
        Ok((executor, wants_server))
    }

    /// `LOAD_EX` is no unless it says yes; with yes the puckel image leaves it to Airflow, whose default is yes.
    fn load_examples(&self, changes: &mut Vec<Change>) -> Result<(), Error> {
        let option = AirflowOption::LOAD_EXAMPLES;
        if self.variable(option)?.is_some() || self.puckel.load_examples == Some(true) {
            return Ok(());
        }
        let source = match self.puckel.load_examples {
            Some(_) => self.environment.source("LOAD_EX"),
            None if (self.configured)(option).is_some() => return Ok(()),
            None => Source::Default,
        };
        changes.push(Change { name: option.variable(), value: Value::Text("False".to_owned()), source });
        Ok(())
    }

    /// The metadata database, and its URL where we know it.
    fn database(
        &self,
        executor: &Executor,
        wants_server: bool,
        changes: &mut Vec<Change>,
        warnings: &mut Vec<String>,
    ) -> Result<(Server, Option<String>), Error> {
        let option = self.version.sql_alchemy_conn();
        let parts = &self.puckel.postgres;
        let given = self.variable(option)?;
        if let (None, Some(source)) = (&given, self.left_to_airflow(option)) {
            return Ok((Server::LeftToAirflow(source), None));
        }
        // SQLite is what a generated airflow.cfg says when nobody chose.
        let configured = (self.configured)(option).filter(|(url, _)| !url.starts_with("sqlite") || !wants_server);
        let from_parts = !parts.is_empty() && (wants_server || self.version.line() == Line::V3);
        let settled = if let Some(given) = given {
            if !parts.is_empty() {
                warnings.push(format!("`POSTGRES_...` is not used: the database's URL is that of {}", given.source));
            }
            given
        } else if from_parts {
            let source = Source::Derived("`POSTGRES_...`".to_owned());
            Settled { value: urls::postgres(parts), source, change: true }
        } else if let Some((value, source)) = configured {
            Settled { value, source, change: false }
        } else if wants_server {
            Settled { value: urls::postgres(parts), source: Source::Default, change: true }
        } else {
            if !parts.is_empty() {
                warnings.push(format!("`POSTGRES_...` is not used: `{}` keeps to SQLite", executor.as_str()));
            }
            return Ok((Server::None { file: None }, None));
        };
        let server = server(&settled.value, &settled.source)?;
        let url = settled.value.clone();
        push(settled, option, changes);
        Ok((server, Some(url)))
    }

    fn broker(&self, changes: &mut Vec<Change>, warnings: &mut Vec<String>) -> Result<Server, Error> {
        let option = AirflowOption::BROKER_URL;
        let parts = &self.puckel.redis;
        let settled = if let Some(given) = self.variable(option)? {
            if !parts.is_empty() {
                warnings.push(format!("`REDIS_...` is not used: the broker's URL is that of {}", given.source));
            }
            given
        } else if let Some(source) = self.left_to_airflow(option) {
            return Ok(Server::LeftToAirflow(source));
        } else {
            match (self.configured)(option).filter(|_| parts.is_empty()) {
                Some((value, source)) => Settled { value, source, change: false },
                None if parts.is_empty() => {
                    Settled { value: urls::redis(parts), source: Source::Default, change: true }
                }
                None => {
                    let source = Source::Derived("`REDIS_...`".to_owned());
                    Settled { value: urls::redis(parts), source, change: true }
                }
            }
        };
        let server = server(&settled.value, &settled.source)?;
        push(settled, option, changes);
        Ok(server)
    }

    /// Derived from the database's URL unless somebody said otherwise.
    fn result_backend(&self, database: Option<&str>, changes: &mut Vec<Change>) -> Result<(), Error> {
        let option = AirflowOption::RESULT_BACKEND;
        let configured = (self.configured)(option).is_some() && self.puckel.postgres.is_empty();
        if self.variable(option)?.is_some() || self.left_to_airflow(option).is_some() || configured {
            return Ok(());
        }
        if let Some(url) = database.and_then(urls::result_backend) {
            let source = Source::Derived("the database's URL".to_owned());
            changes.push(Change { name: option.variable(), value: Value::Url(Redacted(url)), source });
        }
        Ok(())
    }

    /// The value in the environment under any of its names. Under another line's name it must be said again.
    fn variable(&self, option: AirflowOption) -> Result<Option<Settled>, Error> {
        for name in option.with_other_names() {
            if let Some(text) = self.environment.text(&name.variable())? {
                let source = self.environment.source(&name.variable());
                return Ok(Some(Settled { value: text.to_owned(), source, change: name != option }));
            }
        }
        Ok(None)
    }

    fn left_to_airflow(&self, option: AirflowOption) -> Option<Source> {
        option.with_other_names().find_map(|name| name.left_to_airflow(self.environment, self.configured))
    }
}

fn push(settled: Settled, option: AirflowOption, changes: &mut Vec<Change>) {
    if settled.change {
        changes.push(Change {
            name: option.variable(),
            value: Value::Url(Redacted(settled.value)),
            source: settled.source,
        });
    }
}

fn server(url: &str, source: &Source) -> Result<Server, Error> {
    if let Some(path) = url.strip_prefix("sqlite:///") {
        let path = PathBuf::from(path.split('?').next().unwrap_or(path));
        return Ok(Server::None { file: path.is_absolute().then_some(path) });
    }
    let endpoints = urls::checked(url, source)?;
    if endpoints.is_empty() {
        return Ok(Server::None { file: None });
    }
    Ok(Server::Listens { endpoints, source: source.clone() })
}
