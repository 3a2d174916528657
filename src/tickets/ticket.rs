//! A ticket: what its session and the backfill share.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::history::{Encodings, History};

/// Who asks for a turn, and what it has had of turns before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    /// What `server.max_connections_per_address` counts as one address.
    pub network: IpAddr,
    /// How long blocks were read for it. See [`super::Ticket::claim`].
    pub had: Duration,
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

/// What both ends of a ticket share.
#[derive(Debug)]
pub struct SharedTicket {
    pub from_height: u64,
    pub history: Arc<History>,
    /// Sender: the session. Receiver: the backfill. One number: nothing fills up.
    pub progress: watch::Sender<u64>,
    pub dropped: CancellationToken,
    pub issued_at: Instant,
    claim: Claim,
    state: Mutex<TicketState>,
    turn: Mutex<TurnTime>,
}

/// How long blocks were read in its turn.
#[derive(Debug, Default, Clone, Copy)]
struct TurnTime {
    since: Option<Instant>,
    /// Set when the turn has ended.
    had: Option<Duration>,
}

impl Claim {
    /// Of one who has had nothing.
    pub fn of(network: IpAddr) -> Self {
        Self { network, had: Duration::ZERO }
    }
}

impl SharedTicket {
    pub fn new(from_height: u64, claim: Claim, encodings: Arc<Encodings>) -> Self {
        Self {
            from_height,
            // Its bound is kept by who fills it, since only that one can wait.
            history: Arc::new(History::with(usize::MAX, encodings)),
            progress: watch::Sender::new(from_height),
            dropped: CancellationToken::new(),
            issued_at: Instant::now(),
            claim,
            state: Mutex::new(TicketState::Waiting),
            turn: Mutex::default(),
        }
    }

    /// As it was made with.
    pub fn claim(&self) -> Claim {
        self.claim
    }

    /// With what its turn has added so far.
    pub fn claim_now(&self) -> Claim {
        let TurnTime { since, had } = *locked(&self.turn);
        let had = had.or(since.map(|since| since.elapsed())).unwrap_or_default();
        Claim { had: self.claim.had.saturating_add(had), ..self.claim }
    }

    /// From now on the turn is something that the session has.
    pub fn begin_turn(&self) {
        locked(&self.turn).since.get_or_insert_with(Instant::now);
    }

    pub fn end_turn(&self) {
        let mut turn = locked(&self.turn);
        turn.had = turn.had.or(turn.since.map(|since| since.elapsed()));
    }

    pub fn state(&self) -> TicketState {
        *locked(&self.state)
    }

    pub fn set_state(&self, state: TicketState) {
        *locked(&self.state) = state;
        self.history.wake_readers();
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("bug: nothing panics while it holds this lock")
}
