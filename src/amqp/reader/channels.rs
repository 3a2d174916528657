//! Channels of the connection that readings share, as many as the broker was found to allow.
//!
//! What a connection may have at most was agreed on when it was made, and the library keeps to it. A
//! broker can allow a user fewer, and says so only by closing the connection. So that is met once, and
//! then kept for a while.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::time::Instant;

/// How long it is kept: whose connections had the others may have ended, and limits change.
const KEPT_FOR: Duration = Duration::from_secs(10 * 60);

/// The channels that are open, and how many may be.
#[derive(Debug, Default)]
pub struct Channels {
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    channels: usize,
    /// At most so many until then.
    limit: Option<(usize, Instant)>,
}

/// One channel's slot, until this is dropped.
#[derive(Debug)]
pub struct Slot(Arc<Channels>);

impl Channels {
    /// None: there are as many as may be.
    pub fn take(self: &Arc<Self>, now: Instant) -> Option<Slot> {
        let mut open = self.locked();
        let limit = open.limit.filter(|(_, until)| now < *until);
        if limit.is_some_and(|(most, _)| open.channels >= most) {
            return None;
        }
        open.channels += 1;
        Some(Slot(Arc::clone(self)))
    }

    /// The broker did not allow the last one. One is tried in any case.
    pub fn was_one_too_many(&self, now: Instant) {
        let mut open = self.locked();
        open.limit = Some((open.channels.saturating_sub(1).max(1), now + KEPT_FOR));
    }

    fn locked(&self) -> MutexGuard<'_, Open> {
        self.open.lock().expect("bug: nothing panics while it holds this lock")
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.locked().channels -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_one_too_many_is_not_tried_again_for_a_while() {
        let (channels, now) = (Arc::new(Channels::default()), Instant::now());
        let mut slots: Vec<_> = (0..3).map(|_| channels.take(now).expect("no limit")).collect();
        channels.was_one_too_many(now);
        slots.pop();
        assert!(channels.take(now).is_none());
        slots.pop();
        let again = channels.take(now).expect("two were allowed");
        assert!(channels.take(now).is_none());
        let third = channels.take(now + KEPT_FOR).expect("limits change");
        drop((again, slots));
        channels.was_one_too_many(now);
        drop(third);
        let _one = channels.take(now).expect("never none");
        assert!(channels.take(now).is_none());
    }
}
