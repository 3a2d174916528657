//! Tickets for blocks that left memory but are still in the RabbitMQ stream.
//!
//! A session asks for such blocks with a ticket. When the ticket's turn comes, the backfill reads the
//! blocks into a small [`History`] that belongs to the ticket. The session is a cursor on that history
//! until its next height is within the shared one.
//!
//! Sessions hold [`Tickets`] and [`Ticket`]; the backfill holds [`TicketQueue`] and [`CalledTicket`].
//! This room reads nothing and waits for nobody.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::history::{EncodingCounts, Encodings, History};

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
    number: u64,
}

/// How far the reading for a ticket is. Each change wakes the readers of the ticket's history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TicketState {
    /// Waits for a turn, for a broker, or until the place in the RabbitMQ stream is found.
    Waiting,
    /// The backfill reads: blocks are in the history, or come soon.
    Reading,
    /// The turn has ended: its time was over and others waited, or nothing was read from the
    /// history for too long. The history is empty; ask again, from the cursor, when there is room.
    GivenUp,
    /// The RabbitMQ stream does not reach back so far, or is gone (None).
    NotAvailable { first_height: Option<u64> },
}

/// The tickets that wait for a turn, first come first served. Held by the backfill.
#[derive(Debug)]
pub struct TicketQueue {
    queued: Arc<QueuedTickets>,
    count: watch::Receiver<usize>,
}

/// A ticket whose turn has come. Held by the backfill while it reads.
#[derive(Debug)]
pub struct CalledTicket {
    shared: Arc<SharedTicket>,
    progress: watch::Receiver<u64>,
}

/// What both ends of a ticket share.
#[derive(Debug)]
struct SharedTicket {
    from_height: u64,
    history: Arc<History>,
    state: Mutex<TicketState>,
    /// Sender: the session. Receiver: the backfill. One number: nothing fills up.
    progress: watch::Sender<u64>,
    dropped: CancellationToken,
}

/// The tickets that wait, and how many there are. One entry per live [`Ticket`] at most.
#[derive(Debug)]
struct QueuedTickets {
    waiting: Mutex<ByNumber>,
    /// How many wait. Sender: whoever enters or leaves. Receiver: the backfill.
    count: watch::Sender<usize>,
}

#[derive(Debug, Default)]
struct ByNumber {
    tickets: BTreeMap<u64, Arc<SharedTicket>>,
    next_number: u64,
}

impl Tickets {
    /// Both ends: for sessions, and for the backfill.
    pub fn new() -> (Self, TicketQueue) {
        let (count, receiver) = watch::channel(0);
        let queued = Arc::new(QueuedTickets { waiting: Mutex::default(), count });
        let queue = TicketQueue { queued: Arc::clone(&queued), count: receiver };
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
        *locked(&self.first_height)
    }

    pub fn set_first_height(&self, height: Option<u64>) {
        *locked(&self.first_height) = height;
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
    pub fn issue(&self, from_height: u64) -> Option<Ticket> {
        let queued = Arc::clone(self.queued.as_ref()?);
        // Its bound is kept by who fills it, since only that one can wait.
        let history = Arc::new(History::with(usize::MAX, Arc::clone(&self.encodings)));
        let shared = Arc::new(SharedTicket {
            from_height,
            history: Arc::clone(&history),
            state: Mutex::new(TicketState::Waiting),
            progress: watch::Sender::new(from_height),
            dropped: CancellationToken::new(),
        });
        let number = queued.enter(Arc::clone(&shared));
        Some(Ticket { history, shared, queued, number })
    }
}

impl Ticket {
    pub fn state(&self) -> TicketState {
        *locked(&self.shared.state)
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
        self.queued.leave(self.number);
        self.shared.dropped.cancel();
    }
}

impl TicketQueue {
    /// Calls the ticket that has waited longest.
    pub fn take(&mut self) -> Option<CalledTicket> {
        let shared = self.queued.take_first()?;
        Some(CalledTicket { progress: shared.progress.subscribe(), shared })
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

    pub fn set_state(&self, state: TicketState) {
        *locked(&self.shared.state) = state;
        self.shared.history.wake_readers();
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

impl QueuedTickets {
    fn enter(&self, shared: Arc<SharedTicket>) -> u64 {
        let mut waiting = locked(&self.waiting);
        let number = waiting.next_number;
        waiting.next_number += 1;
        waiting.tickets.insert(number, shared);
        self.count.send_replace(waiting.tickets.len());
        number
    }

    fn leave(&self, number: u64) {
        let mut waiting = locked(&self.waiting);
        if waiting.tickets.remove(&number).is_some() {
            self.count.send_replace(waiting.tickets.len());
        }
    }

    fn take_first(&self) -> Option<Arc<SharedTicket>> {
        let mut waiting = locked(&self.waiting);
        let (_, shared) = waiting.tickets.pop_first()?;
        self.count.send_replace(waiting.tickets.len());
        Some(shared)
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("bug: nothing panics while it holds this lock")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_stream_nothing_can_be_read_back() {
        assert!(Tickets::none().issue(0).is_none());
        assert_eq!(Tickets::none().first_height(), None);
    }

    #[test]
    fn who_asked_first_is_served_first_and_who_left_is_not() {
        let (tickets, mut queue) = Tickets::new();
        assert!(queue.take().is_none());
        let held: Vec<Ticket> =
            (0..4).map(|height| tickets.issue(height).expect("a stream")).collect();
        assert_eq!(queue.waiting(), 4);
        let first = queue.take().expect("one waits");
        assert_eq!(first.from_height(), 0);
        let mut held = held.into_iter();
        let (zero, one) = (held.next().expect("0"), held.next().expect("1"));
        drop(one);
        assert_eq!(queue.waiting(), 2);
        let second = queue.take().expect("two wait");
        assert_eq!(second.from_height(), 2);
        assert!(!first.dropped().is_cancelled());
        drop(zero);
        assert!(first.dropped().is_cancelled(), "taken, it is told that nobody reads");
        drop(held);
        assert!(queue.take().is_none());
    }

    #[tokio::test]
    async fn both_sides_hear_of_each_other() {
        let (tickets, mut queue) = Tickets::new();
        let ticket = tickets.issue(7).expect("a stream");
        queue.changed().await;
        let mut called = queue.take().expect("one waits");
        let mut moved = ticket.history.watch(crate::history::RequiredEncodings::NONE);
        called.set_state(TicketState::Reading);
        moved.moved().await;
        assert_eq!(ticket.state(), TicketState::Reading);
        assert_eq!(called.next_height(), 7);
        ticket.progress(7);
        called.progressed().await;
        ticket.progress(9);
        called.progressed().await;
        assert_eq!(called.next_height(), 9);
    }
}
