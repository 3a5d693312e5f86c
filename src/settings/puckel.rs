//! The variables of the puckel image: executor, examples, and the parts of the URLs.

use std::fmt;

use serde::Deserialize;

use crate::environment::Environment;
use crate::error::Error;
use crate::settings::values::boolean;
use crate::urls::Redacted;

/// What the puckel image's variables say, each one valid. `None` is unset or empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Puckel {
    pub executor: Option<String>,
    pub load_examples: Option<bool>,
    pub postgres: Parts,
    pub redis: Parts,
}

/// The parts of a URL.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Parts {
    pub database: Option<String>,
    pub extras: Option<String>,
    pub host: Option<String>,
    pub password: Option<String>,
    pub port: Option<u16>,
    pub scheme: Option<String>,
    pub user: Option<String>,
}

/// The variables that the puckel image understands.
#[derive(Clone, Default, Deserialize)]
#[serde(default)]
struct PuckelVariables {
    executor: Option<String>,
    load_ex: Option<String>,
    postgres_db: Option<String>,
    postgres_extras: Option<String>,
    postgres_host: Option<String>,
    postgres_password: Option<String>,
    postgres_port: Option<String>,
    postgres_user: Option<String>,
    redis_dbnum: Option<String>,
    redis_host: Option<String>,
    redis_password: Option<String>,
    redis_port: Option<String>,
    redis_proto: Option<String>,
}

/// Their names.
pub(crate) const NAMES: [&str; 13] = [
    "EXECUTOR",
    "LOAD_EX",
    "POSTGRES_DB",
    "POSTGRES_EXTRAS",
    "POSTGRES_HOST",
    "POSTGRES_PASSWORD",
    "POSTGRES_PORT",
    "POSTGRES_USER",
    "REDIS_DBNUM",
    "REDIS_HOST",
    "REDIS_PASSWORD",
    "REDIS_PORT",
    "REDIS_PROTO",
];

impl Puckel {
    /// Reads and checks them. What is no word of the user's is added to `warnings`.
    pub(crate) fn read(environment: &Environment, warnings: &mut Vec<String>) -> Result<Self, Error> {
        let texts = environment.texts(|name| NAMES.contains(&name))?;
        let said: PuckelVariables =
            envy::from_iter(texts).map_err(|problem| Error::Bug { what: problem.to_string() })?;
        let load_examples = said.load_ex.as_deref().map(|text| {
            boolean(text).ok_or_else(|| Error::Setting {
                source_of_it: environment.source("LOAD_EX"),
                expected: "`y` or `n`",
                found: text.to_owned(),
            })
        });
        Ok(Self {
            executor: said.executor,
            load_examples: load_examples.transpose()?,
            postgres: Parts {
                database: said.postgres_db,
                extras: extras(said.postgres_extras, environment)?,
                host: said.postgres_host,
                password: said.postgres_password,
                port: port("POSTGRES_PORT", said.postgres_port, environment, warnings)?,
                scheme: None,
                user: said.postgres_user,
            },
            redis: Parts {
                database: said.redis_dbnum,
                extras: None,
                host: said.redis_host,
                password: said.redis_password,
                port: port("REDIS_PORT", said.redis_port, environment, warnings)?,
                scheme: said.redis_proto,
                user: None,
            },
        })
    }
}

/// The query of the database's URL, with or without the `?` in front.
fn extras(text: Option<String>, environment: &Environment) -> Result<Option<String>, Error> {
    let Some(text) = text else { return Ok(None) };
    let query = text.trim().trim_start_matches(['?', '&']);
    if query.contains(char::is_whitespace) {
        return Err(Error::Setting {
            source_of_it: environment.source("POSTGRES_EXTRAS"),
            expected: "`name=value` pairs joined by `&`, with blanks as `%20`",
            found: Redacted(format!("?{query}")).to_string(),
        });
    }
    Ok((!query.is_empty()).then(|| query.to_owned()))
}

/// A port. Kubernetes sets `POSTGRES_PORT=tcp://10.0.0.1:5432` by itself for a service named `postgres`; that is not the
/// user's word and counts as unset.
fn port(
    name: &str,
    text: Option<String>,
    environment: &Environment,
    warnings: &mut Vec<String>,
) -> Result<Option<u16>, Error> {
    let Some(text) = text else { return Ok(None) };
    if text.starts_with("tcp://") || text.starts_with("udp://") {
        warnings.push(format!(
            "`{name}` is a link that Kubernetes or Docker set for a service of that name; it is not used"
        ));
        return Ok(None);
    }
    match text.trim().parse() {
        Ok(port) if port > 0 => Ok(Some(port)),
        _ => Err(Error::Setting {
            source_of_it: environment.source(name),
            expected: "a port from 1 to 65535",
            found: text,
        }),
    }
}

impl fmt::Debug for Parts {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Parts({:?}@{:?}:{:?}/{:?})", self.user, self.host, self.port, self.database)
    }
}

impl Parts {
    /// Whether nothing was said.
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}
