//! Reading the RabbitMQ stream at places, over a connection of its own that is made when somebody
//! first reads: where it begins and ends, a few messages from a place, all from a place on.
//!
//! While the stream is suspected of entries that the broker cannot hand over, each reading has a
//! connection of its own ([`apart`]).
//!
//! Nothing is settled here that anybody waits for: acks are only credit. What the messages say, and
//! which place is the right one, is decided elsewhere.

mod apart;
mod shared;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use lapin::types::ShortString;
use tokio::sync::{Notify, mpsc};
use tokio::time::timeout;
use tracing::debug;

use super::connection::Connection;
use super::consumer::{self, Consumer, ConsumerEnd, ConsumerStart, Consuming, ProbeError};
use super::keeper::{Keeper, KeeperFailure};
use super::precedence::Precedence;
use super::topology::Topology;
use super::unreadable::UnreadableEntries;
use super::unreadable::lanes::Lanes;
use super::unreadable::prover::{Prover, Question};
use super::{BrokerError, SourceError};
use crate::config;
use crate::metrics::Metrics;
use crate::packing::Packing;
use apart::Apart;
use shared::Shared;

/// Messages that one look yields at most: a chunk of a quiet stream, and enough that the copies of
/// several producers do not hide the highest of them.
const PEEKED_MAX: usize = 32;
/// Bytes after which a look has seen enough.
const PEEKED_BYTES_MAX: usize = 1 << 20;
/// How long a message may take that is known to be there; the broker may have to read its disk.
const MESSAGE_WITHIN: Duration = Duration::from_secs(5);

/// Questions for proofs that wait. Far above the readings that there are at a time.
const QUESTIONS_MAX: usize = 64;

/// Reads the stream; all who read share one connection, unless they read apart.
#[derive(Clone)]
pub struct Reader {
    link: Arc<Link>,
}

/// Makes the readers' connection, and another when that is lost, and proves what cannot be read.
pub struct Dialer {
    link: Arc<Link>,
    prover: Prover,
}

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

/// Messages from a place on, until this is dropped.
pub struct Messages(Way);

enum Way {
    Shared(Box<Shared>),
    Apart(Apart),
}

/// Why the stream is not read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// There is no such stream. It may come again, with other content.
    #[error("the stream is not there: {0}")]
    Missing(String),
    #[error("{}", consumer::NOT_A_STREAM)]
    NotAStream,
    /// The broker refused, hangs or is gone. Try again; the next attempt waits for another
    /// connection if need be.
    #[error("{0}")]
    Lost(String),
}

struct Link {
    config: Arc<config::Amqp>,
    queue: ShortString,
    keeper: Keeper,
    precedence: Arc<Precedence>,
    unreadable: Arc<UnreadableEntries>,
    metrics: Arc<Metrics>,
    questions: mpsc::Sender<Question>,
    /// Notified by who reads and has no connection. The dialer waits for it.
    wanted: Notify,
    /// Set when the last connection's broker did not serve.
    is_unfit: AtomicBool,
}

impl Reader {
    /// A reader that waits for no feed, and what connects it.
    ///
    /// # Errors
    /// The configuration must be mended, as [`super::Source::run`] says too.
    pub fn new(config: Arc<config::Amqp>) -> Result<(Self, Dialer), SourceError> {
        let metrics = Arc::new(Metrics::new());
        let unreadable = UnreadableEntries::new(Arc::clone(&metrics), Arc::default());
        Self::after(config, Arc::new(Precedence::none()), (Arc::new(unreadable), metrics))
    }

    /// A reader that connects when the source of this link has, and what connects it.
    ///
    /// # Errors
    /// As those of [`Self::new`].
    pub fn beside(
        config: Arc<config::Amqp>,
        link: &super::SourceLink,
    ) -> Result<(Self, Dialer), SourceError> {
        let told = (Arc::clone(&link.unreadable), Arc::clone(&link.metrics));
        Self::after(config, Arc::clone(&link.precedence), told)
    }

    fn after(
        config: Arc<config::Amqp>,
        precedence: Arc<Precedence>,
        (unreadable, metrics): (Arc<UnreadableEntries>, Arc<Metrics>),
    ) -> Result<(Self, Dialer), SourceError> {
        let queue = Topology::new(Arc::clone(&config))?.queue().clone();
        let (questions, asked) = mpsc::channel(QUESTIONS_MAX);
        let prover = Prover {
            lanes: Lanes::new(&config, &precedence, queue.clone(), Arc::clone(&unreadable))?,
            precedence: Arc::clone(&precedence),
            questions: asked,
        };
        let keeper = Keeper::beside(Arc::clone(&config), Arc::clone(&precedence))?;
        let link = Arc::new(Link {
            keeper: keeper.counting(Arc::clone(&metrics)),
            config,
            queue,
            precedence,
            unreadable,
            metrics,
            questions,
            wanted: Notify::new(),
            is_unfit: AtomicBool::new(false),
        });
        Ok((Self { link: Arc::clone(&link) }, Dialer { link, prover }))
    }

    /// Where the stream begins and ends; none when it is empty. Waits for a broker as long as it
    /// takes; then 20 to 50 ms, and for an empty stream a second.
    pub async fn bounds(&self) -> Result<Option<Bounds>, ReadError> {
        if self.link.unreadable.is_suspect() {
            return apart::bounds(&self.link).await;
        }
        let connection = self.connection().await;
        let look = async {
            let counted = consumer::count(&connection, &self.link.queue).await?;
            let within = consumer::first_within(counted);
            let Some(first) = self.offset_at(&connection, ConsumerStart::First, within).await?
            else {
                return Ok(None);
            };
            let last =
                self.offset_at(&connection, ConsumerStart::LastChunk, MESSAGE_WITHIN).await?;
            Ok(Some(Bounds { first, last: last.unwrap_or(first) }))
        };
        look.await.map_err(|error| self.failed(&connection, error))
    }

    /// The messages from `offset` on: at most [`PEEKED_MAX`], or about a mebibyte; none when there
    /// is none within a few seconds. Takes 14 to 24 ms, and 150 ms more at the stream's end.
    pub async fn peek(&self, offset: u64) -> Result<Vec<Message>, ReadError> {
        let mut messages = self.read_from(offset).await?;
        let (mut seen, mut bytes, mut within) = (Vec::new(), 0, MESSAGE_WITHIN);
        while seen.len() < PEEKED_MAX && bytes < PEEKED_BYTES_MAX {
            let Ok(message) = timeout(within, messages.next()).await else { break };
            let message = message?;
            bytes += message.body.len();
            seen.push(message);
            within = consumer::QUIET;
        }
        Ok(seen)
    }

    /// All messages from `offset` on, or from the first behind it. An offset below the stream's
    /// first begins at that.
    pub async fn read_from(&self, offset: u64) -> Result<Messages, ReadError> {
        if self.link.unreadable.is_suspect() {
            return Ok(Messages(Way::Apart(Apart::from(&self.link, offset)?)));
        }
        Ok(Messages(Way::Shared(Box::new(Shared::from(self, offset).await?))))
    }

    /// Gives the connection up, from which nothing comes any more though it lives: all that is read over it
    /// ends, and the next broker comes first.
    pub fn give_up(&self) {
        if self.link.keeper.take().is_some() {
            self.link.is_unfit.store(true, Ordering::Relaxed);
        }
    }

    /// Says goodbye to the broker, for at most two seconds.
    pub async fn close(&self) {
        self.link.keeper.close().await;
    }

    /// An open connection, waited for.
    async fn connection(&self) -> Arc<Connection> {
        let mut made = self.link.keeper.subscribe();
        loop {
            made.mark_unchanged();
            if let Some(connection) = self.link.keeper.current() {
                return connection;
            }
            self.link.wanted.notify_one();
            if made.changed().await.is_err() {
                unreachable!("bug: the link, which this holds, has the sender");
            }
        }
    }

    async fn consumer(
        &self,
        on: &Connection,
        start: ConsumerStart,
        prefetch: u16,
    ) -> Result<Consumer, BrokerError> {
        let consuming = Consuming { queue: &self.link.queue, prefetch, start: Some(start) };
        Consumer::open(on, consuming).await
    }

    async fn offset_at(
        &self,
        on: &Connection,
        start: ConsumerStart,
        within: Duration,
    ) -> Result<Option<u64>, ProbeError> {
        let mut consumer = self.consumer(on, start, 1).await?;
        let first = timeout(within, consumer.next()).await;
        consumer.close().await;
        let Ok(first) = first else { return Ok(None) };
        let offset = consumer::offset_of(&first?.properties).ok_or(ProbeError::NotAStream)?;
        Ok(Some(offset))
    }

    /// A connection that failed is not used again, and its broker passed over, unless only the
    /// stream is missing.
    fn failed(&self, on: &Arc<Connection>, error: ProbeError) -> ReadError {
        let is_brokers = match &error {
            ProbeError::NotAStream => false,
            ProbeError::ConsumerEnd(ended) if ended.is_unreadable() => {
                self.link.unreadable.set_met();
                true
            }
            // The queue was deleted, or its node is going down: the next attempt tells.
            ProbeError::ConsumerEnd(ConsumerEnd::Cancelled) => false,
            _ => true,
        };
        let error = ReadError::of(&error);
        let is_brokers = is_brokers && !matches!(error, ReadError::Missing(_));
        if is_brokers && self.link.keeper.take_this(on) {
            self.link.is_unfit.store(true, Ordering::Relaxed);
        }
        error
    }
}

impl ReadError {
    fn of(error: &ProbeError) -> Self {
        match error {
            ProbeError::NotAStream => Self::NotAStream,
            // "no queue 'x' in vhost '/'"; a node that is down answers 404 too.
            ProbeError::Refused(error)
                if error.code() == Some(404) && error.reply().contains("no queue") =>
            {
                Self::Missing(error.reply())
            }
            error => Self::Lost(error.to_string()),
        }
    }
}

impl Dialer {
    /// Connects whenever somebody wants to read and there is no open connection; waits longer from
    /// one failure to the next; lets go when the feed seeks a broker in vain. Never ends by itself.
    pub async fn run(self) {
        let Self { link, prover } = self;
        tokio::select! {
            never = prover.run() => match never {},
            () = link.keep_connected() => {}
        }
    }
}

impl Link {
    /// A keeper for one reading, which connects after the feed too.
    fn keeper_apart(&self) -> Result<Keeper, ReadError> {
        let keeper = Keeper::beside(Arc::clone(&self.config), Arc::clone(&self.precedence));
        let keeper = keeper.map_err(|error| ReadError::Lost(error.to_string()))?;
        Ok(keeper.with_small_frames().counting(Arc::clone(&self.metrics)))
    }

    /// Never ends by itself.
    async fn keep_connected(&self) {
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
        debug!(address = %connection.address(), "connected for reading back");
    }
}

impl Messages {
    /// The next message. Before it waits for one, everything handed over is acked, since the broker
    /// may be waiting for that. Nothing is waited for once there is one.
    ///
    /// # Errors
    /// No further message comes.
    ///
    /// # Cancel safety
    /// No message is lost when dropped.
    pub async fn next(&mut self) -> Result<Message, ReadError> {
        match &mut self.0 {
            Way::Shared(shared) => shared.next().await,
            Way::Apart(apart) => apart.next().await,
        }
    }
}

impl Message {
    /// None when it does not come from a stream.
    pub(super) fn of(message: lapin::message::Delivery) -> Option<Self> {
        let offset = consumer::offset_of(&message.properties)?;
        let packing = super::packing_of(&message.properties);
        Some(Self { offset, body: message.data, packing })
    }
}
