//! The end of a world: everyone catches up, and then nothing may be missing.

use std::time::Duration;

use tokio::task::yield_now;
use tokio::time::advance;

use super::World;
use crate::history::Placed;

/// Longer than any hold, far shorter than any patience with a client.
const HOLD_OVER: Duration = Duration::from_millis(3_100);
/// Rounds in which nothing moves, after which nothing will.
const QUIET_ROUNDS: usize = 15;
const ROUNDS_MAX: usize = 1_000_000;

impl World {
    pub(super) async fn settle(&mut self) {
        self.catch_up().await;
        advance(HOLD_OVER).await;
        self.catch_up().await;
        assert!(self.queue.is_empty() && self.sent.is_none(), "the pipeline takes nothing");
    }

    /// Does what there is to do until there is nothing.
    async fn catch_up(&mut self) {
        let mut quiet = 0;
        for _ in 0..ROUNDS_MAX {
            let mut has_moved = !self.queue.is_empty();
            let encodings_before = self.replica.encodings_made();
            self.deliver();
            for _ in 0..3 {
                yield_now().await;
            }
            has_moved |= self.replica.encodings_made() > encodings_before;
            self.look();
            for at in 0..self.clients.len() {
                if let Some(connection) = &mut self.clients[at].connection {
                    connection.is_stalled = false;
                }
                has_moved |= self.clients[at].read(usize::MAX, &self.chains, &mut self.tally) > 0;
                self.end_if_over(at).await;
                self.look();
            }
            quiet = if has_moved { 0 } else { quiet + 1 };
            if quiet == QUIET_ROUNDS {
                return;
            }
        }
        panic!("there is no end to it");
    }

    /// What came is there, once.
    pub(super) fn check_history(&self) {
        let chain = &self.chains[self.current];
        assert_eq!(self.current + 1, self.chains.len(), "the newest chain is not begun");
        for (from, to) in self.replica.history.gaps(usize::MAX) {
            let lost = (from..=to).find(|height| chain.has(*height));
            assert_eq!(lost, None, "it came, and is a gap");
        }
        if !self.waits_for_ever {
            assert_eq!(
                self.replica.history.summary().tip,
                chain.tip(),
                "the newest did not get in"
            );
        }
    }

    /// Who is still connected has everything.
    pub(super) fn check_clients(&mut self) {
        let Some(tip) = self.replica.history.summary().tip else { return };
        let now = self.now();
        for client in &self.clients {
            let Some(connection) = client.connection.as_ref().filter(|it| !it.has_left) else {
                continue;
            };
            if client.chain != Some(self.current) {
                assert!(client.chain.is_none(), "not told of another chain: {client:?}");
                continue;
            }
            let chain = &self.chains[self.current];
            let is_done = !connection.bounds.allow(tip + 1);
            assert!(!is_done, "it has all that it asked for: {client:?}");
            if client.next.is_some_and(|next| next.0 <= tip) {
                client.pass((tip + 1, 0), now, chain, &mut self.tally);
            }
            let told = connection.gaps.iter().flat_map(|(from, to)| *from..=*to);
            let can_be_told = |height: &u64| {
                chain.has(*height) && matches!(self.replica.history.place(*height), Placed::At(_))
            };
            let untold =
                told.filter(can_be_told).find(|height| !connection.filled.contains(height));
            assert_eq!(untold, None, "filled, and the client was not told: {client:?}");
        }
    }
}
