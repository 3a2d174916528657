//! The context of all readings: their stream and rules, and what one has learnt for the others.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};
use tracing::debug;

use super::heights::Scanned;
use super::known::{Ends, Known, KnownStream};
use super::pace::LookPace;
use super::search;
use super::stream::ReadableStream;
use crate::amqp::{Message, ReadError};
use crate::backoff::Backoff;
use crate::block;
use crate::config::{Blocks, Heights, Hold};
use crate::metrics::Metrics;
use crate::sequence::SequenceRules;
use crate::tickets::Tickets;

/// How often it is asked where the RabbitMQ stream begins and ends.
const ASKED_EVERY: Duration = Duration::from_secs(30);
/// What one reading may hold back behind a missing height, beside `blocks.hold_bytes`.
const HOLD_BYTES_MAX: u64 = 16 << 20;
/// A missing height is waited for during so many messages: several times what a few producers of
/// small blocks are ahead of each other, and a second's reading.
pub const HOLD_MESSAGES: u32 = 4_096;
/// What the sequencer's clock advances by with each message: no time passes in what is read back.
pub const TICK: Duration = Duration::from_millis(1);
/// In dense heights, how far the lowest of a stream's first messages may be below the next.
const APART_MAX: u64 = 64;

/// What every reading works with.
pub struct BackfillContext<S> {
    pub stream: S,
    pub tickets: Arc<Tickets>,
    pub metrics: Arc<Metrics>,
    pub blocks: Blocks,
    pub decode_rules: block::DecodeRules,
    pub sequence_rules: SequenceRules,
    /// What readings have learnt of the stream's older part, for each other.
    pub scanned: Mutex<Arc<Scanned>>,
    pub known: KnownStream,
    /// Of all searches.
    pub look_pace: Mutex<LookPace>,
    /// Turns that have begun and wait for a channel.
    pub held_up: Arc<AtomicUsize>,
}

/// A turn that waits for a channel, until this is dropped.
pub struct HeldUp(Arc<AtomicUsize>);

impl<S: ReadableStream> BackfillContext<S> {
    /// Asks what is known of the stream, again and again, and when somebody wants to know.
    pub async fn keep_known(&self) {
        let mut backoff = Backoff::default();
        loop {
            let (number, asked_at) = (self.known.begin(), Instant::now());
            let rest = match self.ask().await {
                Ok(ends) => {
                    let first_height = ends.and_then(|ends| ends.first_height);
                    self.tickets.set_first_height(first_height);
                    self.known.tell(number, asked_at, ends);
                    match first_height {
                        Some(_) => {
                            backoff.reset();
                            ASKED_EVERY
                        }
                        None => backoff.next(fastrand::f64()),
                    }
                }
                // The first height that was known stays: while the broker is away it is still the best
                // guess.
                Err(reason @ (ReadError::Missing(_) | ReadError::NotAStream)) => {
                    debug!(%reason, "nothing can be read back");
                    self.known.tell(number, asked_at, None);
                    backoff.next(fastrand::f64())
                }
                Err(reason @ (ReadError::Lost(_) | ReadError::Busy(_))) => {
                    debug!(%reason, "cannot tell where the stream begins");
                    sleep(backoff.next(fastrand::f64())).await;
                    continue;
                }
            };
            tokio::select! {
                () = sleep(rest) => {}
                () = self.known.wanted_after(number) => {}
            }
        }
    }

    /// Asks where the stream begins and ends; none when it is empty. Its first height is as its first
    /// messages show it.
    async fn ask(&self) -> Result<Option<Ends>, ReadError> {
        let Some(bounds) = self.stream.bounds().await? else { return Ok(None) };
        let heights = self.heights(bounds.first).await?;
        let apart = match self.blocks.heights {
            Heights::Dense => APART_MAX,
            Heights::Sparse => self.blocks.jump_max,
        };
        Ok(Some(Ends { bounds, first_height: search::lowest(heights, apart) }))
    }

    /// The highest height among some messages from `offset` on, for a search; as another search has
    /// seen it, if one has.
    pub async fn highest_at(&self, known: &Known, offset: u64) -> Result<Option<u64>, ReadError> {
        if let Some(highest) = known.seen_at(offset) {
            return Ok(highest);
        }
        let due = self.looks().take(Instant::now());
        sleep_until(due).await;
        let highest = self.heights(offset).await?.into_iter().max();
        known.keep_look(offset, highest);
        Ok(highest)
    }

    fn looks(&self) -> MutexGuard<'_, LookPace> {
        self.look_pace.lock().expect("bug: nothing panics while it holds this lock")
    }

    /// The heights of some messages from `offset` on.
    pub async fn heights(&self, offset: u64) -> Result<Vec<u64>, ReadError> {
        let mut heights = Vec::new();
        for message in self.stream.peek(offset).await? {
            heights.extend(self.height_of(&message));
            // A small packed one can be a large one to look through.
            tokio::task::yield_now().await;
        }
        Ok(heights)
    }

    pub fn height_of(&self, message: &Message) -> Option<u64> {
        let bytes_max = self.decode_rules.body_bytes_max;
        block::packed_height_of(&message.body, &message.packing, bytes_max)
    }
}

impl HeldUp {
    pub fn new(counted: &Arc<AtomicUsize>) -> Self {
        counted.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(counted))
    }
}

impl Drop for HeldUp {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The rules by which readings put blocks in order: the pipeline's, with messages in the place of time.
pub fn sequence_rules(blocks: &Blocks) -> SequenceRules {
    SequenceRules {
        heights: blocks.heights,
        hold: match blocks.hold {
            Hold::For(_) => Hold::For(TICK * HOLD_MESSAGES),
            Hold::Forever => Hold::Forever,
        },
        hold_bytes: blocks.hold_bytes.as_u64().min(HOLD_BYTES_MAX),
        jump_max: blocks.jump_max,
        doubt: None,
    }
}
