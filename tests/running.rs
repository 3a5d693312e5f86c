//! A process that runs while the test looks on. Every wait has a deadline; who misses it is killed and reported.

use std::fs;
use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::leaks::Search;
use crate::outcome::{Outcome, listing};

/// How long anything may take that should happen at once, on a busy machine.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// What was read from a stream so far, and whether it has ended.
#[derive(Clone, Default)]
struct Stream {
    state: Arc<Mutex<(Vec<u8>, bool)>>,
    changed: Arc<Condvar>,
}

/// A process with its streams.
pub(crate) struct Running {
    command: String,
    pid: Pid,
    keys: PathBuf,
    search: Search,
    stdout: Stream,
    stderr: Stream,
    ended: Receiver<(ExitStatus, Instant)>,
}

impl Running {
    /// Starts the command in a sandbox. Its key folder is listed in reports.
    pub(crate) fn start(command: Command, root: &Path) -> Self {
        Self::start_with_input(command, Stdio::null(), root)
    }

    /// The same with this as its standard input.
    pub(crate) fn start_with_input(mut command: Command, input: Stdio, root: &Path) -> Self {
        let search = Search::new(&command, root);
        command.stdin(input).stdout(Stdio::piped()).stderr(Stdio::piped());
        let words: Vec<_> = [command.get_program()].into_iter().chain(command.get_args()).collect();
        let description = format!("{words:?}");
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{description}: {error}"));
        let stdout = Stream::of(child.stdout.take().unwrap());
        let stderr = Stream::of(child.stderr.take().unwrap());
        let pid = Pid::from_raw(child.id().cast_signed());
        let keys = root.join("keys");
        Self { command: description, pid, keys, search, stdout, stderr, ended: wait_for(child) }
    }

    /// Waits until stdout holds this.
    #[track_caller]
    pub(crate) fn until_stdout(&self, text: &str) -> &Self {
        self.until(&self.stdout, text)
    }

    /// Waits until stderr holds this.
    #[track_caller]
    pub(crate) fn until_stderr(&self, text: &str) -> &Self {
        self.until(&self.stderr, text)
    }

    #[track_caller]
    fn until(&self, stream: &Stream, text: &str) -> &Self {
        let seen = stream.wait(|bytes, ended| ended || contains(bytes, text.as_bytes()));
        if !contains(&stream.bytes(), text.as_bytes()) {
            let _ = kill(self.pid, Signal::SIGKILL);
            let why = if seen { "ended" } else { "waited too long" };
            panic!(
                "{why} without {text:?}\ncommand: {}\n--- stdout\n{}--- stderr\n{}--- key folder\n{}---",
                self.command,
                self.stdout.text(),
                self.stderr.text(),
                listing(&self.keys)
            );
        }
        self
    }

    /// The process itself; behind `unshare` its child, which is PID 1 there.
    pub(crate) fn main_pid(&self, behind_unshare: bool) -> Pid {
        if !behind_unshare {
            return self.pid;
        }
        let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", self.pid)).unwrap();
        Pid::from_raw(children.trim().parse().unwrap_or_else(|_| panic!("{}: children {children:?}", self.command)))
    }

    /// Signals a process, and says when.
    pub(crate) fn signal(&self, pid: Pid, signal: Signal) -> Instant {
        let at = Instant::now();
        kill(pid, signal).unwrap();
        at
    }

    /// Whether it is still there after this time: for things that must not happen.
    pub(crate) fn outlives(&self, time: Duration) -> bool {
        let ended = self.ended.recv_timeout(time);
        ended.is_err()
    }

    /// Waits for its end, and for the end of everything that holds its streams. It must not have been killed.
    #[track_caller]
    pub(crate) fn finish(self) -> Outcome {
        self.finish_within(DEADLINE)
    }

    /// The same for what takes longer.
    #[track_caller]
    pub(crate) fn finish_within(self, time: Duration) -> Outcome {
        let outcome = self.ends_within(time);
        let killed = outcome.status.signal() == Some(Signal::SIGKILL as i32);
        outcome.check(!killed, "it did not end in time, or was killed");
        outcome
    }

    /// The same for what may be killed.
    #[track_caller]
    pub(crate) fn ends(self) -> Outcome {
        self.ends_within(DEADLINE)
    }

    #[track_caller]
    fn ends_within(self, time: Duration) -> Outcome {
        let (status, ended) = self.ended.recv_timeout(time).unwrap_or_else(|_| {
            let _ = kill(self.pid, Signal::SIGKILL);
            (ExitStatus::from_raw(Signal::SIGKILL as i32), Instant::now())
        });
        let closed = self.stdout.wait(|_, ended| ended) && self.stderr.wait(|_, ended| ended);
        let (stdout, stderr) = (self.stdout.text(), self.stderr.text());
        let outcome =
            Outcome { command: self.command.clone(), status, stdout, stderr, keys: listing(&self.keys), ended };
        outcome.check(closed, "something was left behind that holds its streams");
        // K14, in every test. Stdout is the command's, but for the plan.
        let plan = if outcome.command.contains("\"explain\"") { &outcome.stdout } else { "" };
        if let Some(found) = self.search.find(&format!("{}{plan}", outcome.stderr)) {
            outcome.check(false, &found);
        }
        outcome
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Only where a test fails halfway; the number is not used again before the child was waited for.
        if matches!(self.ended.try_recv(), Err(std::sync::mpsc::TryRecvError::Empty)) {
            let _ = kill(self.pid, Signal::SIGKILL);
        }
    }
}

/// Waits in a thread of its own: what counts is the moment of the end, not of our looking.
fn wait_for(mut child: Child) -> Receiver<(ExitStatus, Instant)> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        let status = child.wait().unwrap();
        // Nobody may be listening any more.
        let _ = sender.send((status, Instant::now()));
    });
    receiver
}

impl Stream {
    fn of(mut pipe: impl Read + Send + 'static) -> Self {
        let stream = Self::default();
        let shared = stream.clone();
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            loop {
                let count = pipe.read(&mut buffer).unwrap_or(0);
                let mut state = shared.state.lock().unwrap();
                state.0.extend_from_slice(&buffer[..count]);
                state.1 = count == 0;
                shared.changed.notify_all();
                if count == 0 {
                    return;
                }
            }
        });
        stream
    }

    /// Waits until this holds; says whether it did before the deadline.
    fn wait(&self, holds: impl Fn(&[u8], bool) -> bool) -> bool {
        let state = self.state.lock().unwrap();
        let (state, _) =
            self.changed.wait_timeout_while(state, DEADLINE, |(bytes, ended)| !holds(bytes, *ended)).unwrap();
        holds(&state.0, state.1)
    }

    fn bytes(&self) -> Vec<u8> {
        self.state.lock().unwrap().0.clone()
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes()).into_owned()
    }
}

fn contains(bytes: &[u8], wanted: &[u8]) -> bool {
    bytes.windows(wanted.len()).any(|window| window == wanted)
}
