//! The dry run says what then happens, in words and as JSON, and shows no secret. (What it says of whole deployments is in `plans`.)

use serde_json::Value;

use crate::sandbox::{LINES, Sandbox, V2, V3, fingerprint, new_key, text_fingerprint};

fn celery(version: &str) -> Sandbox {
    let sandbox = Sandbox::new(version)
        .with("EXECUTOR", "Celery")
        .with("POSTGRES_PASSWORD", "pg-secret")
        .with("AIRFLOW__CELERY__BROKER_URL", "redis://:broker-secret@cache:6380/2");
    sandbox.write("requirements.txt", "six\n");
    sandbox
}

fn json(sandbox: &Sandbox, arguments: &[&str]) -> Value {
    let outcome = sandbox.run(&[&["explain", "--json"], arguments].concat());
    outcome.succeeds().same(outcome.stderr.as_str(), "");
    serde_json::from_str(&outcome.stdout).unwrap_or_else(|problem| panic!("{problem}{outcome:?}"))
}

fn texts(value: &Value) -> Vec<&str> {
    value.as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect()
}

#[test]
fn e10_what_it_says_is_what_happens() {
    for version in LINES {
        for arguments in [&["webserver"][..], &["scheduler"], &["setup"], &["worker", "-q", "x"], &["version"]] {
            let sandbox = celery(version).with("ENTRYPOINT_WAIT_TIMEOUT", "off").with("ENTRYPOINT_MIGRATE", "true");
            let said = json(&sandbox, arguments);
            let outcome = sandbox.run(arguments);
            outcome.succeeds();
            for note in texts(&said["notes"]) {
                outcome.says(&format!("info: {note}"));
            }
            for warning in texts(&said["warnings"]) {
                outcome.says(&format!("warning: {warning}"));
            }
            let steps = said["steps"].as_array().unwrap();
            let mut logged = 0;
            for step in steps
                .iter()
                .filter(|step| !matches!(step["name"].as_str(), Some("secrets" | "user" | "verdict" | "wait")))
            {
                let line = format!("airflow-entrypoint: info: {}\n", step["what"].as_str().unwrap());
                let taken = step["taken"].as_bool().unwrap();
                outcome.check(
                    outcome.stderr.contains(&line) == taken,
                    &format!("taken is {taken}, and the log differs: {line}"),
                );
                logged += usize::from(taken);
            }
            outcome.check(logged >= 2, "hardly a step was looked at");
            // The environment of the command is as it was said.
            let call = match arguments {
                ["setup"] => continue,
                ["worker", ..] if version == "1.10.15" => "airflow-worker".to_owned(),
                ["worker", ..] => "airflow-celery".to_owned(),
                ["webserver"] if version == V3 => "airflow-api-server".to_owned(),
                [name, ..] => format!("airflow-{name}"),
                [] => unreachable!(),
            };
            let seen = sandbox.seen(&call);
            for variable in said["environment"].as_array().unwrap() {
                let (name, value) = (variable["name"].as_str().unwrap(), variable["value"].as_str());
                match value {
                    Some(value) if value.contains("***") => outcome.check(seen.contains_key(name), name),
                    value => outcome.same((name, seen.get(name).map(String::as_str)), (name, value)),
                };
            }
        }
    }
}

#[test]
fn c25_every_setting_and_every_managed_value_has_its_source() {
    let key = new_key();
    let sandbox = celery(V3).with("FERNET_KEY", &*key).with("ENTRYPOINT_WAIT_TIMEOUT", "5m");
    sandbox.write("entrypoint.toml", "secrets = 'cmd'\n");
    sandbox.write("keys/jwt_secret.key", "0123456789\n");
    let said = json(&sandbox, &["scheduler"]);
    let named = |list: &str, name: &str| {
        let all = said[list].as_array().unwrap();
        let found = all.iter().find(|one| one["name"] == name).unwrap_or_else(|| panic!("no {name} in {all:#?}"));
        (found["value"].as_str().unwrap_or_default().to_owned(), found["source"].as_str().unwrap().to_owned())
    };
    let pair = |value: &str, source: &str| (value.to_owned(), source.to_owned());
    assert_eq!(named("settings", "wait_timeout"), pair("5m", "`ENTRYPOINT_WAIT_TIMEOUT`"));
    let file = format!("`secrets` in `{}`", sandbox.text("entrypoint.toml"));
    assert_eq!(named("settings", "secrets"), pair("cmd", &file));
    assert_eq!(named("settings", "migrate"), pair("auto", "the default"));
    let fernet = format!("*** (fingerprint {})", fingerprint(&key));
    assert_eq!(named("environment", "AIRFLOW__CORE__FERNET_KEY"), pair(&fernet, "`FERNET_KEY`"));
    let jwt = format!("*** (fingerprint {})", text_fingerprint(b"0123456789"));
    let jwt_file = format!("`{}`", sandbox.text("keys/jwt_secret.key"));
    assert_eq!(named("environment", "AIRFLOW__API_AUTH__JWT_SECRET"), pair(&jwt, &jwt_file));
    assert_eq!(named("environment", "AIRFLOW__CORE__EXECUTOR"), pair("CeleryExecutor", "`EXECUTOR`"));
    let text = serde_json::to_string(&said).unwrap();
    for secret in [&*key, "pg-secret", "broker-secret", "0123456789"] {
        assert!(!text.contains(secret), "{secret} is shown: {text}");
    }
}

/// `--json` behind the command is the command's own.
#[test]
fn arguments_are_the_commands() {
    let outcome = Sandbox::new(V2).run(&["explain", "version", "--json"]);
    outcome.succeeds().check(outcome.stdout.starts_with("Airflow 2.11.2 ("), "it is JSON");
}
