//! A reader's watch on a history: woken by every move.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};

use super::required_encodings::RequiredEncodings;
use super::shared::History;

/// A reader's place in a history, for as long as this lives. Every move wakes the reader, and the
/// encodings that it requires are made for every new block before.
#[derive(Debug)]
pub struct Watch {
    history: Arc<History>,
    required: RequiredEncodings,
    /// Moves when this was last looked at.
    seen: u64,
    entered: Option<Entered>,
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
        history.encode_queue.add_reader(required);
        let seen = history.readers(required).moves.load(Ordering::Acquire);
        Self { history, required, seen, entered: None }
    }

    pub fn history(&self) -> &Arc<History> {
        &self.history
    }

    /// What the reader requires of every block; of one block it may require more.
    pub fn required_encodings(&self) -> RequiredEncodings {
        self.required
    }

    /// From now on the task is woken by every move. Looks at the history after that miss none. Returns
    /// whether it was another task before, or none.
    pub fn enter(&mut self, cx: &mut Context<'_>) -> bool {
        if self.entered.as_ref().is_some_and(|entered| entered.waker.will_wake(cx.waker())) {
            return false;
        }
        let readers = self.history.readers(self.required);
        let waker = cx.waker().clone();
        let key = match &self.entered {
            Some(entered) => {
                readers.lock()[entered.key] = waker.clone();
                entered.key
            }
            None => readers.lock().insert(waker.clone()),
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
        let readers = self.history.readers(self.required);
        let moves = readers.moves.load(Ordering::Acquire);
        match std::mem::replace(&mut self.seen, moves) == moves {
            true => Poll::Pending,
            false => Poll::Ready(()),
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

impl Drop for Watch {
    fn drop(&mut self) {
        self.history.encode_queue.remove_reader(self.required);
        if let Some(entered) = &self.entered {
            // Dropped behind the lock: it may be the last of its task.
            let waker = self.history.readers(self.required).lock().try_remove(entered.key);
            drop(waker);
        }
    }
}
