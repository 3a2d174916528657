//! A replica goes, and another that has read the same takes its place.

use std::time::Duration;

use tokio::task::yield_now;

use super::World;
use super::messages::Queued;
use super::replica::Replica;

/// What `server.drain` may be.
const SPREAD_MS_MAX: u64 = 20_000;
/// Turns in which every session has seen that it is over.
const TURNS_MAX: usize = 100;

impl World {
    /// The sessions begin to be closed.
    pub(super) fn drain(&mut self) {
        self.is_draining = true;
        let spread = Duration::from_millis(self.random.u64(0..SPREAD_MS_MAX));
        self.replica.context.drain.begin(spread);
        self.replica.history.wake_readers();
    }

    /// The drain's time is over: the sessions end and so does the replica. The next is warm before it takes clients.
    pub(super) async fn replace(&mut self) {
        let is_of_newest = self.current + 1 == self.chains.len();
        if !is_of_newest || self.queue.iter().any(|it| matches!(it, Queued::Begin)) {
            return;
        }
        self.replica.context.drain.end();
        self.replica.history.wake_readers();
        for _ in 0..TURNS_MAX {
            yield_now().await;
            self.look();
            for at in 0..self.clients.len() {
                self.clients[at].read(usize::MAX, &self.chains, &mut self.tally);
                self.end_if_over(at).await;
            }
        }
        let left = self.clients.iter().find(|client| client.connection.is_some());
        assert!(left.is_none(), "still there after the drain: {left:?}");
        self.replica.end().await;
        self.replica = Replica::start(&self.settings, self.random.fork());
        self.of_current = self.replica.history.live_cursor();
        (self.sent, self.is_warming, self.is_draining) = (None, true, false);
        let read = std::mem::take(&mut self.stream);
        let again = [Queued::Begin].into_iter().chain(read).chain([Queued::CaughtUp]);
        self.queue = again.chain(std::mem::take(&mut self.queue)).collect();
        while self.is_warming || self.sent.is_some() {
            self.deliver();
            yield_now().await;
            self.look();
        }
        self.chains[self.current].is_read_again();
    }
}
