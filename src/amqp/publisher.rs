//! The producer's side, for `blockcast publish`: block messages to the exchange, each confirmed.
//!
//! Absent here: what a body holds, and trying again (the command reports, and people decide).

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use lapin::types::ShortString;
use lapin::{BasicProperties, PublisherConfirm};
use tokio::time::{sleep, timeout};

use super::confirm::{self, Unpublished, publishing};
use super::connection::{ConnectError, Connection};
use super::consumer::{self, Consuming, ProbeError};
use super::keeper::Keeper;
use super::reader::Message;
use super::request::{BrokerError, REQUEST_DEADLINE, Request, request};
use super::topology::{NameError, Topology, TopologyError};
use super::unreadable::tail;
use crate::config::{self, QueueMode};

/// What producers of blocks use; see `amqp.binding_keys`.
const ROUTING_KEY: &str = "block.valid";
/// For the broker's confirmation, which comes when the message is on its replicas' disks.
const CONFIRM_DEADLINE: Duration = Duration::from_secs(30);
/// How often it is looked whether the broker takes messages. It says so once, at the first message.
const LOOK: Duration = Duration::from_millis(250);

/// A connection that publishes blocks.
pub struct Publisher {
    config: Arc<config::Amqp>,
    connection: Arc<Connection>,
    channel: lapin::Channel,
    topology: Topology,
    exchange: ShortString,
}

/// The broker's word on one message, to come.
#[must_use = "a message may be lost until it is confirmed"]
pub struct Confirm {
    inner: PublisherConfirm,
    exchange: ShortString,
    connection: Arc<Connection>,
}

/// Why a message was not, or may not have been, published.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error(transparent)]
    Name(#[from] NameError),
    #[error(transparent)]
    Topology(#[from] TopologyError),
    /// Such as 404 for a missing exchange or 403 for a forbidden one.
    #[error(transparent)]
    Refused(#[from] BrokerError),
    #[error("no queue is bound to exchange {exchange:?} for routing key {ROUTING_KEY:?}")]
    Unroutable { exchange: String },
    /// The broker's `max_message_size`; every connection ends the same way. `limit_bytes`: where the
    /// broker says it.
    #[error("a message of {bytes} bytes is larger than the broker's max_message_size{}", limit(*limit_bytes))]
    TooLarge { bytes: u64, limit_bytes: Option<u64> },
    #[error("the broker did not take the message (nack)")]
    Nacked,
    #[error("the broker did not confirm the message within 30 s")]
    Unconfirmed,
    #[error(transparent)]
    Tail(#[from] ProbeError),
}

impl PublishError {
    /// Whether the stream's tail may be an entry that the broker cannot hand over (541).
    pub fn is_unreadable(&self) -> bool {
        matches!(self, Self::Tail(error) if error.is_unreadable())
    }
}

impl Publisher {
    /// Connects to the first broker that answers and, when `amqp.declare` says so, declares the
    /// exchange, and the RabbitMQ stream, so that nothing is dropped for want of it. In `queue` mode
    /// the queues are those of the replicas.
    ///
    /// # Errors
    /// No broker, or it refused a declaration.
    pub async fn connect(config: &config::Amqp) -> Result<Self, PublishError> {
        let config = Arc::new(config.clone());
        Self::attach(&Keeper::new(Arc::clone(&config))?, config).await
    }

    /// The same as [`Self::connect`], over the connection of a keeper that outlives this publisher.
    ///
    /// # Errors
    /// As those of [`Self::connect`]. Say so with [`Keeper::failed`] and try again.
    pub async fn attach(keeper: &Keeper, config: Arc<config::Amqp>) -> Result<Self, PublishError> {
        let mut topology = Topology::new(Arc::clone(&config))?;
        let connection = keeper.connection().await?;
        match config.queue.mode {
            QueueMode::Stream => topology.ensure(&connection).await?,
            QueueMode::Queue => topology.ensure_exchange(&connection).await?,
        }
        let channel = confirm::channel(&connection, || "asking for confirmations".into()).await?;
        let exchange = topology.exchange().clone();
        Ok(Self { config, connection, channel, topology, exchange })
    }

    /// Sends one message and returns before it is confirmed, so that several can be under way; the
    /// caller bounds how many.
    ///
    /// # Errors
    /// The connection or its channel is gone. Connect again.
    pub async fn publish(&self, body: Vec<u8>) -> Result<Confirm, PublishError> {
        let properties = BasicProperties::default()
            .with_content_type("application/json".into())
            .with_delivery_mode(2);
        let sent = self.channel.basic_publish(
            self.exchange.clone(),
            ROUTING_KEY.into(),
            confirm::MANDATORY,
            &body,
            properties,
        );
        let is_blocked = || self.connection.is_blocked();
        let sent = while_taken(is_blocked, REQUEST_DEADLINE, sent).await;
        let sent = std::future::ready(
            sent.unwrap_or_else(|| Err(io::Error::from(io::ErrorKind::TimedOut).into())),
        );
        let inner = request(|| publishing(self.exchange.as_str()), sent).await?;
        let connection = Arc::clone(&self.connection);
        Ok(Confirm { inner, exchange: self.exchange.clone(), connection })
    }

    /// Whether the broker takes no messages.
    pub fn is_stopped(&self) -> bool {
        self.connection.is_blocked()
    }

    /// Waits until the broker takes no messages (`is_stopped`), or until it takes them again.
    ///
    /// # Cancel safety
    /// Waiting changes nothing.
    pub async fn stopped(&self, is_stopped: bool) {
        while self.is_stopped() != is_stopped {
            sleep(LOOK).await;
        }
    }

    /// The RabbitMQ stream's last messages, oldest first: at least its last chunk.
    /// None when it is empty, and in `queue` mode, where reading is taking.
    ///
    /// # Errors
    /// The stream cannot be read. When that [is unreadable](PublishError::is_unreadable), this
    /// publisher's connection is lost; read with [`Self::last_readable_messages`].
    pub async fn tail_messages(&self) -> Result<Vec<Message>, PublishError> {
        let mut messages = Vec::new();
        if self.config.queue.mode == QueueMode::Stream {
            let consuming = Consuming {
                queue: self.topology.queue(),
                prefetch: self.config.prefetch,
                start: None,
            };
            let each = |_, message| messages.extend(Message::of(message));
            consumer::read_tail(&self.connection, consuming, each).await?;
        }
        Ok(messages)
    }

    /// The last messages that the broker can hand over, where those at the RabbitMQ stream's end are
    /// not; none if there are none. Takes the keeper's connection for itself, and leaves none.
    ///
    /// # Errors
    /// The stream cannot be read. Say so with [`Keeper::failed`] and try again.
    pub async fn last_readable_messages(
        keeper: &Keeper,
        config: &Arc<config::Amqp>,
    ) -> Result<Vec<Message>, PublishError> {
        let topology = Topology::new(Arc::clone(config))?;
        Ok(tail::last_readable(keeper, topology.queue()).await?)
    }

    /// Says goodbye to the broker, for at most two seconds. What is unconfirmed stays so.
    pub async fn close(self) {
        self.connection.close().await;
    }
}

impl Confirm {
    /// Waits until a queue has the message, 30 seconds at most, without the time in which the broker
    /// takes no messages from anybody.
    ///
    /// When several are under way and only some find no queue, [`PublishError::Unroutable`] may be
    /// said of a neighbour: the broker's returns and confirmations are two sequences.
    ///
    /// # Errors
    /// The message was not published, or that is not known. Publishing a block twice does no harm.
    pub async fn wait(self) -> Result<(), PublishError> {
        let exchange = self.exchange.to_string();
        let is_blocked = || self.connection.is_blocked();
        let answer = while_taken(is_blocked, CONFIRM_DEADLINE, self.inner).await;
        let answer = answer.ok_or(PublishError::Unconfirmed)?;
        let Request { doing, needs } = publishing(&exchange);
        let refused = |source| {
            let error = BrokerError { doing, needs, source: Box::new(source) };
            too_large(&error).unwrap_or(PublishError::Refused(error))
        };
        confirm::taken(answer.map_err(refused)?).map_err(|why| match why {
            Unpublished::Unroutable => PublishError::Unroutable { exchange },
            Unpublished::Nacked => PublishError::Nacked,
        })
    }
}

/// Waits for the answer, at most `deadline` of the time in which the broker takes messages; none when
/// that is over.
async fn while_taken<T>(
    is_blocked: impl Fn() -> bool,
    deadline: Duration,
    answer: impl Future<Output = T>,
) -> Option<T> {
    let mut answer = pin!(answer);
    let mut left = deadline;
    while !left.is_zero() {
        match timeout(LOOK.min(left), &mut answer).await {
            Ok(answer) => return Some(answer),
            Err(_) if is_blocked() => left = deadline,
            Err(_) => left = left.saturating_sub(LOOK),
        }
    }
    None
}

/// The broker's words when it closes a channel for a message's size, such as "PRECONDITION_FAILED -
/// message size 17000000 is larger than configured max size 16777216".
fn too_large(error: &BrokerError) -> Option<PublishError> {
    let reply = error.reply();
    let (_, sizes) = reply.split_once("message size ").filter(|_| error.code() == Some(406))?;
    let (bytes, limit) = sizes.split_once(" is larger than ")?;
    let limit = limit.split(|letter: char| !letter.is_ascii_digit()).find(|word| !word.is_empty());
    let limit_bytes = limit.and_then(|word| word.parse().ok());
    Some(PublishError::TooLarge { bytes: bytes.parse().ok()?, limit_bytes })
}

fn limit(bytes: Option<u64>) -> String {
    bytes.map_or_else(String::new, |bytes| format!(" of {bytes}"))
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn only_time_in_which_the_broker_takes_messages_counts() {
        let begun = Instant::now();
        let hour = Duration::from_secs(3_600);
        let in_alarm = || begun.elapsed() < hour;
        let never = std::future::pending::<()>();
        assert_eq!(while_taken(in_alarm, CONFIRM_DEADLINE, never).await, None);
        assert!(begun.elapsed() >= hour + CONFIRM_DEADLINE - LOOK, "{:?}", begun.elapsed());

        let begun = Instant::now();
        assert_eq!(while_taken(|| false, CONFIRM_DEADLINE, sleep(hour)).await, None);
        assert_eq!(begun.elapsed(), CONFIRM_DEADLINE);
        assert_eq!(while_taken(|| false, CONFIRM_DEADLINE, async { 7 }).await, Some(7));
    }
}
