//! The consumer task: attached to the queue for as long as the program runs.
//!
//! One loop heals everything that can heal: connect, check the topology, find the place to read
//! from, read until that ends, wait, again. Absent here: what messages say, and when they are
//! settled.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::connection::{ConnectError, Connection, Connector};
use super::consumer::{self, Consumer, Consuming, Ended, ProbeError, Start};
use super::topology::{NameError, Topology, TopologyError};
use super::{BrokerError, Delivery, Input};
use crate::backoff::Backoff;
use crate::config::{self, QueueMode};
use crate::metrics::Metrics;
use crate::readiness::Readiness;

/// How long the broker may take to give the last delivery back: it does so at once, or never.
const ECHO_WITHIN: Duration = Duration::from_secs(5);
/// An attachment that lasted this long was sound, so the next wait is a short one again.
const SOUND_AFTER: Duration = Duration::from_secs(30);

/// Reasons already logged since the last attachment: several brokers may fail each in its own way.
const REASONS_KEPT: usize = 8;

/// The consumer task, before it runs.
pub struct Source {
    config: Arc<config::Amqp>,
    metrics: Arc<Metrics>,
    readiness: Arc<Readiness>,
    link: Link,
}

/// A handle to the running source, for the pipeline.
#[derive(Clone)]
pub struct Link {
    start_over: Arc<Notify>,
}

/// Why consuming cannot go on. Nothing but the operator heals these.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    #[error(transparent)]
    Configuration(#[from] ConnectError),
    #[error(transparent)]
    Name(#[from] NameError),
    #[error(transparent)]
    QueueType(#[from] TopologyError),
}

/// What the task keeps between attachments.
struct Feed {
    config: Arc<config::Amqp>,
    metrics: Arc<Metrics>,
    readiness: Arc<Readiness>,
    start_over: Arc<Notify>,
    inputs: mpsc::Sender<Input>,
    connector: Connector,
    topology: Topology,
    /// None while not connected.
    connection: Option<Arc<Connection>>,
    connected_before: bool,
    attached_at: Option<Instant>,
    place: Place,
    /// The offset to be handed over before [`Input::CaughtUp`]; none once that has been said.
    tail: Option<u64>,
}

/// How far reading has come.
enum Place {
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

/// Why an attachment did not come about, or ended.
#[derive(Debug, thiserror::Error)]
enum Interruption {
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error("{0}")]
    Topology(TopologyError),
    #[error("queue {queue:?} does not exist; declare it, or set amqp.declare = true ({reply})")]
    Missing { queue: String, reply: String },
    #[error(
        "queue {queue:?} is in use by another consumer, perhaps by our own lost connection until its heartbeat ends ({reply})"
    )]
    InUse { queue: String, reply: String },
    #[error(transparent)]
    Refused(BrokerError),
    #[error(transparent)]
    Ended(#[from] Ended),
    #[error("the pipeline asked for a new start")]
    StartOver,
    #[error("the pipeline has ended")]
    Abandoned,
    #[error(transparent)]
    Fatal(SourceError),
}

impl Link {
    /// Tells the source that another chain is published: it goes through its start procedure again
    /// and says [`Input::Begin`]. Inputs before that are of the old reading, to be discarded.
    pub fn start_over(&self) {
        self.start_over.notify_one();
    }
}

impl Source {
    pub fn new(
        config: Arc<config::Amqp>,
        metrics: Arc<Metrics>,
        readiness: Arc<Readiness>,
    ) -> (Self, Link) {
        let link = Link { start_over: Arc::new(Notify::new()) };
        (Self { config, metrics, readiness, link: link.clone() }, link)
    }

    /// Consumes until `shutdown`, or until `inputs` is closed, sending what happens in order. When
    /// `inputs` is full it waits, and the broker with it, `amqp.prefetch` messages further on.
    ///
    /// # Errors
    /// What cannot heal; see [`SourceError`]. Everything else is retried for ever, and logged once
    /// per change of state.
    pub async fn run(
        self,
        inputs: mpsc::Sender<Input>,
        shutdown: CancellationToken,
    ) -> Result<(), SourceError> {
        let mut feed = Feed {
            connector: Connector::new(Arc::clone(&self.config))?,
            topology: Topology::new(Arc::clone(&self.config))?,
            config: self.config,
            metrics: self.metrics,
            readiness: self.readiness,
            start_over: self.link.start_over,
            inputs,
            connection: None,
            connected_before: false,
            attached_at: None,
            place: Place::Fresh,
            tail: None,
        };
        let ended = shutdown.run_until_cancelled(feed.follow()).await;
        feed.detach().await;
        ended.unwrap_or(Ok(()))
    }
}

impl Feed {
    async fn follow(&mut self) -> Result<(), SourceError> {
        let mut backoff = Backoff::default();
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
                    self.place = Place::Fresh;
                    self.tail = None;
                    continue;
                }
                interruption => {
                    let reason = interruption.to_string();
                    match self.attached_at {
                        Some(since) if since.elapsed() >= SOUND_AFTER => backoff.reset(),
                        Some(_) => {}
                        None => self.connector.pass_over(),
                    }
                    let wait = backoff.next(fastrand::f64());
                    if self.attached_at.is_some() {
                        warn!(%reason, retry_in = ?wait, "lost the broker");
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
        let connection = self.connect().await?;
        self.topology.ensure(&connection).await.map_err(|error| match error {
            TopologyError::QueueType { .. } => Interruption::Fatal(error.into()),
            refused => Interruption::Topology(refused),
        })?;
        let consumer = match (self.config.queue.mode, &self.place) {
            (QueueMode::Queue, _) => self.attach_to_queue(&connection).await?,
            (QueueMode::Stream, Place::Taken { .. }) => self.attach_where_left(&connection).await?,
            (QueueMode::Stream, Place::Anew) => {
                self.look_up_tail_again(&connection).await?;
                self.consume(&connection, Start::First).await?
            }
            (QueueMode::Stream, _) => self.attach_afresh(&connection).await?,
        };
        self.set_attached(&connection);
        self.read(consumer).await
    }

    async fn connect(&mut self) -> Result<Arc<Connection>, Interruption> {
        if let Some(connection) = &self.connection {
            return Ok(Arc::clone(connection));
        }
        let connection = Arc::new(self.connector.connect().await?);
        if std::mem::replace(&mut self.connected_before, true) {
            self.metrics.amqp_reconnects.inc();
        }
        self.connection = Some(Arc::clone(&connection));
        Ok(connection)
    }

    async fn attach_to_queue(&mut self, connection: &Connection) -> Result<Consumer, Interruption> {
        let opened = Consumer::open(connection, self.consuming(None)).await;
        let consumer = opened.map_err(|error| self.refused(error))?;
        if !matches!(self.place, Place::Queue) {
            self.send(Input::Begin { from_first: true }).await?;
            self.send(Input::CaughtUp).await?;
            self.place = Place::Queue;
        }
        Ok(consumer)
    }

    /// The start procedure: the tail's offset, and a place `amqp.queue.warm_up` messages before it.
    async fn attach_afresh(&mut self, connection: &Connection) -> Result<Consumer, Interruption> {
        let tail = self.look_up_tail(connection).await?;
        let start = tail.unwrap_or(0).saturating_sub(self.config.queue.warm_up);
        let from_first = start == 0 || {
            let first = consumer::first_offset(connection, self.consuming(None)).await;
            let first = first.map_err(|error| self.probe_failed(error))?;
            first.is_none_or(|first| start <= first)
        };
        // Not by its number when it is the first: an empty stream has no such offset yet.
        let start = if start == 0 { Start::First } else { Start::Offset(start) };
        let consumer = self.consume(connection, start).await?;
        self.send(Input::Begin { from_first }).await?;
        self.tail = tail;
        if tail.is_none() {
            self.send(Input::CaughtUp).await?;
        }
        Ok(consumer)
    }

    /// Reads on from the last message handed over, which the broker must give back as it was: an
    /// offset past the end of a stream made anew would be mute without an error.
    async fn attach_where_left(
        &mut self,
        connection: &Connection,
    ) -> Result<Consumer, Interruption> {
        let Place::Taken { offset, body } = &self.place else {
            unreachable!("bug: called without a last message");
        };
        let (offset, body) = (*offset, body.clone());
        let mut consumer = self.consume(connection, Start::Offset(offset)).await?;
        let found = match timeout(ECHO_WITHIN, consumer.next()).await {
            Ok(message) => {
                let echo = Delivery::from_broker(message?);
                if echo.offset == Some(offset) && echo.body == body {
                    self.send(Input::Echo(echo)).await?;
                    self.look_up_tail_again(connection).await?;
                    return Ok(consumer);
                }
                "another message in its place"
            }
            Err(_) => "nothing within 5 s",
        };
        consumer.close().await;
        let queue = self.topology.queue().as_str();
        warn!(
            queue,
            offset,
            found,
            "the stream was made anew or lost its tail; reading it from its first message"
        );
        self.metrics.stream_resets.inc();
        self.send(Input::Anew).await?;
        self.place = Place::Anew;
        self.tail = self.look_up_tail(connection).await?;
        if self.tail.is_none() {
            self.send(Input::CaughtUp).await?;
        }
        self.consume(connection, Start::First).await
    }

    /// Until the tail has been reached: a stream that changed may never have the offset that was
    /// its tail before.
    async fn look_up_tail_again(&mut self, connection: &Connection) -> Result<(), Interruption> {
        if self.tail.is_none() {
            return Ok(());
        }
        self.tail = self.look_up_tail(connection).await?;
        match (self.tail, &self.place) {
            (None, _) => self.send(Input::CaughtUp).await,
            (Some(_), Place::Taken { offset, .. }) => self.catch_up_at(*offset).await,
            (Some(_), _) => Ok(()),
        }
    }

    async fn look_up_tail(&self, connection: &Connection) -> Result<Option<u64>, Interruption> {
        let mut tail = None;
        let each = |offset, _message| tail = Some(offset);
        consumer::read_tail(connection, self.consuming(None), each)
            .await
            .map_err(|error| self.probe_failed(error))?;
        Ok(tail)
    }

    async fn read(&mut self, mut consumer: Consumer) -> Result<Infallible, Interruption> {
        loop {
            let message = tokio::select! {
                biased;
                () = self.start_over.notified() => {
                    consumer.close().await;
                    return Err(Interruption::StartOver);
                }
                message = consumer.next() => message?,
            };
            let delivery = Delivery::from_broker(message);
            match (self.config.queue.mode, delivery.offset) {
                (QueueMode::Queue, None) => self.send(Input::Delivery(delivery)).await?,
                (QueueMode::Stream, Some(offset)) => {
                    let body = delivery.body.clone();
                    self.send(Input::Delivery(delivery)).await?;
                    self.place = Place::Taken { offset, body };
                    self.catch_up_at(offset).await?;
                }
                (QueueMode::Queue, Some(_)) => return Err(self.other_type("it is a stream")),
                (QueueMode::Stream, None) => return Err(self.other_type(consumer::NOT_A_STREAM)),
            }
        }
    }

    async fn catch_up_at(&mut self, offset: u64) -> Result<(), Interruption> {
        if self.tail.is_some_and(|tail| offset >= tail) {
            self.send(Input::CaughtUp).await?;
            self.tail = None;
        }
        Ok(())
    }

    async fn consume(
        &self,
        connection: &Connection,
        start: Start,
    ) -> Result<Consumer, Interruption> {
        let opened = Consumer::open(connection, self.consuming(Some(start))).await;
        opened.map_err(|error| self.refused(error))
    }

    fn consuming(&self, start: Option<Start>) -> Consuming<'_> {
        Consuming { queue: self.topology.queue(), prefetch: self.config.prefetch, start }
    }

    async fn send(&self, input: Input) -> Result<(), Interruption> {
        self.inputs.send(input).await.map_err(|_| Interruption::Abandoned)
    }

    fn set_attached(&mut self, connection: &Connection) {
        let offset = match &self.place {
            Place::Taken { offset, .. } => Some(offset),
            Place::Fresh | Place::Anew | Place::Queue => None,
        };
        let queue = self.topology.queue().as_str();
        info!(queue, after_offset = offset, address = %connection.address(), "consuming");
        self.attached_at = Some(Instant::now());
        self.metrics.amqp_connected.set(1);
        self.readiness.set_connected(true);
    }

    async fn detach(&mut self) {
        self.attached_at = None;
        self.metrics.amqp_connected.set(0);
        self.readiness.set_connected(false);
        if let Some(connection) = self.connection.take() {
            connection.close().await;
        }
    }

    fn refused(&self, error: BrokerError) -> Interruption {
        let (queue, reply) = (self.topology.queue().to_string(), error.reply());
        match (error.code(), self.config.queue.mode) {
            (Some(404), _) if !self.config.declare => Interruption::Missing { queue, reply },
            // "invalid arg 'x-stream-offset' ... of queue type rabbit_classic_queue"
            (Some(406), QueueMode::Stream) if reply.contains("x-stream-offset") => {
                self.other_type(&reply)
            }
            (Some(403), QueueMode::Queue) if reply.contains("exclusive") => {
                Interruption::InUse { queue, reply }
            }
            _ => Interruption::Refused(error),
        }
    }

    fn probe_failed(&self, error: ProbeError) -> Interruption {
        match error {
            ProbeError::Refused(error) => self.refused(error),
            ProbeError::Ended(ended) => Interruption::Ended(ended),
            ProbeError::NotAStream => self.other_type(consumer::NOT_A_STREAM),
        }
    }

    fn other_type(&self, found: &str) -> Interruption {
        let queue = self.topology.queue().to_string();
        Interruption::Fatal(TopologyError::QueueType { queue, reply: found.into() }.into())
    }
}
