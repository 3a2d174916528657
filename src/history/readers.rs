//! Wakers of a history's readers: one per reader, for as long as the reader lives.
//!
//! A reader puts its waker down once, not once per block. Nothing is handed over here: who is woken
//! looks at the run. A wake is a flag on a task; whoever appends never waits for a reader to run.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::Waker;

use slab::Slab;

use super::required_encodings::RequiredEncodings;

/// The readers that require the same of every block.
#[derive(Debug, Default)]
pub(super) struct HistoryReaders {
    pub required: RequiredEncodings,
    /// Moves so far.
    pub moves: AtomicU64,
    /// One per [`super::Watch`] that was polled.
    wakers: Mutex<Slab<Waker>>,
}

/// The readers that plain frames are not enough for, by what they require. There are no more kinds of
/// them than there are kinds of subscriptions.
#[derive(Debug, Default)]
pub(super) struct EncodedReaders {
    /// Each with the number of its [`super::Watch`]es.
    kinds: Mutex<Vec<(Arc<HistoryReaders>, usize)>>,
}

impl HistoryReaders {
    pub fn wake(&self) {
        self.moves.fetch_add(1, Ordering::Release);
        for (_, waker) in self.lock().iter() {
            waker.wake_by_ref();
        }
    }

    pub fn lock(&self) -> MutexGuard<'_, Slab<Waker>> {
        self.wakers.lock().expect("bug: nothing panics while it holds this lock")
    }
}

impl EncodedReaders {
    /// One more watch of those who require this.
    pub fn join(&self, required: RequiredEncodings) -> Arc<HistoryReaders> {
        let mut kinds = self.lock();
        if let Some((readers, watches)) = kinds.iter_mut().find(|it| it.0.required == required) {
            *watches += 1;
            return Arc::clone(readers);
        }
        let readers = Arc::new(HistoryReaders { required, ..HistoryReaders::default() });
        kinds.push((Arc::clone(&readers), 1));
        readers
    }

    /// One watch of these less.
    pub fn leave(&self, readers: &Arc<HistoryReaders>) {
        let mut kinds = self.lock();
        if let Some(at) = kinds.iter().position(|(kind, _)| Arc::ptr_eq(kind, readers)) {
            kinds[at].1 -= 1;
            if kinds[at].1 == 0 {
                kinds.swap_remove(at);
            }
        }
    }

    /// Those of each kind.
    pub fn kinds(&self) -> Vec<Arc<HistoryReaders>> {
        self.lock().iter().map(|(readers, _)| Arc::clone(readers)).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(Arc<HistoryReaders>, usize)>> {
        self.kinds.lock().expect("bug: nothing panics while it holds this lock")
    }
}
