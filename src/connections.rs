//! Executor, database, broker and result backend: what Airflow is told, and what there is to wait for.
//!
//! The order for each: Airflow's own variable, then the puckel image's variables, then the user's own `airflow.cfg`, then the
//! puckel image's defaults.

pub(crate) mod executor;
pub(crate) mod expansion;
pub(crate) mod given;

use std::path::PathBuf;

use crate::airflow_version::{AirflowOption, Installed, Line, Version};
use crate::connections::executor::Executor;
use crate::connections::expansion::expanded;
use crate::connections::given::{Found, Settled};
use crate::environment::Environment;
use crate::error::Error;
use crate::metadb::{Metadb, Target};
use crate::readiness::schema::{FabTables, Migrations};
use crate::settings::puckel::Puckel;
use crate::source::Source;
use crate::steps::{Change, Known, Value};
use crate::urls::parts;
use crate::urls::{self, Endpoint, Redacted};

/// What follows from the variables about Airflow's connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Connections {
    pub executor: Executor,
    pub database: Server,
    /// The same, as we ask it ourselves.
    pub metadb: Metadb,
    /// Only with an executor that needs one.
    pub broker: Option<Server>,
    /// Only with a Celery executor, and where somebody chose one that is neither of the above.
    pub result_backend: Option<Server>,
    /// What the environment must say.
    pub changes: Vec<Change>,
    /// What is read otherwise than it was written.
    pub notes: Vec<String>,
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
    Listens { endpoints: Vec<Endpoint>, url: Redacted<String>, source: Source },
    /// A service without a server of its own to wait for (SQS).
    Serverless { scheme: String, source: Source },
}

impl Server {
    /// Whether both listen at the same places.
    fn is_as(&self, other: &Self) -> bool {
        matches!((self, other), (Self::Listens { endpoints, .. }, Self::Listens { endpoints: others, .. }) if endpoints == others)
    }
}

/// All that the connections follow from.
pub(crate) struct Said<'a> {
    pub environment: &'a Environment,
    pub puckel: &'a Puckel,
    pub configured: &'a dyn Fn(AirflowOption) -> Option<(String, Source)>,
    pub version: Version,
}

/// Decides all of them.
pub(crate) fn settle(said: &Said<'_>) -> Result<Connections, Error> {
    let mut found = Found::default();
    let (executor, wants_server) = said.executor(&mut found)?;
    said.load_examples(&mut found)?;
    let (database, url) = said.database(&executor, wants_server, &mut found)?;
    let metadb = said.metadb(&database, url.as_deref());
    let (mut broker, mut result_backend) = (None, None);
    if executor.needs_broker() {
        result_backend = said.result_backend(&database, url.as_deref(), &mut found)?;
        broker = Some(said.broker(&mut found)?);
        // It is the database, most of the time: that is one server.
        let others = [Some(&database), broker.as_ref()];
        result_backend = result_backend.filter(|backend| !others.into_iter().flatten().any(|o| o.is_as(backend)));
    }
    let Found { changes, notes, warnings } = found;
    Ok(Connections { executor, database, metadb, broker, result_backend, changes, notes, warnings })
}

impl Said<'_> {
    /// Whether Airflow keeps the accounts of its web server in the database: always, but for the simple login of Airflow 3.
    pub(crate) fn keeps_accounts(&self) -> bool {
        let is_simple = |name: String| name.ends_with("SimpleAuthManager");
        self.version.line() != Line::V3 || self.option(AirflowOption::AUTH_MANAGER).is_some_and(|name| !is_simple(name))
    }

    /// The migrations of the installed Airflow, or why the schema is left to Airflow's own commands.
    pub(crate) fn migrations(&self, metadb: &Metadb, installed: Option<&Installed>) -> Known {
        if let Metadb::LeftToAirflow(why) = metadb {
            return Err(why.clone());
        }
        let line = self.version.line();
        let is_fab = |name: &str| name.trim().ends_with("FABDBManager");
        let managers = self.option(AirflowOption::EXTERNAL_DB_MANAGERS).filter(|_| line == Line::V3);
        if let Some(other) = managers.iter().flat_map(|all| all.split(',')).find(|name| !is_fab(name)) {
            return Err(format!("`{}` has migrations that we do not know", other.trim()));
        }
        let is_fab = |name: String| name.ends_with("FabAuthManager");
        let needs_fab = match self.option(AirflowOption::AUTH_MANAGER).is_some_and(is_fab) {
            true => FabTables::Needed,
            false => FabTables::MayBeMissing,
        };
        let found = installed.and_then(|installed| Migrations::of(installed, line, needs_fab));
        found.ok_or_else(|| "the sources of its migrations are not there".to_owned())
    }

    /// What the environment or the user's own `airflow.cfg` says.
    fn option(&self, option: AirflowOption) -> Option<String> {
        let said = self.environment.filled(&option.variable()).map(str::to_owned);
        said.or_else(|| (self.configured)(option).map(|(value, _)| value)).filter(|value| !value.trim().is_empty())
    }

    /// The executor, and whether it wants more than SQLite: all but the sequential one do, and on Airflow 3 the local one when it
    /// was asked for.
    fn executor(&self, found: &mut Found) -> Result<(Executor, bool), Error> {
        let settled = match self.variable(AirflowOption::EXECUTOR, found)? {
            Some(given) => Some((given.value, given.source)),
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
                found.warnings.extend(note);
                (executor, source, wants_server)
            }
            None => (Executor::default_of(line), Source::Default, false),
        };
        let variable = AirflowOption::EXECUTOR.variable();
        if self.environment.lookup(&variable) != Some(executor.as_str()) {
            found.changes.push(Change { name: variable, value: Value::Text(executor.as_str().to_owned()), source });
        }
        Ok((executor, wants_server))
    }

    /// `LOAD_EX` is no unless it says yes; with yes the puckel image leaves it to Airflow, whose default is yes.
    fn load_examples(&self, found: &mut Found) -> Result<(), Error> {
        let option = AirflowOption::LOAD_EXAMPLES;
        if self.variable(option, found)?.is_some() || self.puckel.load_examples == Some(true) {
            return Ok(());
        }
        let source = match self.puckel.load_examples {
            Some(_) => self.environment.source("LOAD_EX"),
            None if (self.configured)(option).is_some() => return Ok(()),
            None => Source::Default,
        };
        found.changes.push(Change { name: option.variable(), value: Value::Text("False".to_owned()), source });
        Ok(())
    }

    /// The metadata database, and its URL where we know it.
    fn database(
        &self,
        executor: &Executor,
        wants_server: bool,
        found: &mut Found,
    ) -> Result<(Server, Option<String>), Error> {
        let option = self.version.sql_alchemy_conn();
        let parts = &self.puckel.postgres;
        let given = self.variable(option, found)?;
        if let (None, Some(source)) = (&given, self.left_to_airflow(option)) {
            found
                .warnings
                .extend(self.unused("POSTGRES_", &format!("the database's URL is left to Airflow by {source}")));
            return Ok((Server::LeftToAirflow(source), None));
        }
        // SQLite is what a generated airflow.cfg says when nobody chose.
        let configured = self.configured(option).filter(|given| !given.value.starts_with("sqlite") || !wants_server);
        let from_parts = !parts.is_empty() && (wants_server || self.version.line() == Line::V3);
        let settled = if let Some(given) = given {
            found.warnings.extend(self.unused("POSTGRES_", &format!("the database's URL is that of {}", given.source)));
            given
        } else if from_parts {
            Settled::built(parts::postgres(parts), Source::Derived("`POSTGRES_...`".to_owned()))
        } else if let Some(configured) = configured {
            configured
        } else if wants_server {
            Settled::built(parts::postgres(parts), Source::Default)
        } else {
            let why = format!("`{}` keeps to SQLite", executor.as_str());
            found.warnings.extend(self.unused("POSTGRES_", &why));
            return Ok((Server::None { file: None }, None));
        };
        let settled = settled.with_known_dialect(found);
        let server = self.server(&settled)?;
        let url = settled.value.clone();
        found.push(settled, option);
        Ok((server, Some(url)))
    }

    /// How the database can be asked without Airflow.
    fn metadb(&self, database: &Server, url: Option<&str>) -> Metadb {
        let url = url.map(|url| expanded(url, self.environment));
        match (database, url) {
            (Server::LeftToAirflow(source), _) => {
                Metadb::LeftToAirflow(format!("its URL is left to Airflow by {source}"))
            }
            (Server::None { file }, url) => {
                // What Airflow does without a URL, and for a file that is not told by an absolute path (it refuses that).
                let file = file.clone().filter(|_| url.is_some());
                let file = file.unwrap_or_else(|| self.environment.airflow_home().join("airflow.db"));
                Metadb::Asked(Target::sqlite(&file, Source::File(file.clone())))
            }
            (Server::Listens { endpoints, source, .. }, Some(url)) => {
                match Target::server(&url, endpoints, source.clone()) {
                    Some(target) => Metadb::Asked(target.in_schema(self.schema().as_deref())),
                    None => Metadb::LeftToAirflow(format!("there is no driver of ours for the URL of {source}")),
                }
            }
            (Server::Listens { source, .. } | Server::Serverless { source, .. }, _) => {
                Metadb::LeftToAirflow(format!("there is no driver of ours for the URL of {source}"))
            }
        }
    }

    /// The schema of PostgreSQL that Airflow's tables are in, where it is not the default one. Moved with the URL in 2.3; the old name
    /// still counts.
    fn schema(&self) -> Option<String> {
        self.option(AirflowOption::DATABASE_SQL_ALCHEMY_SCHEMA)
            .filter(|_| self.version.sql_alchemy_conn() == AirflowOption::DATABASE_SQL_ALCHEMY_CONN)
            .or_else(|| self.option(AirflowOption::CORE_SQL_ALCHEMY_SCHEMA))
    }

    fn broker(&self, found: &mut Found) -> Result<Server, Error> {
        let option = AirflowOption::BROKER_URL;
        let parts = &self.puckel.redis;
        let given = self.variable(option, found)?;
        let settled = if let Some(given) = given {
            found.warnings.extend(self.unused("REDIS_", &format!("the broker's URL is that of {}", given.source)));
            given
        } else if let Some(source) = self.left_to_airflow(option) {
            found.warnings.extend(self.unused("REDIS_", &format!("the broker's URL is left to Airflow by {source}")));
            return Ok(Server::LeftToAirflow(source));
        } else {
            match self.configured(option).filter(|_| parts.is_empty()) {
                Some(configured) => configured,
                None if parts.is_empty() => Settled::built(parts::redis(parts), Source::Default),
                None => Settled::built(parts::redis(parts), Source::Derived("`REDIS_...`".to_owned())),
            }
        };
        let says_nothing = !settled.value.contains("ssl_c") && !self.environment.is_set("AIRFLOW__CELERY__SSL_ACTIVE");
        if settled.value.starts_with("rediss://") && says_nothing {
            found.warnings.push(format!(
                "the broker's URL of {} is `rediss://` and says nothing of certificates; `?ssl_cert_reqs=CERT_REQUIRED` has the server's checked",
                settled.source
            ));
        }
        let server = self.server(&settled)?;
        found.push(settled, option);
        Ok(server)
    }

    /// Derived from the database's URL unless somebody chose another one; then that one's server.
    fn result_backend(&self, database: &Server, url: Option<&str>, found: &mut Found) -> Result<Option<Server>, Error> {
        let option = AirflowOption::RESULT_BACKEND;
        let given = self.variable(option, found)?;
        if let (None, Some(source)) = (&given, self.left_to_airflow(option)) {
            return Ok(Some(Server::LeftToAirflow(source)));
        }
        let chosen = given.or_else(|| self.configured(option).filter(|_| self.puckel.postgres.is_empty()));
        if let Some(chosen) = chosen {
            let chosen = chosen.with_known_dialect(found);
            // `rpc` goes through the broker.
            let server = if chosen.value.starts_with("rpc:") { None } else { Some(self.server(&chosen)?) };
            found.push(chosen, option);
            return Ok(server);
        }
        match (url.and_then(parts::result_backend), database) {
            (Some(url), _) => {
                found.push(Settled::built(url, Source::Derived("the database's URL".to_owned())), option);
                Ok(None)
            }
            // Later lines derive it themselves; 1.10 would go to a MySQL of its own imagination.
            (None, Server::LeftToAirflow(source)) if self.version.line() == Line::V1 => {
                Err(Error::NoResultBackend { source_of_it: source.clone() })
            }
            (None, _) => Ok(None),
        }
    }

    fn server(&self, settled: &Settled) -> Result<Server, Error> {
        let (url, source) = (expanded(&settled.value, self.environment), &settled.source);
        let scheme = url.split("://").next().unwrap_or_default();
        if scheme.trim_start_matches("db+").split('+').next() == Some("sqlite") {
            let path = url.split_once("://").map_or("", |(_, rest)| rest);
            let path = path.strip_prefix('/').unwrap_or_default().split('?').next().unwrap_or_default();
            let path = PathBuf::from(path);
            return Ok(Server::None { file: path.is_absolute().then_some(path) });
        }
        let endpoints = urls::checked(&url, source)?;
        if endpoints.is_empty() {
            return Ok(Server::Serverless { scheme: scheme.to_owned(), source: source.clone() });
        }
        Ok(Server::Listens { endpoints, url: Redacted(url.into_owned()), source: source.clone() })
    }
}
