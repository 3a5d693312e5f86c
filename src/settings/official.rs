//! The variables of the official image: what its entrypoint is told by them, in its terms.

use std::fmt;
use std::time::Duration;

use serde::Deserialize;
use zeroize::Zeroizing;

use crate::environment::Environment;
use crate::error::Error;
use crate::settings::values::{WaitTimeout, boolean};

/// What the official image's variables say, each one valid. `None` is unset or empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Official {
    /// Whom to become when we are root (`AIRFLOW_UID`).
    pub airflow_uid: Option<u32>,
    /// Whether every command of Airflow migrates first, and the variable that says so.
    pub migrate: Option<(bool, &'static str)>,
    /// Python packages to install, as pip takes them.
    pub requirements: Vec<String>,
    /// The account to create.
    pub user: Option<AdminUser>,
    /// How long its checks go on in all, and the variable that says so.
    pub wait_timeout: Option<(WaitTimeout, &'static str)>,
}

/// An account of Airflow's web server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AdminUser {
    pub username: String,
    pub firstname: String,
    pub lastname: String,
    pub email: String,
    pub role: String,
    pub password: Password,
}

/// Where the account's password comes from. `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Password {
    /// What this line of shell prints.
    Command(String),
    Text(Zeroizing<String>),
}

impl fmt::Debug for Password {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Command(_) => PASSWORD_CMD,
            Self::Text(_) => PASSWORD,
        })
    }
}

/// The variables that the official image understands.
#[derive(Clone, Default, Deserialize)]
#[serde(default)]
struct OfficialVariables {
    #[serde(rename = "_airflow_db_migrate")]
    db_migrate: Option<String>,
    #[serde(rename = "_airflow_db_upgrade")]
    db_upgrade: Option<String>,
    #[serde(rename = "_airflow_www_user_create")]
    user_create: Option<String>,
    #[serde(rename = "_airflow_www_user_email")]
    user_email: Option<String>,
    #[serde(rename = "_airflow_www_user_firstname")]
    user_firstname: Option<String>,
    #[serde(rename = "_airflow_www_user_lastname")]
    user_lastname: Option<String>,
    #[serde(rename = "_airflow_www_user_role")]
    user_role: Option<String>,
    #[serde(rename = "_airflow_www_user_username")]
    user_username: Option<String>,
    #[serde(rename = "_pip_additional_requirements")]
    requirements: Option<String>,
    airflow_uid: Option<String>,
    connection_check_max_count: Option<String>,
    connection_check_sleep_time: Option<String>,
}

/// The account's password.
pub(crate) const PASSWORD: &str = "_AIRFLOW_WWW_USER_PASSWORD";
/// The command that prints it; it wins over the password, as in the official image.
pub(crate) const PASSWORD_CMD: &str = "_AIRFLOW_WWW_USER_PASSWORD_CMD";
const MAX_COUNT: &str = "CONNECTION_CHECK_MAX_COUNT";
const SLEEP_TIME: &str = "CONNECTION_CHECK_SLEEP_TIME";

/// Their names.
pub(crate) const NAMES: [&str; 14] = [
    "AIRFLOW_UID",
    MAX_COUNT,
    SLEEP_TIME,
    "_AIRFLOW_DB_MIGRATE",
    "_AIRFLOW_DB_UPGRADE",
    "_AIRFLOW_WWW_USER_CREATE",
    "_AIRFLOW_WWW_USER_EMAIL",
    "_AIRFLOW_WWW_USER_FIRSTNAME",
    "_AIRFLOW_WWW_USER_LASTNAME",
    PASSWORD,
    PASSWORD_CMD,
    "_AIRFLOW_WWW_USER_ROLE",
    "_AIRFLOW_WWW_USER_USERNAME",
    "_PIP_ADDITIONAL_REQUIREMENTS",
];

impl Official {
    /// Reads and checks them.
    pub(crate) fn read(environment: &Environment) -> Result<Self, Error> {
        let texts = environment.texts(|name| NAMES.contains(&name) && name != PASSWORD && name != PASSWORD_CMD)?;
        let said: OfficialVariables =
            envy::from_iter(texts).map_err(|problem| Error::Bug { what: problem.to_string() })?;
        // Its entrypoint takes any text for yes; who writes `false` means no.
        let switch = |name: &str, text: &Option<String>| {
            checked(environment, name, text.as_deref(), "`true` or `false`", boolean)
        };
        let [migrate, upgrade] = [
            ("_AIRFLOW_DB_MIGRATE", switch("_AIRFLOW_DB_MIGRATE", &said.db_migrate)?),
            ("_AIRFLOW_DB_UPGRADE", switch("_AIRFLOW_DB_UPGRADE", &said.db_upgrade)?),
        ]
        .map(|(name, yes)| yes.map(|yes| (yes, name)));
        let migrate = migrate.or(upgrade);
        let create = switch("_AIRFLOW_WWW_USER_CREATE", &said.user_create)?.unwrap_or(false);
        let text = |text: &Option<String>, default: &str| text.clone().unwrap_or_else(|| default.to_owned());
        let password = match (environment.text(PASSWORD_CMD)?, environment.text(PASSWORD)?) {
            (Some(line), _) => Some(Password::Command(line.to_owned())),
            (None, Some(text)) => Some(Password::Text(Zeroizing::new(text.to_owned()))),
            (None, None) if create => return Err(Error::NoPassword),
            (None, None) => None,
        };
        let user = password.filter(|_| create).map(|password| AdminUser {
            password,
            username: text(&said.user_username, "admin"),
            firstname: text(&said.user_firstname, "Airflow"),
            lastname: text(&said.user_lastname, "Admin"),
            email: text(&said.user_email, "airflowadmin@example.com"),
            role: text(&said.user_role, "Admin"),
        });
        let requirements = match said.requirements.as_deref().map(shlex::split) {
            None => Vec::new(),
            Some(Some(words)) => words,
            // The text may have a password in a URL.
            Some(None) => {
                return Err(Error::Setting {
                    source_of_it: environment.source("_PIP_ADDITIONAL_REQUIREMENTS"),
                    expected: "requirements as pip takes them, with quotes in pairs",
                    found: "an open quote".to_owned(),
                });
            }
        };
        Ok(Self {
            airflow_uid: checked(
                environment,
                "AIRFLOW_UID",
                said.airflow_uid.as_deref(),
                "the number of a user",
                |text| text.trim().parse().ok(),
            )?,
            migrate,
            requirements,
            user,
            wait_timeout: wait_timeout(environment, &said)?,
        })
    }
}

/// As many checks as it would make, times its pause; none at all with 0.
fn wait_timeout(
    environment: &Environment,
    said: &OfficialVariables,
) -> Result<Option<(WaitTimeout, &'static str)>, Error> {
    let number = |name, text: &Option<String>| {
        checked(environment, name, text.as_deref(), "a number", |text| text.trim().parse::<u32>().ok())
    };
    let count = number(MAX_COUNT, &said.connection_check_max_count)?;
    let pause = number(SLEEP_TIME, &said.connection_check_sleep_time)?;
    Ok(match (count, pause) {
        (None, None) => None,
        (Some(0), _) => Some((WaitTimeout::Off, MAX_COUNT)),
        // The defaults are its own.
        (count, pause) => {
            let seconds = u64::from(count.unwrap_or(20)) * u64::from(pause.unwrap_or(3).max(1));
            let name = if count.is_some() { MAX_COUNT } else { SLEEP_TIME };
            Some((WaitTimeout::After(Duration::from_secs(seconds)), name))
        }
    })
}

fn checked<T>(
    environment: &Environment,
    name: &str,
    text: Option<&str>,
    expected: &'static str,
    parse: impl Fn(&str) -> Option<T>,
) -> Result<Option<T>, Error> {
    let Some(text) = text else { return Ok(None) };
    parse(text).map(Some).ok_or_else(|| Error::Setting {
        source_of_it: environment.source(name),
        expected,
        found: text.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Official, String> {
        let environment = Environment::new(variables.iter().map(|(name, value)| ((*name).into(), (*value).into())));
        Official::read(&environment).map_err(|error| error.to_string())
    }

    #[test]
    fn nothing_said_is_nothing_asked_for() {
        assert_eq!(read(&[]), Ok(Official::default()));
        assert_eq!(read(&[("_AIRFLOW_DB_MIGRATE", ""), ("_AIRFLOW_WWW_USER_CREATE", "")]), Ok(Official::default()));
    }

    #[test]
    fn migration() {
        for (name, value, expected) in [
            ("_AIRFLOW_DB_MIGRATE", "true", true),
            ("_AIRFLOW_DB_MIGRATE", "0", false),
            ("_AIRFLOW_DB_UPGRADE", "yes", true),
        ] {
            assert_eq!(read(&[(name, value)]).unwrap().migrate, Some((expected, name)), "{name}={value}");
        }
        let problem = "cannot use `_AIRFLOW_DB_MIGRATE`: expected `true` or `false`, found `maybe`";
        assert_eq!(read(&[("_AIRFLOW_DB_MIGRATE", "maybe")]), Err(problem.to_owned()));
    }

    #[test]
    fn u01_all_fields_of_the_account_are_the_users_to_say() {
        let create = ("_AIRFLOW_WWW_USER_CREATE", "true");
        let user = read(&[create, (PASSWORD, "x")]).unwrap().user.unwrap();
        assert_eq!(
            [&*user.username, &*user.firstname, &*user.lastname, &*user.role],
            ["admin", "Airflow", "Admin", "Admin"]
        );
        let user = read(&[
            create,
            (PASSWORD_CMD, "x"),
            ("_AIRFLOW_WWW_USER_USERNAME", "a b"),
            ("_AIRFLOW_WWW_USER_ROLE", "Op"),
        ]);
        let user = user.unwrap().user.unwrap();
        assert_eq!([&*user.username, &*user.email, &*user.role], ["a b", "airflowadmin@example.com", "Op"]);
        assert!(read(&[create]).unwrap_err().contains("`_AIRFLOW_WWW_USER_PASSWORD`"));
        assert_eq!(read(&[(PASSWORD, "x")]).unwrap().user, None);
    }

    #[test]
    fn w02_w11_its_number_of_checks_is_a_time_limit() {
        let seconds = |seconds| Some(WaitTimeout::After(Duration::from_secs(seconds)));
        for (count, pause, expected) in [
            ("", "", None),
            ("0", "", Some(WaitTimeout::Off)),
            ("0", "5", Some(WaitTimeout::Off)),
            ("10", "", seconds(30)),
            ("10", "5", seconds(50)),
            ("", "1", seconds(20)),
            ("7", "0", seconds(7)),
        ] {
            let said = read(&[(MAX_COUNT, count), (SLEEP_TIME, pause)]).unwrap();
            assert_eq!(said.wait_timeout.map(|(timeout, _)| timeout), expected, "{count} {pause}");
        }
        assert!(read(&[(MAX_COUNT, "-1")]).is_err());
    }

    #[test]
    fn requirements_are_words() {
        let said = read(&[("_PIP_ADDITIONAL_REQUIREMENTS", "lxml==5.0 'x>=1; python_version<\"4\"'")]).unwrap();
        assert_eq!(said.requirements, ["lxml==5.0", "x>=1; python_version<\"4\""]);
        let open = read(&[("_PIP_ADDITIONAL_REQUIREMENTS", "'https://u:token@h/x")]).unwrap_err();
        assert!(open.ends_with("with quotes in pairs, found `an open quote`"), "{open}");
        assert_eq!(read(&[("AIRFLOW_UID", "1000")]).unwrap().airflow_uid, Some(1000));
        assert!(read(&[("AIRFLOW_UID", "me")]).is_err());
    }
}
