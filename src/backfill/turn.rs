//! One ticket's turn: finds the place of the next height and reads from there, over lost brokers, until
//! the turn ends.

use std::convert::Infallible;
use std::hash::{DefaultHasher, Hasher};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tracing::debug;

use super::context::{BackfillContext, HeldUp};
use super::known::{Ends, Known};
use super::output::TicketOutput;
use super::pace::ReadPace;
use super::passage::{Passage, PassageStart};
use super::search;
use super::stop::Stop;
use super::stream::{ReadableStream, StreamMessages};
use crate::amqp::{Bounds, Message, ReadError};
use crate::backoff::Backoff;
use crate::tickets::{CalledTicket, TicketState};

/// Three times what the source takes at most to find that a stream was made anew.
const ANEW_WAIT: Duration = Duration::from_secs(15);
/// Until a reading that had no channel tries again: others' searches have them for a moment only.
const CHANNEL_WAIT_MAX: Duration = Duration::from_millis(500);
/// How long nothing may come of what is known to be there. Far above what a large body takes.
const SILENT_AFTER: Duration = Duration::from_secs(60);
/// A stream whose last message was read and that yields nothing for so long is at its end; also how
/// late it is noticed that others wait.
const QUIET: Duration = Duration::from_secs(1);

/// Reads for a ticket until its turn ends or its session has gone.
pub async fn serve<S: ReadableStream>(
    context: Arc<BackfillContext<S>>,
    ticket: CalledTicket,
    waiting: watch::Receiver<usize>,
) {
    let dropped = ticket.dropped();
    let output = TicketOutput::new(&context, ticket, waiting);
    let pace = ReadPace::new(Instant::now());
    let mut turn = TicketTurn { output, last: None, pace, held_up: None };
    let state = tokio::select! {
        () = dropped.cancelled() => return,
        state = turn.run() => state,
    };
    turn.output.end(state);
}

/// What lasts from one passage of a turn to the next.
struct TicketTurn<'a, S> {
    output: TicketOutput<'a, S>,
    last: Option<LastMessage>,
    pace: ReadPace,
    /// Set while there is no channel for it.
    held_up: Option<HeldUp>,
}

/// The last message read, to know the stream again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct LastMessage {
    offset: u64,
    body_hash: u64,
}

impl<S: ReadableStream> TicketTurn<'_, S> {
    /// Reads until the turn ends. The state is still to be told. Goes on over lost brokers.
    ///
    /// # Cancel safety
    /// Dropped, reading ends, and what was appended stays.
    async fn run(&mut self) -> TicketState {
        let mut backoff = Backoff::default();
        let mut place = None;
        loop {
            let from_height = self.output.next_height();
            let stop = match self.read(place.take()).await {
                Err(stop) => stop,
                Ok(never) => match never {},
            };
            let next_height = self.output.next_height();
            let reason = match stop {
                Stop::End(state) => return state,
                Stop::Led { offset } => {
                    let height = next_height;
                    debug!(height, offset, "found elsewhere than where it was looked for");
                    place = Some(offset);
                    continue;
                }
                Stop::Broken(ReadError::Lost(reason)) => {
                    self.output.context.known.forget();
                    reason
                }
                // The others have channels: one of them ends its turn for this one, as for one in line.
                Stop::Broken(ReadError::Busy(reason)) => {
                    self.held_up.get_or_insert_with(|| HeldUp::new(&self.output.context.held_up));
                    debug!(reason, next_height, "no channel for a deep read");
                    self.output.wait();
                    sleep(CHANNEL_WAIT_MAX.mul_f64(fastrand::f64())).await;
                    continue;
                }
                Stop::Broken(error @ (ReadError::Missing(_) | ReadError::NotAStream)) => {
                    debug!(%error, "nothing can be read back");
                    self.output.context.tickets.set_first_height(None);
                    return TicketState::NotAvailable { first_height: None };
                }
            };
            debug!(reason, next_height, "lost the broker in a deep read");
            self.output.wait();
            if next_height > from_height {
                backoff.reset();
            }
            sleep(backoff.next(fastrand::f64())).await;
        }
    }

    /// Reads from `place` on, or from where the next height is found.
    async fn read(&mut self, place: Option<u64>) -> Result<Infallible, Stop> {
        let (context, mark) = (self.output.context, self.output.context.known.mark());
        let mut known = context.known.recent().await;
        self.prove_same_stream().await?;
        if known.lacks(self.output.next_height()) {
            known = context.known.since(mark).await;
        }
        let first_height = known.ends.and_then(|ends| ends.first_height);
        let Some(Ends { bounds, .. }) = known.ends else {
            context.tickets.set_first_height(None);
            return Err(Stop::End(TicketState::NotAvailable { first_height }));
        };
        if known.lacks(self.output.next_height()) {
            return Err(Stop::End(TicketState::NotAvailable { first_height }));
        }
        let is_led = place.is_some();
        let place = match place {
            Some(place) => place,
            None => self.find(&known, bounds).await?,
        };
        let mut messages = context.stream.read_from(place).await?;
        self.held_up = None;
        self.output.begin();
        let start = PassageStart { bounds, place, is_led, mark: context.known.mark() };
        let mut passage = Passage::begin(start, &mut self.output, &mut self.pace);
        let mut heard_at = Instant::now();
        loop {
            passage.check_time()?;
            match timeout(QUIET, messages.next()).await {
                Ok(message) => {
                    let message = message?;
                    passage.check_place(&message).await?;
                    self.last = Some(LastMessage::of(&message));
                    passage.take(message).await?;
                    heard_at = Instant::now();
                }
                Err(_) => {
                    passage.check_quiet().await?;
                    if heard_at.elapsed() >= SILENT_AFTER {
                        passage.check_end().await?;
                        heard_at = Instant::now();
                    }
                }
            }
        }
    }

    /// Proves, after a lost broker, that this is still the same stream: the last message is where it
    /// was.
    ///
    /// A stream made anew may hold another chain. The source finds that out and tells this reading's
    /// client; it is given the time to.
    async fn prove_same_stream(&mut self) -> Result<(), Stop> {
        let Some(last) = self.last else { return Ok(()) };
        let offset = last.offset;
        let seen = self.output.context.stream.peek(offset).await?;
        if seen.first().map(LastMessage::of) == Some(last) {
            return Ok(());
        }
        debug!(offset, "the stream was made anew in a deep read");
        sleep(ANEW_WAIT).await;
        Err(Stop::End(TicketState::GivenUp))
    }

    /// Finds the place to read the next height from.
    async fn find(&self, known: &Known, bounds: Bounds) -> Result<u64, ReadError> {
        let (context, height) = (self.output.context, self.output.next_height());
        let began = Instant::now();
        let mut looks = 0;
        let place = search::place(height, (bounds.first, bounds.last), |offset| {
            looks += 1;
            context.highest_at(known, offset)
        });
        let place = place.await?;
        debug!(height, place, looks, taken = ?began.elapsed(), "found where to read back from");
        Ok(place)
    }
}

impl LastMessage {
    fn of(message: &Message) -> Self {
        // Of chance, not of an adversary: whoever makes a stream anew may write into it what he likes.
        let mut hasher = DefaultHasher::new();
        hasher.write(&message.body);
        Self { offset: message.offset, body_hash: hasher.finish() }
    }
}
