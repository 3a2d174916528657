//! The backfill's end of tickets: the line of those that wait, and the ticket whose turn has come.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::line::{Line, Place};
use super::ticket::{SharedTicket, TicketState};
use crate::history::History;

/// The tickets that wait for a turn, in the order of [`super::line`]. Held by the backfill.
#[derive(Debug)]
pub struct TicketQueue {
    queued: Arc<QueuedTickets>,
    count: watch::Receiver<usize>,
}

/// A ticket whose turn has come. Held by the backfill while it reads; dropped, the turn is over.
#[derive(Debug)]
pub struct CalledTicket {
    shared: Arc<SharedTicket>,
    progress: watch::Receiver<u64>,
    queued: Arc<QueuedTickets>,
}

/// The tickets that wait, and how many there are. One entry per live [`super::Ticket`] at most.
#[derive(Debug)]
pub struct QueuedTickets {
    line: Mutex<Line<Arc<SharedTicket>>>,
    /// How many wait. Sender: whoever enters or leaves. Receiver: the backfill.
    count: watch::Sender<usize>,
}

impl TicketQueue {
    /// With nobody in it.
    pub fn new() -> (Arc<QueuedTickets>, Self) {
        let (count, receiver) = watch::channel(0);
        let queued = Arc::new(QueuedTickets { line: Mutex::default(), count });
        (Arc::clone(&queued), Self { queued, count: receiver })
    }

    /// Calls the ticket that comes next.
    pub fn take(&mut self) -> Option<CalledTicket> {
        let shared = self.queued.take_next()?;
        let queued = Arc::clone(&self.queued);
        Some(CalledTicket { progress: shared.progress.subscribe(), shared, queued })
    }

    /// How many wait for a turn.
    pub fn waiting(&self) -> usize {
        *self.count.borrow()
    }

    /// Waits until the number of those who wait has changed since this last returned.
    ///
    /// # Cancel safety
    /// No change is lost when dropped.
    pub async fn changed(&mut self) {
        if self.count.changed().await.is_err() {
            unreachable!("bug: this holds the tickets, which have the sender");
        }
    }

    /// How many wait, for others to look at.
    pub fn watch(&self) -> watch::Receiver<usize> {
        self.count.clone()
    }
}

impl CalledTicket {
    /// The first height wanted.
    pub fn from_height(&self) -> u64 {
        self.shared.from_height
    }

    pub fn history(&self) -> &Arc<History> {
        &self.shared.history
    }

    /// How long it has been in line, or was when this is asked at once.
    pub fn waited(&self) -> Duration {
        self.shared.issued_at.elapsed()
    }

    pub fn set_state(&self, state: TicketState) {
        match state {
            TicketState::Reading => self.shared.begin_turn(),
            TicketState::GivenUp | TicketState::NotAvailable { .. } => self.shared.end_turn(),
            TicketState::Waiting => {}
        }
        self.shared.set_state(state);
    }

    /// The height that the session wants next.
    pub fn next_height(&self) -> u64 {
        *self.progress.borrow()
    }

    /// Waits for the session's next word; for ever when it has gone.
    ///
    /// # Cancel safety
    /// No word is lost when dropped.
    pub async fn progressed(&mut self) {
        if self.progress.changed().await.is_err() {
            unreachable!("bug: this holds the ticket, which has the sender");
        }
    }

    /// Cancelled when the session has dropped its ticket.
    pub fn dropped(&self) -> CancellationToken {
        self.shared.dropped.clone()
    }
}

impl Drop for CalledTicket {
    fn drop(&mut self) {
        self.queued.locked().end_turn(self.shared.claim().network);
    }
}

impl QueuedTickets {
    pub fn enter(&self, shared: Arc<SharedTicket>) -> Place {
        let (claim, at) = (shared.claim(), shared.issued_at);
        let mut line = self.locked();
        let place = line.join(claim.network, claim.had, at, shared);
        self.count.send_replace(line.len());
        place
    }

    pub fn leave(&self, network: IpAddr, place: Place) {
        let mut line = self.locked();
        if line.leave(network, place).is_some() {
            self.count.send_replace(line.len());
        }
    }

    fn take_next(&self) -> Option<Arc<SharedTicket>> {
        let mut line = self.locked();
        let (_, shared) = line.call()?;
        self.count.send_replace(line.len());
        Some(shared)
    }

    fn locked(&self) -> MutexGuard<'_, Line<Arc<SharedTicket>>> {
        self.line.lock().expect("bug: nothing panics while it holds this lock")
    }
}
