//! A process that is killed before one of its system calls, which are counted over all of its threads: strace counts those of each
//! thread apart, and then hits the same one again and again.

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};

use nix::errno::Errno;
use nix::libc::{PTRACE_SYSCALL_INFO_ENTRY, SYS_flock};
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

/// Kills it before this system call, counted from its first `flock` on, which is number 1. Says whether there was one of that number;
/// otherwise it has run to its end.
#[expect(clippy::zombie_processes, reason = "a tracer waits for it in its own way")]
pub(crate) fn kill_before(command: &Command, number: usize) -> bool {
    let mut child = gated(command).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let main = Pid::from_raw(child.id().cast_signed());
    let options = Options::PTRACE_O_EXITKILL
        | Options::PTRACE_O_TRACECLONE
        | Options::PTRACE_O_TRACEEXEC
        | Options::PTRACE_O_TRACESYSGOOD;
    ptrace::seize(main, options).unwrap();
    ptrace::interrupt(main).unwrap();
    child.stdin.take().unwrap().write_all(b"go\n").unwrap();
    let (mut count, mut killed, mut last) = (0, false, String::new());
    loop {
        // Other threads of the tests have children of their own.
        let flags = WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD;
        let goes_on = match waitpid(None, Some(flags)).unwrap() {
            WaitStatus::Exited(pid, _) | WaitStatus::Signaled(pid, ..) if pid == main => return killed,
            WaitStatus::PtraceSyscall(thread) => {
                // One that was killed meanwhile has nothing to tell.
                let enters = ptrace::syscall_info(thread).is_ok_and(|info| info.op == PTRACE_SYSCALL_INFO_ENTRY);
                let call = if enters { call(thread) } else { String::new() };
                // The very same again is a wait: a login at PostgreSQL looks hundreds of times whether something has come.
                if enters && call != last && (count > 0 || call.starts_with(&format!("{SYS_flock} "))) {
                    count += 1;
                    last = call;
                    if count == number {
                        killed = kill(main, Signal::SIGKILL).is_ok();
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
