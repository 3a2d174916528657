//! Recent trouble that an operator sees in the status, beside the numbers: the last rejected input,
//! the last unreadable entries, the broker's last silence, and another chain.
//!
//! Never a body, never an address.

use std::sync::Mutex;
use std::time::SystemTime;

use crate::metrics::DeadLetterReason;

/// The trouble so far. Written by the pipeline, the source and the readers of the RabbitMQ stream,
/// read by the status page.
#[derive(Debug, Default)]
pub struct OperatorStatus {
    inner: Mutex<OperatorSnapshot>,
}

/// The trouble at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OperatorSnapshot {
    pub last_rejected: Option<(DeadLetterReason, SystemTime)>,
    /// The first and the last offset of a run of entries that the broker cannot hand over, and when
    /// the replica passed over them.
    pub last_unreadable: Option<(u64, u64, SystemTime)>,
    /// The last offset before a silence, the offset that the stream went on to, and when the replica
    /// found out. In `queue` mode there are no offsets.
    pub last_silence: Option<(Option<u64>, Option<u64>, SystemTime)>,
    /// Set by twenty conflicts in a row, until a new block comes.
    pub another_chain_published: bool,
}

impl OperatorStatus {
    pub fn record_rejected(&self, reason: DeadLetterReason) {
        self.lock().last_rejected = Some((reason, SystemTime::now()));
    }

    pub fn record_unreadable(&self, from_offset: u64, to_offset: u64) {
        self.lock().last_unreadable = Some((from_offset, to_offset, SystemTime::now()));
    }

    pub fn record_silence(&self, after_offset: Option<u64>, end_offset: Option<u64>) {
        self.lock().last_silence = Some((after_offset, end_offset, SystemTime::now()));
    }

    pub fn set_another_chain_published(&self, is_so: bool) {
        self.lock().another_chain_published = is_so;
    }

    pub fn snapshot(&self) -> OperatorSnapshot {
        *self.lock()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, OperatorSnapshot> {
        self.inner.lock().expect("bug: nothing panics while it holds this lock")
    }
}
