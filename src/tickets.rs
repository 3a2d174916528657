//! Tickets for blocks that left memory but are still in the RabbitMQ stream.
//!
//! A session asks for such blocks with a ticket. When the ticket's turn comes, the backfill reads the
//! blocks into a small [`History`] that belongs to the ticket. The session is a cursor on that history
//! until its next height is within the shared one. Turns are shared out fairly ([`line`]).
//!
//! Sessions hold [`Tickets`] and [`Ticket`]; the backfill holds [`TicketQueue`] and [`CalledTicket`].
//! This room reads nothing and waits for nobody.

mod line;
mod queue;
mod ticket;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use crate::history::{EncodingCounts, Encodings, History};
use line::Place;
use queue::QueuedTickets;
pub use queue::{CalledTicket, TicketQueue};
use ticket::SharedTicket;
pub use ticket::{Claim, TicketState};

/// Issues tickets to sessions.
#[derive(Debug)]
pub struct Tickets {
    first_height: Mutex<Option<u64>>,
    is_looked_up: AtomicBool,
    /// None where nothing can be read back.
    queued: Option<Arc<QueuedTickets>>,
    /// Of what is read back.
    encodings: Arc<Encodings>,
}

/// One session's claim to be read for. Dropped, it ends and gives its turn to the next.
#[derive(Debug)]
pub struct Ticket {
    /// What has been read. Its first block or gap begins at the height that was asked for, at a
    /// later one only with `blocks.heights = "sparse"`. It keeps what lies above the last
    /// [`Ticket::progress`]. [`crate::history::Gone`] from it means that [`Ticket::state`] says
    /// why, and never another chain.
    pub history: Arc<History>,
    shared: Arc<SharedTicket>,
    queued: Arc<QueuedTickets>,
    place: Place,
}

impl Tickets {
    /// Both ends: for sessions, and for the backfill.
    pub fn new() -> (Self, TicketQueue) {
        let (queued, queue) = TicketQueue::new();
        let (first_height, is_looked_up) = Default::default();
        let encodings = Encodings::new(usize::MAX, EncodingCounts::default());
        (Self { first_height, is_looked_up, queued: Some(queued), encodings }, queue)
    }

    /// What is read back is encoded together with other histories from now on.
    pub fn set_encodings(&mut self, encodings: Arc<Encodings>) {
        self.encodings = encodings;
    }

    /// Nothing can be read back: `queue` mode.
    pub fn none() -> Self {
        Self {
            first_height: Mutex::default(),
            is_looked_up: AtomicBool::default(),
            queued: None,
            encodings: Encodings::new(0, EncodingCounts::default()),
        }
    }

    /// Whether there is something to read back from at all.
    pub fn can_read(&self) -> bool {
        self.queued.is_some()
    }

    /// The first height in the RabbitMQ stream as last looked up: at most half a minute old while
    /// there is a broker. None: not known, an empty stream, or nothing can be read back.
    pub fn first_height(&self) -> Option<u64> {
        *self.locked()
    }

    pub fn set_first_height(&self, height: Option<u64>) {
        *self.locked() = height;
        self.is_looked_up.store(true, Ordering::Release);
    }

    /// Whether it is known where the RabbitMQ stream begins, or that there is nothing in it; not in
    /// the first moments of a replica.
    pub fn is_looked_up(&self) -> bool {
        self.queued.is_none() || self.is_looked_up.load(Ordering::Acquire)
    }

    /// Issues a ticket for the blocks from `from_height` on. None: nothing can be read back here.
    ///
    /// Returns at once; what is read comes into [`Ticket::history`].
    pub fn issue(&self, from_height: u64, claim: Claim) -> Option<Ticket> {
        let queued = Arc::clone(self.queued.as_ref()?);
        let shared = Arc::new(SharedTicket::new(from_height, claim, Arc::clone(&self.encodings)));
        let history = Arc::clone(&shared.history);
        let place = queued.enter(Arc::clone(&shared));
        Some(Ticket { history, shared, queued, place })
    }

    fn locked(&self) -> MutexGuard<'_, Option<u64>> {
        self.first_height.lock().expect("bug: nothing panics while it holds this lock")
    }
}

impl Ticket {
    pub fn state(&self) -> TicketState {
        self.shared.state()
    }

    /// What to ask again with: the claim that this was issued for, and what its turn has added.
    pub fn claim(&self) -> Claim {
        self.shared.claim_now()
    }

    /// Says that the session took something and wants `next_height` next: what lies below is let
    /// go, which makes room. Any call counts as life.
    pub fn progress(&self, next_height: u64) {
        self.shared.progress.send_replace(next_height);
    }

    /// The same of a session that may only have looked: no life unless it has moved on.
    pub fn passed(&self, next_height: u64) {
        let is_new = |before: &mut u64| std::mem::replace(before, next_height) != next_height;
        self.shared.progress.send_if_modified(is_new);
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.queued.leave(self.shared.claim().network, self.place);
        self.shared.dropped.cancel();
    }
}

#[cfg(test)]
mod tests;
