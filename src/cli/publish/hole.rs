//! Heights that a node does not have although it has a higher one: when that is proven, and when to go
//! on without them. Pure.

use std::time::{Duration, Instant};

/// What is known of a node's heights.
#[derive(Debug)]
pub struct Holes {
    /// Go on without what is missing.
    skip: bool,
    /// For how long a hole is asked for again before it is believed: behind a balancer the answers
    /// are of several nodes.
    patience: Duration,
    /// The highest height that the node was seen to have.
    seen: u64,
    hole: Option<Hole>,
}

/// The hole that is being looked at.
#[derive(Debug)]
struct Hole {
    first: u64,
    since: Instant,
    is_told: bool,
}

/// What to do about a height that is not there.
#[derive(Debug, PartialEq)]
pub enum Missing {
    /// Above all that was seen: it may come.
    AboveTip,
    /// In a hole: say so if it was not said, and ask again.
    InHole { is_told: bool },
    /// In a hole: go on with the next height.
    PassOver,
}

impl Holes {
    pub fn new(skip: bool, patience: Duration) -> Self {
        Self { skip, patience, seen: 0, hole: None }
    }

    /// The node has this height.
    pub fn saw(&mut self, height: u64) {
        self.seen = self.seen.max(height);
    }

    pub fn skips(&self) -> bool {
        self.skip
    }

    /// Whether a height that cannot be had is gone on without: a higher one is there.
    pub fn passes_over(&self, height: u64) -> bool {
        self.skip && height < self.seen
    }

    pub fn seen(&self) -> u64 {
        self.seen
    }

    /// What an answer means that has no block at `height`. `seen`: what was seen before it was asked
    /// for, since a height that is seen later proves nothing.
    pub fn missing(&mut self, height: u64, seen: u64, now: Instant) -> Missing {
        if height >= seen {
            return Missing::AboveTip;
        }
        let is_new = || Hole { first: height, since: now, is_told: false };
        let hole = self.hole.get_or_insert_with(is_new);
        if self.skip && now.duration_since(hole.since) >= self.patience {
            return Missing::PassOver;
        }
        Missing::InHole { is_told: std::mem::replace(&mut hole.is_told, true) }
    }

    /// A block at `height` is there. The first height of the hole that ends below it, if one was
    /// passed over.
    pub fn took(&mut self, height: u64) -> Option<u64> {
        self.saw(height);
        self.hole.take().map(|hole| hole.first).filter(|first| *first < height)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(3);

    #[test]
    fn only_a_height_below_one_that_was_seen_before_is_a_hole() {
        let now = Instant::now();
        let mut holes = Holes::new(true, PATIENCE);
        assert_eq!(holes.missing(5, holes.seen(), now), Missing::AboveTip);
        holes.saw(7);
        assert_eq!(holes.missing(5, 4, now), Missing::AboveTip, "asked for before 7 was seen");
        assert_eq!(holes.missing(7, 7, now), Missing::AboveTip, "the node lost its tip");
        assert_eq!(holes.missing(5, 7, now), Missing::InHole { is_told: false });
        assert_eq!(holes.missing(5, 7, now), Missing::InHole { is_told: true });
        assert_eq!(holes.missing(5, 7, now + PATIENCE), Missing::PassOver);
        assert_eq!(holes.missing(6, 7, now + PATIENCE), Missing::PassOver, "the same hole");
        assert_eq!(holes.took(7), Some(5));
        holes.saw(20);
        assert_eq!(holes.missing(8, 20, now), Missing::InHole { is_told: false }, "another");
        assert_eq!(holes.took(8), None, "it came after all");
    }

    #[test]
    fn without_leave_nothing_is_passed_over() {
        let now = Instant::now();
        let mut holes = Holes::new(false, PATIENCE);
        holes.saw(7);
        assert_eq!(holes.missing(5, 7, now), Missing::InHole { is_told: false });
        assert_eq!(holes.missing(5, 7, now + 9 * PATIENCE), Missing::InHole { is_told: true });
    }
}
