//! Processes: a step's command that is waited for, several as equals, and becoming the command.

use std::ffi::OsString;
use std::io::Read;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};
use std::{io, thread};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::signal::{SigmaskHow, Signal, kill, killpg, sigprocmask};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use zeroize::Zeroizing;

use super::cause;
use super::signals::{Event, Signals};
use crate::environment::Environment;
use crate::error::{Error, Exit, Found};
use crate::explain::Words;
use crate::log;
use crate::steps::LaunchStep;

/// How long the others may take to end when one of several has ended.
const GRACE: Duration = Duration::from_secs(30);
/// How long what they leave behind may take.
const LEFTOVER_GRACE: Duration = Duration::from_secs(2);
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
    Hidden,
}

/// Becomes the command, or runs several.
pub(crate) fn launch(step: &LaunchStep, environment: &Environment, signals: &Signals) -> Result<Exit, Error> {
    signals.check("starting the command")?;
    log::info(step);
    match step {
        LaunchStep::End => Ok(Exit::Success),
        LaunchStep::Exec(words) => Err(exec(words, environment, signals)),
        LaunchStep::Supervise(members) => supervise(members, environment, signals),
    }
}

/// Replaces this process. Same pid, the signal mask as we got it; every descriptor of ours is closed by the kernel.
fn exec(words: &[OsString], environment: &Environment, signals: &Signals) -> Error {
    let mut command = command(words, environment);
    signals.restore();
    cannot_run(words, &command.exec())
}

/// Runs a step's command to its end, and forwards the signal that comes meanwhile.
pub(super) fn run(
    words: &[OsString],
    environment: &Environment,
    signals: &Signals,
    output: Output,
) -> Result<Ended, Error> {
    let mut command = command(words, environment);
    command.stdin(Stdio::null());
    match output {
        Output::Shown => command.stdout(io::stderr()),
        Output::Hidden => command.stdout(Stdio::null()).stderr(Stdio::null()),
    };
    let child = spawn(command, words, signals)?;
    let (status, stop) = wait(&child, signals, None);
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
    let mut child = spawn(command, words, signals)?;
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
            }
        }
    }
}

/// One of several processes.
struct Member<'a> {
    words: &'a [OsString],
    pid: Pid,
    status: Option<ExitStatus>,
}

/// Runs several processes as equals: when one ends, the others are told to, and its status is ours.
fn supervise(commands: &[Vec<OsString>], environment: &Environment, signals: &Signals) -> Result<Exit, Error> {
    // What members leave behind comes to us, also where we are not PID 1.
    let _ = nix::sys::prctl::set_child_subreaper(true);
    let mut members = Members(Vec::with_capacity(commands.len()));
    for words in commands {
        match spawn(command(words, environment), words, signals) {
            Ok(child) => members.0.push(Member { words, pid: pid_of(&child), status: None }),
            Err(error) => {
                members.stop(Signal::SIGTERM);
                members.wait(signals, Instant::now() + GRACE);
                return Err(error);
            }
        }
    }
    let first = loop {
        match signals.next(None, None) {
            Event::Stop(Signal::SIGHUP) => {
                log::info("SIGHUP is not forwarded: it kills every process of Airflow but the Celery worker");
            }
            Event::Stop(signal) => {
                log::info(format_args!("{}: stopping", signal.as_str()));
                members.stop(signal);
                members.wait(signals, Instant::now() + GRACE);
                break None;
            }
            _ => {
                if let Some(ended) = members.reap() {
                    break Some(ended);
                }
            }
        }
    };
    let exit = match first {
        Some(index) => {
            let (name, ending) = members.ending(index);
            log::warning(format_args!("{name} ended with {ending}; stopping the others"));
            members.stop(Signal::SIGTERM);
            members.wait(signals, Instant::now() + GRACE);
            members.exit(index)
        }
        None => (0..members.0.len())
            .map(|index| members.exit(index))
            .find(|exit| exit.status() != 0)
            .unwrap_or(Exit::Success),
    };
    members.clear_leftovers();
    Ok(exit)
}

struct Members<'a>(Vec<Member<'a>>);

impl Members<'_> {
    /// Signals the main process of each that still runs: to the whole group it would kill running tasks.
    fn stop(&self, signal: Signal) {
        for member in self.0.iter().filter(|member| member.status.is_none()) {
            let _ = kill(member.pid, signal);
        }
    }

    /// Waits for all; forwards further signals; kills what is left at the deadline.
    fn wait(&mut self, signals: &Signals, deadline: Instant) {
        self.reap();
        while self.0.iter().any(|member| member.status.is_none()) {
            match signals.next(Some(deadline), None) {
                Event::Stop(signal) => self.stop(signal),
                Event::Deadline => {
                    for member in self.0.iter().filter(|member| member.status.is_none()) {
                        log::warning(format_args!("{} does not end; killing it", Words(member.words)));
                        let _ = killpg(member.pid, Signal::SIGKILL);
                    }
                    // A killed process cannot stay.
                    thread::sleep(Duration::from_millis(10));
                }
                _ => {}
            }
            self.reap();
        }
    }

    /// Takes in all that has ended; the first of our members among it.
    fn reap(&mut self) -> Option<usize> {
        let mut first = None;
        while let Some((pid, status)) = reap() {
            if let Some(index) = self.0.iter().position(|member| member.pid == pid) {
                self.0[index].status = Some(status);
                first = first.or(Some(index));
            }
        }
        first
    }

    /// TERM, a moment, KILL for what is left of the groups.
    fn clear_leftovers(&self) {
        let signal = |signal| self.0.iter().filter(|member| killpg(member.pid, signal).is_ok()).count();
        if signal(Signal::SIGTERM) == 0 {
            return;
        }
        let deadline = Instant::now() + LEFTOVER_GRACE;
        while Instant::now() < deadline {
            while reap().is_some() {}
            if self.0.iter().all(|member| killpg(member.pid, None).is_err()) {
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
        signal(Signal::SIGKILL);
    }

    fn ending(&self, index: usize) -> (String, String) {
        let member = &self.0[index];
        (Words(member.words).to_string(), member.status.map_or_else(String::new, ending))
    }

    fn exit(&self, index: usize) -> Exit {
        self.0[index].status.map_or(Exit::Bug, exit)
    }
}

/// A child that has ended, be it ours or an orphan that came to us as PID 1.
fn reap() -> Option<(Pid, ExitStatus)> {
    loop {
        return match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, code)) => Some((pid, ExitStatus::from_raw(code << 8))),
            Ok(WaitStatus::Signaled(pid, signal, _)) => Some((pid, ExitStatus::from_raw(signal as i32))),
            Ok(WaitStatus::StillAlive) | Err(nix::Error::ECHILD) => None,
            _ => continue,
        };
    }
}

fn command(words: &[OsString], environment: &Environment) -> Command {
    let (program, arguments) =
        words.split_first().map_or((OsString::new(), &[][..]), |(first, rest)| (first.clone(), rest));
    let mut command = Command::new(program);
    command.args(arguments).env_clear().envs(environment.iter());
    command
}

/// Starts a child in a group of its own, with the signal mask that we were given.
fn spawn(mut command: Command, words: &[OsString], signals: &Signals) -> Result<Child, Error> {
    let inherited = signals.inherited();
    command.process_group(0);
    // SAFETY: between fork and exec only sigprocmask(2) is called, which is async-signal-safe; nothing is allocated.
    #[allow(unsafe_code, reason = "std has no other way to give a child its signal mask without deafening the parent")]
    unsafe {
        command.pre_exec(move || Ok(sigprocmask(SigmaskHow::SIG_SETMASK, Some(&inherited), None)?));
    }
    command.spawn().map_err(|error| cannot_run(words, &error))
}

fn pid_of(child: &Child) -> Pid {
    Pid::from_raw(child.id().cast_signed())
}

fn cannot_run(words: &[OsString], error: &io::Error) -> Error {
    Error::CannotRun {
        program: words.first().map(|word| word.to_string_lossy().into_owned()).unwrap_or_default(),
        cause: cause(error),
        found: if error.kind() == io::ErrorKind::NotFound { Found::No } else { Found::NotExecutable },
    }
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
