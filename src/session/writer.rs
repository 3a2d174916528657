//! What a session writes next: the shared bytes of blocks, and messages of its own between them.
//!
//! No sockets here and no bytes of its own but control frames and control messages: slices out, a
//! count of written bytes in. Its own messages never start in the middle of a data message, nor a data
//! message in the middle of its own, wherever a write stopped. Nothing of a block is formatted or
//! copied per client.

mod own;

use crate::history::{Cursor, Entry, Kept, Needs};

use super::subscription::{Form, Part};
use super::view::{Cut, Plan, Slices, Told};
use crate::protocol::control::{ControlMessage, Notice};
use crate::protocol::{Cause, Position, Start};
use own::Own;

/// What a session keeps for the next write: a thousand matches.
const SCRATCH_BYTES_MAX: usize = 4_096;

/// Room that a session lends for one write: for a filter's matches and a batch's head.
#[derive(Debug, Default)]
pub struct Scratch {
    picked: Vec<u32>,
    head: Vec<u8>,
}

impl Scratch {
    /// Heap bytes.
    pub fn bytes(&self) -> usize {
        self.picked.capacity() * size_of::<u32>() + self.head.capacity()
    }

    /// What a large block took is not kept while nothing is written.
    pub fn let_go(&mut self) {
        if self.bytes() > SCRATCH_BYTES_MAX {
            *self = Self::default();
        }
    }
}

/// A session's place in the history, to the byte, and the messages of its own that it owes.
#[derive(Debug)]
pub struct Outbound {
    form: Form,
    /// The block being written, or the one to come.
    cursor: Cursor,
    /// The block that this client began in, and its events that it had already.
    begun: (u64, u32),
    /// What of the cursor's block has been told.
    told: Told,
    /// Messages of that block written in full.
    messages: usize,
    /// Bytes of the message after those that are written already; 0 at a message's end.
    in_message: usize,
    /// Data messages that may still go out.
    messages_max: Option<u64>,
    /// The last block that is wanted.
    until_height: Option<u64>,
    is_done: bool,
    own: Own,
}

/// What goes out last.
#[derive(Debug, PartialEq, Eq)]
pub enum Ending {
    /// Why it ends, and where the client goes on: its place when this goes out.
    Cause(Cause),
    Bytes(Vec<u8>),
}

/// Where a client begins, and where it has enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Bounds {
    pub until_height: Option<u64>,
    pub messages_max: Option<u64>,
}

impl Outbound {
    /// `head` goes out before all else.
    pub fn new(form: Form, cursor: Cursor, bounds: Bounds, head: Vec<u8>) -> Self {
        Self {
            form,
            cursor,
            begun: (0, 0),
            told: Told::Nothing,
            messages: 0,
            in_message: 0,
            messages_max: bounds.messages_max,
            until_height: bounds.until_height,
            is_done: false,
            own: Own::of(head),
        }
    }

    pub fn form(&self) -> &Form {
        &self.form
    }

    pub fn cursor(&self) -> Cursor {
        self.cursor
    }

    /// Places the cursor, `events_before` events into its block; only before anything of a block
    /// went out.
    pub fn begin_at(&mut self, cursor: Cursor, events_before: u32) {
        self.cursor = cursor;
        self.begun = (cursor.next_height, events_before);
    }

    /// Where this client would go on.
    pub fn position(&self) -> Start {
        let next = self.cursor.next_height;
        let told = match (self.told, self.begun) {
            (Told::Nothing, (height, events @ 1..)) if height == next => Told::To(events - 1),
            (told, _) => told,
        };
        match (next, told) {
            (0, Told::Nothing) => Start::Oldest,
            (next, Told::Nothing) => Start::After(Position::after_block(next - 1)),
            (next, Told::To(event)) => Start::After(Position::after_event(next, event.into())),
            (next, Told::All) => Start::After(Position::after_block(next)),
        }
    }

    /// Whether a message of one's own may go out now.
    pub fn is_at_message_end(&self) -> bool {
        self.in_message == 0
    }

    /// Whether it is in the middle of no block, so that the next may come from elsewhere.
    pub fn is_between_blocks(&self) -> bool {
        self.messages == 0 && self.in_message == 0
    }

    /// Events of the first block that the client had already.
    pub fn events_before_start(&self) -> u64 {
        u64::from(self.begun.1)
    }

    /// Whether messages of one's own wait to be written.
    pub fn has_own(&self) -> bool {
        self.own.is_waiting()
    }

    /// Whether they may: not in the middle of a data message.
    pub fn may_write_own(&self) -> bool {
        self.in_message == 0 || self.own.is_under_way()
    }

    /// Whether nothing from `height` on is wanted.
    pub fn ends_before(&self, height: u64) -> bool {
        self.until_height.is_some_and(|until| until < height)
    }

    /// Whether the block that was begun goes on in these entries. It does not when the broker gave up
    /// its first copy meanwhile, and has none or one in another order.
    pub fn goes_on_in(&self, entries: &[Entry], scratch: &mut Scratch) -> bool {
        if self.is_between_blocks() {
            return true;
        }
        match entries.first() {
            None => true,
            Some(Entry::Block(kept)) if kept.block.height == self.cursor.next_height => {
                let Scratch { picked, head } = scratch;
                let cut = self.cut(kept, self.messages_max);
                let plan = Plan::of(&self.form, kept, cut, picked, head);
                let is_inside = self.messages < plan.messages();
                is_inside
                    && plan.start_of(self.messages) + self.in_message
                        < plan.start_of(self.messages + 1)
            }
            Some(_) => false,
        }
    }

    /// Whether this client has all that it wanted.
    pub fn is_done(&self) -> bool {
        self.is_done || self.until_height.is_some_and(|until| self.cursor.next_height > until)
    }

    pub fn pong(&mut self, payload: Vec<u8>) {
        self.own.pong(payload);
    }

    pub fn ping(&mut self) {
        self.own.ping();
    }

    /// Puts a message in between, behind the data message under way.
    pub fn tell(&mut self, notice: &Notice) {
        self.own.put(self.form.own_message(notice));
    }

    /// Puts bytes in between that are a message already.
    pub fn put(&mut self, message: Vec<u8>) {
        self.own.put(message);
    }

    /// Ends after the message under way; only the first end counts.
    pub fn close(&mut self, ending: Ending) {
        self.own.close(ending);
    }

    pub fn is_closing(&self) -> bool {
        self.own.is_closing()
    }

    pub fn is_close_written(&self) -> bool {
        self.own.is_close_written()
    }

    /// Whether blocks may still be written: not once an end waits, but for a message under way.
    pub fn wants_blocks(&self) -> bool {
        self.in_message > 0 || !(self.is_closing() || self.is_done())
    }

    /// What a block must have been made into before it can be sent.
    pub fn needs(&self, height: u64) -> Needs {
        self.form.needs(self.part(height))
    }

    /// Fills `slices` with what to write next; none: all is written.
    ///
    /// `entries` are the history's from [`Outbound::cursor`] on, after [`Outbound::pass_empty`], and
    /// have what [`Outbound::needs`] says.
    pub fn slices<'a>(
        &'a mut self,
        entries: &'a [Entry],
        scratch: &'a mut Scratch,
        slices: &mut Slices<'a>,
    ) {
        self.collect_control(!entries.is_empty());
        let Scratch { picked, head } = scratch;
        let mut messages_max = self.messages_max;
        let until_message_end = !self.own.bytes().is_empty() || self.is_closing();
        let mut own_comes = self.may_write_own();
        for entry in entries {
            if self.is_done() || until_message_end && own_comes {
                break;
            }
            let Entry::Block(kept) = entry else {
                if self.form.has_control {
                    break;
                }
                continue;
            };
            if self.is_beyond(kept) {
                break;
            }
            let is_first = slices.is_empty();
            let plan = Plan::of(&self.form, kept, self.cut(kept, messages_max), picked, head);
            if plan.has_head() && !is_first {
                break;
            }
            let from = if is_first { plan.start_of(self.messages) + self.in_message } else { 0 };
            let to = match until_message_end {
                true => plan.start_of(self.messages + 1),
                false => plan.len(),
            };
            messages_max = messages_max.map(|max| max.saturating_sub(plan.data_messages() as u64));
            let (is_last, has_head) = (plan.is_last, plan.has_head());
            let fits = match has_head {
                // The head is lent for this write: one such block at a time.
                true => {
                    let head: &'a [u8] = head;
                    let fits = plan.push(from, to, head, slices);
                    own_comes = fits;
                    break;
                }
                false => plan.push(from, to, &[], slices),
            };
            own_comes = fits;
            if !fits || until_message_end || is_last {
                break;
            }
        }
        if own_comes && !self.own.bytes().is_empty() {
            // Without room it goes with the next write: what is offered ends before it.
            let _ = slices.try_push(std::io::IoSlice::new(self.own.bytes()));
        }
    }

    /// Takes note that `written` bytes of the last [`Outbound::slices`] went out.
    ///
    /// Returns the messages that this brought to their end, and shows `finished` each block (those
    /// without a byte for this client left out).
    pub fn advance(
        &mut self,
        entries: &[Entry],
        written: usize,
        scratch: &mut Scratch,
        finished: &mut impl FnMut(&Kept),
    ) -> usize {
        if self.own.bytes().is_empty() {
            // A message under way that a close waits for is all that was offered.
            return self.advance_blocks(entries, written, scratch, finished);
        }
        let of_message = written.min(self.rest_of_message(entries, scratch));
        self.own.advance(written - of_message);
        match of_message {
            0 => 0,
            of_message => self.advance_blocks(entries, of_message, scratch, finished),
        }
    }

    /// Moves the cursor past entries that have no byte for this client.
    pub fn pass_empty(&mut self, entries: &[Entry], scratch: &mut Scratch) {
        // What was begun has bytes left.
        if !self.is_between_blocks() {
            return;
        }
        self.advance_blocks(entries, 0, scratch, &mut |_| ());
    }

    fn advance_blocks(
        &mut self,
        entries: &[Entry],
        mut written: usize,
        scratch: &mut Scratch,
        finished: &mut impl FnMut(&Kept),
    ) -> usize {
        let mut messages = 0;
        if written > 0 {
            self.own.passed_data();
        }
        for entry in entries {
            if self.is_done() || self.is_closing() && self.in_message == 0 {
                break;
            }
            if entry.last_height() < self.cursor.next_height {
                continue;
            }
            let kept = match entry {
                Entry::Block(kept) => kept,
                Entry::Gap { .. } => {
                    self.pass_gap(entry);
                    continue;
                }
            };
            if let Some(until) = self.until_height.filter(|_| self.is_beyond(kept)) {
                self.cursor = self.cursor.at(until + 1);
                break;
            }
            let Scratch { picked, head } = &mut *scratch;
            let cut = self.cut(kept, self.messages_max);
            let plan = Plan::of(&self.form, kept, cut, picked, head);
            let offset = plan.start_of(self.messages) + self.in_message;
            let (ended, is_whole) = match offset + written {
                reached if reached < plan.len() => (plan.ended_at(reached), false),
                _ => (plan.messages(), true),
            };
            messages += plan.counted(self.messages, ended);
            self.told = plan.told(ended);
            if !is_whole {
                self.cursor = self.cursor.at(kept.block.height);
                self.messages = ended;
                self.in_message = offset + written - plan.start_of(ended);
                return messages;
            }
            written -= plan.len() - offset;
            if plan.len() > 0 {
                finished(kept);
            }
            let sent = plan.data_messages() as u64;
            self.messages_max = self.messages_max.map(|max| max - sent);
            self.is_done = plan.is_last;
            (self.messages, self.in_message) = (0, 0);
            if self.told == Told::All || !self.is_done {
                self.told = Told::Nothing;
                self.cursor = self.cursor.at(kept.block.height + 1);
            }
        }
        messages
    }

    fn pass_gap(&mut self, gap: &Entry) {
        let from_height = gap.first_height().max(self.cursor.next_height);
        let to_height = gap.last_height().min(self.until_height.unwrap_or(u64::MAX));
        // One that begins above all that is wanted is none of this client's.
        if self.form.has_control && from_height <= to_height {
            self.tell(&ControlMessage::Gap { from_height, to_height }.into());
        }
        self.cursor = self.cursor.at(to_height + 1);
    }

    fn cut(&self, kept: &Kept, messages_max: Option<u64>) -> Cut {
        Cut { part: self.part(kept.block.height), messages_max }
    }

    fn events_before(&self, height: u64) -> u32 {
        if self.begun.0 == height { self.begun.1 } else { 0 }
    }

    fn part(&self, height: u64) -> Part {
        Part { first_event: self.events_before(height), is_limited: self.messages_max.is_some() }
    }

    fn is_beyond(&self, kept: &Kept) -> bool {
        self.until_height.is_some_and(|until| kept.block.height > until)
    }

    /// What is left of the data message that one's own messages wait for.
    fn rest_of_message(&self, entries: &[Entry], scratch: &mut Scratch) -> usize {
        let under_way = entries.iter().find_map(|entry| match entry {
            Entry::Block(kept) => Some(kept),
            Entry::Gap { .. } => None,
        });
        match under_way {
            Some(kept) if self.in_message > 0 && !self.own.is_under_way() => {
                let Scratch { picked, head } = scratch;
                let cut = self.cut(kept, self.messages_max);
                let plan = Plan::of(&self.form, kept, cut, picked, head);
                let message = plan.start_of(self.messages)..plan.start_of(self.messages + 1);
                message.len() - self.in_message
            }
            _ => 0,
        }
    }

    /// Moves what is owed to the protocol among one's own messages when these are written.
    fn collect_control(&mut self, has_data: bool) {
        let last = match self.own.collect(has_data, self.in_message == 0) {
            None => return,
            Some(Ending::Bytes(bytes)) => bytes,
            Some(Ending::Cause(cause)) => self.form.ending(&cause, &self.position()),
        };
        self.own.put_last(last);
    }
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
