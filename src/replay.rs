//! Reads back from the RabbitMQ stream for clients that begin before this replica's memory: the same
//! decode, sequence, encode and append as the pipeline's, into a small history per client.
//!
//! A bounded number of readings run at a time, each with a bounded rate and a bounded memory, and
//! none holds its turn against others for long; so live clients do not notice them. This room
//! settles nothing (of a stream, acks are only credit), counts no delivery and dead-letters nothing:
//! the pipeline did all that when the message was new.

mod pace;
mod scan;
mod search;
mod stream;
mod turn;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::amqp::{Bounds, Message, ReadError};
use crate::archive::{Archive, Request, Requests};
use crate::backoff::Backoff;
use crate::block;
use crate::config::{Blocks, Heights, Hold};
use crate::encoder;
use crate::metrics::Metrics;
use crate::sequence;
use scan::Scanned;
pub use stream::{Messages, Stream};
use turn::Turn;

/// How often it is looked up where the RabbitMQ stream begins.
const FIRST_HEIGHT_EVERY: Duration = Duration::from_secs(30);
/// What one reading may hold back behind a missing height, beside `blocks.hold_bytes`.
const HOLD_BYTES_MAX: u64 = 16 << 20;
/// A missing height is waited for during so many messages: several times what a few producers of
/// small blocks are ahead of each other, and a second's reading.
const HOLD_MESSAGES: u32 = 4_096;
/// What the sequencer's clock advances by with each message: no time passes in what is read back.
const TICK: Duration = Duration::from_millis(1);
/// In dense heights, how far the lowest of a stream's first messages may be below the next.
const APART_MAX: u64 = 64;

/// What readings are made with.
pub struct Parts {
    pub blocks: Blocks,
    /// As the pipeline's: a block above it was not taken there either.
    pub encoded_bytes_max: u64,
    /// `history.deep_reads`.
    pub turns_max: usize,
    pub archive: Arc<Archive>,
    pub requests: Requests,
    pub metrics: Arc<Metrics>,
}

/// The readings of one replica.
pub struct Replay<S> {
    around: Arc<Around<S>>,
    requests: Requests,
    turns_max: usize,
}

/// What every reading works with.
struct Around<S> {
    stream: S,
    archive: Arc<Archive>,
    metrics: Arc<Metrics>,
    blocks: Blocks,
    decode_rules: block::Rules,
    sequence_rules: sequence::Rules,
    /// What readings have learnt of the stream's older part, for each other.
    scanned: Mutex<Arc<Scanned>>,
}

impl<S: Stream> Replay<S> {
    pub fn new(parts: Parts, stream: S) -> Self {
        let Parts { blocks, encoded_bytes_max, turns_max, archive, requests, metrics } = parts;
        let sequence_rules = sequence::Rules {
            heights: blocks.heights,
            hold: match blocks.hold {
                Hold::For(_) => Hold::For(TICK * HOLD_MESSAGES),
                Hold::Forever => Hold::Forever,
            },
            hold_bytes: blocks.hold_bytes.as_u64().min(HOLD_BYTES_MAX),
            jump_max: blocks.jump_max,
            doubt: None,
        };
        let decode_rules = block::Rules::of(&blocks, encoded_bytes_max);
        let around = Around {
            stream,
            archive,
            metrics,
            blocks,
            decode_rules,
            sequence_rules,
            scanned: Mutex::default(),
        };
        Self { around: Arc::new(around), requests, turns_max: turns_max.max(1) }
    }

    /// Serves readings until `shutdown`; then none is left.
    pub async fn run(mut self, shutdown: CancellationToken) {
        let around = Arc::clone(&self.around);
        let mut turns = JoinSet::new();
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = self.serve(&mut turns) => {}
            () = around.keep_first_height() => {}
        }
        turns.shutdown().await;
        around.stream.close().await;
    }

    /// Gives turns as they are asked for and become free. Never ends by itself.
    async fn serve(&mut self, turns: &mut JoinSet<()>) {
        loop {
            while turns.len() < self.turns_max
                && let Some(request) = self.requests.take()
            {
                let around = Arc::clone(&self.around);
                turns.spawn(around.turn(request, self.requests.watch()));
            }
            self.around.metrics.deep_reads.set(turns.len() as i64);
            self.around.metrics.deep_reads_waiting.set(self.requests.waiting() as i64);
            tokio::select! {
                () = self.requests.changed() => {}
                Some(ended) = turns.join_next() => ended.expect("bug: a reading panicked"),
            }
        }
    }
}

impl<S: Stream> Around<S> {
    /// One reading, until its turn ends or its session has gone.
    async fn turn(self: Arc<Self>, request: Request, waiting: tokio::sync::watch::Receiver<usize>) {
        let dropped = request.dropped();
        // What the session needs beside plain frames is made as for everyone.
        let encoding = encoder::run(Arc::clone(request.history()), dropped.clone());
        let mut turn = Turn::new(&self, request, waiting);
        let state = tokio::select! {
            () = encoding => return,
            state = turn.run() => state,
        };
        turn.end(state);
    }

    /// Looks up where the stream begins, again and again.
    async fn keep_first_height(&self) {
        let mut backoff = Backoff::default();
        loop {
            let found = match self.stream.bounds().await {
                Ok(Some(bounds)) => self.first_height(bounds).await,
                Ok(None) => Ok(None),
                Err(error) => Err(error),
            };
            if let Ok(height) = &found {
                self.archive.set_first_height(*height);
            }
            match found {
                Ok(Some(_)) => {
                    backoff.reset();
                    sleep(FIRST_HEIGHT_EVERY).await;
                }
                Ok(None) => sleep(backoff.next(fastrand::f64())).await,
                Err(reason) => {
                    // What was known stays: while the broker is away it is still the best guess.
                    debug!(%reason, "cannot tell where the stream begins");
                    sleep(backoff.next(fastrand::f64())).await;
                }
            }
        }
    }

    /// The first height in the stream, as its first messages show it; none when none of them is a
    /// block.
    async fn first_height(&self, bounds: Bounds) -> Result<Option<u64>, ReadError> {
        let heights = self.heights(bounds.first).await?;
        let apart = match self.blocks.heights {
            Heights::Dense => APART_MAX,
            Heights::Sparse => self.blocks.jump_max,
        };
        let height = search::lowest(heights, apart);
        self.archive.set_first_height(height);
        Ok(height)
    }

    /// The heights of some messages from `offset` on.
    async fn heights(&self, offset: u64) -> Result<Vec<u64>, ReadError> {
        let mut heights = Vec::new();
        for message in self.stream.peek(offset).await? {
            heights.extend(self.height_of(&message));
            // A small packed one can be a large one to look through.
            tokio::task::yield_now().await;
        }
        Ok(heights)
    }

    fn height_of(&self, message: &Message) -> Option<u64> {
        let bytes_max = self.decode_rules.body_bytes_max;
        block::packed_height_of(&message.body, &message.packing, bytes_max)
    }
}

#[cfg(test)]
mod tests;
