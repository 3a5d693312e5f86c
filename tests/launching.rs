//! Commands that cannot be run, by their files; pid files that would keep one from running.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use crate::sandbox::{Sandbox, V1, V2, V3};

/// An executable file in the sandbox that cannot be run: status and message, as the command and behind an init.
#[track_caller]
fn cannot_run(content: &[u8], status: i32, cause: &str) {
    let sandbox = Sandbox::new(V2);
    sandbox.write("program", content);
    std::fs::set_permissions(sandbox.path("program"), std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = sandbox.text("program");
    let cause = cause.replace("PATH", &path);
    for init in ["false", "true"] {
        let outcome = sandbox.run_with("ENTRYPOINT_INIT", init, &[&path]);
        outcome.fails(status, &format!("<lines>airflow-entrypoint: error: cannot run `{path}`: {cause}\n"));
    }
    let outcome = sandbox.run(&["init", "--", &path]);
    outcome.fails(status, &format!("airflow-entrypoint: error: cannot run `{path}`: {cause}\n"));
}

#[test]
fn e04_windows_line_endings_are_named() {
    cannot_run(b"#!/bin/sh\r\necho hello\r\n", 127, "Windows line endings in `PATH`");
    cannot_run(b"#!/no/such/python -s\n", 127, "its interpreter `/no/such/python` does not exist");
}

#[test]
fn e07_a_program_for_another_machine_is_named() {
    let ours = std::env::consts::ARCH;
    let mut program = std::fs::read("/bin/true").unwrap();
    let (machine, name) = if ours == "aarch64" { (62_u16, "x86_64") } else { (183, "aarch64") };
    program[18..20].copy_from_slice(&machine.to_le_bytes());
    cannot_run(&program, 126, &format!("built for {name}, this machine is {ours}"));
    // The control: as it was it runs.
    let sandbox = Sandbox::new(V2);
    std::fs::copy("/bin/true", sandbox.path("program")).unwrap();
    sandbox.run(&[sandbox.text("program")]).succeeds();
    // A shell takes text without a first line for its own, as it always has.
    sandbox.program("text", "echo a script\n");
    let outcome = sandbox.run(&["text"]);
    outcome.succeeds().same(outcome.stdout.as_str(), "a script\n");
}

#[test]
fn e05_a_program_that_may_not_be_run() {
    let sandbox = Sandbox::new(V2);
    sandbox.write("prefix/bin/hook", "#!/bin/sh\n");
    let outcome = sandbox.run(&["hook"]);
    let cause = "permission denied; owner <n>:<n>, mode 0644, and we are <n>:<n>";
    outcome.fails(126, &format!("<lines>airflow-entrypoint: error: cannot run `hook`: {cause}\n"));
}

#[test]
fn e08_a_stale_pid_file_is_removed_and_a_live_peers_is_not() {
    let mut peer = Command::new("sh").args(["-c", "exec sleep 60", "airflow-scheduler"]).spawn().unwrap();
    let mut named = Command::new("sh");
    std::os::unix::process::CommandExt::arg0(&mut named, "airflow scheduler");
    let mut live = named.args(["-c", "read x; :"]).stdin(std::process::Stdio::piped()).spawn().unwrap();
    for (version, command, file) in [
        (V1, "scheduler", "scheduler"),
        (V2, "webserver", "webserver-monitor"),
        (V2, "worker", "worker"),
        (V3, "api-server", "api_server"),
        (V3, "dag-processor", "dag-processor"),
        (V3, "triggerer", "triggerer"),
    ] {
        let sandbox =
            Sandbox::new(version).with("ENTRYPOINT_WEB_SCHEDULER", "false").with("ENTRYPOINT_WAIT_TIMEOUT", "off");
        let pid_file = format!("home/airflow-{file}.pid");
        let path = sandbox.text(&pid_file);
        for (content, why) in [
            ("4194303\n".to_owned(), "process 4194303 is gone"),
            (format!("{}\n", peer.id()), &*format!("process {} is another program", peer.id())),
            (String::new(), "it holds no number of a process"),
        ] {
            sandbox.write(&pid_file, content);
            // That of another role is none of its business.
            sandbox.write("home/airflow-kerberos.pid", "4194303\n");
            let outcome = sandbox.run(&[command]);
            outcome.succeeds().says(&format!("info: removed the stale pid file `{path}`: {why}<any>"));
            outcome.check(!sandbox.path(&pid_file).exists(), "it is there");
            outcome.check(sandbox.path("home/airflow-kerberos.pid").exists(), "another one is gone");
        }
    }
    let sandbox = Sandbox::new(V2).with("ENTRYPOINT_WAIT_TIMEOUT", "off");
    let path = sandbox.text("scheduler.pid");
    sandbox.write("scheduler.pid", format!("{}\n", live.id()));
    for words in [&["scheduler", "--pid", &*path][..], &["supervise", &format!("scheduler --pid={path}")]] {
        let outcome = sandbox.run(words);
        let why = format!("process {} runs, and is such a scheduler", live.id());
        outcome.succeeds().says(&format!("warning: left the pid file `{path}`: {why}"));
        outcome.check(sandbox.path("scheduler.pid").exists(), "a live peer's is gone");
    }
    drop(live.stdin.take());
    live.wait().unwrap();
    peer.kill().unwrap();
    peer.wait().unwrap();
    let outcome = sandbox.run(&["scheduler", "--pid", &path]);
    outcome.succeeds().check(!sandbox.path("scheduler.pid").exists(), "the control: its process is gone");
}
