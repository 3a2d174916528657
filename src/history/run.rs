//! The run of entries itself: sorted by height, oldest first, without locks or readers.

use std::collections::VecDeque;
use std::collections::vec_deque;
use std::sync::Arc;
use std::time::SystemTime;

use super::cached_block::CachedBlock;
use super::cursor::{Cursor, Gone};
use super::entry::{Entry, KeptEntry};

/// Fills that are remembered one by one, for the clients that are told of them.
const FILLS_MAX: usize = 4_096;

#[derive(Debug, Default)]
pub struct EntryRun {
    entries: VecDeque<KeptEntry>,
    blocks: usize,
    bytes: usize,
    /// Of all blocks that have ever been here.
    counted: u64,
    /// What is below this has been here and has left.
    pub floor: u64,
    /// Counts the chains: a cursor of an earlier one is void.
    pub chain: u64,
    /// The newest heights that filled a gap, oldest first.
    fills: VecDeque<u64>,
    /// How many filled one before these.
    fills_forgotten: u64,
}

/// What an operator asks of a history.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HistorySummary {
    pub first_height: Option<u64>,
    pub tip: Option<u64>,
    pub tip_time: Option<SystemTime>,
    pub oldest_time: Option<SystemTime>,
    pub blocks: usize,
    pub bytes: usize,
}

impl EntryRun {
    pub fn tip(&self) -> Option<u64> {
        self.entries.back().map(KeptEntry::last_height)
    }

    pub fn first_height(&self) -> Option<u64> {
        self.entries.front().map(KeptEntry::first_height)
    }

    /// The entries that end at `height` or above.
    pub fn entries_from(&self, height: u64) -> vec_deque::Iter<'_, KeptEntry> {
        // Most readers want the newest or nothing: no search for these.
        let first = match self.entries.back() {
            Some(newest) if newest.last_height() < height => self.entries.len(),
            Some(newest) if newest.first_height() <= height => self.entries.len() - 1,
            _ => self.index_of(height),
        };
        self.entries.range(first..)
    }

    /// Whether what comes next for the cursor is here, or is to come.
    pub fn is_there(&self, cursor: Cursor) -> Result<(), Gone> {
        if self.chain != cursor.chain {
            return Err(Gone::AnotherChain);
        }
        if cursor.next_height < self.floor {
            return Err(Gone::FellOff);
        }
        Ok(())
    }

    /// Adds an entry above all others; neighbouring gaps become one.
    pub fn push(&mut self, entry: KeptEntry) {
        debug_assert!(self.tip().is_none_or(|tip| tip < entry.first_height()), "heights go up");
        if let (Some(Entry::Gap { to_height: end, .. }), Entry::Gap { from_height, to_height }) =
            (self.entries.back_mut(), &entry)
            && *end + 1 == *from_height
        {
            *end = *to_height;
            return;
        }
        self.count(&entry);
        self.entries.push_back(entry);
    }

    /// Puts a block between the others, out of the gap it lies in if there is one.
    pub fn fill(&mut self, cached: Arc<CachedBlock>) -> bool {
        let height = cached.block.height;
        if height < self.floor {
            return false;
        }
        let index = self.index_of(height);
        let below_and_above = match self.entries.get(index) {
            Some(&Entry::Gap { from_height, to_height }) if from_height <= height => {
                self.entries.remove(index);
                Some((from_height, to_height))
            }
            _ => None,
        };
        let block = Entry::Block(cached);
        self.count(&block);
        if let Some((_, to_height)) = below_and_above.filter(|(_, to_height)| *to_height > height) {
            self.entries.insert(index, Entry::Gap { from_height: height + 1, to_height });
        }
        self.entries.insert(index, block);
        if let Some((from_height, _)) =
            below_and_above.filter(|(from_height, _)| *from_height < height)
        {
            self.entries.insert(index, Entry::Gap { from_height, to_height: height - 1 });
        }
        if self.fills.len() == FILLS_MAX {
            self.fills.pop_front();
            self.fills_forgotten += 1;
        }
        self.fills.push_back(height);
        true
    }

    /// Lets the oldest entries go until the rest fits, but never the newest block.
    ///
    /// Gaps count nothing (there is at most one per block), so that what stays does not depend on
    /// whether a block came in its turn or filled a gap later.
    pub fn evict(&mut self, bytes_max: usize) {
        while self.bytes > bytes_max && self.blocks > 1 {
            self.drop_oldest();
        }
    }

    /// Lets go of the entries that end below `height`.
    pub fn let_go_below(&mut self, height: u64) {
        while self.entries.front().is_some_and(|oldest| oldest.last_height() < height) {
            self.drop_oldest();
        }
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Bytes of the blocks from `height` on; about, when some came late into gaps.
    pub fn bytes_from(&self, height: u64) -> u64 {
        let first = self.entries_from(height).find_map(|entry| match entry {
            Entry::Block(cached) => Some(cached.counted_before()),
            Entry::Gap { .. } => None,
        });
        first.map_or(0, |before| self.counted - before)
    }

    /// How many heights have filled a gap.
    pub fn fills(&self) -> u64 {
        self.fills_forgotten + self.fills.len() as u64
    }

    /// The heights of the fills after the first `seen`, at most `max`; none when some of them are
    /// forgotten.
    pub fn fills_after(&self, seen: u64, max: usize) -> Option<Vec<u64>> {
        let known = usize::try_from(seen.checked_sub(self.fills_forgotten)?).ok()?;
        Some(self.fills.iter().skip(known).take(max).copied().collect())
    }

    pub fn start_over(&mut self) {
        *self = Self { chain: self.chain + 1, ..Self::default() };
    }

    /// Heights missing between the entries, oldest first.
    pub fn gaps(&self) -> impl Iterator<Item = (u64, u64)> {
        let gaps = self.entries.iter().filter_map(|entry| match entry {
            Entry::Gap { from_height, to_height } => Some((*from_height, *to_height)),
            Entry::Block(_) => None,
        });
        // Most histories have none: nothing is walked then.
        gaps.take(self.entries.len() - self.blocks)
    }

    pub fn summary(&self) -> HistorySummary {
        HistorySummary {
            first_height: self.first_height(),
            tip: self.tip(),
            oldest_time: self.entries.iter().find_map(time_of),
            tip_time: self.entries.iter().rev().find_map(time_of),
            blocks: self.blocks,
            bytes: self.bytes,
        }
    }

    /// The index of the first entry that ends at `height` or above.
    fn index_of(&self, height: u64) -> usize {
        self.entries.partition_point(|entry| entry.last_height() < height)
    }

    fn drop_oldest(&mut self) {
        let Some(oldest) = self.entries.pop_front() else { return };
        self.floor = oldest.last_height() + 1;
        if let Entry::Block(cached) = &oldest {
            self.blocks -= 1;
            self.bytes -= cached.bytes();
        }
    }

    fn count(&mut self, entry: &KeptEntry) {
        if let Entry::Block(cached) = entry {
            self.blocks += 1;
            self.bytes += cached.bytes();
            cached.set_counted_before(self.counted);
            self.counted += cached.bytes() as u64;
        }
    }
}

fn time_of(entry: &KeptEntry) -> Option<SystemTime> {
    match entry {
        Entry::Block(cached) => Some(cached.appended_time),
        Entry::Gap { .. } => None,
    }
}
