//! Which Airflow is installed, and what differs between its lines: option names and the command that migrates.
//!
//! Works on text that was read from disk; starts no Python.

use std::fmt;
use std::path::PathBuf;

use crate::environment::Environment;
use crate::source::Source;

/// A release of Airflow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Version {
    major: u16,
    minor: u16,
    patch: u16,
}

/// Releases that share their command line and configuration, as far as an entrypoint is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Line {
    V1,
    V2,
    V3,
}

impl Version {
    /// What we take an Airflow for whose version cannot be found: the future uses the newest names.
    pub(crate) const NEWEST_KNOWN: Self = Self { major: 3, minor: 3, patch: 0 };

    /// Reads `2.11.2`, `3.0.0rc1`, `1.10.15+local`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut parts = text.trim().split('.').map(|part| {
            let digits = part.find(|c: char| !c.is_ascii_digit()).unwrap_or(part.len());
            part[..digits].parse().ok()
        });
        let (major, minor) = (parts.next()??, parts.next()??);
        (1..1000).contains(&major).then_some(())?;
        Some(Self { major, minor, patch: parts.next().flatten().unwrap_or(0) })
    }

    /// The line that it belongs to.
    pub(crate) fn line(self) -> Line {
        match self.major {
            0 | 1 => Line::V1,
            2 => Line::V2,
            _ => Line::V3,
        }
    }

    /// The option that holds the metadata database's URL: moved from `[core]` to `[database]` in 2.3.
    pub(crate) fn sql_alchemy_conn(self) -> AirflowOption {
        if (self.major, self.minor) < (2, 3) {
            AirflowOption::CORE_SQL_ALCHEMY_CONN
        } else {
            AirflowOption::DATABASE_SQL_ALCHEMY_CONN
        }
    }

    /// The option that holds the web secret: moved from `[webserver]` to `[api]` in 3.0.
    pub(crate) fn web_secret(self) -> AirflowOption {
        if self.major < 3 { AirflowOption::WEBSERVER_SECRET_KEY } else { AirflowOption::API_SECRET_KEY }
    }

    /// Airflow 3 signs the tokens of tasks with a secret of its own.
    pub(crate) fn has_jwt_secret(self) -> bool {
        self.major >= 3
    }

    /// The command that creates or upgrades the schema: `db migrate` since 2.7, `db upgrade` since 2.0.
    pub(crate) fn migrate_command(self) -> &'static [&'static str] {
        match (self.major, self.minor) {
            (..=1, _) => &["initdb"],
            (2, ..=6) => &["db", "upgrade"],
            _ => &["db", "migrate"],
        }
    }

    /// The same where there is a schema already: on 1.10 `initdb` would also bring back the default connections that somebody has
    /// removed.
    pub(crate) fn upgrade_command(self) -> &'static [&'static str] {
        if self.line() == Line::V1 { &["upgradedb"] } else { self.migrate_command() }
    }

    /// The command that creates an account of the web server: `users create` since 2.0.
    pub(crate) fn create_user_command(self) -> &'static [&'static str] {
        match self.line() {
            Line::V1 => &["create_user"],
            Line::V2 | Line::V3 => &["users", "create"],
        }
    }

    /// The command that makes the roles besides `Admin` and `Public`, which a web server makes too when it starts.
    pub(crate) fn roles_command(self) -> &'static [&'static str] {
        match self.line() {
            Line::V1 => &["sync_perm"],
            Line::V2 | Line::V3 => &["sync-perm"],
        }
    }

    /// The command that succeeds once the schema is there. 1.10 has none made for it; one that reads a table serves (its
    /// migrations are one transaction), and this one is spelt the same in all of 1.10.
    pub(crate) fn schema_check(self, seconds: u64) -> Vec<String> {
        match self.line() {
            Line::V1 => vec!["connections".to_owned(), "--list".to_owned()],
            _ => ["db", "check-migrations", "-t"].into_iter().map(str::to_owned).chain([seconds.to_string()]).collect(),
        }
    }

    /// What must run beside the web server when tasks run in the scheduler: on 3.x nothing parses DAGs but the DAG processor,
    /// and nothing wakes deferred tasks but the triggerer.
    pub(crate) fn beside_web(self) -> &'static [&'static str] {
        match self.line() {
            Line::V1 | Line::V2 => &["scheduler"],
            Line::V3 => &["scheduler", "dag-processor", "triggerer"],
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

/// One option of Airflow's configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AirflowOption {
    section: &'static str,
    key: &'static str,
    suffix: &'static str,
}

impl AirflowOption {
    pub(crate) const API_SECRET_KEY: Self = Self::new("api", "secret_key");
    pub(crate) const AUTH_MANAGER: Self = Self::new("core", "auth_manager");
    pub(crate) const BROKER_URL: Self = Self::new("celery", "broker_url");
    pub(crate) const CORE_SQL_ALCHEMY_CONN: Self = Self::new("core", "sql_alchemy_conn");
    pub(crate) const CORE_SQL_ALCHEMY_SCHEMA: Self = Self::new("core", "sql_alchemy_schema");
    pub(crate) const DATABASE_SQL_ALCHEMY_CONN: Self = Self::new("database", "sql_alchemy_conn");
    pub(crate) const DATABASE_SQL_ALCHEMY_SCHEMA: Self = Self::new("database", "sql_alchemy_schema");
    pub(crate) const EXECUTOR: Self = Self::new("core", "executor");
    pub(crate) const EXTERNAL_DB_MANAGERS: Self = Self::new("database", "external_db_managers");
    pub(crate) const FERNET_KEY: Self = Self::new("core", "fernet_key");
    pub(crate) const JWT_SECRET: Self = Self::new("api_auth", "jwt_secret");
    pub(crate) const LOAD_EXAMPLES: Self = Self::new("core", "load_examples");
    pub(crate) const RESULT_BACKEND: Self = Self::new("celery", "result_backend");
    pub(crate) const SIMPLE_AUTH_PASSWORDS: Self = Self::new("core", "simple_auth_manager_passwords_file");
    pub(crate) const SIMPLE_AUTH_USERS: Self = Self::new("core", "simple_auth_manager_users");
    pub(crate) const WEBSERVER_SECRET_KEY: Self = Self::new("webserver", "secret_key");

    /// All that we set or may remove.
    pub(crate) const MANAGED: [Self; 10] = [
        Self::API_SECRET_KEY,
        Self::BROKER_URL,
        Self::CORE_SQL_ALCHEMY_CONN,
        Self::DATABASE_SQL_ALCHEMY_CONN,
        Self::EXECUTOR,
        Self::FERNET_KEY,
        Self::JWT_SECRET,
        Self::LOAD_EXAMPLES,
        Self::RESULT_BACKEND,
        Self::WEBSERVER_SECRET_KEY,
    ];

    /// Those that hold a secret which we keep, on any line.
    pub(crate) const SECRETS: [Self; 4] =
        [Self::FERNET_KEY, Self::API_SECRET_KEY, Self::WEBSERVER_SECRET_KEY, Self::JWT_SECRET];

    /// All that we set or may remove and that is no secret of ours.
    pub(crate) fn managed_but_secrets() -> impl Iterator<Item = Self> {
        Self::MANAGED.into_iter().filter(|option| !Self::SECRETS.contains(option))
    }

    const fn new(section: &'static str, key: &'static str) -> Self {
        Self { section, key, suffix: "" }
    }

    /// The option `..._cmd` or `..._secret` beside it.
    pub(crate) fn with_suffix(self, suffix: &'static str) -> Self {
        Self { suffix, ..self }
    }

    /// Its section in `airflow.cfg`.
    pub(crate) fn section(self) -> &'static str {
        self.section
    }

    /// Its key in that section.
    pub(crate) fn key(self) -> String {
        [self.key, self.suffix].concat()
    }

    /// Its variable: `AIRFLOW__SECTION__KEY`.
    pub(crate) fn variable(self) -> String {
        format!("AIRFLOW__{}__{}{}", self.section, self.key, self.suffix).to_ascii_uppercase()
    }

    /// This option, then the same under the names that other lines use.
    pub(crate) fn with_other_names(self) -> impl Iterator<Item = Self> {
        let other = match self {
            Self::API_SECRET_KEY => Some(Self::WEBSERVER_SECRET_KEY),
            Self::CORE_SQL_ALCHEMY_CONN => Some(Self::DATABASE_SQL_ALCHEMY_CONN),
            Self::DATABASE_SQL_ALCHEMY_CONN => Some(Self::CORE_SQL_ALCHEMY_CONN),
            Self::WEBSERVER_SECRET_KEY => Some(Self::API_SECRET_KEY),
            _ => None,
        };
        std::iter::once(self).chain(other)
    }

    /// Whether Airflow runs `..._CMD` for it: 1.10 and 2.0 have a fixed list without the web secret
    /// (`sensitive_config_values` in `airflow/configuration.py`).
    pub(crate) fn takes_command(self, version: Version) -> bool {
        match self {
            Self::EXECUTOR | Self::LOAD_EXAMPLES => false,
            Self::WEBSERVER_SECRET_KEY => (version.major, version.minor) >= (2, 1),
            _ => true,
        }
    }

    /// Where Airflow is told to run a command or to ask its secrets backend for the value: a variable, or a line of the user's own
    /// `airflow.cfg`.
    pub(crate) fn left_to_airflow(
        self,
        environment: &Environment,
        configured: &dyn Fn(Self) -> Option<(String, Source)>,
    ) -> Option<Source> {
        let options = ["_cmd", "_secret"].map(|suffix| self.with_suffix(suffix));
        let variable = options.iter().map(|option| option.variable()).find(|name| environment.is_set(name));
        variable
            .map(Source::Variable)
            .or_else(|| options.into_iter().find_map(|option| configured(option).map(|(_, source)| source)))
    }
}

/// An Airflow that is installed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Installed {
    pub version: Version,
    /// The version as it is written there, with all that [`Version`] leaves out.
    pub written: String,
    /// The file that says so.
    pub path: PathBuf,
    /// The folder of its package, where the sources of its migrations are there.
    pub package: Option<PathBuf>,
}

impl Installed {
    /// By its own words.
    pub(crate) fn new(written: &str, path: PathBuf) -> Option<Self> {
        Some(Self { version: Version::parse(written)?, written: written.to_owned(), path, package: None })
    }
}

/// The version in the text of `airflow/__init__.py` (2.x, 3.x) or `airflow/version.py` (1.10).
pub(crate) fn version_in_source(text: &str) -> Option<&str> {
    text.lines().find_map(|line| {
        let (name, value) = line.split_once('=')?;
        matches!(name.trim(), "__version__" | "version").then_some(())?;
        let value = value.trim();
        let quote = value.chars().next().filter(|&c| c == '\'' || c == '"')?;
        value[1..].split(quote).next()
    })
}

/// The interpreter that the first lines of a Python script name: after `#!`, or in the `exec` that pip writes when that line
/// would be too long or has a blank in it.
pub(crate) fn interpreter(script: &str) -> Option<&str> {
    let mut lines = script.lines();
    let first = lines.next()?.strip_prefix("#!")?.trim();
    if first == "/bin/sh" {
        return lines.next()?.trim().strip_prefix("'''exec'")?.trim().strip_prefix('"')?.split('"').next();
    }
    let mut words = first.split_ascii_whitespace();
    let program = words.next()?;
    // `env python` names no folder.
    (!program.ends_with("/env")).then_some(program)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_far_as_they_matter() {
        for (text, expected) in [
            ("2.11.2", Some((2, 11, 2))),
            ("3.0.0rc1", Some((3, 0, 0))),
            ("1.10.15+composer", Some((1, 10, 15))),
            ("3.1", Some((3, 1, 0))),
            (" 2.7.0\n", Some((2, 7, 0))),
            ("3", None),
            ("latest", None),
            ("", None),
            ("0.1", None),
        ] {
            let version = Version::parse(text).map(|v| (v.major, v.minor, v.patch));
            assert_eq!(version, expected, "{text:?}");
        }
    }

    #[test]
    fn m05_c16_names_by_version() {
        for (text, migrate, conn, web, jwt) in [
            ("1.10.15", "initdb", "AIRFLOW__CORE__SQL_ALCHEMY_CONN", "AIRFLOW__WEBSERVER__SECRET_KEY", false),
            ("2.2.5", "db upgrade", "AIRFLOW__CORE__SQL_ALCHEMY_CONN", "AIRFLOW__WEBSERVER__SECRET_KEY", false),
            ("2.6.3", "db upgrade", "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", "AIRFLOW__WEBSERVER__SECRET_KEY", false),
            ("2.9.0", "db migrate", "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", "AIRFLOW__WEBSERVER__SECRET_KEY", false),
            ("3.1.0", "db migrate", "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", "AIRFLOW__API__SECRET_KEY", true),
        ] {
            let version = Version::parse(text).unwrap();
            assert_eq!(version.migrate_command().join(" "), migrate, "{text}");
            assert_eq!(version.sql_alchemy_conn().variable(), conn, "{text}");
            assert_eq!(version.web_secret().variable(), web, "{text}");
            assert_eq!(version.has_jwt_secret(), jwt, "{text}");
        }
    }

    #[test]
    fn the_version_is_found_in_the_package_source() {
        assert_eq!(version_in_source("#\nversion = '1.10.15'\n"), Some("1.10.15"));
        assert_eq!(version_in_source("import x\n__version__ = \"3.3.2rc1\"\nversion = 1\n"), Some("3.3.2rc1"));
        assert_eq!(version_in_source("version = compute()\n"), None);
    }

    #[test]
    fn the_interpreter_is_found_in_the_script() {
        for (script, expected) in [
            ("#!/opt/venv/bin/python\nimport x", Some("/opt/venv/bin/python")),
            ("#!/usr/local/bin/python3.11 -s\n", Some("/usr/local/bin/python3.11")),
            ("#!/bin/sh\n'''exec' \"/a very long/bin/python\" \"$0\" \"$@\"\n' '''\n", Some("/a very long/bin/python")),
            ("#!/usr/bin/env python\n", None),
            ("\x7fELF", None),
        ] {
            assert_eq!(interpreter(script), expected, "{script:?}");
        }
    }
}
