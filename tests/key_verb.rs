//! Our verb `key`: what people do with the secrets by hand.

use std::io::Write;
use std::process::Stdio;

use crate::outcome::Outcome;
use crate::sandbox::{Sandbox, V1, V2, V3, fingerprint, key_mode, new_key};

/// Runs it with this on standard input.
fn with_input(sandbox: &Sandbox, arguments: &[&str], input: &str) -> Outcome {
    let (reader, mut writer) = std::io::pipe().unwrap();
    writer.write_all(input.as_bytes()).unwrap();
    drop(writer);
    sandbox.start_with_input(sandbox.command(arguments), Stdio::from(reader)).finish()
}

#[test]
fn generate_makes_what_is_missing_and_nothing_twice() {
    for (version, files) in
        [(V1, &["fernet.key", "web_secret.key"][..]), (V3, &["fernet.key", "jwt_secret.key", "web_secret.key"])]
    {
        let sandbox = Sandbox::new(version);
        sandbox
            .run(&["key", "generate"])
            .succeeds()
            .same(sandbox.names("keys"), files.iter().map(|&f| f.into()).collect());
        let before = sandbox.read("keys/fernet.key");
        std::fs::remove_file(sandbox.path("keys/web_secret.key")).unwrap();
        let outcome = sandbox.run(&["key", "generate"]);
        outcome.succeeds().same(sandbox.read("keys/fernet.key"), before);
        outcome.same(sandbox.names("keys").len(), files.len());
        outcome.same((outcome.stdout.as_str(), sandbox.calls(), sandbox.names("home")), ("", vec![], vec![]));
    }
}

#[test]
fn what_is_shown_goes_to_stdout_and_is_all_there_is() {
    let sandbox = Sandbox::new(V3);
    let (key, older) = (new_key(), new_key());
    let text = format!("{key},{older}\n");
    sandbox.write("keys/fernet.key", &text);
    sandbox.write("keys/web_secret.key", "web\n");
    sandbox.write("keys/jwt_secret.key", "jwt\n");
    let prints = format!("{},{}", fingerprint(&key), fingerprint(&older));
    let secrets = [key.as_str(), &older];
    let shown = |arguments: &[&str]| {
        let outcome = sandbox.run(&[&["key"], arguments].concat());
        outcome.succeeds().check(!secrets.iter().any(|secret| outcome.stderr.contains(secret)), "a secret in the log");
        outcome.stdout
    };
    assert_eq!(shown(&["fingerprint"]), format!("{prints}\n"));
    assert_eq!(shown(&["show", "--yes"]), text);
    assert_eq!(shown(&["check"]), "");
    assert_eq!(shown(&["export", "--as", "docker-secret"]), text.trim_end());
    assert_eq!(
        shown(&["export", "--as", "env"]),
        format!(
            "AIRFLOW__CORE__FERNET_KEY={}\nAIRFLOW__API__SECRET_KEY=web\nAIRFLOW__API_AUTH__JWT_SECRET=jwt\n",
            text.trim_end()
        )
    );
    let manifest = shown(&["export", "--as", "k8s-secret"]);
    let encoded = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, text.trim_end());
    assert!(manifest.starts_with("apiVersion: v1\nkind: Secret\n"), "{manifest}");
    for line in [format!("  fernet.key: {encoded}"), "  web_secret.key: d2Vi".into(), "  jwt_secret.key: and0".into()] {
        assert!(manifest.lines().any(|shown| shown == line), "{line:?} in {manifest}");
    }
    // Into a pipe only on purpose: it would end in a log.
    let outcome = sandbox.run(&["key", "show"]);
    let error = "cannot print the Fernet key to something that is not a terminal: expected `--yes`";
    outcome.fails(
        64,
        &format!("<lines>airflow-entrypoint: error: {error}\nairflow-entrypoint: hint: `airflow-entrypoint --help` lists the commands\n"),
    );
    outcome.same(outcome.stdout.as_str(), "").same(sandbox.read("keys/fernet.key"), text.clone());
    // The environment file gives another container the same secrets.
    let other = shown(&["export", "--as", "env"]).lines().fold(Sandbox::new(V3), |sandbox, line| {
        let (name, value) = line.split_once('=').unwrap();
        sandbox.with(name, value)
    });
    other.run(&["scheduler"]).succeeds();
    let seen = other.seen("airflow-scheduler");
    assert_eq!((seen["AIRFLOW__CORE__FERNET_KEY"].as_str(), other.names("keys")), (text.trim_end(), vec![]));
}

#[test]
fn without_a_key_there_is_nothing_to_show() {
    let sandbox = Sandbox::new(V2);
    let error = format!("cannot show the Fernet key: none is set, and there is none in `{}`", sandbox.text("keys"));
    let hint = "airflow-entrypoint: hint: `airflow-entrypoint key generate` makes one on the key volume";
    for verb in [&["check"][..], &["fingerprint"], &["show", "--yes"], &["export", "--as", "env"]] {
        let outcome = sandbox.run(&[&["key"], verb].concat());
        outcome.fails(78, &format!("<lines>airflow-entrypoint: error: {error}\n{hint}\n"));
        outcome.same((outcome.stdout.as_str(), sandbox.names("keys")), ("", vec![]));
    }
    let sandbox = sandbox.with("AIRFLOW__CORE__FERNET_KEY_SECRET", "fernet");
    let error = "cannot show the Fernet key: it is left to Airflow by `AIRFLOW__CORE__FERNET_KEY_SECRET`";
    let hint = "airflow-entrypoint: hint: give it to this command by `AIRFLOW__CORE__FERNET_KEY_FILE`";
    sandbox.run(&["key", "fingerprint"]).fails(78, &format!("<lines>airflow-entrypoint: error: {error}\n{hint}\n"));
    // What a command prints is known.
    let key = new_key();
    let sandbox = Sandbox::new(V2).with("AIRFLOW__CORE__FERNET_KEY_CMD", format!("echo {key}"));
    let outcome = sandbox.run(&["key", "fingerprint"]);
    outcome.succeeds().same(outcome.stdout.clone(), format!("{}\n", fingerprint(&key)));
}

#[test]
fn import_keeps_a_key_and_never_replaces_one() {
    let (key, other) = (new_key(), new_key());
    let sandbox = Sandbox::new(V2);
    let path = sandbox.text("keys/fernet.key");
    let import = |input: &str| with_input(&sandbox, &["key", "import"], input);
    let not_a_key =
        "cannot use the Fernet key of `/dev/stdin`: expected 32 bytes in url-safe base64 (44 characters), found";
    for (input, found) in [("", "0 bytes"), ("rubbish", "7 characters that end in the middle of a byte")] {
        let outcome = import(input);
        outcome.fails(
            78,
            &format!("<lines>airflow-entrypoint: error: {not_a_key} {found}\nairflow-entrypoint: hint: <any>\n"),
        );
        outcome.same(sandbox.names("keys"), vec![]);
    }
    let print = fingerprint(&key);
    let outcome = import(&format!(" \"{key}\"\r\n"));
    outcome.succeeds().says(&format!("info: Fernet key: kept in `{path}`, fingerprint {print}"));
    outcome.same((sandbox.read("keys/fernet.key"), sandbox.mode("keys/fernet.key")), (format!("{key}\n"), key_mode()));
    import(&key).succeeds().says(&format!("info: Fernet key: there already in `{path}`, fingerprint {print}"));
    let outcome = import(&other);
    let error = format!(
        "cannot import the Fernet key {}: `{path}` holds another one, fingerprint {print}",
        fingerprint(&other)
    );
    let hint = "no key is ever overwritten; set `FERNET_KEY` to the given one, and Airflow gets both";
    outcome.fails(73, &format!("<lines>airflow-entrypoint: error: {error}\nairflow-entrypoint: hint: {hint}\n"));
    outcome.same((sandbox.read("keys/fernet.key"), sandbox.names("keys").len()), (format!("{key}\n"), 1));
}
