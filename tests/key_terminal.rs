//! Our verb `key` at a terminal, in scripts and without an Airflow; what its exports are worth to those who read them.

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};

use crate::namespace::present;
use crate::outcome::Outcome;
use crate::sandbox::{Sandbox, V2, V3, fingerprint, new_key, text_fingerprint};

/// Every verb that makes nothing.
const READING: [&[&str]; 6] = [
    &["check"],
    &["fingerprint"],
    &["show", "--yes"],
    &["export", "--as", "env"],
    &["export", "--as", "docker-secret"],
    &["export", "--as", "k8s-secret"],
];

fn key(sandbox: &Sandbox, arguments: &[&str]) -> Outcome {
    sandbox.run(&[&["key"], arguments].concat())
}

/// Gives this to a program on its standard input; what it says on standard output.
fn piped(command: &mut Command, input: &str) -> String {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{command:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn import(sandbox: &Sandbox, input: &[u8]) -> Outcome {
    let (reader, mut writer) = std::io::pipe().unwrap();
    let running = sandbox.start_with_input(sandbox.command(&["key", "import"]), Stdio::from(reader));
    // Who reads no further has seen enough.
    let _ = writer.write_all(input);
    drop(writer);
    running.finish()
}

#[test]
fn without_an_airflow_it_works_and_only_generate_makes_a_key() {
    let sandbox = Sandbox::new("");
    fs::remove_file(sandbox.path("prefix/bin/airflow")).unwrap();
    for verb in READING {
        let outcome = key(&sandbox, verb);
        outcome.check(outcome.code() == 78, "expected status 78").same(sandbox.names("keys"), vec![]);
    }
    let outcome = key(&sandbox, &["generate"]);
    let [fernet, web, jwt] = ["fernet", "web_secret", "jwt_secret"].map(|name| {
        let path = format!("keys/{name}.key");
        (sandbox.text(&path), sandbox.read(&path))
    });
    let lines = |how: &str| {
        [("Fernet key", &fernet), ("web secret", &web), ("JWT secret", &jwt)].map(|(name, (path, text))| {
            let print =
                if name == "Fernet key" { fingerprint(text) } else { text_fingerprint(text.trim_end().as_bytes()) };
            format!("airflow-entrypoint: info: {name}: {how} `{path}`, fingerprint {print}\n")
        })
    };
    outcome.succeeds().same(outcome.stderr.clone(), lines("made, and kept in").concat());
    outcome.same(outcome.stdout.as_str(), "");
    for verb in READING {
        let outcome = key(&sandbox, verb);
        outcome.succeeds().same(outcome.stderr.clone(), lines("from").concat());
        outcome.check(verb[0] == "check" || !outcome.stdout.is_empty(), "it printed nothing");
    }
    outcome.same(sandbox.names("keys").len(), 3).same(sandbox.names("home"), vec![]);
    // The control: a command of Airflow's does need it.
    let outcome = sandbox.run(&["scheduler"]);
    outcome.check(outcome.code() == 127, "expected status 127");
}

/// Somebody who sits there may see it without being asked; `script` is a terminal that we can read.
#[test]
fn a_key_is_shown_at_a_terminal() {
    if !present("script", Command::new("script").arg("--version").output().is_ok()) {
        return;
    }
    let sandbox = Sandbox::new(V2);
    let secret = new_key();
    sandbox.write("keys/fernet.key", &secret);
    let program = sandbox.command(&["key", "show"]);
    let mut command = Command::new("sh");
    command.args(["-c", "exec script -qec \"$* 2>/dev/null\" /dev/null", "sh"]).arg(program.get_program());
    command.args(program.get_args()).env_clear();
    command.envs(program.get_envs().filter_map(|(name, value)| Some((name, value?)))).env("SHELL", "/bin/sh");
    let outcome = sandbox.start_command(command).finish();
    outcome.succeeds().same(outcome.stdout.clone(), format!("{secret}\r\n"));
    // The control: a pipe is none.
    let outcome = key(&sandbox, &["show"]);
    outcome.check(outcome.code() == 64, "expected status 64").same(outcome.stdout.as_str(), "");
}

#[test]
fn an_export_gives_back_the_same_secrets() {
    let sandbox = Sandbox::new(V3);
    key(&sandbox, &["generate"]).succeeds();
    let files = ["fernet.key", "web_secret.key", "jwt_secret.key"];
    let kept = files.map(|file| sandbox.read(&format!("keys/{file}")).trim_end().to_owned());
    let export = |form: &str| {
        let outcome = key(&sandbox, &["export", "--as", form]);
        outcome.succeeds();
        outcome.stdout
    };
    // A shell.
    let names = "$AIRFLOW__CORE__FERNET_KEY|$AIRFLOW__API__SECRET_KEY|$AIRFLOW__API_AUTH__JWT_SECRET";
    let script = format!("set -eu; . /dev/stdin; printf %s \"{names}\"");
    assert_eq!(piped(Command::new("sh").args(["-c", &script]), &export("env")), kept.join("|"));
    // A manifest: each file of the folder that it is mounted as.
    let manifest = export("k8s-secret");
    for (file, text) in files.iter().zip(&kept) {
        let value = manifest.lines().find_map(|line| line.strip_prefix(&format!("  {file}: "))).unwrap();
        assert_eq!(&piped(Command::new("base64").arg("-d"), value), text);
    }
    assert_eq!(manifest.lines().count(), 9, "{manifest}");
    // Another volume.
    let other = Sandbox::new(V3);
    import(&other, export("docker-secret").as_bytes()).succeeds();
    assert_eq!(other.read("keys/fernet.key"), sandbox.read("keys/fernet.key"));
}

/// A secret that was given may hold anything; `env` is read by shells, by Docker and by Compose, each in its own way.
#[test]
fn an_export_of_a_secret_with_other_characters_is_not_another_secret() {
    for secret in ["it's a $HOME secret", "a b", "a#b", "\"quoted\""] {
        let sandbox = Sandbox::new(V2).with("AIRFLOW__WEBSERVER__SECRET_KEY", secret);
        sandbox.write("keys/fernet.key", new_key());
        let outcome = key(&sandbox, &["export", "--as", "env"]);
        if outcome.code() == 0 {
            let script = "set -eu; . /dev/stdin; printf %s \"$AIRFLOW__WEBSERVER__SECRET_KEY\"";
            let mut shell = Command::new("sh");
            let text = piped(shell.args(["-c", script]).env("HOME", "/nowhere"), &outcome.stdout);
            outcome.same(text.as_str(), secret);
        } else {
            outcome.same(outcome.stdout.as_str(), "");
        }
    }
}

#[test]
fn import_takes_keys_alone_and_shows_none() {
    let (secret, older) = (new_key(), new_key());
    let problem = |found: &str| {
        format!(
            "airflow-entrypoint: error: cannot use the Fernet key of `/dev/stdin`: {found}\nairflow-entrypoint: hint: <any>\n"
        )
    };
    let expected = "expected 32 bytes in url-safe base64 (44 characters), found";
    let secrets = "airflow-entrypoint: info: Fernet key: none, and this command makes none\nairflow-entrypoint: info: web secret: none, and this command makes none\n";
    for (input, error) in [
        (&secret.as_bytes()[..40], format!("{expected} 30 bytes")),
        (format!("{secret}{older}").as_bytes(), "found two keys without a comma between them".to_owned()),
        (
            format!("{secret},,{older}").as_bytes(),
            "expected keys joined by single commas, found an empty element at position 2".to_owned(),
        ),
        (&[0xff; 64], format!("{expected} 0 bytes")),
        (&vec![b'A'; 1 << 17], "<any>".to_owned()),
    ] {
        let sandbox = Sandbox::new(V2);
        let outcome = import(&sandbox, input);
        outcome.fails(78, &format!("{secrets}{}", problem(&error))).same(sandbox.names("keys"), vec![]);
        outcome.check(!outcome.stderr.contains(&secret[..20]), "it shows the key");
    }
    // The control, and a list is one secret.
    let sandbox = Sandbox::new(V2);
    import(&sandbox, format!("{secret} , {older}\n").as_bytes()).succeeds();
    assert_eq!(sandbox.read("keys/fernet.key"), format!("{secret},{older}\n"));
    let web = "airflow-entrypoint: info: web secret: none, and this command makes none\n";
    // Part of what is kept is another key.
    let outcome = import(&sandbox, secret.as_bytes());
    let path = sandbox.text("keys/fernet.key");
    let (a, b) = (fingerprint(&secret), fingerprint(&older));
    outcome.fails(
        73,
        &format!(
            "airflow-entrypoint: info: Fernet key: from `{path}`, fingerprint {a},{b}\n{web}\
             airflow-entrypoint: error: cannot import the Fernet key {a}: `{path}` holds another one, fingerprint {a},{b}\n\
             airflow-entrypoint: hint: no key is ever overwritten; set `FERNET_KEY` to the given one, and Airflow gets both\n"
        ),
    );
    assert_eq!(sandbox.names("keys"), ["fernet.key"]);
}

/// A damaged file is not made good by an import.
#[test]
fn import_leaves_a_damaged_file_as_it_is() {
    let sandbox = Sandbox::new(V2);
    sandbox.write("keys/fernet.key", "half a key");
    let outcome = import(&sandbox, new_key().as_bytes());
    let error = format!("cannot use the Fernet key of `{}`: <any>", sandbox.text("keys/fernet.key"));
    outcome.fails(78, &format!("airflow-entrypoint: error: {error}\nairflow-entrypoint: hint: <any>\n"));
    outcome.same((sandbox.read("keys/fernet.key").as_str(), sandbox.names("keys").len()), ("half a key", 1));
}
