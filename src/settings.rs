//! What the user said: our settings (environment over file over default) and the variables of the puckel image.
//!
//! Each value is checked alone here; what follows from all of them together is the plan's business.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use crate::airflow_version::Version;
use crate::error::Error;
use crate::source::Source;

/// What our variables start with.
pub(crate) const PREFIX: &str = "ENTRYPOINT_";
/// The variable that names the settings file.
pub(crate) const SETTINGS_FILE_VARIABLE: &str = "ENTRYPOINT_SETTINGS_FILE";
/// The settings file that is read when it is there.
pub(crate) const SETTINGS_FILE: &str = "/etc/airflow-entrypoint/entrypoint.toml";

/// One row of the settings table: what README and `docker/entrypoint.toml` are checked against.
pub(crate) struct Setting {
    /// Its key in the settings file; the variable is `ENTRYPOINT_` and this in upper case.
    pub name: &'static str,
    /// The default, as it would be written.
    pub default: &'static str,
    /// The values that it takes.
    pub expects: &'static str,
}

/// The settings table.
pub(crate) const TABLE: [Setting; 9] = [
    Setting { name: "airflow_version", default: "", expects: "a version such as `2.11.2`" },
    Setting { name: "ephemeral_key", default: "false", expects: "`true` or `false`" },
    Setting { name: "key_dir", default: "/keys", expects: "an absolute path" },
    Setting { name: "migrate", default: "auto", expects: "`auto`, `true` or `false`" },
    Setting { name: "prepare", default: "auto", expects: "`auto` or `always`" },
    Setting { name: "requirements", default: "/requirements.txt", expects: "an absolute path" },
    Setting { name: "template", default: "", expects: "an absolute path" },
    Setting { name: "wait_timeout", default: "100s", expects: "`off`, `forever` or a duration such as `90s` or `5m`" },
    Setting { name: "web_scheduler", default: "auto", expects: "`auto`, `true` or `false`" },
];

/// Our settings as they were written, from the environment (`envy`) or the settings file (`toml`).
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Written {
    airflow_version: Option<Text>,
    ephemeral_key: Option<Text>,
    key_dir: Option<Text>,
    migrate: Option<Text>,
    prepare: Option<Text>,
    requirements: Option<Text>,
    template: Option<Text>,
    wait_timeout: Option<Text>,
    web_scheduler: Option<Text>,
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

const PUCKEL_NAMES: [&str; 13] = [
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

/// A value of the settings file: text, or what TOML has for switches and numbers.
#[derive(Clone, Debug)]
struct Text(String);

/// All settings, each one valid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    /// The version of Airflow, where it cannot be found on disk.
    pub airflow_version: Option<Version>,
    /// Whether a generated secret may vanish with the container.
    pub ephemeral_key: bool,
    /// The folder that keeps the secrets.
    pub key_dir: PathBuf,
    /// Who migrates the database.
    pub migrate: Choice,
    /// Whether every command is prepared for like a service.
    pub prepare: Prepare,
    /// The parts of the URLs and the executor, as the puckel image names them.
    pub puckel: Puckel,
    /// Python packages to install before a service starts.
    pub requirements: PathBuf,
    /// The user's own template of `airflow.cfg`.
    pub template: Option<PathBuf>,
    /// How long to wait for database and broker.
    pub wait_timeout: WaitTimeout,
    /// Whether `webserver` runs the scheduler too.
    pub web_scheduler: Choice,
    /// What was said in vain, or nearly wrong.
    pub warnings: Vec<String>,
}

/// A switch that can also be left to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Choice {
    Auto,
    No,
    Yes,
}

/// Which commands get what a service gets: secrets made, requirements, waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Prepare {
    /// Every command, as the bash entrypoint did.
    Always,
    /// Each command what its class needs.
    Auto,
}

/// How long to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WaitTimeout {
    After(Duration),
    Forever,
    Off,
}

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

/// The environment as we were given it.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Environment(BTreeMap<OsString, OsString>);

/// The settings file, if there is one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SettingsFile {
    pub path: PathBuf,
    pub text: String,
}

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
    fn texts(&self, wanted: impl Fn(&str) -> bool) -> Result<Vec<(String, String)>, Error> {
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

impl Settings {
    /// Reads and checks all settings.
    pub(crate) fn read(environment: &Environment, file: Option<&SettingsFile>) -> Result<Self, Error> {
        let from_environment = written_in_environment(environment)?;
        let from_file = file.map(written_in_file).transpose()?.unwrap_or_default();
        let path = file.map_or(Path::new(SETTINGS_FILE), |file| &file.path);
        let reader = Reader { from_environment, from_file, path };
        let mut warnings = Vec::new();
        let puckel = puckel(environment, &mut warnings)?;
        Ok(Self {
            airflow_version: reader.value("airflow_version", |w| &w.airflow_version, Version::parse)?,
            ephemeral_key: reader.required("ephemeral_key", |w| &w.ephemeral_key, boolean)?,
            key_dir: reader.required("key_dir", |w| &w.key_dir, absolute)?,
            migrate: reader.required("migrate", |w| &w.migrate, Choice::parse)?,
            prepare: reader.required("prepare", |w| &w.prepare, Prepare::parse)?,
            puckel,
            requirements: reader.required("requirements", |w| &w.requirements, absolute)?,
            template: reader.value("template", |w| &w.template, absolute)?,
            wait_timeout: reader.required("wait_timeout", |w| &w.wait_timeout, WaitTimeout::parse)?,
            web_scheduler: reader.required("web_scheduler", |w| &w.web_scheduler, Choice::parse)?,
            warnings,
        })
    }
}

/// Finds a setting in the environment, else in the file.
struct Reader<'a> {
    from_environment: Written,
    from_file: Written,
    path: &'a Path,
}

impl Reader<'_> {
    /// A setting that has a default.
    fn required<T>(
        &self,
        name: &str,
        field: impl Fn(&Written) -> &Option<Text>,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Result<T, Error> {
        self.value(name, field, parse)?
            .ok_or_else(|| Error::Bug { what: format!("the setting `{name}` has no default") })
    }

    fn value<T>(
        &self,
        name: &str,
        field: impl Fn(&Written) -> &Option<Text>,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Result<Option<T>, Error> {
        let row = TABLE.iter().find(|row| row.name == name);
        let in_environment = field(&self.from_environment).as_ref();
        let said = in_environment.or_else(|| field(&self.from_file).as_ref()).map(|text| text.0.as_str());
        let default = row.map(|row| row.default).filter(|default| !default.is_empty());
        let Some(text) = said.or(default) else { return Ok(None) };
        parse(text).map(Some).ok_or_else(|| Error::Setting {
            source_of_it: match in_environment {
                Some(_) => Source::Variable(variable(name)),
                None => Source::Option { file: self.path.to_owned(), name: name.to_owned() },
            },
            expected: row.map_or("", |row| row.expects),
            found: text.to_owned(),
        })
    }
}

/// The variable of a setting.
pub(crate) fn variable(name: &str) -> String {
    format!("{PREFIX}{}", name.to_ascii_uppercase())
}

fn written_in_environment(environment: &Environment) -> Result<Written, Error> {
    let ours = environment.texts(|name| name.starts_with(PREFIX) && name != SETTINGS_FILE_VARIABLE)?;
    for (name, _) in &ours {
        if !TABLE.iter().any(|row| variable(row.name) == *name) {
            let nearest = nearest(name, TABLE.iter().map(|row| variable(row.name)));
            return Err(Error::UnknownSetting { name: format!("`{name}`"), nearest });
        }
    }
    // envy's own messages echo values and drop the prefix; with text fields alone it has nothing to say.
    envy::prefixed(PREFIX).from_iter(ours).map_err(|problem| Error::Bug { what: problem.to_string() })
}

fn written_in_file(file: &SettingsFile) -> Result<Written, Error> {
    let unreadable = |problem: toml::de::Error| Error::SettingsFile {
        path: file.path.clone(),
        // toml would cite the line itself, which may hold what must not be shown.
        line: problem.span().map_or(1, |span| 1 + file.text[..span.start].matches('\n').count()),
        problem: problem.message().lines().next().unwrap_or("not TOML").to_owned(),
    };
    let table: toml::Table = toml::from_str(&file.text).map_err(unreadable)?;
    for name in table.keys() {
        if !TABLE.iter().any(|row| row.name == name) {
            let nearest = nearest(name, TABLE.iter().map(|row| row.name.to_owned()));
            return Err(Error::UnknownSetting { name: format!("`{name}` in `{}`", file.path.display()), nearest });
        }
    }
    toml::from_str(&file.text).map_err(unreadable)
}

/// The known name that is most like this one.
pub(crate) fn nearest(name: &str, known: impl IntoIterator<Item = String>) -> Option<String> {
    known
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(name, &candidate), candidate))
        .min()
        .filter(|(distance, candidate)| *distance <= candidate.len().max(name.len()) / 3)
        .map(|(_, candidate)| candidate)
}

fn puckel(environment: &Environment, warnings: &mut Vec<String>) -> Result<Puckel, Error> {
    let texts = environment.texts(|name| PUCKEL_NAMES.contains(&name))?;
    let said: PuckelVariables = envy::from_iter(texts).map_err(|problem| Error::Bug { what: problem.to_string() })?;
    let load_examples = said.load_ex.as_deref().map(|text| {
        boolean(text).ok_or_else(|| Error::Setting {
            source_of_it: Source::Variable("LOAD_EX".to_owned()),
            expected: "`y` or `n`",
            found: text.to_owned(),
        })
    });
    Ok(Puckel {
        executor: said.executor,
        load_examples: load_examples.transpose()?,
        postgres: Parts {
            database: said.postgres_db,
            extras: said.postgres_extras,
            host: said.postgres_host,
            password: said.postgres_password,
            port: port("POSTGRES_PORT", said.postgres_port, warnings)?,
            scheme: None,
            user: said.postgres_user,
        },
        redis: Parts {
            database: said.redis_dbnum,
            extras: None,
            host: said.redis_host,
            password: said.redis_password,
            port: port("REDIS_PORT", said.redis_port, warnings)?,
            scheme: said.redis_proto,
            user: None,
        },
    })
}

/// A port. Kubernetes sets `POSTGRES_PORT=tcp://10.0.0.1:5432` by itself for a service named `postgres`; that is not the
/// user's word and counts as unset.
fn port(name: &str, text: Option<String>, warnings: &mut Vec<String>) -> Result<Option<u16>, Error> {
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
            source_of_it: Source::Variable(name.to_owned()),
            expected: "a port from 1 to 65535",
            found: text,
        }),
    }
}

/// The one reading of yes and no.
pub(crate) fn boolean(text: &str) -> Option<bool> {
    match text.trim().to_ascii_lowercase().as_str() {
        "1" | "on" | "t" | "true" | "y" | "yes" => Some(true),
        "0" | "f" | "false" | "n" | "no" | "off" => Some(false),
        _ => None,
    }
}

fn absolute(text: &str) -> Option<PathBuf> {
    let path = PathBuf::from(text);
    path.is_absolute().then_some(path)
}

impl Choice {
    fn parse(text: &str) -> Option<Self> {
        if text.trim().eq_ignore_ascii_case("auto") {
            return Some(Self::Auto);
        }
        boolean(text).map(|yes| if yes { Self::Yes } else { Self::No })
    }
}

impl Prepare {
    fn parse(text: &str) -> Option<Self> {
        match text.trim().to_ascii_lowercase().as_str() {
            "always" => Some(Self::Always),
            "auto" => Some(Self::Auto),
            _ => None,
        }
    }
}

impl WaitTimeout {
    /// `off`, `forever`, or a number with `ms`, `s`, `m` or `h`. A bare `0` is refused: it means "off" to some and "forever" to
    /// others; any other bare number is seconds.
    fn parse(text: &str) -> Option<Self> {
        let text = text.trim().to_ascii_lowercase();
        match text.as_str() {
            "off" => return Some(Self::Off),
            "forever" => return Some(Self::Forever),
            _ => {}
        }
        let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let number: u64 = text[..digits].parse().ok().filter(|&number| number > 0)?;
        let milliseconds = match text[digits..].trim() {
            "ms" => 1,
            "" | "s" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            _ => return None,
        };
        number.checked_mul(milliseconds).map(|total| Self::After(Duration::from_millis(total)))
    }
}

impl fmt::Display for WaitTimeout {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::After(time) => write!(formatter, "at most {time:?}"),
            Self::Forever => write!(formatter, "without a limit"),
            Self::Off => write!(formatter, "not at all"),
        }
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "expected text, a number, or true or false")]
        enum Scalar {
            Text(String),
            Number(i64),
            Switch(bool),
        }
        Ok(Self(match Scalar::deserialize(deserializer)? {
            Scalar::Text(text) => text,
            Scalar::Number(number) => number.to_string(),
            Scalar::Switch(switch) => switch.to_string(),
        }))
    }
}

#[cfg(test)]
#[path = "settings_tests.rs"]
mod tests;
