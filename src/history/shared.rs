//! The history that one writer appends to and all cursors read.

use std::sync::{Arc, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::cached_block::CachedBlock;
use super::cursor::{Cursor, Gone, Lag, Placed};
use super::encode_queue::Urgency;
use super::encodings::{EncodingCounts, Encodings};
use super::entry::{Entries, Entry};
use super::readers::{EncodedReaders, HistoryReaders};
use super::required_encodings::RequiredEncodings;
use super::run::{EntryRun, HistorySummary};
use super::waits::Whom;
use crate::frame::EncodedBlock;

/// A bounded run of blocks and gaps, by height.
#[derive(Debug)]
pub struct History {
    bytes_max: usize,
    run: RwLock<EntryRun>,
    encodings: Arc<Encodings>,
    /// Readers that plain frames are enough for: woken as soon as a block is here.
    plain_readers: Arc<HistoryReaders>,
    /// Readers that require encodings: woken when these are made.
    encoded_readers: EncodedReaders,
}

impl History {
    /// An empty history that keeps at most `bytes_max` (but always the newest block), and encodings without
    /// a bound.
    pub fn new(bytes_max: usize) -> Self {
        Self::with(bytes_max, Encodings::new(usize::MAX, EncodingCounts::default()))
    }

    /// One that keeps its encodings together with others.
    pub fn with(bytes_max: usize, encodings: Arc<Encodings>) -> Self {
        Self {
            bytes_max,
            run: RwLock::new(EntryRun::default()),
            encodings,
            plain_readers: Arc::default(),
            encoded_readers: EncodedReaders::default(),
        }
    }

    /// Adds the next block; its height is above every other.
    pub fn append(&self, block: EncodedBlock) {
        let cached = Arc::new(CachedBlock::now(block));
        self.write(|run, bytes_max| {
            run.push(Entry::Block(Arc::clone(&cached)));
            run.evict(bytes_max);
        });
        self.announce(&cached);
    }

    /// Puts a block into the gap that it is missing from.
    ///
    /// Returns false, and keeps nothing, if what surrounds it has left the history already.
    pub fn fill(&self, block: EncodedBlock) -> bool {
        let cached = Arc::new(CachedBlock::now(block));
        let filled = self.write(|run, bytes_max| {
            let filled = run.fill(Arc::clone(&cached));
            run.evict(bytes_max);
            filled
        });
        if filled {
            self.announce(&cached);
        }
        filled
    }

    /// Adds heights that were given up, both ends included, above every other.
    pub fn append_gap(&self, from_height: u64, to_height: u64) {
        self.write(|run, _| run.push(Entry::Gap { from_height, to_height }));
        self.wake_readers();
    }

    /// Empties the history: every cursor taken before gets [`Gone::AnotherChain`].
    pub fn start_over(&self) {
        self.write(|run, _| run.start_over());
        self.wake_readers();
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
        self.plain_readers.wake();
        self.encoded_readers.kinds().iter().for_each(|readers| readers.wake());
    }

    /// A cursor for a reader that wants what comes from now on.
    pub fn live_cursor(&self) -> Cursor {
        let run = self.read();
        Cursor { next_height: run.tip().map_or(0, |tip| tip + 1), chain: run.chain }
    }

    /// Where a reader that wants `height` next begins.
    pub fn place(&self, height: u64) -> Placed {
        let run = self.read();
        let (Some(first_height), Some(tip)) = (run.first_height(), run.tip()) else {
            return Placed::Unknown;
        };
        match height {
            height if height < first_height.max(run.floor) => {
                Placed::Below { first_height: first_height.max(run.floor) }
            }
            height if height > tip.saturating_add(1) => Placed::Ahead { tip },
            next_height => Placed::At(Cursor { next_height, chain: run.chain }),
        }
    }

    /// Whether the cursor is of the chain that is here.
    pub fn is_of(&self, cursor: Cursor) -> bool {
        self.read().chain == cursor.chain
    }

    /// Whether what comes next for the cursor is here, or is to come.
    ///
    /// # Errors
    /// As [`History::entries_from`].
    pub fn is_there(&self, cursor: Cursor) -> Result<(), Gone> {
        self.read().is_there(cursor)
    }

    /// Whether at most an eighth of what the history may keep lies from `height` on.
    pub fn is_near_tip(&self, height: u64) -> bool {
        self.read().bytes_from(height) <= self.bytes_max as u64 / 8
    }

    /// How many heights have filled a gap; see [`History::fills_after`].
    pub fn fills(&self) -> u64 {
        self.read().fills()
    }

    /// The encodings of this history, and of others perhaps.
    pub fn encodings(&self) -> &Arc<Encodings> {
        &self.encodings
    }

    /// Queues the encodings that a block in the history lacks, unless somebody has. Returns what of that is
    /// made again, at most so many bytes; above `again_max` others come first.
    pub fn queue_encodings(
        &self,
        cached: &Arc<CachedBlock>,
        required: RequiredEncodings,
        again_max: usize,
    ) -> usize {
        let claimed = cached.claim(required);
        if claimed.forms.is_none() {
            return 0;
        }
        let again = cached.forms_bytes_max(claimed.again);
        let urgency = match self.read().tip() == Some(cached.block.height) {
            _ if again > again_max => Urgency::Again,
            true => Urgency::Live,
            false => Urgency::Backlog,
        };
        self.encodings.push(urgency, cached, claimed);
        again
    }

    /// Heights that were filled after the first `seen` fills of this chain, oldest first, at most
    /// `max`. None when some of them are forgotten already.
    pub fn fills_after(&self, seen: u64, max: usize) -> Option<Vec<u64>> {
        self.read().fills_after(seen, max)
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
        run.is_there(cursor)?;
        let mut bytes = 0;
        let following = run.entries_from(cursor.next_height);
        let blocks_behind = following.len();
        for entry in following {
            let size = match entry {
                Entry::Block(cached) => cached.block.events.len(),
                Entry::Gap { .. } => 0,
            };
            if entries.is_full() || (!entries.is_empty() && bytes + size > bytes_max) {
                break;
            }
            bytes += size;
            entries.push(entry.to_taken());
        }
        Ok(Lag { blocks_behind, fills: run.fills() })
    }

    pub fn summary(&self) -> HistorySummary {
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

    /// Wakes the readers for a new block: those of each kind that requires encodings when these are made.
    fn announce(&self, cached: &Arc<CachedBlock>) {
        self.plain_readers.wake();
        let kinds = self.encoded_readers.kinds();
        let demanded = kinds.iter().fold(RequiredEncodings::NONE, |all, it| all.with(it.required));
        for readers in kinds {
            if let Err(made) = cached.wait(readers.required, Whom::Kind(readers)) {
                made.wake();
            }
        }
        self.encodings.push(Urgency::Live, cached, cached.claim(demanded));
    }

    /// Joins the readers that require this of every block.
    pub(super) fn join_readers(&self, required: RequiredEncodings) -> Arc<HistoryReaders> {
        match required.is_none() {
            true => Arc::clone(&self.plain_readers),
            false => self.encoded_readers.join(required),
        }
    }

    pub(super) fn leave_readers(&self, readers: &Arc<HistoryReaders>) {
        self.encoded_readers.leave(readers);
    }

    fn read(&self) -> RwLockReadGuard<'_, EntryRun> {
        self.run.read().expect("bug: nothing panics while it holds this lock")
    }

    fn write<R>(&self, change: impl FnOnce(&mut EntryRun, usize) -> R) -> R {
        let mut run: RwLockWriteGuard<'_, EntryRun> =
            self.run.write().expect("bug: nothing panics while it holds this lock");
        change(&mut run, self.bytes_max)
    }
}
