//! The signals that end a start, taken out of their default way so that no step is deaf to them.

use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use crate::error::Error;

/// What ends a start, or is handed to the processes that we run.
const STOPS: [Signal; 4] = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGHUP];

/// The signals, blocked and read from a descriptor.
pub(crate) struct Signals {
    descriptor: SignalFd,
    inherited: SigSet,
}

/// What happened while we waited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// A child may have ended.
    Child,
    /// The time is over.
    Deadline,
    /// We are told to stop.
    Stop(Signal),
    /// Somebody wrote to the descriptor that was waited for too.
    Woken,
}

impl Signals {
    /// Blocks the signals. A PID 1 without this would not even see TERM: the kernel drops what has no handler.
    pub(crate) fn take() -> Result<Self, Error> {
        let failed = |errno: nix::Error| Error::Bug { what: format!("cannot take the signals: {}", errno.desc()) };
        let mut set: SigSet = STOPS.into_iter().collect();
        set.add(Signal::SIGCHLD);
        let mut inherited = SigSet::empty();
        sigprocmask(SigmaskHow::SIG_BLOCK, Some(&set), Some(&mut inherited)).map_err(failed)?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let descriptor = SignalFd::with_flags(&set, flags).map_err(failed)?;
        Ok(Self { descriptor, inherited })
    }

    /// The mask as we were given it: what every process that we start must have.
    pub(crate) fn inherited(&self) -> SigSet {
        self.inherited
    }

    /// Puts the mask back, just before we become another program.
    pub(crate) fn restore(&self) {
        // Fails for a wrong `how` alone.
        let _ = sigprocmask(SigmaskHow::SIG_SETMASK, Some(&self.inherited), None);
    }

    /// Ends the start when a signal has come. `step` says what we were doing.
    pub(crate) fn check(&self, step: &str) -> Result<(), Error> {
        loop {
            match self.next(Some(Instant::now()), None) {
                Event::Stop(signal) => return Err(interrupted(signal, step)),
                Event::Deadline => return Ok(()),
                Event::Child | Event::Woken => {}
            }
        }
    }

    /// Waits for a signal, the deadline, or a byte on `wake`.
    pub(crate) fn next(&self, deadline: Option<Instant>, wake: Option<&mut std::io::PipeReader>) -> Event {
        loop {
            if let Ok(Some(info)) = self.descriptor.read_signal() {
                match Signal::try_from(info.ssi_signo.cast_signed()) {
                    Ok(Signal::SIGCHLD) => return Event::Child,
                    Ok(signal) => return Event::Stop(signal),
                    Err(_) => continue,
                }
            }
            let timeout = match deadline.map(|deadline| deadline.saturating_duration_since(Instant::now())) {
                None => PollTimeout::NONE,
                Some(Duration::ZERO) if wake.is_none() => return Event::Deadline,
                // Rounded up, or the last millisecond would be spent in a loop.
                Some(time) => PollTimeout::try_from(time + Duration::from_micros(999)).unwrap_or(PollTimeout::MAX),
            };
            let readable = |descriptor| PollFd::new(descriptor, PollFlags::POLLIN);
            let signals: BorrowedFd<'_> = self.descriptor.as_fd();
            let mut descriptors = match &wake {
                Some(wake) => vec![readable(signals), readable(wake.as_fd())],
                None => vec![readable(signals)],
            };
            let ready = poll(&mut descriptors, timeout);
            let woken = descriptors.get(1).and_then(PollFd::any).unwrap_or(false);
            match ready {
                Ok(0) if timeout != PollTimeout::MAX => return Event::Deadline,
                Ok(_) if woken => {
                    if let Some(wake) = wake {
                        // One byte a message; an end of file is news as well.
                        let _ = wake.read(&mut [0]);
                    }
                    return Event::Woken;
                }
                _ => {}
            }
        }
    }
}

/// The error of a start that was told to stop.
pub(crate) fn interrupted(signal: Signal, step: &str) -> Error {
    Error::Interrupted { signal: (signal as i32).unsigned_abs() as u8, name: signal.as_str(), step: step.to_owned() }
}
