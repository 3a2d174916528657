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
mod known;
mod output;
mod pace;
mod passage;
mod scan;
mod search;
mod stop;
mod stream;
#[cfg(test)]
pub mod testing;
mod turn;
mod uptake;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::block;
use crate::config::Blocks;
use crate::metrics::Metrics;
use crate::tickets::{CalledTicket, TicketQueue, Tickets};
use context::{BackfillContext, sequence_rules};
use known::KnownStream;
use pace::LookPace;
pub use stream::{ReadableStream, StreamMessages};

/// From the beginning of one turn to that of the next: each opens channels at the broker, whoever asks and
/// whether he stays.
const TURN_EVERY: Duration = Duration::from_millis(50);

/// What readings are made with.
pub struct BackfillParts {
    pub blocks: Blocks,
    /// As the pipeline's: a block above it was not taken there either.
    pub encoded_bytes_max: u64,
    /// `history.deep_reads`; one at least, or who waits for a turn waits for ever.
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
            known: KnownStream::default(),
            look_pace: Mutex::new(LookPace::new(Instant::now())),
            held_up: Arc::default(),
        };
        Self { context: Arc::new(context), queue, turns_max }
    }

    /// Serves readings until `shutdown`; then none is left.
    pub async fn run(mut self, shutdown: CancellationToken) {
        let context = Arc::clone(&self.context);
        let mut turns = JoinSet::new();
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = self.serve(&mut turns) => {}
            () = context.keep_known() => {}
        }
        turns.shutdown().await;
        context.stream.close().await;
    }

    /// Gives turns as they are asked for and become free, at a bounded pace. Who is called is in line at
    /// that moment: one who came and left costs the broker nothing. Never ends by itself.
    async fn serve(&mut self, turns: &mut JoinSet<()>) {
        let mut next_at = Instant::now();
        loop {
            let is_free = turns.len() < self.turns_max;
            if is_free
                && Instant::now() >= next_at
                && let Some(ticket) = self.queue.take()
            {
                self.begin(turns, ticket);
                next_at = Instant::now() + TURN_EVERY;
                continue;
            }
            self.context.metrics.deep_reads.set(turns.len() as i64);
            self.context.metrics.deep_reads_waiting.set(self.queue.waiting() as i64);
            let is_early = is_free && self.queue.waiting() > 0;
            tokio::select! {
                () = self.queue.changed() => {}
                Some(ended) = turns.join_next() => ended.expect("bug: a reading panicked"),
                () = sleep_until(next_at), if is_early => {}
            }
        }
    }

    fn begin(&self, turns: &mut JoinSet<()>, ticket: CalledTicket) {
        let context = Arc::clone(&self.context);
        context.metrics.deep_read_turns.inc();
        context.metrics.deep_read_wait_seconds.observe(ticket.waited().as_secs_f64());
        turns.spawn(turn::serve(context, ticket, self.queue.watch()));
    }
}

#[cfg(test)]
mod tests;
