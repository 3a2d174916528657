//! What of a portion of the history goes to one client: which bytes, in which order, and where its messages
//! end.
//!
//! Made once for a portion, and gone with the turn: a view borrows the block's shared bytes, and copies none
//! of them. Nothing is kept per client.

mod batch;
mod data;
mod pick;
mod progress;
mod selection;

use arrayvec::ArrayVec;

use super::cursor::{SessionCursor, Told};
use super::subscription::{Part, Subscription};
use crate::history::{ENTRIES_MAX, Entry, TakenBlock};
pub use batch::Batch;
pub use data::Slices;
use data::{Data, Run};
pub use progress::Progress;
use selection::Place;
pub use selection::Selection;

/// The views of a portion, oldest first.
pub struct Views<'a> {
    views: ArrayVec<View<'a>, ENTRIES_MAX>,
    /// How many of them are behind the client.
    passed: usize,
    next_height: u64,
    /// Bytes of the first ahead that are written, and messages of it that they end.
    offset: usize,
    ended: usize,
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

/// Messages back to back, from the one that is under way on: data, then the mark of the block's end, if there
/// is one.
pub struct BlockView<'a> {
    pub cached: &'a TakenBlock,
    data: Data<'a>,
    end: &'a [u8],
    /// The block has more for this client, which is to be looked for when this is written.
    is_open: bool,
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
        Self { views: ArrayVec::new_const(), passed: 0, next_height: 0, offset: 0, ended: 0 }
    }

    /// Adds what a client at `cursor`, with `progress` in the block there, is sent of `entries`, which begin
    /// there and have what [`Subscription::required_encodings`] says, in `messages_max` data messages at most.
    ///
    /// `selection` takes what is this client's own. Returns false, and adds nothing, when a batch must be
    /// counted first.
    pub fn fill(
        &mut self,
        subscription: &Subscription,
        entries: &'a [Entry],
        (cursor, progress): (&SessionCursor, &Progress),
        messages_max: Option<u64>,
        selection: &'a mut Selection,
    ) -> bool {
        let next_height = cursor.next_height();
        let place = |height| {
            let first_event = cursor.events_before(height);
            let part = Part { first_event, is_limited: messages_max.is_some() };
            match height == next_height {
                true => {
                    let next_event = progress.next_event(first_event);
                    Place { part, next_event, progress: Some(progress) }
                }
                false => Place { part, next_event: first_event, progress: None },
            }
        };
        self.next_height = next_height;
        if !selection.select(subscription, entries, place) {
            return false;
        }
        let selection = &*selection;
        let entries = match subscription.has_selection() {
            true => &entries[..selection.entries()],
            false => entries,
        };
        let batch = match entries.first() {
            Some(Entry::Block(cached)) => progress.batch_of(&cached.block),
            _ => None,
        };
        self.offset = progress.in_message - batch.map_or(0, |batch| batch.start);
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
            let selected = selection.of(at);
            let data = Data::of(subscription, cached, place(cached.block.height), selected);
            let view = BlockView::of(subscription, cached, data, selected.is_open, messages_left);
            messages_left =
                messages_left.map(|left| left.saturating_sub(view.data_messages() as u64));
            let is_last = view.is_last;
            self.views.push(View::Block(view));
            if is_last {
                break;
            }
        }
        true
    }

    /// Those that are not behind the client.
    pub fn ahead(&self) -> &[View<'a>] {
        &self.views[self.passed..]
    }

    /// Whether all are behind the client.
    pub fn is_passed(&self) -> bool {
        self.ahead().is_empty()
    }

    /// Whether all that is here is written, though the block under way may have more.
    pub fn is_written(&self) -> bool {
        match self.ahead() {
            [] => true,
            [View::Block(view)] => view.is_open && self.offset == view.len(),
            _ => false,
        }
    }

    /// Bytes of the first ahead that are written.
    pub fn offset(&self) -> usize {
        self.offset
    }

    /// Messages of the first ahead that are.
    pub fn ended(&self) -> usize {
        self.ended
    }

    /// The height that comes next for the client, or is under way.
    pub fn next_height(&self) -> u64 {
        self.next_height
    }

    /// Takes note that the client is inside the first block ahead, so far.
    pub fn enter(&mut self, height: u64, offset: usize, ended: usize) {
        (self.next_height, self.offset, self.ended) = (height, offset, ended);
    }

    /// Takes note that the first ahead is behind the client.
    pub fn pass(&mut self, next_height: u64) {
        self.passed += 1;
        self.enter(next_height, 0, 0);
    }
}

impl<'a> BlockView<'a> {
    fn of(
        subscription: &Subscription,
        cached: &'a TakenBlock,
        data: Data<'a>,
        is_open: bool,
        messages_max: Option<u64>,
    ) -> Self {
        let left = messages_max.map_or(usize::MAX, |max| max.try_into().unwrap_or(usize::MAX));
        if data.messages() < left {
            let end = match subscription.block_end() {
                Some(encoding) if !is_open => {
                    Run::of(cached, Some(encoding), subscription.stream).bytes()
                }
                _ => &[],
            };
            return Self { cached, data, end, is_open, is_last: false, is_cut: false };
        }
        let is_cut = is_open || data.messages() > left;
        let data = data.truncated(left);
        Self { cached, data, end: &[], is_open: false, is_last: true, is_cut }
    }

    pub fn height(&self) -> u64 {
        self.cached.block.height
    }

    /// All bytes that are here.
    pub fn len(&self) -> usize {
        self.data.len() + self.end.len()
    }

    /// Whether all of the block is here.
    pub fn is_whole(&self) -> bool {
        !self.is_open
    }

    /// All messages that end here, the end mark included.
    pub fn messages(&self) -> usize {
        self.data.messages() + usize::from(!self.end.is_empty())
    }

    /// Messages that count against a limit.
    pub fn data_messages(&self) -> usize {
        self.data.messages()
    }

    /// How many of the messages `from..to` do.
    pub fn data_messages_in(&self, from: usize, to: usize) -> usize {
        let data = self.data.messages();
        to.min(data) - from.min(data)
    }

    /// Messages as the metrics count them: a piece that tells many events is as many.
    pub fn counted(&self, from: usize, to: usize) -> usize {
        let data_here = self.data_messages_in(from, to);
        data_here * self.data.weight() + (to - from - data_here)
    }

    /// Where the message at `index` begins; the end of all for the one after the last.
    pub fn start_of(&self, index: usize) -> usize {
        match index <= self.data.messages() {
            true => self.data.start_of(index),
            false => self.len(),
        }
    }

    /// Where the message behind those ends; all that is here when it ends elsewhere.
    pub fn end_of(&self, ended: usize) -> usize {
        if ended < self.messages() { self.start_of(ended + 1) } else { self.len() }
    }

    /// Whether that message ends here.
    pub fn has_end_of(&self, ended: usize) -> bool {
        ended < self.messages()
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

    /// What the first `messages` tell; none: nothing yet.
    pub fn told(&self, messages: usize) -> Option<Told> {
        let data = self.data.messages();
        if messages >= data && !self.is_cut && !self.is_open {
            return Some(Told::All);
        }
        let last = messages.min(data).checked_sub(1)?;
        Some(Told::To(self.data.event_of(last)))
    }

    /// Takes note in `progress` that the bytes up to the one at `reached` are written, from that at `offset`
    /// on, which ended the messages from `before` up to `ended`.
    pub fn stop_at(
        &self,
        (offset, before): (usize, usize),
        (reached, ended): (usize, usize),
        progress: &mut Progress,
    ) {
        progress.in_message = match ended > before {
            true => reached - self.start_of(ended),
            false => progress.in_message + (reached - offset),
        };
        progress.digest = self.cached.block.digest;
        progress.told = self.told(ended).unwrap_or(progress.told);
        progress.batch = match (&self.data, progress.told) {
            (Data::Run { .. } | Data::Picked { .. }, _) | (_, Told::All) => None,
            (Data::Batch(part), _) => {
                let block = &self.cached.block;
                let batch = progress.batch.take().filter(|batch| batch.is_of(block));
                let mut batch = batch.unwrap_or_else(|| {
                    // All of it is here, or it would have been counted.
                    Box::new(Batch::counted(block, part.head, part.len))
                });
                (batch.start, batch.next_event) = part.segment_at(reached);
                Some(batch)
            }
        };
    }

    /// Whether this is the block that `progress` is in.
    pub fn agrees_with(&self, progress: &Progress) -> bool {
        self.cached.block.digest == progress.digest
    }

    /// Adds slices of the bytes `from..to` as long as there is room. Returns whether all fitted.
    pub fn push(&self, from: usize, to: usize, slices: &mut Slices<'a>) -> bool {
        self.data.push(self.end, from, to, slices)
    }
}
