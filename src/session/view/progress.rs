//! How far a client is in the block under way, to the byte.

use super::batch::Batch;
use crate::frame::EncodedBlock;
use crate::session::cursor::Told;

/// A client's place inside a block; that between two blocks is the default.
#[derive(Debug, Default)]
pub struct Progress {
    /// That of the block, once something of it went out: a copy with another is not gone on with.
    pub digest: u64,
    /// What whole messages have told.
    pub told: Told,
    /// Bytes of the message behind those that are written already; 0 at a message's end.
    pub in_message: usize,
    /// The batch that is put together for this client, while one is.
    pub batch: Option<Box<Batch>>,
}

impl Progress {
    /// Whether something of a block went out, and something has not.
    pub fn is_inside_block(&self) -> bool {
        self.in_message > 0 || self.told != Told::Nothing
    }

    /// The first event that has not been told, of a block that began with `first_event`.
    pub fn next_event(&self, first_event: u32) -> u32 {
        match self.told {
            Told::Nothing => first_event,
            Told::To(event) => event + 1,
            Told::All => u32::MAX,
        }
    }

    /// The batch, if it is of that block.
    pub fn batch_of(&self, block: &EncodedBlock) -> Option<&Batch> {
        self.batch.as_deref().filter(|batch| batch.is_of(block))
    }
}
