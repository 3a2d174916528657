//! Attaching to the queue: where to read from, and whether it still is the queue that was read before.

use std::time::Duration;

use tracing::warn;

use super::feed::{Feed, SourcePlace};
use super::interruption::{Finding, Interruption, SourceError};
use crate::amqp::connection::Connection;
use crate::amqp::consumer::{self, Consumer, ConsumerStart, Consuming, ProbeError};
use crate::amqp::topology::{TopologyError, is_node_down};
use crate::amqp::{BrokerError, Delivery, Input};
use crate::config::QueueMode;

/// How long the broker may take to give the last delivery back: it does so at once, or never.
const ECHO_WITHIN: Duration = Duration::from_secs(5);

/// What is found where the last message handed over was.
pub enum Echoed {
    Same(Box<Consumer>),
    /// Something else, in words.
    Other(&'static str),
}

impl Feed {
    /// Makes sure of the topology and begins to consume, where reading left off if it has begun.
    pub async fn attach(&mut self, connection: &Connection) -> Result<Consumer, Interruption> {
        self.ensure_topology(connection).await?;
        match (self.config.queue.mode, &self.place) {
            (QueueMode::Queue, _) => self.attach_to_queue(connection).await,
            (QueueMode::Stream, SourcePlace::Taken { .. }) => {
                self.attach_where_left(connection).await
            }
            (QueueMode::Stream, SourcePlace::Anew) => {
                self.look_up_tail_again(connection).await?;
                self.consume(connection, ConsumerStart::First, self.config.prefetch).await
            }
            (QueueMode::Stream, _) => self.attach_afresh(connection).await,
        }
    }

    pub async fn ensure_topology(&mut self, connection: &Connection) -> Result<(), Interruption> {
        self.topology.ensure(connection).await.map_err(|error| match error {
            TopologyError::QueueType { .. } => Interruption::Fatal(error.into()),
            refused => Interruption::Topology(refused),
        })
    }

    async fn attach_to_queue(&mut self, connection: &Connection) -> Result<Consumer, Interruption> {
        let opened = Consumer::open(connection, self.consuming(None)).await;
        let consumer = opened.map_err(|error| self.refused(error))?;
        self.must_be_alone(connection).await?;
        if !matches!(self.place, SourcePlace::Queue) {
            self.send(Input::Begin { from_first: true }).await?;
            self.send(Input::CaughtUp).await?;
            self.place = SourcePlace::Queue;
        }
        Ok(consumer)
    }

    /// A second consumer must be refused. A quorum queue and a stream ignore the exclusive flag, and then
    /// each of two replicas would get half of the blocks.
    async fn must_be_alone(&self, connection: &Connection) -> Result<(), Interruption> {
        let second = Consuming { prefetch: 1, ..self.consuming(None) };
        match Consumer::open(connection, second).await {
            Ok(second) => {
                second.close().await;
                let queue = self.topology.queue().to_string();
                Err(Interruption::Fatal(SourceError::Shared { queue }))
            }
            Err(error) if error.code() == Some(403) => Ok(()),
            Err(error) => Err(self.refused(error)),
        }
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
        // The first offset is not named by its number: an empty stream does not have it yet.
        let start = if start == 0 { ConsumerStart::First } else { ConsumerStart::Offset(start) };
        let consumer = self.consume(connection, start, self.config.prefetch).await?;
        self.send(Input::Begin { from_first }).await?;
        self.tail = tail;
        if tail.is_none() {
            self.send(Input::CaughtUp).await?;
        }
        Ok(consumer)
    }

    /// Reads on from the last message handed over.
    async fn attach_where_left(
        &mut self,
        connection: &Connection,
    ) -> Result<Consumer, Interruption> {
        let found = match self.echo(connection, self.config.prefetch).await? {
            Echoed::Same(consumer) => {
                self.look_up_tail_again(connection).await?;
                return Ok(*consumer);
            }
            Echoed::Other(found) => found,
        };
        self.say_anew(found).await?;
        self.tail = self.look_up_tail(connection).await?;
        if self.tail.is_none() {
            self.send(Input::CaughtUp).await?;
        }
        self.consume(connection, ConsumerStart::First, self.config.prefetch).await
    }

    /// Attaches to the last message handed over. The broker must give it back as it was: in a stream made
    /// anew, an offset past the end would be mute, without an error.
    pub async fn echo(
        &mut self,
        connection: &Connection,
        prefetch: u16,
    ) -> Result<Echoed, Interruption> {
        let SourcePlace::Taken { offset, body } = &self.place else {
            unreachable!("bug: called without a last message");
        };
        let (offset, body) = (*offset, body.clone());
        let mut consumer =
            self.consume(connection, ConsumerStart::Offset(offset), prefetch).await?;
        let found = match consumer.next_within(ECHO_WITHIN, connection).await? {
            Some(message) => {
                let echo = Delivery::from_broker(message);
                if echo.offset == Some(offset) && echo.body == body {
                    self.send(Input::Echo(echo)).await?;
                    return Ok(Echoed::Same(Box::new(consumer)));
                }
                "another message in its place"
            }
            None => {
                self.must_end_before(connection, offset).await?;
                "nothing within 5 s"
            }
        };
        consumer.close().await;
        Ok(Echoed::Other(found))
    }

    /// Says that this is not the stream, or not all of the stream, that was read so far.
    pub async fn say_anew(&mut self, found: &'static str) -> Result<(), Interruption> {
        let queue = self.topology.queue().as_str();
        let SourcePlace::Taken { offset, .. } = &self.place else {
            unreachable!("bug: called without a last message");
        };
        warn!(
            queue,
            offset,
            found,
            "the stream was made anew or lost its tail; reading it from its first message"
        );
        self.metrics.stream_resets.inc();
        self.unreadable.forget();
        self.send(Input::Anew).await?;
        self.place = SourcePlace::Anew;
        Ok(())
    }

    /// A stream that has this offset and does not give it back was not made anew: its broker is silent. An
    /// unreadable tail tells nothing of that.
    async fn must_end_before(
        &self,
        connection: &Connection,
        offset: u64,
    ) -> Result<(), Interruption> {
        let finding = match self.look_up_tail(connection).await {
            Ok(Some(end)) if end >= offset => Finding::GoesOn { end },
            Ok(Some(_)) => return Ok(()),
            Ok(None) if self.is_counted_empty(connection).await? => return Ok(()),
            Ok(None) => Finding::NotGivenBack,
            Err(error) if error.is_unreadable() && self.is_careful => return Ok(()),
            Err(error) => return Err(error),
        };
        Err(Interruption::Silent(self.silence(finding)))
    }

    async fn is_counted_empty(&self, connection: &Connection) -> Result<bool, Interruption> {
        let counted = consumer::count(connection, self.topology.queue()).await;
        Ok(counted.map_err(|error| self.refused(error))? == 0)
    }

    /// Asks for the tail again while it has not been reached: a stream that changed may never have the
    /// offset that was its tail.
    async fn look_up_tail_again(&mut self, connection: &Connection) -> Result<(), Interruption> {
        if self.tail.is_none() && !self.is_tail_unknown {
            return Ok(());
        }
        self.tail = self.look_up_tail(connection).await?;
        self.is_tail_unknown = false;
        match (self.tail, &self.place) {
            (None, _) => self.send(Input::CaughtUp).await,
            (Some(_), SourcePlace::Taken { offset, .. }) => self.catch_up_at(*offset).await,
            (Some(_), _) => Ok(()),
        }
    }

    pub async fn look_up_tail(&self, connection: &Connection) -> Result<Option<u64>, Interruption> {
        let mut tail = None;
        let each = |offset, _body| tail = Some(offset);
        consumer::read_tail(connection, self.consuming(None), each)
            .await
            .map_err(|error| self.probe_failed(error))?;
        Ok(tail)
    }

    pub async fn consume(
        &self,
        connection: &Connection,
        start: ConsumerStart,
        prefetch: u16,
    ) -> Result<Consumer, Interruption> {
        let consuming = Consuming { prefetch, ..self.consuming(Some(start)) };
        let opened = Consumer::open(connection, consuming).await;
        opened.map_err(|error| self.refused(error))
    }

    pub fn consuming(&self, start: Option<ConsumerStart>) -> Consuming<'_> {
        Consuming { queue: self.topology.queue(), prefetch: self.config.prefetch, start }
    }

    pub fn refused(&self, error: BrokerError) -> Interruption {
        let (queue, reply) = (self.topology.queue().to_string(), error.reply());
        match (error.code(), self.config.queue.mode) {
            (Some(404), _) if is_node_down(&error) => {
                Interruption::Topology(TopologyError::NodeDown(error))
            }
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

    pub fn probe_failed(&self, error: ProbeError) -> Interruption {
        match error {
            ProbeError::Connect(error) => Interruption::Connect(error),
            ProbeError::Refused(error) => self.refused(error),
            ProbeError::ConsumerEnd(ended) => Interruption::ConsumerEnd(ended),
            ProbeError::NotAStream => self.other_type(consumer::NOT_A_STREAM),
        }
    }

    pub fn other_type(&self, found: &str) -> Interruption {
        let queue = self.topology.queue().to_string();
        Interruption::Fatal(TopologyError::QueueType { queue, reply: found.into() }.into())
    }
}
