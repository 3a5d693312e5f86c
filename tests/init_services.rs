//! Staying as the init of an Airflow service: when, what it hands on, what is left of it at the end.

use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::namespace::unshare_works;
use crate::running::Running;
use crate::sandbox::{PID_1, Sandbox, V2, V3};

/// A service that says what it gets; its child would say it too.
const LISTENS: &str = "trap 'echo got HUP' HUP; trap 'echo got USR1' USR1; trap 'echo got USR2' USR2
    trap 'echo got TERM; kill $child 2>/dev/null; exit 4' TERM
    sh -c 'trap \"echo child TERM; exit\" TERM; echo child ready; while :; do sleep 0.05; done' & child=$!
    while :; do wait; done";

fn sandbox(version: &str) -> Sandbox {
    Sandbox::new(version).with("ENTRYPOINT_WAIT_TIMEOUT", "off")
}

fn listening(sandbox: &Sandbox, words: &[&str]) -> Running {
    let running = sandbox.start(words);
    running.until_stdout("child ready\n");
    running
}

/// What its parent is, as the command itself sees it.
const PARENT: &str = r"n=0; while [ $n -lt 50 ] && ! grep -q -e --attend /proc/$PPID/cmdline; do n=$((n+1)); done
    tr '\0' ' ' < /proc/$PPID/cmdline; echo; tr '\0' '\n' < /proc/$PPID/environ | grep ^AIRFLOW__CORE__F | wc -l";

#[test]
fn it_stays_before_a_service_as_pid_1_and_becomes_everything_else() {
    if !unshare_works() {
        return;
    }
    let stays = "init --attend ";
    for (wrapper, init, words, expected) in [
        (&PID_1[..], "auto", "scheduler", true),
        (&PID_1, "auto", "mycmd", false),
        (&PID_1, "auto", "connections list", false),
        (&PID_1, "false", "scheduler", false),
        (&PID_1, "true", "mycmd", true),
        (&[], "auto", "scheduler", false),
        (&[], "true", "scheduler", true),
    ] {
        let sandbox = sandbox(V3).behind(wrapper).with("ENTRYPOINT_INIT", init);
        for call in ["airflow-scheduler", "airflow-connections", "mycmd"] {
            sandbox.behave(call, PARENT);
        }
        let outcome = sandbox.run(&words.split(' ').collect::<Vec<_>>());
        let case = format!("{wrapper:?} {init} {words}");
        outcome.succeeds().check(outcome.stdout.contains(stays) == expected, &case);
        let name = words.split(' ').next().unwrap();
        let said = if name == "mycmd" { "`mycmd`".to_owned() } else { format!("`airflow {words}`") };
        outcome.says(&if expected {
            let whom = if name == "mycmd" { "its whole group" } else { "its main process alone" };
            format!("info: stay as the init of {said}; signals are for {whom}")
        } else {
            format!("info: become {said}")
        });
        // Its environment is that of the command, and its command line has nothing but numbers and names.
        if expected && name != "mycmd" {
            outcome.check(outcome.stdout.ends_with("1\n"), "not the environment of the command");
            let line = outcome.stdout.lines().find(|line| line.contains(stays)).unwrap();
            outcome.check(line.trim().split(' ').count() <= 6, "a longer command line");
        }
    }
}

#[test]
fn what_kills_airflow_is_withheld_unless_asked_for() {
    for (value, forwarded) in [("auto", false), ("all", true)] {
        let sandbox = sandbox(V2).with("ENTRYPOINT_INIT", "true").with("ENTRYPOINT_FORWARD_SIGNALS", value);
        sandbox.behave("airflow-scheduler", LISTENS);
        let running = listening(&sandbox, &["scheduler"]);
        let main = running.main_pid(false);
        for (signal, name) in [(Signal::SIGHUP, "HUP"), (Signal::SIGUSR1, "USR1"), (Signal::SIGUSR2, "USR2")] {
            running.signal(main, signal);
            if forwarded || name == "USR2" {
                running.until_stdout(&format!("got {name}\n"));
            } else {
                running.until_stderr(&format!(
                    "airflow-entrypoint: info: SIG{name} is not forwarded: it kills every process of Airflow but the Celery worker\n"
                ));
            }
        }
        running.signal(main, Signal::SIGTERM);
        let outcome = running.finish();
        outcome.same(outcome.code(), 4);
        outcome.check(outcome.stdout.contains("got HUP") == forwarded, "HUP");
    }
}

#[test]
fn s04_whom_a_stop_is_for() {
    for (variables, whole_group) in [
        (&[][..], false),
        (&[("DUMB_INIT_SETSID", "1")], false),
        (&[("DUMB_INIT_SETSID", "0")], false),
        (&[("ENTRYPOINT_SIGNAL_SCOPE", "group")], true),
        (&[("ENTRYPOINT_SIGNAL_SCOPE", "process"), ("DUMB_INIT_SETSID", "1")], false),
    ] {
        let mut sandbox = sandbox(V2).with("ENTRYPOINT_INIT", "true");
        variables.iter().for_each(|(name, value)| sandbox.set(name, *value));
        // It ends when its child has, which tells whether anybody else has told that one.
        let script = LISTENS.replace("kill $child 2>/dev/null; exit 4", "echo waiting");
        sandbox.behave("airflow-celery", &script);
        let running = listening(&sandbox, &["worker"]);
        running.signal(running.main_pid(false), Signal::SIGTERM);
        running.until_stdout("waiting\n");
        if whole_group {
            running.until_stdout("child TERM\n");
        }
        running.signal(running.main_pid(false), Signal::SIGUSR2);
        running.until_stdout("got USR2\n");
        // The end of the main process is told to what it leaves behind.
        let main: i32 = {
            let pid = running.main_pid(false);
            let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
            children.split_whitespace().next().unwrap().parse().unwrap()
        };
        running.signal(nix::unistd::Pid::from_raw(main), Signal::SIGKILL);
        let outcome = running.finish();
        outcome.same(outcome.code(), 137);
        let told_before = outcome.stdout.split("got USR2").next().unwrap().contains("child TERM");
        outcome
            .same(told_before, whole_group)
            .check(outcome.stdout.contains("child TERM\n"), "what was left was not told");
    }
}

#[test]
fn s12_what_is_left_of_the_group_is_ended_and_what_is_deaf_is_killed() {
    let script = "sh -c 'trap \"\" TERM; echo ready; while :; do sleep 0.05; done' & read x < HERE; exit 6";
    let places: &[&[&str]] = if unshare_works() { &[&[], &PID_1] } else { &[&[]] };
    thread::scope(|scope| {
        for place in places {
            scope.spawn(move || {
                let sandbox = sandbox(V2).with("ENTRYPOINT_INIT", "true").behind(place);
                let pipe = sandbox.path("pipe");
                nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
                sandbox.behave("airflow-scheduler", &script.replace("HERE", &sandbox.text("pipe")));
                let running = sandbox.start(&["scheduler"]);
                running.until_stdout("ready\n");
                let told = std::time::Instant::now();
                std::fs::write(&pipe, "\n").unwrap();
                // It holds the streams: that they are closed shows that it is gone.
                let outcome = running.finish();
                outcome.same(outcome.code(), 6).check(told.elapsed() >= Duration::from_millis(1500), "no grace");
            });
        }
    });
    // The control: with nothing left it ends at once.
    let sandbox = sandbox(V2).with("ENTRYPOINT_INIT", "true");
    let started = std::time::Instant::now();
    sandbox.run(&["scheduler"]).succeeds();
    assert!(started.elapsed() < Duration::from_millis(1900));
}

/// TERM or INT behind each line of the log: nothing further is started, nothing is half-written.
#[test]
fn a_stop_behind_each_line_of_the_log() {
    let places: &[&'static [&'static str]] = if unshare_works() { &[&[], &PID_1] } else { &[&[]] };
    let points: Vec<_> = places
        .iter()
        .flat_map(|place| {
            let control = preparing(place).run(&["scheduler"]);
            let lines: Vec<String> = control.succeeds().stderr.lines().map(line_without_names).collect();
            control.check(lines.len() >= 7, "few lines");
            let points = lines.into_iter().enumerate().map(|(index, line)| (*place, index, line));
            points.collect::<Vec<_>>()
        })
        .flat_map(|point| [(Signal::SIGTERM, 143), (Signal::SIGINT, 130)].map(|signal| (point.clone(), signal)))
        .collect();
    // Most of the time is that of the steps, which sleep.
    let points = Mutex::new(points.into_iter());
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                loop {
                    let point = points.lock().unwrap().next();
                    let Some(((place, index, line), (signal, status))) = point else { return };
                    stop(place, &line, signal, status, &format!("{signal} behind line {index}: {line}"));
                }
            });
        }
    });
}

/// A service with a step before it that goes on until it is told.
fn preparing(place: &[&str]) -> Sandbox {
    let sandbox = sandbox(V3).behind(place).with("ENTRYPOINT_MIGRATE", "true");
    sandbox.write("requirements.txt", "six\n");
    for call in ["pip-install", "airflow-db"] {
        sandbox.behave(call, "sleep 0.2");
    }
    sandbox.behave("airflow-scheduler", "exec sleep 0.5");
    sandbox
}

fn stop(place: &[&str], line: &str, signal: Signal, status: i32, case: &str) {
    let sandbox = preparing(place);
    let running = sandbox.start(&["scheduler"]);
    running.until_stderr(line);
    let at = running.signal(running.main_pid(!place.is_empty()), signal);
    let outcome = running.finish();
    outcome.check(outcome.code() == status, case);
    // A step is waited for.
    outcome.check(outcome.ended - at < Duration::from_secs(2), case);
    let calls = sandbox.calls();
    let possible = ["pip install", "airflow db migrate", "airflow scheduler"];
    outcome.check(calls.iter().zip(possible).all(|(call, start)| call.starts_with(start)), case);
    if !outcome.stderr.contains("the init of") && !outcome.stderr.contains("info: become ") {
        outcome.says(&format!("info: stopped by {signal} while <any>"));
        outcome.check(!calls.contains(&"airflow scheduler".to_owned()), case);
    }
    // Whatever is there is whole.
    for name in sandbox.names("keys") {
        outcome.check(name.ends_with(".key") && sandbox.read(&format!("keys/{name}")).ends_with('\n'), case);
    }
    let left: Vec<_> =
        sandbox.names("home").into_iter().filter(|name| name != "airflow.cfg" && name != "logs").collect();
    outcome.same(left, vec![]);
    for call in ["airflow-scheduler", "pip-install", "airflow-db"] {
        sandbox.behave(call, "");
    }
    sandbox.run(&["scheduler"]).succeeds();
}

/// The part of a line that is the same in another sandbox.
fn line_without_names(line: &str) -> String {
    line.split('`').next().unwrap().to_owned()
}
