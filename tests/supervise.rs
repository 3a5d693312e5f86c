//! A web server with its scheduler (and on Airflow 3 the DAG processor and the triggerer) in one container: equals, of which none
//! lives on alone, and nothing of theirs is left.

use std::fs;
use std::time::Instant;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::outcome::Outcome;
use crate::running::{DEADLINE, Running};
use crate::sandbox::{PID_1, Sandbox, V1, V2, V3};

const ON_1_AND_2: [&str; 2] = ["webserver", "scheduler"];
const ON_3: [&str; 4] = ["api-server", "scheduler", "dag-processor", "triggerer"];

fn members(version: &str) -> &'static [&'static str] {
    if version == V3 { &ON_3 } else { &ON_1_AND_2 }
}

/// Members that say that they have begun, keep their number, and end with this status when they are told to.
fn sandbox(version: &str, status: u8) -> Sandbox {
    let sandbox = Sandbox::new(version).with("EXECUTOR", "Local").with("ENTRYPOINT_WAIT_TIMEOUT", "off");
    for name in members(version) {
        let told = format!("kill $child; echo {name} told; exit {status}");
        let script = format!(
            "sleep 60 & child=$!; trap '{told}' TERM INT; echo $$ > {}; echo {name} begun; wait $child",
            sandbox.text(&format!("pid-{name}"))
        );
        sandbox.behave(&format!("airflow-{name}"), &script);
    }
    sandbox
}

fn begun(sandbox: &Sandbox, version: &str) -> Running {
    let running = sandbox.start(&["webserver"]);
    members(version).iter().for_each(|name| {
        running.until_stdout(&format!("{name} begun\n"));
    });
    running
}

fn pid(sandbox: &Sandbox, name: &str) -> Pid {
    Pid::from_raw(sandbox.read(&format!("pid-{name}")).trim().parse().unwrap())
}

fn told(outcome: &Outcome, version: &str, but: &str) {
    for name in members(version) {
        let is_told = outcome.stdout.contains(&format!("{name} told\n"));
        outcome.check(is_told == (*name != but), &format!("`{name}` and TERM"));
    }
}

#[test]
fn the_web_server_brings_what_must_run_beside_it() {
    for (version, expected) in [
        (V1, vec!["airflow initdb", "airflow scheduler", "airflow webserver -p 9090"]),
        (V2, vec!["airflow db migrate", "airflow scheduler", "airflow webserver -p 9090"]),
        (
            V3,
            vec![
                "airflow api-server -p 9090",
                "airflow dag-processor",
                "airflow db migrate",
                "airflow scheduler",
                "airflow triggerer",
            ],
        ),
    ] {
        let sandbox = sandbox(version, 0);
        let running = sandbox.start(&["webserver", "-p", "9090"]);
        members(version).iter().for_each(|name| {
            running.until_stdout(&format!("{name} begun\n"));
        });
        running.signal(running.main_pid(false), Signal::SIGTERM);
        let outcome = running.finish();
        let mut calls = sandbox.calls();
        calls.sort();
        outcome.succeeds().same(calls, expected.iter().map(|&call| call.to_owned()).collect());
        // The control: with tasks elsewhere, or when told so, it runs alone and is this process.
        for (name, value) in [("EXECUTOR", "Celery"), ("ENTRYPOINT_WEB_SCHEDULER", "false")] {
            let web = members(version)[0];
            sandbox.write("calls", "");
            sandbox.behave(&format!("airflow-{web}"), "");
            let outcome = sandbox.run_with(name, value, &["webserver"]);
            outcome.succeeds().says(&format!("info: become `airflow {web}`"));
            outcome.same(sandbox.calls().len(), 2);
        }
    }
}

#[test]
fn s01_the_end_of_any_is_the_end_of_all() {
    for version in [V1, V2, V3] {
        for name in members(version) {
            let sandbox = sandbox(version, 0);
            let running = begun(&sandbox, version);
            kill(pid(&sandbox, name), Signal::SIGKILL).unwrap();
            let outcome = running.finish();
            outcome.same(outcome.status.code(), Some(137));
            outcome.says(&format!("warning: `airflow {name}` ended with SIGKILL; stopping the others"));
            told(&outcome, version, name);
        }
    }
    // Its status is ours, be it none.
    for status in [0, 7] {
        let sandbox = sandbox(V2, 0);
        let pipe = sandbox.path("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
        sandbox.behave("airflow-scheduler", &format!("echo > {}; exit {status}", pipe.display()));
        let web = format!("airflow-{}", ON_1_AND_2[0]);
        let script = sandbox.read(&format!("behaviour/{web}"));
        sandbox.behave(&web, &script.replace("wait $child", &format!("read x < {}; wait $child", pipe.display())));
        let outcome = sandbox.run(&["webserver"]);
        outcome.same(outcome.status.code(), Some(status));
        outcome.says(&format!("warning: `airflow scheduler` ended with status {status}; stopping the others"));
        outcome.check(outcome.stdout.contains("webserver told\n"), "the other was not told");
    }
}

#[test]
fn a_stop_is_for_all_and_their_status_is_ours() {
    let wrappers: &[&[&str]] = if crate::namespace::unshare_works() { &[&[], &PID_1] } else { &[&[]] };
    for version in [V1, V3] {
        for (status, wrapper) in [0, 5].into_iter().flat_map(|status| wrappers.iter().map(move |w| (status, w))) {
            for signal in [Signal::SIGTERM, Signal::SIGINT] {
                let sandbox = sandbox(version, status).behind(wrapper);
                let running = begun(&sandbox, version);
                let main = running.main_pid(!wrapper.is_empty());
                running.signal(main, Signal::SIGHUP);
                running
                    .until_stderr("SIGHUP is not forwarded: it kills every process of Airflow but the Celery worker\n");
                running.signal(main, signal);
                let outcome = running.finish();
                outcome.same(outcome.status.code(), Some(i32::from(status)));
                outcome.says(&format!("info: {}: stopping", signal.as_str()));
                told(&outcome, version, "");
            }
        }
    }
}

#[test]
fn s04_a_stop_is_for_the_main_process_of_each_and_not_for_its_tasks() {
    let sandbox = sandbox(V2, 0);
    let pipe = sandbox.text("pipe");
    nix::unistd::mkfifo(&sandbox.path("pipe"), nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
    // The task ends when its scheduler says so, and would tell if it were signalled.
    let task = format!("(trap 'echo task told; exit' TERM; read x < {pipe}; echo task done) & task=$!");
    let script = format!("{task}; trap 'echo go > {pipe}; wait $task; exit 0' TERM; echo scheduler begun; wait $task");
    sandbox.behave("airflow-scheduler", &script);
    let running = begun(&sandbox, V2);
    running.signal(running.main_pid(false), Signal::SIGTERM);
    let outcome = running.finish();
    outcome.succeeds().check(outcome.stdout.contains("task done\n"), "the task was not finished");
    outcome.check(!outcome.stdout.contains("task told"), "the task was signalled");
}

/// Whether it has ended; a zombie is nobody.
fn is_gone(pid: Pid) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| stat.contains(") Z ")) || kill(pid, None).is_err()
}

#[test]
fn s12_nothing_is_left_of_any_of_them() {
    let sandbox = sandbox(V2, 0);
    // Two that the scheduler leaves behind, one of them deaf to TERM.
    let leave = "sleep 60 >/dev/null 2>&1 & echo $! > HERE/pid-left
        (trap '' TERM; exec sleep 60) >/dev/null 2>&1 & echo $! > HERE/pid-deaf\n";
    let script = sandbox.read("behaviour/airflow-scheduler");
    sandbox.behave("airflow-scheduler", &[&leave.replace("HERE", &sandbox.text("")), &*script].concat());
    let running = begun(&sandbox, V2);
    let left = [pid(&sandbox, "left"), pid(&sandbox, "deaf")];
    assert!(left.iter().all(|&pid| !is_gone(pid)), "the control: they are there");
    kill(pid(&sandbox, "webserver"), Signal::SIGKILL).unwrap();
    let outcome = running.finish();
    outcome.same(outcome.status.code(), Some(137));
    // A process that was killed needs a moment to vanish.
    let deadline = Instant::now() + DEADLINE;
    while !left.iter().all(|&pid| is_gone(pid)) {
        outcome.check(Instant::now() < deadline, "something is left");
        std::thread::yield_now();
    }
    // The sleep of the web server that was killed was in its group.
    let _ = kill(pid(&sandbox, "webserver"), None).unwrap_err();
}

#[test]
fn a_member_that_cannot_be_started_is_named() {
    let sandbox = sandbox(V2, 0);
    // It was there a moment ago.
    sandbox.behave("airflow-db", &format!("rm {}", sandbox.text("prefix/bin/airflow")));
    let outcome = sandbox.run(&["webserver"]);
    outcome.fails(
        127,
        "<lines>airflow-entrypoint: info: run as equals `airflow webserver`, `airflow scheduler`\n\
         airflow-entrypoint: error: cannot run `airflow`: no such file or directory\n\
         airflow-entrypoint: hint: install Airflow in this image, or put the folder of its `airflow` on `PATH`\n",
    );
}
