//! A queue of encodings that some client requires and nobody has made yet. The history and its
//! readers push jobs; [`crate::encoder`] takes them.
//!
//! Each encoding of a block is queued once, however many clients require it. So the queue holds at
//! most one job per cached block and encoding. Nothing is made here, and no reader waits here.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Weak};

use tokio::sync::Notify;

use super::cached_block::CachedBlock;
use super::required_encodings::{REQUIRED_MAX, RequiredEncodings};

/// Jobs taken at a time. Few, so that a new block's jobs do not wait behind a long queue.
const BATCH_MAX: usize = 16;

/// A history's open jobs, and what its readers require of every new block.
#[derive(Debug, Default)]
pub(super) struct EncodeQueue {
    queue: Mutex<VecDeque<QueuedJob>>,
    pushed: Notify,
    /// Readers per encoding.
    demand: [AtomicUsize; REQUIRED_MAX],
}

/// An open job. It keeps no block alive: nobody needs one that has left the history.
#[derive(Debug)]
struct QueuedJob {
    cached: Weak<CachedBlock>,
    required: RequiredEncodings,
}

/// A block, and the encodings to make of it.
#[derive(Debug)]
pub struct EncodeJob {
    pub(super) cached: Arc<CachedBlock>,
    pub(super) required: RequiredEncodings,
}

impl EncodeQueue {
    /// Queues what the readers of new blocks wait for: it comes next. Returns whether there is
    /// something to make.
    pub fn push_first(&self, cached: &Arc<CachedBlock>, required: RequiredEncodings) -> bool {
        self.add(cached, required, VecDeque::push_front)
    }

    /// Queues what a reader asks for, unless it was queued before.
    pub fn push(&self, cached: &Arc<CachedBlock>, required: RequiredEncodings) {
        self.add(cached, required, VecDeque::push_back);
    }

    fn add(
        &self,
        cached: &Arc<CachedBlock>,
        required: RequiredEncodings,
        put: impl FnOnce(&mut VecDeque<QueuedJob>, QueuedJob),
    ) -> bool {
        let required = cached.claim(required);
        if !required.is_none() {
            put(&mut self.lock(), QueuedJob { cached: Arc::downgrade(cached), required });
            self.pushed.notify_one();
        }
        !required.is_none()
    }

    /// Waits for jobs, and takes [`BATCH_MAX`] at most.
    pub async fn next(&self) -> Vec<EncodeJob> {
        loop {
            {
                let mut queue = self.lock();
                let mut jobs = Vec::new();
                while jobs.len() < BATCH_MAX
                    && let Some(QueuedJob { cached, required }) = queue.pop_front()
                {
                    jobs.extend(cached.upgrade().map(|cached| EncodeJob { cached, required }));
                }
                if !jobs.is_empty() {
                    return jobs;
                }
            }
            self.pushed.notified().await;
        }
    }

    /// What some reader requires of every block.
    pub fn demanded(&self) -> RequiredEncodings {
        let wanted = self.demand.iter().map(|readers| readers.load(Ordering::SeqCst) > 0);
        let bits = wanted.enumerate().map(|(place, is_wanted)| u16::from(is_wanted) << place);
        RequiredEncodings::from_bits(bits.fold(0, |bits, bit| bits | bit))
    }

    pub fn add_reader(&self, required: RequiredEncodings) {
        for place in required.places() {
            self.demand[place].fetch_add(1, Ordering::SeqCst);
        }
    }

    pub fn remove_reader(&self, required: RequiredEncodings) {
        for place in required.places() {
            self.demand[place].fetch_sub(1, Ordering::SeqCst);
        }
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<QueuedJob>> {
        self.queue.lock().expect("bug: nothing panics while it holds this lock")
    }
}

impl EncodeJob {
    /// Makes the encodings; [`super::History::count_encoded`] comes next.
    pub fn make(&self) {
        self.cached.make(self.required);
    }
}
