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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn close_times_are_spread_evenly() {
        const DRAWS: usize = 1_000;
        const SPREAD: Duration = Duration::from_secs(20);
        fastrand::seed(9_985);
        let drain = Drain::default();
        assert_eq!(drain.draw_close_time(), None);
        let began = Instant::now();
        drain.begin(SPREAD);
        let mut tenths = [0; 10];
        for _ in 0..DRAWS {
            let at = drain.draw_close_time().expect("it has begun") - began;
            assert!(at < SPREAD, "{at:?}");
            tenths[(at.as_secs_f64() / SPREAD.as_secs_f64() * 10.0) as usize] += 1;
        }
        // 100 each, and 9.5 the deviation: more than four of those to either side.
        assert!(tenths.iter().all(|count| (60..=140).contains(count)), "{tenths:?}");
    }
}
