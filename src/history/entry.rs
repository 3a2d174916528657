//! Entries of a history: cached blocks and gaps.

use std::sync::Arc;

use arrayvec::ArrayVec;

use super::cached_block::{CachedBlock, ENTRY_BYTES};
use super::taken_block::TakenBlock;

/// Entries that one read yields at most; on the stack of whoever reads.
pub const ENTRIES_MAX: usize = 64;
/// What one read yields, oldest first.
pub type Entries = ArrayVec<Entry, ENTRIES_MAX>;

/// What a cursor comes across.
#[derive(Debug, Clone)]
pub enum Entry<B = TakenBlock> {
    Block(B),
    /// Heights that never came, both ends included.
    Gap {
        from_height: u64,
        to_height: u64,
    },
}

/// What a history keeps.
pub(super) type KeptEntry = Entry<Arc<CachedBlock>>;

/// A cached block counts this much for its entry without importing it.
const _: () = assert!(size_of::<KeptEntry>() == ENTRY_BYTES);

impl KeptEntry {
    /// For a reader, without forms.
    pub(super) fn to_taken(&self) -> Entry {
        match self {
            Self::Block(cached) => Entry::Block(TakenBlock::of(Arc::clone(cached))),
            &Self::Gap { from_height, to_height } => Entry::Gap { from_height, to_height },
        }
    }
}

impl<B: AsRef<CachedBlock>> Entry<B> {
    pub fn first_height(&self) -> u64 {
        match self {
            Self::Block(block) => block.as_ref().block.height,
            Self::Gap { from_height, .. } => *from_height,
        }
    }

    pub fn last_height(&self) -> u64 {
        match self {
            Self::Block(block) => block.as_ref().block.height,
            Self::Gap { to_height, .. } => *to_height,
        }
    }
}
