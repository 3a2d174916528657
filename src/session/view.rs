//! What of a portion of the history goes to one client: which bytes, in which order, and where its messages
//! end.
//!
//! Made once for a portion, and gone with the turn: a view borrows the block's shared bytes, and copies none
//! of them. Nothing is kept per client.

mod data;
mod selection;

use arrayvec::ArrayVec;

use super::cursor::{SessionCursor, Told};
use super::subscription::{Part, Subscription};
use crate::history::{ENTRIES_MAX, Entry, TakenBlock};
pub use data::Slices;
use data::{Data, Run};
pub use selection::Selection;

/// The views of a portion, oldest first.
pub struct Views<'a> {
    views: ArrayVec<View<'a>, ENTRIES_MAX>,
    /// How many of them are behind the client.
    passed: usize,
    next_height: u64,
}

/// What one entry is for a client.
pub enum View<'a> {
    Block(BlockView<'a>),
    /// As much of a gap as the client wants, both ends included.
    Gap {
        from_height: u64,
        to_height: u64,
    },
}

/// Whole messages back to back: data, then the mark of the block's end, if there is one.
pub struct BlockView<'a> {
    pub cached: &'a TakenBlock,
    data: Data<'a>,
    end: &'a [u8],
    /// Nothing goes to this client after it.
    pub is_last: bool,
    /// Data of the block is left out at its end.
    is_cut: bool,
}

impl<'a> Views<'a> {
    /// Room for a portion's views. It is some kilobytes on the stack, and is filled where it lies: moving it
    /// costs as much as a write.
    #[inline]
    pub fn new() -> Self {
        Self { views: ArrayVec::new_const(), passed: 0, next_height: 0 }
    }

    /// Adds what a client at `cursor` is sent of `entries`, which begin there and have what
    /// [`Subscription::required_encodings`] says, in `messages_max` data messages at most.
    ///
    /// `selection` takes what is this client's own.
    pub fn fill(
        &mut self,
        subscription: &Subscription,
        entries: &'a [Entry],
        cursor: &SessionCursor,
        messages_max: Option<u64>,
        selection: &'a mut Selection,
    ) {
        let part = |height| Part {
            first_event: cursor.events_before(height),
            is_limited: messages_max.is_some(),
        };
        selection.select(subscription, entries, part);
        let selection = &*selection;
        let next_height = cursor.next_height();
        self.next_height = next_height;
        let mut messages_left = messages_max;
        for (at, entry) in entries.iter().enumerate() {
            let cached = match entry {
                Entry::Block(cached) => cached,
                Entry::Gap { from_height, to_height } => {
                    self.views.push(View::Gap {
                        from_height: next_height.max(*from_height),
                        to_height: cursor
                            .until_height()
                            .map_or(*to_height, |it| it.min(*to_height)),
                    });
                    continue;
                }
            };
            let data = Data::of(subscription, cached, part(cached.block.height), selection.of(at));
            let view = BlockView::of(subscription, cached, data, messages_left);
            messages_left =
                messages_left.map(|left| left.saturating_sub(view.data_messages() as u64));
            let is_last = view.is_last;
            self.views.push(View::Block(view));
            if is_last {
                break;
            }
        }
    }

    /// Those that are not behind the client.
    pub fn ahead(&self) -> &[View<'a>] {
        &self.views[self.passed..]
    }

    /// Whether all are behind the client.
    pub fn is_passed(&self) -> bool {
        self.ahead().is_empty()
    }

    /// The height that comes next for the client, or is under way.
    pub fn next_height(&self) -> u64 {
        self.next_height
    }

    /// Takes note that the client is inside the first block ahead.
    pub fn enter(&mut self, height: u64) {
        self.next_height = height;
    }

    /// Takes note that the first ahead is behind the client.
    pub fn pass(&mut self, next_height: u64) {
        self.passed += 1;
        self.next_height = next_height;
    }
}

impl<'a> BlockView<'a> {
    fn of(
        subscription: &Subscription,
        cached: &'a TakenBlock,
        data: Data<'a>,
        messages_max: Option<u64>,
    ) -> Self {
        let end = match subscription.block_end() {
            Some(encoding) => Run::of(cached, Some(encoding), subscription.stream).bytes(),
            None => &[],
        };
        let left = messages_max.map_or(usize::MAX, |max| max.try_into().unwrap_or(usize::MAX));
        if data.messages() < left {
            return Self { cached, data, end, is_last: false, is_cut: false };
        }
        let is_cut = data.messages() > left;
        Self { cached, data: data.truncated(left), end: &[], is_last: true, is_cut }
    }

    pub fn height(&self) -> u64 {
        self.cached.block.height
    }

    /// All bytes.
    pub fn len(&self) -> usize {
        self.data.start_of(self.data.messages()) + self.end.len()
    }

    /// All messages, the end mark included.
    pub fn messages(&self) -> usize {
        self.data.messages() + usize::from(!self.end.is_empty())
    }

    /// Messages that count against a limit.
    pub fn data_messages(&self) -> usize {
        self.data.messages()
    }

    /// Messages as the metrics count them: a piece that tells many events is as many.
    pub fn counted(&self, from: usize, to: usize) -> usize {
        let data = self.data.messages();
        let data_here = to.min(data) - from.min(data);
        data_here * self.data.weight() + (to - from - data_here)
    }

    /// Where the message at `index` begins; the end of all for the one after the last.
    pub fn start_of(&self, index: usize) -> usize {
        match index <= self.data.messages() {
            true => self.data.start_of(index),
            false => self.len(),
        }
    }

    /// How many messages end at or before `offset`.
    pub fn ended_at(&self, offset: usize) -> usize {
        match offset {
            offset if offset >= self.len() => self.messages(),
            // Before a block is written, so for every client and block: nothing to look for.
            0 => 0,
            offset => self.data.ended_at(offset),
        }
    }

    /// What the first `messages` tell.
    pub fn told(&self, messages: usize) -> Told {
        let data = self.data.messages();
        match messages.min(data).checked_sub(1) {
            _ if messages >= data && !self.is_cut => Told::All,
            None => Told::Nothing,
            Some(last) => Told::To(self.data.event_of(last)),
        }
    }

    /// Adds slices of the bytes `from..to` as long as there is room. Returns whether all fitted.
    pub fn push(&self, from: usize, to: usize, slices: &mut Slices<'a>) -> bool {
        self.data.push(self.end, from, to, slices)
    }
}
