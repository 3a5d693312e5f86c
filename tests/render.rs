//! The verb `render-cfg`: the file as it would be written, without what must not be seen, and nothing written.

use crate::sandbox::{LINES, Sandbox, V2, V3, new_key};

fn celery(version: &str, key: &str) -> Sandbox {
    Sandbox::new(version)
        .with("EXECUTOR", "Celery")
        .with("FERNET_KEY", key)
        .with("POSTGRES_PASSWORD", "p%d")
        .with("REDIS_PASSWORD", "r$d")
        .with("ENTRYPOINT_WAIT_TIMEOUT", "off")
}

#[test]
fn e10_what_is_rendered_is_what_is_written() {
    for version in LINES {
        let key = new_key();
        let sandbox = celery(version, &key);
        sandbox.write("keys/web_secret.key", "web-secret\n");
        sandbox.write("keys/jwt_secret.key", "jwt-secret\n");
        let shown = sandbox.run(&["render-cfg", "--show-secrets", "scheduler"]);
        shown.succeeds().same((sandbox.names("home"), sandbox.calls()), (vec![], vec![]));
        let hidden = sandbox.run(&["render-cfg", "scheduler"]);
        hidden.succeeds().same(hidden.stderr.as_str(), "");
        let secrets = [&*key, "p%25", "r%24", "p%%25d", "web-secret", "jwt-secret"];
        assert!(secrets.iter().all(|secret| !hidden.stdout.contains(secret)), "{hidden:?}");
        assert!(
            hidden.stdout.contains("fernet_key = ***\n") && hidden.stdout.contains("://:***@redis:6379/1"),
            "{hidden:?}"
        );
        // Line by line the same file.
        hidden.same(hidden.stdout.lines().count(), shown.stdout.lines().count());
        sandbox.run(&["scheduler"]).succeeds();
        let written = sandbox.read("home/airflow.cfg");
        let first = format!("# {}\n", sandbox.text("home/airflow.cfg"));
        let body = |text: &str| text.split_once('\n').unwrap().1.to_owned();
        assert!(shown.stdout.starts_with(&first), "{shown:?}");
        shown.same(body(&shown.stdout), body(&written));
    }
}

/// What is not made yet has a place in the text all the same, and is not made for it.
#[test]
fn a_secret_that_is_not_there_yet() {
    let sandbox = Sandbox::new(V3);
    for arguments in [&["render-cfg"][..], &["render-cfg", "--show-secrets"], &["render-cfg", "version"]] {
        let outcome = sandbox.run(arguments);
        outcome.succeeds().same(sandbox.names("keys"), vec![]);
        assert!(!outcome.stdout.contains("fernet_key = \n"), "{outcome:?}");
    }
    assert!(sandbox.run(&["render-cfg"]).stdout.contains("jwt_secret = ***\n"));
}

#[test]
fn a_template_of_the_users_and_a_file_of_the_users() {
    let sandbox =
        celery(V2, &new_key()).with_path("ENTRYPOINT_TEMPLATE", "own.cfg").with("SMTP_PASSWORD", "smtp-secret");
    sandbox.write(
        "own.cfg",
        "[smtp]\nsmtp_password = ${SMTP_PASSWORD}\nsmtp_user = literal\n[x]\nurl = amqp://u:literal-secret@h//\n",
    );
    let outcome = sandbox.run(&["render-cfg"]);
    outcome.succeeds().check(
        outcome.stdout.ends_with("[smtp]\nsmtp_password = ***\nsmtp_user = literal\n[x]\nurl = amqp://u:***@h//\n"),
        "hidden",
    );
    let outcome = sandbox.run(&["render-cfg", "--show-secrets"]);
    outcome.succeeds().check(outcome.stdout.contains("smtp_password = smtp-secret\n"), "shown");
    sandbox.write("home/airflow.cfg", "[core]\n");
    sandbox.run(&["render-cfg"]).fails(
        78,
        &format!(
            "airflow-entrypoint: error: cannot render `{}`: it is your own, and stays as it is\nairflow-entrypoint: hint: move it away to have one rendered\n",
            sandbox.text("home/airflow.cfg")
        ),
    );
}
