//! Heights that were seen in the stream, as runs, with the places of late ones.

use std::collections::BTreeMap;

use crate::amqp::Message;

/// Runs of heights kept; beyond it every height counts as perhaps seen. 3 MB.
const RUNS_MAX: usize = 65_536;
/// Late heights whose place is kept; another's is looked for. 3 MB.
const LATE_MAX: usize = 65_536;

/// A stream's heights up to a message.
#[derive(Debug, Clone, Default)]
pub struct Scanned {
    pub seen: HeightRuns,
    /// Where heights are that came first behind higher ones, such as those published again into a gap.
    pub late: BTreeMap<u64, u64>,
    /// The highest seen.
    highest: u64,
    /// None when nothing was scanned.
    pub last: Option<Message>,
}

/// Heights that were seen, as runs of consecutive ones.
#[derive(Debug, Clone, Default)]
pub struct HeightRuns {
    /// From, to, both included; apart from each other.
    runs: BTreeMap<u64, u64>,
}

impl Scanned {
    pub fn add(&mut self, height: u64, offset: u64) {
        let is_new = self.seen.add(height);
        if is_new && height < self.highest && self.late.len() < LATE_MAX {
            self.late.insert(height, offset);
        }
        self.highest = self.highest.max(height);
    }
}

impl HeightRuns {
    /// Whether it was not seen before.
    pub fn add(&mut self, height: u64) -> bool {
        if self.runs.len() >= RUNS_MAX {
            self.runs = BTreeMap::from([(0, u64::MAX)]);
        }
        let below = self.runs.range(..=height).next_back().map(|(from, to)| (*from, *to));
        let from = match below {
            Some((_, to)) if to >= height => return false,
            Some((from, to)) if to + 1 == height => from,
            _ => height,
        };
        let above = height.checked_add(1).and_then(|above| self.runs.remove(&above));
        self.runs.insert(from, above.unwrap_or(height));
        true
    }

    /// The lowest height of a range, both ends included, that was seen or may have been.
    pub fn lowest(&self, from: u64, to: u64) -> Option<u64> {
        let below = self.runs.range(..=from).next_back();
        if below.is_some_and(|(_, run_to)| *run_to >= from) {
            return Some(from);
        }
        self.runs.range(from..=to).next().map(|(run_from, _)| *run_from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_are_one_run_whatever_their_order() {
        let mut seen = HeightRuns::default();
        for height in [5, 3, 4, 9, 4, 0, u64::MAX] {
            seen.add(height);
        }
        assert_eq!(seen.runs, BTreeMap::from([(0, 0), (3, 5), (9, 9), (u64::MAX, u64::MAX)]));
        for (from, to, expected) in [
            (0, 0, Some(0)),
            (1, 2, None),
            (1, 3, Some(3)),
            (4, 8, Some(4)),
            (5, 8, Some(5)),
            (6, 8, None),
            (6, 20, Some(9)),
        ] {
            assert_eq!(seen.lowest(from, to), expected, "{from}-{to}");
        }
    }

    #[test]
    fn too_many_runs_are_told_as_perhaps() {
        let mut seen = HeightRuns::default();
        for height in 0..=RUNS_MAX as u64 {
            seen.add(2 * height);
        }
        assert_eq!(seen.lowest(1, 1), Some(1));
        assert_eq!(seen.runs.len(), 1);
    }
}
