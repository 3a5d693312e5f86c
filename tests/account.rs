//! The account of `_AIRFLOW_WWW_USER_CREATE`, with real Airflows and databases.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use crate::databases::{Database, Kind};
use crate::outcome::Outcome;
use crate::prepared::{Ready, copy};
use crate::running::Running;
use crate::sandbox::{Sandbox, V1, V2, V3};

const PATIENCE: Duration = Duration::from_secs(120);
const FAB: &str = "airflow.providers.fab.auth_manager.fab_auth_manager.FabAuthManager";
/// Says whether passwords are those of accounts: by the function that Airflow's log-in calls.
const FITS: &str = r#"
import sqlite3
from werkzeug.security import check_password_hash
rows = sqlite3.connect(q["file"]).execute("SELECT password FROM ab_user WHERE username = ?", [q["name"]]).fetchall()
print(json.dumps([check_password_hash(rows[0][0], p) for p in q["passwords"]]))
"#;
/// The accounts: name, e-mail address, first and last name, role.
const ACCOUNTS: &str = "SELECT u.username, u.email, u.first_name, u.last_name, r.name FROM ab_user u LEFT JOIN ab_user_role x \
    ON x.user_id = u.id LEFT JOIN ab_role r ON r.id = x.role_id ORDER BY u.username, r.name";

/// The database as an Airflow migrates it for its manager of accounts.
fn ready(version: &'static str) -> Ready {
    if version == V3 { Ready::with_manager(version, FAB) } else { Ready::new(version) }
}

/// A container of a real Airflow that asks for an account, in front of this server or of SQLite; none where it is not installed. The
/// database is at its head and has no account.
fn airflow(version: &'static str, database: Option<&Database>) -> Option<(Sandbox, PathBuf)> {
    let venv = crate::referee::venv(&format!("airflow-{version}"), version != V1)?;
    let sandbox = Sandbox::new("")
        .with("PATH", format!("{}:/usr/bin:/bin", venv.join("bin").display()))
        .with_path("HOME", "home")
        .with("AIRFLOW__CORE__UNIT_TEST_MODE", "False")
        .with("_AIRFLOW_WWW_USER_CREATE", "true")
        .with("_AIRFLOW_WWW_USER_PASSWORD", "the first %$'\" pässword");
    let sandbox = match version {
        V1 => sandbox.with("AIRFLOW__WEBSERVER__RBAC", "True"),
        V3 => sandbox.with("AIRFLOW__CORE__AUTH_MANAGER", FAB),
        _ => sandbox,
    };
    let sandbox = match database {
        Some(database) => {
            sandbox.with("EXECUTOR", "Local").with("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", database.url("airflow"))
        }
        None => {
            ready(version).with(None, |kept| copy(&kept.join("airflow.db"), &sandbox.path("home")));
            sandbox
        }
    };
    Some((sandbox, venv))
}

fn setup(sandbox: &Sandbox) -> Outcome {
    sandbox.start(&["setup"]).finish_within(PATIENCE)
}

/// The rows of a query of the SQLite database, as text.
fn rows(sandbox: &Sandbox, sql: &str) -> String {
    let program =
        "import sqlite3, sys\nfor row in sqlite3.connect(sys.argv[1]).execute(sys.argv[2]): print(*row, sep='|')";
    let output = Command::new("python3").args(["-c", program, &sandbox.text("home/airflow.db"), sql]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Whether each of these is the password of the account.
fn fit(sandbox: &Sandbox, venv: &std::path::Path, name: &str, passwords: &[&str]) -> serde_json::Value {
    let file = sandbox.text("home/airflow.db");
    crate::referee::ask(venv, FITS, &serde_json::json!({"file": file, "name": name, "passwords": passwords}))
}

/// The programs that a start ran, ours included.
fn programs(sandbox: &Sandbox) -> String {
    let log = sandbox.text("strace");
    let ours = sandbox.command(&["setup"]);
    let mut all = Command::new("strace");
    all.args(["-f", "-qq", "-e", "trace=execve", "-e", "signal=none", "-o", &log]);
    all.arg(ours.get_program()).args(ours.get_args()).env_clear().current_dir(sandbox.path(""));
    all.envs(ours.get_envs().filter_map(|(name, value)| Some((name, value?))));
    sandbox.start_command(all).finish_within(PATIENCE).succeeds();
    sandbox.read("strace").lines().filter(|line| line.ends_with("= 0")).map(|line| format!("{line}\n")).collect()
}

fn the_life_of_an_account(version: &'static str) {
    let Some((mut sandbox, venv)) = airflow(version, None) else { return };
    // The first start makes the schema too, and on Airflow 3 the tables of the accounts with it.
    std::fs::remove_file(sandbox.path("home/airflow.db")).unwrap();
    // U07: one whose name has the other in it.
    sandbox.set("_AIRFLOW_WWW_USER_USERNAME", "superadmin");
    sandbox.set("_AIRFLOW_WWW_USER_EMAIL", "super@example.com");
    let outcome = setup(&sandbox);
    outcome.succeeds().says("info: create the account `superadmin`, if there is none of that name");

    // U02: nothing runs for what cannot be done.
    sandbox.set("_AIRFLOW_WWW_USER_USERNAME", "-admin %$'\" ä");
    let error = "cannot give the account `-admin %$'\" ä` the e-mail address `super@example.com`: it is that of the account `superadmin`";
    let hint = "set `_AIRFLOW_WWW_USER_EMAIL` to another one";
    let lines = format!("<lines>airflow-entrypoint: error: {error}\nairflow-entrypoint: hint: {hint}\n");
    setup(&sandbox).fails(78, &lines);
    sandbox.set("_AIRFLOW_WWW_USER_EMAIL", "admin@example.com");
    sandbox.set("_AIRFLOW_WWW_USER_ROLE", "Admn");
    let error = "cannot give the account `-admin %$'\" ä` the role `Admn`: there is none of that name";
    let hint = "set `_AIRFLOW_WWW_USER_ROLE` to one of `Admin`, `Op`, `Public`, `User`, `Viewer`";
    let lines = format!("<lines>airflow-entrypoint: error: {error}\nairflow-entrypoint: hint: {hint}\n");
    setup(&sandbox).fails(78, &lines);
    let first = "superadmin|super@example.com|Airflow|Admin|Admin\n";
    assert_eq!(rows(&sandbox, ACCOUNTS), first);

    sandbox.set("_AIRFLOW_WWW_USER_ROLE", "Admin");
    let outcome = setup(&sandbox);
    outcome.succeeds().says("info: create the account `-admin %$'\" ä`, if there is none of that name");
    let mine = "-admin %$'\" ä|admin@example.com|Airflow|Admin|Admin\n";
    outcome.same(rows(&sandbox, ACCOUNTS), format!("{mine}{first}"));
    // U01: no other program runs, by which the password would be read or the account made.
    let seen = programs(&sandbox);
    assert_eq!(seen.lines().count(), 1, "{seen}");

    // U06: another password is nothing by itself, and one that is asked for.
    let passwords = ["the first %$'\" pässword", "the second"];
    sandbox.set("_AIRFLOW_WWW_USER_PASSWORD", passwords[1]);
    sandbox.set("_AIRFLOW_WWW_USER_ROLE", "Op");
    let outcome = setup(&sandbox);
    outcome.succeeds().says("info: the account `-admin %$'\" ä` exists");
    outcome.same(fit(&sandbox, &venv, "-admin %$'\" ä", &passwords), serde_json::json!([true, false]));
    sandbox.set("ENTRYPOINT_USER_MODE", "sync");
    sandbox.set("_AIRFLOW_WWW_USER_FIRSTNAME", "O'Neil");
    let outcome = setup(&sandbox);
    outcome
        .succeeds()
        .says("info: the account `-admin %$'\" ä` exists; updated: password, role, name or e-mail address");
    outcome.same(fit(&sandbox, &venv, "-admin %$'\" ä", &passwords), serde_json::json!([false, true]));
    let mine = "-admin %$'\" ä|admin@example.com|O'Neil|Admin|Op\n";
    outcome.same(rows(&sandbox, ACCOUNTS), format!("{mine}{first}"));
    let hash = rows(&sandbox, "SELECT password, changed_on FROM ab_user");
    let outcome = setup(&sandbox);
    outcome.succeeds().says("info: the account `-admin %$'\" ä` exists");
    outcome.same(rows(&sandbox, "SELECT password, changed_on FROM ab_user"), hash);
    // What Airflow itself wrote is compared too.
    sandbox.set("_AIRFLOW_WWW_USER_USERNAME", "superadmin");
    sandbox.set("_AIRFLOW_WWW_USER_PASSWORD", passwords[0]);
    sandbox.set("_AIRFLOW_WWW_USER_FIRSTNAME", "Airflow");
    sandbox.set("_AIRFLOW_WWW_USER_EMAIL", "super@example.com");
    sandbox.set("_AIRFLOW_WWW_USER_ROLE", "Admin");
    setup(&sandbox).succeeds().says("info: the account `superadmin` exists");
}

#[test]
fn u01_u02_u06_u07_the_life_of_an_account_on_airflow_2() {
    the_life_of_an_account(V2);
}

#[test]
fn u01_u02_u06_u07_the_life_of_an_account_on_airflow_3() {
    the_life_of_an_account(V3);
}

#[test]
fn u01_airflow_1_keeps_accounts_with_rbac_alone() {
    let Some((mut sandbox, venv)) = airflow(V1, None) else { return };
    setup(&sandbox).succeeds().says("info: create the account `admin`, if there is none of that name");
    assert_eq!(rows(&sandbox, ACCOUNTS), "admin|airflowadmin@example.com|Airflow|Admin|Admin\n");
    setup(&sandbox).succeeds().says("info: the account `admin` exists");
    sandbox.set("ENTRYPOINT_USER_MODE", "sync");
    sandbox.set("_AIRFLOW_WWW_USER_PASSWORD", "another");
    setup(&sandbox).succeeds().says("info: the account `admin` exists; updated: password");
    assert_eq!(fit(&sandbox, &venv, "admin", &["another"]), serde_json::json!([true]));

    let sandbox = sandbox.without("AIRFLOW__WEBSERVER__RBAC").with("_AIRFLOW_WWW_USER_USERNAME", "other");
    let sandbox = sandbox.with("_AIRFLOW_WWW_USER_EMAIL", "other@example.com");
    std::fs::remove_file(sandbox.path("home/webserver_config.py")).unwrap();
    let error = "cannot create the account `other`: `airflow create_user ...` ended with status 0, and there is no such account";
    let hint =
        "Airflow 1.10 keeps accounts with `AIRFLOW__WEBSERVER__RBAC=True` alone; else look at what the command said";
    let lines = format!("<lines>airflow-entrypoint: error: {error}\nairflow-entrypoint: hint: {hint}\n");
    setup(&sandbox).fails(78, &lines);
}

/// Several start at once on a database without accounts; then the account becomes another.
fn one_account(version: &'static str, kind: Kind, starters: usize) {
    if crate::referee::venv(&format!("airflow-{version}"), true).is_none() {
        return;
    }
    let Some(database) = Database::ready(kind, ready(version)) else { return };
    let Some((mut sandbox, _)) = airflow(version, Some(&database)) else { return };
    let all: Vec<Running> = (0..starters).map(|_| sandbox.start(&["setup"])).collect();
    let all: Vec<_> = all.into_iter().map(|running| running.finish_within(PATIENCE)).collect();
    let creates = |outcome: &&Outcome| outcome.stderr.contains("info: create the account `admin`");
    assert_eq!(all.iter().filter(creates).count(), 1);
    let exists = "info: the account `admin` exists\n";
    assert_eq!(all.iter().filter(|outcome| outcome.succeeds().stderr.contains(exists)).count(), starters - 1);
    let accounts = || database.sql(Some("airflow"), ACCOUNTS);
    assert_eq!(accounts(), "admin\tairflowadmin@example.com\tAirflow\tAdmin\tAdmin\n");
    sandbox.set("ENTRYPOINT_USER_MODE", "sync");
    setup(&sandbox).succeeds().says("info: the account `admin` exists");
    sandbox.set("_AIRFLOW_WWW_USER_ROLE", "Viewer");
    sandbox.set("_AIRFLOW_WWW_USER_PASSWORD", "another");
    setup(&sandbox).succeeds().says("info: the account `admin` exists; updated: password, role");
    assert_eq!(accounts(), "admin\tairflowadmin@example.com\tAirflow\tAdmin\tViewer\n");
}

#[test]
fn u01_one_of_several_creates_the_account_on_postgresql() {
    one_account(V3, Kind::Postgres, 10);
}

#[test]
fn u01_one_of_several_creates_the_account_on_mariadb() {
    if crate::migrate_airflow::speaks_mariadb(V2) {
        one_account(V2, Kind::MariaDb, 2);
    }
}

#[test]
fn u03_the_simple_login_of_a_real_airflow_takes_the_password() {
    const LOGIN: &str = r#"
from fastapi import HTTPException
from airflow.api_fastapi.auth.managers.simple.datamodels.login import LoginBody
from airflow.api_fastapi.auth.managers.simple.simple_auth_manager import SimpleAuthManager
from airflow.api_fastapi.auth.managers.simple.services.login import SimpleAuthManagerLogin
from airflow.api_fastapi import app
app.init_auth_manager()
for password in q:
    try: print("token" if SimpleAuthManagerLogin.create_token(LoginBody(username="admin", password=password)) else "none")
    except HTTPException as refused: print(refused.status_code)
"#;
    let Some((sandbox, _)) = airflow(V3, None) else { return };
    let mut sandbox = sandbox.without("AIRFLOW__CORE__AUTH_MANAGER");
    let first = "the first %$'\" pässword";
    let log_in = |sandbox: &Sandbox| {
        let program = format!("import json\nq = {}\n{LOGIN}", serde_json::json!([first, "another"]));
        let outcome = sandbox.start(&["python", "-c", &program]).finish_within(PATIENCE);
        outcome.succeeds().stdout.lines().rev().take(2).map(str::to_owned).collect::<Vec<_>>()
    };
    // Another program than Airflow's has no account made for it, and is told the same.
    sandbox.set("AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS", "admin:admin");
    let path = sandbox.text("keys/simple_auth_manager_passwords.json");
    sandbox.set("AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE", path);
    setup(&sandbox).succeeds();
    assert_eq!(log_in(&sandbox), ["401", "token"]);
    sandbox.set("ENTRYPOINT_USER_MODE", "sync");
    sandbox.set("_AIRFLOW_WWW_USER_PASSWORD", "another");
    setup(&sandbox).succeeds().says("info: the account `admin` exists; updated: password");
    assert_eq!(log_in(&sandbox), ["token", "401"]);
}

#[test]
fn u03_a_login_whose_provider_is_missing_says_which_to_install() {
    let sandbox = Sandbox::new(V3)
        .with("AIRFLOW__CORE__AUTH_MANAGER", FAB)
        .with("_AIRFLOW_WWW_USER_CREATE", "true")
        .with("_AIRFLOW_WWW_USER_PASSWORD", "x");
    let package = "prefix/lib/python3.11/site-packages/airflow";
    sandbox.write(&format!("{package}/migrations/versions/0001_first.py"), crate::stage::migration("a1", "None"));
    let error = "cannot use the login `FabAuthManager`: its provider is not installed";
    let hint = "install `apache-airflow-providers-fab`, or unset `AIRFLOW__CORE__AUTH_MANAGER` for the simple login";
    let lines = format!("<lines>airflow-entrypoint: error: {error}\nairflow-entrypoint: hint: {hint}\n");
    sandbox.run(&["setup"]).fails(78, &lines).same(sandbox.calls(), vec![]);
    // The control: with it Airflow is asked.
    sandbox.write(&format!("{package}/providers/fab/__init__.py"), "");
    sandbox.run(&["setup"]);
    assert!(!sandbox.calls().is_empty());
}
