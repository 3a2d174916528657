//! Wakers of a history's readers: one per reader, for as long as the reader lives.
//!
//! A reader puts its waker down once, not once per block. Nothing is handed over here: who is woken
//! looks at the run. A wake is a flag on a task; whoever appends never waits for a reader to run.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::task::Waker;

use slab::Slab;

/// The readers that the same moves concern.
#[derive(Debug, Default)]
pub(super) struct HistoryReaders {
    /// Moves so far.
    pub moves: AtomicU64,
    /// One per [`super::Watch`] that was polled.
    wakers: Mutex<Slab<Waker>>,
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
