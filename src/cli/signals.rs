//! The signals that commands hear: two that ask for the end, and one that asks for files to be read
//! again. What a command does then is its own.

use anyhow::{Context, Result};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// SIGTERM and SIGINT, caught from `new` on: neither ends the process by itself any more.
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

/// SIGHUP, caught from `new` on: it does not end the process any more.
pub struct HangUps(Signal);

impl Signals {
    /// # Errors
    /// The system refuses a signal handler; the command should not run without.
    pub fn new() -> Result<Self> {
        let catch = |kind| signal(kind).context("cannot catch signals");
        Ok(Self {
            terminate: catch(SignalKind::terminate())?,
            interrupt: catch(SignalKind::interrupt())?,
        })
    }

    /// The name of the next signal.
    ///
    /// # Cancel safety
    /// Nothing is lost: a signal that came stays to be told by the next call.
    pub async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

impl HangUps {
    /// # Errors
    /// As [`Signals::new`].
    pub fn new() -> Result<Self> {
        Ok(Self(signal(SignalKind::hangup()).context("cannot catch signals")?))
    }

    /// Returns at the next one.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn next(&mut self) {
        if self.0.recv().await.is_none() {
            // The runtime ends.
            std::future::pending().await
        }
    }
}
