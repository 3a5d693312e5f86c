//! Waiting for database and broker: until they answer, until it has taken too long, or until a signal comes, whatever it is that we
//! wait for at that moment.

use std::net::UdpSocket;
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::namespace::isolated;
use crate::sandbox::{PID_1, Sandbox, V2, V3};
use crate::services::{Services, hosts};

const DATABASE: (&str, u16) = ("db", 5432);
const BROKER: (&str, u16) = ("cache", 6379);
const HINT: &str = "airflow-entrypoint: hint: is it running, and is it on this container's network? `ENTRYPOINT_WAIT_TIMEOUT` sets how long to wait\n";
/// How long a stop may take.
const AT_ONCE: Duration = Duration::from_millis(100);

fn names() -> String {
    hosts(&[DATABASE, BROKER])
}

fn celery() -> Sandbox {
    unjudged().with("EXECUTOR", "Celery").with("POSTGRES_HOST", "db").with("REDIS_HOST", "cache")
}

/// With a key, and none to judge it by: what listens here says nothing.
fn unjudged() -> Sandbox {
    Sandbox::new(V2).with("FERNET_KEY", crate::sandbox::new_key()).with("ENTRYPOINT_CHECK_SECRETS", "off")
}

/// A name server that says to every question that there is no such name, or nothing at all.
fn name_server(answers: bool) {
    let socket = UdpSocket::bind("127.0.0.53:53").unwrap();
    thread::spawn(move || {
        let mut packet = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut packet) {
            if answers {
                // An answer, with the status NXDOMAIN (RFC 1035, 4.1.1).
                packet[2] |= 0x80;
                packet[3] = 0x80 | 3;
                socket.send_to(&packet[..length], from).unwrap();
            }
        }
    });
}

#[test]
fn w02_both_are_waited_for_at_the_same_time() {
    isolated("wait::w02_both_are_waited_for_at_the_same_time", &names(), || {
        let mut services = Services::listen(&[]);
        // Whoever appears first is taken first; the command runs when both are there.
        for (first, second) in [(DATABASE, BROKER), (BROKER, DATABASE)] {
            let role = |service| if service == DATABASE { "database `db:5432`" } else { "broker `cache:6379`" };
            let sandbox = celery();
            let running = sandbox.start(&["scheduler"]);
            running.until_stderr("the database `db:5432` does not answer yet: connection refused\n");
            running.until_stderr("the broker `cache:6379` does not answer yet: connection refused\n");
            services.add(first.0, first.1);
            running.until_stderr(&format!("the {} answers (tries: ", role(first)));
            assert_eq!(sandbox.calls(), [""; 0]);
            services.add(second.0, second.1);
            let outcome = running.finish();
            outcome.succeeds().says(&format!("info: the {} answers (tries: <n>, in <s> s)", role(second)));
            // The same cause is said once.
            outcome.same(outcome.stderr.matches("does not answer yet").count(), 2);
            outcome.same(
                sandbox.calls(),
                vec!["airflow db check-migrations -t 100".to_owned(), "airflow scheduler".to_owned()],
            );
            services = Services::listen(&[]);
        }
    });
}

#[test]
fn w03_what_never_appears_ends_the_start_with_the_reason() {
    isolated("wait::w03_what_never_appears_ends_the_start_with_the_reason", &names(), || {
        name_server(true);
        let mut services = Services::listen(&[]);
        let check = |host: &str, error: &str| {
            let sandbox = celery().with("POSTGRES_HOST", host).with("ENTRYPOINT_WAIT_TIMEOUT", "300ms");
            let outcome = sandbox.run(&["scheduler"]);
            outcome
                .fails(69, &format!("<lines>airflow-entrypoint: error: cannot reach the {error}, in <s> s)\n{HINT}"));
            outcome.same(sandbox.calls(), vec![]);
            outcome.same(outcome.stdout.as_str(), "");
        };
        check("db", "database `db:5432`: connection refused (tries: <n>");
        check("no-such-name.test", "database `no-such-name.test:5432`: name or service not known (tries: <n>");
        // The one that answers is not to blame.
        services.add(DATABASE.0, DATABASE.1);
        check("db", "broker `cache:6379`: connection refused (tries: <n>");
        services.add(BROKER.0, BROKER.1);
        celery().with("ENTRYPOINT_WAIT_TIMEOUT", "300ms").run(&["scheduler"]).succeeds();
    });
}

#[test]
fn w04_a_name_may_appear_late() {
    isolated("wait::w04_a_name_may_appear_late", "", || {
        name_server(true);
        let sandbox = celery().with("EXECUTOR", "Local").with("POSTGRES_HOST", "late.test");
        let running = sandbox.start(&["scheduler"]);
        running.until_stderr("the database `late.test:5432` does not answer yet: name or service not known\n");
        let mut services = Services::listen(&[]);
        services.add("late.test", 5432);
        let hosts = format!("127.0.0.1 localhost\n{}", hosts(&[("late.test", 5432)]));
        std::fs::write("/etc/hosts", hosts).unwrap();
        running.finish().succeeds().says("info: the database `late.test:5432` answers (tries: <n>, in <s> s)");
    });
}

#[test]
fn c08_any_host_of_a_list_will_do() {
    isolated("wait::c08_any_host_of_a_list_will_do", &names(), || {
        let _services = Services::listen(&[("cache", 7000)]);
        let sandbox = unjudged().with("EXECUTOR", "Local").with("ENTRYPOINT_WAIT_TIMEOUT", "10s");
        let url = "postgresql://u:p@db:5432,cache:7000/d";
        sandbox.run_with("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", url, &["scheduler"]).succeeds();
        // The control.
        let sandbox = sandbox.with("ENTRYPOINT_WAIT_TIMEOUT", "50ms");
        let url = "postgresql://u:p@db:5432,cache:7001/d";
        let outcome = sandbox.run_with("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", url, &["scheduler"]);
        let error = "cannot reach the database `db:5432,cache:7001`: connection refused (tries: <n>, in <s> s)";
        outcome.fails(69, &format!("<lines>airflow-entrypoint: error: {error}\n{HINT}"));
    });
}

#[test]
fn w11_off_and_forever() {
    isolated("wait::w11_off_and_forever", &names(), || {
        let sandbox = celery().with("ENTRYPOINT_WAIT_TIMEOUT", "off");
        let outcome = sandbox.run(&["scheduler"]);
        outcome.succeeds().check(!outcome.stderr.contains("waiting"), "it waits");
        let sandbox = celery().with("ENTRYPOINT_WAIT_TIMEOUT", "forever");
        let running = sandbox.start(&["scheduler"]);
        running.until_stderr("info: waiting for the database `db:5432`, without a limit\n");
        running.until_stderr("does not answer yet");
        let _services = Services::listen(&[DATABASE, BROKER]);
        running.finish().succeeds();
    });
}

/// Stops a start that waits, three times, and gives the shortest time that it took: a busy machine is slow now and then, a deaf
/// process always.
fn stop(sandbox: &Sandbox, ready: &str, signal: Signal, what: &str) -> Duration {
    let as_pid_1 = sandbox.is_behind();
    let once = || {
        let running = sandbox.start(&["scheduler"]);
        running.until_stderr(ready);
        let at = running.signal(running.main_pid(as_pid_1), signal);
        let outcome = running.finish();
        outcome.fails(
            128 + signal as i32,
            &format!("<lines>airflow-entrypoint: info: stopped by {} while waiting for the {what}\n", signal.as_str()),
        );
        outcome.same(sandbox.calls(), vec![]);
        outcome.ended - at
    };
    (0..3).map(|_| once()).min().unwrap()
}

#[test]
fn a_stop_while_waiting_ends_at_once_also_as_pid_1() {
    isolated("wait::a_stop_while_waiting_ends_at_once_also_as_pid_1", &names(), || {
        let both = "database `db:5432` and the broker `cache:6379`";
        for wrapper in [&[][..], &PID_1] {
            for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGHUP] {
                let sandbox = celery().behind(wrapper);
                let time = stop(&sandbox, "does not answer yet", signal, both);
                assert!(time < AT_ONCE, "{signal} took {time:?} behind {wrapper:?}");
            }
        }
        // The control: whoever has no handler for it is deaf to TERM as PID 1.
        let sandbox = celery().behind(&PID_1);
        sandbox.program("deaf", "#!/bin/sh\necho ready\nexec sleep 60\n");
        let mut command = std::process::Command::new(PID_1[0]);
        command.args(&PID_1[1..]).arg(sandbox.path("prefix/bin/deaf"));
        let running = sandbox.start_command(command);
        running.until_stdout("ready\n");
        let pid = running.main_pid(true);
        running.signal(pid, Signal::SIGTERM);
        assert!(running.outlives(AT_ONCE * 5), "sleep is not deaf");
        running.signal(pid, Signal::SIGKILL);
    });
}

#[test]
fn a_stop_ends_at_once_while_a_name_server_is_silent() {
    isolated("wait::a_stop_ends_at_once_while_a_name_server_is_silent", "", || {
        name_server(false);
        let sandbox = Sandbox::new(V3).with("EXECUTOR", "Local").with("POSTGRES_HOST", "silent.test").behind(&PID_1);
        let ready = "info: waiting for the database `silent.test:5432`, at most 100s\n";
        let time = stop(&sandbox, ready, Signal::SIGTERM, "database `silent.test:5432`");
        assert!(time < AT_ONCE, "{time:?}");
        // The limit holds as well, although not one try has ended.
        let outcome = sandbox.run_with("ENTRYPOINT_WAIT_TIMEOUT", "200ms", &["scheduler"]);
        let error = "cannot reach the database `silent.test:5432`: no try has ended yet (tries: 0, in <s> s)";
        outcome.fails(69, &format!("<lines>airflow-entrypoint: error: {error}\n{HINT}"));
    });
}
