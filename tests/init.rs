//! Being an init: one table of probes for ours and for the well-known ones, which agree in all that is asked here, and controls
//! without any.

use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::namespace::{present, unshare_works};
use crate::outcome::Outcome;
use crate::running::Running;
use crate::sandbox::{BINARY, PID_1};

/// An init and how a command is put behind it.
pub(crate) type Subject = &'static [&'static str];

pub(crate) const OURS: Subject = &[BINARY, "init", "--"];
const AS_DUMB_INIT: &str = "dumb-init";
const PEERS: [Subject; 3] = [&["tini", "-g", "--"], &["dumb-init", "--"], &["catatonit", "-g", "--"]];
/// The first signal that has no name.
const FIRST_UNNAMED: i32 = 34;

/// Ours and the referees that are here.
fn subjects() -> Vec<Subject> {
    let there = |subject: &Subject| present(subject[0], Command::new(subject[0]).arg("--version").output().is_ok());
    std::iter::once(OURS).chain(PEERS.into_iter().filter(there)).collect()
}

/// A command behind these words, in the world of this machine.
pub(crate) fn start(words: &[&[&str]]) -> Running {
    let words = words.concat();
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).env_remove("DUMB_INIT_SETSID");
    Running::start(command, std::path::Path::new("/nonexistent"))
}

#[track_caller]
pub(crate) fn run(words: &[&[&str]]) -> Outcome {
    start(words).finish()
}

pub(crate) fn probe(name: &str) -> String {
    format!("{}/tests/probes/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// As PID 1 and, without a namespace, as any process.
fn places() -> Vec<&'static [&'static str]> {
    if unshare_works() { vec![&PID_1, &[]] } else { vec![&[]] }
}

#[test]
fn every_status_of_the_command_is_that_of_the_init() {
    let script = "for s in $(seq 0 255); do \"$@\" sh -c \"exit $s\"; [ $? = $s ] || echo \"$s became $?\"; done 2>&1";
    let place: &[&str] = if unshare_works() { &PID_1 } else { &[] };
    let all: Vec<_> = subjects().iter().map(|subject| start(&[&["sh", "-c", script, "sh"], place, subject])).collect();
    for running in all {
        let outcome = running.finish();
        outcome.succeeds().same(outcome.stdout.as_str(), "");
    }
}

#[test]
fn what_kills_the_command_is_128_and_its_number() {
    for subject in subjects() {
        for place in places() {
            for number in [1, 2, 3, 6, 9, 11, 15] {
                let outcome = run(&[place, subject, &["sh", "-c", &format!("ulimit -c 0; kill -{number} $$")]]);
                outcome.same(outcome.code(), 128 + number);
            }
        }
    }
}

/// Signals that every init hands on.
const AGREED: [i32; 16] = [1, 2, 3, 10, 12, 13, 14, 15, 16, 18, 23, 24, 25, 26, 27, 28];

#[test]
fn every_signal_is_handed_on() {
    let script = probe("signals.py");
    for subject in subjects() {
        for place in places() {
            let running = start(&[place, subject, &["python3", &script]]);
            running.until_stdout("ready\n");
            let main = running.main_pid(!place.is_empty());
            let ours = (1..32).filter(|number| ![9, 17, 19].contains(number)).collect::<Vec<i32>>();
            // The others leave to the kernel what is the kernel's to send, and stop when a job is told to stop.
            let numbers = if subject == OURS { ours } else { AGREED.to_vec() };
            for number in &numbers {
                running.signal(main, Signal::try_from(*number).unwrap());
                running.until_stdout(&format!("got {number}\n"));
            }
            // A second TERM is handed on as the first one was.
            running.signal(main, Signal::SIGTERM);
            running.until_stdout(&format!("got {}\ngot 15\n", numbers.last().unwrap()));
            running.signal(main, Signal::SIGTERM);
            running.finish().succeeds();
        }
    }
}

#[test]
fn ten_thousand_orphans_are_reaped() {
    if !unshare_works() {
        return;
    }
    let script = probe("orphans.py");
    let python = ["python3", "-I", "-S", &script];
    for subject in subjects() {
        let outcome = run(&[&PID_1, subject, &python, &["10000"]]);
        outcome.succeeds().same(outcome.stdout.as_str(), "zombies 0\n");
    }
    // The control: a PID 1 that does not wait for what is not its own.
    let outcome = run(&[&PID_1, &python, &["100", "0.2"]]);
    outcome.succeeds().same(outcome.stdout.as_str(), "zombies 100\n");
}

#[test]
fn a_control_without_an_init_is_deaf() {
    if !unshare_works() {
        return;
    }
    for (subject, deaf) in subjects().into_iter().map(|subject| (subject, false)).chain([(&[] as Subject, true)]) {
        let running = start(&[&PID_1, subject, &["sh", "-c", "echo ready; exec sleep 60"]]);
        running.until_stdout("ready\n");
        running.signal(running.main_pid(true), Signal::SIGTERM);
        if deaf {
            assert!(running.outlives(Duration::from_millis(300)), "it heard");
            running.signal(running.main_pid(true), Signal::SIGKILL);
            let _ = running.ends();
        } else {
            let outcome = running.finish();
            outcome.same(outcome.code(), 143);
        }
    }
}

/// What a process is given: mask, dispositions, file mode mask, folder, descriptors.
const GIVEN: &str =
    "grep -E '^Sig(Blk|Ign|Cgt)' /proc/self/status; umask; pwd; ls /proc/self/fd; readlink /proc/self/fd/7";

#[test]
fn the_command_has_what_the_init_was_given() {
    let alter = "import os, signal, sys
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2, signal.SIGALRM])
signal.signal(signal.SIGHUP, signal.SIG_IGN)
signal.signal(signal.SIGPIPE, signal.SIG_DFL)
os.umask(0o027); os.chdir('/usr')
os.dup2(os.open('/dev/null', os.O_RDONLY), 7)
os.execvp(sys.argv[1], sys.argv[1:])";
    let given = ["sh", "-c", GIVEN];
    // Rust's runtime ignores this one; whoever was given it so must have it so.
    let ignore = "trap '' PIPE USR1; exec \"$@\"";
    for wrapper in [&[][..], &["python3", "-c", alter], &["sh", "-c", ignore, "sh"]] {
        let control = run(&[wrapper, &given]);
        control.same(control.stdout.contains("/dev/null\n"), wrapper.contains(&alter));
        // The others show a mask of their own, or forget what was ignored.
        for subject in subjects().into_iter().filter(|subject| *subject == OURS || subject[0] == "tini") {
            let outcome = run(&[wrapper, subject, &given]);
            outcome.same(outcome.stdout.as_str(), control.stdout.as_str());
        }
    }
}

#[test]
fn s06_a_shell_at_a_terminal_has_job_control() {
    if !unshare_works() {
        return;
    }
    let script = probe("terminal.py");
    // Not a shell: one that has just forked (vfork(2)) cannot be stopped.
    let job = r#"python3 -c \"import signal, time; signal.signal(signal.SIGCONT, lambda *_: print('con' 'tinued', flush=True)); print('re' 'ady', flush=True); [time.sleep(0.05) for _ in iter(int, 1)]\"\n"#;
    let steps = format!(
        r#"[["$ ", "echo flags=$-\n"], ["flags=himBHs", "{job}"], ["ready", "\u001a"], ["Stopped", "fg\n"],
            ["continued", "\u0003"], ["$ ", "exit 7\n"]]"#
    );
    let shell = ["env", "PS1=$ ", "bash", "--norc", "--noprofile", "-i"];
    // dumb-init gives up a terminal for its command only where it leads the session, as in a container; catatonit leaves
    // SIGTSTP blocked in what it starts.
    let with_jobs = |subject: &Subject| subject[0] != AS_DUMB_INIT && subject[0] != "catatonit";
    for subject in subjects().into_iter().filter(with_jobs) {
        let outcome = run(&[&["python3", &script, &steps], &PID_1, subject, &shell]);
        outcome.same(outcome.code(), 7);
        outcome.check(!outcome.stdout.contains("no job control"), "no job control");
    }
}

#[test]
fn s09_ctrl_z_stops_nobody_who_could_not_be_continued() {
    if !unshare_works() {
        return;
    }
    let script = probe("terminal.py");
    let steps = r#"[["ready", "\u001a"], ["^Z", "\u001a"], ["^Z", "\u0003"]]"#;
    let outcome = run(&[&["python3", &script, steps], &PID_1, OURS, &["sh", "-c", "echo ready; exec sleep 100"]]);
    outcome.same(outcome.code(), 130);
}

/// Where there is an init before us, we take in orphans all the same.
#[test]
fn not_being_pid_1() {
    let orphan =
        "(sh -c 'read x; ps -o comm= -p $(ps -o ppid= -p $$)' < HERE &) ; sleep 0; echo > HERE; wait; read y < HERE2";
    let folder = tempfile::tempdir().unwrap();
    let pipes = ["a", "b"].map(|name| folder.path().join(name).to_str().unwrap().to_owned());
    for pipe in &pipes {
        nix::unistd::mkfifo(std::path::Path::new(pipe), nix::sys::stat::Mode::S_IRWXU).unwrap();
    }
    let orphan = orphan.replace("HERE2", &pipes[1]).replace("HERE", &pipes[0]);
    let running = start(&[OURS, &["sh", "-c", &orphan]]);
    running.until_stdout("airflow-entrypo\n");
    std::fs::write(&pipes[1], "\n").unwrap();
    running.finish().succeeds();
}

/// A real-time signal is nothing to it, and it sees one that kills its child.
#[test]
fn real_time_signals_hurt_nobody() {
    for place in places() {
        let running = start(&[place, OURS, &["sh", "-c", "echo ready; exec sleep 60"]]);
        running.until_stdout("ready\n");
        let main = running.main_pid(!place.is_empty()).to_string();
        for number in FIRST_UNNAMED..=64 {
            run(&[&["sh", "-c", &format!("kill -{number} {main}")]]).succeeds();
        }
        assert!(running.outlives(Duration::from_millis(100)), "it ended");
        running.signal(running.main_pid(!place.is_empty()), Signal::SIGTERM);
        let outcome = running.finish();
        outcome.same(outcome.code(), 143);
        let outcome = run(&[place, OURS, &["sh", "-c", &format!("kill -{FIRST_UNNAMED} $$")]]);
        outcome.same(outcome.code(), 128 + FIRST_UNNAMED);
    }
}

/// The program under the name of another one.
#[test]
fn called_dumb_init_it_is_dumb_init() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(AS_DUMB_INIT).to_str().unwrap().to_owned();
    std::os::unix::fs::symlink(BINARY, &path).unwrap();
    let shell = |script: &'static str| ["sh", "-c", script];
    run(&[&[&path], &shell("exit 3")]).same(run(&[&[&path], &shell("exit 3")]).code(), 3);
    let outcome = run(&[&[&path, "-v", "-r", "15:2", "--"], &shell("kill -15 $PPID; exec sleep 60")]);
    outcome.same(outcome.code(), 130);
    outcome.check(outcome.stderr.contains("[dumb-init] Translating signal 15 to 2.\n"), "not rewritten");
    let outcome = run(&[&[&path, "/doesnotexist"]]);
    outcome.fails(127, "[dumb-init] /doesnotexist: No such file or directory\n");
    let outcome = run(&[&[&path, "-r", "99:1", "true"]]);
    outcome.check(outcome.code() == 1 && outcome.stderr.starts_with("Usage: -r option takes"), "not refused");
    // A session of its own, or with -c none.
    let session = "ps -o sid= -p $$";
    let [own, ours] = [&[&*path][..], &[&*path, "-c"]].map(|init| run(&[init, &shell(session)]).stdout);
    let parent = run(&[&shell(session)]).stdout;
    assert!(own != parent && ours == parent, "{own} {ours} {parent}");
}
