//! What real Airflows have encrypted is judged right, on all three kinds of databases, and our table is in the way of none of their commands.

use crate::databases::Kind;
use crate::home::{Home, Said};
use crate::sandbox::{V2, V3, fingerprint, new_key};

/// Rows of the hard kinds: Unicode, 64 KB, an empty value, one without any secret.
const WRITE: &str = r#"
import json, sys
from airflow.models import Connection, Variable
from airflow.utils.session import create_session
with create_session() as session:
    extra = json.dumps({"text": "é世界😀" * int(sys.argv[1])}, ensure_ascii=False)
    session.add(Connection(conn_id="wide", conn_type="http", password="Grüße, 世界", extra=extra))
    session.add(Connection(conn_id="narrow", conn_type="http", password="p"))
    session.add(Connection(conn_id="open", conn_type="http", host="h"))
    for key, val in [("v", "wert: ü"), ("empty", "")]:
        variable = Variable(key=key)
        variable.set_val(val)
        session.add(variable)
"#;

fn judged(version: &'static str, kind: Option<Kind>) {
    let Some(home) = Home::new(version, kind) else { return };
    let (key, other) = (new_key(), new_key());
    home.says(&["setup"], Some(&key), 0, "end, since all is prepared");
    // 96 KB; MariaDB takes 64 KB of token.
    let wide = if home.is_on(Kind::MariaDb) { "3500" } else { "8000" };
    home.python(WRITE, &[wide], &key, "");
    let reads = format!("the Fernet key `{}` reads all 5 encrypted values in the database", fingerprint(&key));
    home.says(&["setup"], Some(&key), 0, &reads);
    let list = format!("the Fernet keys `{},{}` read all 5 encrypted values", fingerprint(&other), fingerprint(&key));
    home.says(&["key", "check"], Some(&format!("{other},{key}")), 0, &list);
    let ours = |words: &[&str]| home.ours(words, &[("AIRFLOW__CORE__FERNET_KEY", &other)]);
    let Said { status, text } = ours(&["setup"]);
    let expected = format!(
        "error: cannot use the Fernet key `{}`: it reads none of the 5 encrypted values in the",
        fingerprint(&other)
    );
    assert!(status == 65 && text.contains(&expected), "{text}");
    assert!(
        ["connections ", "`wide`", "`narrow`", "variables ", "`v`", "`empty`"].iter().all(|name| text.contains(name)),
        "{text}"
    );
    assert!(!text.contains("`open`"), "{text}");
    if home.is_on(Kind::Postgres) {
        // Our table is there, and Airflow's own commands do with the rest what they always do.
        for words in [
            &["db", "migrate"][..],
            &["db", "check-migrations", "-t", "10"],
            &["db", "clean", "--clean-before-timestamp", "2100-01-01", "--yes", "--skip-archive"],
            &["db", "reset", "--yes"],
        ] {
            let Said { status, text } = home.bare(words, &[("AIRFLOW__CORE__FERNET_KEY", &key)]);
            assert_eq!(status, 0, "{text}");
        }
        // What was encrypted is gone, and who is registered is not.
        let Said { status, text } = ours(&["key", "check"]);
        assert!(status == 0 && !text.contains("encrypted value"), "{text}");
        let Said { status, text } = ours(&["setup"]);
        assert!(status == 65 && text.contains("has registered another one in the database of"), "{text}");
    }
}

#[test]
fn k09_what_airflow_2_has_encrypted_on_sqlite() {
    judged(V2, None);
}

#[test]
fn k09_what_airflow_2_has_encrypted_on_postgres() {
    judged(V2, Some(Kind::Postgres));
}

#[test]
fn k09_what_airflow_2_has_encrypted_on_mariadb() {
    judged(V2, Some(Kind::MariaDb));
}

#[test]
fn k09_what_airflow_3_has_encrypted_on_sqlite() {
    judged(V3, None);
}

#[test]
fn k09_what_airflow_3_has_encrypted_on_postgres() {
    judged(V3, Some(Kind::Postgres));
}

#[test]
fn k09_what_airflow_3_has_encrypted_on_mariadb() {
    judged(V3, Some(Kind::MariaDb));
}
