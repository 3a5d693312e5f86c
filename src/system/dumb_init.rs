//! Being dumb-init, for images that start it by that name: a session of its own for the command, every signal handed on or rewritten,
//! and stopping ourselves where the terminal stops the job.

use std::process::Command;

use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, getpid, getsid};

use super::executable::cannot_run;
use super::memory;
use super::process::{Place, command, pid_of, prepare};
use super::signals::Signals;
use crate::environment::Environment;
use crate::error::{Error, Exit};
use crate::launch::dumb_init::{Asked, Wish};
use crate::log;

/// What the terminal stops a job with.
const STOPS_A_JOB: [Signal; 3] = [Signal::SIGTSTP, Signal::SIGTTIN, Signal::SIGTTOU];

/// Does what its command line asks for.
pub(super) fn run(asked: &Asked, signals: &Signals) -> Result<Exit, Error> {
    let wish = match asked {
        Asked::Say { text, status } => {
            log::plain(text);
            return Ok(Exit::Command(*status));
        }
        Asked::Run(wish) => wish,
    };
    let is = |name: &str, value: &str| std::env::var_os(name).is_some_and(|found| found == value);
    let wish = Wish {
        single_child: wish.single_child || is("DUMB_INIT_SETSID", "0"),
        verbose: wish.verbose || is("DUMB_INIT_DEBUG", "1"),
        ..wish.clone()
    };
    start(&wish, signals).map_or_else(|error| Ok(cannot_start(&wish, &error)), |init| Ok(init.attend(signals)))
}

/// It has words of its own for it; the status is a shell's.
fn cannot_start(wish: &Wish, error: &std::io::Error) -> Exit {
    let text = error.to_string();
    let program = wish.words.first().map(|word| word.to_string_lossy()).unwrap_or_default();
    log::plain(&format!("[dumb-init] {program}: {}\n", text.split(" (os error").next().unwrap_or_default()));
    cannot_run(&Command::new(&*program), error).exit()
}

fn start(wish: &Wish, signals: &Signals) -> std::io::Result<DumbInit> {
    let mut command = command(&wish.words, &Environment::new(std::env::vars_os()));
    let place = if wish.single_child { Place::Ours } else { Place::Session };
    let detached = prepare(&mut command, signals, place).detached;
    let init = DumbInit { main: Pid::from_raw(0), wish: wish.clone(), hand_off: Vec::new() };
    let leads = getsid(None).is_ok_and(|session| session == getpid());
    let hand_off = match (place == Place::Session, detached, leads) {
        (true, true, true) => {
            init.says("Detached from controlling tty, ignoring the first SIGHUP and SIGCONT we receive.");
            vec![Signal::SIGHUP, Signal::SIGCONT]
        }
        (true, true, false) => {
            init.says("Detached from controlling tty, but was not session leader.");
            Vec::new()
        }
        (true, false, _) => {
            init.says("Unable to detach from controlling tty.");
            Vec::new()
        }
        (false, ..) => Vec::new(),
    };
    let main = pid_of(&command.spawn()?);
    if place == Place::Session {
        init.says("setsid complete.");
    }
    init.says(&format!("Child spawned with PID {main}."));
    Ok(DumbInit { main, hand_off, ..init })
}

struct DumbInit {
    main: Pid,
    wish: Wish,
    /// What the kernel sends for the terminal that we gave up: each once, and for nobody.
    hand_off: Vec<Signal>,
}

impl DumbInit {
    fn attend(mut self, signals: &Signals) -> Exit {
        memory::forget_code();
        loop {
            let Some(taken) = signals.any(None) else { continue };
            let signal = taken.signal;
            self.says(&format!("Received signal {}.", signal as i32));
            if let Some(index) = self.hand_off.iter().position(|known| *known == signal) {
                self.hand_off.swap_remove(index);
                self.says(&format!("Ignoring tty hand-off signal {}.", signal as i32));
            } else if signal == Signal::SIGCHLD {
                if let Some(exit) = self.reap() {
                    return exit;
                }
            } else {
                self.forward(signal);
                if STOPS_A_JOB.contains(&signal) {
                    self.says("Suspending self due to TTY signal.");
                    let _ = kill(getpid(), Signal::SIGSTOP);
                }
            }
        }
    }

    fn forward(&self, signal: Signal) {
        let stops = STOPS_A_JOB.contains(&signal);
        let Some(number) = self.wish.rewritten(signal as u8, stops, Signal::SIGSTOP as u8) else {
            self.says(&format!("Not forwarding signal {} to children (ignored).", signal as i32));
            return;
        };
        if number != signal as u8 {
            self.says(&format!("Translating signal {} to {number}.", signal as i32));
        }
        if let Ok(signal) = Signal::try_from(i32::from(number)) {
            let _ = if self.wish.single_child { kill(self.main, signal) } else { killpg(self.main, signal) };
        }
        self.says(&format!("Forwarded signal {number} to children."));
    }

    /// Reaps all that has ended, up to the main process.
    fn reap(&self) -> Option<Exit> {
        loop {
            let (pid, exit) = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) => {
                    self.says(&format!("A child with PID {pid} exited with exit status {code}."));
                    (pid, Exit::Command(code.to_le_bytes()[0]))
                }
                Ok(WaitStatus::Signaled(pid, signal, _)) => {
                    self.says(&format!("A child with PID {pid} was terminated by signal {}.", signal as i32));
                    (pid, Exit::Signal(signal as u8))
                }
                Ok(WaitStatus::StillAlive) | Err(nix::Error::ECHILD) => return None,
                _ => continue,
            };
            if pid == self.main {
                self.forward(Signal::SIGTERM);
                self.says(&format!("Child exited with status {}. Goodbye.", exit.status()));
                return Some(exit);
            }
        }
    }

    fn says(&self, text: &str) {
        if self.wish.verbose {
            log::plain(&format!("[dumb-init] {text}\n"));
        }
    }
}
