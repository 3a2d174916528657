//! A reader's watch on a history: woken by every move.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker};

use super::cached_block::CachedBlock;
use super::readers::HistoryReaders;
use super::required_encodings::RequiredEncodings;
use super::shared::History;
use super::waits::Whom;

/// A reader's place in a history, for as long as this lives. Every move wakes the reader, and the
/// encodings that it requires are made for every new block before.
#[derive(Debug)]
pub struct Watch {
    history: Arc<History>,
    /// Those that require the same.
    readers: Arc<HistoryReaders>,
    /// Moves when this was last looked at.
    seen: u64,
    entered: Option<Entered>,
    waits_for: Option<Box<WaitsFor>>,
}

/// A block that the reader waits for the encodings of. It keeps no block alive.
#[derive(Debug)]
struct WaitsFor {
    cached: Weak<CachedBlock>,
    required: RequiredEncodings,
    key: usize,
}

/// Where the waker is, and which.
#[derive(Debug)]
struct Entered {
    key: usize,
    waker: Waker,
}

impl History {
    /// A place for a reader that requires these encodings. From now on they are made for every new
    /// block before the reader is woken.
    pub fn watch(self: &Arc<Self>, required: RequiredEncodings) -> Watch {
        Watch::new(Arc::clone(self), required)
    }
}

impl Watch {
    fn new(history: Arc<History>, required: RequiredEncodings) -> Self {
        let readers = history.join_readers(required);
        let seen = readers.moves.load(Ordering::Acquire);
        Self { history, readers, seen, entered: None, waits_for: None }
    }

    pub fn history(&self) -> &Arc<History> {
        &self.history
    }

    /// What the reader requires of every block; of one block it may require more.
    pub fn required_encodings(&self) -> RequiredEncodings {
        self.readers.required
    }

    /// From now on the task is woken by every move. Looks at the history after that miss none. Returns
    /// whether it was another task before, or none.
    pub fn enter(&mut self, cx: &mut Context<'_>) -> bool {
        if self.entered.as_ref().is_some_and(|entered| entered.waker.will_wake(cx.waker())) {
            return false;
        }
        self.end_wait();
        let waker = cx.waker().clone();
        let key = match &self.entered {
            Some(entered) => {
                self.readers.lock()[entered.key] = waker.clone();
                entered.key
            }
            None => self.readers.lock().insert(waker.clone()),
        };
        self.entered = Some(Entered { key, waker });
        true
    }

    /// Ready if the history has moved since this was last ready (or made); else the task is woken when
    /// it does. Once polled, the task is woken by every move.
    ///
    /// Polled before the history is looked at, no move is missed.
    pub fn poll_moved(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.enter(cx);
        let moves = self.readers.moves.load(Ordering::Acquire);
        match std::mem::replace(&mut self.seen, moves) == moves {
            true => Poll::Pending,
            false => Poll::Ready(()),
        }
    }

    /// Has the reader woken when the block has been made into these, which may be others than those that it
    /// requires of every block. They stay until [`Watch::end_wait`]. Returns false if they are there already.
    /// A reader waits for one block at a time.
    ///
    /// After [`Watch::enter`]; they are to be queued behind that.
    pub fn wait_for(&mut self, cached: &Arc<CachedBlock>, required: RequiredEncodings) -> bool {
        self.end_wait();
        let Some(Entered { waker, .. }) = &self.entered else { return true };
        let waits = cached.wait(required, Whom::Reader(waker.clone()));
        let Ok(key) = waits else { return false };
        let cached = Arc::downgrade(cached);
        self.waits_for = Some(Box::new(WaitsFor { cached, required, key }));
        true
    }

    /// Whether the reader waits for these, or has not ended its wait since they were made.
    pub fn waits_for(&self, cached: &Arc<CachedBlock>, required: RequiredEncodings) -> bool {
        self.waits_for.as_ref().is_some_and(|waits_for| waits_for.is(cached, required))
    }

    /// Ends the wait if all that was waited for is made: a reader that has written since keeps no form.
    pub fn end_met_wait(&mut self) {
        let is_met = self.waits_for.as_ref().is_some_and(|waits_for| {
            let cached = waits_for.cached.upgrade();
            cached.is_none_or(|cached| cached.is_wait_met(waits_for.key))
        });
        if is_met {
            self.end_wait();
        }
    }

    /// Waits for no block any more, and keeps no form of one.
    pub fn end_wait(&mut self) {
        let Some(waits_for) = self.waits_for.take() else { return };
        if let Some(cached) = waits_for.cached.upgrade() {
            cached.end_wait(waits_for.key);
            self.history.encodings().note_unawaited();
        }
    }

    /// Waits for a move since this was last ready (or made).
    ///
    /// # Cancel safety
    /// No move is lost when dropped.
    pub async fn moved(&mut self) {
        std::future::poll_fn(|cx| self.poll_moved(cx)).await
    }
}

impl WaitsFor {
    fn is(&self, cached: &Arc<CachedBlock>, required: RequiredEncodings) -> bool {
        std::ptr::eq(self.cached.as_ptr(), Arc::as_ptr(cached)) && self.required == required
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.end_wait();
        self.history.leave_readers(&self.readers);
        if let Some(entered) = &self.entered {
            // Dropped behind the lock: it may be the last of its task.
            let waker = self.readers.lock().try_remove(entered.key);
            drop(waker);
        }
    }
}
