//! Processes: a step's command that is waited for, and becoming the command.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, OFlag, fcntl, open};
use nix::libc;
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{SigmaskHow, Signal, kill, killpg, sigprocmask};
use nix::sys::stat::Mode;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, chdir, execve, fchdir, getpgrp, getpid, setsid, tcgetpgrp, tcsetpgrp};
use zeroize::Zeroizing;

use super::executable::{cannot_run, foreign};
use super::signals::{Event, Signals};
use super::{broken_pipe, init, redacted, supervise};
use crate::environment::Environment;
use crate::error::{Error, Exit};
use crate::log;
use crate::steps::LaunchStep;

/// What a pipe holds (pipe(7)).
const PIPE: usize = 1 << 16;

/// How a step's command ended.
pub(super) struct Ended {
    pub status: ExitStatus,
    /// The signal that came meanwhile, forwarded already.
    pub stop: Option<Signal>,
}

/// What a command printed, and how it ended; without a status when its time was over.
pub(super) struct Captured {
    pub status: Option<ExitStatus>,
    pub stop: Option<Signal>,
    pub output: Zeroizing<Vec<u8>>,
}

/// Where a step's command writes to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Output {
    /// To our stderr: stdout belongs to the command that we become.
    Shown,
    /// There too, line by line, without what URLs say of users and passwords.
    Redacted,
    Hidden,
}

/// Becomes the command, or runs several.
pub(crate) fn launch(step: &LaunchStep, environment: &Environment, signals: &Signals) -> Result<Exit, Error> {
    signals.check("starting the command")?;
    log::info(step);
    // As late as can be: as PID 1 a signal between this and the next program's handlers is lost.
    signals.check("starting the command")?;
    match step {
        LaunchStep::End => Ok(Exit::Success),
        LaunchStep::Exec(words) => Err(exec(words, environment, signals)),
        LaunchStep::Init { words, manner } => init::run(words, *manner, environment, signals),
        LaunchStep::Supervise(step) => supervise::run(step, environment, signals),
    }
}

/// Replaces this process. Same pid, the signal mask as we got it; every descriptor of ours is closed by the kernel.
fn exec(words: &[OsString], environment: &Environment, signals: &Signals) -> Error {
    let mut command = command(words, environment);
    prepare(&mut command, signals, Place::Same);
    let error = command.exec();
    cannot_run(&command, &error)
}

/// Runs a step's command to its end, and forwards the signal that comes meanwhile.
pub(super) fn run(
    words: &[OsString],
    environment: &Environment,
    signals: &Signals,
    output: Output,
) -> Result<Ended, Error> {
    run_with_input(words, environment, signals, output, &[])
}

/// The same with this as its standard input, which must fit into a pipe.
pub(super) fn run_with_input(
    words: &[OsString],
    environment: &Environment,
    signals: &Signals,
    output: Output,
    input: &[u8],
) -> Result<Ended, Error> {
    let mut command = command(words, environment);
    command.stdin(if input.is_empty() { Stdio::null() } else { Stdio::piped() });
    let mut redaction = None;
    match output {
        Output::Shown => command.stdout(io::stderr()),
        Output::Redacted => {
            let failed = |error: io::Error| Error::Bug { what: format!("cannot read what a step says: {error}") };
            let (out, err) = redacted::open(&mut redaction).map_err(failed)?;
            command.stdout(out).stderr(err)
        }
        Output::Hidden => command.stdout(Stdio::null()).stderr(Stdio::null()),
    };
    let mut child = spawn(command, signals, Place::Apart)?;
    if let Some(mut stdin) = child.stdin.take() {
        // It may have ended at this very moment.
        let _ = stdin.write_all(input);
    }
    let (status, stop) = wait(&child, signals, None);
    if let Some(redaction) = redaction {
        redacted::close(redaction);
    }
    let status = status.ok_or_else(|| Error::Bug { what: "a child is lost".to_owned() })?;
    Ok(Ended { status, stop })
}

/// Runs a command for what it prints to stdout (64 KiB at most; it waits for ever with more), for a time at most.
pub(super) fn capture(
    words: &[OsString],
    environment: &Environment,
    signals: &Signals,
    limit: Duration,
) -> Result<Captured, Error> {
    let mut command = command(words, environment);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(io::stderr());
    let mut child = spawn(command, signals, Place::Apart)?;
    let (status, stop) = wait(&child, signals, Some(Instant::now() + limit));
    let mut output = Zeroizing::new(Vec::with_capacity(PIPE));
    if let Some(mut stdout) = child.stdout.take() {
        // Somebody in the background may still hold the other end.
        let _ = fcntl(&stdout, FcntlArg::F_SETFL(OFlag::O_NONBLOCK));
        let _ = stdout.read_to_end(&mut output);
    }
    Ok(Captured { status, stop, output })
}

/// Waits for a child, and forwards the signal that comes meanwhile. At the deadline it is killed, and has no status.
fn wait(child: &Child, signals: &Signals, deadline: Option<Instant>) -> (Option<ExitStatus>, Option<Signal>) {
    let pid = pid_of(child);
    let (mut stop, mut deadline) = (None, deadline);
    let mut late = false;
    loop {
        match signals.next(deadline, None) {
            Event::Stop(signal) => {
                stop = Some(signal);
                // It may have ended at this very moment.
                let _ = kill(pid, signal);
            }
            Event::Deadline => {
                (late, deadline) = (true, None);
                let _ = killpg(pid, Signal::SIGKILL);
            }
            Event::Child | Event::Woken => {
                while let Some((ended, status)) = reap() {
                    if ended == pid {
                        return ((!late).then_some(status), stop);
                    }
                }
                if is_lost(pid) {
                    return (None, stop);
                }
            }
        }
    }
}

/// A child that has ended, be it ours or an orphan that came to us as PID 1.
pub(super) fn reap() -> Option<(Pid, ExitStatus)> {
    loop {
        return match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, code)) => Some((pid, ExitStatus::from_raw(code << 8))),
            Ok(WaitStatus::Signaled(pid, signal, _)) => Some((pid, ExitStatus::from_raw(signal as i32))),
            Ok(WaitStatus::StillAlive) | Err(nix::Error::ECHILD) => None,
            _ => continue,
        };
    }
}

/// Whether a child that was not reaped by name is gone all the same: nix has no name for a real-time signal that has killed it.
pub(super) fn is_lost(pid: Pid) -> bool {
    kill(pid, None) == Err(nix::Error::ESRCH)
}

pub(super) fn command(words: &[OsString], environment: &Environment) -> Command {
    let (program, arguments) =
        words.split_first().map_or((OsString::new(), &[][..]), |(first, rest)| (first.clone(), rest));
    let mut command = Command::new(program);
    command.args(arguments).env_clear().envs(environment.iter());
    command
}

/// Where a child stands among the process groups of a terminal.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// In a session of its own, without a terminal: it asks nobody, and what it must be told comes from its standard input.
    Apart,
    /// In a group of its own, which has the terminal, if ours has it.
    Foreground,
    /// In a group of its own.
    Group,
    /// Where we are, whose init we are.
    Ours,
    /// It is no child, but this process.
    Same,
    /// In a session of its own, with the terminal that was ours.
    Session,
}

/// Starts a child, with the signal mask that we were given.
pub(super) fn spawn(mut command: Command, signals: &Signals, place: Place) -> Result<Child, Error> {
    let prepared = prepare(&mut command, signals, place);
    command.spawn().map_err(|error| {
        // The message is about a path as seen from here.
        let _ = prepared.here.map(fchdir);
        cannot_run(&command, &error)
    })
}

/// What we have done for a child before it is there.
pub(super) struct Prepared {
    /// Whether we gave up the terminal for it.
    pub detached: bool,
    /// The folder that we were in, if we have left it.
    here: Option<Arc<OwnedFd>>,
}

/// Leaves the folder that we are in, so that an init keeps no mount busy.
fn leave() -> Option<Arc<OwnedFd>> {
    let here = open(".", OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty()).ok()?;
    chdir("/").ok().map(|()| Arc::new(here))
}

/// Says what happens between fork and exec.
pub(super) fn prepare(command: &mut Command, signals: &Signals, place: Place) -> Prepared {
    let inherited = signals.inherited();
    let has_terminal = tcgetpgrp(io::stdin()).is_ok_and(|group| group == getpgrp());
    if matches!(place, Place::Foreground | Place::Group) {
        command.process_group(0);
    }
    // execvp(3), which std uses, gives what the kernel does not know to a shell. A program for another machine is none of its business.
    let foreign = foreign(command);
    let are_its_init = matches!(place, Place::Foreground | Place::Ours | Place::Session);
    let here = if are_its_init { leave() } else { None };
    let back = here.clone();
    let before_exec = move || {
        if let Some(folder) = &back {
            fchdir(folder)?;
        }
        broken_pipe::restore();
        sigprocmask(SigmaskHow::SIG_SETMASK, Some(&inherited), None)?;
        match &foreign {
            Some(program) => Err(execve(&program.path, &program.arguments, &program.environment).unwrap_err().into()),
            None => Ok(()),
        }
    };
    // SAFETY: between fork and exec only system calls are made, which are async-signal-safe (execve collects its pointers first; that
    // allocation is sound in glibc's and musl's fork). The ioctls take descriptor 0 and no pointer.
    #[allow(unsafe_code, reason = "std has no other way to give a child its signal mask and its terminal")]
    let detached = unsafe {
        command.pre_exec(move || {
            if place == Place::Foreground && has_terminal {
                // Every signal is blocked still: SIGTTOU would stop who is not in front.
                let _ = tcsetpgrp(BorrowedFd::borrow_raw(0), getpid());
            }
            if matches!(place, Place::Apart | Place::Session) {
                setsid()?;
            }
            if place == Place::Apart {
                // What we wait for is of no use without us: nobody would tell it to stop, and the lock that we hold for it is gone.
                set_pdeathsig(Signal::SIGTERM)?;
            }
            if place == Place::Session {
                libc::ioctl(0, libc::TIOCSCTTY, 0);
            }
            before_exec()
        });
        place == Place::Session && libc::ioctl(0, libc::TIOCNOTTY) == 0
    };
    Prepared { detached, here }
}

pub(super) fn pid_of(child: &Child) -> Pid {
    Pid::from_raw(child.id().cast_signed())
}

/// An ending in words.
pub(super) fn ending(status: ExitStatus) -> String {
    match (status.code(), status.signal().map(Signal::try_from)) {
        (Some(code), _) => format!("status {code}"),
        (None, Some(Ok(signal))) => signal.as_str().to_owned(),
        (None, _) => "an unknown status".to_owned(),
    }
}

/// The status to hand on: 128 and the number for a signal.
pub(super) fn exit(status: ExitStatus) -> Exit {
    match (status.code(), status.signal()) {
        (Some(code), _) => Exit::Command(code.to_le_bytes()[0]),
        (None, Some(signal)) => Exit::Signal(signal.to_le_bytes()[0]),
        (None, None) => Exit::Bug,
    }
}
