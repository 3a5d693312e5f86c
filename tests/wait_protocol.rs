//! Ready is what says so itself: a login to the database, PING to Redis, RabbitMQ's greeting. What time heals is waited for, what it does
//! not is said.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::databases::Database;
use crate::fakes::{Fake, Manner};
use crate::namespace::{isolated, present};
use crate::outcome::Outcome;
use crate::sandbox::{Sandbox, V2, new_key};

const CONN: &str = "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN";
const BROKER: &str = "AIRFLOW__CELERY__BROKER_URL";
/// A command that needs the database and migrates nothing.
pub(crate) const COMMAND: [&str; 2] = ["connections", "list"];
const CALL: &str = "airflow connections list";
const SERVER: &str = "it is there; its own log says more. `ENTRYPOINT_WAIT_TIMEOUT` sets how long to wait";
const NETWORK: &str =
    "is it running, and is it on this container's network? `ENTRYPOINT_WAIT_TIMEOUT` sets how long to wait";
const LOGIN: &str =
    "user and password must be the server's; images set them on an empty volume only, and keep the old ones on another";
const DATABASE: &str = "create it, or name the one that is there; images create theirs on an empty volume only";
const ACCESS: &str = "let this user in from this container: `pg_hba.conf`, grants, the server's access rules";
const PROTOCOL: &str = "is that the port of this kind of server?";
const TLS: &str = "the TLS options of the URL and those of the server must agree";

/// With a key that nobody judges by the database: it would be waited for and asked before.
fn unjudged() -> Sandbox {
    Sandbox::new(V2).with("FERNET_KEY", new_key()).with("ENTRYPOINT_CHECK_SECRETS", "off")
}

pub(crate) fn local(url: &str) -> Sandbox {
    unjudged().with("EXECUTOR", "Local").with(CONN, url)
}

/// Behind a database that is ready.
pub(crate) fn celery(database: &Fake, broker: &str) -> Sandbox {
    let url = format!("postgresql://u:p@127.0.0.1:{}/d", database.port);
    unjudged().with("EXECUTOR", "Celery").with(CONN, url).with(BROKER, broker)
}

/// It ends with this, runs nothing, and takes no longer than it may.
#[track_caller]
fn ends(sandbox: &Sandbox, timeout: &str, status: i32, error: &str, hint: &str) -> Outcome {
    let started = Instant::now();
    let outcome = sandbox.run_with("ENTRYPOINT_WAIT_TIMEOUT", timeout, &COMMAND);
    let error = format!("<lines>airflow-entrypoint: error: {error} (tries: <n>, in <s> s)\n");
    outcome.fails(status, &format!("{error}airflow-entrypoint: hint: {hint}\n"));
    outcome.same(sandbox.calls(), vec![]);
    let took = outcome.ended - started;
    outcome.check(took < Duration::from_secs(20), &format!("it took {took:?}"));
    outcome
}

#[test]
fn w01_a_database_that_is_starting_is_waited_for() {
    for (code, said) in [
        ("57P03", "the database system is starting up"),
        ("53300", "sorry, too many clients already"),
        ("53300", "remaining connection slots are reserved"),
    ] {
        let fake = Fake::new("127.0.0.1:0", Manner::Refuses(code, said));
        let name = format!("database `127.0.0.1:{}`", fake.port);
        let sandbox = local(&format!("postgresql://u:p@127.0.0.1:{}/d", fake.port));
        ends(&sandbox, "1s", 69, &format!("cannot reach the {name}: not ready: {said}"), SERVER);
        let running = sandbox.start(&COMMAND);
        running.until_stderr(&format!("info: the {name} does not answer yet: not ready: {said}\n"));
        assert_eq!(sandbox.calls(), [""; 0]);
        fake.becomes(Manner::Closing);
        running.until_stderr("does not answer yet: it closes the connection before it answers\n");
        fake.becomes(Manner::Ready);
        let outcome = running.finish();
        outcome.succeeds().says(&format!("info: the {name} answers (tries: <n>, in <s> s)"));
        outcome.same(sandbox.calls(), vec![CALL.to_owned()]);
        // The one login is given back before the command runs.
        outcome.same(fake.partings(), 1);
    }
}

#[test]
fn w01_what_time_does_not_heal_is_said_at_once_and_ends_the_start_on_postgresql() {
    if let Some(server) = Database::postgres() {
        is_said_at_once(&server);
    }
}

#[test]
fn w01_what_time_does_not_heal_is_said_at_once_and_ends_the_start_on_mariadb() {
    if let Some(server) = Database::mariadb() {
        is_said_at_once(&server);
    }
}

fn is_said_at_once(server: &Database) {
    let url = server.create("airflow");
    let name = format!("database `127.0.0.1:{}`", server.port);
    let is_postgres = url.starts_with("postgresql");
    local(&url).run(&COMMAND).succeeds();
    let wrong = url.replace(&server.password, "another-password");
    let missing = server.url("other");
    let refused = if is_postgres {
        "password authentication failed for user \"airflow\""
    } else {
        "Access denied for user 'airflow'@'127.0.0.1' (using password: YES)"
    };
    let prefix = format!("cannot use the {name} of `{CONN}`: ");
    ends(&local(&wrong), "1s", 78, &format!("{prefix}login refused: {refused}"), LOGIN);
    // Long before the time is over, when it has stayed so for a while.
    let started = Instant::now();
    let outcome = ends(&local(&wrong), "60s", 78, &format!("{prefix}login refused: {refused}"), LOGIN);
    outcome.check(started.elapsed() >= Duration::from_secs(5), "it did not wait for somebody who sets it up");
    let times = outcome.stderr.matches("does not let us in").count();
    outcome.same(times, 1);
    outcome.says(&format!(
            "warning: the {name} does not let us in: login refused: {refused}; tried for 5 s, in case that it is just being set up"
        ));
    if is_postgres {
        let error = format!("{prefix}no such database: database \"other\" does not exist");
        ends(&local(&missing), "1s", 78, &error, DATABASE);
        let roleless = url.replace("//airflow:", "//nobody:");
        // What PostgreSQL says of a role that is not there.
        let error = format!("{prefix}login refused: password authentication failed for user \"nobody\"");
        ends(&local(&roleless), "1s", 78, &error, LOGIN);
        let error = format!("{prefix}TLS: server does not support TLS");
        ends(&local(&format!("{url}?sslmode=require")), "1s", 78, &error, TLS);
    } else {
        let error = format!("{prefix}access denied: Access denied for user 'airflow'@'%' to database 'other'");
        ends(&local(&missing), "1s", 78, &error, ACCESS);
    }
}

#[test]
fn w01_a_database_that_is_being_created_is_waited_for() {
    for server in [Database::postgres(), Database::mariadb()].into_iter().flatten() {
        let sandbox = local(&server.url("airflow"));
        let running = sandbox.start(&COMMAND);
        running.until_stderr("does not let us in");
        server.create("airflow");
        running.finish().succeeds().same(sandbox.calls(), vec![CALL.to_owned()]);
    }
}

#[test]
fn w12_redis_by_what_it_says() {
    let database = Fake::ready("127.0.0.1:0");
    let says: [(&'static [u8], &str, i32, &str); 7] = [
        (b"-LOADING Redis is loading\r\n", "not ready: LOADING Redis is loading", 69, SERVER),
        (b"-MASTERDOWN Link is down\r\n", "not ready: MASTERDOWN Link is down", 69, SERVER),
        (b"-BUSY a script runs\r\n", "not ready: BUSY a script runs", 69, SERVER),
        (b"-NOAUTH Authentication required.\r\n", "login refused: NOAUTH Authentication required.", 78, LOGIN),
        (b"-WRONGPASS invalid pair\r\n", "login refused: WRONGPASS invalid pair", 78, LOGIN),
        (b"-DENIED protected mode\r\n", "access denied: DENIED protected mode", 78, ACCESS),
        (b"HTTP/1.1 400 Bad\r\n", "another protocol: expected an answer of Redis, found something else", 78, PROTOCOL),
    ];
    for (said, failure, status, hint) in says {
        let fake = Fake::new("127.0.0.1:0", Manner::Says(said));
        let name = format!("broker `127.0.0.1:{}`", fake.port);
        let sandbox = celery(&database, &format!("redis://:hidden-word@127.0.0.1:{}/0", fake.port));
        let error = match status {
            69 => format!("cannot reach the {name}: {failure}"),
            _ => format!("cannot use the {name} of `{BROKER}`: {failure}"),
        };
        ends(&sandbox, "1s", status, &error, hint);
        // The control, and the healing.
        let running = sandbox.start(&COMMAND);
        running.until_stderr(failure);
        fake.becomes(Manner::Ready);
        running.finish().succeeds().says(&format!("info: the {name} answers (tries: <n>, in <s> s)"));
    }
}

#[test]
fn w03_tls_to_a_server_without_it_is_said() {
    let (database, fake) =
        (Fake::ready("127.0.0.1:0"), Fake::new("127.0.0.1:0", Manner::Says(b"-ERR unknown command\r\n")));
    let address = format!("127.0.0.1:{}", fake.port);
    let sandbox = celery(&database, &format!("rediss://:hidden-word@{address}/0?ssl_cert_reqs=none"));
    let error = format!("cannot use the broker `{address}` of `{BROKER}`: TLS: received corrupt message of type <any>");
    ends(&sandbox, "1s", 78, &error, TLS);
}

#[test]
fn w12_a_real_redis_with_a_password_an_account_tls_and_a_socket() {
    if !present("redis-server", Command::new("redis-server").arg("--version").output().is_ok()) {
        return;
    }
    let database = Fake::ready("127.0.0.1:0");
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name).display().to_string();
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost", "-addext"])
        .args(["subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", &file("key"), "-out", &file("cert")])
        .output();
    let with_tls = present("openssl", made.is_ok_and(|output| output.status.success()));
    let free = || Fake::ready("127.0.0.1:0").port;
    let (port, tls_port) = (free(), free());
    // Whatever becomes of the test, the server ends with it.
    let mut server = Command::new("setpriv");
    server.args(["--pdeathsig", "KILL", "redis-server"]);
    server.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--dir", &file("")]);
    server.args(["--unixsocket", &file("redis.sock"), "--requirepass", "default-pass"]);
    server.args(["--user", "airflow", "on", ">acl-password", "~*", "+@all"]);
    server.args(["--user", "mute", "on", ">acl-password", "~*", "+@all", "-ping"]);
    if with_tls {
        server.args(["--tls-port", &tls_port.to_string(), "--tls-cert-file", &file("cert")]);
        server.args(["--tls-key-file", &file("key"), "--tls-ca-cert-file", &file("cert"), "--tls-auth-clients", "no"]);
    }
    let mut server = server.stdout(Stdio::null()).spawn().unwrap();
    let ok = |url: &str| {
        let sandbox = celery(&database, url);
        sandbox.run(&COMMAND).succeeds().same(sandbox.calls(), vec![CALL.to_owned()]);
    };
    let check = |url: &str, name: &str, failure: &str, hint: &str| {
        let error = format!("cannot use the broker `{name}` of `{BROKER}`: {failure}");
        ends(&celery(&database, url), "1s", 78, &error, hint);
    };
    let name = format!("127.0.0.1:{port}");
    ok(&format!("redis://:default-pass@{name}/0"));
    ok(&format!("redis://airflow:acl-password@{name}/0"));
    ok(&format!("redis+socket://:default-pass@{}", file("redis.sock")));
    check(&format!("redis://{name}/0"), &name, "login refused: NOAUTH Authentication required.", LOGIN);
    let wrong = "login refused: WRONGPASS invalid username-password pair or user is disabled.";
    check(&format!("redis://:wrong-password@{name}/0"), &name, wrong, LOGIN);
    let mute = "access denied: NOPERM <any>";
    check(&format!("redis://mute:acl-password@{name}/0"), &name, mute, ACCESS);
    if with_tls {
        let (tls, cert) = (format!("localhost:{tls_port}"), file("cert").replace('/', "%2F"));
        ok(&format!("rediss://:default-pass@{tls}/0?ssl_cert_reqs=none"));
        // One that signs itself, or that nobody knows, is for Airflow to judge.
        for url in [
            format!("rediss://:default-pass@{tls}/0?ssl_cert_reqs=CERT_REQUIRED&ssl_ca_certs={cert}"),
            format!("rediss://:default-pass@{tls}/0?ssl_cert_reqs=required"),
        ] {
            let outcome = celery(&database, &url).run(&COMMAND);
            outcome.succeeds().says(&format!(
                "warning: the broker `{tls}` answers, with a certificate that is left to Airflow: <any>certificate<any>"
            ));
        }
    }
    server.kill().unwrap();
    server.wait().unwrap();
}

#[test]
fn w07_any_sentinel_will_do() {
    let (database, sentinel) = (Fake::ready("127.0.0.1:0"), Fake::ready("127.0.0.1:0"));
    let live = sentinel.port;
    let dead = Fake::ready("127.0.0.1:0").port;
    let url = format!("sentinel://:hidden-word@127.0.0.1:{dead}/0;sentinel://127.0.0.1:{live}/0");
    celery(&database, &url).run(&COMMAND).succeeds();
    // Its own password is said elsewhere.
    sentinel.becomes(Manner::Says(b"-NOAUTH Authentication required.\r\n"));
    celery(&database, &url).run(&COMMAND).succeeds();
    drop(sentinel);
    let error = format!("cannot reach the broker `127.0.0.1:{dead},127.0.0.1:{live}`: connection refused");
    ends(&celery(&database, &url), "1s", 69, &error, NETWORK);
}

#[test]
fn w03_rabbitmq_by_its_greeting_and_others_by_their_silence() {
    let database = Fake::ready("127.0.0.1:0");
    let broker = Fake::ready("127.0.0.1:0");
    let name = format!("broker `127.0.0.1:{}`", broker.port);
    let sandbox = celery(&database, &format!("amqp://u:hidden-word@127.0.0.1:{}//", broker.port));
    sandbox.run(&COMMAND).succeeds();
    broker.becomes(Manner::Says(b"AMQP\0\x01\0\0"));
    sandbox.run(&COMMAND).succeeds();
    sandbox.write("calls", "");
    broker.becomes(Manner::Says(b"HTTP/1.1 400 Bad Request\r\n"));
    let error = format!("cannot use the {name} of `{BROKER}`: another protocol: expected AMQP, found something else");
    ends(&sandbox, "1s", 78, &error, PROTOCOL);
    broker.becomes(Manner::Closing);
    let error = format!("cannot reach the {name}: it closes the connection before it answers");
    ends(&sandbox, "1s", 69, &error, NETWORK);
    broker.becomes(Manner::Silent);
    ends(&sandbox, "4s", 69, &format!("cannot reach the {name}: no answer within 3 s"), NETWORK);
}

#[test]
fn w04_each_address_of_a_name_is_tried() {
    let hosts = "127.1.9.1 both\n127.1.9.2 both\n";
    isolated("wait_protocol::w04_each_address_of_a_name_is_tried", hosts, || {
        for address in ["127.1.9.1", "127.1.9.2"] {
            let database = Fake::ready((address, 5432));
            let broker = Fake::ready((address, 6379));
            let sandbox = celery(&database, "redis://both/0").with(CONN, "postgresql://u:p@both/d");
            sandbox.run(&COMMAND).succeeds();
            assert_eq!((database.connections(), broker.connections()), (1, 1));
        }
        let silent = Fake::new(("127.1.9.1", 5432), Manner::Silent);
        let live = Fake::ready(("127.1.9.2", 5432));
        local("postgresql://u:p@both/d").run(&COMMAND).succeeds();
        assert_eq!((silent.connections(), live.connections()), (1, 1));
    });
}

#[test]
fn w08_sockets_are_connected_to() {
    let Some(server) = Database::postgres() else { return };
    let url = server.create("airflow");
    let socket = url.replace(&format!("127.0.0.1:{}", server.port), "");
    let url = format!("{socket}?host={}&port={}", server.folder().display(), server.port);
    local(&url).run(&COMMAND).succeeds().says(&format!(
        "info: the database `{}/.s.PGSQL.{}` answers (tries: <n>, in <s> s)",
        server.folder().display(),
        server.port
    ));
}

#[test]
fn w09_a_wait_makes_a_few_tries_a_second() {
    let fake = Fake::new("127.0.0.1:0", Manner::Closing);
    let sandbox = local(&format!("postgresql://u:p@127.0.0.1:{}/d", fake.port));
    let error =
        format!("cannot reach the database `127.0.0.1:{}`: it closes the connection before it answers", fake.port);
    ends(&sandbox, "4s", 69, &error, NETWORK);
    let tries = fake.connections();
    assert!((6..16).contains(&tries), "{tries} tries");
}
