//! What a session writes next: the shared bytes of blocks, and control frames between them.
//!
//! No sockets here and no bytes of its own but a control frame's: slices out, a count of written
//! bytes in. A control frame never starts in the middle of a data frame, nor a data frame in the
//! middle of a control frame, wherever a write stopped. Nothing is formatted or copied per client.

use std::io::IoSlice;

use crate::history::{Cursor, ENTRIES_MAX, Entry, Kept};

/// Slices in one vectored write, one per entry; Linux takes 1,024 at most.
pub const SLICES_MAX: usize = ENTRIES_MAX;
const FIN_PING: u8 = 0x89;
const FIN_PONG: u8 = 0x8a;

/// Which of the two streams a client reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// One message per transaction.
    Transactions,
    /// One message per block.
    Blocks,
}

/// A session's place in the history, to the byte, and the control frames it owes.
#[derive(Debug)]
pub struct Outbound {
    stream: Stream,
    /// The block being written, or the one to come.
    cursor: Cursor,
    /// Messages of that block written in full.
    messages: usize,
    /// Bytes of the message after those that are written already; 0 at a frame's end.
    in_frame: usize,
    /// Whole control frames, and how much of them is written.
    control: Vec<u8>,
    control_written: usize,
    /// The newest ping's payload that is not answered: RFC 6455 section 5.5.3 wants no more.
    pong: Option<Vec<u8>>,
    ping: bool,
    close: Close,
}

/// How far the server's own close frame is.
#[derive(Debug, PartialEq, Eq)]
enum Close {
    None,
    Wanted(Vec<u8>),
    /// In `control`; nothing goes after it.
    Under,
    Written,
}

impl Outbound {
    /// `head` goes out before all else.
    pub fn new(stream: Stream, cursor: Cursor, head: Vec<u8>) -> Self {
        Self {
            stream,
            cursor,
            messages: 0,
            in_frame: 0,
            control: head,
            control_written: 0,
            pong: None,
            ping: false,
            close: Close::None,
        }
    }

    pub fn cursor(&self) -> Cursor {
        self.cursor
    }

    /// Where this client would go on, as a URL's query says it.
    pub fn position(&self) -> String {
        match (self.cursor.next_height, self.messages) {
            (0, 0) => "from_height=oldest".to_owned(),
            (next, 0) => format!("after={}", next - 1),
            (next, messages) => format!("after={next}.{}", messages - 1),
        }
    }

    /// Whether a control frame may go out now.
    pub fn is_at_frame_end(&self) -> bool {
        self.in_frame == 0
    }

    pub fn pong(&mut self, payload: Vec<u8>) {
        self.pong = Some(payload);
    }

    pub fn ping(&mut self) {
        self.ping = true;
    }

    /// Closes after the frame under way; only the first close counts.
    pub fn close(&mut self, frame: Vec<u8>) {
        if self.close == Close::None {
            self.close = Close::Wanted(frame);
        }
    }

    pub fn is_closing(&self) -> bool {
        self.close != Close::None
    }

    pub fn is_close_written(&self) -> bool {
        self.close == Close::Written
    }

    /// Whether blocks may still be written: not once a close waits, but for a frame under way.
    pub fn wants_blocks(&self) -> bool {
        self.in_frame > 0 || !self.is_closing()
    }

    /// Fills `slices` with what to write next and returns how many there are; none: all is written.
    ///
    /// `entries` are the history's from [`Outbound::cursor`] on, after [`Outbound::pass_empty`].
    pub fn slices<'a>(
        &'a mut self,
        entries: &'a [Entry],
        slices: &mut [IoSlice<'a>; SLICES_MAX],
    ) -> usize {
        self.collect_control();
        let mut count = 0;
        if !self.control.is_empty() {
            let rest_of_frame = self.frame_under_way(entries);
            if !rest_of_frame.is_empty() {
                slices[count] = IoSlice::new(rest_of_frame);
                count += 1;
            }
            slices[count] = IoSlice::new(&self.control[self.control_written..]);
            return count + 1;
        }
        if self.is_closing() {
            return 0;
        }
        for kept in entries.iter().filter_map(block_of) {
            let (bytes, ends) = burst(self.stream, kept);
            let written = if count == 0 { self.offset(ends) } else { 0 };
            if written < bytes.len() {
                slices[count] = IoSlice::new(&bytes[written..]);
                count += 1;
            }
            if count == SLICES_MAX {
                break;
            }
        }
        count
    }

    /// Takes note that `written` bytes of the last [`Outbound::slices`] went out.
    ///
    /// Returns the messages that this brought to their end, and shows `finished` each block (those
    /// without a byte on this stream left out).
    pub fn advance(
        &mut self,
        entries: &[Entry],
        written: usize,
        finished: &mut impl FnMut(&Kept),
    ) -> usize {
        if self.control.is_empty() {
            return self.advance_blocks(entries, written, finished);
        }
        let of_frame = written.min(self.frame_under_way(entries).len());
        self.advance_control(written - of_frame);
        match of_frame {
            0 => 0,
            of_frame => self.advance_blocks(entries, of_frame, finished),
        }
    }

    /// Moves the cursor past entries that have no byte on this stream.
    pub fn pass_empty(&mut self, entries: &[Entry]) {
        if !self.is_closing() {
            self.advance_blocks(entries, 0, &mut |_| ());
        }
    }

    fn advance_blocks(
        &mut self,
        entries: &[Entry],
        mut written: usize,
        finished: &mut impl FnMut(&Kept),
    ) -> usize {
        let mut messages = 0;
        for entry in entries {
            let Some(kept) = block_of(entry) else {
                if entry.last_height() >= self.cursor.next_height {
                    self.cursor = self.cursor.at(entry.last_height() + 1);
                }
                continue;
            };
            if kept.block.height < self.cursor.next_height {
                continue;
            }
            let (bytes, ends) = burst(self.stream, kept);
            let offset = self.offset(ends);
            if bytes.len() - offset > written {
                self.cursor = self.cursor.at(kept.block.height);
                return messages + self.stop_inside(ends, offset + written);
            }
            written -= bytes.len() - offset;
            messages += ends.len() - self.messages;
            if !bytes.is_empty() {
                finished(kept);
            }
            (self.messages, self.in_frame) = (0, 0);
            self.cursor = self.cursor.at(kept.block.height + 1);
        }
        messages
    }

    /// What is left of the data frame that control frames wait for.
    fn frame_under_way<'a>(&self, entries: &'a [Entry]) -> &'a [u8] {
        match entries.iter().find_map(block_of) {
            Some(kept) if self.in_frame > 0 && self.control_written == 0 => {
                let (bytes, ends) = burst(self.stream, kept);
                &bytes[self.offset(ends)..ends[self.messages] as usize]
            }
            _ => &[],
        }
    }

    fn stop_inside(&mut self, ends: &[u32], offset: usize) -> usize {
        let ended = ends[self.messages..].partition_point(|end| *end as usize <= offset);
        self.messages += ended;
        let start = self.messages.checked_sub(1).map_or(0, |last| ends[last] as usize);
        self.in_frame = offset - start;
        ended
    }

    fn advance_control(&mut self, written: usize) {
        self.control_written += written;
        if self.control_written == self.control.len() {
            self.control = Vec::new();
            self.control_written = 0;
            if self.close == Close::Under {
                self.close = Close::Written;
            }
        }
    }

    /// Moves what is owed into the control buffer when that is free.
    fn collect_control(&mut self) {
        if !self.control.is_empty() || matches!(self.close, Close::Under | Close::Written) {
            return;
        }
        if let Some(payload) = self.pong.take() {
            self.control.extend([FIN_PONG, payload.len() as u8]);
            self.control.extend(payload);
        }
        if std::mem::take(&mut self.ping) {
            self.control.extend([FIN_PING, 0]);
        }
        if let Close::Wanted(frame) = &mut self.close {
            self.control.append(frame);
            self.close = Close::Under;
        }
    }

    /// Bytes of the current block that are written.
    fn offset(&self, ends: &[u32]) -> usize {
        self.messages.checked_sub(1).map_or(0, |last| ends[last] as usize) + self.in_frame
    }
}

fn block_of(entry: &Entry) -> Option<&Kept> {
    match entry {
        Entry::Block(kept) => Some(kept),
        Entry::Gap { .. } => None,
    }
}

/// A block's bytes on a stream, and where each message ends in them.
fn burst(stream: Stream, kept: &Kept) -> (&[u8], &[u32]) {
    match stream {
        Stream::Transactions => (&kept.block.events, &kept.block.event_ends),
        Stream::Blocks => (&kept.block.summary, std::slice::from_ref(&kept.block.summary_end)),
    }
}

#[cfg(test)]
mod tests;
