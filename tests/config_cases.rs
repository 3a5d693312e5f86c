//! What people ran into with URLs, versions, names and files of their own.

use std::os::unix::fs::symlink;

use crate::sandbox::{LINES, Sandbox, V1, V2, V3, fingerprint, new_key};
use crate::services::local;

fn celery(version: &str) -> Sandbox {
    Sandbox::new(version).with("EXECUTOR", "Celery").with("ENTRYPOINT_WAIT_TIMEOUT", "off")
}

#[test]
fn c04_each_server_is_that_of_its_own_url() {
    for version in LINES {
        let servers = [local(), local(), local()];
        let [database, broker, backend] = servers.each_ref().map(|(_, port)| port.clone());
        let sandbox = Sandbox::new(version)
            .with("EXECUTOR", "Celery")
            .with("AIRFLOW__CORE__SQL_ALCHEMY_CONN", format!("postgresql+psycopg2://u:p@127.0.0.1:{database}/airflow"))
            .with("AIRFLOW__CELERY__RESULT_BACKEND", format!("db+postgresql://u:p@127.0.0.1:{backend}/results"))
            .with("AIRFLOW__CELERY__BROKER_URL", format!("redis://:x@127.0.0.1:{broker}/1"));
        let outcome = sandbox.run(&["connections", "list"]);
        outcome.succeeds();
        for (role, port) in [("database", &database), ("broker", &broker), ("result backend", &backend)] {
            outcome.says(&format!("info: waiting for the {role} `127.0.0.1:{port}`, at most 100s"));
        }
        for (listener, _) in &servers {
            outcome.same(listener.connections(), 1);
        }
    }
}

#[test]
fn c09_the_name_of_the_dialect_is_the_one_that_sqlalchemy_knows() {
    for version in LINES {
        let conn =
            if version == V1 { "AIRFLOW__CORE__SQL_ALCHEMY_CONN" } else { "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN" };
        let sandbox = celery(version)
            .with(conn, "postgres://u:p@h/d")
            .with("AIRFLOW__CELERY__RESULT_BACKEND", "db+postgres://u:p@h/r");
        let outcome = sandbox.run(&["scheduler"]);
        outcome.succeeds().says(&format!("info: `postgres://` of `{conn}` is `postgresql://` to SQLAlchemy"));
        outcome.same(sandbox.variable("airflow-scheduler", conn).as_deref(), Some("postgresql://u:p@h/d"));
        let backend = sandbox.variable("airflow-scheduler", "AIRFLOW__CELERY__RESULT_BACKEND");
        outcome.same(backend.as_deref(), Some("db+postgresql://u:p@h/r"));
    }
}

#[test]
fn c10_extras_with_and_without_the_mark_and_no_blanks() {
    for extras in ["?sslmode=require", "sslmode=require", "&sslmode=require ", " ?sslmode=require"] {
        let sandbox = celery(V2).with("POSTGRES_EXTRAS", extras);
        sandbox.run(&["scheduler"]).succeeds();
        let seen = sandbox.seen("airflow-scheduler");
        for name in ["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", "AIRFLOW__CELERY__RESULT_BACKEND"] {
            assert!(seen[name].ends_with("@postgres:5432/airflow?sslmode=require"), "{extras:?}: {}", seen[name]);
        }
    }
    let sandbox = celery(V2).with("POSTGRES_EXTRAS", "?password=secret&options=-c x=1");
    sandbox.run(&["scheduler"]).fails(78, "airflow-entrypoint: error: cannot use `POSTGRES_EXTRAS`: expected `name=value` pairs joined by `&`, with blanks as `%20`, found `?password=***&options=-c x=1`\n");
}

#[test]
fn c11_redis_with_tls() {
    let warning = "warning: the broker's URL of <any> is `rediss://` and says nothing of certificates; `?ssl_cert_reqs=CERT_REQUIRED` has the server's checked";
    for sandbox in [
        celery(V3).with("AIRFLOW__CELERY__BROKER_URL", "rediss://:pw@cache/0"),
        celery(V3).with("REDIS_PROTO", "rediss://"),
    ] {
        sandbox.run(&["scheduler"]).succeeds().says(warning);
        let explained = sandbox.with("ENTRYPOINT_WAIT_TIMEOUT", "1s").run(&["explain", "scheduler"]);
        explained.succeeds().check(explained.stdout.contains(":6379` ("), "the usual port");
    }
    let url = "rediss://:pw@cache/0?ssl_cert_reqs=CERT_REQUIRED";
    let control = celery(V3).with("AIRFLOW__CELERY__BROKER_URL", url).run(&["scheduler"]);
    control.succeeds().check(!control.stderr.contains("warning"), "the control warns");
}

#[test]
fn c15_a_result_backend_that_follows_from_nothing() {
    let sandbox = celery(V1).with("AIRFLOW__CORE__SQL_ALCHEMY_CONN_CMD", "cat /run/secrets/conn");
    sandbox.run(&["scheduler"]).fails(
        78,
        "airflow-entrypoint: error: cannot choose Celery's result backend: the database's URL is left to Airflow by `AIRFLOW__CORE__SQL_ALCHEMY_CONN_CMD`\n\
         airflow-entrypoint: hint: set `AIRFLOW__CELERY__RESULT_BACKEND`, or its `_CMD`\n",
    );
    // With one that is said, or fetched in the same way, or on a line that derives it itself, there is nothing to stop for.
    for sandbox in [
        sandbox.with("AIRFLOW__CELERY__RESULT_BACKEND_CMD", "cat /run/secrets/backend"),
        celery(V2).with("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_CMD", "cat /run/secrets/conn"),
    ] {
        sandbox.run(&["scheduler"]).succeeds();
    }
}

#[test]
fn c16_a_name_of_another_line_is_said_again_under_the_right_one() {
    for (version, said, meant) in [
        (V3, "AIRFLOW__CORE__SQL_ALCHEMY_CONN", "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"),
        (V2, "AIRFLOW__CORE__SQL_ALCHEMY_CONN", "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"),
        ("2.2.5", "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", "AIRFLOW__CORE__SQL_ALCHEMY_CONN"),
        (V1, "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", "AIRFLOW__CORE__SQL_ALCHEMY_CONN"),
    ] {
        let sandbox = celery(version).with(said, "postgresql://u:p@h/d");
        let outcome = sandbox.run(&["scheduler"]);
        outcome.succeeds().says(&format!("info: `{said}` is `{meant}` in Airflow {version}"));
        outcome.same(sandbox.variable("airflow-scheduler", meant).as_deref(), Some("postgresql://u:p@h/d"));
    }
    // The same in a file of the user's own that is older than the image.
    let sandbox = celery(V3);
    sandbox.write("home/airflow.cfg", "[core]\nsql_alchemy_conn = postgresql://u:p@old/d\n");
    let explained = sandbox.with("ENTRYPOINT_WAIT_TIMEOUT", "1s").run(&["explain", "scheduler"]);
    explained
        .succeeds()
        .check(explained.stdout.contains("   database `old:5432` (`[core] sql_alchemy_conn` in "), "the file counts");
}

#[test]
fn c17_where_the_users_own_file_and_the_environment_differ() {
    let (old, new) = (new_key(), new_key());
    let sandbox = celery(V2).with("FERNET_KEY", &*new).with("AIRFLOW__CELERY__BROKER_URL", "redis://:pw@cache/0");
    let file = sandbox.text("home/airflow.cfg");
    sandbox.write(
        "home/airflow.cfg",
        format!(
            "[core]\nfernet_key = {old}\nexecutor = LocalExecutor\n[celery]\nbroker_url = redis://:other@cache/0\n"
        ),
    );
    let outcome = sandbox.run(&["scheduler"]);
    let (old, new) = (fingerprint(&old), fingerprint(&new));
    outcome
        .succeeds()
        .says(&format!("warning: `[core] fernet_key` in `{file}` holds another Fernet key (fingerprint {old}) than `FERNET_KEY` (fingerprint {new}); `FERNET_KEY` is used"))
        .says(&format!("warning: `[core] executor` in `{file}` holds another value than `EXECUTOR`; `EXECUTOR` is used"))
        .says(&format!("warning: `[celery] broker_url` in `{file}` holds another value than `AIRFLOW__CELERY__BROKER_URL`; `AIRFLOW__CELERY__BROKER_URL` is used"));
    outcome.check(!outcome.stderr.contains(":other@"), "a password is shown");
    sandbox
        .write("home/airflow.cfg", "[core]\nexecutor = CeleryExecutor\n[celery]\nbroker_url = redis://:pw@cache/0\n");
    let control = sandbox.run(&["scheduler"]);
    control.succeeds().check(!control.stderr.contains("warning"), "the control warns");
}

#[test]
fn c06_a_broker_without_a_server() {
    let sandbox = Sandbox::new(V2)
        .with("EXECUTOR", "Celery")
        .with("AIRFLOW__CELERY__BROKER_URL", "sqs://id:key@")
        .with("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", format!("postgresql://u:p@127.0.0.1:{}/d", local().1));
    let outcome = sandbox.run(&["explain", "connections", "list"]);
    outcome.succeeds().check(
        outcome.stdout.contains(
            "note: not waiting for the broker: `sqs` of `AIRFLOW__CELERY__BROKER_URL` has no server of its own\n",
        ),
        "nothing is said",
    );
}

#[test]
fn c21_a_url_that_refers_to_variables_is_read_as_airflow_reads_it() {
    let (_listener, port) = local();
    let url = "postgresql://${DB_USER}:$DB_PASS@$DB_HOST/d";
    let sandbox = Sandbox::new(V2)
        .with("EXECUTOR", "Local")
        .with("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", url)
        .with("DB_USER", "u")
        .with("DB_PASS", "p")
        .with("DB_HOST", format!("127.0.0.1:{port}"));
    let outcome = sandbox.run(&["connections", "list"]);
    outcome.succeeds().says(&format!("info: waiting for the database `127.0.0.1:{port}`, at most 100s"));
    outcome.same(sandbox.variable("airflow-connections", "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN").as_deref(), Some(url));
}

/// The interpreter that the program names decides, by whatever links.
#[test]
fn the_installed_airflow_is_found_on_disk() {
    let said = |sandbox: &Sandbox| {
        let outcome = sandbox.run(&["explain", "version"]);
        outcome.succeeds();
        outcome.stdout.lines().next().unwrap().replace(&sandbox.text(""), "HERE")
    };
    let stub = |interpreter: &str| format!("#!{interpreter}\n");
    // Several Pythons under one prefix: the one behind `python` counts.
    let sandbox = Sandbox::new("");
    for (python, version) in [("python3.9", "2.5.0"), ("python3.11", "2.11.2"), ("python3.12", "3.1.0")] {
        sandbox.write(
            &format!("prefix/lib/{python}/site-packages/airflow/__init__.py"),
            format!("__version__ = \"{version}\"\n"),
        );
        sandbox.program(python, "");
    }
    symlink("python3.11", sandbox.path("prefix/bin/python")).unwrap();
    sandbox.program("airflow", &stub(&sandbox.text("prefix/bin/python")));
    assert_eq!(said(&sandbox), "Airflow 2.11.2 (`HERE/prefix/lib/python3.11/site-packages/airflow/__init__.py`)");
    // A virtual environment whose interpreter is a link to that of the system.
    symlink(sandbox.path("prefix/bin/python3.12"), sandbox.path("python")).unwrap();
    sandbox.program("airflow", &stub(&sandbox.text("python")));
    assert_eq!(said(&sandbox), "Airflow 3.1.0 (`HERE/prefix/lib/python3.12/site-packages/airflow/__init__.py`)");
    // The user site: the program is beside it, the interpreter elsewhere.
    let sandbox = Sandbox::new("");
    sandbox.write("prefix/lib/python3.11/site-packages/airflow/__init__.py", "__version__ = \"3.3.2\"\n");
    sandbox.program("airflow", &stub("/usr/bin/python3"));
    assert_eq!(said(&sandbox), "Airflow 3.3.2 (`HERE/prefix/lib/python3.11/site-packages/airflow/__init__.py`)");
    // Without sources, and without anything.
    let sandbox = Sandbox::new("");
    sandbox.write("prefix/lib/python3.11/site-packages/apache_airflow_core-3.2.0.dist-info/METADATA", "");
    sandbox.write("prefix/lib/python3.11/site-packages/apache_airflow_providers_celery-9.9.9.dist-info/METADATA", "");
    assert_eq!(
        said(&sandbox),
        "Airflow 3.2.0 (`HERE/prefix/lib/python3.11/site-packages/apache_airflow_core-3.2.0.dist-info`)"
    );
    assert!(said(&Sandbox::new("")).ends_with("(the default)"));
}

#[test]
fn d06_a_shell_that_does_our_work_is_told_of_it() {
    let hint =
        "info: the `bash` is not needed: a web server migrates the database by itself, and `setup` does it alone";
    for script in ["airflow db migrate && exec airflow webserver", "airflow initdb; airflow webserver"] {
        let sandbox = Sandbox::new(V2);
        sandbox.run(&["bash", "-c", script]).says(hint);
        assert_eq!(sandbox.calls().last().map(String::as_str), Some("airflow webserver"));
    }
    let control = Sandbox::new(V2).run(&["bash", "-c", "airflow dags list"]);
    control.succeeds().check(!control.stderr.contains("not needed"), "the control");
}

/// One word is all that a compose file or a job needs, for any role.
#[test]
fn d07_h06_one_word_prepares_and_any_role_may_migrate() {
    for version in LINES {
        let migrate = if version == V1 { "airflow initdb" } else { "airflow db migrate" };
        let sandbox = celery(version);
        sandbox.run(&["setup"]).succeeds().same(sandbox.calls(), vec![migrate.to_owned()]);
        let sandbox = celery(version).with("ENTRYPOINT_MIGRATE", "true");
        let outcome = sandbox.run(&["scheduler"]);
        outcome.succeeds().same(sandbox.calls(), vec![migrate.to_owned(), "airflow scheduler".to_owned()]);
    }
}
