//! Tests of the backfill under paused time, with a stream in memory.

mod client;
mod missing;
mod outdated;
mod reads;
mod shares;
mod story;
mod turns;

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::testing::{Tape, body};
use super::{Backfill, BackfillParts, TURN_EVERY};
use crate::config::{Blocks, Heights, Hold};
use crate::metrics::Metrics;
use crate::tickets::{TicketState, Tickets};
use client::Client;

/// A backfill that reads from a tape.
struct Bench {
    tickets: Arc<Tickets>,
    metrics: Arc<Metrics>,
    shutdown: CancellationToken,
    task: JoinHandle<()>,
}

impl Bench {
    fn new(tape: &Tape, blocks: Blocks, turns_max: usize) -> Self {
        let (tickets, queue) = Tickets::new();
        let (tickets, metrics) = (Arc::new(tickets), Arc::new(Metrics::new()));
        let parts = BackfillParts {
            blocks,
            encoded_bytes_max: 1 << 28,
            turns_max,
            tickets: Arc::clone(&tickets),
            queue,
            metrics: Arc::clone(&metrics),
        };
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(Backfill::new(parts, tape.clone()).run(shutdown.clone()));
        Self { tickets, metrics, shutdown, task }
    }

    fn client(&self, from_height: u64) -> Client {
        Client::start(&self.tickets, from_height)
    }

    async fn stop(self) {
        self.shutdown.cancel();
        self.task.await.expect("it ended by itself");
    }
}

fn blocks(heights: impl IntoIterator<Item = u64>) -> Vec<(u64, u64)> {
    heights.into_iter().map(|height| (height, height)).collect()
}
