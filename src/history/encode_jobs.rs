//! The open jobs of a history: encodings that some client requires and nobody has made yet. The history and
//! its readers push them; [`crate::encoder`] takes them.
//!
//! Each encoding of a block is queued once, however many clients require it. So there is at most one job per
//! cached block and encoding. Nothing is made here, and no reader waits here.

use std::sync::{Arc, Mutex, MutexGuard, Weak};

use tokio::sync::Notify;

use super::cached_block::CachedBlock;
use super::encode_queue::{EncodeQueue, Urgency};
use super::required_encodings::{Form, RequiredEncodings};

/// The open jobs, and who waits for one.
#[derive(Debug, Default)]
pub(super) struct EncodeJobs {
    queue: Mutex<EncodeQueue<OpenJob>>,
    pushed: Notify,
}

/// An open job. It keeps no block alive: nobody needs one that has left the history.
#[derive(Debug)]
struct OpenJob {
    cached: Weak<CachedBlock>,
    form: Form,
}

/// A block, and the form to make of it.
#[derive(Debug)]
pub struct EncodeJob {
    pub(super) cached: Arc<CachedBlock>,
    pub(super) form: Form,
}

impl EncodeJobs {
    /// Queues those that were not queued before.
    pub fn push(&self, urgency: Urgency, cached: &Arc<CachedBlock>, required: RequiredEncodings) {
        let required = cached.claim(required);
        if required.is_none() {
            return;
        }
        let mut queue = self.lock();
        for form in required.forms() {
            let job = OpenJob { cached: Arc::downgrade(cached), form };
            queue.push(urgency, cached.work(form), job);
        }
        drop(queue);
        self.pushed.notify_one();
    }

    /// Waits for a job, and takes it.
    ///
    /// # Cancel safety
    /// Nothing is taken when dropped.
    pub async fn next(&self) -> EncodeJob {
        loop {
            if let Some(job) = self.take() {
                return job;
            }
            self.pushed.notified().await;
        }
    }

    fn take(&self) -> Option<EncodeJob> {
        let mut queue = self.lock();
        while let Some(OpenJob { cached, form }) = queue.pop() {
            if let Some(cached) = cached.upgrade() {
                if !queue.is_empty() {
                    // For the next maker that has nothing to do.
                    self.pushed.notify_one();
                }
                return Some(EncodeJob { cached, form });
            }
        }
        None
    }

    fn lock(&self) -> MutexGuard<'_, EncodeQueue<OpenJob>> {
        self.queue.lock().expect("bug: nothing panics while it holds this lock")
    }
}

impl EncodeJob {
    pub fn form(&self) -> Form {
        self.form
    }

    /// Makes the form; [`super::History::finish`] comes next.
    pub fn make(&self) {
        self.cached.make(self.form);
    }
}
