//! What was published, by height, and the runs of heights that were given up.
//!
//! There is no time here, and no blocks: heights only.

use std::collections::BTreeMap;

use crate::block::BlockContent;

/// A run of heights from `first` on. Memory: one entry per known height and per gap.
#[derive(Debug)]
pub(super) struct KnownHeights {
    first: u64,
    contents: BTreeMap<u64, BlockContent>,
    /// By a gap's first height, its last one. Two gaps never touch, and all are below the tip.
    gaps: BTreeMap<u64, u64>,
    /// The height above the tip, or `first` while there is no tip. It never goes above the largest number.
    next: u64,
}

impl KnownHeights {
    pub fn beginning_at(first: u64) -> Self {
        Self { first, contents: BTreeMap::new(), gaps: BTreeMap::new(), next: first }
    }

    pub fn first(&self) -> u64 {
        self.first
    }

    pub fn next(&self) -> u64 {
        self.next
    }

    pub fn tip(&self) -> Option<u64> {
        self.contents.last_key_value().map(|(height, _)| *height)
    }

    pub fn gaps(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.gaps.iter().map(|(from, to)| (*from, *to))
    }

    pub fn content_mut(&mut self, height: u64) -> Option<&mut BlockContent> {
        self.contents.get_mut(&height)
    }

    /// Appends a height that is not below `next`.
    pub fn publish(&mut self, height: u64, content: BlockContent) {
        debug_assert!(height >= self.next, "bug: {height} is below {}", self.next);
        self.contents.insert(height, content);
        self.next = height.saturating_add(1);
    }

    /// Enters the gap from `next` to just below `height`. That height is above `next`, and its block is
    /// published next. Returns the gap's first and last height.
    pub fn give_up_to(&mut self, height: u64) -> (u64, u64) {
        let gap = (self.next, height - 1);
        self.gaps.insert(gap.0, gap.1);
        gap
    }

    /// Makes an unknown height below `next` known. A gap around it is cut in two.
    pub fn fill(&mut self, height: u64, content: BlockContent) {
        self.contents.insert(height, content);
        let Some((from, to)) = self.gap_around(height) else { return };
        self.gaps.remove(&from);
        if from < height {
            self.gaps.insert(from, height - 1);
        }
        if height < to {
            self.gaps.insert(height + 1, to);
        }
    }

    /// Moves `first` up to `height`, or to the tip if the tip is lower. Without a tip nothing moves.
    pub fn forget_below(&mut self, height: u64) {
        let Some(tip) = self.tip() else { return };
        self.first = self.first.max(height.min(tip));
        while self.contents.first_key_value().is_some_and(|(height, _)| *height < self.first) {
            self.contents.pop_first();
        }
        while let Some(gap) = self.gaps.first_entry().filter(|gap| *gap.key() < self.first) {
            let to = gap.remove();
            if to >= self.first {
                self.gaps.insert(self.first, to);
            }
        }
    }

    fn gap_around(&self, height: u64) -> Option<(u64, u64)> {
        let (from, to) = self.gaps.range(..=height).next_back()?;
        (height <= *to).then_some((*from, *to))
    }
}
