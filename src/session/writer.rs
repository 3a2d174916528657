//! What a session writes next: the shared bytes of blocks, and messages of its own between them.
//!
//! No sockets here and no bytes of its own but control frames and control messages: slices out, a
//! count of written bytes in. Its own messages never start in the middle of a data message, nor a data
//! message in the middle of its own, wherever a write stopped. Nothing of a block is formatted or
//! copied per client.

mod control_queue;

use std::io::IoSlice;

use super::cursor::{SessionCursor, Told};
use super::subscription::{Part, Subscription};
use super::view::{Batch, Progress, Selection, Slices, View, Views};
use crate::history::{CachedBlock, Entry, RequiredEncodings};
use crate::protocol::Start;
use crate::protocol::control::{ControlMessage, Notice};
use control_queue::ControlQueue;
pub use control_queue::Ending;
#[cfg(test)]
pub use control_queue::PONGS_MAX;

/// How far a client is in the block under way, to the byte, and the messages of its own that wait.
#[derive(Debug)]
pub struct Writer {
    subscription: Subscription,
    /// In the block under way. What it has told stays when the client is done inside a block.
    progress: Progress,
    /// Data messages that may still go out.
    messages_max: Option<u64>,
    /// Set when they are out.
    is_done: bool,
    queue: ControlQueue,
}

impl Writer {
    /// `head` goes out before all else; `messages_max` data messages at most.
    pub fn new(subscription: Subscription, messages_max: Option<u64>, head: Vec<u8>) -> Self {
        Self {
            subscription,
            progress: Progress::default(),
            messages_max,
            is_done: false,
            queue: ControlQueue::of(head),
        }
    }

    pub fn subscription(&self) -> &Subscription {
        &self.subscription
    }

    /// What of the block under way has been told.
    pub fn told(&self) -> Told {
        self.progress.told
    }

    /// Whether a message of one's own may go out now.
    pub fn is_at_message_end(&self) -> bool {
        self.progress.in_message == 0
    }

    /// Whether it is in the middle of no block, so that the next may come from elsewhere.
    pub fn is_between_blocks(&self) -> bool {
        !self.progress.is_inside_block()
    }

    /// Whether messages of one's own wait to be written.
    pub fn has_queued(&self) -> bool {
        self.queue.is_waiting()
    }

    /// Whether they may: not in the middle of a data message.
    pub fn may_write_queued(&self) -> bool {
        self.is_at_message_end() || self.queue.is_under_way()
    }

    /// Whether all data messages that the client wanted are out.
    pub fn is_done(&self) -> bool {
        self.is_done
    }

    pub fn pong(&mut self, payload: Vec<u8>) {
        self.queue.pong(payload);
    }

    pub fn ping(&mut self) {
        self.queue.ping();
    }

    /// Puts a message in between, behind the data message under way.
    pub fn tell(&mut self, notice: &Notice) {
        self.queue.put(self.subscription.own_message(notice));
    }

    /// Puts bytes in between that are a message already.
    pub fn put(&mut self, message: Vec<u8>) {
        self.queue.put(message);
    }

    /// Ends after the message under way; only the first end counts.
    pub fn close(&mut self, ending: Ending) {
        self.queue.close(ending);
    }

    pub fn is_closing(&self) -> bool {
        self.queue.is_closing()
    }

    pub fn is_close_written(&self) -> bool {
        self.queue.is_close_written()
    }

    /// Whether blocks may still be written: not once an end waits, but for a message under way.
    pub fn wants_blocks(&self) -> bool {
        !self.is_at_message_end() || !(self.is_closing() || self.is_done)
    }

    /// What a block must have been made into before it can be sent, of which the client has so many
    /// events.
    pub fn required_encodings(&self, events_before: u32) -> RequiredEncodings {
        let part = Part { first_event: events_before, is_limited: self.messages_max.is_some() };
        self.subscription.required_encodings(part)
    }

    /// Fills `views` with what the client is sent of `entries`, which are its source's from `cursor` on, and have what
    /// [`Writer::required_encodings`] says. Returns false when [`Writer::count_batch`] comes before that.
    pub fn view<'a>(
        &self,
        views: &mut Views<'a>,
        entries: &'a [Entry],
        cursor: &SessionCursor,
        selection: &'a mut Selection,
    ) -> bool {
        let place = (cursor, &self.progress);
        views.fill(&self.subscription, entries, place, self.messages_max, selection)
    }

    /// Counts a turn's worth of the batch of the first block of `entries`.
    pub fn count_batch(
        &mut self,
        entries: &[Entry],
        cursor: &SessionCursor,
        selection: &mut Selection,
    ) {
        let Some(Entry::Block(cached)) = entries.first() else { return };
        let block = &cached.block;
        let begun = self.progress.batch.take().filter(|batch| batch.is_of(block));
        let new = || Box::new(Batch::new(block, cursor.events_before(block.height)));
        let batch = self.progress.batch.insert(begun.unwrap_or_else(new));
        batch.count(&self.subscription, cached, selection.lists());
    }

    /// Whether the block under way goes on in these. It does not when the broker gave up its first copy
    /// meanwhile, and has none or one in another order.
    pub fn goes_on_in(&self, views: &Views<'_>) -> bool {
        match views.ahead().first() {
            _ if self.is_between_blocks() => true,
            None => true,
            Some(View::Block(view)) => {
                view.height() == views.next_height() && view.agrees_with(&self.progress)
            }
            Some(View::Gap { .. }) => false,
        }
    }

    /// Fills `slices` with what to write next of `views`, after [`Writer::pass_empty`]; none: all is
    /// written. `position` says where the client goes on that has been told so much.
    pub fn slices<'a>(
        &'a mut self,
        views: &Views<'a>,
        position: impl FnOnce(Told) -> Start,
        slices: &mut Slices<'a>,
    ) {
        self.collect_control(!views.is_passed(), position);
        let until_message_end = !self.queue.bytes().is_empty() || self.is_closing();
        let mut queue_comes = self.may_write_queued();
        for view in views.ahead() {
            if until_message_end && queue_comes {
                break;
            }
            let View::Block(view) = view else {
                if self.subscription.has_control {
                    break;
                }
                continue;
            };
            let (from, ended) = match slices.is_empty() {
                true => (views.offset(), views.ended()),
                false => (0, 0),
            };
            let to = if until_message_end { view.end_of(ended) } else { view.len() };
            let has_end = view.has_end_of(ended) || view.is_whole();
            queue_comes = view.push(from, to, slices) && has_end;
            if !queue_comes || until_message_end {
                break;
            }
        }
        if queue_comes && !self.queue.bytes().is_empty() {
            // Without room it goes with the next write: what is offered ends before it.
            let _ = slices.try_push(IoSlice::new(self.queue.bytes()));
        }
    }

    /// Takes note that `written` bytes of the last [`Writer::slices`] went out.
    ///
    /// Returns the messages that this brought to their end, and shows `finished` each block (those
    /// without a byte for this client left out).
    pub fn advance(
        &mut self,
        views: &mut Views<'_>,
        written: usize,
        finished: &mut impl FnMut(&CachedBlock),
    ) -> usize {
        if self.queue.bytes().is_empty() {
            // A message under way that a close waits for is all that was offered.
            return self.advance_blocks(views, written, finished);
        }
        let of_message = written.min(self.rest_of_message(views));
        self.queue.advance(written - of_message);
        match of_message {
            0 => 0,
            of_message => self.advance_blocks(views, of_message, finished),
        }
    }

    /// Moves the client past what has no byte for it.
    pub fn pass_empty(&mut self, views: &mut Views<'_>) {
        // What was begun has bytes left.
        if self.is_between_blocks() {
            self.advance_blocks(views, 0, &mut |_| ());
        }
    }

    fn advance_blocks(
        &mut self,
        views: &mut Views<'_>,
        mut written: usize,
        finished: &mut impl FnMut(&CachedBlock),
    ) -> usize {
        let mut messages = 0;
        if written > 0 {
            self.queue.passed_data();
        }
        while let Some(view) = views.ahead().first() {
            if self.is_done || self.is_closing() && self.is_at_message_end() {
                break;
            }
            let view = match view {
                View::Block(view) => view,
                View::Gap { from_height, to_height } => {
                    let (from_height, to_height) = (*from_height, *to_height);
                    if self.subscription.has_control {
                        self.tell(&ControlMessage::Gap { from_height, to_height }.into());
                    }
                    views.pass(to_height + 1);
                    continue;
                }
            };
            let (height, offset, before) = (view.height(), views.offset(), views.ended());
            let reached = offset + written;
            let is_whole = reached >= view.len() && view.is_whole();
            let ended = if is_whole { view.messages() } else { view.ended_at(reached) };
            messages += view.counted(before, ended);
            let sent = view.data_messages_in(before, ended) as u64;
            self.messages_max = self.messages_max.map(|max| max - sent);
            if !is_whole {
                if written > 0 {
                    view.stop_at((offset, before), (reached, ended), &mut self.progress);
                }
                views.enter(height, reached, ended);
                return messages;
            }
            written -= view.len() - offset;
            if view.len() > 0 {
                finished(view.cached);
            }
            self.is_done = view.is_last;
            let told = view.told(ended);
            self.progress = Progress::default();
            if told == Some(Told::All) || !self.is_done {
                views.pass(height + 1);
            } else {
                self.progress.told = told.unwrap_or_default();
                views.pass(height);
            }
        }
        messages
    }

    /// What is left of the data message that one's own messages wait for.
    fn rest_of_message(&self, views: &Views<'_>) -> usize {
        match views.ahead().first() {
            Some(View::Block(view)) if !self.is_at_message_end() && !self.queue.is_under_way() => {
                view.end_of(views.ended()) - views.offset()
            }
            _ => 0,
        }
    }

    /// Moves what the protocol wants among one's own messages when these are written.
    fn collect_control(&mut self, has_data: bool, position: impl FnOnce(Told) -> Start) {
        let last = match self.queue.collect(has_data, self.is_at_message_end()) {
            None => return,
            Some(Ending::Bytes(bytes)) => bytes,
            Some(Ending::Cause(cause)) => self.subscription.ending(&cause, &position(self.told())),
        };
        self.queue.put_last(last);
    }
}

#[cfg(test)]
mod tests;
