//! The one place where blocks are kept: a bounded run of encoded blocks and gaps, read by cursors.
//!
//! A cursor is a height; nothing is kept per reader and nothing is queued for one. Appending never
//! waits for a reader: it takes the lock for as long as moving a few words takes. This room knows
//! nothing of AMQP or HTTP, and never formats a byte.
//!
//! Two histories that were given the same blocks hold the same, whatever the timing: the longest
//! run of newest blocks that fits [`History::new`]'s bound. What only some clients require of a block is
//! made on demand and counts towards another bound, which [`Encodings`] keeps: no wish of a client evicts a
//! block.

mod cached_block;
mod cursor;
mod encode_queue;
mod encodings;
mod entry;
mod made_form;
mod readers;
mod required_encodings;
mod run;
mod shared;
mod taken_block;
mod waits;
mod watch;

pub use cached_block::CachedBlock;
pub use cursor::{Cursor, Gone, Lag, Placed};
pub use encodings::{EncodeJob, EncodingCounts, Encodings};
pub use entry::{ENTRIES_MAX, Entries, Entry};
pub use required_encodings::{Form, RequiredEncodings};
pub use run::HistorySummary;
pub use shared::History;
pub use taken_block::TakenBlock;
pub use watch::Watch;

#[cfg(test)]
mod tests;
