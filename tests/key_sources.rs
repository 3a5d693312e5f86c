//! Where a secret comes from: the first source that is set, said in the log; a source that cannot be used is an error and no reason to
//! take the next one.

use std::fs;

use crate::namespace::is_root;
use crate::sandbox::{LINES, NOBODY, Sandbox, V2, V3, fingerprint, new_key, text_fingerprint};

const AIRFLOWS: &str = "AIRFLOW__CORE__FERNET_KEY";

fn handed_on(sandbox: &Sandbox, variable: &str) -> Option<String> {
    sandbox.variable("mycmd", variable)
}

#[test]
fn k06_airflows_own_variable_before_the_alias_before_the_file() {
    let [first, second, third] = [new_key(), new_key(), new_key()];
    let (a, b) = (fingerprint(&first), fingerprint(&second));
    let sandbox = Sandbox::new(V2).with(AIRFLOWS, &*first).with("FERNET_KEY", &*second);
    let outcome = sandbox.run(&["mycmd"]);
    outcome.succeeds().says(&format!("info: Fernet key: from `{AIRFLOWS}`, fingerprint {a}")).says(&format!(
        "warning: `{AIRFLOWS}` (fingerprint {a}) and `FERNET_KEY` (fingerprint {b}) hold different values; `{AIRFLOWS}` is used"
    ));
    outcome.same(handed_on(&sandbox, AIRFLOWS), Some(first.clone()));

    let sandbox = Sandbox::new(V2).with(AIRFLOWS, "").with("FERNET_KEY", &*second);
    let outcome = sandbox.run(&["mycmd"]);
    outcome.succeeds().says(&format!("info: Fernet key: from `FERNET_KEY`, fingerprint {b}"));
    outcome.check(!outcome.stderr.contains("warning"), "the control: nothing to warn of");
    outcome.same(handed_on(&sandbox, AIRFLOWS), Some(second.clone()));

    // The same key in other clothes is no difference.
    let sandbox = Sandbox::new(V2).with(AIRFLOWS, &*first).with("FERNET_KEY", format!("\"{first}\" "));
    let outcome = sandbox.run(&["mycmd"]);
    outcome.succeeds().check(!outcome.stderr.contains("warning"), "it warns");

    // An alias that is no key is not read either.
    let sandbox = Sandbox::new(V2).with(AIRFLOWS, &*first).with("FERNET_KEY", "no key");
    let outcome = sandbox.run(&["mycmd"]);
    outcome.succeeds().says(&format!("warning: `FERNET_KEY` does not hold a Fernet key; `{AIRFLOWS}` is used"));

    let sandbox = Sandbox::new(V2);
    sandbox.write("keys/fernet.key", format!("{third}\n"));
    let outcome = sandbox.run(&["mycmd"]);
    let path = sandbox.text("keys/fernet.key");
    outcome.succeeds().says(&format!("info: Fernet key: from `{path}`, fingerprint {}", fingerprint(&third)));
    outcome.same(handed_on(&sandbox, AIRFLOWS), Some(third));
}

#[test]
fn a_key_beside_another_on_the_volume_goes_first_and_both_are_handed_on() {
    let [given, kept, older] = [new_key(), new_key(), new_key()];
    let sandbox = Sandbox::new(V2).with("FERNET_KEY", &*given);
    let (path, text) = (sandbox.text("keys/fernet.key"), format!("{kept},{older}\n"));
    sandbox.write("keys/fernet.key", &text);
    let outcome = sandbox.run(&["scheduler"]);
    let (a, b, c) = (fingerprint(&given), fingerprint(&kept), fingerprint(&older));
    outcome.succeeds().says(&format!(
        "warning: `FERNET_KEY` (fingerprint {a}) and `{path}` (fingerprint {b},{c}) hold different Fernet keys; both are handed to Airflow, `FERNET_KEY` first"
    ));
    let all = format!("{given},{kept},{older}");
    outcome.same(sandbox.variable("airflow-scheduler", AIRFLOWS), Some(all.clone()));
    outcome.same(sandbox.read("keys/fernet.key"), text);
    outcome.check(sandbox.read("home/airflow.cfg").contains(&format!("\nfernet_key = {all}\n")), "not in airflow.cfg");

    // The control: a key that is on the volume is handed on as it was given, without a word.
    let outcome = sandbox.with("FERNET_KEY", format!("{older},{kept}")).run(&["mycmd"]);
    outcome.succeeds().check(!outcome.stderr.contains("warning"), "it warns");
}

#[test]
fn k11_a_decorated_file_is_read_and_left_as_it_is() {
    let key = new_key();
    for text in [format!("\u{feff}\"{key}\"\r\n"), format!("  {key}\n\n"), key.trim_end_matches('=').to_owned()] {
        let sandbox = Sandbox::new(V2);
        sandbox.write("keys/fernet.key", &text);
        let outcome = sandbox.run(&["scheduler"]);
        outcome.succeeds().same(sandbox.variable("airflow-scheduler", AIRFLOWS), Some(key.clone()));
        outcome.same(sandbox.read("keys/fernet.key"), text);
    }
}

#[test]
fn a_damaged_file_stops_the_start_and_stays_as_it_is() {
    let key = new_key();
    let half = &key[..20];
    let not_a_key = "expected 32 bytes in url-safe base64 (44 characters), found";
    let other = "or remove it to have a new one made (logins and running tasks end)";
    for (file, text, name, problem, hint) in [
        ("fernet.key", String::new(), "Fernet key", format!("{not_a_key} 0 bytes"), ""),
        ("fernet.key", half.to_owned(), "Fernet key", format!("{not_a_key} 15 bytes"), ""),
        (
            "fernet.key",
            format!("{key},\n"),
            "Fernet key",
            "expected keys joined by single commas, found an empty element at position 2".to_owned(),
            "",
        ),
        (
            "fernet.key",
            format!("{key}{key}\n"),
            "Fernet key",
            "found two keys without a comma between them".to_owned(),
            "",
        ),
        ("web_secret.key", "\n".to_owned(), "web secret", "expected a secret, found nothing".to_owned(), other),
        ("jwt_secret.key", String::new(), "JWT secret", "expected a secret, found nothing".to_owned(), other),
    ] {
        let sandbox = Sandbox::new(V3);
        sandbox.write(&format!("keys/{file}"), &text);
        let owner = format!("{}:{}", nix::unistd::geteuid(), nix::unistd::getegid());
        let outcome = sandbox.run(&["scheduler"]);
        let hint = match hint {
            "" => "restore the file from a backup; a new key cannot read what the old one encrypted".to_owned(),
            more => format!("restore the file from a backup, {more}"),
        };
        outcome.fails(
            78,
            &format!(
                "airflow-entrypoint: error: cannot use the {name} of `{}`: {problem} ({} bytes, owner {owner}, mode 0600, modified <time>)\n\
                 airflow-entrypoint: hint: {hint}\n",
                sandbox.text(&format!("keys/{file}")),
                text.len()
            ),
        );
        outcome.same(sandbox.names("keys"), vec![file.to_owned()]);
        outcome.same(sandbox.read(&format!("keys/{file}")), text);
        outcome.same(sandbox.calls(), vec![]);
        outcome.same(sandbox.names("home"), vec![]);
    }
}

#[test]
fn a_key_that_is_given_stands_in_for_a_damaged_file_with_a_warning() {
    let key = new_key();
    let sandbox = Sandbox::new(V2).with("FERNET_KEY", &*key);
    sandbox.write("keys/fernet.key", "rubbish");
    let outcome = sandbox.run(&["scheduler"]);
    outcome.succeeds().says(&format!(
        "warning: `FERNET_KEY` is used; `{}` could not be: expected 32 bytes in url-safe base64 (44 characters), found 7 characters that end in the middle of a byte",
        sandbox.text("keys/fernet.key")
    ));
    outcome.same(sandbox.read("keys/fernet.key"), "rubbish".to_owned());
}

#[test]
fn a_file_that_cannot_be_read_stops_the_start() {
    if !is_root() {
        return;
    }
    let sandbox = Sandbox::new(V2).owned_by(NOBODY, NOBODY).made_executable();
    let path = sandbox.text("keys/fernet.key");
    sandbox.write("keys/fernet.key", new_key());
    fs::set_permissions(sandbox.path("keys/fernet.key"), std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let outcome = sandbox.run(&["scheduler"]);
    outcome.fails(
        77,
        &format!(
            "airflow-entrypoint: error: cannot read the Fernet key `{path}`: permission denied; owner 0:0, mode 0600, and we are {NOBODY}:{NOBODY}\n\
             airflow-entrypoint: hint: let this user read `{path}` (chown or chmod it where it comes from, or set `user:` of the container)\n"
        ),
    );
    outcome.same(sandbox.calls(), vec![]).same(sandbox.names("keys"), vec!["fernet.key".to_owned()]);
    // The control: with that permission it starts.
    std::os::unix::fs::chown(&path, Some(NOBODY), None).unwrap();
    sandbox.run(&["scheduler"]).succeeds();

    let sandbox = Sandbox::new(V2);
    fs::create_dir(sandbox.path("keys/fernet.key")).unwrap();
    let path = sandbox.text("keys/fernet.key");
    let error = format!("cannot read the Fernet key `{path}`: is a directory");
    sandbox.run(&["scheduler"]).fails(78, &format!("airflow-entrypoint: error: {error}\n"));
}

#[test]
fn k04_a_key_that_is_none_is_refused_before_anything_else() {
    for variable in [AIRFLOWS, "FERNET_KEY"] {
        for (value, found) in [
            ("deadbeef", "6 bytes"),
            (&"ab".repeat(32), "48 bytes"),
            (&"a".repeat(53), "53 characters that end in the middle of a byte"),
        ] {
            let sandbox = Sandbox::new(V2).with(variable, value);
            let outcome = sandbox.run(&["scheduler"]);
            outcome.fails(
                78,
                &format!(
                    "airflow-entrypoint: error: cannot use the Fernet key of `{variable}`: expected 32 bytes in url-safe base64 (44 characters), found {found}\n\
                     airflow-entrypoint: hint: make a key with `openssl rand -base64 32`, or unset it to have one made and kept on the key volume\n"
                ),
            );
            outcome
                .same(sandbox.calls(), vec![])
                .same(sandbox.names("keys"), vec![])
                .same(sandbox.names("home"), vec![]);
        }
    }
}

#[test]
fn x03_x07_what_airflow_fetches_itself_is_neither_made_nor_exported() {
    let fetched = new_key();
    for version in LINES {
        for suffix in ["_CMD", "_SECRET"] {
            let sandbox = Sandbox::new(version);
            sandbox.write("fetched", format!("{fetched}\n"));
            let how = if suffix == "_CMD" { format!("cat {}", sandbox.text("fetched")) } else { "fernet".to_owned() };
            let variable = format!("{AIRFLOWS}{suffix}");
            let sandbox = sandbox.with(&variable, how.as_str());
            let outcome = sandbox.run(&["scheduler"]);
            let known =
                if suffix == "_CMD" { format!(", fingerprint {}", fingerprint(&fetched)) } else { String::new() };
            outcome.succeeds().says(&format!("info: Fernet key: left to Airflow by `{variable}`{known}"));
            let seen = sandbox.seen("airflow-scheduler");
            outcome.same(seen.get(AIRFLOWS), None);
            outcome.same(seen.get(&variable), Some(&how));
            outcome.check(!sandbox.names("keys").contains(&"fernet.key".to_owned()), "it made a key");
            let text = sandbox.read("home/airflow.cfg");
            outcome.check(!text.contains("\nfernet_key ="), "a value would hide the command");
            let told = text.contains(&format!("\nfernet_key_cmd = {how}\n"));
            outcome.check(told == (suffix == "_CMD"), "a bare `airflow` must get it, too");
            // An alias must not become a variable that hides it; Airflow's own variable does, as with Airflow itself.
            let key = new_key();
            let outcome = sandbox.run_with("FERNET_KEY", &key, &["scheduler"]);
            outcome.succeeds().same(sandbox.variable("airflow-scheduler", AIRFLOWS), None);
            let outcome = sandbox.run_with(AIRFLOWS, &key, &["scheduler"]);
            outcome.succeeds().same(sandbox.variable("airflow-scheduler", AIRFLOWS), Some(key));
        }
    }
}

#[test]
fn x03_a_command_that_gives_no_key_stops_the_start() {
    let variable = "AIRFLOW__CORE__FERNET_KEY_CMD";
    let command_hint =
        "airflow-entrypoint: hint: Airflow runs it without a shell; it must print the value and end with 0\n";
    for (command, error, hint) in [
        ("false", format!("cannot get the Fernet key by `{variable}`: it ended with status 1"), command_hint),
        ("no-such-program x", format!("cannot get the Fernet key by `{variable}`: <any>"), command_hint),
        ("echo abc", format!("cannot use the Fernet key of `{variable}`: <any>"), "airflow-entrypoint: hint: <any>\n"),
    ] {
        let sandbox = Sandbox::new(V2).with(variable, command);
        let outcome = sandbox.run(&["scheduler"]);
        outcome.fails(78, &format!("airflow-entrypoint: error: {error}\n{hint}"));
        outcome.same(sandbox.calls(), vec![]).same(sandbox.names("keys"), vec![]);
    }
}

#[test]
fn k18_a_published_default_is_replaced() {
    for (version, variable) in [(V2, "AIRFLOW__WEBSERVER__SECRET_KEY"), (V3, "AIRFLOW__API__SECRET_KEY")] {
        for value in ["temporary_key", "this is the secret key"] {
            let sandbox = Sandbox::new(version).with(variable, value);
            let outcome = sandbox.run(&["scheduler"]);
            outcome.succeeds().says(&format!(
                "warning: `{variable}` holds a published default, which protects nothing; it is not used"
            ));
            let made = sandbox.read("keys/web_secret.key");
            outcome.same(sandbox.variable("airflow-scheduler", variable).as_deref(), Some(made.trim_end()));
            outcome.check(made.len() == 87, "it made none");
        }
        // The control.
        let sandbox = Sandbox::new(version).with(variable, "my own");
        let outcome = sandbox.run(&["scheduler"]);
        let shown = text_fingerprint(b"my own");
        outcome.succeeds().says(&format!("info: web secret: from `{variable}`, fingerprint {shown}"));
        outcome.same(sandbox.variable("airflow-scheduler", variable).as_deref(), Some("my own"));
    }
}
