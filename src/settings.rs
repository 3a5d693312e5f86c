//! What the user said: our settings, the environment over the settings file over the default.
//!
//! Each value is checked alone here; what follows from all of them together is the plan's business.

mod near_misses;
pub(crate) mod official;
pub(crate) mod puckel;
mod reader;
pub(crate) mod values;

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::airflow_version::Version;
use crate::environment::Environment;
use crate::error::Error;
use crate::launch::forwarding::Scope;
use crate::launch::restart;
use crate::nearest::nearest;
use crate::seeds::SeedMode;
use crate::settings::official::Official;
use crate::settings::puckel::Puckel;
use crate::settings::reader::Reader;
use crate::settings::values::{
    Choice, Forwarded, Handover, Prepare, SecretsCheck, UserMode, WaitTimeout, auto_or, boolean, grace, umask,
};
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
pub(crate) const TABLE: [Setting; 21] = [
    Setting { name: "airflow_version", default: "", expects: "a version such as `2.11.2`" },
    Setting { name: "check_secrets", default: "stop", expects: "`stop`, `warn` or `off`" },
    Setting { name: "ephemeral_key", default: "false", expects: "`true` or `false`" },
    Setting { name: "forward_signals", default: "auto", expects: "`auto` or `all`" },
    Setting { name: "init", default: "auto", expects: "`auto`, `true` or `false`" },
    Setting { name: "key_dir", default: "", expects: "an absolute path" },
    Setting { name: "migrate", default: "auto", expects: "`auto`, `true` or `false`" },
    Setting { name: "prepare", default: "auto", expects: "`auto` or `always`" },
    Setting { name: "requirements", default: "/requirements.txt", expects: "an absolute path" },
    Setting { name: "restart", default: "off", expects: "`off` or a number" },
    Setting { name: "run_as", default: "", expects: "a user: a name or a number, with `:` and a group if need be" },
    Setting { name: "secrets", default: "env+cfg", expects: "`env+cfg` or `cmd`" },
    Setting { name: "seed", default: "", expects: "absolute paths, joined by `:`" },
    Setting { name: "seed_mode", default: "add", expects: "`add` or `sync`" },
    Setting { name: "signal_scope", default: "auto", expects: "`auto`, `process` or `group`" },
    Setting { name: "stop_grace", default: "30s", expects: "`forever` or a duration such as `90s` or `5m`" },
    Setting { name: "template", default: "", expects: "an absolute path" },
    Setting { name: "umask", default: "", expects: "an octal file mode mask such as `0022`" },
    Setting { name: "user_mode", default: "create", expects: "`create` or `sync`" },
    Setting { name: "wait_timeout", default: "100s", expects: "`off`, `forever` or a duration such as `90s` or `5m`" },
    Setting { name: "web_scheduler", default: "auto", expects: "`auto`, `true` or `false`" },
];

/// Our settings as they were written, from the environment (`envy`) or the settings file (`toml`).
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Written {
    airflow_version: Option<Text>,
    check_secrets: Option<Text>,
    ephemeral_key: Option<Text>,
    forward_signals: Option<Text>,
    init: Option<Text>,
    key_dir: Option<Text>,
    migrate: Option<Text>,
    prepare: Option<Text>,
    requirements: Option<Text>,
    restart: Option<Text>,
    run_as: Option<Text>,
    secrets: Option<Text>,
    seed: Option<Text>,
    seed_mode: Option<Text>,
    signal_scope: Option<Text>,
    stop_grace: Option<Text>,
    template: Option<Text>,
    umask: Option<Text>,
    user_mode: Option<Text>,
    wait_timeout: Option<Text>,
    web_scheduler: Option<Text>,
}

/// A value of the settings file: text, or what TOML has for switches and numbers.
#[derive(Clone, Debug)]
struct Text(String);

/// All settings, each one valid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    /// The version of Airflow, where it cannot be found on disk.
    pub airflow_version: Option<Version>,
    /// What becomes of secrets that do not fit the database.
    pub check_secrets: SecretsCheck,
    /// Whether a generated secret may vanish with the container.
    pub ephemeral_key: bool,
    /// Which signals an init hands on.
    pub forward_signals: Forwarded,
    /// Whether we stay as the init of the command.
    pub init: Choice,
    /// The folder that keeps the secrets, where it is not left to us.
    pub key_dir: Option<PathBuf>,
    /// Who migrates the database.
    pub migrate: Choice,
    /// Whether every command is prepared for like a service.
    pub prepare: Prepare,
    /// What the official image's variables say.
    pub official: Official,
    /// The parts of the URLs and the executor, as the puckel image names them.
    pub puckel: Puckel,
    /// Python packages to install before a service starts.
    pub requirements: PathBuf,
    /// How often each of several processes is started again.
    pub restart: u32,
    /// Whom to become when we are root.
    pub run_as: Option<String>,
    /// How Airflow is given secrets and URLs.
    pub secrets: Handover,
    /// The files and folders to seed from.
    pub seed: Vec<PathBuf>,
    /// What a seed does to what is there already.
    pub seed_mode: SeedMode,
    /// Whom signals are for, where that is not left to us.
    pub signal_scope: Option<Scope>,
    /// How long several processes may take to end.
    pub stop_grace: WaitTimeout,
    /// The user's own template of `airflow.cfg`.
    pub template: Option<PathBuf>,
    /// The file mode mask of the command.
    pub umask: Option<u32>,
    /// What becomes of an account that is there already.
    pub user_mode: UserMode,
    /// How long to wait for database and broker.
    pub wait_timeout: WaitTimeout,
    /// Whether `webserver` runs the scheduler too.
    pub web_scheduler: Choice,
    /// What was said in vain, or nearly wrong.
    pub warnings: Vec<String>,
    /// Each setting that has a value, as it was written, and where.
    pub written: Vec<(&'static str, String, Source)>,
}

/// The settings file, if there is one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SettingsFile {
    pub path: PathBuf,
    pub text: String,
}

impl Settings {
    /// Reads and checks all settings.
    pub(crate) fn read(environment: &Environment, file: Option<&SettingsFile>) -> Result<Self, Error> {
        let from_environment = written_in_environment(environment)?;
        let from_file = file.map(written_in_file).transpose()?.unwrap_or_default();
        let path = file.map_or(Path::new(SETTINGS_FILE), |file| &file.path);
        let reader = Reader::new(environment, from_environment, from_file, path);
        let mut warnings = Vec::new();
        warnings.extend(
            environment.unwrapped().map(|name| {
                format!("`{name}` is wrapped in quotes, which are no part of the value; they are left out")
            }),
        );
        warnings.extend(near_misses::warnings(environment));
        let puckel = Puckel::read(environment, &mut warnings)?;
        let official = Official::read(environment)?;
        let migrate = reader.required("migrate", |w| &w.migrate, Choice::parse)?;
        let migrate = match &official.migrate {
            Some((yes, name)) if migrate == Choice::Auto => {
                reader.overrule("migrate", yes.to_string(), Source::Variable((*name).to_owned()));
                Choice::of(*yes)
            }
            _ => migrate,
        };
        let wait_timeout = reader.required("wait_timeout", |w| &w.wait_timeout, WaitTimeout::parse)?;
        let wait_timeout = match &official.wait_timeout {
            Some((timeout, name)) if !reader.is_said(|w| &w.wait_timeout) => {
                reader.overrule("wait_timeout", timeout.written(), Source::Variable((*name).to_owned()));
                *timeout
            }
            _ => wait_timeout,
        };
        Ok(Self {
            airflow_version: reader.value("airflow_version", |w| &w.airflow_version, Version::parse)?,
            check_secrets: reader.required("check_secrets", |w| &w.check_secrets, SecretsCheck::parse)?,
            ephemeral_key: reader.required("ephemeral_key", |w| &w.ephemeral_key, boolean)?,
            forward_signals: reader.required("forward_signals", |w| &w.forward_signals, Forwarded::parse)?,
            init: reader.required("init", |w| &w.init, Choice::parse)?,
            key_dir: reader.value("key_dir", |w| &w.key_dir, absolute)?,
            migrate,
            prepare: reader.required("prepare", |w| &w.prepare, Prepare::parse)?,
            puckel,
            requirements: reader.required("requirements", |w| &w.requirements, absolute)?,
            restart: reader.required("restart", |w| &w.restart, restart::limit)?,
            run_as: reader.value("run_as", |w| &w.run_as, |text| Some(text.to_owned()))?,
            secrets: reader.required("secrets", |w| &w.secrets, Handover::parse)?,
            seed: reader.value("seed", |w| &w.seed, absolutes)?.unwrap_or_default(),
            seed_mode: reader.required("seed_mode", |w| &w.seed_mode, SeedMode::parse)?,
            signal_scope: reader.required("signal_scope", |w| &w.signal_scope, |text| auto_or(text, Scope::parse))?,
            stop_grace: reader.required("stop_grace", |w| &w.stop_grace, grace)?,
            template: reader.value("template", |w| &w.template, absolute)?,
            umask: reader.value("umask", |w| &w.umask, umask)?,
            user_mode: reader.required("user_mode", |w| &w.user_mode, UserMode::parse)?,
            wait_timeout,
            web_scheduler: reader.required("web_scheduler", |w| &w.web_scheduler, Choice::parse)?,
            official,
            written: reader.written(),
            warnings,
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
            let short = name.trim_start_matches(PREFIX).to_ascii_lowercase();
            let nearest = nearest(&short, TABLE.iter().map(|row| row.name.to_owned())).map(|name| variable(&name));
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

fn absolute(text: &str) -> Option<PathBuf> {
    let path = PathBuf::from(text);
    path.is_absolute().then_some(path)
}

fn absolutes(text: &str) -> Option<Vec<PathBuf>> {
    text.split(':').map(absolute).collect()
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
