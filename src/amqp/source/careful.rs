//! Careful reading, after the broker ended an attachment with 541.
//!
//! Its prefetch is 1, so that everything comes that lies before an entry that the broker cannot hand
//! over. That entry is passed over once it is proven to be one. When careful reading has gone well for a
//! while, ordinary reading begins again.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout};
use tracing::info;

use super::attach::Echoed;
use super::feed::{Feed, SourcePlace};
use super::interruption::Interruption;
use crate::amqp::connection::Connection;
use crate::amqp::consumer::{self, Consumer, ConsumerStart};
use crate::amqp::unreadable::look::{COUNTED_WITHIN, SHOWN_WITHIN, first_unreadable, look};
use crate::amqp::unreadable::proof::{Conclusion, Proof, ProofLook};
use crate::amqp::{Delivery, Input};

/// So many messages without a 541, and ordinary reading begins again.
const CAREFUL_MESSAGES: u32 = 1_000;
/// The same for a stream that is quiet for so long.
const CAREFUL_QUIET: Duration = Duration::from_secs(60);
/// Where the tail is unknown, it counts as reached when nothing comes for so long.
const CAUGHT_UP_AFTER: Duration = Duration::from_secs(1);
/// An unknown tail is asked for again after so long: another chunk may be the last by then.
const TAIL_UNKNOWN_MAX: Duration = Duration::from_secs(5);
/// How long the first look at a stream's end waits for what is published behind an unreadable entry.
/// Then it attaches again.
const STANDING: Duration = Duration::from_secs(60);

/// A consumer and what it consumes over.
type Attached = (Arc<Connection>, Consumer);

impl Feed {
    /// Reads, and passes over entries that cannot be read, until ordinary reading can go on from there.
    pub async fn read_carefully(&mut self) -> Result<(), Interruption> {
        let connection = self.connect().await?;
        self.ensure_topology(&connection).await?;
        let (mut attached, mut start) = self.begin_carefully(connection).await?;
        loop {
            let taken = self.taken();
            let letters = Arc::clone(&self.dead_letter_queue);
            let precedence = Arc::clone(&self.precedence);
            let (connection, consumer) = attached;
            let ended = tokio::select! {
                ended = self.read_some(consumer) => ended,
                never = letters.look_after(&connection, &precedence) => match never {},
            };
            let ended = match ended {
                Err(ended) if ended.is_unreadable() => ended,
                done => return done,
            };
            if self.passed_over_at.is_some() && self.taken() == taken {
                // The message behind an unreadable entry was just seen, and is not there now.
                return Err(ended);
            }
            self.unreadable.set_met();
            let from = match (self.taken(), start) {
                (Some(taken), _) => taken + 1,
                (None, ConsumerStart::Offset(offset)) => offset,
                (None, ConsumerStart::First | ConsumerStart::LastChunk) => {
                    self.first_unreadable().await?
                }
            };
            start = ConsumerStart::Offset(self.pass_over(from).await?);
            attached = self.open_carefully(start).await?;
        }
    }

    /// A consumer at the place where reading goes on.
    async fn begin_carefully(
        &mut self,
        connection: Arc<Connection>,
    ) -> Result<(Attached, ConsumerStart), Interruption> {
        self.passed_over_at = None;
        let start = match &self.place {
            SourcePlace::Taken { offset, .. } => {
                let offset = *offset;
                match self.echo(&connection, 1).await {
                    Ok(Echoed::Same(consumer)) => {
                        self.set_attached(&connection);
                        self.unreadable.set_last_taken(offset);
                        return Ok(((connection, *consumer), ConsumerStart::Offset(offset)));
                    }
                    Ok(Echoed::Other(found)) => self.say_anew(found).await?,
                    Err(error) if error.is_unreadable() => {
                        // It could be read before.
                        let readable = self.pass_over(offset).await?;
                        if readable == offset {
                            return Err(error);
                        }
                        self.passed_over_at = None;
                        self.say_anew("an entry that cannot be read in its place").await?;
                    }
                    Err(error) => return Err(error),
                }
                self.is_tail_unknown = true;
                ConsumerStart::First
            }
            SourcePlace::Anew => {
                self.is_tail_unknown = true;
                ConsumerStart::First
            }
            SourcePlace::Fresh | SourcePlace::Queue => self.begin_afresh(&connection).await?,
        };
        Ok((self.open_carefully(start).await?, start))
    }

    /// The start procedure where the tail may be unreadable. Then the first offset and the broker's count
    /// of messages tell where the end is.
    async fn begin_afresh(
        &mut self,
        connection: &Connection,
    ) -> Result<ConsumerStart, Interruption> {
        let counted = consumer::count(connection, self.topology.queue()).await;
        let counted = counted.map_err(|error| self.refused(error))?;
        let first = match self.look(ConsumerStart::First, consumer::first_within(counted)).await? {
            ProofLook::Read(first) => first,
            ProofLook::Unreadable => {
                let from = self.first_unreadable().await?;
                self.pass_over(from).await?
            }
            ProofLook::Silent => {
                self.tail = None;
                self.send(Input::Begin { from_first: true }).await?;
                self.send(Input::CaughtUp).await?;
                return Ok(ConsumerStart::First);
            }
        };
        let end = match self.look(ConsumerStart::LastChunk, SHOWN_WITHIN).await? {
            ProofLook::Read(last) => last,
            ProofLook::Unreadable | ProofLook::Silent => first.saturating_add(counted.into()),
        };
        let mut start = end.saturating_sub(self.config.queue.warm_up).max(first);
        // The broker's count lags: a place past the end would be mute.
        if start > first
            && self.look(ConsumerStart::Offset(start), COUNTED_WITHIN).await? == ProofLook::Silent
        {
            start = first;
        }
        self.passed_over_at = None;
        self.send(Input::Begin { from_first: start == first }).await?;
        self.tail = None;
        self.is_tail_unknown = true;
        Ok(ConsumerStart::Offset(start))
    }

    async fn open_carefully(&mut self, start: ConsumerStart) -> Result<Attached, Interruption> {
        let connection = self.connect().await?;
        let consumer = self.consume(&connection, start, 1).await?;
        if !self.is_attached {
            self.set_attached(&connection);
        }
        Ok((connection, consumer))
    }

    /// Hands messages on, until that has gone well for a while.
    async fn read_some(&mut self, mut consumer: Consumer) -> Result<(), Interruption> {
        let began = Instant::now();
        for _ in 0..CAREFUL_MESSAGES {
            let wait = match (self.passed_over_at, self.is_tail_unknown) {
                (Some(_), _) => SHOWN_WITHIN,
                (None, true) => CAUGHT_UP_AFTER,
                (None, false) => CAREFUL_QUIET,
            };
            let message = tokio::select! {
                biased;
                () = self.start_over.notified() => {
                    consumer.close().await;
                    return Err(Interruption::StartOver);
                }
                message = timeout(wait, consumer.next()) => message,
            };
            match (message, self.passed_over_at) {
                (Ok(message), due) => {
                    let delivery = Delivery::from_broker(message?);
                    if due.is_some_and(|due| delivery.offset != Some(due)) {
                        return Err(Interruption::Contradiction);
                    }
                    self.hand_on(delivery).await?;
                    self.passed_over_at = None;
                    self.readiness.set_before_unreadable(false);
                    if let Some(taken) = self.taken() {
                        self.unreadable.set_last_taken(taken);
                    }
                }
                (Err(_), Some(_)) => return Err(Interruption::Contradiction),
                (Err(_), None) => {
                    // Nothing unreadable lies behind what was taken.
                    self.readiness.set_before_unreadable(false);
                    if std::mem::take(&mut self.is_tail_unknown) {
                        self.send(Input::CaughtUp).await?;
                    } else if self.taken().is_some() {
                        break;
                    }
                }
            }
            if self.is_tail_unknown && self.taken().is_some() && began.elapsed() > TAIL_UNKNOWN_MAX
            {
                break;
            }
        }
        consumer.close().await;
        Ok(())
    }

    /// Proves which entries from this offset on cannot be read. Returns the first offset that can be, and
    /// waits while there is none.
    async fn pass_over(&mut self, from: u64) -> Result<u64, Interruption> {
        self.keeper.close().await;
        self.lanes.follow(&self.keeper);
        let mut proof = Proof::of(from);
        let readable = loop {
            let within = if proof.is_second_pass() { SHOWN_WITHIN } else { STANDING };
            let advanced = tokio::select! {
                biased;
                () = self.start_over.notified() => return Err(Interruption::StartOver),
                advanced = self.lanes.advance(&mut proof, within) => advanced,
            };
            if proof.next() > from || proof.is_second_pass() {
                self.readiness.set_before_unreadable(true);
            }
            match advanced.map_err(|error| self.probe_failed(error))?.0 {
                Conclusion::Open => {}
                Conclusion::Contradiction => return Err(Interruption::Contradiction),
                Conclusion::Proven(cleared) => break cleared.readable,
            }
        };
        self.lanes.close().await;
        info!(from_offset = from, to_offset = readable, "reading goes on carefully");
        self.passed_over_at = Some(readable);
        Ok(readable)
    }

    async fn first_unreadable(&self) -> Result<u64, Interruption> {
        let found = first_unreadable(&self.keeper, self.topology.queue()).await;
        found.map_err(|error| self.probe_failed(error))
    }

    async fn look(
        &self,
        start: ConsumerStart,
        within: Duration,
    ) -> Result<ProofLook, Interruption> {
        let seen = tokio::select! {
            biased;
            () = self.start_over.notified() => return Err(Interruption::StartOver),
            seen = look(&self.keeper, self.topology.queue(), start, within) => seen,
        };
        seen.map_err(|error| self.probe_failed(error))
    }

    fn taken(&self) -> Option<u64> {
        match &self.place {
            SourcePlace::Taken { offset, .. } => Some(*offset),
            SourcePlace::Fresh | SourcePlace::Anew | SourcePlace::Queue => None,
        }
    }
}
