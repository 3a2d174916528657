//! A block in the history, with encodings that are made only when some client requires them.

use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock};
use std::time::{Instant, SystemTime};

use super::required_encodings::{Form, RequiredEncodings};
use super::waits::{Waits, Whom};
use crate::filter::Index;
use crate::frame::{EncodedBlock, Encoding, MessageRun, encode_as};

/// Per block, beside what is counted exactly: reference counts, what the allocator adds to four
/// allocations, and the sequencer's entry for the height.
const BESIDE_BYTES: usize = 192;
/// How much longer than copying a block's frames making its index takes, about.
const INDEX_WORK: u64 = 4;
/// The run's entry for the block: two heights, and which kind it is. `entry` checks it.
pub(super) const ENTRY_BYTES: usize = 24;

/// A block in the history, and since when.
#[derive(Debug)]
pub struct CachedBlock {
    pub block: EncodedBlock,
    pub appended_at: Instant,
    pub appended_time: SystemTime,
    extras: OnceLock<Box<Extras>>,
    /// What of `extras` is queued or made.
    queued: AtomicU16,
    waits: Mutex<Waits>,
    /// What the run has counted for it; changes only under the run's lock.
    counted_bytes: AtomicUsize,
}

/// Each is made at most once.
#[derive(Debug, Default)]
struct Extras {
    encodings: [OnceLock<MessageRun>; Encoding::ALL.len()],
    index: OnceLock<Index>,
}

impl CachedBlock {
    pub(super) fn now(block: EncodedBlock) -> Self {
        Self {
            block,
            appended_at: Instant::now(),
            appended_time: SystemTime::now(),
            extras: OnceLock::new(),
            queued: AtomicU16::new(0),
            waits: Mutex::default(),
            counted_bytes: AtomicUsize::new(0),
        }
    }

    /// The block in this encoding, if that has been made.
    pub fn encoded(&self, encoding: Encoding) -> Option<&MessageRun> {
        self.extras.get()?.encodings[encoding.index()].get()
    }

    /// What filters look things up in, if that has been made.
    pub fn index(&self) -> Option<&Index> {
        self.extras.get()?.index.get()
    }

    pub fn has(&self, required: RequiredEncodings) -> bool {
        required.is_none()
            || required.forms().all(|form| match form {
                Form::Encoding(encoding) => self.encoded(encoding).is_some(),
                Form::Index => self.index().is_some(),
            })
    }

    /// About what making a form takes: the work of copying so many bytes.
    pub(super) fn work(&self, form: Form) -> u64 {
        match form {
            Form::Encoding(encoding) => encoding.work(&self.block),
            Form::Index => INDEX_WORK * self.block.events.len() as u64,
        }
    }

    /// Makes a form; [`CachedBlock::wake`] comes next. Takes as long as encoding the block does.
    pub fn make(&self, form: Form) {
        let extras = self.extras.get_or_init(Box::default);
        match form {
            Form::Encoding(encoding) => {
                extras.encodings[encoding.index()].get_or_init(|| encode_as(&self.block, encoding));
            }
            Form::Index => {
                extras.index.get_or_init(|| Index::of(&self.block.fields));
            }
        }
    }

    /// Wakes who has all that it waits for now that a form is made.
    pub(super) fn wake(&self, made: Form) {
        let woken = self.lock_waits().made(made, |required| self.has(required));
        woken.into_iter().for_each(Whom::wake);
    }

    /// Puts down whom to wake when these are made. Returns the key of the wait, or `whom` if they are made.
    pub(super) fn wait(&self, required: RequiredEncodings, whom: Whom) -> Result<usize, Whom> {
        let mut waits = self.lock_waits();
        // Who makes the last of them looks for waits behind that.
        if self.has(required) { Err(whom) } else { Ok(waits.begin(required, whom)) }
    }

    pub(super) fn end_wait(&self, key: usize) {
        let ended = self.lock_waits().end(key);
        // Dropped behind the lock: its waker may be the last of its task.
        drop(ended);
    }

    /// Claims these for the caller to queue. Returns those that nobody has claimed before.
    pub(super) fn claim(&self, required: RequiredEncodings) -> RequiredEncodings {
        let before = self.queued.fetch_or(required.bits(), Ordering::Relaxed);
        RequiredEncodings::from_bits(required.bits() & !before)
    }

    /// Everything that this entry keeps in memory.
    pub fn bytes(&self) -> usize {
        self.block.bytes()
            + size_of::<Self>()
            + ENTRY_BYTES
            + BESIDE_BYTES
            + self.extras.get().map_or(0, |extras| extras.bytes())
    }

    /// What the run counts for it from now on, and by how much that is more than before.
    pub(super) fn count(&self) -> usize {
        let bytes = self.bytes();
        bytes - self.counted_bytes.swap(bytes, Ordering::Relaxed)
    }

    fn lock_waits(&self) -> MutexGuard<'_, Waits> {
        self.waits.lock().expect("bug: nothing panics while it holds this lock")
    }

    pub(super) fn counted_bytes(&self) -> usize {
        self.counted_bytes.load(Ordering::Relaxed)
    }
}

/// Who waits for it finds that it has left.
impl Drop for CachedBlock {
    fn drop(&mut self) {
        let waits = self.waits.get_mut().expect("bug: nothing panics while it holds this lock");
        waits.end_all().for_each(Whom::wake);
    }
}

impl Extras {
    fn bytes(&self) -> usize {
        let encodings = self.encodings.iter().filter_map(OnceLock::get);
        size_of::<Self>()
            + encodings.map(MessageRun::bytes_kept).sum::<usize>()
            + self.index.get().map_or(0, Index::bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::required_encodings::REQUIRED_MAX;
    use super::*;
    use crate::frame::testing::block;

    /// What the allocator itself takes and the run's entry are counted, and not seen here.
    const BESIDE_BYTES_MAX: i64 = 512;

    #[test]
    fn a_block_and_all_that_is_made_of_it_keep_no_more_than_is_counted() {
        for events in [0, 1, 10, 1_000] {
            let mut cached = None;
            let kept = allocation_counter::measure(|| {
                let made = Arc::new(CachedBlock::now(block(7, events)));
                let all = RequiredEncodings::from_bits((1 << REQUIRED_MAX) - 1);
                all.forms().for_each(|form| made.make(form));
                cached = Some(made);
            });
            let cached = cached.expect("made");
            assert!(cached.index().is_some() && cached.encoded(Encoding::GzipBatch).is_some());
            let counted = cached.bytes() as i64;
            assert!(kept.bytes_current <= counted, "{} above {counted}", kept.bytes_current);
            assert!(
                kept.bytes_current + BESIDE_BYTES_MAX > counted,
                "{} below {counted}",
                kept.bytes_current
            );
        }
    }
}
