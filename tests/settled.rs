//! A key is changed while a service starts: it does not run with one that is no longer that of the file, and it waits for who changes one.

use std::fs::{self, File};
use std::io::Write;

use nix::sys::stat::Mode;

use crate::outcome::Outcome;
use crate::running::Running;
use crate::sandbox::{Sandbox, V3, fingerprint, new_key};

const FILE: &str = "keys/fernet.key";

/// A service whose packages are being installed until it is told to go on.
fn started(keys: &str) -> (Sandbox, Running) {
    let sandbox = Sandbox::new(V3).with("ENTRYPOINT_MIGRATE", "false");
    sandbox.write(FILE, format!("{keys}\n"));
    sandbox.write("requirements.txt", "flask\n");
    nix::unistd::mkfifo(&sandbox.path("pipe"), Mode::S_IRWXU).unwrap();
    sandbox.behave("pip-install", &format!("read line < {}\n", sandbox.text("pipe")));
    let running = sandbox.start(&["scheduler"]);
    running.until_stderr("install the requirements");
    (sandbox, running)
}

fn goes_on(sandbox: &Sandbox) {
    writeln!(File::options().write(true).open(sandbox.path("pipe")).unwrap(), "on").unwrap();
}

/// The file has this content, from one moment to the next.
fn replaced(sandbox: &Sandbox, keys: &str) {
    fs::write(sandbox.path("next"), format!("{keys}\n")).unwrap();
    fs::rename(sandbox.path("next"), sandbox.path(FILE)).unwrap();
}

#[track_caller]
fn is_refused(outcome: &Outcome, sandbox: &Sandbox, ours: &str, now: &str) {
    let path = sandbox.text(FILE);
    outcome.fails(
        69,
        &format!(
            "<lines>airflow-entrypoint: error: cannot go on with the Fernet key `{ours}`: `{path}` holds `{now}`, since somebody has changed \
             it during this start\nairflow-entrypoint: hint: start the container again\n"
        ),
    );
    outcome.check(!sandbox.calls().contains(&"airflow scheduler".to_owned()), "it was started");
}

#[test]
fn k10_a_start_finds_out_that_the_key_was_changed_meanwhile() {
    for verb in ["stage", "rotate"] {
        let key = new_key();
        let (sandbox, running) = started(&key);
        // Both as in other containers, which have nothing to install.
        sandbox.run_with("ENTRYPOINT_REQUIREMENTS", "/none", &["scheduler", "-n", "1"]).succeeds();
        let outcome = sandbox.run_with("ENTRYPOINT_REQUIREMENTS", "/none", &["key", verb]);
        if verb == "rotate" {
            // There is no database yet to rotate in.
            outcome.same(outcome.code(), 69);
            replaced(&sandbox, &format!("{},{key}", new_key()));
        } else {
            outcome.succeeds();
        }
        goes_on(&sandbox);
        let now: Vec<_> = sandbox.read(FILE).trim_end().split(',').map(fingerprint).collect();
        is_refused(&running.finish(), &sandbox, &fingerprint(&key), &now.join(","));
        // The second start is content.
        sandbox.run_with("ENTRYPOINT_REQUIREMENTS", "/none", &["scheduler"]).succeeds();
    }
}

#[test]
fn k10_what_does_no_harm_is_no_reason_to_stop() {
    let [old, new] = [new_key(), new_key()];
    let both = format!("{new},{old}");
    let turned = format!("{old},{new}");
    for (ours, now, goes) in [
        (&both, &both, true),
        (&both, &new, true),
        (&both, &old, false),
        (&both, &turned, false),
        (&turned, &old, true),
        (&old, &turned, false),
        (&old, &new, false),
    ] {
        let (sandbox, running) = started(ours);
        replaced(&sandbox, now);
        goes_on(&sandbox);
        let outcome = running.finish();
        outcome.same(outcome.code(), if goes { 0 } else { 69 });
        outcome.same(sandbox.calls().contains(&"airflow scheduler".to_owned()), goes);
    }
}

#[test]
fn k10_a_start_waits_for_who_changes_the_keys() {
    let key = new_key();
    let (sandbox, running) = started(&key);
    let folder = File::open(sandbox.path("keys")).unwrap();
    folder.lock().unwrap();
    goes_on(&sandbox);
    running.until_stderr(&format!("info: waiting for somebody who changes what is in `{}`\n", sandbox.text("keys")));
    let both = format!("{},{key}", new_key());
    replaced(&sandbox, &both);
    folder.unlock().unwrap();
    let now: Vec<_> = both.split(',').map(fingerprint).collect();
    is_refused(&running.finish(), &sandbox, &fingerprint(&key), &now.join(","));

    // Nobody waits for ever who did not ask for it; and a program that is no service does not wait.
    let sandbox = Sandbox::new(V3).with("ENTRYPOINT_MIGRATE", "false").with("ENTRYPOINT_WAIT_TIMEOUT", "1s");
    sandbox.write(FILE, format!("{key}\n"));
    let folder = File::open(sandbox.path("keys")).unwrap();
    folder.lock().unwrap();
    sandbox.run(&["mycmd"]).succeeds();
    sandbox.run(&["scheduler"]).fails(
        69,
        &format!(
            "<lines>airflow-entrypoint: error: cannot go on with the keys in `{}`: another process still changes them after <s> s\n\
             airflow-entrypoint: hint: start the container again when that has ended\n",
            sandbox.text("keys")
        ),
    );
    sandbox.run_with("ENTRYPOINT_WAIT_TIMEOUT", "off", &["scheduler"]).succeeds();
    // The control.
    folder.unlock().unwrap();
    sandbox.run(&["scheduler"]).succeeds();
}
