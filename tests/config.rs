//! `airflow.cfg`: what is written for each line, that it is written once, and that a file of the user's is left alone.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::process::Command;

use crate::namespace::{is_root, isolated};
use crate::sandbox::{LINES, NOBODY, Sandbox, V1, V2, V3, fingerprint, key_mode, modified, new_key};

/// The options of an INI file as `section.key`.
fn options(text: &str) -> BTreeMap<String, String> {
    let mut section = "";
    let mut options = BTreeMap::new();
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        match line.strip_prefix('[') {
            Some(name) => section = name.strip_suffix(']').unwrap(),
            None => {
                let (key, value) = line.split_once(" = ").unwrap_or_else(|| panic!("{line:?} is no option\n{text}"));
                let before = options.insert(format!("{section}.{key}"), value.to_owned());
                assert!(before.is_none(), "{key} is there twice\n{text}");
            }
        }
    }
    options
}

fn celery(version: &str) -> Sandbox {
    Sandbox::new(version)
        .with("EXECUTOR", "Celery")
        .with("POSTGRES_PASSWORD", "p@ss")
        .with("REDIS_PASSWORD", "r%d")
        .with("ENTRYPOINT_WAIT_TIMEOUT", "off")
}

#[test]
fn e09_the_file_says_what_the_environment_says() {
    for (version, conn, web) in [
        (V1, "core.sql_alchemy_conn", "webserver.secret_key"),
        ("2.2.5", "core.sql_alchemy_conn", "webserver.secret_key"),
        (V2, "database.sql_alchemy_conn", "webserver.secret_key"),
        (V3, "database.sql_alchemy_conn", "api.secret_key"),
    ] {
        let sandbox = celery(version);
        let outcome = sandbox.run(&["scheduler"]);
        let text = sandbox.read("home/airflow.cfg");
        let secret = |name: &str| sandbox.read(&format!("keys/{name}.key")).trim_end().to_owned();
        let mut expected = BTreeMap::from(
            [
                ("celery.broker_url", "redis://:r%%25d@redis:6379/1".to_owned()),
                ("celery.result_backend", "db+postgresql://airflow:p%%40ss@postgres:5432/airflow".to_owned()),
                ("core.executor", "CeleryExecutor".to_owned()),
                ("core.fernet_key", secret("fernet")),
                ("core.load_examples", "False".to_owned()),
                (conn, "postgresql+psycopg2://airflow:p%%40ss@postgres:5432/airflow".to_owned()),
                (web, secret("web_secret")),
            ]
            .map(|(name, value)| (name.to_owned(), value)),
        );
        if version == V3 {
            expected.insert("api_auth.jwt_secret".to_owned(), secret("jwt_secret"));
        }
        outcome.succeeds().same(options(&text), expected);
        outcome.check(
            text.starts_with("# Written by airflow-entrypoint at each start; changes here are lost.\n# `airflow-entrypoint explain` shows"),
            &text,
        );
        outcome.same(sandbox.mode("home/airflow.cfg"), key_mode());
        outcome.same(sandbox.names("home"), vec!["airflow.cfg".to_owned()]);
        // The control of the doubled percent signs: in the environment they are single.
        let url = sandbox.variable("airflow-scheduler", "AIRFLOW__CELERY__BROKER_URL");
        outcome.same(url.as_deref(), Some("redis://:r%25d@redis:6379/1"));
    }
}

#[test]
fn the_same_input_leaves_the_file_alone_and_another_replaces_it() {
    for version in LINES {
        let sandbox = celery(version);
        let outcome = sandbox.run(&["scheduler"]);
        outcome.says(&format!("info: write `{}` from the built-in template <any>", sandbox.text("home/airflow.cfg")));
        let (path, text) = (sandbox.path("home/airflow.cfg"), sandbox.read("home/airflow.cfg"));
        let time = modified(&path);
        let outcome = sandbox.run(&["scheduler"]);
        outcome.succeeds().check(!outcome.stderr.contains("info: write"), "it says that it writes");
        outcome.same((sandbox.read("home/airflow.cfg"), modified(&path)), (text.clone(), time));
        let outcome = sandbox.run_with("REDIS_HOST", "elsewhere", &["scheduler"]);
        outcome.succeeds().says("info: write <any>");
        outcome.same(sandbox.read("home/airflow.cfg"), text.replace("@redis:", "@elsewhere:"));
    }
}

#[test]
fn a_file_of_the_users_is_left_alone_and_read() {
    let key = new_key();
    for (version, section) in [(V1, "core"), (V2, "database"), (V3, "database")] {
        let text = format!(
            "[core]\nexecutor = CeleryExecutor\nfernet_key = {key}\n[{section}]\nsql_alchemy_conn = mysql://u:p%%40w@my/d\n[celery]\nbroker_url = amqp://mq//\n"
        );
        let sandbox = Sandbox::new(version).with("ENTRYPOINT_WAIT_TIMEOUT", "off");
        sandbox.write("home/airflow.cfg", &text);
        let (path, time) = (sandbox.text("home/airflow.cfg"), modified(&sandbox.path("home/airflow.cfg")));
        let outcome = sandbox.run(&["scheduler"]);
        outcome.succeeds().says(&format!("info: leave `{path}` as it is, since it is the user's own")).says(&format!(
            "info: Fernet key: from `[core] fernet_key` in `{path}`, fingerprint {}",
            fingerprint(&key)
        ));
        outcome.same((sandbox.read("home/airflow.cfg"), modified(&sandbox.path("home/airflow.cfg"))), (text, time));
        outcome.check(!sandbox.names("keys").contains(&"fernet.key".to_owned()), "it made a key");
        let mut seen = sandbox.seen("airflow-scheduler");
        outcome.same(seen.remove("AIRFLOW__CORE__FERNET_KEY").as_deref(), Some(&*key));
        outcome.same(seen.remove("AIRFLOW__CELERY__RESULT_BACKEND").as_deref(), Some("db+mysql://u:p%40w@my/d"));
        // What the file says already is not said again.
        for name in ["CORE__SQL_ALCHEMY_CONN", "DATABASE__SQL_ALCHEMY_CONN", "CELERY__BROKER_URL"] {
            outcome.same(seen.get(&format!("AIRFLOW__{name}")), None);
        }
        let explained = sandbox.with("ENTRYPOINT_WAIT_TIMEOUT", "1s").run(&["explain", "scheduler"]);
        explained.check(explained.stdout.contains("   database `my:3306` ("), "the database of the file");
        explained.check(explained.stdout.contains("   broker `mq:5672` ("), "the broker of the file");
    }
    // A file that says how to get the key.
    let sandbox = Sandbox::new(V2).with("FERNET_KEY", &*key);
    sandbox.write("home/airflow.cfg", "[core]\nfernet_key_cmd = cat /run/secrets/key\n");
    let outcome = sandbox.run(&["scheduler"]);
    outcome.succeeds().says("info: Fernet key: left to Airflow by `[core] fernet_key_cmd` in <any>");
    outcome.same(sandbox.variable("airflow-scheduler", "AIRFLOW__CORE__FERNET_KEY"), None);
}

#[test]
fn c18_a_home_that_cannot_be_written_to() {
    if !is_root() {
        return;
    }
    let sandbox = celery(V2).owned_by(NOBODY, NOBODY).made_executable();
    chown(sandbox.path("home"), Some(0), None).unwrap();
    let folder = sandbox.text(&format!("tmp/airflow-entrypoint-{NOBODY}"));
    for _ in ["first start", "second start"] {
        let outcome = sandbox.run(&["scheduler"]);
        outcome.succeeds().says(&format!(
            "warning: `{}` cannot be written (permission denied); it is in `{folder}/airflow.cfg`, and `AIRFLOW_CONFIG` names that",
            sandbox.text("home/airflow.cfg")
        ));
        outcome.same(sandbox.names("home"), vec![]);
        let config = sandbox.variable("airflow-scheduler", "AIRFLOW_CONFIG");
        outcome.same(config, Some(format!("{folder}/airflow.cfg")));
        let text = fs::read_to_string(format!("{folder}/airflow.cfg")).unwrap();
        outcome.same(options(&text)["core.executor"].as_str(), "CeleryExecutor");
        outcome.same(fs::read_dir(&folder).unwrap().count(), 1);
        let mode = |path: &str| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        outcome.same((mode(&folder), mode(&format!("{folder}/airflow.cfg"))), (0o700, 0o600));
    }
    // A folder of that name that others may write to is not ours.
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o777)).unwrap();
    sandbox.write("calls", "");
    let outcome = sandbox.run(&["scheduler"]);
    outcome.check(outcome.code() == 73 || outcome.code() == 77, "it trusts a folder that is open to all");
    outcome.check(outcome.stderr.contains(&format!("error: cannot write the configuration `{folder}")), "which folder");
    outcome.same(sandbox.calls(), vec![]);
}

#[test]
fn c18_a_file_that_is_a_mount_is_written_in_place() {
    isolated("config::c18_a_file_that_is_a_mount_is_written_in_place", "", || {
        let sandbox = celery(V3);
        sandbox.run(&["scheduler"]).succeeds();
        let (path, text) = (sandbox.text("home/airflow.cfg"), sandbox.read("home/airflow.cfg"));
        let mount = |arguments: &[&str]| assert!(Command::new("mount").args(arguments).status().unwrap().success());
        mount(&["--bind", &path, &path]);
        let outcome = sandbox.run_with("REDIS_HOST", "elsewhere", &["scheduler"]);
        outcome.succeeds().same(sandbox.read("home/airflow.cfg"), text.replace("@redis:", "@elsewhere:"));
        outcome.same(sandbox.names("home"), vec!["airflow.cfg".to_owned()]);
        outcome.check(!outcome.stderr.contains("warning"), "it warns");
        // Read-only, it stays as it is, and what is needed is elsewhere.
        mount(&["-o", "remount,bind,ro", &path]);
        let outcome = sandbox.run(&["scheduler"]);
        let elsewhere = sandbox.text("tmp/airflow-entrypoint-0/airflow.cfg");
        outcome.succeeds().says(&format!(
            "warning: `{path}` cannot be written (read-only <any>); it is in `{elsewhere}`, and `AIRFLOW_CONFIG` names that"
        ));
        outcome.same(sandbox.read("home/airflow.cfg"), text.replace("@redis:", "@elsewhere:"));
        outcome.same(fs::read_to_string(elsewhere).unwrap(), text);
        Command::new("umount").arg(&path).status().unwrap();
    });
}

#[test]
fn c21_a_template_of_the_users() {
    let sandbox = celery(V2).with("OWN", "50% of $HOME").with_path("ENTRYPOINT_TEMPLATE", "own.cfg");
    sandbox.write("own.cfg", "[own]\nvalue = ${OWN}\nnone = ${NONE:-default}\n");
    let outcome = sandbox.run(&["scheduler"]);
    outcome.succeeds().same(
        sandbox.read("home/airflow.cfg").as_str(),
        "# Written by airflow-entrypoint at each start; changes here are lost.\n[own]\nvalue = 50%% of $HOME\nnone = default\n",
    );
    let (template, text) = (sandbox.text("own.cfg"), sandbox.read("home/airflow.cfg"));
    for (broken, place, problem) in [
        ("[own]\nx = ${NOT_THERE} pw\n", "2:5", "`NOT_THERE` is not set\n2 | x = ${NOT_THERE. ..\n  |     ^"),
        (
            "[own]\nx = pw${OWN\n",
            "2:7",
            "expected `}` or one of `:-` `-` `:?` `?` `:+` `+` behind `OWN`\n2 | x = ..${OWN\n  |       ^",
        ),
        ("é $5\n", "1:3", "expected a name, `{` or `$` behind `$` (write `$$` for a dollar)\n1 | . $5\n  |   ^"),
        ("${NOT_THERE:?say so}", "1:1", "`NOT_THERE` is not set: say so\n1 | ${NOT_THERE..... ...\n  | ^"),
    ] {
        sandbox.write("own.cfg", broken);
        sandbox.write("calls", "");
        let outcome = sandbox.run(&["scheduler"]);
        let error = format!("airflow-entrypoint: error: cannot render `airflow.cfg`: {template}:{place}: {problem}\n");
        outcome.fails(78, &format!("<lines>{error}"));
        outcome.same(sandbox.calls(), vec![]);
        outcome.same(
            (sandbox.names("home"), sandbox.read("home/airflow.cfg")),
            (vec!["airflow.cfg".to_owned()], text.clone()),
        );
    }
}

/// A named source that cannot be read is an error, never nothing.
#[test]
fn a_template_that_is_not_there_is_an_error() {
    let sandbox = celery(V2).with_path("ENTRYPOINT_TEMPLATE", "none.cfg");
    let outcome = sandbox.run(&["scheduler"]);
    outcome.check(outcome.code() != 0, "it starts without the template");
    outcome.check(outcome.stderr.contains(&sandbox.text("none.cfg")), "it does not name the template");
    outcome.same(sandbox.calls(), vec![]).same(sandbox.names("home"), vec![]);
}
