//! A line that is written over, for somebody who looks on at a terminal.

use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

use crate::log;

/// How often it is written, and how long something may take before it is.
const PAUSE: Duration = Duration::from_millis(200);

/// What is done of something that takes long.
pub(super) struct Progress {
    what: &'static str,
    /// How much there is to do, where that is known.
    all: Option<u64>,
    begun: Instant,
    said: Option<Instant>,
    seen: bool,
}

impl Progress {
    /// `what` has become of what is counted: `encrypted anew`.
    pub(super) fn new(what: &'static str, all: Option<u64>) -> Self {
        Self { what, all, begun: Instant::now(), said: None, seen: io::stderr().is_terminal() }
    }

    pub(super) fn say(&mut self, done: u64) {
        if self.seen && self.said.unwrap_or(self.begun).elapsed() >= PAUSE {
            self.said = Some(Instant::now());
            log::plain(&format!("\r{} \x1b[K", line(self.what, self.all, done, self.begun.elapsed())));
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.said.is_some() {
            log::plain("\r\x1b[K");
        }
    }
}

fn line(what: &str, all: Option<u64>, done: u64, elapsed: Duration) -> String {
    let rate = done as f64 / elapsed.as_secs_f64().max(0.001);
    match all {
        Some(all) => {
            let left = all.saturating_sub(done) as f64 / rate.max(1.0);
            format!("{done} of {all} {what}, {rate:.0} a second, {left:.0} s left")
        }
        None => format!("{done} {what}, {rate:.0} a second"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_says_how_much_is_done_how_fast_and_how_long_it_will_take() {
        for (all, done, expected) in [
            (Some(10_000), 2_000, "2000 of 10000 read back, 1000 a second, 8 s left"),
            (Some(10_000), 0, "0 of 10000 read back, 0 a second, 10000 s left"),
            // More has come meanwhile.
            (Some(10), 2_000, "2000 of 10 read back, 1000 a second, 0 s left"),
            (None, 2_000, "2000 read back, 1000 a second"),
        ] {
            assert_eq!(line("read back", all, done, Duration::from_secs(2)), expected);
        }
    }
}
