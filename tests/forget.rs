//! What no key reads is forgotten when somebody says so, and nothing else is: on PostgreSQL, MariaDB and SQLite.

use std::io::PipeWriter;
use std::process::{Command, Stdio};

use fernet::Fernet;

use crate::outcome::{Outcome, is_like};
use crate::running::Running;
use crate::sandbox::{Sandbox, V1, V2, V3, fingerprint, key_mode, new_key};
use crate::verdict::{Place, places, servers};

pub(crate) const FORGET: [&str; 3] = ["key", "forget-unreadable", "--yes"];
const FILE: &str = "keys/fernet.key";
/// What `FORGET` says of a `lost` deployment of Airflow 2.
pub(crate) const LISTING: &str = "connection `lost`: password, extra\nconnection `half`: password\nconnection `pass`: password\ntrigger `3`: kwargs\n\
    variable `lost`: val\nvariable `odd\\nname`: val\n";

pub(crate) fn token(key: &str, text: &str) -> String {
    Fernet::new(key).unwrap().encrypt(text.as_bytes())
}

/// A deployment whose key is in the file, with rows of a key that is lost.
pub(crate) struct Deployment<'p> {
    pub(crate) place: &'p Place<'p>,
    pub(crate) sandbox: Sandbox,
    version: &'static str,
    pub(crate) key: String,
    pub(crate) lost: String,
    /// How many values the key reads.
    values: usize,
    /// The rows that it reads, and the same with the others once these are forgotten.
    kept: Vec<String>,
    pub(crate) forgotten: Vec<String>,
}

impl<'p> Deployment<'p> {
    pub(crate) fn new(place: &'p Place<'p>, version: &'static str) -> Self {
        let (sandbox, key, lost) = (place.sandbox(version), new_key(), new_key());
        sandbox.write(FILE, format!("{key}\n"));
        std::fs::set_permissions(sandbox.path(FILE), std::os::unix::fs::PermissionsExt::from_mode(key_mode())).unwrap();
        let values = place.fill(&sandbox, version, &key);
        let mut deployment = Self { place, sandbox, version, key, lost, values, kept: vec![], forgotten: vec![] };
        deployment.kept = deployment.rows();
        deployment.lose();
        deployment
    }

    /// Adds what the lost key has encrypted.
    pub(crate) fn lose(&mut self) {
        let (lost, ours) = (|| format!("'{}'", token(&self.lost, "x")), token(&self.key, "{}"));
        let connection = |id: &str, password: &str, extra: &str, flag: &str| {
            format!(
                "INSERT INTO connection (conn_id, conn_type, password, extra, is_encrypted, is_extra_encrypted) \
                 VALUES ('{id}', 'http', {password}, {extra}, TRUE, {flag})"
            )
        };
        let mut all = vec![
            connection("lost", &lost(), &lost(), "TRUE"),
            connection("half", &lost(), &format!("'{ours}'"), "TRUE"),
            connection("pass", &lost(), "'{}'", "FALSE"),
        ];
        let mut forgotten = vec![
            "lost none none no no".to_owned(),
            format!("half none {ours} no yes"),
            "pass none {} no no".to_owned(),
        ];
        if self.version != V1 {
            let trigger = self.place.quoted("trigger");
            all.push(format!("INSERT INTO {trigger} (classpath, kwargs) VALUES ('lost', {})", lost()));
            forgotten.push(
                "lost {\"__type\": \"dict\", \"__var\": {\"forgotten_since_no_fernet_key_read_it\": true}}".into(),
            );
        }
        if self.version == V3 {
            let request = "INSERT INTO connection_test_request VALUES";
            all.push(format!("{request} ('2', 'lost', {}, {}, TRUE, TRUE, 'running', 'lost', NULL)", lost(), lost()));
            all.push(format!("{request} ('3', 'half', {}, '{ours}', TRUE, TRUE, 'success', NULL, 'fine')", lost()));
            forgotten.push("lost none none no no failed none No Fernet key read its password or extra.".to_owned());
            forgotten.push(format!("half none {ours} no yes success none fine"));
        }
        let key = self.place.quoted("key");
        all.extend(["lost", "odd\nname"].map(|name| {
            format!("INSERT INTO variable ({key}, val, is_encrypted) VALUES ('{name}', {}, TRUE)", lost())
        }));
        self.place.sql(&self.sandbox, &all.join("; "));
        let rows = self.kept.iter().cloned().chain(forgotten.iter().map(|row| plain(row)));
        self.forgotten = rows.collect();
        self.forgotten.sort();
    }

    /// Has those rows once more, once they have been forgotten.
    pub(crate) fn lose_again(&mut self) {
        let trigger = self.place.quoted("trigger");
        self.place.sql(
            &self.sandbox,
            &format!(
                "DELETE FROM connection WHERE conn_id IN ('lost', 'half', 'pass'); DELETE FROM {trigger} WHERE classpath = 'lost'; \
                 DELETE FROM connection_test_request WHERE id <> '1'"
            ),
        );
        self.lose();
    }

    /// Every row of every table, in the same form for all databases.
    pub(crate) fn rows(&self) -> Vec<String> {
        let or_none = |column: &str| format!("COALESCE({column}, 'none')");
        let flag = |name: &str| format!("CASE WHEN {name} IS NULL THEN 'none' WHEN {name} THEN 'yes' ELSE 'no' END");
        let (encrypted, extra_encrypted) = (flag("is_encrypted"), flag("is_extra_encrypted"));
        let flagged = format!("{}, {}, {encrypted}, {extra_encrypted}", or_none("password"), or_none("extra"));
        let key = self.place.quoted("key");
        let mut all = vec![
            format!("SELECT conn_id, {flagged} FROM connection"),
            format!("SELECT {key}, {}, {encrypted} FROM variable", or_none("val")),
        ];
        if self.version != V1 {
            all.push(format!("SELECT classpath, kwargs FROM {}", self.place.quoted("trigger")));
        }
        if self.version == V3 {
            let more = ["state", "active_connection_id", "result_message"].map(or_none).join(", ");
            all.push(format!("SELECT connection_id, {flagged}, {more} FROM connection_test_request"));
        }
        let mut rows: Vec<_> = self.place.sql(&self.sandbox, &all.join("; ")).lines().map(plain).collect();
        rows.sort();
        rows
    }

    /// How many values are lost.
    pub(crate) fn lost_values(&self) -> usize {
        self.rows().iter().flat_map(|row| row.split(' ')).filter(|word| self.is_lost(word)).count()
    }

    fn is_lost(&self, word: &str) -> bool {
        word.starts_with("gAAAAA") && Fernet::new(&self.lost).unwrap().decrypt(word).is_ok()
    }

    #[track_caller]
    pub(crate) fn is_unchanged_after(&self, before: &[String], outcome: &Outcome) {
        outcome.check(self.rows() == before, "something was changed");
    }

    /// All is forgotten, and everything else is as it was.
    #[track_caller]
    pub(crate) fn is_forgotten(&self, outcome: &Outcome) {
        outcome.same(self.rows(), self.forgotten.clone());
    }

    /// At a terminal that we type at.
    pub(crate) fn at_terminal(&self, words: &[&str]) -> (Running, PipeWriter) {
        let program = self.sandbox.command(words);
        let mut command = Command::new("sh");
        command.args(["-c", "exec script -qec \"$*\" /dev/null", "sh"]).arg(program.get_program());
        command.args(program.get_args()).env_clear();
        command.envs(program.get_envs().filter_map(|(name, value)| Some((name, value?)))).env("SHELL", "/bin/sh");
        let (reader, writer) = std::io::pipe().unwrap();
        (self.sandbox.start_with_input(command, Stdio::from(reader)), writer)
    }
}

/// Without the signs by which one client or another parts columns.
fn plain(row: &str) -> String {
    let row = row.replace(['(', ')', '\'', ',', '\t'], " ");
    row.split(' ').filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
}

#[test]
fn k10_what_no_key_reads_is_forgotten_and_nothing_else() {
    let servers = servers();
    for version in [V1, V2, V3] {
        for place in places(&servers, &format!("forgot{}", version.replace('.', "_"))) {
            let deployment = Deployment::new(&place, version);
            let values = deployment.lost_values();
            let (triggers, tests) = (version != V1, version == V3);
            let line = |is_there: bool, line: &'static str| if is_there { line } else { "" };
            let outcome = deployment.sandbox.run(&FORGET);
            let listing = LISTING.replace("trigger `3`: kwargs\n", line(triggers, "trigger `3`: kwargs\n"));
            let tested = "connection_test_request `lost`: password, extra\nconnection_test_request `half`: password\n";
            outcome.succeeds().same(
                outcome.stdout.clone(),
                listing.replace("`pass`: password\n", &format!("`pass`: password\n{}", line(tests, tested))),
            );
            let said = format!(
                "<lines>airflow-entrypoint: warning: no key of `{}` reads {values} encrypted values:\n\
                 airflow-entrypoint: info: Fernet key: {values} encrypted values forgotten, all others are as they were\n\
                 airflow-entrypoint: info: connections that need a new password: `lost`, `half`, `pass`\n\
                 airflow-entrypoint: info: connections that need a new extra: `lost`\n\
                 airflow-entrypoint: info: variables to set anew: `lost`, `odd\\nname`\n{}{}",
                fingerprint(&deployment.key),
                line(triggers, "airflow-entrypoint: info: triggers whose tasks fail: `3`\n"),
                line(tests, "airflow-entrypoint: info: connection tests to repeat: `lost`, `half`\n")
            );
            outcome.check(is_like(&outcome.stderr, &said), &said);
            deployment.is_forgotten(&outcome);
            // Nothing is left to be forgotten, nor in the way of a rotation.
            let read = deployment.values + if tests { 2 } else { 1 };
            let again = deployment.sandbox.run(&["key", "forget-unreadable"]);
            again.succeeds().same(again.stdout.as_str(), "").says(&format!(
                "info: Fernet key: nothing to forget: {read} encrypted values in the database, and `{}` reads all",
                fingerprint(&deployment.key)
            ));
            deployment.is_forgotten(&again);
            deployment.sandbox.run(&["key", "rotate"]).succeeds();
        }
    }
}

#[test]
fn nothing_is_forgotten_unasked() {
    let servers = servers();
    for place in places(&servers, "unasked") {
        let deployment = Deployment::new(&place, V2);
        let before = deployment.rows();
        let outcome = deployment.sandbox.run(&["key", "forget-unreadable"]);
        outcome.fails(
            64,
            &format!(
                "<lines>airflow-entrypoint: warning: no key of `{}` reads 7 encrypted values:\nairflow-entrypoint: error: cannot ask whether \
                 to forget 7 encrypted values, since there is no terminal: expected `--yes`\nairflow-entrypoint: hint: \
                 `airflow-entrypoint --help` lists the commands\n",
                fingerprint(&deployment.key)
            ),
        );
        outcome.same(outcome.stdout.as_str(), LISTING);
        deployment.is_unchanged_after(&before, &outcome);
    }
}
