//! A block encoded once, into one allocation.

use bytes::Bytes;

use super::header::{FIN_TEXT, header_len, write_header};
use crate::block::{Block, EncodedLen, Fields, event_len};
use crate::config::Dialect;
use crate::event::{write_event, write_summary};

/// A block as its streams send it, and what filters ask of it.
#[derive(Debug, Clone, PartialEq)]
pub struct EncodedBlock {
    pub height: u64,
    pub hash: Option<Box<str>>,
    /// One text frame per transaction, in block order, back to back.
    pub events: Bytes,
    /// Where each frame of `events` ends.
    pub event_ends: Box<[u32]>,
    /// The block's frame on `valid_blocks`; of the same allocation as `events`.
    pub summary: Bytes,
    /// Where the one frame of `summary` ends: its length, as `event_ends` has it.
    pub summary_end: u32,
    pub fields: Fields,
    /// As [`Block::digest`] has it.
    pub digest: u64,
}

/// Encodes a block that [`crate::block::decode`] made with the same dialect and a bound of at most
/// 4 GiB for its frames.
pub fn encode(block: Block, dialect: Dialect) -> EncodedBlock {
    let expected = EncodedLen::of(&block, dialect);
    let len = usize::try_from(expected.frames()).expect("bug: a block above its bound");
    let mut out = Vec::with_capacity(len);
    let mut event_ends = Vec::with_capacity(block.fields.len());
    for index in 0..block.fields.len() {
        write_header(&mut out, FIN_TEXT, event_len(&block, dialect, index));
        write_event(&mut out, &block, dialect, index);
        event_ends.push(u32::try_from(out.len()).expect("bug: a block's frames above 4 GiB"));
    }
    let events_len = out.len();
    write_header(&mut out, FIN_TEXT, expected.summary_payload);
    write_summary(&mut out, &block);
    debug_assert_eq!(out.len(), len, "bug: a block's frames are not as long as they were to be");
    let mut events = Bytes::from(out);
    let summary = events.split_off(events_len);
    let event_ends = event_ends.into_boxed_slice();
    let digest = block.digest();
    let Block { height, hash, fields } = block;
    let summary_end = u32::try_from(summary.len()).expect("bug: a block's frames above 4 GiB");
    EncodedBlock { height, hash, events, event_ends, summary, summary_end, fields, digest }
}

impl EncodedBlock {
    /// Events, one per transaction.
    pub fn events_len(&self) -> usize {
        self.event_ends.len()
    }

    /// The memory it takes, itself included.
    pub fn bytes(&self) -> usize {
        size_of::<Self>()
            + self.hash.as_ref().map_or(0, |hash| hash.len())
            + self.events.len()
            + self.summary.len()
            + size_of_val(&*self.event_ends)
            + self.fields.bytes()
    }

    /// The JSON of the event at `index`, which must be below [`EncodedBlock::events_len`].
    pub fn payload(&self, index: usize) -> &[u8] {
        let start = index.checked_sub(1).map_or(0, |before| self.event_ends[before] as usize);
        let frame = &self.events[start..self.event_ends[index] as usize];
        &frame[header_len(frame)..]
    }
}
