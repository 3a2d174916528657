//! Waits between attempts, each longer than the one before. Pure: chance is an argument.
//!
//! Our own, and shorter than what a crate would need around it. The crates draw chance themselves; here
//! it is an argument, since a broker is returned to with full jitter, and a node or a server with half.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(250);
/// Below `amqp.unready_after`'s default, so that a broker that returns is found before clients go.
const LONGEST: Duration = Duration::from_secs(15);

/// A wait that doubles from 250 ms to 15 s, shortened by chance, so that those who lost the same peer
/// do not return to it at once. The caller draws: evenly from 0.0 to 1.0 is "full jitter".
#[derive(Debug, Default)]
pub struct Backoff {
    attempts: u32,
}

impl Backoff {
    /// The next wait. `chance` in 0.0..1.0.
    pub fn next(&mut self, chance: f64) -> Duration {
        let doubled = FIRST.saturating_mul(1 << self.attempts.min(16));
        self.attempts = self.attempts.saturating_add(1);
        doubled.min(LONGEST).mul_f64(chance)
    }

    pub fn reset(&mut self) {
        self.attempts = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_and_start_again_after_a_reset() {
        let mut backoff = Backoff::default();
        let waits: Vec<u64> = (0..9).map(|_| backoff.next(1.0).as_millis() as u64).collect();
        assert_eq!(waits, [250, 500, 1_000, 2_000, 4_000, 8_000, 15_000, 15_000, 15_000]);
        (0..100).for_each(|_| assert_eq!(backoff.next(0.0), Duration::ZERO));
        assert_eq!(backoff.next(0.5), LONGEST / 2);
        backoff.reset();
        assert_eq!(backoff.next(1.0), FIRST);
    }
}
