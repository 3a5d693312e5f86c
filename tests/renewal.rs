//! The web secret and the JWT secret are changed: in the key folder and in what is registered, and who has the old one is told.

use std::fs;

use crate::outcome::Outcome;
use crate::sandbox::{Sandbox, V2, V3, key_mode, new_key, text_fingerprint};
use crate::verdict::{Place, places, servers};

const WEB: &str = "keys/web_secret.key";
const JWT: &str = "keys/jwt_secret.key";
/// A folder that would not outlive a container: secrets follow from the Fernet key.
const NO_VOLUME: &str = "/dev/shm/airflow-entrypoint-none";

/// A deployment that has started once: its secrets are in the key folder and registered.
fn deployment(place: &Place<'_>, version: &str) -> Sandbox {
    let sandbox = place.sandbox(version);
    place.sql(&sandbox, "SELECT 1");
    sandbox.run(&["scheduler"]).succeeds();
    sandbox
}

fn print(sandbox: &Sandbox, file: &str) -> String {
    text_fingerprint(sandbox.read(file).trim_end().as_bytes())
}

fn registered(place: &Place<'_>, sandbox: &Sandbox) -> String {
    place.sql(sandbox, "SELECT fingerprint FROM airflow_entrypoint_secret ORDER BY kind")
}

/// The line of one that has been changed.
fn changed(sandbox: &Sandbox, kind: &str, file: &str, old: &str) -> String {
    let means = match kind {
        "web secret" => "restart all containers: one that has not been restarted shows no task logs to one that has",
        _ => {
            "restart all containers at once: logins and API tokens end, and tasks that run or are queued until then fail"
        }
    };
    let (new, path) = (print(sandbox, file), sandbox.text(file));
    format!("info: {kind}: `{new}` is in `{path}` now, in the place of `{old}`; {means}")
}

#[test]
fn other_secrets_are_rotated_too_and_the_next_start_is_content() {
    let servers = servers();
    for place in places(&servers, "renewed") {
        let sandbox = deployment(&place, V3);
        let all = ["keys/fernet.key", WEB, JWT];
        let old = all.map(|file| sandbox.read(file));
        let prints = [WEB, JWT].map(|file| print(&sandbox, file));
        let outcome = sandbox.run(&["key", "rotate", "--web"]);
        outcome.succeeds().says(&changed(&sandbox, "web secret", WEB, &prints[0]));
        let now = all.map(|file| sandbox.read(file));
        outcome.check(now[0] == old[0] && now[1] != old[1] && now[2] == old[2], "another secret was changed");
        outcome.same(now[1].len(), old[1].len()).same(sandbox.mode(WEB), key_mode());
        outcome.check(registered(&place, &sandbox).contains(&print(&sandbox, WEB)), "it is not registered");
        sandbox.run(&["scheduler"]).succeeds();

        let web = print(&sandbox, WEB);
        let outcome = sandbox.run(&["key", "rotate", "--web", "--jwt"]);
        outcome.succeeds().says(&changed(&sandbox, "web secret", WEB, &web));
        outcome.says(&changed(&sandbox, "JWT secret", JWT, &prints[1]));
        outcome.same(sandbox.read("keys/fernet.key"), old[0].clone());
        outcome.check(sandbox.read(WEB) != now[1] && sandbox.read(JWT) != old[2], "one of them is the old one");
        sandbox.run(&["scheduler"]).succeeds();
        // The control: one that has the old secret is refused.
        sandbox.write(WEB, &old[1]);
        let refused = sandbox.run(&["scheduler"]);
        refused.same(refused.code(), 65).says(&format!("error: cannot use the web secret `{}`: <any>", prints[0]));
        assert_eq!(sandbox.names("keys"), ["fernet.key", "jwt_secret.key", "web_secret.key"]);
    }
}

#[track_caller]
fn is_refused(outcome: &Outcome, status: i32, error: &str, hint: &str) {
    let text = format!("<lines>airflow-entrypoint: error: {error}\nairflow-entrypoint: hint: {hint}\n");
    outcome.fails(status, &text);
}

#[test]
fn a_secret_that_is_not_in_the_key_folder_is_not_changed() {
    let secrets = |sandbox: &Sandbox| {
        sandbox.names("keys").iter().map(|name| sandbox.read(&format!("keys/{name}"))).collect::<Vec<_>>()
    };
    let sandbox = deployment(&Place::Sqlite, V2);
    let before = secrets(&sandbox);
    // Not even the one that could be.
    let refused = sandbox.run(&["key", "rotate", "--web", "--jwt"]);
    is_refused(&refused, 78, "cannot change the JWT secret: Airflow 2.11.2 has none", "leave out its option");
    refused.same(secrets(&sandbox), before.clone());

    let variable = "AIRFLOW__WEBSERVER__SECRET_KEY";
    let refused = sandbox.run_with(variable, "mine", &["key", "rotate", "--web"]);
    let hint = |whose: &str| format!("make one with `openssl rand -hex 32` and set {whose} to it in all containers");
    let error = format!("cannot change the web secret: it comes from `{variable}`, so that only you can");
    is_refused(&refused, 78, &error, &hint(&format!("`{variable}`")));
    refused.same(secrets(&sandbox), before);

    fs::remove_file(sandbox.path(WEB)).unwrap();
    let refused = sandbox.run(&["key", "rotate", "--web"]);
    let error = format!("cannot change the web secret: there is none in `{}`", sandbox.text("keys"));
    is_refused(&refused, 78, &error, "`airflow-entrypoint key generate` makes one");
    refused.check(!sandbox.path(WEB).exists(), "one was made");

    let derived = Sandbox::new(V3).with("FERNET_KEY", new_key()).with("ENTRYPOINT_KEY_DIR", NO_VOLUME);
    let refused = derived.run(&["key", "rotate", "--jwt"]);
    let error = "cannot change the JWT secret: it follows from the Fernet key";
    is_refused(&refused, 78, error, &hint("`AIRFLOW__API_AUTH__JWT_SECRET`"));

    let refused = sandbox.run(&["key", "rotate", "--web", "--skip-unreadable"]);
    refused.same(refused.code(), 64);
}

#[test]
fn other_secrets_are_not_rotated_under_a_running_airflow() {
    let sandbox = deployment(&Place::Sqlite, V3);
    let statement = "CREATE TABLE job (id INTEGER, job_type VARCHAR(30), hostname VARCHAR(500), state VARCHAR(20), latest_heartbeat \
        TIMESTAMP); INSERT INTO job VALUES (1, 'SchedulerJob', 'one', 'running', strftime('%Y-%m-%d %H:%M:%f000', 'now'))";
    Place::Sqlite.sql(&sandbox, statement);
    let old = [WEB, JWT].map(|file| sandbox.read(file));
    let refused = sandbox.run(&["key", "rotate", "--jwt", "--web"]);
    let error = "cannot rotate the web secret and the JWT secret: Airflow runs (SchedulerJob on one)";
    is_refused(&refused, 69, error, "stop the deployment; `--force` rotates all the same");
    refused.same([WEB, JWT].map(|file| sandbox.read(file)), old.clone());
    let forced = sandbox.run(&["key", "rotate", "--jwt", "--web", "--force"]);
    forced
        .succeeds()
        .check([WEB, JWT].iter().zip(&old).all(|(file, old)| sandbox.read(file) != *old), "one is as it was");
}

/// The keys of a variable are rotated by hand, and the secrets that follow from the last of them change with it.
#[test]
fn what_follows_from_a_rotated_key_is_no_reason_to_stop() {
    let servers = servers();
    for place in places(&servers, "derived") {
        let (old, new) = (new_key(), new_key());
        let mut sandbox = place.sandbox(V3).with("ENTRYPOINT_KEY_DIR", NO_VOLUME).with("FERNET_KEY", old.clone());
        place.sql(&sandbox, "SELECT 1");
        sandbox.run(&["scheduler"]).succeeds();
        sandbox.set("FERNET_KEY", format!("{new},{old}"));
        let outcome = sandbox.run(&["scheduler"]);
        outcome.succeeds().check(!outcome.stderr.contains("follows from"), "it has not changed");
        // Told before it happens, too; and what keeps them.
        sandbox.run(&["key", "retire"]).succeeds().says(
            "warning: the web secret and the JWT secret follow from the last key of the list: logins and running tasks end when that is another \
             one, unless they are set before to what `airflow-entrypoint key export --as env` prints",
        );
        let kept = sandbox.run(&["key", "export", "--as", "env"]).stdout;
        let value = |name: &str| kept.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('=')).unwrap();
        let keeping = ["AIRFLOW__API__SECRET_KEY", "AIRFLOW__API_AUTH__JWT_SECRET"].map(|name| (name, value(name)));
        let mut command = sandbox.command(&["scheduler"]);
        command.envs(keeping).env("FERNET_KEY", &new);
        let outcome = sandbox.start_command(command).finish();
        outcome.succeeds().check(!outcome.stderr.contains("follows from"), "it has changed all the same");

        sandbox.set("FERNET_KEY", new.clone());
        let outcome = sandbox.run(&["scheduler"]);
        for kind in ["web", "JWT"] {
            outcome.succeeds().says(&format!(
                "warning: the {kind} secret follows from the last Fernet key, and has changed with it: `<any>`, where `<any>` (scheduler) has \
                 registered `<any>` at <time>; restart all containers together"
            ));
        }
        let outcome = sandbox.run(&["scheduler"]);
        outcome.succeeds().check(!outcome.stderr.contains("follows from"), "it is told again");
        // The control: with another key it is another deployment.
        sandbox.set("FERNET_KEY", new_key());
        let refused = sandbox.run(&["scheduler"]);
        refused.same(refused.code(), 65).says("error: cannot use the Fernet key `<any>`: <any>");
    }
}
