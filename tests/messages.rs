//! What is said about a mistake, word for word, with the status; and that nothing was begun by then.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use crate::sandbox::{LINES, Sandbox, V2};

const URL_HINT: &str =
    "percent-encode every special character of user and password: `@` is `%40`, `:` is `%3A`, `/` is `%2F`";

/// The error and its hint, and nothing else; no file made, no program called.
fn refuses(sandbox: &Sandbox, arguments: &[&str], status: i32, error: &str, hint: &str) {
    let hint = if hint.is_empty() { String::new() } else { format!("airflow-entrypoint: hint: {hint}\n") };
    let outcome = sandbox.run(arguments);
    outcome.fails(status, &format!("airflow-entrypoint: error: {error}\n{hint}"));
    outcome.same(outcome.stdout.as_str(), "").same(sandbox.calls(), vec![]);
    outcome.same((sandbox.names("keys"), sandbox.names("home")), (vec![], vec![]));
    // The dry run says the same.
    if arguments == ["scheduler"] {
        refuses(sandbox, &["explain", "scheduler"], status, error, hint.trim_start_matches(HINT).trim_end());
    }
}

const HINT: &str = "airflow-entrypoint: hint: ";

#[test]
fn settings_in_the_environment() {
    for (name, value, error, hint) in [
        (
            "ENTRYPOINT_KEYDIR",
            "/keys",
            "cannot use the setting `ENTRYPOINT_KEYDIR`: there is none of that name",
            "did you mean `ENTRYPOINT_KEY_DIR`?",
        ),
        ("ENTRYPOINT_XYZ", "1", "cannot use the setting `ENTRYPOINT_XYZ`: there is none of that name", ""),
        (
            "ENTRYPOINT_AIRFLOW_VERSION",
            "latest",
            "cannot use `ENTRYPOINT_AIRFLOW_VERSION`: expected a version such as `2.11.2`, found `latest`",
            "",
        ),
        (
            "ENTRYPOINT_EPHEMERAL_KEY",
            "maybe",
            "cannot use `ENTRYPOINT_EPHEMERAL_KEY`: expected `true` or `false`, found `maybe`",
            "",
        ),
        ("ENTRYPOINT_KEY_DIR", "keys", "cannot use `ENTRYPOINT_KEY_DIR`: expected an absolute path, found `keys`", ""),
        (
            "ENTRYPOINT_MIGRATE",
            "no way",
            "cannot use `ENTRYPOINT_MIGRATE`: expected `auto`, `true` or `false`, found `no way`",
            "",
        ),
        (
            "ENTRYPOINT_PREPARE",
            "never",
            "cannot use `ENTRYPOINT_PREPARE`: expected `auto` or `always`, found `never`",
            "",
        ),
        (
            "ENTRYPOINT_REQUIREMENTS",
            "r.txt",
            "cannot use `ENTRYPOINT_REQUIREMENTS`: expected an absolute path, found `r.txt`",
            "",
        ),
        (
            "ENTRYPOINT_SECRETS",
            "none",
            "cannot use `ENTRYPOINT_SECRETS`: expected `env+cfg` or `cmd`, found `none`",
            "",
        ),
        (
            "ENTRYPOINT_UMASK",
            "0888",
            "cannot use `ENTRYPOINT_UMASK`: expected an octal file mode mask such as `0022`, found `0888`",
            "",
        ),
        (
            "ENTRYPOINT_TEMPLATE",
            "a.cfg",
            "cannot use `ENTRYPOINT_TEMPLATE`: expected an absolute path, found `a.cfg`",
            "",
        ),
        (
            "ENTRYPOINT_WAIT_TIMEOUT",
            "0",
            "cannot use `ENTRYPOINT_WAIT_TIMEOUT`: expected `off`, `forever` or a duration such as `90s` or `5m`, found `0`",
            "",
        ),
        (
            "ENTRYPOINT_WAIT_TIMEOUT",
            "1.5s",
            "cannot use `ENTRYPOINT_WAIT_TIMEOUT`: expected `off`, `forever` or a duration such as `90s` or `5m`, found `1.5s`",
            "",
        ),
        (
            "ENTRYPOINT_WEB_SCHEDULER",
            "2",
            "cannot use `ENTRYPOINT_WEB_SCHEDULER`: expected `auto`, `true` or `false`, found `2`",
            "",
        ),
        ("LOAD_EX", "maybe", "cannot use `LOAD_EX`: expected `y` or `n`, found `maybe`", ""),
        ("POSTGRES_PORT", "many", "cannot use `POSTGRES_PORT`: expected a port from 1 to 65535, found `many`", ""),
        ("POSTGRES_PORT", "0", "cannot use `POSTGRES_PORT`: expected a port from 1 to 65535, found `0`", ""),
        ("REDIS_PORT", "65536", "cannot use `REDIS_PORT`: expected a port from 1 to 65535, found `65536`", ""),
    ] {
        refuses(&Sandbox::new(V2).with(name, value), &["scheduler"], 78, error, hint);
    }
}

#[test]
fn c13_executors() {
    let known =
        "Celery, CeleryKubernetes, Dask, Debug, Edge, Kubernetes, Local, LocalKubernetes, Sequential, or a class path";
    for version in LINES {
        for (name, value, hint) in [
            ("EXECUTOR", "Celary", "did you mean `CeleryExecutor`?"),
            ("AIRFLOW__CORE__EXECUTOR", "LocaleExecutor", "did you mean `LocalExecutor`?"),
            ("EXECUTOR", "xyzzy", ""),
        ] {
            let error = format!("cannot use the executor `{value}` of `{name}`: expected one of {known}");
            refuses(&Sandbox::new(version).with(name, value), &["scheduler"], 78, &error, hint);
        }
    }
}

#[test]
fn the_settings_file() {
    let sandbox = Sandbox::new(V2);
    let path = sandbox.text("entrypoint.toml");
    let cannot_read = format!("cannot read the settings file `{path}`:");
    for (text, error, hint) in [
        ("# fine\nkey_dir = /keys\n", format!("{cannot_read} line 2: <any>"), ""),
        ("\n\nmigrate = [true]\n", format!("{cannot_read} line 3: expected text, a number, or true or false"), ""),
        (
            "keydir = '/keys'\n",
            format!("cannot use the setting `keydir` in `{path}`: there is none of that name"),
            "did you mean `key_dir`?",
        ),
        (
            "fernet_key = 'do not show'\n",
            format!("cannot use the setting `fernet_key` in `{path}`: there is none of that name"),
            "",
        ),
        (
            "prepare = 'never'\n",
            format!("cannot use `prepare` in `{path}`: expected `auto` or `always`, found `never`"),
            "",
        ),
        (
            "wait_timeout = 0\n",
            format!(
                "cannot use `wait_timeout` in `{path}`: expected `off`, `forever` or a duration such as `90s` or `5m`, found `0`"
            ),
            "",
        ),
        ("wait_timeout = '1s\n", format!("{cannot_read} line 1: <any>"), ""),
    ] {
        sandbox.write("entrypoint.toml", text);
        refuses(&sandbox, &["scheduler"], 78, &error, hint);
        assert!(!sandbox.run(&["scheduler"]).stderr.contains("do not show"));
    }
    // The control: it is read, and the environment is before it.
    sandbox.write("entrypoint.toml", "migrate = false\nwait_timeout = '90s'\n");
    let explained = sandbox.with("ENTRYPOINT_WAIT_TIMEOUT", "7s").run(&["explain", "scheduler"]);
    explained.check(explained.stdout.contains(". wait, at most 7s, until somebody has migrated"), "it is not read");
}

#[test]
fn a_settings_file_that_is_not_there_is_a_wrong_setting() {
    let sandbox = Sandbox::new(V2).with_path("ENTRYPOINT_SETTINGS_FILE", "none.toml");
    let path = sandbox.text("none.toml");
    let error =
        format!("cannot read the settings file of `ENTRYPOINT_SETTINGS_FILE` `{path}`: no such file or directory");
    refuses(&sandbox, &["scheduler"], 78, &error, "");
}

#[test]
fn c01_urls() {
    let ports = "expected a port from 1 to 65535 behind the host (is `@`, `:` or `/` in the password percent-encoded?)";
    for (url, shown, problem) in [
        ("postgresql://u:p@db:port/x", "postgresql://u:***@db:port/x", ports),
        ("postgresql://u:p@db:65536/x", "postgresql://u:***@db:65536/x", ports),
        ("postgresql://u:p:w/d@db/x", "postgresql://u:***@db/x", ports),
        ("postgresql://u:p@[::1/x", "postgresql://u:***@[::1/x", "expected `]` behind an IPv6 address"),
        ("db.example:5432/x", "db.example:5432/x", "expected a scheme and `://`"),
    ] {
        let sandbox = Sandbox::new(V2).with("EXECUTOR", "Local").with("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", url);
        let error = format!("cannot use the URL `{shown}` of `AIRFLOW__DATABASE__SQL_ALCHEMY_CONN`: {problem}");
        refuses(&sandbox, &["scheduler"], 78, &error, URL_HINT);
    }
}

#[test]
fn what_is_not_text() {
    for name in ["AIRFLOW__CORE__FERNET_KEY", "FERNET_KEY", "EXECUTOR", "POSTGRES_PASSWORD", "ENTRYPOINT_KEY_DIR"] {
        let sandbox = Sandbox::new(V2).with(name, OsStr::from_bytes(b"\xff\xfe"));
        refuses(&sandbox, &["scheduler"], 78, &format!("cannot read `{name}`: expected UTF-8 text"), "");
    }
    // The control: what is none of our business may be anything.
    Sandbox::new(V2).with("OTHER", OsStr::from_bytes(b"\xff\xfe")).run(&["scheduler"]).succeeds();
    // A file that is no text.
    let sandbox = Sandbox::new(V2);
    sandbox.write("own.cfg", b"\xff\xfe");
    let path = sandbox.text("own.cfg");
    let error = format!("cannot read the template `{path}`: expected UTF-8 text");
    refuses(&sandbox.with_path("ENTRYPOINT_TEMPLATE", "own.cfg"), &["scheduler"], 78, &error, "");
}

#[test]
fn our_own_command_line() {
    let help = "`airflow-entrypoint --help` lists the commands";
    for (arguments, error) in [
        (&["setup", "now"][..], "unexpected argument `now` found"),
        (&["setup", "--fast"], "unexpected argument `--fast` found"),
    ] {
        refuses(&Sandbox::new(V2), arguments, 64, error, help);
    }
}

#[test]
fn c05_c06_what_is_said_in_vain() {
    let url = "postgresql://u:p@127.0.0.1:1/d";
    for (name, value, given, warning) in [
        (
            "POSTGRES_HOST",
            "db",
            ("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", url),
            "`POSTGRES_HOST` is not used: the database's URL is that of `AIRFLOW__DATABASE__SQL_ALCHEMY_CONN`",
        ),
        (
            "REDIS_HOST",
            "cache",
            ("AIRFLOW__CELERY__BROKER_URL", "redis://127.0.0.1:1/1"),
            "`REDIS_HOST` is not used: the broker's URL is that of `AIRFLOW__CELERY__BROKER_URL`",
        ),
        (
            "POSTGRES_HOST",
            "db",
            ("EXECUTOR", "Sequential"),
            "`POSTGRES_HOST` is not used: `SequentialExecutor` keeps to SQLite",
        ),
        (
            "REDIS_PORT",
            "tcp://10.0.0.1:6379",
            ("REDIS_HOST", "r"),
            "`REDIS_PORT` is a link that Kubernetes or Docker set for a service of that name; it is not used",
        ),
    ] {
        let sandbox =
            Sandbox::new(V2).with("EXECUTOR", "Celery").with(given.0, given.1).with("ENTRYPOINT_WAIT_TIMEOUT", "off");
        let control = sandbox.run(&["scheduler"]);
        control.succeeds().check(!control.stderr.contains("warning"), "the control: nothing in vain");
        sandbox.run_with(name, value, &["scheduler"]).succeeds().says(&format!("warning: {warning}"));
    }
}
