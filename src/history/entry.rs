//! Entries of a history: cached blocks and gaps.

use std::sync::Arc;

use arrayvec::ArrayVec;

use super::cached_block::{CachedBlock, ENTRY_BYTES};

/// Entries that one read yields at most; on the stack of whoever reads.
pub const ENTRIES_MAX: usize = 64;
/// What one read yields, oldest first.
pub type Entries = ArrayVec<Entry, ENTRIES_MAX>;

/// What a cursor comes across.
#[derive(Debug, Clone)]
pub enum Entry {
    Block(Arc<CachedBlock>),
    /// Heights that never came, both ends included.
    Gap {
        from_height: u64,
        to_height: u64,
    },
}

/// A cached block counts this much for its entry without importing it.
const _: () = assert!(size_of::<Entry>() == ENTRY_BYTES);

impl Entry {
    pub fn first_height(&self) -> u64 {
        match self {
            Self::Block(cached) => cached.block.height,
            Self::Gap { from_height, .. } => *from_height,
        }
    }

    pub fn last_height(&self) -> u64 {
        match self {
            Self::Block(cached) => cached.block.height,
            Self::Gap { to_height, .. } => *to_height,
        }
    }
}
