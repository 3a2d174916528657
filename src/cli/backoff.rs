//! How long to wait before the next attempt. Waits for nothing itself.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(250);
/// A person is watching: no attempt is further away than this.
const LONGEST: Duration = Duration::from_secs(15);

/// Waits that double from 250 ms to 15 s, each shortened at random by up to half, so that those who
/// lost the same server do not return together.
#[derive(Debug, Default)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The wait after one more failure.
    pub fn next_wait(&mut self) -> Duration {
        let full = FIRST.saturating_mul(1 << self.failures.min(16)).min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        full.mul_f64(1.0 - fastrand::f64() / 2.0)
    }

    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_bound_and_start_anew_after_a_reset() {
        let mut backoff = Backoff::default();
        assert!(backoff.next_wait() <= FIRST);
        for _ in 0..100 {
            let wait = backoff.next_wait();
            assert!(FIRST <= wait && wait <= LONGEST, "{wait:?}");
        }
        assert!(backoff.next_wait() >= LONGEST / 2);
        backoff.reset();
        assert!(backoff.next_wait() <= FIRST);
    }
}
