//! The one place where blocks are kept: a bounded run of encoded blocks and gaps, read by cursors.
//!
//! A cursor is a height; nothing is kept per reader and nothing is queued for one. Appending never
//! waits for a reader: it takes the lock for as long as moving a few words takes. This room knows
//! nothing of AMQP or HTTP, and never formats a byte.
//!
//! Two histories that were given the same blocks hold the same, whatever the timing: the longest
//! run of newest blocks that fits [`History::new`]'s bound.

mod run;

use std::sync::{Arc, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Instant, SystemTime};

use arrayvec::ArrayVec;
use tokio::sync::watch;

use crate::frame::EncodedBlock;
use run::Run;

/// Entries that one read yields at most; on the stack of whoever reads.
pub const ENTRIES_MAX: usize = 64;
/// Per block, beside what is counted exactly: reference counts, what the allocator adds to four
/// allocations, and the sequencer's entry for the height.
const BESIDE_BYTES: usize = 192;
/// What one read yields, oldest first.
pub type Entries = ArrayVec<Entry, ENTRIES_MAX>;

/// A block in the history, and since when.
#[derive(Debug)]
pub struct Kept {
    pub block: EncodedBlock,
    pub appended_at: Instant,
    pub appended_time: SystemTime,
}

/// What a cursor comes across.
#[derive(Debug, Clone)]
pub enum Entry {
    Block(Arc<Kept>),
    /// Heights that never came, both ends included.
    Gap {
        from_height: u64,
        to_height: u64,
    },
}

/// Why a cursor cannot be served any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gone {
    /// What comes next for it has left the history.
    FellOff,
    /// The history was emptied for another chain.
    AnotherChain,
}

/// What an operator asks of a history.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Summary {
    pub first_height: Option<u64>,
    pub tip: Option<u64>,
    pub tip_time: Option<SystemTime>,
    pub oldest_time: Option<SystemTime>,
    pub blocks: usize,
    pub bytes: usize,
}

/// A bounded run of blocks and gaps, by height.
#[derive(Debug)]
pub struct History {
    bytes_max: usize,
    run: RwLock<Run>,
    /// Sender: whoever appends. Receivers: sessions, which look at the run when this moves.
    /// It holds one number: there is nothing to fill up.
    version: watch::Sender<u64>,
}

impl History {
    /// An empty history that keeps at most `bytes_max` (but always the newest block).
    pub fn new(bytes_max: usize) -> Self {
        Self { bytes_max, run: RwLock::new(Run::default()), version: watch::Sender::new(0) }
    }

    /// Adds the next block; its height is above every other.
    pub fn append(&self, block: EncodedBlock) {
        self.write(|run, bytes_max| {
            run.push(Entry::Block(Arc::new(Kept::now(block))));
            run.evict(bytes_max);
        });
    }

    /// Puts a block into the gap that it is missing from.
    ///
    /// Returns false, and keeps nothing, if what surrounds it has left the history already.
    pub fn fill(&self, block: EncodedBlock) -> bool {
        self.write(|run, bytes_max| {
            let filled = run.fill(Arc::new(Kept::now(block)));
            run.evict(bytes_max);
            filled
        })
    }

    /// Adds heights that were given up, both ends included, above every other.
    pub fn append_gap(&self, from_height: u64, to_height: u64) {
        self.write(|run, _| run.push(Entry::Gap { from_height, to_height }));
    }

    /// Empties the history: every cursor taken before gets [`Gone::AnotherChain`].
    pub fn start_over(&self) {
        self.write(|run, _| run.start_over());
    }

    /// Lets go of what lies wholly below `height`, read by the only reader; wakes nobody. Returns
    /// the bytes that the rest keeps.
    pub fn let_go_below(&self, height: u64) -> usize {
        let mut run = self.run.write().expect("bug: nothing panics while it holds this lock");
        run.let_go_below(height);
        run.bytes()
    }

    /// Wakes every reader though nothing has changed, to look at something else.
    pub fn wake_readers(&self) {
        self.version.send_modify(|version| *version += 1);
    }

    /// A cursor for a reader that wants what comes from now on.
    pub fn live_cursor(&self) -> Cursor {
        let run = self.read();
        Cursor { next_height: run.tip().map_or(0, |tip| tip + 1), chain: run.chain }
    }

    /// Puts references to the entries from `cursor` on into `entries`, which is emptied first, up to
    /// about `bytes_max` of frames but one entry at least. None means that the cursor is at the end.
    ///
    /// # Errors
    /// [`Gone`]: the reader must be told, and cut.
    pub fn entries_from(
        &self,
        cursor: Cursor,
        bytes_max: usize,
        entries: &mut Entries,
    ) -> Result<Lag, Gone> {
        entries.clear();
        let run = self.read();
        if run.chain != cursor.chain {
            return Err(Gone::AnotherChain);
        }
        if cursor.next_height < run.floor {
            return Err(Gone::FellOff);
        }
        let mut bytes = 0;
        let following = run.entries_from(cursor.next_height);
        let blocks_behind = following.len();
        for entry in following {
            let size = match entry {
                Entry::Block(kept) => kept.block.events.len(),
                Entry::Gap { .. } => 0,
            };
            if entries.is_full() || (!entries.is_empty() && bytes + size > bytes_max) {
                break;
            }
            bytes += size;
            entries.push(entry.clone());
        }
        Ok(Lag { blocks_behind })
    }

    /// Where to wait for the history to move on.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    pub fn summary(&self) -> Summary {
        self.read().summary()
    }

    /// The oldest height that a cursor could still be placed at.
    pub fn first_height(&self) -> Option<u64> {
        self.read().first_height()
    }

    /// The heights given up that could still be filled, oldest first, at most `max` ranges.
    pub fn gaps(&self, max: usize) -> Vec<(u64, u64)> {
        self.read().gaps().take(max).collect()
    }

    fn read(&self) -> RwLockReadGuard<'_, Run> {
        self.run.read().expect("bug: nothing panics while it holds this lock")
    }

    fn write<R>(&self, change: impl FnOnce(&mut Run, usize) -> R) -> R {
        let mut run: RwLockWriteGuard<'_, Run> =
            self.run.write().expect("bug: nothing panics while it holds this lock");
        let result = change(&mut run, self.bytes_max);
        drop(run);
        self.wake_readers();
        result
    }
}

/// A place in a history: the height that comes next, of one chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor {
    pub next_height: u64,
    chain: u64,
}

/// How far a cursor is behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lag {
    /// Entries from the cursor to the tip, the cursor's own included; 0 at the end.
    pub blocks_behind: usize,
}

impl Cursor {
    /// The same chain, further on.
    pub fn at(self, next_height: u64) -> Self {
        Self { next_height, ..self }
    }
}

impl Kept {
    fn now(block: EncodedBlock) -> Self {
        Self { block, appended_at: Instant::now(), appended_time: SystemTime::now() }
    }

    /// Everything that this entry keeps in memory.
    pub fn bytes(&self) -> usize {
        self.block.bytes() + size_of::<Self>() + size_of::<Entry>() + BESIDE_BYTES
    }
}

impl Entry {
    pub fn first_height(&self) -> u64 {
        match self {
            Self::Block(kept) => kept.block.height,
            Self::Gap { from_height, .. } => *from_height,
        }
    }

    pub fn last_height(&self) -> u64 {
        match self {
            Self::Block(kept) => kept.block.height,
            Self::Gap { to_height, .. } => *to_height,
        }
    }
}

#[cfg(test)]
mod tests;
