//! When the next block may go.

use std::time::Duration;

use tokio::time::Instant;

/// Behind by more than this (the broker was away), what was missed is not made up for.
const CATCH_UP: Duration = Duration::from_secs(1);

/// A steady rate, held on the average; none waits for nothing.
pub struct Pace {
    period: Option<Duration>,
    next_at: Instant,
}

impl Pace {
    pub fn new(period: Option<Duration>) -> Self {
        Self { period, next_at: Instant::now() }
    }

    /// Waits until the next block is due.
    ///
    /// # Cancel safety
    /// Waiting changes nothing; only `took_one` does.
    pub async fn wait(&self) {
        if self.period.is_some() {
            tokio::time::sleep_until(self.next_at).await;
        }
    }

    pub fn took_one(&mut self) {
        if let Some(period) = self.period {
            let now = Instant::now();
            let earliest = now.checked_sub(CATCH_UP).unwrap_or(now);
            self.next_at = self.next_at.max(earliest) + period;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_rate_is_held_on_the_average_and_an_outage_is_not_made_up_for() {
        let mut pace = Pace::new(Some(Duration::from_millis(100)));
        let begun = Instant::now();
        for _ in 0..11 {
            pace.wait().await;
            pace.took_one();
        }
        assert_eq!(begun.elapsed().as_millis(), 1_000);
        tokio::time::advance(Duration::from_secs(60)).await;
        let resumed = Instant::now();
        for _ in 0..20 {
            pace.wait().await;
            pace.took_one();
        }
        assert!(resumed.elapsed() >= Duration::from_millis(900), "{:?}", resumed.elapsed());
    }
}
