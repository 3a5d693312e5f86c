//! What a statement yields, asked over a login of the test's own: a program of its own for each question takes longer than the question.

use std::path::Path;

use sqlx::mysql::MySqlConnectOptions;
use sqlx::postgres::PgConnectOptions;
use sqlx::sqlite::{SqliteConnectOptions, SqliteRow, SqliteSynchronous};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Error, Row, TypeInfo, ValueRef};
use tokio::runtime::{Builder, Runtime};

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

/// PostgreSQL, by its socket in this folder, as its administrator: a line a row as `psql -A -t` prints it, tabs between the columns.
pub(crate) fn postgres(folder: &Path, port: u16, database: &str, statements: &str) -> Result<String, Error> {
    let options = PgConnectOptions::new_without_pgpass().socket(folder).port(port).username("postgres");
    runtime().block_on(async {
        let mut login = options.database(database).disable_statement_logging().connect().await?;
        let rows = sqlx::raw_sql(AssertSqlSafe(statements.to_owned())).fetch_all(&mut login).await?;
        login.close().await?;
        // It comes as text, since no type was asked for.
        let text = |row: &sqlx::postgres::PgRow, column| Ok(row.try_get_raw(column)?.as_str().unwrap_or("").to_owned());
        lines(&rows, text)
    })
}

/// MariaDB, by its socket, as its administrator: a line a row as `mariadb -N -B` prints it.
pub(crate) fn mariadb(socket: &Path, database: Option<&str>, statements: &str) -> Result<String, Error> {
    let mut options = MySqlConnectOptions::new().socket(socket).username("root").disable_statement_logging();
    // As the server has it.
    options = options.pipes_as_concat(false).no_engine_substitution(false).timezone(None);
    if let Some(database) = database {
        options = options.database(database);
    }
    runtime().block_on(async {
        let mut login = options.connect().await?;
        let rows = sqlx::raw_sql(AssertSqlSafe(statements.to_owned())).fetch_all(&mut login).await?;
        login.close().await?;
        let text = |row: &sqlx::mysql::MySqlRow, column| {
            let bytes: Option<Vec<u8>> = row.try_get_unchecked(column)?;
            let text = bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
            let escape = |text: String| text.replace('\\', "\\\\").replace('\n', "\\n").replace('\t', "\\t");
            Ok(text.map_or("NULL".to_owned(), escape))
        };
        lines(&rows, text)
    })
}

fn lines<R: Row>(rows: &[R], text: impl Fn(&R, usize) -> Result<String, Error>) -> Result<String, Error> {
    let line = |row: &R| {
        let columns: Result<Vec<_>, Error> = (0..row.len()).map(|column| text(row, column)).collect();
        columns.map(|columns| format!("{}\n", columns.join("\t")))
    };
    rows.iter().map(line).collect()
}

/// SQLite: a line a row, as Python shows a tuple; the last line has no end.
pub(crate) fn sqlite(file: &str, statements: &str) -> Result<String, Error> {
    // It is the test's own: whoever is killed is another one.
    let options = SqliteConnectOptions::new().filename(file).create_if_missing(true).foreign_keys(false);
    let options = options.synchronous(SqliteSynchronous::Off).disable_statement_logging();
    runtime().block_on(async {
        let mut login = options.connect().await?;
        let rows = sqlx::raw_sql(AssertSqlSafe(statements.to_owned())).fetch_all(&mut login).await;
        login.close().await?;
        let rows: Result<Vec<_>, _> = rows?.iter().map(tuple).collect();
        Ok(rows?.join("\n"))
    })
}

fn tuple(row: &SqliteRow) -> Result<String, Error> {
    let show = |column| {
        let kind = row.try_get_raw(column)?.type_info().name().to_owned();
        if row.try_get_raw(column)?.is_null() {
            return Ok("None".to_owned());
        }
        match &*kind {
            "INTEGER" | "BOOLEAN" => row.try_get_unchecked::<i64, _>(column).map(|number| number.to_string()),
            "REAL" => row.try_get_unchecked::<f64, _>(column).map(|number| format!("{number:?}")),
            "BLOB" => row.try_get_unchecked::<Vec<u8>, _>(column).map(|bytes| format!("{bytes:?}")),
            _ => row.try_get_unchecked::<String, _>(column).map(|text| quoted(&text)),
        }
    };
    let columns: Result<Vec<_>, Error> = (0..row.len()).map(show).collect();
    let columns = columns?;
    Ok(format!("({}{})", columns.join(", "), if columns.len() == 1 { "," } else { "" }))
}

fn quoted(text: &str) -> String {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    let mut shown = text.replace('\\', "\\\\").replace('\n', "\\n").replace('\r', "\\r").replace('\t', "\\t");
    if quote == '\'' {
        shown = shown.replace('\'', "\\'");
    }
    format!("{quote}{shown}{quote}")
}

#[test]
fn a_row_of_sqlite_is_shown_as_python_shows_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("db").to_str().unwrap().to_owned();
    let made = "CREATE TABLE one (a TEXT, b BOOLEAN, c FLOAT); INSERT INTO one VALUES ('it''s \\ \n', 1, 1.5), ('\"', NULL, 2); SELECT * FROM one";
    assert_eq!(sqlite(&file, made).unwrap(), "(\"it's \\\\ \\n\", 1, 1.5)\n('\"', None, 2.0)");
    assert_eq!(sqlite(&file, "SELECT count(*) FROM one").unwrap(), "(2,)");
    assert!(sqlite(&file, "SELECT 1 FROM two").is_err());
}
