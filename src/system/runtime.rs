//! Waiting for many things at once, and for the signals with them.

use std::future::Future;
use std::io;
use std::time::Duration;

use tokio::io::unix::AsyncFd;
use tokio::runtime::Builder;

use super::signals::{Signals, interrupted};
use crate::error::Error;

/// A tokio of one thread. Made only where a network is needed: the short way to a command has none.
pub(crate) struct Runtime<'s> {
    tokio: Option<tokio::runtime::Runtime>,
    signals: &'s Signals,
}

impl<'s> Runtime<'s> {
    pub(super) fn new(signals: &'s Signals) -> Result<Self, Error> {
        let tokio = Builder::new_current_thread().enable_all().build().map_err(broken)?;
        Ok(Self { tokio: Some(tokio), signals })
    }

    /// Completes the work, unless a signal comes first. `step` says what we are doing.
    pub(super) fn complete<T>(&self, step: &str, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        let Some(tokio) = &self.tokio else { return Err(Error::Bug { what: "the runtime is gone".to_owned() }) };
        self.signals.check(step)?;
        tokio.block_on(async {
            #[expect(deprecated, reason = "its successor is unsafe; a borrowed descriptor is open as long as we wait")]
            let readable = AsyncFd::new(self.signals.descriptor()).map_err(broken)?;
            let stopped = async {
                loop {
                    let mut guard = readable.readable().await.map_err(broken)?;
                    if let Some(signal) = self.signals.stop_that_came() {
                        return Err(interrupted(signal, step));
                    }
                    guard.clear_ready();
                }
            };
            tokio::select! {
                biased;
                stopped = stopped => stopped,
                done = work => done,
            }
        })
    }
}

impl Runtime<'_> {
    /// Completes what is nobody's business but ours, for a moment at most. A signal that comes meanwhile is left for the next to ask.
    pub(super) fn clear_up(&self, work: impl Future<Output = ()>) {
        const MOMENT: Duration = Duration::from_secs(1);
        if let Some(tokio) = &self.tokio {
            let _ = tokio.block_on(async { tokio::time::timeout(MOMENT, work).await });
        }
    }
}

impl Drop for Runtime<'_> {
    /// A name server that does not answer holds a thread for seconds; nobody waits for it.
    fn drop(&mut self) {
        if let Some(tokio) = self.tokio.take() {
            tokio.shutdown_background();
        }
    }
}

fn broken(error: io::Error) -> Error {
    Error::Bug { what: format!("cannot wait: {error}") }
}
