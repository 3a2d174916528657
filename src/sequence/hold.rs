//! Blocks that wait for the heights before them.
//!
//! Nothing is decided here. The sequencer decides how long they wait and how many bytes they may take.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::waiting::WaitingBlock;
use crate::block::BlockContent;

#[derive(Debug)]
pub(super) struct Held<T> {
    by_height: BTreeMap<u64, WaitingBlock<T>>,
    by_arrival: BTreeSet<(Instant, u64)>,
    bytes: u64,
}

impl<T> Held<T> {
    /// Adds a height that is not there yet.
    pub fn insert(&mut self, waiting: WaitingBlock<T>) {
        let height = waiting.offer.height;
        self.bytes = self.bytes.saturating_add(waiting.offer.bytes);
        self.by_arrival.insert((waiting.arrived, height));
        let before = self.by_height.insert(height, waiting);
        debug_assert!(before.is_none(), "bug: {height} is held already");
    }

    pub fn pop_lowest(&mut self) -> Option<WaitingBlock<T>> {
        let (height, waiting) = self.by_height.pop_first()?;
        self.by_arrival.remove(&(waiting.arrived, height));
        self.bytes = self.bytes.saturating_sub(waiting.offer.bytes);
        Some(waiting)
    }

    pub fn lowest(&self) -> Option<u64> {
        self.by_height.first_key_value().map(|(height, _)| *height)
    }

    pub fn highest(&self) -> Option<u64> {
        self.by_height.last_key_value().map(|(height, _)| *height)
    }

    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    pub fn content_mut(&mut self, height: u64) -> Option<&mut BlockContent> {
        self.by_height.get_mut(&height).map(|waiting| &mut waiting.offer.content)
    }

    /// When the one that has waited longest arrived.
    pub fn oldest(&self) -> Option<Instant> {
        self.by_arrival.first().map(|(arrived, _)| *arrived)
    }

    /// The highest height that has waited for `hold`.
    pub fn highest_due(&self, hold: Duration, now: Instant) -> Option<u64> {
        let is_due =
            |arrived: &Instant| arrived.checked_add(hold).is_some_and(|deadline| deadline <= now);
        self.by_arrival
            .iter()
            .take_while(|(arrived, _)| is_due(arrived))
            .map(|(_, height)| *height)
            .max()
    }

    pub fn into_items(self) -> impl Iterator<Item = T> {
        self.by_height.into_values().map(|waiting| waiting.offer.item)
    }
}

impl<T> Default for Held<T> {
    fn default() -> Self {
        Self { by_height: BTreeMap::new(), by_arrival: BTreeSet::new(), bytes: 0 }
    }
}
