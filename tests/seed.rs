//! The verb `seed` and the setting of that name: connections, variables and pools, written into each kind of database.

use crate::databases::{Database, Kind};
use crate::sandbox::{LINES, V1, V2, V3, fingerprint};
use crate::seed_base::Base;

const SEED: &str = r#"
[connections]
db = { uri = "postgresql://u@h:5432/s?sslmode=require", password = "${DB_PASSWORD}" }
[connections.web]
conn_type = "http"
host = "https://é"
extra = { token = { file = "token" } }
[variables]
one = "größe ${NAME:-x}"
two = [1, 2]
[pools]
small = 3
"#;

/// A password with all that could go wrong.
const PASSWORD: &str = "p%24:/@ '\"\\$x`ü";

fn seeded(base: Base) -> Base {
    base.sandbox.write("seed.toml", SEED);
    base.sandbox.write("token", "from-a-file-1234\n");
    let mut base = base;
    base.sandbox.set("DB_PASSWORD", PASSWORD);
    base
}

#[test]
fn u09_what_is_missing_is_added_once() {
    for base in Base::all(&[V1, V3]) {
        let base = seeded(base);
        let name = base.name();
        let first = base.sandbox.run(&["seed", "seed.toml"]);
        first.succeeds().says(
            "info: seeded: connections: 2 added (`db`, `web`); variables: 2 added (`one`, `two`); pools: 1 added (`small`)",
        );
        first.same((&name, base.secrets("password")), (&name, vec![PASSWORD.to_owned(), "in clear: -".to_owned()]));
        let extra = ["{\"sslmode\": \"require\"}", "{\"token\": \"from-a-file-1234\"}"];
        first.same((&name, base.secrets("extra")), (&name, extra.map(str::to_owned).to_vec()));
        first.same((&name, base.secrets("val")), (&name, vec!["größe x".to_owned(), "[\n  1,\n  2\n]".to_owned()]));
        let rows = base.rows();
        first.check(rows[1].contains("|web|http|https://é|-|-|-|-|gAAAAA"), &format!("{name}: {rows:?}"));
        first.check(rows[4].ends_with("|small|3|-"), &format!("{name}: {rows:?}"));
        // Again, in both modes: not a row is written.
        for mode in ["add", "sync"] {
            let again = base.sandbox.run(&["seed", "--mode", mode, "seed.toml"]);
            again.succeeds().says("info: seeded: connections: 2 as before; variables: 2 as before; pools: 1 as before");
            again.same((&name, base.rows()), (&name, rows.clone()));
        }
    }
}

#[test]
fn u09_what_differs_is_changed_by_sync_alone() {
    for base in Base::all(&[V3]) {
        let base = seeded(base);
        let name = base.name();
        base.sandbox.run(&["seed", "seed.toml"]).succeeds();
        let rows = base.rows();
        base.sandbox.write(
            "other.yaml",
            "connections: {db: {conn_type: postgres, host: h, login: u, port: 5432, schema: s, extra: '{\"sslmode\":\"require\"}'},\n\
             new: 'http://h'}\nvariables: {two: '[1, 2, 3]'}\npools: {small: {slots: 4, description: d}}\n",
        );
        let added = base.sandbox.run(&["seed", "other.yaml"]);
        added.succeeds().says(
            "info: seeded: connections: 1 added (`new`), 1 as before; variables: 1 as before; pools: 1 as before",
        );
        added.same((&name, &base.rows()[..2]), (&name, &rows[..2]));
        // By the setting as well as by the option.
        let changed = base.sandbox.run_with("ENTRYPOINT_SEED_MODE", "sync", &["seed", "other.yaml"]);
        changed.succeeds().says(
            "info: seeded: connections: 1 changed (`db`), 1 as before; variables: 1 changed (`two`); pools: 1 changed (`small`)",
        );
        // The password is gone, since the connection has none; what is not named stays.
        changed.same((&name, base.secrets("password")), (&name, vec!["in clear: -".to_owned(); 3]));
        changed.same((&name, base.secrets("val")[1].as_str()), (&name, "[1, 2, 3]"));
        let now = base.rows();
        changed.same((&name, now.len()), (&name, rows.len() + 1));
        changed.same((&name, &now[1]), (&name, &rows[1]));
        changed.check(now.last().unwrap().ends_with("|small|4|d"), &format!("{name}: {now:?}"));
        // The extra is laid out in another way, and says the same: it was not written again.
        let extra = |row: &str| row.rsplit('|').next().unwrap().to_owned();
        changed.same((&name, extra(&now[0])), (&name, extra(&rows[0])));
    }
}

/// What another key has encrypted is not readable: `sync` replaces it, and a list of keys reads what any of them wrote.
#[test]
fn u09_the_first_key_writes_and_all_keys_read() {
    let mut base = seeded(Base::sqlite(V2));
    base.sandbox.run(&["seed", "seed.toml"]).succeeds();
    let rows = base.rows();
    let (old, new) = (base.key.clone(), crate::sandbox::new_key());
    base.sandbox.set("FERNET_KEY", format!("{new},{old}"));
    let both = base.sandbox.run(&["seed", "--mode", "sync", "seed.toml"]);
    both.succeeds().says(&format!(
        "info: Fernet key: from `FERNET_KEY`, fingerprint {},{}",
        fingerprint(&new),
        fingerprint(&old)
    ));
    both.same(base.rows(), rows);
    base.sandbox.write("more.json", r#"{"variables": {"more": 1}}"#);
    base.sandbox.run(&["seed", "more.json"]).succeeds();
    base.key = new.clone();
    base.sandbox.run(&["explain", "seed", "more.json"]).succeeds();
    assert_eq!(base.secrets("val")[0], "1");
    // With the new key alone the rest cannot be read, and is what the seed says.
    base.sandbox.set("FERNET_KEY", new);
    let replaced = base.sandbox.run(&["seed", "--mode", "sync", "seed.toml"]);
    replaced.succeeds().says(
        "info: seeded: connections: 2 not readable by our keys and replaced (`db`, `web`); \
         variables: 2 not readable by our keys and replaced (`one`, `two`); pools: 1 as before",
    );
    assert_eq!(base.secrets("password")[0], PASSWORD);
}

/// Python reads a token whatever its time is.
#[test]
fn u09_a_token_from_a_clock_that_is_ahead_is_read() {
    let base = Base::sqlite(V3);
    let year_3000 = 32_503_680_000;
    let token = fernet::Fernet::new(&base.key).unwrap().encrypt_at_time(b"x", year_3000);
    base.sql(&format!("INSERT INTO variable (\"key\", val, is_encrypted) VALUES ('v', '{token}', 1)"));
    base.sandbox.write("seed.yaml", "variables: {v: x}\n");
    let outcome = base.sandbox.run(&["seed", "--mode", "sync", "seed.yaml"]);
    outcome
        .succeeds()
        .says("info: seeded: variables: 1 as before")
        .same(base.sql("SELECT val FROM variable"), vec![token]);
}

/// Airflow 1.10 takes any one of the connections of a name.
#[test]
fn u09_several_connections_of_a_name_are_left_alone() {
    let base = Base::sqlite(V1);
    base.sql("INSERT INTO connection (conn_id, conn_type, host, is_encrypted, is_extra_encrypted) VALUES ('c', 'a', 'h1', 0, 0), ('c', 'a', 'h2', 0, 0)");
    let rows = base.rows();
    base.sandbox.write("seed.yaml", "connections: {c: 'a://h3'}\n");
    let outcome = base.sandbox.run(&["seed", "--mode", "sync", "seed.yaml"]);
    outcome
        .succeeds()
        .says("warning: the connection `c` is there 2 times, of which Airflow takes any: none of them is changed")
        .says("info: seeded: connections: 1 as before")
        .same(base.rows(), rows);
}

#[test]
fn a_folder_is_seeded_file_by_file() {
    let base = Base::sqlite(V3);
    base.sandbox.write("seed/..data/connections.json", r#"{"hidden": "http://h"}"#);
    base.sandbox.write("seed/10-pools.json", r#"{"p": {"slots": 1, "description": ""}}"#);
    base.sandbox.write("seed/20-variables.yaml", "v: $literal\n");
    base.sandbox.write("seed/README.md", "Seeds.\n");
    base.sandbox.write("more.env", "");
    std::os::unix::fs::symlink("..data/connections.json", base.sandbox.path("seed/connections.json")).unwrap();
    let sources = format!("{}:{}", base.sandbox.text("seed"), base.sandbox.text("more.env"));
    let outcome = base.sandbox.run_with("ENTRYPOINT_SEED", &sources, &["seed"]);
    outcome
        .succeeds()
        .says(&format!(
            "warning: `{}` is passed over: its name is not that of a seed",
            base.sandbox.text("seed/README.md")
        ))
        .says("info: seeded: connections: 1 added (`hidden`); variables: 1 added (`v`); pools: 1 added (`p`)");
    outcome.same(base.secrets("val"), vec!["$literal".to_owned()]);
    std::fs::create_dir(base.sandbox.path("empty")).unwrap();
    let outcome = base.sandbox.run(&["seed", "empty"]);
    outcome.succeeds().says("warning: there is nothing to seed in `empty`").says("info: seeded: nothing");
}

/// What migrates the database seeds, when the account is there; nobody else does.
#[test]
fn u09_services_that_migrate_seed() {
    for version in LINES {
        let base = seeded(Base::sqlite(version));
        let base = Base { sandbox: base.sandbox.with_path("ENTRYPOINT_SEED", "seed.toml"), ..base };
        let outcome = base.sandbox.run(&["setup"]);
        outcome.succeeds().says("info: seeded: connections: 2 added <any>");
        let place = |text: &str| outcome.stderr.find(text).unwrap_or(usize::MAX);
        outcome.check(place("migrate the database") < place("seeded: "), "the order");
        outcome.check(place("seeded: ") < place("end, since"), "the order");
        for (command, seeds) in [("webserver", true), ("version", false), ("bash", false)] {
            let outcome = base.sandbox.run(&[command, "-c", "true"]);
            outcome.succeeds().same((command, outcome.stderr.contains("seeded: ")), (command, seeds));
        }
    }
    // With a server the scheduler waits for somebody else.
    let Some(base) = Base::server(V2, Database::postgres()) else { return };
    let base = seeded(base);
    let base = Base { sandbox: base.sandbox.with_path("ENTRYPOINT_SEED", "seed.toml"), ..base };
    let outcome = base.sandbox.run(&["explain", "scheduler"]);
    outcome
        .succeeds()
        .check(outcome.stdout.contains("seed nothing: a service that migrates, `setup` or `seed` does\n"), "why");
    let outcome = base.sandbox.run(&["explain", "--json", "webserver"]);
    let expected = format!(
        "\"name\": \"seed\",\n      \"taken\": true,\n      \"what\": \"seed from `{}`: add what is missing\",\n      \"why\": \"`ENTRYPOINT_SEED` says so\"",
        base.sandbox.text("seed.toml")
    );
    outcome.succeeds().check(outcome.stdout.contains(&expected), &expected);
    assert!(base.is(Kind::Postgres) && base.count("connection") == 0);
}

/// The example of the README and that of `docker/`, as they stand there.
#[test]
fn the_examples_can_be_seeded() {
    let readme = include_str!("../README.md");
    let example = readme.split("```yaml\nconnections:").nth(1).and_then(|text| text.split("```").next()).unwrap();
    for (name, text) in [
        ("readme.yaml", format!("connections:{example}")),
        ("docker.yaml", include_str!("../docker/seed.yaml").to_owned()),
    ] {
        for version in LINES {
            let mut base = Base::sqlite(version);
            let text = text.replace("/run/secrets/", "secret-");
            base.sandbox.write(name, text);
            base.sandbox.write("secret-api_password", "from-a-file\n");
            base.sandbox.write("secret-api_token", "from-another\n");
            let outcome = base.sandbox.run(&["seed", name]);
            outcome.check(
                outcome.code() == 78
                    && outcome.stderr.contains("WAREHOUSE_PASSWORD` is not set") == (name == "docker.yaml"),
                "what is not set",
            );
            for variable in ["DWH_PASSWORD", "WAREHOUSE_PASSWORD"] {
                base.sandbox.set(variable, "hush-hush");
            }
            let outcome = base.sandbox.run(&["seed", name]);
            outcome.succeeds().says(
                "info: seeded: connections: 2 added (`warehouse`, `api`); variables: 3 added (`region`, `limits`, `contact`); \
                 pools: 2 added (`warehouse`, `api`)",
            );
            outcome.same(base.secrets("val")[2].clone(), "eu-west-1".to_owned());
            outcome.same(base.secrets("password")[1].clone(), "hush-hush".to_owned());
        }
    }
}
