//! What real Airflows have encrypted is read by them with the new key alone, on all three kinds of databases.

use std::fs;

use crate::databases::Kind;
use crate::home::Home;
use crate::sandbox::{V2, V3, new_key};

/// A thousand variables and connections, and triggers: one as Airflow encrypts it, one plain as a task of Airflow 3 leaves it.
const WRITE: &str = r#"
import datetime
from airflow.models import Connection, Variable
from airflow.models.trigger import Trigger
from airflow.utils.session import create_session
with create_session() as session:
    for number in range(500):
        session.add(Connection(conn_id=f"c{number}", conn_type="http", password=f"Grüße {number}", extra='{"a": "世界"}'))
        variable = Variable(key=f"v{number}")
        variable.set_val(f"wert {number}")
        session.add(variable)
    session.add(Trigger("airflow.triggers.temporal.DateTimeTrigger", {"moment": "ü"}))
    plain = Trigger("airflow.triggers.temporal.DateTimeTrigger", {})
    plain.encrypted_kwargs = '{"plain": 1}'
    session.add(plain)
"#;

/// All of it as Airflow reads it.
const READ: &str = r#"
from airflow.models import Connection, Variable
from airflow.models.trigger import Trigger
from airflow.utils.session import create_session
with create_session() as session:
    found = {c.conn_id: (c.get_password(), c.get_extra()) for c in session.query(Connection)}
    values = {v.key: v.get_val() for v in session.query(Variable)}
    encrypted, plain = session.query(Trigger).order_by(Trigger.id)
    triggers = [dict(encrypted.kwargs), plain.encrypted_kwargs]
assert found == {f"c{n}": (f"Grüße {n}", '{"a": "世界"}') for n in range(500)}
assert values == {f"v{n}": f"wert {n}" for n in range(500)}
assert triggers == [{"moment": "ü"}, '{"plain": 1}'], triggers
print("reads all")
"#;

/// How many of the tokens the key reads. Airflow does not even load a connection whose password it cannot read.
const COUNT: &str = r#"
import os
from cryptography.fernet import Fernet, InvalidToken
from sqlalchemy import text
from airflow.utils.session import create_session
key = Fernet(os.environ["AIRFLOW__CORE__FERNET_KEY"])
with create_session() as session:
    queries = ["SELECT password FROM connection", "SELECT extra FROM connection", "SELECT val FROM variable"]
    tokens = [row[0] for query in queries for row in session.execute(text(query))]
def reads(token):
    try:
        return key.decrypt(token.encode()) is not None
    except InvalidToken:
        return False
print("reads", sum(map(reads, tokens)), "of", len(tokens))
"#;

fn rotated(version: &'static str, kind: Option<Kind>) {
    let Some(home) = Home::new(version, kind) else { return };
    // Airflow compiles the pattern of all secrets for its logs again with each secret that is long enough.
    let home = home.with("AIRFLOW__LOGGING__MIN_LENGTH_MASKED_SECRET", "100000");
    let (file, old) = (home.file(), new_key());
    home.keep(&old);
    home.says(&["setup"], None, 0, "end, since all is prepared");
    home.python(WRITE, &[], &old, "");
    home.says(&["key", "rotate"], None, 0, "1501 encrypted anew, all 1501 are read by");
    let list = fs::read_to_string(&file).unwrap();
    let new = list.trim_end().strip_suffix(&format!(",{old}")).unwrap();
    home.python(READ, &[], new, "reads all");
    home.python(COUNT, &[], new, "reads 1500 of 1500");
    home.python(COUNT, &[], &old, "reads 0 of 1500");
    home.says(&["key", "retire"], None, 0, "no longer in");
    assert_eq!(fs::read_to_string(&file).unwrap(), format!("{new}\n"));
    home.says(&["setup"], None, 0, "reads all 1501 encrypted values");
}

#[test]
fn k10_what_airflow_2_has_encrypted_is_rotated_on_sqlite() {
    rotated(V2, None);
}

#[test]
fn k10_what_airflow_2_has_encrypted_is_rotated_on_postgres() {
    rotated(V2, Some(Kind::Postgres));
}

#[test]
fn k10_what_airflow_2_has_encrypted_is_rotated_on_mariadb() {
    rotated(V2, Some(Kind::MariaDb));
}

#[test]
fn k10_what_airflow_3_has_encrypted_is_rotated_on_sqlite() {
    rotated(V3, None);
}

#[test]
fn k10_what_airflow_3_has_encrypted_is_rotated_on_postgres() {
    rotated(V3, Some(Kind::Postgres));
}

#[test]
fn k10_what_airflow_3_has_encrypted_is_rotated_on_mariadb() {
    rotated(V3, Some(Kind::MariaDb));
}
