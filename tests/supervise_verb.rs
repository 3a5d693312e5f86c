//! The verb `supervise`: which commands it takes, whose output is whose, and starting one again.

use std::io::Read;
use std::process::Stdio;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::sandbox::{LINES, Sandbox, V1, V2, V3};

fn sandbox(version: &str) -> Sandbox {
    Sandbox::new(version).with("ENTRYPOINT_WAIT_TIMEOUT", "off")
}

/// A member that ends when it is told to.
const STAYS: &str = "trap 'exit 0' TERM; echo begun; while :; do sleep 0.05; done";

#[test]
fn members_go_by_any_lines_names_and_the_start_is_that_of_a_service() {
    for (version, expected) in [
        (V1, ["airflow initdb", "airflow scheduler -n 5", "airflow webserver", "airflow worker -q a b"]),
        (V2, ["airflow celery worker -q a b", "airflow db migrate", "airflow scheduler -n 5", "airflow webserver"]),
        (V3, ["airflow api-server", "airflow celery worker -q a b", "airflow db migrate", "airflow scheduler -n 5"]),
    ] {
        let sandbox = sandbox(version);
        for call in ["scheduler", "webserver", "api-server", "celery", "worker"] {
            sandbox.behave(&format!("airflow-{call}"), STAYS);
        }
        let words = ["supervise", "scheduler -n 5", "airflow api-server", "worker -q 'a b'"];
        let running = sandbox.start(&words);
        let worker = if version == V1 { "worker" } else { "celery worker" };
        let web = if version == V3 { "api-server" } else { "webserver" };
        for role in ["scheduler", web, worker] {
            running.until_stdout(&format!("[{role}] begun\n"));
        }
        running.signal(running.main_pid(false), Signal::SIGTERM);
        let outcome = running.finish();
        let mut calls = sandbox.calls();
        calls.sort();
        outcome.succeeds().same(calls, expected.map(str::to_owned).to_vec());
        outcome.same(sandbox.call_words().iter().any(|words| words.last().is_some_and(|word| word == "a b")), true);
        let outcome = sandbox.run(&[&["explain"][..], &words].concat());
        let line = format!("10. run as equals `airflow scheduler ...`, `airflow {web}`, `airflow {worker} ...`\n");
        outcome.succeeds().check(outcome.stdout.contains(&line), "another plan");
    }
}

#[test]
fn what_does_not_run_on_is_no_member() {
    let error = |word: &str| {
        format!(
            "airflow-entrypoint: error: cannot supervise `{word}`: expected commands of Airflow that run on, such as `scheduler` or `\"celery worker\"`\n\
             airflow-entrypoint: hint: `airflow-entrypoint --help` lists the commands\n"
        )
    };
    for version in LINES {
        let sandbox = sandbox(version);
        for word in ["bash", "version", "", "schedulr", "-x"] {
            sandbox.run(&["supervise", "scheduler", word]).fails(64, &error(word));
        }
        sandbox.run(&["supervise"]).fails(64, "airflow-entrypoint: error: <any>\nairflow-entrypoint: hint: <any>\n");
        assert_eq!(sandbox.calls(), Vec::<String>::new());
    }
}

#[test]
fn lines_are_whole_and_exact_and_the_last_ones_are_there() {
    let sandbox = sandbox(V3);
    // A long line and one without an end on either stream, in two processes at the same time.
    let long = "x".repeat(100_000);
    sandbox.write("long", format!("{long}\n"));
    let script = format!(
        "for i in $(seq 20); do cat {long}; cat {long} >&2; done; printf 'caf\\303\\251 \\377\\t\\r\\n'; printf 'no end'; printf err >&2",
        long = sandbox.text("long")
    );
    // The end of one is told to the other, which has more to say.
    let script = format!("trap '' TERM; {script}");
    sandbox.behave("airflow-scheduler", &script);
    sandbox.behave("airflow-triggerer", &script);
    let outcome = sandbox.run(&["supervise", "scheduler", "triggerer"]);
    outcome.succeeds();
    for role in ["scheduler", "triggerer"] {
        for (text, last) in [(&outcome.stdout, "no end"), (&outcome.stderr, "err")] {
            let lines: Vec<&str> =
                text.split_inclusive('\n').filter_map(|l| l.strip_prefix(&format!("[{role}] "))).collect();
            let longs = lines.iter().filter(|line| line.trim_end() == long).count();
            assert_eq!((longs, lines.last()), (20, Some(&&*format!("{last}\n"))), "{role}");
        }
        assert!(outcome.stdout.contains(&format!("[{role}] caf\u{e9} \u{fffd}\t\r\n")));
    }
    // The control: alone its output is as it is.
    sandbox.behave("airflow-scheduler", "echo as it is; printf 'no end'");
    let outcome = sandbox.run(&["supervise", "scheduler"]);
    outcome.succeeds().same(outcome.stdout.as_str(), "as it is\nno end");
}

/// Who reads nothing, or is gone, does not keep anybody from working or from ending.
#[test]
fn a_reader_that_is_gone_or_asleep_stops_nobody() {
    let sandbox = sandbox(V3).with("ENTRYPOINT_STOP_GRACE", "1s");
    let floods = format!("yes | head -c 1000000; : > {}; {STAYS}", sandbox.text("done"));
    sandbox.behave("airflow-scheduler", &floods);
    sandbox.behave("airflow-triggerer", STAYS);
    let start = || {
        let _ = std::fs::remove_file(sandbox.path("done"));
        let mut command = sandbox.command(&["supervise", "scheduler", "triggerer"]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let deadline = Instant::now() + crate::running::DEADLINE;
    let mut gone = start();
    drop(gone.stdout.take());
    while !sandbox.path("done").exists() {
        assert!(Instant::now() < deadline, "it hangs on a closed pipe");
        std::thread::yield_now();
    }
    let pid = nix::unistd::Pid::from_raw(gone.id().cast_signed());
    nix::sys::signal::kill(pid, Signal::SIGTERM).unwrap();
    // Or one had not begun to listen for it.
    assert!(matches!(gone.wait().unwrap().code(), Some(0 | 143)));
    // Asleep: what is told to end, ends, and so do we.
    let ends_unread = || {
        let mut asleep = start();
        let mut first = [0; 1];
        asleep.stdout.as_mut().unwrap().read_exact(&mut first).unwrap();
        let pid = nix::unistd::Pid::from_raw(asleep.id().cast_signed());
        nix::sys::signal::kill(pid, Signal::SIGTERM).unwrap();
        let started = Instant::now();
        asleep.wait().unwrap();
        assert!(started.elapsed() < Duration::from_secs(15), "{:?}", started.elapsed());
    };
    ends_unread();
    assert!(!sandbox.path("done").exists(), "the control: it was held up");
    // The same of our own lines: here nobody reads stderr.
    sandbox.behave("airflow-scheduler", &format!("yes | head -c 1000000 >&2; {STAYS}"));
    ends_unread();
}

#[test]
fn s01_one_that_ends_is_started_again_as_often_as_may_be() {
    let sandbox = sandbox(V3).with("ENTRYPOINT_RESTART", "1");
    sandbox.behave("airflow-scheduler", "echo again; exit 9");
    sandbox.behave("airflow-triggerer", STAYS);
    let started = Instant::now();
    let outcome = sandbox.run(&["supervise", "scheduler", "triggerer"]);
    outcome.same(outcome.code(), 9);
    outcome.same(outcome.stdout.matches("[scheduler] again\n").count(), 2);
    outcome.says("warning: `airflow scheduler` ended with status 9; starting it again in 1s (1 of 1)");
    outcome.says("warning: `airflow scheduler` ended with status 9; stopping the others");
    outcome.check(started.elapsed() >= Duration::from_secs(1), "no pause");
    // A stop while it is waited for is a stop.
    sandbox.behave("airflow-scheduler", "exit 0");
    let running = sandbox.start(&["supervise", "scheduler", "triggerer"]);
    running.until_stderr("starting it again");
    running.until_stdout("[triggerer] begun\n");
    running.signal(running.main_pid(false), Signal::SIGTERM);
    running.finish().succeeds();
    let starts = sandbox.calls().iter().filter(|call| *call == "airflow scheduler").count();
    assert_eq!(starts, 3);
}

#[test]
fn s14_who_does_not_end_in_time_is_killed() {
    let sandbox = sandbox(V3).with("ENTRYPOINT_STOP_GRACE", "200ms");
    sandbox.behave("airflow-scheduler", "trap '' TERM; echo begun; while :; do sleep 0.05; done");
    sandbox.behave("airflow-triggerer", STAYS);
    let running = sandbox.start(&["supervise", "scheduler", "triggerer"]);
    running.until_stdout("[scheduler] begun\n").until_stdout("[triggerer] begun\n");
    running.signal(running.main_pid(false), Signal::SIGTERM);
    let outcome = running.ends();
    outcome.same(outcome.code(), 137).says("warning: `airflow scheduler` does not end; killing it");
}
