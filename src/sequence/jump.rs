//! Heights that are too far from the others to be believed at once, and what makes them believed.
//!
//! One message must not be able to end the feed. Only further messages make a height believed. Time
//! bounds how long a doubted block waits for them, and nothing else.

use std::collections::{BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use super::waiting::WaitingBlock;
use crate::block::BlockContent;
use crate::config::Heights;

/// Consecutive heights that make a jump believed.
const RUN: usize = 3;
/// Doubted blocks that are kept at most. That is enough for a run of [`RUN`] blocks from each of a few
/// producers, out of order.
const CANDIDATES_MAX: usize = 16;
/// Blocks that are looked at before the history begins. That is enough for the copies of the last few
/// heights that a few producers publish.
const PROBATION_BLOCKS: u32 = 64;

/// How far apart two heights of one chain may be.
#[derive(Debug)]
pub(super) struct Reach {
    heights: Heights,
    jump_max: u64,
}

/// Doubted blocks in the order in which they came, one per height.
#[derive(Debug)]
pub(super) struct Candidates<T> {
    waiting: VecDeque<WaitingBlock<T>>,
    bytes: u64,
}

/// The heights of the first blocks, of which none is taken.
#[derive(Debug, Default)]
pub(super) struct Probation {
    blocks: u32,
    heights: BTreeSet<u64>,
}

impl Reach {
    pub fn new(heights: Heights, jump_max: u64) -> Self {
        Self { heights, jump_max: jump_max.max(1) }
    }

    pub fn heights(&self) -> Heights {
        self.heights
    }

    /// Whether `to` is at most `jump_max` above `from`, or below it.
    pub fn allows(&self, from: u64, to: u64) -> bool {
        to.saturating_sub(from) <= self.jump_max
    }

    /// Whether rising heights are consecutive: one apart, or within `jump_max` where a producer
    /// leaves heights out.
    fn is_run(&self, rising: &[u64]) -> bool {
        rising.windows(2).all(|pair| match self.heights {
            Heights::Dense => pair[1] - pair[0] == 1,
            Heights::Sparse => self.allows(pair[0], pair[1]),
        })
    }

    /// The lowest of `rising` heights that begins a run.
    fn run_start(&self, rising: &[u64]) -> Option<u64> {
        rising.windows(RUN).find(|heights| self.is_run(heights)).map(|heights| heights[0])
    }
}

impl<T> Candidates<T> {
    /// Adds a height that is not there yet, whatever the bounds; see [`Candidates::pop_excess`].
    pub fn push(&mut self, waiting: WaitingBlock<T>) {
        self.bytes = self.bytes.saturating_add(waiting.offer.bytes);
        self.waiting.push_back(waiting);
    }

    /// Removes the oldest until the others are within both bounds.
    pub fn pop_excess(&mut self, bytes_max: u64) -> Vec<WaitingBlock<T>> {
        let mut excess = Vec::new();
        while self.waiting.len() > CANDIDATES_MAX || self.bytes > bytes_max {
            let oldest = self.pop_oldest();
            excess.push(oldest.expect("bug: bytes are counted, but none is there"));
        }
        excess
    }

    /// Removes those that have waited for `doubt`.
    pub fn pop_due(&mut self, doubt: Duration, now: Instant) -> Vec<WaitingBlock<T>> {
        let mut due = Vec::new();
        while self.oldest().and_then(|at| at.checked_add(doubt)).is_some_and(|until| until <= now) {
            due.extend(self.pop_oldest());
        }
        due
    }

    /// When the one that has waited longest arrived.
    pub fn oldest(&self) -> Option<Instant> {
        self.waiting.front().map(|waiting| waiting.arrived)
    }

    fn pop_oldest(&mut self) -> Option<WaitingBlock<T>> {
        let oldest = self.waiting.pop_front()?;
        self.bytes = self.bytes.saturating_sub(oldest.offer.bytes);
        Some(oldest)
    }

    /// Removes all, by rising height.
    pub fn take(&mut self) -> Vec<WaitingBlock<T>> {
        self.bytes = 0;
        let mut all = Vec::from(std::mem::take(&mut self.waiting));
        all.sort_unstable_by_key(|waiting| waiting.offer.height);
        all
    }

    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    pub fn content_mut(&mut self, height: u64) -> Option<&mut BlockContent> {
        let found = self.waiting.iter_mut().find(|waiting| waiting.offer.height == height);
        found.map(|waiting| &mut waiting.offer.content)
    }

    /// The first of a run of consecutive heights, if there is one.
    pub fn run_start(&self, reach: &Reach) -> Option<u64> {
        reach.run_start(&self.rising())
    }

    /// The highest candidate that is reached from the one at `run`, step by step.
    pub fn top_of(&self, run: u64, reach: &Reach) -> u64 {
        let rising = self.rising();
        let from_run = rising.iter().filter(|height| **height > run);
        from_run.fold(run, |top, height| if reach.allows(top, *height) { *height } else { top })
    }

    pub fn into_items(self) -> impl Iterator<Item = T> {
        self.waiting.into_iter().map(|waiting| waiting.offer.item)
    }

    fn rising(&self) -> Vec<u64> {
        let mut heights: Vec<u64> =
            self.waiting.iter().map(|waiting| waiting.offer.height).collect();
        heights.sort_unstable();
        heights
    }
}

impl<T> Default for Candidates<T> {
    fn default() -> Self {
        Self { waiting: VecDeque::new(), bytes: 0 }
    }
}

impl Probation {
    /// Notes a block's height. Returns true when this was the last block to be looked at.
    pub fn see(&mut self, height: u64) -> bool {
        self.blocks += 1;
        self.heights.insert(height);
        self.blocks >= PROBATION_BLOCKS
    }

    pub fn distinct(&self) -> usize {
        self.heights.len()
    }

    /// The highest height that is believed, counted up from the lowest one. A tip that is too low is
    /// lifted by what comes later. A tip that is too high is never lowered.
    pub fn tip(&self, reach: &Reach) -> Option<u64> {
        let rising: Vec<u64> = self.heights.iter().copied().collect();
        let mut tip = *rising.first()?;
        for (at, height) in rising.iter().enumerate() {
            let run = rising.get(at..at + RUN).is_some_and(|heights| reach.is_run(heights));
            if run || reach.allows(tip, *height) {
                tip = *height;
            }
        }
        Some(tip)
    }
}
