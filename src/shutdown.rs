//! The end of this replica, as a fact that everyone may look at: has the drain begun, and over how
//! long is it spread? Nobody waits here.

use std::sync::OnceLock;
use std::time::Duration;

use tokio::time::Instant;

/// When the sessions began to be closed, and over how long.
#[derive(Debug, Default)]
pub struct Drain {
    began: OnceLock<(Instant, Duration)>,
}

impl Drain {
    /// Begins the drain; a second call changes nothing.
    pub fn begin(&self, spread: Duration) {
        let _ = self.began.set((Instant::now(), spread));
    }

    /// A time for one session to be closed at, drawn evenly; None while there is no drain.
    pub fn draw_close_time(&self) -> Option<Instant> {
        let (began, spread) = self.began.get()?;
        Some(*began + spread.mul_f64(fastrand::f64()))
    }
}
