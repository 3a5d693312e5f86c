//! Being the init of one command: it is our child, every signal is handed on to it, everything that ends in our care is reaped, and
//! its status is ours. We never stop, and after the fork nothing here may fail.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::prctl::set_child_subreaper;
use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, getpid, tcgetpgrp};

use super::process::{Place, command, is_lost, pid_of, reap, spawn};
use super::signals::{Signals, Taken};
use super::{dumb_init, memory};
use crate::cli::{self, InitJob};
use crate::environment::Environment;
use crate::error::{Error, Exit};
use crate::launch::forwarding::{Manner, Scope, withheld};
use crate::log;
use crate::settings;
use crate::settings::values::auto_or;
use crate::source::Source;

/// The first signal that nix has no name for.
pub(super) const FIRST_REAL_TIME: i32 = 34;
/// How long what the command leaves behind may take to end when it is told to.
const LEFTOVER_GRACE: Duration = Duration::from_secs(2);

/// Does what a verb or a name asks for. Nothing is prepared for it.
pub(crate) fn carry_out(job: &InitJob, signals: &Signals) -> Result<Exit, Error> {
    match job {
        InitJob::Attend { child, manner } => Ok(attend(Pid::from_raw(*child), *manner, signals)),
        InitJob::DumbInit(asked) => dumb_init::run(asked, signals),
        InitJob::Run(words) => {
            let environment = Environment::new(std::env::vars_os());
            let name = settings::variable("signal_scope");
            let said = environment.text(&name)?.unwrap_or("auto");
            let scope = auto_or(said, Scope::parse).ok_or_else(|| Error::Setting {
                source_of_it: Source::Variable(name),
                expected: "`auto`, `process` or `group`",
                found: said.to_owned(),
            })?;
            let scope = scope.unwrap_or_else(|| Scope::of(words, environment.os("DUMB_INIT_SETSID")));
            run(words, Manner { scope, withholds: false }, &environment, signals)
        }
    }
}

/// Runs a command and stays as its init.
pub(super) fn run(
    words: &[OsString],
    manner: Manner,
    environment: &Environment,
    signals: &Signals,
) -> Result<Exit, Error> {
    adopt();
    let child = pid_of(&spawn(command(words, environment), signals, Place::Foreground)?);
    shed(child, manner, environment);
    Ok(attend(child, manner, signals))
}

/// Makes orphans come to us where we are not PID 1.
pub(super) fn adopt() {
    if getpid() != Pid::from_raw(1) {
        let _ = set_child_subreaper(true);
    }
}

/// Becomes ourselves again as the bare init, which has nothing in memory of all that the start needed. Children, blocked signals and
/// those that have come meanwhile stay. Where it does not work we stay as we are.
fn shed(child: Pid, manner: Manner, environment: &Environment) {
    // By its own path, since tools show the file's name; where that leads nowhere any more the kernel still has the file.
    for path in std::env::current_exe().into_iter().chain(["/proc/self/exe".into()]) {
        let mut again = Command::new(path);
        again.arg0("airflow-entrypoint").args(cli::attending(child.as_raw(), manner));
        let _ = again.env_clear().envs(environment.iter()).exec();
    }
}

/// The life of an init.
fn attend(main: Pid, manner: Manner, signals: &Signals) -> Exit {
    let mut exit = ended(main, signals);
    memory::forget_code();
    let exit = loop {
        if let Some(exit) = exit {
            break exit;
        }
        match signals.any(None) {
            Some(Taken { signal: Signal::SIGCHLD, .. }) | None => {}
            Some(Taken { signal, .. }) if !manner.forwards(signal.as_str()) => log::info(withheld(signal.as_str())),
            Some(Taken { signal, .. }) => forward(signal, main, manner.scope),
        }
        exit = ended(main, signals);
    };
    clear_leftovers(&[main], signals);
    exit
}

/// Reaps all that has ended; how the main process did, if it is among that.
fn ended(main: Pid, signals: &Signals) -> Option<Exit> {
    let flags = WaitPidFlag::WNOHANG | WaitPidFlag::WUNTRACED;
    let mut exit = None;
    loop {
        match waitpid(None, Some(flags)) {
            Ok(WaitStatus::Exited(pid, code)) if pid == main => exit = Some(Exit::Command(code.to_le_bytes()[0])),
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid == main => exit = Some(Exit::Signal(signal as u8)),
            // Ctrl-Z, and there is no shell before us that could go on with it: a main process that stays stopped hears no Ctrl-C.
            Ok(WaitStatus::Stopped(pid, Signal::SIGTSTP)) if pid == main && has_terminal(main) => {
                let _ = killpg(main, Signal::SIGCONT);
            }
            Ok(WaitStatus::StillAlive) | Err(nix::Error::ECHILD) => break,
            _ => {}
        }
    }
    exit.or_else(|| is_lost(main).then(|| killed_namelessly(main, signals)))
}

/// What has killed a process when nix has no name for it: SIGCHLD says it, unless another one came before.
fn killed_namelessly(main: Pid, signals: &Signals) -> Exit {
    let taken = std::iter::from_fn(|| signals.any(Some(Instant::now())));
    let mut statuses =
        taken.filter(|taken| taken.child == main && taken.signal == Signal::SIGCHLD).map(|taken| taken.status);
    Exit::Signal(statuses.next().unwrap_or(FIRST_REAL_TIME).to_le_bytes()[0])
}

fn has_terminal(group: Pid) -> bool {
    tcgetpgrp(io::stdin()).is_ok_and(|foreground| foreground == group)
}

/// Hands a signal on.
pub(super) fn forward(signal: Signal, main: Pid, scope: Scope) {
    let sent = match scope {
        Scope::Group => killpg(main, signal),
        Scope::Process => Err(nix::Error::ESRCH),
    };
    // A process that has left the group that we gave it is still our main process.
    let _ = sent.or_else(|_| kill(main, signal));
}

/// TERM, a grace, KILL for what is left of these groups. What ends is reaped meanwhile, and a second TERM is handed on.
pub(super) fn clear_leftovers(groups: &[Pid], signals: &Signals) {
    let all = |signal: Option<Signal>| groups.iter().filter(|group| killpg(**group, signal).is_ok()).count();
    if all(Some(Signal::SIGTERM)) == 0 {
        return;
    }
    // Who is stopped could not end.
    all(Some(Signal::SIGCONT));
    let deadline = Instant::now() + LEFTOVER_GRACE;
    loop {
        while reap().is_some() {}
        if all(None) == 0 {
            return;
        }
        match signals.any(Some(deadline)) {
            Some(Taken { signal: signal @ (Signal::SIGTERM | Signal::SIGINT | Signal::SIGQUIT), .. }) => {
                all(Some(signal));
            }
            Some(_) => {}
            None => break,
        }
    }
    all(Some(Signal::SIGKILL));
}
