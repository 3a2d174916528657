//! The pace of a reading: blocks, messages and bytes per second.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// Blocks that are decoded and encoded, per second: of small ones a tenth of a core's time.
const BLOCKS_MAX: u32 = 5_000;
/// Messages of which only the height is looked at, per second.
const PASSED_MAX: u32 = 20_000;
/// Bytes of bodies per second: of large blocks a twentieth of a core's time, and little for a broker's
/// disk.
const BYTES_MAX: u64 = 32 << 20;
/// So long may a reading be ahead of its pace before it waits: a timer's wait is a millisecond and
/// more, so that waiting for each message would halve the rate.
const AHEAD_MAX: Duration = Duration::from_millis(20);

/// Looks of all searches, per second: each opens a channel and a consumer at the broker, and hundreds a
/// second of these take a core of it. A single search in a million messages takes 42.
const LOOKS_MAX: u32 = 100;
/// What may come at once is this long's worth.
const LOOKS_AT_ONCE: Duration = Duration::from_secs(1);

/// What a message costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cost {
    Block,
    Passed,
}

/// The pace of one reading.
#[derive(Debug)]
pub struct ReadPace {
    /// When all that was taken would have been taken at the full rate.
    due: Instant,
}

/// The pace of all searches together.
#[derive(Debug)]
pub struct LookPace {
    /// When all looks that were taken would have been taken at the full rate.
    even_at: Instant,
}

impl LookPace {
    pub fn new(now: Instant) -> Self {
        Self { even_at: now }
    }

    /// Takes a look, and says when it is due.
    pub fn take(&mut self, now: Instant) -> Instant {
        self.even_at = self.even_at.max(now) + Duration::from_secs(1) / LOOKS_MAX;
        now.max(self.even_at - LOOKS_AT_ONCE)
    }
}

impl ReadPace {
    pub fn new(now: Instant) -> Self {
        Self { due: now }
    }

    /// Takes a message, and waits if it is too early.
    pub async fn keep(&mut self, cost: Cost, bytes: usize) {
        if let Some(until) = self.take(cost, bytes, Instant::now()) {
            sleep_until(until).await;
        }
    }

    /// Takes a message. Returns until when to wait, if it is too early; time in which nothing was
    /// taken is not made up for.
    fn take(&mut self, cost: Cost, bytes: usize, now: Instant) -> Option<Instant> {
        let per_message = match cost {
            Cost::Block => Duration::from_secs(1) / BLOCKS_MAX,
            Cost::Passed => Duration::from_secs(1) / PASSED_MAX,
        };
        let nanos = (bytes as u64).saturating_mul(1_000_000_000) / BYTES_MAX;
        let per_bytes = Duration::from_nanos(nanos);
        self.due = self.due.max(now) + per_message.max(per_bytes);
        (self.due > now + AHEAD_MAX).then_some(self.due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(cost: Cost, bytes: usize, messages: u32, expected: Duration) {
        let begin = Instant::now();
        let (mut pace, mut now) = (ReadPace::new(begin), begin);
        for _ in 0..messages {
            now = pace.take(cost, bytes, now).unwrap_or(now);
        }
        let taken = now - begin;
        assert!(taken <= expected && taken + 2 * AHEAD_MAX >= expected, "{taken:?}");
    }

    #[test]
    fn messages_and_bytes_are_bounded_per_second() {
        check(Cost::Block, 100, 10_000, Duration::from_secs(2));
        check(Cost::Passed, 100, 10_000, Duration::from_millis(500));
        check(Cost::Block, 16 << 20, 4, Duration::from_secs(2));
    }

    #[test]
    fn looks_are_bounded_per_second_and_a_search_is_not_held_up() {
        let begin = Instant::now();
        let mut pace = LookPace::new(begin);
        assert!((0..100).all(|_| pace.take(begin) == begin), "a search and more, at once");
        let waited = (0..100).map(|_| pace.take(begin)).max().expect("a look") - begin;
        assert_eq!(waited.as_millis(), 1_000);
        let later = begin + Duration::from_secs(60);
        assert!((0..100).all(|_| pace.take(later) == later), "no more than a second's worth");
        assert!(pace.take(later) > later);
    }

    #[test]
    fn a_pause_gives_no_credit() {
        let begin = Instant::now();
        let mut pace = ReadPace::new(begin);
        let later = begin + Duration::from_secs(60);
        let waits = (0..200).filter_map(|_| pace.take(Cost::Block, 0, later)).count();
        assert!(waits > 0, "200 blocks take 40 ms");
    }
}
