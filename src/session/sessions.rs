//! The sessions there are, for an operator whose client gets nothing. Never what a client has sent as
//! its credential. A session pays for it with a few stores per turn.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use serde_json::{Value, json};

use crate::protocol::Stream;

/// Sessions that are looked at at a time.
pub const PAGE_SESSIONS: usize = 64;
/// What of a filter is kept.
const FILTER_BYTES_MAX: usize = 512;
/// No place yet: its start is being looked for.
const NOWHERE: u64 = u64::MAX;

/// All sessions, in the order in which they began.
#[derive(Debug, Default)]
pub struct Sessions {
    next_id: AtomicU64,
    inside: Mutex<BTreeMap<u64, Arc<SessionStatus>>>,
}

/// What is to be seen of one session, which alone writes it.
///
/// What each block changes is together in one line of memory: behind the two counts of its [`Arc`] and
/// one field, in steps of 32 bytes.
#[derive(Debug)]
#[repr(C)]
pub struct SessionStatus {
    began_at: Instant,
    next_height: AtomicU64,
    messages: AtomicU64,
    bytes: AtomicU64,
    filter: Option<Box<str>>,
    address: IpAddr,
    stream: Stream,
}

/// A session's place in the list, for as long as it is held.
#[derive(Debug)]
pub struct SessionListing {
    sessions: Arc<Sessions>,
    id: u64,
}

impl Sessions {
    pub fn list(self: &Arc<Self>, seen: &Arc<SessionStatus>) -> SessionListing {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        self.lock().insert(id, Arc::clone(seen));
        SessionListing { sessions: Arc::clone(self), id }
    }

    /// The id that the next session gets: all that there are now have lower ones.
    pub fn next_id(&self) -> u64 {
        self.next_id.load(Ordering::Relaxed)
    }

    /// An object for each session with one of these ids, the oldest first, but for at most
    /// [`PAGE_SESSIONS`]; and the first id behind them. `tip` is what they are behind.
    pub fn page(&self, ids: Range<u64>, tip: Option<u64>) -> (Vec<Value>, u64) {
        // Copied first: whoever begins or ends does not wait for the text.
        let copy = |(id, seen): (&u64, &Arc<SessionStatus>)| (*id, Arc::clone(seen));
        let seen: Vec<(u64, Arc<SessionStatus>)> =
            self.lock().range(ids.clone()).take(PAGE_SESSIONS).map(copy).collect();
        let behind = match seen.last() {
            Some((last, _)) if seen.len() == PAGE_SESSIONS => last + 1,
            _ => ids.end,
        };
        (seen.iter().map(|(_, seen)| seen.to_json(tip)).collect(), behind)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<u64, Arc<SessionStatus>>> {
        self.inside.lock().expect("bug: nothing panics while it holds this lock")
    }
}

impl Drop for SessionListing {
    fn drop(&mut self) {
        self.sessions.lock().remove(&self.id);
    }
}

impl SessionStatus {
    /// `filter` is as the client's query says it.
    pub fn new(address: IpAddr, stream: Stream, filter: &str) -> Self {
        let filter = &filter[..filter.floor_char_boundary(FILTER_BYTES_MAX)];
        Self {
            address,
            began_at: Instant::now(),
            stream,
            filter: (!filter.is_empty()).then(|| filter.into()),
            next_height: NOWHERE.into(),
            messages: 0.into(),
            bytes: 0.into(),
        }
    }

    pub fn set_next_height(&self, next_height: u64) {
        self.next_height.store(next_height, Ordering::Relaxed);
    }

    pub fn next_height(&self) -> u64 {
        self.next_height.load(Ordering::Relaxed)
    }

    pub fn sent(&self, messages: u64, bytes: u64) {
        // Nobody else writes it: a load and a store are no lock on memory that no cache has.
        self.messages.store(self.messages.load(Ordering::Relaxed) + messages, Ordering::Relaxed);
        self.bytes.store(self.bytes.load(Ordering::Relaxed) + bytes, Ordering::Relaxed);
    }

    fn to_json(&self, tip: Option<u64>) -> Value {
        let next = Some(self.next_height()).filter(|next| *next != NOWHERE);
        let lag = next.zip(tip).map(|(next, tip)| (tip + 1).saturating_sub(next));
        json!({
            "address": self.address.to_string(),
            "age_seconds": self.began_at.elapsed().as_secs(),
            "stream": self.stream.name(),
            "filter": self.filter,
            "next_height": next,
            "lag_blocks": lag,
            "sent_messages": self.messages.load(Ordering::Relaxed),
            "sent_bytes": self.bytes.load(Ordering::Relaxed),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_listed_as_long_as_it_lasts() {
        let sessions = Arc::new(Sessions::default());
        let address = "192.0.2.1".parse().expect("an address");
        let seen = Arc::new(SessionStatus::new(address, Stream::Blocks, ""));
        let listed = sessions.list(&seen);
        let page = |tip| sessions.page(0..sessions.next_id(), tip).0;
        assert_eq!(page(None)[0]["next_height"], Value::Null);
        seen.set_next_height(8);
        seen.sent(2, 300);
        let first = &page(Some(10))[0];
        assert_eq!((&first["next_height"], &first["lag_blocks"]), (&json!(8), &json!(3)));
        assert_eq!((&first["sent_messages"], &first["sent_bytes"]), (&json!(2), &json!(300)));
        drop(listed);
        assert!(page(Some(10)).is_empty());
    }

    #[test]
    fn pages_have_every_session_once() {
        let sessions = Arc::new(Sessions::default());
        let address = "192.0.2.1".parse().expect("an address");
        let list = |number: usize| {
            let seen = Arc::new(SessionStatus::new(address, Stream::Blocks, ""));
            seen.set_next_height(number as u64);
            sessions.list(&seen)
        };
        for count in [0, 1, PAGE_SESSIONS, PAGE_SESSIONS + 1, 3 * PAGE_SESSIONS] {
            // Every other one has ended.
            let listed = (0..2 * count).map(|number| (number, list(number)));
            let listed = Vec::from_iter(listed.filter(|(number, _)| number % 2 == 1));
            let (mut from, end, mut found) = (0, sessions.next_id(), Vec::new());
            while from < end {
                let (page, behind) = sessions.page(from..end, None);
                assert!(page.len() <= PAGE_SESSIONS && behind > from);
                found.extend(page.iter().map(|seen| seen["next_height"].as_u64().expect("set")));
                from = behind;
            }
            assert_eq!(found, Vec::from_iter((0..count as u64).map(|number| 2 * number + 1)));
            drop(listed);
        }
    }
}
