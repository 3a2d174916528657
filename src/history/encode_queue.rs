//! What some client wants of a block and nobody has made yet: ordered by the history and by its
//! readers, made by [`crate::encoder`].
//!
//! Each encoding of a block is ordered once however many want it, so the queue holds at most one
//! order per kept block and encoding. Nothing is made here, and no reader waits for it here.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Weak};

use tokio::sync::Notify;

use super::Kept;
use super::required_encodings::{NEEDS_MAX, Needs};

/// Orders that are made at a time: what comes in meanwhile need not wait for a long queue.
const BATCH_MAX: usize = 16;

/// A history's open orders, and what its readers want of every block to come.
#[derive(Debug, Default)]
pub(super) struct Orders {
    queue: Mutex<VecDeque<Placed>>,
    placed: Notify,
    /// Readers per need.
    demand: [AtomicUsize; NEEDS_MAX],
}

/// An open order. It keeps no block alive: one that has left the history is nobody's any more.
#[derive(Debug)]
struct Placed {
    kept: Weak<Kept>,
    needs: Needs,
}

/// A block that somebody wants in these forms.
#[derive(Debug)]
pub struct Order {
    pub(super) kept: Arc<Kept>,
    pub(super) needs: Needs,
}

impl Orders {
    /// Orders what those who follow live wait for: it comes next. Returns whether there is something
    /// to be made.
    pub fn place_first(&self, kept: &Arc<Kept>, needs: Needs) -> bool {
        self.add(kept, needs, VecDeque::push_front)
    }

    /// Orders what somebody asks for, unless it has been ordered before.
    pub fn place(&self, kept: &Arc<Kept>, needs: Needs) {
        self.add(kept, needs, VecDeque::push_back);
    }

    fn add(
        &self,
        kept: &Arc<Kept>,
        needs: Needs,
        put: impl FnOnce(&mut VecDeque<Placed>, Placed),
    ) -> bool {
        let needs = kept.order(needs);
        if !needs.is_none() {
            put(&mut self.lock(), Placed { kept: Arc::downgrade(kept), needs });
            self.placed.notify_one();
        }
        !needs.is_none()
    }

    /// What is to be made next, [`BATCH_MAX`] at most; waits until there is something.
    pub async fn next(&self) -> Vec<Order> {
        loop {
            {
                let mut queue = self.lock();
                let mut orders = Vec::new();
                while orders.len() < BATCH_MAX
                    && let Some(Placed { kept, needs }) = queue.pop_front()
                {
                    orders.extend(kept.upgrade().map(|kept| Order { kept, needs }));
                }
                if !orders.is_empty() {
                    return orders;
                }
            }
            self.placed.notified().await;
        }
    }

    /// What some reader wants of every block.
    pub fn demanded(&self) -> Needs {
        let wanted = self.demand.iter().map(|readers| readers.load(Ordering::SeqCst) > 0);
        let bits = wanted.enumerate().map(|(place, is_wanted)| u16::from(is_wanted) << place);
        Needs::from_bits(bits.fold(0, |bits, bit| bits | bit))
    }

    pub fn add_reader(&self, needs: Needs) {
        for place in needs.places() {
            self.demand[place].fetch_add(1, Ordering::SeqCst);
        }
    }

    pub fn remove_reader(&self, needs: Needs) {
        for place in needs.places() {
            self.demand[place].fetch_sub(1, Ordering::SeqCst);
        }
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Placed>> {
        self.queue.lock().expect("bug: nothing panics while it holds this lock")
    }
}

impl Order {
    /// Makes what is ordered; see [`super::History::count`] for what comes next.
    pub fn make(&self) {
        self.kept.make(self.needs);
    }
}
