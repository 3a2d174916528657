//! What a client's filter picks out of a portion's blocks, and the heads of batches that are put together
//! for it. A session lends it for a turn; one without a filter and without batches has none.
//!
//! It takes as many events as one write does, from the one on that the client is at. So what a turn costs is
//! bounded, whatever the blocks and the filter are.

use super::pick::{PICKED_MAX, payload_bytes, pick};
use super::progress::Progress;
use crate::filter::Lists;
use crate::frame::{self, SEPARATOR};
use crate::history::{Entry, TakenBlock};
use crate::session::subscription::{Part, Shape, Subscription};

/// What a session keeps for the next turn: a thousand matches.
const KEPT_BYTES_MAX: usize = 4_096;

/// The events that go to one client, by the place of their block in a portion.
#[derive(Debug, Default)]
pub struct Selection {
    picked: Vec<u32>,
    heads: Vec<u8>,
    /// Where those of each entry end in both; they begin where those of the entry before end.
    ends: Vec<(usize, usize)>,
    /// Whether there are more of the last entry.
    is_open: bool,
    lists: Lists,
}

/// What is selected of one block.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Selected<'a> {
    /// Indices of events, rising.
    pub picked: &'a [u32],
    /// What stands before the first of them, if they go into a batch of this client's own.
    pub head: &'a [u8],
    /// Whether the block has more that are not selected yet.
    pub is_open: bool,
}

/// Where a client is in a block.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    pub part: Part,
    /// The first event that it has not been told.
    pub next_event: u32,
    /// None: it is in none.
    pub progress: Option<&'a Progress>,
}

impl Selection {
    /// Selects of each block among `entries`, as far as there is room. Returns false when the first block's
    /// batch must be counted before.
    pub(super) fn select<'p>(
        &mut self,
        subscription: &Subscription,
        entries: &[Entry],
        place: impl Fn(u64) -> Place<'p>,
    ) -> bool {
        self.picked.clear();
        self.heads.clear();
        self.ends.clear();
        self.is_open = false;
        if !subscription.has_selection() {
            return true;
        }
        for (at, entry) in entries.iter().enumerate() {
            if let Entry::Block(cached) = entry {
                let place = place(cached.block.height);
                if subscription.shape(place.part) != Shape::Own {
                    self.select_messages(subscription, cached, place.next_event);
                } else if !self.select_batch(subscription, cached, place) {
                    return at > 0;
                }
            }
            self.ends.push((self.picked.len(), self.heads.len()));
            if self.is_open || self.picked.len() == PICKED_MAX {
                break;
            }
        }
        true
    }

    fn select_messages(&mut self, subscription: &Subscription, cached: &TakenBlock, first: u32) {
        if subscription.filter.is_some() {
            self.is_open = self.pick(subscription, cached, first);
        }
    }

    /// Returns false when it is not known yet how long the batch will be.
    fn select_batch(
        &mut self,
        subscription: &Subscription,
        cached: &TakenBlock,
        place: Place<'_>,
    ) -> bool {
        let batch = place.progress.and_then(|progress| progress.batch_of(&cached.block));
        let begun = self.picked.len();
        let Some(batch) = batch else {
            if self.pick(subscription, cached, place.next_event) {
                self.picked.truncate(begun);
                return false;
            }
            let picked = &self.picked[begun..];
            if !picked.is_empty() {
                let bytes = payload_bytes(&cached.block, picked) - SEPARATOR.len();
                self.heads.extend(frame::batch_head(&cached.block, bytes, subscription.wire));
            }
            return true;
        };
        if batch.len.is_none() {
            return false;
        }
        self.is_open = self.pick(subscription, cached, batch.next_event);
        self.heads.extend_from_slice(batch.before_next());
        true
    }

    fn pick(&mut self, subscription: &Subscription, cached: &TakenBlock, first: u32) -> bool {
        let room = PICKED_MAX - self.picked.len();
        pick(subscription, cached, first, room, &mut self.lists, &mut self.picked)
    }

    /// What is selected of the entry at `at`.
    pub(super) fn of(&self, at: usize) -> Selected<'_> {
        let Some(&(picked_end, head_end)) = self.ends.get(at) else { return Selected::default() };
        let before = at.checked_sub(1).map_or((0, 0), |before| self.ends[before]);
        Selected {
            picked: &self.picked[before.0..picked_end],
            head: &self.heads[before.1..head_end],
            is_open: self.is_open && at + 1 == self.ends.len(),
        }
    }

    /// How many entries were selected of; the others are to be taken again.
    pub(super) fn entries(&self) -> usize {
        self.ends.len()
    }

    /// Room to work in.
    pub fn lists(&mut self) -> &mut Lists {
        &mut self.lists
    }

    /// Gives up the memory that a large block took.
    pub fn let_go(&mut self) {
        if self.bytes() > KEPT_BYTES_MAX {
            *self = Self::default();
        }
    }

    /// Heap bytes.
    pub fn bytes(&self) -> usize {
        self.picked.capacity() * size_of::<u32>()
            + self.heads.capacity()
            + self.ends.capacity() * size_of::<(usize, usize)>()
            + self.lists.bytes()
    }
}
