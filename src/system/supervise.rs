//! Several processes as equals: when one ends, the others are told to, and its status is ours.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Instant;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use super::cause;
use super::init::{FIRST_REAL_TIME, adopt, clear_leftovers, forward};
use super::output::{Ends, Outputs};
use super::process::{Place, command, ending, exit, is_lost, pid_of, reap, spawn};
use super::signals::{Signals, Taken};
use crate::environment::Environment;
use crate::error::{Error, Exit};
use crate::launch::forwarding::withheld;
use crate::launch::restart;
use crate::log;
use crate::report::explain::{Words, role};
use crate::settings::values::WaitTimeout;
use crate::steps::Supervise;

/// One of several processes.
struct Member<'a> {
    words: &'a [OsString],
    pid: Pid,
    /// How it ended, as long as it is not started again.
    status: Option<ExitStatus>,
    /// How often it was started again.
    restarts: u32,
    /// When it will be.
    due: Option<Instant>,
}

/// All of them, and what starting one takes.
struct Members<'a> {
    step: &'a Supervise,
    environment: &'a Environment,
    signals: &'a Signals,
    ends: Ends,
    all: Vec<Member<'a>>,
}

/// Runs them until all have ended.
pub(super) fn run(step: &Supervise, environment: &Environment, signals: &Signals) -> Result<Exit, Error> {
    // What members leave behind comes to us, also where we are not PID 1.
    adopt();
    let (outputs, ends) = match step.members.len() {
        // Nobody to tell it apart from: its streams are ours.
        1 => (None, Ends::new()),
        _ => {
            let (outputs, ends) = Outputs::open(&names(&step.members)).map_err(|error| no_pipe(&error))?;
            (Some(outputs), ends)
        }
    };
    let mut members = Members { step, environment, signals, ends, all: Vec::with_capacity(step.members.len()) };
    let result = members.live();
    let groups: Vec<Pid> = members.all.iter().map(|member| member.pid).collect();
    clear_leftovers(&groups, signals);
    // Or our own ends would keep the pipes open.
    drop(members);
    if let Some(outputs) = outputs {
        outputs.close();
    }
    result
}

/// What each is called in the output: its role, with a number where there are several of it.
fn names(commands: &[Vec<OsString>]) -> Vec<String> {
    let roles: Vec<String> = commands.iter().map(|words| role(words)).collect();
    let name = |(index, name): (usize, &String)| {
        let earlier = roles[..index].iter().filter(|other| *other == name).count();
        if earlier == 0 { name.clone() } else { format!("{name} {}", earlier + 1) }
    };
    roles.iter().enumerate().map(name).collect()
}

fn no_pipe(error: &io::Error) -> Error {
    Error::Bug { what: format!("cannot make a pipe: {}", cause(error)) }
}

impl Members<'_> {
    /// From the start of the first to the end of the last.
    fn live(&mut self) -> Result<Exit, Error> {
        for (index, words) in self.step.members.iter().enumerate() {
            let pid = self.start(index, words)?;
            self.all.push(Member { words, pid, status: None, restarts: 0, due: None });
        }
        loop {
            let due = self.all.iter().filter_map(|member| member.due).min();
            match self.signals.any(due) {
                Some(Taken { signal: Signal::SIGCHLD, .. }) => {
                    self.reap();
                    while let Some(index) = self.all.iter().position(|m| m.status.is_some() && m.due.is_none()) {
                        if !self.comes_back(index) {
                            return Ok(self.end_with(index));
                        }
                    }
                }
                Some(Taken { signal: signal @ (Signal::SIGTERM | Signal::SIGINT | Signal::SIGQUIT), .. }) => {
                    log::info(format_args!("{}: stopping", signal.as_str()));
                    self.send(signal);
                    self.wait();
                    let mut statuses = (0..self.all.len()).map(|index| self.exit(index));
                    return Ok(statuses.find(|exit| exit.status() != 0).unwrap_or(Exit::Success));
                }
                Some(Taken { signal, .. }) if !self.step.manner.forwards_to_many(signal.as_str()) => {
                    log::info(withheld(signal.as_str()));
                }
                Some(Taken { signal, .. }) => self.send(signal),
                None => self.start_due()?,
            }
        }
    }

    /// Starts one; when that fails the others are stopped.
    fn start(&mut self, index: usize, words: &[OsString]) -> Result<Pid, Error> {
        let mut command = command(words, self.environment);
        if let Some((stdout, stderr)) = self.ends.get(index) {
            let clone = |end: &io::PipeWriter| end.try_clone().map_err(|error| no_pipe(&error));
            command.stdout(clone(stdout)?).stderr(clone(stderr)?);
        }
        spawn(command, self.signals, Place::Group).map(|child| pid_of(&child)).inspect_err(|_| {
            self.send(Signal::SIGTERM);
            self.wait();
        })
    }

    /// Whether one that has ended will be started again. What it leaves behind has the pause to end in.
    fn comes_back(&mut self, index: usize) -> bool {
        let (name, ending) = self.ending(index);
        let member = &mut self.all[index];
        let Some(pause) = restart::pause(member.restarts, self.step.restarts) else { return false };
        log::warning(format_args!(
            "{name} ended with {ending}; starting it again in {pause:?} ({} of {})",
            member.restarts + 1,
            self.step.restarts
        ));
        member.due = Some(Instant::now() + pause);
        member.restarts += 1;
        let _ = killpg(member.pid, Signal::SIGTERM);
        true
    }

    fn start_due(&mut self) -> Result<(), Error> {
        let now = Instant::now();
        for index in 0..self.all.len() {
            if self.all[index].due.is_some_and(|due| due <= now) {
                let _ = killpg(self.all[index].pid, Signal::SIGKILL);
                let pid = self.start(index, self.all[index].words)?;
                let member = &mut self.all[index];
                (member.pid, member.status, member.due) = (pid, None, None);
            }
        }
        Ok(())
    }

    /// The end of all, because one has ended.
    fn end_with(&mut self, index: usize) -> Exit {
        let (name, ending) = self.ending(index);
        if self.all.iter().any(|member| member.status.is_none()) {
            log::warning(format_args!("{name} ended with {ending}; stopping the others"));
        } else {
            log::warning(format_args!("{name} ended with {ending}"));
        }
        self.send(Signal::SIGTERM);
        self.wait();
        self.exit(index)
    }

    /// Signals each that still runs.
    fn send(&self, signal: Signal) {
        for member in self.all.iter().filter(|member| member.status.is_none()) {
            forward(signal, member.pid, self.step.manner.scope);
        }
    }

    /// Waits for all; hands on further signals; kills what is left at the end of the grace.
    fn wait(&mut self) {
        let mut deadline = match self.step.grace {
            WaitTimeout::After(grace) => Some(Instant::now() + grace),
            WaitTimeout::Forever | WaitTimeout::Off => None,
        };
        self.reap();
        while self.all.iter().any(|member| member.status.is_none()) {
            match self.signals.any(deadline) {
                Some(Taken { signal: Signal::SIGCHLD, .. }) => {}
                Some(Taken { signal, .. }) if self.step.manner.forwards_to_many(signal.as_str()) => self.send(signal),
                Some(_) => {}
                None => {
                    deadline = None;
                    for member in self.all.iter().filter(|member| member.status.is_none()) {
                        log::warning(format_args!("{} does not end; killing it", Words(member.words)));
                        let _ = killpg(member.pid, Signal::SIGKILL);
                    }
                }
            }
            self.reap();
        }
    }

    /// Takes in all that has ended.
    fn reap(&mut self) {
        while let Some((pid, status)) = reap() {
            if let Some(member) = self.all.iter_mut().find(|member| member.pid == pid) {
                member.status = Some(status);
            }
        }
        for member in self.all.iter_mut().filter(|member| member.status.is_none() && is_lost(member.pid)) {
            member.status = Some(ExitStatus::from_raw(FIRST_REAL_TIME));
        }
    }

    fn ending(&self, index: usize) -> (String, String) {
        let member = &self.all[index];
        (Words(member.words).to_string(), member.status.map_or_else(String::new, ending))
    }

    fn exit(&self, index: usize) -> Exit {
        self.all[index].status.map_or(Exit::Bug, exit)
    }
}
