//! What the broker still has and this replica's memory has not, as sessions ask for it.
//!
//! A deep read fills a small [`History`] of its own; the session is a cursor on it until its next
//! height is within the shared history. Here are the two ends of that: [`Archive`] and [`Reading`]
//! for sessions, [`Requests`] and [`Request`] for whoever reads back. Nothing is read, and nobody
//! waits for anybody, in this room.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::history::History;

/// Where sessions ask for blocks that have left the history.
#[derive(Debug)]
pub struct Archive {
    first_height: Mutex<Option<u64>>,
    is_looked_up: AtomicBool,
    /// None where nothing can be read back.
    line: Option<Arc<Line>>,
}

/// One client's reading. Dropped, it ends and gives its turn to the next.
#[derive(Debug)]
pub struct Reading {
    /// What has been read. Its first block or gap begins at the height that was asked for, at a
    /// later one only with `blocks.heights = "sparse"`. It keeps what lies above the last
    /// [`Reading::progress`]. [`crate::history::Gone`] from it means that [`Reading::state`] says
    /// why, and never another chain.
    pub history: Arc<History>,
    order: Arc<Order>,
    line: Arc<Line>,
    number: u64,
}

/// How far a reading is. Whenever it changes, the readers of the private history are woken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// For a turn, for a broker, or until the place in the RabbitMQ stream is found.
    Waiting,
    /// What is read is in the history, or coming.
    Reading,
    /// The turn has ended: its time was over and others waited, or nothing was read from the
    /// history for too long. The history is empty; ask again, from the cursor, when there is room.
    GivenUp,
    /// The RabbitMQ stream does not reach back so far, or is gone (None).
    NotAvailable { first_height: Option<u64> },
}

/// The replaying side's end: the readings that wait for a turn, first come first served.
#[derive(Debug)]
pub struct Requests {
    line: Arc<Line>,
    count: watch::Receiver<usize>,
}

/// A reading as who reads for it sees it.
#[derive(Debug)]
pub struct Request {
    order: Arc<Order>,
    progress: watch::Receiver<u64>,
}

/// What both ends of a reading share.
#[derive(Debug)]
struct Order {
    from_height: u64,
    history: Arc<History>,
    state: Mutex<State>,
    /// Sender: the session. Receiver: who reads for it. One number: nothing fills up.
    progress: watch::Sender<u64>,
    dropped: CancellationToken,
}

/// Readings that wait, by number. One entry per live [`Reading`] at most.
#[derive(Debug)]
struct Line {
    waiting: Mutex<Waiting>,
    /// How many wait. Sender: whoever enters or leaves. Receiver: the replaying side.
    count: watch::Sender<usize>,
}

#[derive(Debug, Default)]
struct Waiting {
    orders: BTreeMap<u64, Arc<Order>>,
    next_number: u64,
}

impl Archive {
    /// An archive, and what serves it.
    pub fn new() -> (Self, Requests) {
        let (count, receiver) = watch::channel(0);
        let line = Arc::new(Line { waiting: Mutex::default(), count });
        let requests = Requests { line: Arc::clone(&line), count: receiver };
        let (first_height, is_looked_up) = Default::default();
        (Self { first_height, is_looked_up, line: Some(line) }, requests)
    }

    /// Nothing can be read back: `queue` mode.
    pub fn none() -> Self {
        Self { first_height: Mutex::default(), is_looked_up: AtomicBool::default(), line: None }
    }

    /// Whether there is something to read back from at all.
    pub fn can_read(&self) -> bool {
        self.line.is_some()
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
        self.line.is_none() || self.is_looked_up.load(Ordering::Acquire)
    }

    /// Asks for the blocks from `from_height` on. None: nothing can be read back here.
    ///
    /// Returns at once; what is read comes into [`Reading::history`].
    pub fn read(&self, from_height: u64) -> Option<Reading> {
        let line = Arc::clone(self.line.as_ref()?);
        // Its bound is kept by who fills it, since only that one can wait.
        let history = Arc::new(History::new(usize::MAX));
        let order = Arc::new(Order {
            from_height,
            history: Arc::clone(&history),
            state: Mutex::new(State::Waiting),
            progress: watch::Sender::new(from_height),
            dropped: CancellationToken::new(),
        });
        let number = line.enter(Arc::clone(&order));
        Some(Reading { history, order, line, number })
    }
}

impl Reading {
    pub fn state(&self) -> State {
        *locked(&self.order.state)
    }

    /// Says that the session took something and wants `next_height` next: what lies below is let
    /// go, which makes room. Any call counts as life.
    pub fn progress(&self, next_height: u64) {
        self.order.progress.send_replace(next_height);
    }

    /// The same of a session that may only have looked: no life unless it has moved on.
    pub fn passed(&self, next_height: u64) {
        let is_new = |before: &mut u64| std::mem::replace(before, next_height) != next_height;
        self.order.progress.send_if_modified(is_new);
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        self.line.leave(self.number);
        self.order.dropped.cancel();
    }
}

impl Requests {
    /// Takes the reading that has waited longest.
    pub fn take(&mut self) -> Option<Request> {
        let order = self.line.take_first()?;
        Some(Request { progress: order.progress.subscribe(), order })
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
            unreachable!("bug: the line, which this holds, has the sender");
        }
    }

    /// How many wait, for others to look at.
    pub fn watch(&self) -> watch::Receiver<usize> {
        self.count.clone()
    }
}

impl Request {
    /// The first height wanted.
    pub fn from_height(&self) -> u64 {
        self.order.from_height
    }

    pub fn history(&self) -> &Arc<History> {
        &self.order.history
    }

    pub fn set_state(&self, state: State) {
        *locked(&self.order.state) = state;
        self.order.history.wake_readers();
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
            unreachable!("bug: the order, which this holds, has the sender");
        }
    }

    /// Cancelled when the session has dropped its reading.
    pub fn dropped(&self) -> CancellationToken {
        self.order.dropped.clone()
    }
}

impl Line {
    fn enter(&self, order: Arc<Order>) -> u64 {
        let mut waiting = locked(&self.waiting);
        let number = waiting.next_number;
        waiting.next_number += 1;
        waiting.orders.insert(number, order);
        self.count.send_replace(waiting.orders.len());
        number
    }

    fn leave(&self, number: u64) {
        let mut waiting = locked(&self.waiting);
        if waiting.orders.remove(&number).is_some() {
            self.count.send_replace(waiting.orders.len());
        }
    }

    fn take_first(&self) -> Option<Arc<Order>> {
        let mut waiting = locked(&self.waiting);
        let (_, order) = waiting.orders.pop_first()?;
        self.count.send_replace(waiting.orders.len());
        Some(order)
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
        assert!(Archive::none().read(0).is_none());
        assert_eq!(Archive::none().first_height(), None);
    }

    #[test]
    fn who_asked_first_is_served_first_and_who_left_is_not() {
        let (archive, mut requests) = Archive::new();
        assert!(requests.take().is_none());
        let readings: Vec<Reading> =
            (0..4).map(|height| archive.read(height).expect("a stream")).collect();
        assert_eq!(requests.waiting(), 4);
        let first = requests.take().expect("one waits");
        assert_eq!(first.from_height(), 0);
        let mut readings = readings.into_iter();
        let (zero, one) = (readings.next().expect("0"), readings.next().expect("1"));
        drop(one);
        assert_eq!(requests.waiting(), 2);
        let second = requests.take().expect("two wait");
        assert_eq!(second.from_height(), 2);
        assert!(!first.dropped().is_cancelled());
        drop(zero);
        assert!(first.dropped().is_cancelled(), "taken, it is told that nobody reads");
        drop(readings);
        assert!(requests.take().is_none());
    }

    #[tokio::test]
    async fn both_sides_hear_of_each_other() {
        let (archive, mut requests) = Archive::new();
        let reading = archive.read(7).expect("a stream");
        requests.changed().await;
        let mut request = requests.take().expect("one waits");
        let mut moved = reading.history.watch(crate::history::Needs::NONE);
        request.set_state(State::Reading);
        moved.moved().await;
        assert_eq!(reading.state(), State::Reading);
        assert_eq!(request.next_height(), 7);
        reading.progress(7);
        request.progressed().await;
        reading.progress(9);
        request.progressed().await;
        assert_eq!(request.next_height(), 9);
    }
}
