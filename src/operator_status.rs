//! What an operator should see in the status beside the numbers: the last input that was rejected,
//! the last that could not be read, when the broker fell silent last, and whether another chain is
//! published here. Never a body, never an address.

use std::sync::Mutex;
use std::time::SystemTime;

use crate::metrics::DeadLetterReason;

/// Written by the pipeline, the source and those who read the stream, read by the status page.
#[derive(Debug, Default)]
pub struct Notices {
    inner: Mutex<Noticed>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Noticed {
    pub last_rejected: Option<(DeadLetterReason, SystemTime)>,
    /// The first and the last offset of a run of entries that the broker cannot hand over, and when
    /// they were passed over.
    pub last_unreadable: Option<(u64, u64, SystemTime)>,
    /// The last offset that came before a silence, the one that the stream went on to, and when it was
    /// found out. In `queue` mode there are no offsets.
    pub last_silence: Option<(Option<u64>, Option<u64>, SystemTime)>,
    /// Twenty conflicts or more in a row.
    pub another_chain_published: bool,
}

impl Notices {
    pub fn rejected(&self, reason: DeadLetterReason) {
        self.lock().last_rejected = Some((reason, SystemTime::now()));
    }

    pub fn unreadable(&self, from_offset: u64, to_offset: u64) {
        self.lock().last_unreadable = Some((from_offset, to_offset, SystemTime::now()));
    }

    pub fn silence(&self, after_offset: Option<u64>, end_offset: Option<u64>) {
        self.lock().last_silence = Some((after_offset, end_offset, SystemTime::now()));
    }

    pub fn set_another_chain_published(&self, is_so: bool) {
        self.lock().another_chain_published = is_so;
    }

    pub fn read(&self) -> Noticed {
        *self.lock()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Noticed> {
        self.inner.lock().expect("bug: nothing panics while it holds this lock")
    }
}
