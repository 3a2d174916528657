//! The loop that attaches, reads, waits and begins again, with what it keeps from one attachment to the
//! next.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, sleep};
use tracing::{error, info, warn};

use super::interruption::{Interruption, Silence, SourceError};
use crate::amqp::Input;
use crate::amqp::connection::Connection;
use crate::amqp::keeper::{Keeper, KeeperFailure};
use crate::amqp::precedence::Precedence;
use crate::amqp::topology::{DeadLetterQueue, Topology};
use crate::amqp::unreadable::UnreadableEntries;
use crate::amqp::unreadable::lanes::Lanes;
use crate::config::{self, QueueMode};
use crate::metrics::Metrics;
use crate::operator_status::OperatorStatus;
use crate::readiness::{Readiness, State};

/// Reasons already logged since the last attachment: several brokers may fail each in its own way.
const REASONS_KEPT: usize = 8;
/// Reading goes well when it lasts so long without a 541. Longer than any wait between two attempts.
const WELL_AFTER: Duration = Duration::from_secs(60);

/// What the task keeps between attachments.
pub struct Feed {
    pub config: Arc<config::Amqp>,
    pub metrics: Arc<Metrics>,
    pub readiness: Arc<Readiness>,
    pub operator_status: Arc<OperatorStatus>,
    pub start_over: Arc<Notify>,
    pub inputs: mpsc::Sender<Input>,
    pub keeper: Keeper,
    pub topology: Topology,
    pub dead_letter_queue: Arc<DeadLetterQueue>,
    pub precedence: Arc<Precedence>,
    pub is_attached: bool,
    pub place: SourcePlace,
    /// The offset to be handed over before [`Input::CaughtUp`]; none once that has been said.
    pub tail: Option<u64>,
    /// Whether there is a tail to be reached whose offset is unknown.
    pub is_tail_unknown: bool,
    pub unreadable: Arc<UnreadableEntries>,
    pub lanes: Lanes,
    /// Set by a 541, until reading has gone well for a while.
    pub is_careful: bool,
    /// `queue` mode: when the broker said 541 last.
    pub queue_doubted: Option<Instant>,
    /// The offset that was seen behind unreadable entries, until it is taken.
    pub passed_over_at: Option<u64>,
}

/// How far reading has come.
pub enum SourcePlace {
    /// Nothing has been handed over: the start procedure comes next.
    Fresh,
    /// The stream was made anew, the pipeline knows it, and nothing of it has been handed over.
    Anew,
    /// The last message handed over. Its body is kept to know it again: one body, shared with the
    /// pipeline while that still has it.
    Taken { offset: u64, body: Bytes },
    /// `queue` mode: the broker knows the place.
    Queue,
}

impl Feed {
    pub async fn follow(&mut self) -> Result<(), SourceError> {
        let mut reported = VecDeque::new();
        loop {
            let interruption = match self.attach_and_read().await {
                Err(interruption) => interruption,
                Ok(never) => match never {},
            };
            match interruption {
                Interruption::Fatal(error) => return Err(error),
                Interruption::Abandoned => return Ok(()),
                Interruption::StartOver => {
                    info!("starting over, since another chain is published");
                    self.place = SourcePlace::Fresh;
                    self.tail = None;
                    self.is_tail_unknown = false;
                    continue;
                }
                interruption => {
                    let reason = interruption.to_string();
                    let failure = self.judge(&interruption);
                    let wait = self.keeper.failed(failure, fastrand::f64());
                    if self.is_attached {
                        let silence = interruption.silence();
                        let after_offset = silence.and_then(Silence::taken);
                        let end_offset = silence.and_then(Silence::end);
                        warn!(%reason, after_offset, end_offset, retry_in = ?wait, "lost the broker");
                        reported.clear();
                    } else if !reported.contains(&reason) {
                        warn!(%reason, "no broker to consume from; trying for ever");
                        reported.truncate(REASONS_KEPT - 1);
                        reported.push_front(reason);
                    }
                    self.detach().await;
                    sleep(wait).await;
                }
            }
        }
    }

    /// One attachment, from its connection to its end.
    async fn attach_and_read(&mut self) -> Result<Infallible, Interruption> {
        if self.is_careful {
            self.read_carefully().await?;
            self.is_careful = false;
        }
        let connection = self.connect().await?;
        let consumer = self.attach(&connection).await?;
        self.set_attached(&connection);
        let letters = Arc::clone(&self.dead_letter_queue);
        let precedence = Arc::clone(&self.precedence);
        let readiness = Arc::clone(&self.readiness);
        tokio::select! {
            ended = self.read(&connection, consumer) => ended,
            never = go_well(&readiness) => match never {},
            never = letters.look_after(&connection, &precedence) => match never {},
        }
    }

    /// What an interruption says of the broker. After a 541 another broker comes first: the fault may be
    /// the broker's and not the entry's. A silence is counted and told.
    fn judge(&mut self, interruption: &Interruption) -> KeeperFailure {
        if interruption.is_unreadable() {
            self.unreadable.set_met();
            match self.config.queue.mode {
                QueueMode::Stream => self.is_careful = true,
                QueueMode::Queue => self.doubt_queue(),
            }
            return KeeperFailure::Unfit;
        }
        if let Some(silence) = interruption.silence() {
            self.metrics.amqp_silences.inc();
            self.operator_status.record_silence(silence.taken(), silence.end());
        }
        match interruption {
            Interruption::Contradiction | Interruption::Silent(_) => KeeperFailure::Unfit,
            _ if self.is_attached => KeeperFailure::Lost,
            _ => KeeperFailure::Unfit,
        }
    }

    /// In a queue nothing can be passed over: the message stays the next one until it is taken out.
    fn doubt_queue(&mut self) {
        let met_at = Instant::now();
        let before = self.queue_doubted.replace(met_at);
        if before.is_none_or(|before| met_at - before > WELL_AFTER) {
            return;
        }
        if self.readiness.state() != State::Unreadable {
            let queue = self.topology.queue().as_str();
            error!(
                queue,
                "the broker cannot hand over the next message of the queue (541); nothing behind it comes until it is taken out (by basic.get with automatic acks, up to the one that is answered with 541) or the queue is purged"
            );
        }
        self.readiness.set_before_unreadable(true);
    }

    pub async fn connect(&mut self) -> Result<Arc<Connection>, Interruption> {
        let connections = self.keeper.connections();
        let connection = self.keeper.connection().await;
        self.precedence.set_feed_connected(connection.is_ok());
        let connection = connection?;
        if connections > 0 && self.keeper.connections() > connections {
            self.metrics.amqp_reconnects.inc();
        }
        Ok(connection)
    }

    pub async fn send(&self, input: Input) -> Result<(), Interruption> {
        self.inputs.send(input).await.map_err(|_| Interruption::Abandoned)
    }

    pub fn set_attached(&mut self, connection: &Connection) {
        let offset = match &self.place {
            SourcePlace::Taken { offset, .. } => Some(offset),
            SourcePlace::Fresh | SourcePlace::Anew | SourcePlace::Queue => None,
        };
        let queue = self.topology.queue().as_str();
        info!(queue, after_offset = offset, address = %connection.address(), "consuming");
        self.is_attached = true;
        self.metrics.amqp_connected.set(1);
        self.readiness.set_connected(true);
    }

    /// Ends in good order. What only this replica needed at the broker is deleted.
    pub async fn leave(&mut self) {
        if self.is_attached
            && let Some(connection) = self.keeper.current()
            && let Err(error) = self.topology.leave(&connection).await
        {
            warn!(%error, "the queue stays until amqp.queue.expires");
        }
        self.detach().await;
    }

    async fn detach(&mut self) {
        self.is_attached = false;
        self.metrics.amqp_connected.set(0);
        self.readiness.set_connected(false);
        self.keeper.close().await;
    }
}

/// Says after a while of ordinary reading that it stands before nothing unreadable. Then it waits for
/// ever.
async fn go_well(readiness: &Readiness) -> Infallible {
    sleep(WELL_AFTER).await;
    readiness.set_before_unreadable(false);
    std::future::pending().await
}
