//! Seeds that are refused: the whole of stderr, the status, and nothing written anywhere.

use crate::databases::Database;
use crate::sandbox::{V1, V2, V3};
use crate::seed_base::Base;

/// It fails like this before anything is made: no row, no key, no `airflow.cfg`.
#[track_caller]
fn refused(base: &Base, words: &[&str], status: i32, stderr: &str) {
    let outcome = base.sandbox.run(words);
    let stderr: String = stderr
        .lines()
        .map(|line| if line.starts_with(' ') { format!("{line}\n") } else { format!("airflow-entrypoint: {line}\n") })
        .collect();
    outcome.fails(status, &stderr);
    outcome.same(base.rows(), vec![]);
    outcome.same(base.sandbox.names("home"), vec!["airflow.db".to_owned()]);
    outcome.same((base.sandbox.names("keys"), base.sandbox.calls()), (vec![], vec![]));
}

#[test]
fn u09_a_wrong_file_is_told_and_nothing_is_written() {
    let base = Base::sqlite(V3);
    base.sandbox.write("good.yaml", "pools: {p: 1}\n");
    base.sandbox.write(
        "bad.yaml",
        "connections: {a: {conn_type: http, pasword: hush-hush}, b: hush-hush}\nvariables: {c: '${HIDDEN}'}\npools: {d: hush-hush}\n",
    );
    refused(
        &base,
        &["seed", "good.yaml", "bad.yaml"],
        78,
        "error: cannot seed from `bad.yaml`:\n  connection `a`: there is no field `pasword`; did you mean `password`?\n  \
         connection `b`: expected a URI like `type://login:password@host:port/schema`\n  variable `c`: `HIDDEN` is not set\n  \
         pool `d`: `slots`: expected a whole number from -1 to 2147483647",
    );
    base.sandbox.write("extra.json", r#"{"a": {"conn_type": "http", "extra": "{\"hush-hush\""}}"#);
    refused(
        &base,
        &["seed", "extra.json"],
        78,
        "error: cannot seed from `extra.json`: connection `a`: `extra`: expected a JSON object, found what is no JSON from line 1, column 12 on",
    );
    base.sandbox.write("broken.json", "{\"a\": \"hush-hush\n");
    refused(
        &base,
        &["seed", "broken.json"],
        78,
        "error: cannot seed from `broken.json`: line 2: control character (\\u0000-\\u001F) found while parsing a string",
    );
    base.sandbox.write("pools.toml", "[pools]\np = { file = \"no/such\" }\n");
    refused(
        &base,
        &["seed", "pools.toml"],
        78,
        "error: cannot seed from `pools.toml`: pool `p`: cannot read the file `no/such`: no such file or directory",
    );
    refused(
        &base,
        &["seed", "good.yaml", "good.yaml"],
        78,
        "error: cannot seed from `good.yaml`: pool `p`: it is in `good.yaml` already",
    );
    refused(
        &base,
        &["seed", "absent.yaml"],
        78,
        "error: cannot read the seed `absent.yaml`: no such file or directory",
    );
    base.sandbox.write("binary.json", b"\xff");
    refused(&base, &["seed", "binary.json"], 78, "error: cannot read the seed `binary.json`: expected UTF-8 text");
    refused(
        &base,
        &["seed"],
        64,
        "error: cannot seed: expected files or folders behind `seed`, or in `ENTRYPOINT_SEED`",
    );
    // A service is stopped by it too, before it waits for anything.
    let base = Base { sandbox: base.sandbox.with_path("ENTRYPOINT_SEED", "pools.toml"), ..base };
    let path = base.sandbox.text("pools.toml");
    let file = base.sandbox.text("no/such");
    refused(
        &base,
        &["api-server"],
        78,
        &format!(
            "error: cannot seed from `{path}`: pool `p`: cannot read the file `{file}`: no such file or directory"
        ),
    );
}

#[test]
fn u09_what_only_airflow_knows_cannot_be_seeded_with() {
    let base = Base::sqlite(V2);
    base.sandbox.write("seed.yaml", "pools: {p: 1}\n");
    let mut base =
        Base { sandbox: base.sandbox.with_path("ENTRYPOINT_SEED", "seed.yaml").without("FERNET_KEY"), ..base };
    base.sandbox.set("AIRFLOW__CORE__FERNET_KEY_SECRET", "path");
    let hint = "hint: give the key by `FERNET_KEY`, `..._CMD` or a file, or use `airflow connections import`";
    for words in [&["seed"], &["webserver"]] {
        let error = "error: cannot seed: the Fernet key is left to Airflow by `AIRFLOW__CORE__FERNET_KEY_SECRET`, and passwords are encrypted with it";
        refused(&base, words, 78, &format!("{error}\n{hint}"));
    }
    let mut base = Base { sandbox: base.sandbox.without("AIRFLOW__CORE__FERNET_KEY_SECRET"), ..base };
    base.sandbox.set("FERNET_KEY", base.key.clone());
    let hint =
        "hint: give the database's URL as it is, or leave `ENTRYPOINT_SEED` out and use `airflow connections import`";
    for way in ["CMD", "SECRET"] {
        let variable = format!("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_{way}");
        base.sandbox.set(&variable, "path");
        for words in [&["seed"], &["webserver"]] {
            let error = format!("error: cannot seed the database: its URL is left to Airflow by `{variable}`");
            refused(&base, words, 78, &format!("{error}\n{hint}"));
        }
        base = Base { sandbox: base.sandbox.without(&variable), ..base };
    }
}

#[test]
fn u09_a_database_that_nobody_has_migrated_is_told() {
    let base = Base::sqlite(V2);
    base.sandbox.write("seed.yaml", "variables: {v: 1}\npools: {p: 1}\n");
    base.sql("DROP TABLE slot_pool");
    let outcome = base.sandbox.run(&["seed", "seed.yaml"]);
    outcome.check(outcome.code() == 69, "expected status 69");
    outcome
        .says(&format!(
            "error: cannot seed: the database of `{}` has no table `slot_pool`",
            base.sandbox.text("home/airflow.db")
        ))
        .says("hint: start a container that migrates (the web server, or the command `setup`)");
    // The variable was not left behind.
    assert_eq!(base.count("variable"), 0);
}

/// MariaDB would cut it off where it is not strict, and PostgreSQL would not say which row it is.
#[test]
fn u09_what_is_too_long_is_told_by_name() {
    let long = "x".repeat(501);
    for base in Base::all(&[V1, V3]).into_iter().filter(|base| base.server.is_some()) {
        let is_old = base.version == V1;
        base.sandbox.write("seed.yaml", format!("connections: {{c: {{conn_type: a, host: {long}}}, d: 'a://h'}}\n"));
        let outcome = base.sandbox.run(&["seed", "seed.yaml"]);
        outcome.check(outcome.code() == 78, "expected status 78");
        outcome.says("error: cannot seed: connection `c`: `host` is 501 characters long, and the database takes 500");
        let most = if is_old { 3600 } else { 48_000 };
        for (size, fits) in [(most, true), (most + 2000, false)] {
            base.sandbox.write(
                "seed.yaml",
                format!("connections: {{p: {{conn_type: a, password: '{}'}}}}\n", "ü".repeat(size / 2)),
            );
            let outcome = base.sandbox.run(&["seed", "seed.yaml"]);
            // PostgreSQL's TEXT has no end.
            let fits = fits || !is_old && base.name() == "Postgres";
            outcome.same((base.name(), size, outcome.status.success()), (base.name(), size, fits));
            outcome.check(fits || outcome.stderr.contains("cannot seed: connection `p`: `password` is "), "whose");
            outcome.same(base.count("connection"), usize::from(fits));
            base.sql("DELETE FROM connection");
        }
        // What this Airflow has no column for, where it would mean something.
        base.sandbox.write("seed.yaml", "pools: {p: {slots: 1, include_deferred: true}}\n");
        let outcome = base.sandbox.run(&["seed", "seed.yaml"]);
        outcome.same(outcome.status.success(), !is_old);
        outcome.check(
            !is_old || outcome.stderr.contains("cannot seed: pool `p`: this Airflow has no `include_deferred`\n"),
            "what is missing",
        );
    }
}

#[test]
fn a_server_that_is_not_there_is_told() {
    let Some(server) = Database::postgres() else { return };
    let url = server.url("absent");
    let base = Base::sqlite(V2);
    base.sandbox.write("seed.yaml", "pools: {p: 1}\n");
    let base = Base {
        sandbox: base
            .sandbox
            .with("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", url)
            .with("EXECUTOR", "Local")
            .with("ENTRYPOINT_WAIT_TIMEOUT", "1s"),
        ..base
    };
    let outcome = base.sandbox.run(&["seed", "seed.yaml"]);
    outcome.check(outcome.code() == 78, "expected status 78");
    outcome.check(outcome.stderr.contains("database \"absent\" does not exist"), "why");
}
