//! What a step's command says, in our stderr without the users and passwords of its URLs.

use std::io::{self, BufRead, BufReader, PipeReader, PipeWriter};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::log;
use crate::urls::without_userinfo;

/// How long the last lines may take: somebody in the background may hold the stream open for ever.
const LAST: Duration = Duration::from_secs(2);

/// The thread that copies.
pub(super) type Redaction = JoinHandle<()>;

/// Starts to copy what is written to these two, stdout and stderr of a command.
pub(super) fn open(redaction: &mut Option<Redaction>) -> io::Result<(PipeWriter, PipeWriter)> {
    let (reader, writer) = io::pipe()?;
    let other = writer.try_clone()?;
    *redaction = Some(thread::Builder::new().stack_size(128 << 10).spawn(move || copy(reader))?);
    Ok((writer, other))
}

/// Waits for the last lines.
pub(super) fn close(redaction: Redaction) {
    let deadline = Instant::now() + LAST;
    // A thread cannot be waited for with a deadline.
    while !redaction.is_finished() && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(1));
    }
}

fn copy(reader: PipeReader) {
    let mut reader = BufReader::new(reader);
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line).is_ok_and(|count| count > 0) {
        log::plain(&without_userinfo(&String::from_utf8_lossy(&line)));
        line.clear();
    }
}
