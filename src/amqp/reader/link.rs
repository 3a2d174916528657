//! What all readings share: a connection that is made when somebody first reads, what is known of
//! unreadable entries, and the words for what is read or is not.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use lapin::types::ShortString;
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, timeout};
use tracing::debug;

use super::channels::{Channels, Slot};

use crate::amqp::connection::Connection;
use crate::amqp::consumer::{self, Consumer, ConsumerEnd, ConsumerStart, Consuming, ProbeError};
use crate::amqp::delivery::packing_of;
use crate::amqp::keeper::{Keeper, KeeperFailure};
use crate::amqp::precedence::Precedence;
use crate::amqp::request::BrokerError;
use crate::amqp::unreadable::UnreadableEntries;
use crate::amqp::unreadable::prover::Question;
use crate::config;
use crate::metrics::Metrics;
use crate::packing::Packing;

/// How long a message may take that is known to be there; the broker may have to read its disk.
pub const MESSAGE_WITHIN: Duration = Duration::from_secs(5);

/// A message of the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    pub offset: u64,
    /// As it came, packed or not.
    pub body: Vec<u8>,
    pub packing: Packing,
}

/// The offset of the stream's first message, and of the first message in its last chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    pub first: u64,
    pub last: u64,
}

/// Why the stream is not read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// There is no such stream. It may come again, with other content.
    #[error("the stream is not there: {0}")]
    Missing(String),
    #[error("{}", consumer::NOT_A_STREAM)]
    NotAStream,
    /// The readings' connection may have no further channel. Try again when another reading has ended.
    #[error("{0}")]
    Busy(String),
    /// The broker refused, hangs or is gone. Try again; the next attempt waits for another
    /// connection if need be.
    #[error("{0}")]
    Lost(String),
}

/// What all readings of one reader have.
pub struct Link {
    pub config: Arc<config::Amqp>,
    pub queue: ShortString,
    pub keeper: Keeper,
    pub precedence: Arc<Precedence>,
    pub unreadable: Arc<UnreadableEntries>,
    pub metrics: Arc<Metrics>,
    pub channels: Arc<Channels>,
    pub questions: mpsc::Sender<Question>,
    /// Notified by who reads and has no connection. The dialer waits for it.
    pub wanted: Notify,
    /// Set when the last connection's broker did not serve.
    pub is_unfit: AtomicBool,
}

impl Link {
    /// A keeper for one reading, which connects after the feed too.
    pub fn keeper_apart(&self) -> Result<Keeper, ReadError> {
        let keeper = Keeper::beside(Arc::clone(&self.config), Arc::clone(&self.precedence));
        let keeper = keeper.map_err(|error| ReadError::Lost(error.to_string()))?;
        Ok(keeper.with_small_frames().counting(Arc::clone(&self.metrics)))
    }

    /// Never ends by itself.
    pub async fn keep_connected(&self) {
        loop {
            tokio::select! {
                () = self.connect_when_wanted() => {}
                () = self.keeper.give_way() => {
                    // What was asked meanwhile has been dropped: who waits is woken, and asks again.
                    drop(self.keeper.take());
                }
            }
        }
    }

    async fn connect_when_wanted(&self) {
        let Self { keeper, wanted, is_unfit, .. } = self;
        wanted.notified().await;
        if keeper.current().is_some() {
            return;
        }
        if keeper.connections() > 0 {
            let is_unfit = is_unfit.swap(false, Ordering::Relaxed);
            let failure = if is_unfit { KeeperFailure::Unfit } else { KeeperFailure::Lost };
            keeper.rest(failure).await;
        }
        let connection = loop {
            match keeper.connection().await {
                Ok(connection) => break connection,
                Err(reason) => debug!(%reason, "no broker to read back from"),
            }
            keeper.rest(KeeperFailure::Unfit).await;
        };
        self.metrics.deep_read_connections.inc();
        debug!(address = %connection.address(), "connected for reading back");
    }

    /// An open connection, waited for.
    pub async fn connection(&self) -> Arc<Connection> {
        let mut made = self.keeper.subscribe();
        loop {
            made.mark_unchanged();
            if let Some(connection) = self.keeper.current() {
                return connection;
            }
            self.wanted.notify_one();
            if made.changed().await.is_err() {
                unreachable!("bug: the link, which this holds, has the sender");
            }
        }
    }

    pub async fn consumer(
        &self,
        on: &Connection,
        start: ConsumerStart,
        prefetch: u16,
    ) -> Result<(Consumer, Slot), BrokerError> {
        let consuming = Consuming { queue: &self.queue, prefetch, start: Some(start) };
        let slot = self.slot()?;
        Ok((Consumer::open(on, consuming).await?, slot))
    }

    /// How many messages the broker counts in the stream.
    pub async fn count(&self, on: &Connection) -> Result<u32, BrokerError> {
        let _slot = self.slot()?;
        consumer::count(on, &self.queue).await
    }

    /// A slot for one channel.
    fn slot(&self) -> Result<Slot, BrokerError> {
        self.metrics.deep_read_channels.inc();
        self.channels.take(Instant::now()).ok_or_else(BrokerError::no_channel)
    }

    pub async fn offset_at(
        &self,
        on: &Connection,
        start: ConsumerStart,
        within: Duration,
    ) -> Result<Option<u64>, ProbeError> {
        let (mut consumer, _slot) = self.consumer(on, start, 1).await?;
        let first = timeout(within, consumer.next()).await;
        consumer.close().await;
        let Ok(first) = first else { return Ok(None) };
        let offset = consumer::offset_of(&first?.properties).ok_or(ProbeError::NotAStream)?;
        Ok(Some(offset))
    }

    /// A connection that failed is not used again, and its broker passed over, unless only the
    /// stream is missing, or a channel for one more: that ends nobody else's reading.
    pub fn failed(&self, on: &Arc<Connection>, error: ProbeError) -> ReadError {
        let is_brokers = match &error {
            ProbeError::NotAStream => false,
            ProbeError::ConsumerEnd(ended) if ended.is_unreadable() => {
                self.unreadable.set_met();
                true
            }
            // The queue was deleted, or its node is going down: the next attempt tells.
            ProbeError::ConsumerEnd(ConsumerEnd::Cancelled) => false,
            _ => true,
        };
        let is_too_many = error.is_too_many_channels();
        let error = ReadError::of(&error);
        if matches!(error, ReadError::Busy(_)) {
            self.metrics.deep_reads_busy.inc();
        }
        let is_brokers = is_brokers && !matches!(error, ReadError::Missing(_) | ReadError::Busy(_));
        if is_brokers && self.keeper.take_this(on) {
            // The next broker of a cluster allows no more.
            match is_too_many {
                true => self.channels.was_one_too_many(Instant::now()),
                false => self.is_unfit.store(true, Ordering::Relaxed),
            }
        }
        error
    }
}

impl ReadError {
    pub(super) fn of(error: &ProbeError) -> Self {
        match error {
            ProbeError::NotAStream => Self::NotAStream,
            // "no queue 'x' in vhost '/'"; a node that is down answers 404 too.
            ProbeError::Refused(error)
                if error.code() == Some(404) && error.reply().contains("no queue") =>
            {
                Self::Missing(error.reply())
            }
            ProbeError::Refused(error) if error.is_out_of_channels() => {
                Self::Busy(error.to_string())
            }
            error => Self::Lost(error.to_string()),
        }
    }
}

impl Message {
    /// None when it does not come from a stream.
    pub(in crate::amqp) fn of(message: lapin::message::Delivery) -> Option<Self> {
        let offset = consumer::offset_of(&message.properties)?;
        let packing = packing_of(&message.properties);
        Some(Self { offset, body: message.data, packing })
    }
}
