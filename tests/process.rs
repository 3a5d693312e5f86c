//! Becoming the command: same process, same arguments, nothing of ours left in it; and the steps before it that are commands of
//! others, which may fail or be told to stop.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::process::Command;

use nix::sys::signal::Signal;

use crate::namespace::unshare_works;
use crate::sandbox::{LINES, PID_1, Sandbox, V1, V2, V3};
use crate::services::local;

/// The lines of `/proc/PID/status` that say what a process does about signals.
fn signals(status: &str) -> Vec<&str> {
    status.lines().filter(|line| ["SigBlk", "SigIgn", "SigCgt"].iter().any(|name| line.starts_with(name))).collect()
}

#[test]
fn the_command_is_this_process_with_its_signals_as_they_were_given() {
    let sandbox = Sandbox::new(V2);
    let running = sandbox.start(&["--", "cat", "/proc/self/status"]);
    let pid = running.main_pid(false);
    let outcome = running.finish();
    outcome.succeeds().check(outcome.stdout.contains(&format!("\nPid:\t{pid}\n")), "another process");
    // As if nothing had been there in between.
    let control = sandbox.start_command(cat_status(&sandbox, &[])).finish();
    outcome.same(signals(&outcome.stdout), signals(&control.stdout));
    outcome.same(signals(&outcome.stdout).len(), 3);
    // What was ignored stays ignored, what was not is not.
    let ignore = ["sh", "-c", "trap '' USR1 HUP PIPE; exec \"$@\"", "sh"];
    let outcome = Sandbox::new(V2).behind(&ignore).run(&["--", "cat", "/proc/self/status"]);
    let altered = sandbox.start_command(cat_status(&sandbox, &ignore)).finish();
    outcome.same(signals(&outcome.stdout), signals(&altered.stdout));
    outcome.check(signals(&outcome.stdout) != signals(&control.stdout), "the control sees no difference");
}

fn cat_status(sandbox: &Sandbox, wrapper: &[&str]) -> Command {
    let words = [wrapper, &["cat", "/proc/self/status"]].concat();
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).env_clear().env("PATH", "/usr/bin:/bin").current_dir(sandbox.path(""));
    command
}

#[test]
fn no_descriptor_of_ours_is_left_and_none_of_others_is_closed() {
    let (_listener, port) = local();
    let services = |sandbox: Sandbox| {
        let sandbox = sandbox.with("EXECUTOR", "Local").with("ENTRYPOINT_PREPARE", "always");
        sandbox.with("POSTGRES_HOST", "127.0.0.1").with("POSTGRES_PORT", &*port)
    };
    // Where the test was started from may have left descriptors open: what counts is that ours adds none. `ls` itself holds the
    // folder that it lists.
    let ls = ["--", "ls", "/proc/self/fd"];
    for inherited in ["", "exec 7</dev/null; "] {
        let wrapper = format!("{inherited}exec \"$@\"");
        let sandbox = services(Sandbox::new(V2).behind(&["sh", "-c", &wrapper, "sh"]));
        let outcome = sandbox.run(&ls);
        let mut control = Command::new("sh");
        control.args(["-c", &wrapper, "sh"]).args(&ls[1..]);
        let control = sandbox.start_command(control).finish();
        outcome.succeeds().says("info: the database <any> answers <any>").same(&outcome.stdout, &control.stdout);
        outcome.check(outcome.stdout.contains("\n7\n") != inherited.is_empty(), "the control sees no difference");
    }
}

#[test]
fn umask_and_folder_stay_as_they_were() {
    for umask in ["0027", "0002"] {
        let sandbox = Sandbox::new(V2).behind(&["sh", "-c", &format!("umask {umask}; exec \"$@\""), "sh"]);
        let outcome = sandbox.run(&["--", "sh", "-c", "umask; pwd"]);
        outcome.succeeds().same(outcome.stdout.clone(), format!("{umask}\n{}\n", sandbox.text("")));
        // Ours are not for others all the same.
        sandbox.run(&["scheduler"]).succeeds();
        outcome.same(sandbox.mode("keys/fernet.key"), crate::sandbox::key_mode());
    }
}

#[test]
fn e01_arguments_are_untouched() {
    let odd = ["", "a b", "$HOME", "*", "--", "-x", "'\"", "two\nlines", "é", "${X:-y}", ""];
    for version in LINES {
        let sandbox = Sandbox::new(version);
        for first in [&["mycmd"][..], &["--", "mycmd"], &["airflow", "scheduler"], &["scheduler"]] {
            sandbox.write("calls", "");
            let outcome = sandbox.run(&[first, &odd].concat());
            let call = sandbox.call_words().pop().unwrap_or_default();
            let said = if first.contains(&"mycmd") { vec!["mycmd"] } else { vec!["airflow", "scheduler"] };
            outcome.succeeds().same(call, [said, odd.to_vec()].concat().into_iter().map(str::to_owned).collect());
        }
    }
    let sandbox = Sandbox::new(V2);
    let outcome = sandbox.run(&[OsStr::new("mycmd"), OsStr::from_bytes(b"\xff")]);
    outcome.succeeds().same(sandbox.calls(), vec!["mycmd \u{fffd}".to_owned()]);
}

#[test]
fn the_status_of_the_command_is_ours() {
    let sandbox = Sandbox::new(V2);
    for status in [0, 1, 2, 64, 78, 126, 255] {
        sandbox.behave("mycmd", &format!("exit {status}"));
        let outcome = sandbox.run(&["mycmd"]);
        outcome.same(outcome.status.code(), Some(status));
    }
    sandbox.behave("mycmd", "kill -TERM $$");
    let outcome = sandbox.run(&["mycmd"]);
    outcome.same((outcome.status.code(), outcome.code()), (None, 143));
}

#[test]
fn e07_a_command_that_cannot_be_run() {
    let sandbox = Sandbox::new(V2);
    sandbox.write("not-executable", "#!/bin/sh\n");
    let become_it = "<lines>airflow-entrypoint: info: become <any>\nairflow-entrypoint: error: cannot run";
    for (arguments, status, error) in [
        (&["/no/such/program"][..], 127, "`/no/such/program`: no such file or directory"),
        (&["/etc/passwd"], 126, "`/etc/passwd`: permission denied; owner 0:0, mode 0644, and we are <n>:<n>"),
        (
            &["./not-executable"],
            126,
            "`./not-executable`: permission denied; owner <n>:<n>, mode 0644, and we are <n>:<n>",
        ),
        (&["/tmp"], 126, "`/tmp`: is a directory"),
    ] {
        sandbox.run(arguments).fails(status, &format!("{become_it} {error}\n"));
    }
    let path = format!("{}:/usr/bin:/bin", sandbox.text("prefix/bin"));
    let did_you_mean = "airflow-entrypoint: hint: did you mean `webserver`?\n";
    for (arguments, word, hint) in [
        (&["airfow"][..], "airfow", ""),
        (&["webservr"], "webservr", did_you_mean),
        (&["--", "webserver"], "webserver", ""),
        (&["--", "no-such-program"], "no-such-program", ""),
        (&["--", ""], "", ""),
        (&[""], "", ""),
    ] {
        let outcome = sandbox.run(arguments);
        let error = format!("cannot run `{word}`: it is neither a command of Airflow nor a program in `{path}`");
        outcome.fails(127, &format!("airflow-entrypoint: error: {error}\n{hint}"));
    }
    let sandbox = Sandbox::new("");
    std::fs::remove_file(sandbox.path("prefix/bin/airflow")).unwrap();
    let path = format!("{}:/usr/bin:/bin", sandbox.text("prefix/bin"));
    for arguments in [&["version"][..], &["scheduler"], &["setup"], &["airflow", "scheduler"], &["--", "airflow"]] {
        let outcome = sandbox.run(arguments);
        if arguments[0] == "--" {
            let error = format!("cannot run `airflow`: it is neither a command of Airflow nor a program in `{path}`");
            outcome.fails(127, &format!("airflow-entrypoint: error: {error}\n"));
        } else {
            outcome.fails(
                127,
                &format!(
                    "airflow-entrypoint: error: cannot run `airflow`: there is no such program in `{path}`\n\
                     airflow-entrypoint: hint: install Airflow in this image, or put the folder of its `airflow` on `PATH`\n"
                ),
            );
        }
        outcome.same((sandbox.names("keys"), sandbox.names("home")), (vec![], vec![]));
    }
}

#[test]
fn r01_a_step_that_fails_ends_the_start_with_its_status() {
    for (version, call, words) in [
        (V1, "airflow-initdb", "airflow initdb"),
        (V2, "airflow-db", "airflow db migrate"),
        (V3, "airflow-db", "airflow db migrate"),
    ] {
        for (script, status, ending) in
            [("echo why; exit 3", 3, "status 3"), ("echo why; kill -KILL $$", 137, "SIGKILL")]
        {
            let sandbox = Sandbox::new(version);
            sandbox.behave(call, script);
            let outcome = sandbox.run(&["scheduler"]);
            let error = format!("cannot migrate the database: `{words}` ended with {ending}");
            // What the step says goes to stderr: stdout is the command's.
            outcome.fails(status, &format!("<lines>why\nairflow-entrypoint: error: {error}\n"));
            outcome.same(outcome.stdout.as_str(), "").same(sandbox.calls(), vec![words.to_owned()]);
        }
    }
    let sandbox = Sandbox::new(V2);
    sandbox.write("requirements.txt", "no-such-package==0\n");
    sandbox.behave("pip-install", "exit 1");
    let error = "cannot install the requirements: `pip ...` ended with status 1";
    let outcome = sandbox.run(&["scheduler"]);
    outcome.fails(1, &format!("<lines>airflow-entrypoint: error: {error}\n"));
    outcome.same(sandbox.calls().len(), 1);
}

/// A step that runs until it is told to stop, and then takes the time to end well.
const STEP: &str = "sleep 60 & child=$!; trap 'kill $child; echo told; exit 0' TERM INT; echo begun; wait $child";

#[test]
fn s15_a_stop_during_a_step_is_forwarded_and_nothing_more_is_started() {
    let wrappers: &[&[&str]] = if unshare_works() { &[&[], &PID_1] } else { &[&[]] };
    for (call, step) in [("pip-install", "install the requirements"), ("airflow-db", "migrate the database")] {
        for wrapper in wrappers {
            for (signal, status) in [(Signal::SIGTERM, 143), (Signal::SIGINT, 130)] {
                let sandbox = Sandbox::new(V2).behind(wrapper);
                sandbox.write("requirements.txt", "six\n");
                sandbox.behave(call, STEP);
                let running = sandbox.start(&["scheduler"]);
                running.until_stderr("begun\n");
                running.signal(running.main_pid(!wrapper.is_empty()), signal);
                let outcome = running.finish();
                outcome.fails(
                    status,
                    &format!(
                        "<lines>begun\ntold\nairflow-entrypoint: info: stopped by {} while <any>\n",
                        signal.as_str()
                    ),
                );
                outcome.check(outcome.stderr.contains(step), "which step");
                let calls: Vec<_> = sandbox.call_words().iter().map(|words| words[..2].join("-")).collect();
                outcome.same(calls.last().map(String::as_str), Some(call));
            }
        }
    }
}

#[test]
fn orphans_of_a_step_do_not_hold_up_pid_1() {
    if !unshare_works() {
        return;
    }
    let sandbox = Sandbox::new(V2).behind(&PID_1);
    // Each leaves children behind that end before, while and after it does.
    let orphans = "(true & sleep 0.01 & sleep 0.05 &) >/dev/null 2>&1; (exec true) & ";
    sandbox.write("requirements.txt", "six\n");
    sandbox.behave("pip-install", orphans);
    sandbox.behave("airflow-db", orphans);
    sandbox.behave("airflow-scheduler", "exec cat /proc/self/status");
    let outcome = sandbox.run(&["scheduler"]);
    outcome.succeeds().check(outcome.stdout.contains("\nPPid:\t1\n"), "we are not its init");
    let calls = sandbox.calls();
    outcome
        .same(calls[calls.len() - 2..].to_vec(), vec!["airflow db migrate".to_owned(), "airflow scheduler".to_owned()]);
}

/// The children of a process with their states, as the kernel has them.
fn children(pid: nix::unistd::Pid) -> Vec<String> {
    let numbers = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    let state = |number: &str| {
        let stat = std::fs::read_to_string(format!("/proc/{number}/stat")).unwrap_or_default();
        stat.rsplit(')').next().unwrap_or_default().trim().chars().take(1).collect()
    };
    numbers.split_whitespace().map(state).collect()
}

/// Two children that end while we look away are one signal: the orphan comes first, and the step must be seen behind it.
#[test]
fn an_orphan_and_a_step_that_end_together_are_both_seen() {
    if !unshare_works() {
        return;
    }
    let sandbox = Sandbox::new(V2).behind(&PID_1);
    let pipe = sandbox.path("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
    // Both wait for the pipe to be closed.
    let wait = format!("read closed < {}", pipe.display());
    sandbox.write("requirements.txt", "six\n");
    sandbox.behave("pip-install", &format!("({wait}) >/dev/null 2>&1 &"));
    sandbox.behave("airflow-db", &format!("echo begun; {wait}; true"));
    let running = sandbox.start(&["scheduler"]);
    running.until_stderr("begun\n");
    let main = running.main_pid(true);
    running.signal(main, Signal::SIGSTOP);
    // Opening it for writing waits for a reader, and so does closing it for the second one.
    let deadline = std::time::Instant::now() + crate::running::DEADLINE;
    while children(main) != ["Z", "Z"] {
        assert!(std::time::Instant::now() < deadline, "children: {:?}", children(main));
        let options = std::fs::OpenOptions::new().write(true).custom_flags(nix::libc::O_NONBLOCK).open(&pipe);
        drop(options);
    }
    running.signal(main, Signal::SIGCONT);
    running.finish().succeeds();
    assert_eq!(sandbox.calls().last().map(String::as_str), Some("airflow scheduler"));
}

#[test]
fn help_and_version_go_to_stdout() {
    let sandbox = Sandbox::new(V2);
    let outcome = sandbox.run(&["--version"]);
    let version = format!("airflow-entrypoint {}\n", env!("CARGO_PKG_VERSION"));
    outcome.succeeds().same((outcome.stdout.as_str(), outcome.stderr.as_str()), (version.as_str(), ""));
    let outcome = sandbox.run(&["--help"]);
    outcome.succeeds().check(outcome.stdout.contains("Usage: airflow-entrypoint [COMMAND [ARGUMENT...]]"), "no usage");
    outcome.same(outcome.stderr.as_str(), "").same(sandbox.calls(), vec![]);
    // A closed stderr is no reason to fail.
    let sandbox = sandbox.behind(&["sh", "-c", "exec \"$@\" 2>&-", "sh"]);
    std::fs::set_permissions(sandbox.path("keys"), std::fs::Permissions::from_mode(0o700)).unwrap();
    sandbox.run(&["scheduler"]).succeeds();
    assert_eq!(sandbox.calls(), ["airflow db migrate", "airflow scheduler"]);
}
