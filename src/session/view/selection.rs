//! What a client's filter picks out of a portion's blocks, and the heads of batches that are put together
//! for it. A session lends it for a turn; one without a filter and without batches has none.

use crate::frame;
use crate::history::Entry;
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
    /// Of the block that is looked at.
    matches: Vec<u32>,
}

/// What is selected of one block.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Selected<'a> {
    /// Indices of events, rising.
    pub picked: &'a [u32],
    /// The beginning of the batch, if it is put together for this client.
    pub head: &'a [u8],
}

impl Selection {
    /// Selects of each block among `entries`.
    pub(super) fn select(
        &mut self,
        subscription: &Subscription,
        entries: &[Entry],
        part: impl Fn(u64) -> Part,
    ) {
        self.picked.clear();
        self.heads.clear();
        self.ends.clear();
        if !subscription.has_selection() {
            return;
        }
        for entry in entries {
            if let Entry::Block(cached) = entry {
                let part = part(cached.block.height);
                let (from, is_own) = (part.first_event, subscription.shape(part) == Shape::Own);
                match &subscription.filter {
                    Some(filter) => {
                        let index = cached.index().expect("bug: a filter's block has no index");
                        filter.matches(index, &mut self.matches);
                        self.matches.retain(|event| *event >= from);
                    }
                    None => {
                        self.matches.clear();
                        let events = if is_own { cached.block.events_len() as u32 } else { 0 };
                        self.matches.extend(from..events);
                    }
                }
                if is_own && !self.matches.is_empty() {
                    let head = frame::batch_head(&cached.block, &self.matches, subscription.wire);
                    self.heads.extend(head);
                }
                self.picked.extend_from_slice(&self.matches);
            }
            self.ends.push((self.picked.len(), self.heads.len()));
        }
    }

    /// What is selected of the entry at `at`.
    pub(super) fn of(&self, at: usize) -> Selected<'_> {
        let Some(&(picked_end, head_end)) = self.ends.get(at) else { return Selected::default() };
        let before = at.checked_sub(1).map_or((0, 0), |before| self.ends[before]);
        Selected {
            picked: &self.picked[before.0..picked_end],
            head: &self.heads[before.1..head_end],
        }
    }

    /// Gives up the memory that a large block took.
    pub fn let_go(&mut self) {
        if self.bytes() > KEPT_BYTES_MAX {
            *self = Self::default();
        }
    }

    /// Heap bytes.
    pub fn bytes(&self) -> usize {
        (self.picked.capacity() + self.matches.capacity()) * size_of::<u32>()
            + self.heads.capacity()
            + self.ends.capacity() * size_of::<(usize, usize)>()
    }
}
