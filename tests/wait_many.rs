//! Waits that end: by a signal, whatever is asked, and when many wait for the same few connections.

use std::process::Stdio;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::databases::Database;
use crate::fakes::{Fake, Manner};
use crate::wait_protocol::{COMMAND, celery, local};

#[test]
fn a_stop_ends_a_wait_at_once_whatever_is_asked() {
    let (database, silent) = (Fake::ready("127.0.0.1:0"), Fake::new("127.0.0.1:0", Manner::Silent));
    let name = format!("127.0.0.1:{}", silent.port);
    for (sandbox, role) in [
        (local(&format!("postgresql://u:p@{name}/d")), "database"),
        (local(&format!("mysql://u:p@{name}/d")), "database"),
        (celery(&database, &format!("redis://{name}/0")), "broker"),
        (celery(&database, &format!("rediss://{name}/0?ssl_cert_reqs=none")), "broker"),
        (celery(&database, &format!("amqp://{name}//")), "broker"),
    ] {
        let once = || {
            silent.connections();
            let running = sandbox.start(&COMMAND);
            running.until_stderr(&format!("waiting for the {role} `{name}`"));
            if role == "broker" {
                running.until_stderr("the database `");
                running.until_stderr("answers");
            }
            while silent.connections() == 0 {
                std::thread::yield_now();
            }
            let at = running.signal(running.main_pid(false), Signal::SIGTERM);
            let outcome = running.finish();
            let end =
                format!("<lines>airflow-entrypoint: info: stopped by SIGTERM while waiting for the {role} `{name}`\n");
            outcome.fails(143, &end);
            outcome.ended - at
        };
        let time = (0..3).map(|_| once()).min().unwrap();
        assert!(time < Duration::from_millis(100), "{role} {time:?}");
    }
}

#[test]
fn five_hundred_starts_get_through_a_server_with_few_connections() {
    // Two of the twenty are for us.
    let few = ["-c", "max_connections=20", "-c", "superuser_reserved_connections=18"];
    let Some(server) = Database::postgres_with(&few) else { return };
    let url = server.create("airflow");
    // What a password costs both sides, in a build for tests, is not the point.
    std::fs::write(server.folder().join("data/pg_hba.conf"), "local all all trust\nhost all all 127.0.0.1/32 trust\n")
        .unwrap();
    server.sql(None, "SELECT pg_reload_conf()");
    let sandbox = local(&url).with("ENTRYPOINT_WAIT_TIMEOUT", "60s");
    sandbox.program("airflow", "#!/bin/sh\n");
    let started = Instant::now();
    let starts: Vec<_> = (0..500)
        .map(|_| {
            let mut command = sandbox.command(&COMMAND);
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
        })
        .collect();
    let mut crowded = 0;
    for start in starts {
        let output = start.wait_with_output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{said}");
        crowded += usize::from(said.contains("not ready: "));
    }
    println!("500 starts: {:?}, {crowded} found the server full", started.elapsed());
    assert!(started.elapsed() < Duration::from_secs(60));
    // The control: it was full.
    assert!(crowded > 0);
}

/// PostgreSQL and libpq take a password as it is that SASLprep refuses; our driver does not, and that is no reason to stop.
#[test]
fn c10_what_our_driver_cannot_do_is_left_to_airflow() {
    let Some(server) = Database::postgres() else { return };
    let url = server.create("airflow");
    server.sql(None, "ALTER ROLE airflow PASSWORD 'p😀'");
    let outcome = local(&url.replace(&server.password, "p%F0%9F%98%80")).run(&COMMAND);
    outcome.succeeds().says(&format!(
        "warning: the database `127.0.0.1:{}` answers, and the login is left to Airflow: our driver takes no user or password with these characters",
        server.port
    ));
    outcome.same(outcome.stderr.contains("become `airflow connections list`"), true);
}
