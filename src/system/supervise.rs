//! Several processes as equals: when one ends, the others are told to, and its status is ours.

use std::ffi::OsString;
use std::process::ExitStatus;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

use super::process::{Head, command, ending, exit, pid_of, reap, spawn};
use super::signals::{Event, Signals};
use crate::environment::Environment;
use crate::error::{Error, Exit};
use crate::explain::Words;
use crate::log;

/// How long the others may take to end when one of several has ended.
const GRACE: Duration = Duration::from_secs(30);
/// How long what they leave behind may take.
const LEFTOVER_GRACE: Duration = Duration::from_secs(2);
/// One of several processes.
struct Member<'a> {
    words: &'a [OsString],
    pid: Pid,
    status: Option<ExitStatus>,
}

/// Runs them until all have ended.
pub(super) fn run(commands: &[Vec<OsString>], environment: &Environment, signals: &Signals) -> Result<Exit, Error> {
    // What members leave behind comes to us, also where we are not PID 1.
    let _ = nix::sys::prctl::set_child_subreaper(true);
    let mut members = Members(Vec::with_capacity(commands.len()));
    for words in commands {
        match spawn(command(words, environment), words, signals, Head::Group) {
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
