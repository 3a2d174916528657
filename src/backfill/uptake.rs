//! What a session has not read yet of its turn's blocks, and whether it reads too slowly to keep the turn
//! while others wait. Pure: times are arguments.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// Who reads at this rate keeps its turn as long as anybody. Of what a turn can read it is a hundredth; who
/// is slower gets as much of a second's turn, for the most, out of the socket's buffer.
const BYTES_PER_SECOND: u64 = 256 << 10;
/// How long it may read nothing.
const SLACK: Duration = Duration::from_secs(1);

/// The blocks of one turn that were not read.
#[derive(Debug, Default)]
pub struct Uptake {
    /// Height and bytes of each, in order.
    unread: VecDeque<(u64, usize)>,
    /// When the first of them should be begun at the latest.
    begun_by: Option<Instant>,
}

impl Uptake {
    /// Another block is there to be read.
    pub fn append(&mut self, height: u64, bytes: usize, now: Instant) {
        if self.unread.is_empty() {
            self.begun_by = Some(now + SLACK);
        }
        self.unread.push_back((height, bytes));
    }

    /// All below `next_height` was read.
    pub fn read_below(&mut self, next_height: u64, now: Instant) {
        while let Some((height, bytes)) = self.unread.front().copied()
            && height < next_height
        {
            self.unread.pop_front();
            // Who is faster for a while has no more than the slack for it.
            self.begun_by = self.begun_by.map(|by| (by + time_for(bytes)).min(now + SLACK));
        }
    }

    /// Whether the first should have been read by now.
    pub fn is_late(&self, now: Instant) -> bool {
        let first = self.unread.front().zip(self.begun_by);
        first.is_some_and(|((_, bytes), by)| now > by + time_for(*bytes))
    }
}

fn time_for(bytes: usize) -> Duration {
    let nanos = (bytes as u64).saturating_mul(1_000_000_000) / BYTES_PER_SECOND;
    Duration::from_nanos(nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK_BYTES: usize = 1_024;

    /// How long a session keeps its turn that reads so many bytes a second, in steps of a tenth, and has a
    /// mebibyte before it.
    fn kept(bytes_per_second: usize, block_bytes: usize) -> Duration {
        let began = Instant::now();
        let (mut uptake, mut appended, mut read_bytes) = (Uptake::default(), 0, 0);
        for tenth in 0..100 {
            let now = began + Duration::from_millis(100) * tenth;
            while (appended as usize * block_bytes).saturating_sub(read_bytes) < 1 << 20 {
                uptake.append(appended, block_bytes, now);
                appended += 1;
            }
            uptake.read_below((read_bytes / block_bytes) as u64, now);
            if uptake.is_late(now) {
                return now - began;
            }
            read_bytes += bytes_per_second / 10;
        }
        Duration::from_secs(10)
    }

    #[test]
    fn a_trickle_does_not_keep_a_turn() {
        for (bytes_per_second, kept_for_at_most) in [(0, 1.2), (100, 1.2), (20_000, 1.3)] {
            let kept = kept(bytes_per_second, BLOCK_BYTES).as_secs_f64();
            assert!((0.9..=kept_for_at_most).contains(&kept), "{bytes_per_second}: {kept}");
        }
        for bytes_per_second in [BYTES_PER_SECOND as usize + 1_024, 1 << 20, 64 << 20] {
            let kept = kept(bytes_per_second, BLOCK_BYTES);
            assert_eq!(kept, Duration::from_secs(10), "{bytes_per_second}");
        }
    }

    #[test]
    fn a_large_block_takes_its_time() {
        assert_eq!(kept(1 << 19, 4 << 20), Duration::from_secs(10));
        assert!(kept(0, 1 << 20) >= Duration::from_secs(4));
    }

    #[test]
    fn nobody_is_late_with_nothing_to_read() {
        let now = Instant::now();
        let mut uptake = Uptake::default();
        uptake.append(5, BLOCK_BYTES, now);
        uptake.read_below(6, now + Duration::from_secs(1));
        assert!(!uptake.is_late(now + Duration::from_secs(60)));
        let later = now + Duration::from_secs(60);
        uptake.append(6, BLOCK_BYTES, later);
        assert!(!uptake.is_late(later + Duration::from_secs(1)), "it begins anew");
        assert!(uptake.is_late(later + Duration::from_secs(2)));
    }
}
