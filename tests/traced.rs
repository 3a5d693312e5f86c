//! A process that is killed before one of its system calls, which are counted over all of its threads: strace counts those of each
//! thread apart, and then hits the same one again and again.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Seek, Write};
use std::process::{Command, Stdio};

use nix::errno::Errno;
use nix::libc::{PTRACE_SYSCALL_INFO_ENTRY, SYS_flock, c_long};
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::points::{Does, chosen, does_number};

/// Before a call: how many calls that change something have ended (`points::matter`), and its number among those behind the last of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Point {
    changes: usize,
    number: usize,
}

/// Points, and how many there are.
pub(crate) struct Points {
    pub(crate) chosen: Vec<Point>,
    pub(crate) all: usize,
    changes: usize,
}

impl Points {
    /// Those of a command from its first `flock` on.
    pub(crate) fn of(command: &Command) -> Self {
        let (seen, _) = trace(command, None);
        let matter: Vec<bool> = seen.iter().map(|point| point.number == 1).collect();
        let chosen = chosen(&matter).into_iter().map(|index| seen[index]).collect();
        Self { chosen, all: seen.len(), changes: seen.last().map_or(0, |point| point.changes) }
    }

    /// Those behind, without end: another run may have some more.
    pub(crate) fn more(&self) -> impl Iterator<Item = Point> + use<> {
        (self.changes + 1..).map(|changes| Point { changes, number: 1 })
    }
}

/// Kills it before that call, at the latest before the next one that changes something. Says whether it came there; otherwise it has run to
/// its end.
pub(crate) fn kill_before(command: &Command, point: Point) -> bool {
    trace(command, Some(point)).1
}

/// All points until the end, and whether it was killed at this one.
#[expect(clippy::zombie_processes, reason = "a tracer waits for it in its own way")]
fn trace(command: &Command, until: Option<Point>) -> (Vec<Point>, bool) {
    let mut said = tempfile::tempfile().unwrap();
    let stderr = said.try_clone().unwrap();
    let mut child = gated(command).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(stderr).spawn().unwrap();
    let main = Pid::from_raw(child.id().cast_signed());
    let options = Options::PTRACE_O_EXITKILL
        | Options::PTRACE_O_TRACECLONE
        | Options::PTRACE_O_TRACEEXEC
        | Options::PTRACE_O_TRACESYSGOOD;
    ptrace::seize(main, options).unwrap();
    ptrace::interrupt(main).unwrap();
    child.stdin.take().unwrap().write_all(b"go\n").unwrap();
    let (mut points, mut killed, mut last) = (Vec::new(), false, String::new());
    let (mut now, mut begun, mut changing) = (Point { changes: 0, number: 0 }, false, BTreeSet::new());
    loop {
        // Other threads of the tests have children of their own.
        let flags = WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD;
        let goes_on = match waitpid(None, Some(flags)).unwrap() {
            WaitStatus::Exited(pid, status) if pid == main => {
                // Seen where the test fails.
                if status != 0 {
                    let mut text = String::new();
                    said.rewind().unwrap();
                    said.read_to_string(&mut text).unwrap();
                    println!("{command:?}: ended with {status}:\n{text}");
                }
                return (points, killed);
            }
            WaitStatus::Signaled(pid, ..) if pid == main => return (points, killed),
            WaitStatus::PtraceSyscall(thread) => {
                // One that was killed meanwhile has nothing to tell.
                let enters = ptrace::syscall_info(thread).is_ok_and(|info| info.op == PTRACE_SYSCALL_INFO_ENTRY);
                let call = if enters { call(thread) } else { String::new() };
                let (number, arguments) = parsed(&call);
                if changing.remove(&thread) {
                    now = Point { changes: now.changes + 1, number: 0 };
                }
                // The very same again is a wait: a login at PostgreSQL looks hundreds of times whether something has come.
                if enters && call != last && (now.number + now.changes > 0 || number == Some(SYS_flock)) {
                    now.number += 1;
                    last = call;
                    points.push(now);
                    let does = number.map_or(Does::Nothing, |number| does_number(number, &arguments));
                    begun |= does == Does::Changes;
                    let changes = begun && does != Does::Nothing;
                    let is_there = until.is_some_and(|point| {
                        now.changes > point.changes
                            || now.changes == point.changes && (now.number >= point.number || changes)
                    });
                    if is_there && !killed {
                        killed = kill(main, Signal::SIGKILL).is_ok();
                    }
                    if changes {
                        changing.insert(thread);
                    }
                }
                ptrace::syscall(thread, None)
            }
            WaitStatus::PtraceEvent(thread, ..) => ptrace::syscall(thread, None),
            WaitStatus::Stopped(thread, signal) => ptrace::syscall(thread, signal),
            _ => Ok(()),
        };
        assert!(matches!(goes_on, Ok(()) | Err(Errno::ESRCH)), "{goes_on:?}");
    }
}

/// The number of a call, none of a thread that is in none, and its arguments.
fn parsed(call: &str) -> (Option<c_long>, Vec<u64>) {
    let mut words = call.split_whitespace();
    let number = words.next().and_then(|word| word.parse().ok());
    (number, words.filter_map(|word| u64::from_str_radix(word.trim_start_matches("0x"), 16).ok()).collect())
}

/// The same command, that begins when a line is on its standard input.
fn gated(command: &Command) -> Command {
    let mut gated = Command::new("sh");
    gated.args(["-c", "read -r _; exec \"$0\" \"$@\" </dev/null"]).arg(command.get_program()).args(command.get_args());
    gated.env_clear().envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    gated
}

/// The number and the arguments of the call that a thread is in (proc(5)).
fn call(thread: Pid) -> String {
    fs::read_to_string(format!("/proc/{thread}/syscall")).unwrap_or_default()
}
