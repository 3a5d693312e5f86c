//! The output of several processes in our two streams, line by line, each behind the name of who wrote it.
//!
//! A thread a stream: who does not read our stdout holds up neither stderr nor the signals. What cannot be written for a long time,
//! or to nobody, is dropped: a process shall not hang because of its log. Nor shall we: our own lines take the same way, and so do not
//! stand in the middle of another line.

use std::io::{self, PipeReader, PipeWriter, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::{dup2_stderr, write};

use crate::launch::lines::Lines;

/// How long a stream that nobody reads holds up who writes to it.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long the last lines may take to be written.
const LAST: Duration = Duration::from_secs(2);
/// What a pipe that is ready takes without blocking (PIPE_BUF of pipe(7)).
const PIECE: usize = 4096;

/// Both streams of all members, being written.
pub(super) struct Outputs {
    /// Our stderr, as we got it.
    stderr: OwnedFd,
    copiers: Vec<(PipeWriter, JoinHandle<()>)>,
}

/// The ends that the members write to, by member: stdout and stderr.
pub(super) type Ends = Vec<(PipeWriter, PipeWriter)>;

/// One member's part of a stream.
struct Source {
    pipe: PipeReader,
    lines: Lines,
    open: bool,
}

impl Outputs {
    /// Starts to copy, for members of these names.
    pub(super) fn open(names: &[String]) -> io::Result<(Self, Ends)> {
        let (mut ends, mut stdout, mut stderr) = (Vec::new(), Vec::new(), Vec::new());
        for name in names {
            let pipe = |sources: &mut Vec<Source>| -> io::Result<PipeWriter> {
                let (pipe, writer) = io::pipe()?;
                fcntl(&pipe, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
                sources.push(Source { pipe, lines: Lines::new(name), open: true });
                Ok(writer)
            };
            ends.push((pipe(&mut stdout)?, pipe(&mut stderr)?));
        }
        let [out, err] = [io::stdout().as_fd(), io::stderr().as_fd()].map(|fd| fd.try_clone_to_owned());
        let (ours, writer) = io::pipe()?;
        stderr.push(Source { pipe: ours, lines: Lines::ours(), open: true });
        let copies = Self { stderr: err?, copiers: Vec::new() };
        let copiers = [start(stdout, out?)?, start(stderr, copies.stderr.try_clone()?)?].into();
        dup2_stderr(&writer)?;
        Ok((Self { copiers, ..copies }, ends))
    }

    /// Writes what is there, and ends; what is not written after a moment will not be.
    pub(super) fn close(self) {
        let _ = dup2_stderr(&self.stderr);
        let deadline = Instant::now() + LAST;
        for (bell, copier) in self.copiers {
            drop(bell);
            // A thread cannot be waited for with a deadline.
            while !copier.is_finished() && Instant::now() < deadline {
                thread::sleep(Duration::from_millis(1));
            }
        }
    }
}

fn start(sources: Vec<Source>, stream: OwnedFd) -> io::Result<(PipeWriter, JoinHandle<()>)> {
    let (closed, bell) = io::pipe()?;
    let copier = Copier { sources, closed, sink: Sink { stream, gone: false, stalled: false } };
    Ok((bell, thread::Builder::new().stack_size(128 << 10).spawn(move || copier.run())?))
}

struct Copier {
    sources: Vec<Source>,
    /// Its other end is closed when all members have ended.
    closed: PipeReader,
    sink: Sink,
}

impl Copier {
    fn run(mut self) {
        let mut buffer = vec![0; 1 << 16];
        let mut closing = false;
        loop {
            let mut waited: Vec<PollFd<'_>> = vec![PollFd::new(self.closed.as_fd(), PollFlags::POLLIN)];
            waited.extend(
                self.sources
                    .iter()
                    .filter(|source| source.open)
                    .map(|source| PollFd::new(source.pipe.as_fd(), PollFlags::POLLIN)),
            );
            // At the end there is only what is in the pipes: somebody in the background may hold them open for ever.
            let timeout = if closing { PollTimeout::ZERO } else { PollTimeout::NONE };
            let first = usize::from(closing);
            let _ = poll(&mut waited[first..], timeout);
            let ready: Vec<bool> = waited.iter().map(|descriptor| descriptor.any().unwrap_or(false)).collect();
            let mut any = false;
            for (source, _) in
                self.sources.iter_mut().filter(|source| source.open).zip(&ready[1..]).filter(|(_, ready)| **ready)
            {
                any = true;
                let mut out = Vec::new();
                match source.pipe.read(&mut buffer) {
                    Ok(count) if count > 0 => source.lines.take(&buffer[..count], &mut out),
                    Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
                    _ => {
                        source.open = false;
                        source.lines.flush(&mut out);
                    }
                }
                self.sink.write(&out);
            }
            if closing && !any {
                break;
            }
            closing |= ready[0];
        }
        for source in &mut self.sources {
            let mut out = Vec::new();
            source.lines.flush(&mut out);
            self.sink.write(&out);
        }
    }
}

struct Sink {
    stream: OwnedFd,
    /// Nobody will ever read it again.
    gone: bool,
    /// Nobody has read it for so long that nothing waits for it.
    stalled: bool,
}

impl Sink {
    fn write(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while !rest.is_empty() && !self.gone {
            if !self.is_ready() {
                return;
            }
            match write(&self.stream, &rest[..rest.len().min(PIECE)]) {
                Ok(count) => rest = &rest[count..],
                Err(nix::Error::EINTR | nix::Error::EAGAIN) => {}
                Err(_) => self.gone = true,
            }
        }
    }

    fn is_ready(&mut self) -> bool {
        let patience = if self.stalled { Duration::ZERO } else { PATIENCE };
        let timeout = PollTimeout::try_from(patience).unwrap_or(PollTimeout::MAX);
        let mut waited = [PollFd::new(self.stream.as_fd(), PollFlags::POLLOUT)];
        self.stalled = poll(&mut waited, timeout) == Ok(0);
        !self.stalled
    }
}
