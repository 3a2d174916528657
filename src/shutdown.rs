//! The end of this replica, as a fact that everyone may look at: has the drain begun, over how
//! long is it spread, and is it over? Nobody waits here.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// When the sessions began to be closed, and over how long.
#[derive(Debug, Default)]
pub struct Drain {
    began: OnceLock<(Instant, Duration)>,
    is_over: AtomicBool,
}

impl Drain {
    /// Begins the drain; a second call changes nothing.
    pub fn begin(&self, spread: Duration) {
        let _ = self.began.set((Instant::now(), spread));
    }

    pub fn has_begun(&self) -> bool {
        self.began.get().is_some()
    }

    /// A time for one session to be closed at, drawn evenly; None while there is no drain.
    pub fn draw_close_time(&self) -> Option<Instant> {
        let (began, spread) = self.began.get()?;
        Some(*began + spread.mul_f64(fastrand::f64()))
    }

    /// Ends its time: whoever is still there goes at once.
    pub fn end(&self) {
        self.is_over.store(true, Ordering::Release);
    }

    pub fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Acquire)
    }
}
