//! Where in a block a value is: made once per block, for all filters.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::ops::Range;
use std::sync::OnceLock;

use crate::block::{Fields, TransactionField};
use crate::protocol::FilterName;

/// A block's events by the hashes of what they can be filtered by.
///
/// 64 bits are for a value within one block. The key is made at random when the process starts, so
/// nobody can choose two values that look the same; hence hashes mean nothing to another process.
#[derive(Debug, Default)]
pub struct Index {
    /// Rising.
    hashes: Box<[u64]>,
    /// Where the events of each hash end; they begin where those of the one before end.
    ends: Box<[u32]>,
    /// Of each hash, rising.
    events: Box<[u32]>,
    events_of_block: u32,
}

impl Index {
    pub fn of(fields: &Fields) -> Self {
        let of_event = |event: usize| {
            let hashes = fields.of(event).map(tagged).map(|(tag, value)| hash(tag, value));
            hashes.map(move |hash| (hash, event as u32))
        };
        let mut all: Vec<_> = (0..fields.len()).flat_map(of_event).collect();
        all.sort_unstable();
        all.dedup();
        let runs = || all.chunk_by(|a, b| a.0 == b.0);
        let mut end = 0;
        let ends = runs().map(|run| {
            end += run.len() as u32;
            end
        });
        Self {
            hashes: runs().map(|run| run[0].0).collect(),
            ends: ends.collect(),
            events: all.iter().map(|(_, event)| *event).collect(),
            events_of_block: fields.len() as u32,
        }
    }

    /// At least the heap bytes of the index of these.
    pub fn bytes_max(fields: &Fields) -> usize {
        fields.total() * (size_of::<u64>() + 2 * size_of::<u32>())
    }

    /// All events of the block.
    pub(super) fn events(&self) -> u32 {
        self.events_of_block
    }

    /// The events with this value, rising.
    pub(super) fn events_with(&self, hash: u64) -> &[u32] {
        self.events_at(self.place_of(hash))
    }

    /// Where the events with this value are, for [`Index::events_at`].
    pub(super) fn place_of(&self, hash: u64) -> Range<u32> {
        let Ok(place) = self.hashes.binary_search(&hash) else { return 0..0 };
        place.checked_sub(1).map_or(0, |before| self.ends[before])..self.ends[place]
    }

    /// A part of those with one value.
    pub(super) fn events_at(&self, place: Range<u32>) -> &[u32] {
        &self.events[place.start as usize..place.end as usize]
    }

    /// Heap bytes.
    pub fn bytes(&self) -> usize {
        size_of_val(&*self.hashes) + size_of_val(&*self.ends) + size_of_val(&*self.events)
    }
}

pub(super) fn hash(name: FilterName, value: &str) -> u64 {
    static KEY: OnceLock<RandomState> = OnceLock::new();
    let mut hasher = KEY.get_or_init(RandomState::new).build_hasher();
    hasher.write_u8(name as u8);
    hasher.write(value.as_bytes());
    hasher.finish()
}

pub(super) fn tagged(field: TransactionField<'_>) -> (FilterName, &str) {
    match field {
        TransactionField::PublicKey(key) => (FilterName::PublicKey, key),
        TransactionField::OwnerBefore(key) => (FilterName::OwnerBefore, key),
        TransactionField::AssetId(id) => (FilterName::AssetId, id),
        TransactionField::TransactionId(id) => (FilterName::TransactionId, id),
        TransactionField::Operation(name) => (FilterName::Operation, name),
    }
}
