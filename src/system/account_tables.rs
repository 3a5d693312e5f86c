//! The accounts of the web server, in the tables of FAB (`flask_appbuilder/security/sqla/models.py`; the provider's `models` since
//! Airflow 3).

use sqlx::Row;

use super::metadb::{Argument, Login, Session, Trouble, text};
use crate::error::Error;
use crate::metadb::Dialect;
use crate::settings::official::AdminUser;

/// An account as it is.
pub(super) struct Found {
    id: i64,
    pub username: String,
    firstname: String,
    lastname: String,
    email: String,
    /// Empty for one whose password is kept elsewhere.
    pub hash: String,
    pub roles: Vec<String>,
}

impl Found {
    /// Whether it has the name and the e-mail address that were said.
    pub(super) fn is_named_as(&self, account: &AdminUser) -> bool {
        [&self.firstname, &self.lastname, &self.email] == [&account.firstname, &account.lastname, &account.email]
    }
}

/// Does this to the database. A SQLite file that is not there holds nothing, and stays none.
fn ask<T: Default>(
    session: &mut Session<'_>,
    work: impl AsyncFnOnce(&mut Login) -> Result<T, Trouble>,
) -> Result<T, Error> {
    if session.target.file().is_some_and(|file| !file.exists()) {
        return Ok(T::default());
    }
    session.ask("looking for the account", async |login| match work(login).await {
        Err(trouble) if has_no_table(&trouble) => Ok(T::default()),
        done => done,
    })
}

/// Whether a table is missing: nobody has made any account yet.
fn has_no_table(trouble: &Trouble) -> bool {
    matches!(trouble.code.as_deref(), Some("42P01" | "42S02")) || trouble.cause.starts_with("no such table")
}

/// The account of that name. To Airflow large and small letters are the same in it, and so one that differs in them alone is taken
/// where there is none of exactly that name.
pub(super) fn find(session: &mut Session<'_>, name: &str) -> Result<Option<Found>, Error> {
    ask(session, async |login| {
        let sql = "SELECT id, username, first_name, last_name, email, password FROM ab_user \
            WHERE username = ? OR LOWER(username) = LOWER(?)";
        let mut rows = login.rows(sql, &[Argument::Text(name), Argument::Text(name)]).await?;
        let mut exact = None;
        for (index, row) in rows.iter().enumerate() {
            if text(row, 1)?.as_deref() == Some(name) {
                exact = Some(index);
            }
        }
        if rows.is_empty() {
            return Ok(None);
        }
        let row = rows.swap_remove(exact.unwrap_or(0));
        let column = |index| Ok::<_, Trouble>(text(&row, index)?.unwrap_or_default());
        let id: i64 = row.try_get(0)?;
        let roles = "SELECT r.name FROM ab_role r JOIN ab_user_role u ON u.role_id = r.id WHERE u.user_id = ?";
        let roles = login.rows(roles, &[Argument::Number(id)]).await?;
        let roles: Result<Vec<_>, Trouble> = roles.iter().filter_map(|row| text(row, 0).transpose()).collect();
        Ok(Some(Found {
            id,
            username: column(1)?,
            firstname: column(2)?,
            lastname: column(3)?,
            email: column(4)?,
            hash: column(5)?,
            roles: roles?,
        }))
    })
}

/// The name of another account that has this e-mail address.
pub(super) fn owner_of(session: &mut Session<'_>, email: &str, name: &str) -> Result<Option<String>, Error> {
    ask(session, async |login| {
        let sql = "SELECT username FROM ab_user WHERE email = ? AND LOWER(username) <> LOWER(?)";
        let rows = login.rows(sql, &[Argument::Text(email), Argument::Text(name)]).await?;
        rows.first().map_or(Ok(None), |row| text(row, 0))
    })
}

/// The names of all roles; none before anybody has made any.
pub(super) fn roles(session: &mut Session<'_>) -> Result<Vec<String>, Error> {
    ask(session, async |login| {
        let rows = login.rows("SELECT name FROM ab_role ORDER BY name", &[]).await?;
        rows.iter().filter_map(|row| text(row, 0).transpose()).collect()
    })
}

/// Writes a hash of a password.
pub(super) fn set_hash(session: &mut Session<'_>, found: &Found, hash: &str) -> Result<(), Error> {
    ask(session, async |login| {
        let arguments = [Argument::Text(hash), Argument::Number(found.id)];
        login
            .execute("UPDATE ab_user SET password = ?, changed_on = CURRENT_TIMESTAMP WHERE id = ?", &arguments)
            .await
            .map(drop)
    })
}

/// Writes name and e-mail address.
pub(super) fn set_names(session: &mut Session<'_>, found: &Found, account: &AdminUser) -> Result<(), Error> {
    ask(session, async |login| {
        let texts = [&account.firstname, &account.lastname, &account.email].map(|value| Argument::Text(value));
        let arguments = [&texts[..], &[Argument::Number(found.id)]].concat();
        let sql =
            "UPDATE ab_user SET first_name = ?, last_name = ?, email = ?, changed_on = CURRENT_TIMESTAMP WHERE id = ?";
        login.execute(sql, &arguments).await.map(drop)
    })
}

/// Makes a role the only one of an account: at no moment has it none.
pub(super) fn set_role(session: &mut Session<'_>, found: &Found, role: &str) -> Result<(), Error> {
    ask(session, async |login| {
        let arguments = [Argument::Number(found.id), Argument::Text(role)];
        if !found.roles.iter().any(|present| present == role) {
            let (column, value) = match login.dialect {
                Dialect::MySql | Dialect::Sqlite => ("", ""),
                // The column has no default there.
                Dialect::Postgres => ("id, ", "nextval('ab_user_role_id_seq'), "),
            };
            let sql = format!(
                "INSERT INTO ab_user_role ({column}user_id, role_id) SELECT {value}?, id FROM ab_role WHERE name = ?"
            );
            login.execute(&sql, &arguments).await?;
        }
        let sql =
            "DELETE FROM ab_user_role WHERE user_id = ? AND role_id NOT IN (SELECT id FROM ab_role WHERE name = ?)";
        login.execute(sql, &arguments).await.map(drop)
    })
}
