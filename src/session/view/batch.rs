//! A batch that is put together for one client: what it takes, counted before its first byte goes out, and how
//! far it is written. Its payloads stay the block's.

use super::pick::{PICKED_MAX, payload_bytes, pick};
use crate::filter::Lists;
use crate::frame::{self, EncodedBlock, SEPARATOR};
use crate::history::TakenBlock;
use crate::session::subscription::Subscription;

/// Events that one turn counts at most.
const COUNTED_MAX: usize = 16 * PICKED_MAX;

/// A batch under way, or one that is counted.
#[derive(Debug)]
pub struct Batch {
    /// The block, by its height and digest.
    block: (u64, u64),
    /// The first event that is not counted yet; then, the one that the bytes from `start` on are about.
    pub next_event: u32,
    /// Bytes before those.
    pub start: usize,
    /// All bytes, once all events are counted.
    pub len: Option<usize>,
    /// Goes before the first payload.
    pub head: Box<[u8]>,
    first_event: u32,
    payload_bytes: usize,
}

impl Batch {
    pub fn new(block: &EncodedBlock, first_event: u32) -> Self {
        Self {
            block: (block.height, block.digest),
            next_event: first_event,
            start: 0,
            len: None,
            head: Box::default(),
            first_event,
            payload_bytes: 0,
        }
    }

    /// One that is written from its first byte on, of which nothing is left to count.
    pub fn counted(block: &EncodedBlock, head: &[u8], len: usize) -> Self {
        Self { len: Some(len), head: head.into(), ..Self::new(block, 0) }
    }

    pub fn is_of(&self, block: &EncodedBlock) -> bool {
        self.block == (block.height, block.digest)
    }

    /// Counts one turn's worth of the block's events. Nothing is kept of those.
    pub fn count(&mut self, subscription: &Subscription, cached: &TakenBlock, lists: &mut Lists) {
        let (mut picked, mut left) = (Vec::with_capacity(PICKED_MAX), COUNTED_MAX);
        while self.len.is_none() && left > 0 {
            picked.clear();
            let more = pick(subscription, cached, self.next_event, PICKED_MAX, lists, &mut picked);
            self.payload_bytes += payload_bytes(&cached.block, &picked);
            self.next_event = picked.last().map_or(self.next_event, |last| last + 1);
            left = left.saturating_sub(picked.len());
            if !more {
                let bytes = self.payload_bytes.saturating_sub(SEPARATOR.len());
                self.head = frame::batch_head(&cached.block, bytes, subscription.wire).into();
                let tail = frame::batch_tail(subscription.wire);
                self.len = Some(self.head.len() + bytes + tail.len());
                self.next_event = self.first_event;
            }
        }
    }

    /// What stands before the payload of `next_event`.
    pub fn before_next(&self) -> &[u8] {
        if self.start == 0 { &self.head } else { SEPARATOR }
    }
}
