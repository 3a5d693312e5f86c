//! The account that `_AIRFLOW_WWW_USER_CREATE` asks for: where Airflow keeps it, and what has to be done about it.

pub(crate) mod password;

use std::path::{Path, PathBuf};

use serde_json::{Map, Value as Json};

use crate::airflow_version::{AirflowOption, Line};
use crate::commands::airflow;
use crate::connections::Said;
use crate::error::Error;
use crate::error::account::AccountError;
use crate::metadb::{Metadb, Target};
use crate::settings::official::AdminUser;
use crate::settings::values::UserMode;
use crate::source::Source;
use crate::steps::{AccountCommands, Change, Keeper, UserStep, Value};

/// The roles of Airflow 3's simple login (`SimpleAuthManagerRole` in `simple_auth_manager.py`).
const SIMPLE_ROLES: [&str; 4] = ["admin", "op", "user", "viewer"];
/// The roles that FAB makes by itself, before any other.
pub(crate) const FIRST_ROLES: [&str; 2] = ["Admin", "Public"];
/// The roles that Airflow comes with besides.
pub(crate) const BUILT_IN_ROLES: [&str; 3] = ["Op", "User", "Viewer"];
/// The login that is a provider of its own since Airflow 3.
pub(crate) const FAB: &str = "FabAuthManager";

/// What the account follows from besides what was said.
pub(crate) struct Ground<'a> {
    pub home: &'a Path,
    pub key_dir: &'a Path,
    pub metadb: &'a Metadb,
    /// The folder of Airflow's package.
    pub package: Option<&'a Path>,
}

/// Decides what to do about the account. What Airflow must be told for it is put with the changes.
pub(crate) fn decide(
    account: &AdminUser,
    mode: UserMode,
    said: &Said<'_>,
    ground: &Ground<'_>,
    changes: &mut Vec<Change>,
    warnings: &mut Vec<String>,
) -> Result<Option<UserStep>, Error> {
    let step = |keeper| Some(UserStep { account: account.clone(), mode, keeper });
    if said.keeps_accounts() {
        // Of a database without a server; else what all containers share.
        let file = ground.metadb.target().and_then(Target::file);
        return Ok(step(Keeper::Database(AccountCommands {
            create: command(account, said),
            roles: airflow(said.version.roles_command()),
            lock: file.as_deref().and_then(Path::parent).unwrap_or(ground.key_dir).to_owned(),
            provider: provider(said, ground),
        })));
    }
    let (users, file) = (AirflowOption::SIMPLE_AUTH_USERS, AirflowOption::SIMPLE_AUTH_PASSWORDS);
    match value(users, said, changes) {
        Some(list) if !list.split(',').any(|user| user.split(':').next() == Some(account.username.as_str())) => {
            warnings.push(format!(
                "the account `{}` is not created: `{}` says who the users of the simple login are, and does not name it",
                account.username,
                users.variable()
            ));
            return Ok(None);
        }
        Some(_) => {}
        None => {
            let change = Value::Text(format!("{}:{}", simple_name(account)?, simple_role(account)?));
            let source = Source::Variable("_AIRFLOW_WWW_USER_CREATE".to_owned());
            changes.push(Change { name: users.variable(), value: change, source });
        }
    }
    let file = value(file, said, changes).map_or_else(
        // Airflow's own default.
        || ground.home.join("simple_auth_manager_passwords.json.generated"),
        PathBuf::from,
    );
    Ok(step(Keeper::PasswordFile(file)))
}

/// What Airflow will see as the value of an option.
fn value(option: AirflowOption, said: &Said<'_>, changes: &[Change]) -> Option<String> {
    let name = option.variable();
    let change = changes.iter().find(|change| change.name == name).and_then(|change| match &change.value {
        Value::Text(text) => Some(text.clone()),
        _ => None,
    });
    let set = || said.environment.filled(&name).map(str::to_owned);
    change.or_else(set).or_else(|| Some((said.configured)(option)?.0))
}

/// The command that creates it, without its password.
fn command(account: &AdminUser, said: &Said<'_>) -> Vec<std::ffi::OsString> {
    let mut words = airflow(said.version.create_user_command());
    for (option, value) in [
        ("--username", &account.username),
        ("--firstname", &account.firstname),
        ("--lastname", &account.lastname),
        ("--email", &account.email),
        ("--role", &account.role),
    ] {
        match value.starts_with('-') {
            // By itself it would be an option.
            true => words.push(format!("{option}={value}").into()),
            false => words.extend([option.into(), value.into()]),
        }
    }
    words
}

/// Where the provider of the login may be; nothing where that cannot be told.
fn provider(said: &Said<'_>, ground: &Ground<'_>) -> Vec<PathBuf> {
    let login = value(AirflowOption::AUTH_MANAGER, said, &[]).unwrap_or_default();
    let (Line::V3, true, Some(package)) = (said.version.line(), login.ends_with(FAB), ground.package) else {
        return Vec::new();
    };
    let site = package.parent().unwrap_or(package);
    let mut sites = vec![site.to_owned()];
    if let Some(path) = said.environment.os("PYTHONPATH") {
        sites.extend(std::env::split_paths(path));
    }
    if let Some(home) = said.environment.os("HOME") {
        // The same Python's, for one user.
        let python = site.parent().and_then(Path::file_name).unwrap_or_default();
        sites.push(Path::new(home).join(".local/lib").join(python).join("site-packages"));
    }
    sites.into_iter().map(|site| site.join("airflow/providers/fab")).collect()
}

fn simple_name(account: &AdminUser) -> Result<&str, Error> {
    let name = account.username.as_str();
    match name.contains([',', ':']) || name.trim() != name {
        true => Err(AccountError::SimpleName { username: name.to_owned() }.ends()),
        false => Ok(name),
    }
}

fn simple_role(account: &AdminUser) -> Result<String, Error> {
    let role = account.role.to_ascii_lowercase();
    match SIMPLE_ROLES.contains(&role.as_str()) {
        true => Ok(role),
        false => Err(AccountError::NoRole {
            username: account.username.clone(),
            role: account.role.clone(),
            roles: SIMPLE_ROLES.map(str::to_owned).to_vec(),
        }
        .ends()),
    }
}

/// What becomes of the simple login's password file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Passwords {
    /// It stays: there is such a user, and in this mode or by its password nothing is to be done.
    Kept,
    /// The user is new; the text of the file.
    Added(String),
    /// The user has another password; the text of the file.
    Replaced(String),
}

/// Puts a password into the text of that file, as Airflow's `get_passwords` reads it; the others stay.
pub(crate) fn put(text: &str, name: &str, password: &str, mode: UserMode) -> Result<Passwords, String> {
    let text = if text.trim().is_empty() { "{}" } else { text };
    // Never the parser's own words: they may cite the text.
    let mut all: Map<String, Json> =
        serde_json::from_str(text).map_err(|_| "it is not a JSON object of texts".to_owned())?;
    let wanted = Json::String(password.to_owned());
    let present = all.get(name);
    if present.is_some_and(|present| mode == UserMode::Create || *present == wanted) {
        return Ok(Passwords::Kept);
    }
    let made = if present.is_some() { Passwords::Replaced } else { Passwords::Added };
    all.insert(name.to_owned(), wanted);
    // Airflow opens it in the encoding of its locale, whatever that is.
    let mut ascii = String::new();
    for unit in Json::Object(all).to_string().encode_utf16() {
        match char::from_u32(u32::from(unit)).filter(char::is_ascii) {
            Some(letter) => ascii.push(letter),
            None => ascii.push_str(&format!("\\u{unit:04x}")),
        }
    }
    Ok(made(ascii + "\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn u03_the_password_file_keeps_what_others_have() {
        let with = |text: &str, mode| put(text, "admin", "new ä😀\"", mode);
        let new = "{\"admin\":\"new \\u00e4\\ud83d\\ude00\\\"\"}\n".to_owned();
        assert_eq!(with("", UserMode::Create), Ok(Passwords::Added(new.clone())));
        assert_eq!(with(&new, UserMode::Sync), Ok(Passwords::Kept));
        let other = "{\"admin\": \"old\", \"superadmin\": \"x\"}";
        assert_eq!(with(other, UserMode::Create), Ok(Passwords::Kept));
        let both = new.replace("}\n", ",\"superadmin\":\"x\"}\n");
        assert_eq!(with(other, UserMode::Sync), Ok(Passwords::Replaced(both.clone())));
        assert_eq!(with("{\"superadmin\": \"x\"}", UserMode::Create), Ok(Passwords::Added(both)));
        assert_eq!(with("[\"secret\"]", UserMode::Sync), Err("it is not a JSON object of texts".to_owned()));
    }
}
