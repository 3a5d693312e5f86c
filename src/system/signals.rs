//! The signals that end a start, taken out of their default way so that no step is deaf to them.

use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::Pid;

use crate::error::Error;

/// What ends a start.
const STOPS: [Signal; 4] = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGHUP];

/// The signals, blocked and read from a descriptor.
pub(crate) struct Signals {
    descriptor: SignalFd,
    inherited: SigSet,
}

/// A signal, and what the kernel says of the child that it is about.
pub(super) struct Taken {
    pub signal: Signal,
    pub child: Pid,
    /// Its status, or the number of the signal that has killed it.
    pub status: i32,
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
    /// Blocks all signals, real-time ones too: none of them shall end us unasked. A PID 1 without this would not even see TERM: the
    /// kernel drops what has no handler.
    pub(crate) fn take() -> Result<Self, Error> {
        let failed = |errno: nix::Error| Error::Bug { what: format!("cannot take the signals: {}", errno.desc()) };
        let set = SigSet::all();
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

    /// Waits for what concerns a start: a signal that ends it, a child, the deadline, or a byte on `wake`. Other signals are nothing
    /// to it.
    pub(crate) fn next(&self, deadline: Option<Instant>, mut wake: Option<&mut std::io::PipeReader>) -> Event {
        loop {
            while let Some(taken) = self.read() {
                match taken.signal {
                    Signal::SIGCHLD => return Event::Child,
                    signal if STOPS.contains(&signal) => return Event::Stop(signal),
                    _ => {}
                }
            }
            match self.wait(deadline, wake.as_deref()) {
                Waited::Deadline => return Event::Deadline,
                Waited::Signal => {}
                Waited::Woken => {
                    if let Some(wake) = &mut wake {
                        // One byte a message; an end of file is news as well.
                        let _ = wake.read(&mut [0]);
                    }
                    return Event::Woken;
                }
            }
        }
    }

    /// The signal that ends the start, if one has come.
    pub(super) fn stop_that_came(&self) -> Option<Signal> {
        std::iter::from_fn(|| self.read()).map(|taken| taken.signal).find(|signal| STOPS.contains(signal))
    }

    /// The descriptor that is readable when a signal has come.
    pub(super) fn descriptor(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }

    /// Waits for any signal; none when the time is over.
    pub(super) fn any(&self, deadline: Option<Instant>) -> Option<Taken> {
        loop {
            if let Some(taken) = self.read() {
                return Some(taken);
            }
            if let Waited::Deadline = self.wait(deadline, None) {
                return None;
            }
        }
    }

    /// The next signal that is there. A real-time signal has no name and nobody to go to: it is taken, and that is all.
    fn read(&self) -> Option<Taken> {
        while let Ok(Some(info)) = self.descriptor.read_signal() {
            if let Ok(signal) = Signal::try_from(info.ssi_signo.cast_signed()) {
                let child = Pid::from_raw(info.ssi_pid.cast_signed());
                return Some(Taken { signal, child, status: info.ssi_status });
            }
        }
        None
    }

    fn wait(&self, deadline: Option<Instant>, wake: Option<&std::io::PipeReader>) -> Waited {
        let timeout = match deadline.map(|deadline| deadline.saturating_duration_since(Instant::now())) {
            None => PollTimeout::NONE,
            Some(Duration::ZERO) if wake.is_none() => return Waited::Deadline,
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
            Ok(0) if timeout != PollTimeout::MAX => Waited::Deadline,
            Ok(_) if woken => Waited::Woken,
            _ => Waited::Signal,
        }
    }
}

/// Why a wait is over; a signal may turn out to be none.
enum Waited {
    Deadline,
    Signal,
    Woken,
}

/// The error of a start that was told to stop.
pub(crate) fn interrupted(signal: Signal, step: &str) -> Error {
    Error::Interrupted { signal: (signal as i32).unsigned_abs() as u8, name: signal.as_str(), step: step.to_owned() }
}
