//! Reading from the queue: a channel with one consumer, and the probes of a RabbitMQ stream's two
//! ends. Which offset to read from, and what a message means, is decided elsewhere.

use std::pin::pin;
use std::task::{Context, Waker};
use std::time::Duration;

use futures_lite::StreamExt;
use lapin::BasicProperties;
use lapin::message::Delivery;
use lapin::options::{BasicConsumeOptions, BasicQosOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use tokio::time::{Instant, timeout, timeout_at};

use super::connection::{ConnectError, Connection};
use super::request::{
    BrokerError, INTERNAL_ERROR, REQUEST_DEADLINE, Request, code, is_too_many_channels, request,
    settle,
};

/// A tail that is quiet for this long has been read to its end: a chunk's messages follow each
/// other within a millisecond on a local network.
pub const QUIET: Duration = Duration::from_millis(150);
/// The longest that a tail is read which never falls quiet, because producers go on writing.
const TAIL_READING_MAX: Duration = Duration::from_secs(2);
/// How long an empty stream may take to show a first message.
const EMPTY_AFTER: Duration = Duration::from_secs(1);
/// The same when the broker counts messages in it.
const NOT_EMPTY_AFTER: Duration = Duration::from_secs(10);

/// What the broker is told of a channel's end.
const CLOSED_CODE: u16 = 200;
const CLOSED_TEXT: &str = "closed by blockcast";

/// More than heartbeats bring within a few seconds: eight bytes, twice a second at most.
const HEARTBEATS_BYTES_MAX: u64 = 1 << 10;

/// How a queue that is no stream shows, when it was not declared by us.
pub const NOT_A_STREAM: &str = "its messages carry no x-stream-offset";

/// Where in a RabbitMQ stream reading begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConsumerStart {
    First,
    /// The first message of the last chunk.
    LastChunk,
    Offset(u64),
}

/// What is consumed, and how.
#[derive(Debug, Clone, Copy)]
pub struct Consuming<'a> {
    pub queue: &'a ShortString,
    pub prefetch: u16,
    /// None in `queue` mode, which is consumed with the exclusive flag.
    pub start: Option<ConsumerStart>,
}

/// A consumer on a channel of its own.
pub struct Consumer {
    channel: OwnChannel,
    inner: lapin::Consumer,
    /// Messages before this offset are not handed over.
    first_wanted: u64,
}

/// A channel that is closed when this is dropped. By itself the library closes it when nobody holds it
/// any more, but a consumer whose opening was dropped under way is held by the channel, for ever, with
/// all that is delivered to it.
struct OwnChannel(lapin::Channel);

/// Why no further message comes.
#[derive(Debug, thiserror::Error)]
pub enum ConsumerEnd {
    #[error("the broker cancelled the consumer: the queue was deleted or its node is going down")]
    Cancelled,
    #[error("{}", super::request::reply(.0))]
    Lost(lapin::Error),
}

impl ConsumerEnd {
    /// Whether the broker said 541: a process of its crashed, as it does before an entry that it cannot
    /// hand over.
    pub fn is_unreadable(&self) -> bool {
        matches!(self, Self::Lost(error) if code(error) == Some(INTERNAL_ERROR))
    }
}

impl Consumer {
    /// # Errors
    /// The broker's refusal, such as 404 for a missing queue or 403 for another exclusive consumer.
    ///
    /// # Cancel safety
    /// Dropped, its channel is closed.
    pub async fn open(
        connection: &Connection,
        consuming: Consuming<'_>,
    ) -> Result<Self, BrokerError> {
        let Consuming { queue, prefetch, start } = consuming;
        let asked = || Request {
            doing: format!("consuming from queue {:?}", queue.as_str()),
            needs: "`read` for the queue",
        };
        let channel = OwnChannel(connection.channel().await?);
        request(asked, channel.0.basic_qos(prefetch, BasicQosOptions { global: false })).await?;
        let mut arguments = FieldTable::default();
        let mut first_wanted = 0;
        if let Some(start) = start {
            // A number or a long string: as a short string the broker resets the connection.
            let value = match start {
                ConsumerStart::First => AMQPValue::LongString("first".into()),
                ConsumerStart::LastChunk => AMQPValue::LongString("last".into()),
                ConsumerStart::Offset(offset) => {
                    first_wanted = offset;
                    AMQPValue::LongLongInt(i64::try_from(offset).unwrap_or(i64::MAX))
                }
            };
            arguments.insert("x-stream-offset".into(), value);
        }
        let options = BasicConsumeOptions {
            no_local: false,
            no_ack: false,
            exclusive: start.is_none(),
            nowait: false,
        };
        let tag = ShortString::from("blockcast");
        let inner =
            request(asked, channel.0.basic_consume(queue.clone(), tag, options, arguments)).await?;
        Ok(Self { channel, inner, first_wanted })
    }

    /// The next message.
    ///
    /// One before the wanted offset, which a broker that begins at a chunk's start may send, is
    /// acked here: that is credit only, and no settlement, since nobody was told of the message.
    ///
    /// # Errors
    /// Consuming has ended, for good.
    ///
    /// # Cancel safety
    /// No message is lost when dropped.
    pub async fn next(&mut self) -> Result<Delivery, ConsumerEnd> {
        loop {
            let message = match self.inner.next().await {
                Some(Ok(message)) => message,
                Some(Err(error)) => return Err(ConsumerEnd::Lost(error)),
                None => return Err(ConsumerEnd::Cancelled),
            };
            match offset_of(&message.properties) {
                Some(offset) if offset < self.first_wanted => settle(&message.acker).await,
                _ => return Ok(message),
            }
        }
    }

    /// The next message; none when nothing comes for so long. A part of a message on a slow link is
    /// something.
    ///
    /// # Errors
    /// As those of [`Self::next`].
    ///
    /// # Cancel safety
    /// As that of [`Self::next`].
    pub async fn next_within(
        &mut self,
        within: Duration,
        connection: &Connection,
    ) -> Result<Option<Delivery>, ConsumerEnd> {
        loop {
            let received = connection.received_bytes();
            if let Ok(message) = timeout(within, self.next()).await {
                return message.map(Some);
            }
            if connection.received_bytes() - received <= HEARTBEATS_BYTES_MAX {
                return Ok(None);
            }
        }
    }

    /// Ends consuming; what is under way goes back.
    pub async fn close(self) {
        let closing = self.channel.0.close(CLOSED_CODE, CLOSED_TEXT.into());
        let _closed_already = timeout(REQUEST_DEADLINE, closing).await;
    }
}

impl Drop for OwnChannel {
    fn drop(&mut self) {
        let closing = pin!(self.0.close(CLOSED_CODE, CLOSED_TEXT.into()));
        // The first look at it has it sent; nobody waits for the answer.
        let _closed_already = closing.poll(&mut Context::from_waker(Waker::noop()));
    }
}

/// Reads the stream's last chunk and what is written meanwhile, until it is quiet: calls `each`
/// with every message's offset and the message, in order. Takes at least 150 ms, and 10 s at most when
/// the stream looks empty though the broker counts messages in it (its count lags by seconds, both ways).
///
/// Calls `each` never for an empty stream. Its last call, then, is for the stream's tail.
///
/// # Errors
/// The probe failed, and says nothing about the stream.
pub async fn read_tail(
    connection: &Connection,
    consuming: Consuming<'_>,
    mut each: impl FnMut(u64, Delivery),
) -> Result<(), ProbeError> {
    let first_within = first_within(count(connection, consuming.queue).await?);
    let consuming = Consuming { start: Some(ConsumerStart::LastChunk), ..consuming };
    let mut consumer = Consumer::open(connection, consuming).await?;
    read_until_quiet(&mut consumer, first_within, &mut each).await?;
    consumer.close().await;
    Ok(())
}

/// Reads what comes of a RabbitMQ stream until it is quiet, for [`TAIL_READING_MAX`] at most once there
/// is a first message: calls `each` with every message's offset and the message, in order.
///
/// # Errors
/// Consuming has ended; `each` was called for what came before.
pub async fn read_until_quiet(
    consumer: &mut Consumer,
    first_within: Duration,
    mut each: impl FnMut(u64, Delivery),
) -> Result<(), ProbeError> {
    let mut until = Instant::now() + first_within;
    let mut at_most = None;
    while let Ok(message) = timeout_at(until, consumer.next()).await {
        let message = message?;
        // Acked only when it comes from a stream: in a queue that would be the message's end.
        let offset = offset_of(&message.properties).ok_or(ProbeError::NotAStream)?;
        settle(&message.acker).await;
        each(offset, message);
        let now = Instant::now();
        until = (now + QUIET).min(*at_most.get_or_insert(now + TAIL_READING_MAX));
    }
    Ok(())
}

/// The offset of the stream's first message; none when there is none within a second.
pub async fn first_offset(
    connection: &Connection,
    consuming: Consuming<'_>,
) -> Result<Option<u64>, ProbeError> {
    let consuming = Consuming { start: Some(ConsumerStart::First), ..consuming };
    let mut consumer = Consumer::open(connection, consuming).await?;
    let first = timeout(EMPTY_AFTER, consumer.next()).await;
    consumer.close().await;
    Ok(first.ok().transpose()?.and_then(|message| offset_of(&message.properties)))
}

/// Why it is not known what a stream has at a place.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error(transparent)]
    Refused(#[from] BrokerError),
    #[error(transparent)]
    ConsumerEnd(#[from] ConsumerEnd),
    #[error("{NOT_A_STREAM}")]
    NotAStream,
}

impl ProbeError {
    /// As [`ConsumerEnd::is_unreadable`].
    pub fn is_unreadable(&self) -> bool {
        match self {
            Self::Refused(error) => error.is_unreadable(),
            Self::ConsumerEnd(ended) => ended.is_unreadable(),
            Self::Connect(_) | Self::NotAStream => false,
        }
    }

    /// Whether the broker has closed the connection for its number of channels.
    pub fn is_too_many_channels(&self) -> bool {
        match self {
            Self::Refused(error) => is_too_many_channels(&error.source),
            Self::ConsumerEnd(ConsumerEnd::Lost(error)) => is_too_many_channels(error),
            Self::ConsumerEnd(ConsumerEnd::Cancelled) | Self::Connect(_) | Self::NotAStream => {
                false
            }
        }
    }
}

/// The `x-stream-offset` header that every message read from a RabbitMQ stream carries.
pub fn offset_of(properties: &BasicProperties) -> Option<u64> {
    match properties.headers().as_ref()?.inner().get("x-stream-offset")? {
        AMQPValue::LongLongInt(offset) => u64::try_from(*offset).ok(),
        _ => None,
    }
}

/// How long to wait for the first message of a stream in which the broker counts so many.
pub fn first_within(counted: u32) -> Duration {
    if counted > 0 { NOT_EMPTY_AFTER } else { EMPTY_AFTER }
}

/// How many messages the broker counts in a queue; for a stream it lags by seconds.
pub async fn count(connection: &Connection, queue: &ShortString) -> Result<u32, BrokerError> {
    let channel = connection.channel().await?;
    let options = QueueDeclareOptions {
        passive: true,
        durable: true,
        exclusive: false,
        auto_delete: false,
        nowait: false,
    };
    let asked = || Request {
        doing: format!("looking up queue {:?}", queue.as_str()),
        // RabbitMQ 4.3 wants any one of its three permissions, and names `configure`.
        needs: "`read` for the queue, which is enough",
    };
    let answer = channel.queue_declare(queue.clone(), options, FieldTable::default());
    let count = request(asked, answer).await?.message_count();
    let _closed_already = timeout(REQUEST_DEADLINE, channel.close(200, "looked up".into())).await;
    Ok(count)
}
