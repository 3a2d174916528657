//! A reader of the RabbitMQ stream for clients that begin before this replica's memory.
//!
//! It decodes, orders, encodes and appends as the pipeline does, into a small history per client.
//! A bounded number of readings run at a time, each with a bounded rate and a bounded memory. None
//! holds its turn against others for long. So live clients do not notice them.
//!
//! This room settles nothing (of a stream, acks are only credit), counts no delivery and dead-letters
//! nothing: the pipeline did all that when the message was new.

mod context;
mod heights;
mod output;
mod pace;
mod passage;
mod scan;
mod search;
mod stop;
mod stream;
mod turn;

use std::sync::{Arc, Mutex};

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::block;
use crate::config::Blocks;
use crate::metrics::Metrics;
use crate::tickets::{TicketQueue, Tickets};
use context::{BackfillContext, sequence_rules};
pub use stream::{ReadableStream, StreamMessages};

/// What readings are made with.
pub struct BackfillParts {
    pub blocks: Blocks,
    /// As the pipeline's: a block above it was not taken there either.
    pub encoded_bytes_max: u64,
    /// `history.deep_reads`.
    pub turns_max: usize,
    pub tickets: Arc<Tickets>,
    pub queue: TicketQueue,
    pub metrics: Arc<Metrics>,
}

/// The readings of one replica.
pub struct Backfill<S> {
    context: Arc<BackfillContext<S>>,
    queue: TicketQueue,
    turns_max: usize,
}

impl<S: ReadableStream> Backfill<S> {
    /// Readings that read nothing yet.
    pub fn new(parts: BackfillParts, stream: S) -> Self {
        let BackfillParts { blocks, encoded_bytes_max, turns_max, tickets, queue, metrics } = parts;
        let sequence_rules = sequence_rules(&blocks);
        let decode_rules = block::DecodeRules::of(&blocks, encoded_bytes_max);
        let context = BackfillContext {
            stream,
            tickets,
            metrics,
            blocks,
            decode_rules,
            sequence_rules,
            scanned: Mutex::default(),
            held_up: Arc::default(),
        };
        Self { context: Arc::new(context), queue, turns_max: turns_max.max(1) }
    }

    /// Serves readings until `shutdown`; then none is left.
    pub async fn run(mut self, shutdown: CancellationToken) {
        let context = Arc::clone(&self.context);
        let mut turns = JoinSet::new();
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = self.serve(&mut turns) => {}
            () = context.keep_first_height() => {}
        }
        turns.shutdown().await;
        context.stream.close().await;
    }

    /// Gives turns as they are asked for and become free. Never ends by itself.
    async fn serve(&mut self, turns: &mut JoinSet<()>) {
        loop {
            while turns.len() < self.turns_max
                && let Some(ticket) = self.queue.take()
            {
                let context = Arc::clone(&self.context);
                turns.spawn(turn::serve(context, ticket, self.queue.watch()));
            }
            self.context.metrics.deep_reads.set(turns.len() as i64);
            self.context.metrics.deep_reads_waiting.set(self.queue.waiting() as i64);
            tokio::select! {
                () = self.queue.changed() => {}
                Some(ended) = turns.join_next() => ended.expect("bug: a reading panicked"),
            }
        }
    }
}

#[cfg(test)]
mod tests;
