//! Errors about the account that `_AIRFLOW_WWW_USER_CREATE` asks for. All of them are somebody's to set right.

use std::path::PathBuf;

use super::Error;

/// Why there is no such account.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AccountError {
    /// E-mail addresses are unique.
    #[error("cannot give the account `{username}` the e-mail address `{email}`: it is that of the account `{owner}`")]
    EmailTaken { username: String, email: String, owner: String },
    /// The login that is configured is not there.
    #[error("cannot use the login `{login}`: its provider is not installed")]
    NoProvider { login: &'static str },
    /// There is no such role.
    #[error("cannot give the account `{username}` the role `{role}`: there is none of that name")]
    NoRole { username: String, role: String, roles: Vec<String> },
    /// Airflow's command says that it has made the account, and there is none.
    #[error("cannot create the account `{username}`: `{command}` ended with status 0, and there is no such account")]
    NotThere { username: String, command: String },
    /// The file of the simple login's passwords.
    #[error("cannot use the password file `{}`: {problem}", path.display())]
    PasswordFile { path: PathBuf, problem: String },
    /// The simple login's users are a list of `name:role`.
    #[error(
        "cannot name a user of the simple login `{username}`: expected no comma, no colon and no blank at the ends"
    )]
    SimpleName { username: String },
}

impl AccountError {
    /// As the end of a start.
    pub(crate) fn ends(self) -> Error {
        Error::Account(Box::new(self))
    }

    pub(super) fn hint(&self) -> String {
        match self {
            Self::EmailTaken { .. } => "set `_AIRFLOW_WWW_USER_EMAIL` to another one".to_owned(),
            Self::NoProvider { .. } => {
                "install `apache-airflow-providers-fab`, or unset `AIRFLOW__CORE__AUTH_MANAGER` for the simple login"
                    .to_owned()
            }
            Self::NoRole { roles, .. } => {
                format!("set `_AIRFLOW_WWW_USER_ROLE` to one of `{}`", roles.join("`, `"))
            }
            Self::NotThere { .. } => {
                "Airflow 1.10 keeps accounts with `AIRFLOW__WEBSERVER__RBAC=True` alone; else look at what the command said"
                    .to_owned()
            }
            Self::PasswordFile { .. } => "it is JSON, `{\"name\": \"password\"}`".to_owned(),
            Self::SimpleName { .. } => "set `_AIRFLOW_WWW_USER_USERNAME` to another one".to_owned(),
        }
    }
}
