//! Where the metadata database holds something encrypted: tables and columns, found by looking.

use std::collections::BTreeSet;

use sqlx::Row;

use super::metadb::{Argument, Login, Trouble, text};
use crate::metadb::Dialect;
use crate::verdict::Holder;

/// A table of the installed Airflow with encrypted values.
pub(super) struct Place {
    pub holder: Holder,
    pub table: &'static str,
    dialect: Dialect,
    name: &'static str,
    /// The columns of the values, and of the flags that say whether they are encrypted.
    values: &'static [(&'static str, Option<&'static str>)],
    /// Whether its primary key `id` is a number; a UUID otherwise.
    numbered: bool,
}

const FLAGGED: &[(&str, Option<&str>)] = &[("password", Some("is_encrypted")), ("extra", Some("is_extra_encrypted"))];

/// What a trigger has in place of arguments that nobody reads: a dictionary as Airflow 2.9 and later write it (`decrypt_kwargs`; what that
/// cannot read, `{}` on 2.x among it, ends the whole triggerer), with an argument that no trigger knows. So its task fails as with a trigger
/// that cannot be made. With no argument at all one might run, and wait for something else.
const FORGOTTEN_KWARGS: &str = r#"{"__type": "dict", "__var": {"forgotten_since_no_fernet_key_read_it": true}}"#;
/// A connection test that is not over fails: with what is left it could succeed, and write that to the connection. MySQL sets one
/// after the other.
const ENDED_TEST: &str = "result_message = CASE WHEN state IN ('success', 'failed') THEN result_message ELSE 'No Fernet key read its \
    password or extra.' END, state = CASE WHEN state IN ('success', 'failed') THEN state ELSE 'failed' END, active_connection_id = NULL";

/// The places that this database has: what there is depends on the version of Airflow that has made it.
pub(super) async fn all(login: &mut Login) -> Result<Vec<Place>, Trouble> {
    let (columns, dialect) = (columns(login).await?, login.dialect);
    let place = |holder, table, name, values, numbered| Place { holder, dialect, table, name, values, numbered };
    let all = [
        ("connection.is_extra_encrypted", place(Holder::Connection, "connection", "conn_id", FLAGGED, true)),
        (
            "connection_test_request.is_extra_encrypted",
            place(Holder::ConnectionTest, "connection_test_request", "connection_id", FLAGGED, false),
        ),
        // No flag: what begins like JSON is JSON (`decrypt_kwargs` in `airflow/models/trigger.py`). Before 2.9 all of it is.
        ("trigger.kwargs", place(Holder::Trigger, "trigger", "id", &[("kwargs", None)], true)),
        ("variable.is_encrypted", place(Holder::Variable, "variable", "key", &[("val", Some("is_encrypted"))], true)),
    ];
    Ok(all.into_iter().filter(|(column, _)| columns.contains(*column)).map(|(_, place)| place).collect())
}

impl Place {
    /// A query for its rows: the `id`, a name, and up to two encrypted values, null where there is none. Flags are null in old rows.
    /// `more` is a condition that begins with `AND`, or an order.
    pub(super) fn select(&self, more: &str) -> String {
        let values: Vec<_> = self.values.iter().map(|(column, flag)| self.value(column, *flag)).collect();
        let second = values.get(1).map_or("NULL", String::as_str);
        let conditions: Vec<_> = self
            .values
            .iter()
            .map(|(column, flag)| match flag {
                Some(flag) => (*flag).to_owned(),
                None => format!("{} NOT LIKE '{{%'", self.text(column)),
            })
            .collect();
        format!(
            "SELECT {}, {}, {}, {second} FROM {} WHERE ({}) {more}",
            self.text("id"),
            self.text(self.name),
            values[0],
            self.quoted(self.table),
            conditions.join(" OR ")
        )
    }

    /// Behind which `id` the next rows are, and in which order.
    pub(super) fn following(&self, rows: usize) -> String {
        let id = self.id();
        format!("AND {id} > ? ORDER BY {id} LIMIT {rows}")
    }

    /// The row of one `id`.
    pub(super) fn only(&self) -> String {
        format!("AND {} = ?", self.id())
    }

    /// The numbers of its columns with encrypted values, which the query has behind the `id` and the name.
    pub(super) fn columns(&self) -> std::ops::Range<usize> {
        0..self.values.len()
    }

    /// Whether a value that is marked as encrypted is one: Airflow takes an empty password or extra for none, whatever its flag says, and an
    /// empty variable for a token.
    pub(super) fn is_token(&self, value: &str) -> bool {
        self.holder == Holder::Variable || !value.is_empty()
    }

    /// An `id` as an argument; what is before the first one where there is none.
    pub(super) fn argument<'a>(&self, id: Option<&'a str>) -> Argument<'a> {
        match self.numbered {
            true => Argument::Number(id.and_then(|id| id.parse().ok()).unwrap_or(i64::MIN)),
            false => Argument::Text(id.unwrap_or_default()),
        }
    }

    /// Puts new values in one of its columns, by number, in as many rows, each where it still has the old one: arguments are `id` and new
    /// value of each row, then all `id`s, then `id` and old value of each row.
    pub(super) fn update(&self, column: usize, rows: usize) -> String {
        let name = self.values.get(column).map_or("", |(name, _)| name);
        let (table, column, id) = (self.quoted(self.table), self.quoted(name), self.id());
        let value_of_row = format!("CASE {id} {}END", "WHEN ? THEN ? ".repeat(rows));
        let same = self.is(name, &value_of_row);
        let ids = vec!["?"; rows].join(", ");
        format!("UPDATE {table} SET {column} = {value_of_row} WHERE {id} IN ({ids}) AND {same}")
    }

    /// Forgets what these of its columns, by number, hold in the row of an `id`, if they still have the old values: arguments are the `id`
    /// and the old values. Airflow then does with the row what it does with one that never had a secret.
    pub(super) fn forget(&self, columns: &[usize]) -> String {
        let (table, unchanged) = (self.quoted(self.table), self.unchanged(columns));
        let emptied = self.chosen(columns).map(|(name, flag)| {
            let name = self.quoted(name);
            flag.map_or(format!("{name} = '{FORGOTTEN_KWARGS}'"), |flag| format!("{name} = NULL, {flag} = FALSE"))
        });
        let emptied = emptied.collect::<Vec<_>>().join(", ");
        match self.holder {
            // Airflow 3 allows no null there, and its migration from 2 makes an empty text of one, which would pass for a value.
            Holder::Variable => format!("DELETE FROM {table} WHERE {unchanged}"),
            Holder::ConnectionTest => format!("UPDATE {table} SET {emptied}, {ENDED_TEST} WHERE {unchanged}"),
            Holder::Connection | Holder::Trigger => format!("UPDATE {table} SET {emptied} WHERE {unchanged}"),
        }
    }

    /// What a column is called.
    pub(super) fn column(&self, index: usize) -> &'static str {
        self.values.get(index).map_or("", |(name, _)| name)
    }

    /// In the order of its `id`.
    pub(super) fn in_order(&self) -> String {
        format!("ORDER BY {}", self.id())
    }

    fn chosen(&self, columns: &[usize]) -> impl Iterator<Item = (&'static str, Option<&'static str>)> {
        columns.iter().filter_map(|index| self.values.get(*index)).copied()
    }

    /// The condition that the row of an `id` still has these values.
    fn unchanged(&self, columns: &[usize]) -> String {
        let same = self.chosen(columns).map(|(name, _)| self.is(name, "?"));
        [format!("{} = ?", self.id())].into_iter().chain(same).collect::<Vec<_>>().join(" AND ")
    }

    /// The condition that a column has this value; MySQL would take another case for the same.
    fn is(&self, column: &str, value: &str) -> String {
        match self.dialect {
            Dialect::MySql => format!("CAST({} AS BINARY) = CAST({value} AS BINARY)", self.quoted(column)),
            Dialect::Postgres | Dialect::Sqlite => format!("{} = {value}", self.text(column)),
        }
    }

    fn id(&self) -> String {
        match self.numbered {
            // With its table, so that PostgreSQL does not sort by the text that is selected under the same name.
            true => format!("{}.id", self.quoted(self.table)),
            false => self.text("id"),
        }
    }

    fn value(&self, column: &str, flag: Option<&str>) -> String {
        let text = self.text(column);
        flag.map_or(text.clone(), |flag| format!("CASE WHEN {flag} THEN {text} END"))
    }

    fn text(&self, column: &str) -> String {
        match self.dialect {
            Dialect::MySql => format!("CONVERT({} USING utf8mb4)", self.quoted(column)),
            Dialect::Postgres | Dialect::Sqlite => format!("CAST({} AS TEXT)", self.quoted(column)),
        }
    }

    fn quoted(&self, name: &str) -> String {
        if self.dialect == Dialect::MySql { format!("`{name}`") } else { format!("\"{name}\"") }
    }
}

/// The columns that are there of those that may hold something encrypted, as `table.column`: what there is depends on the version
/// of Airflow that has made the database.
async fn columns(login: &mut Login) -> Result<BTreeSet<String>, Trouble> {
    const TABLES: &str = "('connection', 'connection_test_request', 'trigger', 'variable')";
    let sql = match login.dialect {
        Dialect::MySql => format!(
            "SELECT CONVERT(CONCAT(table_name, '.', column_name) USING utf8mb4) FROM information_schema.columns \
             WHERE table_schema = DATABASE() AND table_name IN {TABLES}"
        ),
        Dialect::Postgres => format!(
            "SELECT CAST(relname AS TEXT) || '.' || CAST(attname AS TEXT) FROM pg_class JOIN pg_attribute ON attrelid = pg_class.oid \
             WHERE relname IN {TABLES} AND relkind IN ('r', 'p', 'v') AND attnum > 0 AND pg_table_is_visible(pg_class.oid)"
        ),
        Dialect::Sqlite => format!(
            "SELECT tables.name || '.' || columns.name FROM sqlite_master AS tables JOIN pragma_table_info(tables.name) AS columns \
             WHERE tables.type = 'table' AND tables.name IN {TABLES}"
        ),
    };
    let rows = login.rows(&sql, &[]).await?;
    rows.iter().filter_map(|row| text(row, 0).transpose()).collect()
}

/// What is not ours to change, and may be under a key all the same.
#[derive(Debug, Default)]
pub(super) struct Elsewhere {
    /// Flags that we do not know and that are named like those that we do, with their tables: what a later Airflow may encrypt.
    pub flags: Vec<String>,
    /// XCom values with a Fernet token in them (the serializers of Delta Lake and Iceberg), which Airflow never rotates either.
    pub xcom: i64,
}

/// Looks for that.
pub(super) async fn elsewhere(login: &mut Login) -> Result<Elsewhere, Trouble> {
    const KNOWN: &str = "('connection.is_encrypted', 'connection.is_extra_encrypted', 'connection_test_request.is_encrypted', \
        'connection_test_request.is_extra_encrypted', 'variable.is_encrypted')";
    let (flags, xcom) = match login.dialect {
        Dialect::MySql => (
            format!(
                "SELECT CONVERT(CONCAT(table_name, '.', column_name) USING utf8mb4) AS flag FROM information_schema.columns WHERE \
                 table_schema = DATABASE() AND column_name LIKE '%encrypted%' HAVING flag NOT IN {KNOWN} ORDER BY flag"
            ),
            "SELECT COUNT(*) FROM xcom WHERE CONVERT(value USING utf8mb4) LIKE '%gAAAAA%'",
        ),
        Dialect::Postgres => (
            format!(
                "SELECT relname || '.' || attname FROM pg_class JOIN pg_attribute ON attrelid = pg_class.oid WHERE relkind IN ('r', 'p') \
                 AND attnum > 0 AND attname LIKE '%encrypted%' AND pg_table_is_visible(pg_class.oid) AND relname || '.' || attname NOT IN \
                 {KNOWN} ORDER BY 1"
            ),
            // Airflow 2 keeps bytes there, whose text is hexadecimal.
            "SELECT COUNT(*) FROM xcom WHERE CAST(value AS TEXT) LIKE '%gAAAAA%' OR CAST(value AS TEXT) LIKE '%674141414141%'",
        ),
        Dialect::Sqlite => (
            format!(
                "SELECT tables.name || '.' || columns.name FROM sqlite_master AS tables JOIN pragma_table_info(tables.name) AS columns \
                 WHERE tables.type = 'table' AND columns.name LIKE '%encrypted%' AND tables.name || '.' || columns.name NOT IN {KNOWN} \
                 ORDER BY 1"
            ),
            "SELECT COUNT(*) FROM xcom WHERE instr(CAST(value AS TEXT), 'gAAAAA') > 0",
        ),
    };
    let rows = login.rows(&flags, &[]).await?;
    let flags = rows.iter().filter_map(|row| text(row, 0).transpose()).collect::<Result<_, _>>()?;
    let xcom = match has_table(login, "xcom").await? {
        true => login.rows(xcom, &[]).await?.first().map_or(Ok(0), |row| Row::try_get(row, 0))?,
        false => 0,
    };
    Ok(Elsewhere { flags, xcom })
}

/// The processes of Airflow that have shown life within half a minute, but for web servers, which do not show any.
pub(super) async fn alive(login: &mut Login) -> Result<Vec<String>, Trouble> {
    if !has_table(login, "job").await? {
        return Ok(Vec::new());
    }
    let (joined, recent) = match login.dialect {
        Dialect::MySql => {
            ("CONVERT(CONCAT(job_type, ' on ', hostname) USING utf8mb4)", "UTC_TIMESTAMP() - INTERVAL 30 SECOND")
        }
        Dialect::Postgres => ("job_type || ' on ' || hostname", "CURRENT_TIMESTAMP - INTERVAL '30 seconds'"),
        Dialect::Sqlite => ("job_type || ' on ' || hostname", "datetime('now', '-30 seconds')"),
    };
    let sql = format!("SELECT {joined} FROM job WHERE state = 'running' AND latest_heartbeat > {recent} ORDER BY id");
    let rows = login.rows(&sql, &[]).await?;
    rows.iter().filter_map(|row| text(row, 0).transpose()).collect()
}

async fn has_table(login: &mut Login, name: &str) -> Result<bool, Trouble> {
    let sql = match login.dialect {
        Dialect::MySql => {
            "SELECT 'yes' FROM information_schema.tables WHERE table_schema = DATABASE() AND table_name = ?"
        }
        Dialect::Postgres => {
            "SELECT 'yes' FROM pg_class WHERE relname = ? AND relkind IN ('r', 'p') AND pg_table_is_visible(oid)"
        }
        Dialect::Sqlite => "SELECT 'yes' FROM sqlite_master WHERE type = 'table' AND name = ?",
    };
    Ok(!login.rows(sql, &[Argument::Text(name)]).await?.is_empty())
}
