//! The AMQP 0-9-1 edge: block-commit messages in from RabbitMQ, dead letters out to it.
//!
//! [`Source`] keeps a consumer attached for as long as the program runs, whatever becomes of the
//! broker, and says in order what it took ([`Input`]). [`DeadLetters`] publishes what the pipeline
//! found bad. [`Reader`] reads a RabbitMQ stream at any place, beside the source. [`Publisher`] is the
//! producer's side, for `blockcast publish`.
//!
//! Absent here: blocks and heights (a body is bytes), HTTP, and the decision to settle a delivery,
//! which is the pipeline's. The client library appears in this module only. Its own recovery is not
//! used: it replays or loses what came in between.

mod confirm;
mod connection;
mod consumer;
mod dead_letter;
#[cfg(fuzzing)]
pub mod fuzzed;
mod keeper;
mod mend;
mod port;
mod precedence;
mod publisher;
mod reader;
mod source;
mod tls;
mod topology;
mod unreadable;
mod window;
mod wire;

use std::time::{Duration, Instant};

use bytes::Bytes;
use lapin::{Acker, BasicProperties};

pub use connection::ConnectError;
pub use dead_letter::{DeadLetter, DeadLetterError, DeadLetters};
pub use keeper::{Keeper, KeeperFailure};
pub use publisher::{Confirm, PublishError, Publisher};
pub use reader::{Bounds, Dialer, Message, Messages, ReadError, Reader};
pub use source::{Signs, Source, SourceError, SourceLink};
pub use tls::{BrokerTlsError, check as check_certificates};

use crate::packing::Packing;
use window::{Seat, Window};

/// How long the broker may take over one request. Far above any real answer, so that it means a
/// broker that hangs while its heartbeats still come.
const REQUEST_DEADLINE: Duration = Duration::from_secs(10);
/// The broker's reply code for a crash of its own.
const INTERNAL_ERROR: u16 = 541;

/// What the source says, in this order of events.
#[derive(Debug)]
pub enum Input {
    /// Consuming starts afresh. `from_first`: at the RabbitMQ stream's first message; always true
    /// in `queue` mode.
    Begin { from_first: bool },
    /// A message, each once while the stream stays the same.
    Delivery(Delivery),
    /// The tail found at the start has been handed over; at once when there was none.
    CaughtUp,
    /// After a re-attach: the last delivery again, which proves that this is the same stream. Only
    /// to be settled.
    Echo(Delivery),
    /// The stream was made anew or lost its tail; what follows is read from its first message.
    /// [`Input::CaughtUp`] comes again when what it held then has been handed over.
    Anew,
}

/// A message that the broker handed over and that has not been settled.
#[derive(Debug)]
pub struct Delivery {
    /// As it came, packed or not.
    pub body: Bytes,
    pub packing: Packing,
    /// Its place in the RabbitMQ stream; none in `queue` mode.
    pub offset: Option<u64>,
    pub exchange: String,
    pub routing_key: String,
    /// Whether the broker may have handed it over before (`queue` mode, after a reconnect).
    pub is_redelivered: bool,
    /// When the source took it from the connection.
    pub received_at: Instant,
    content_type: Option<String>,
    /// None once settled, and for deliveries that tests make.
    acker: Option<Acker>,
    /// Its place in the window; none once settled, and for what nobody counts.
    seat: Option<Seat>,
}

impl Delivery {
    /// Acknowledges it: in a RabbitMQ stream only credit for further deliveries, in a queue its end.
    ///
    /// Without a result: an ack fails only when its connection is gone, and then the broker hands
    /// the message over again. Returns within [`REQUEST_DEADLINE`]. A second call does nothing: what
    /// was settled when it was taken keeps its body until it is clear what becomes of it.
    pub async fn settle(&mut self) {
        if let Some(acker) = self.acker.take() {
            settle(&acker).await;
        }
        self.seat = None;
    }

    fn from_broker(message: lapin::message::Delivery) -> Self {
        let lapin::message::Delivery {
            data,
            exchange,
            routing_key,
            properties,
            acker,
            redelivered,
            ..
        } = message;
        Self {
            body: Bytes::from(data),
            offset: consumer::offset_of(&properties),
            exchange: exchange.into(),
            routing_key: routing_key.into(),
            is_redelivered: redelivered,
            received_at: Instant::now(),
            content_type: properties.content_type().as_ref().map(ToString::to_string),
            packing: packing_of(&properties),
            acker: Some(acker),
            seat: None,
        }
    }

    /// The same, counted until it is settled.
    fn counted(self, window: &Window) -> Self {
        Self { seat: Some(window.seat()), ..self }
    }

    /// A delivery that no broker handed over, for tests of what takes deliveries.
    pub fn detached(body: impl Into<Bytes>, offset: Option<u64>) -> Self {
        Self {
            body: body.into(),
            offset,
            exchange: String::new(),
            routing_key: String::new(),
            is_redelivered: false,
            received_at: Instant::now(),
            content_type: None,
            packing: Packing::default(),
            acker: None,
            seat: None,
        }
    }
}

/// How a message's body is packed.
fn packing_of(properties: &BasicProperties) -> Packing {
    Packing {
        content_encoding: properties.content_encoding().as_ref().map(|name| name.as_str().into()),
        message_type: properties.kind().as_ref().map(|name| name.as_str().into()),
    }
}

/// Acks one message; see [`Delivery::settle`] for why nothing is returned.
async fn settle(acker: &Acker) {
    let ack = acker.ack(lapin::options::BasicAckOptions { multiple: false });
    let _gone = tokio::time::timeout(REQUEST_DEADLINE, ack).await;
}

/// Acks one message and all before it on its channel, where that is credit only.
async fn settle_up_to(acker: &Acker) {
    let ack = acker.ack(lapin::options::BasicAckOptions { multiple: true });
    let _gone = tokio::time::timeout(REQUEST_DEADLINE, ack).await;
}

/// What the broker did not do.
#[derive(Debug, thiserror::Error)]
#[error("{doing}: {}{}", reply(source), self.lacking())]
pub struct BrokerError {
    /// What was asked of it, such as `declaring queue "blockcast.blocks"`.
    doing: String,
    /// The permissions that this takes, in words. RabbitMQ before 4.0 does not say which is missing,
    /// and later ones name one of several that would do.
    needs: &'static str,
    source: Box<lapin::Error>,
}

impl BrokerError {
    /// The broker's reply code, such as 406; none when the connection failed.
    fn code(&self) -> Option<u16> {
        code(&self.source)
    }

    /// As [`consumer::Ended::is_unreadable`].
    fn is_unreadable(&self) -> bool {
        self.code() == Some(INTERNAL_ERROR)
    }

    /// Whether the broker did not answer in time.
    fn is_unanswered(&self) -> bool {
        matches!(self.source.kind(), lapin::ErrorKind::IOError(error)
            if error.kind() == std::io::ErrorKind::TimedOut)
    }

    fn reply(&self) -> String {
        reply(&self.source)
    }

    fn lacking(&self) -> String {
        match self.code() {
            Some(403) if !self.reply().contains("exclusive use") => {
                format!("; the user needs the permission {}", self.needs)
            }
            _ => String::new(),
        }
    }
}

/// What is asked of the broker.
struct Request {
    /// Such as `declaring queue "blockcast.blocks"`.
    doing: String,
    /// The permissions that it takes, in words.
    needs: &'static str,
}

impl From<&str> for Request {
    fn from(doing: &str) -> Self {
        Self { doing: doing.into(), needs: "to connect" }
    }
}

/// Waits for the broker's answer, at most [`REQUEST_DEADLINE`].
async fn request<T>(
    asked: impl FnOnce() -> Request,
    answer: impl Future<Output = lapin::Result<T>>,
) -> Result<T, BrokerError> {
    let answer = tokio::time::timeout(REQUEST_DEADLINE, answer).await;
    let answer =
        answer.unwrap_or_else(|_| Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into()));
    answer.map_err(|source| {
        let Request { doing, needs } = asked();
        BrokerError { doing, needs, source: Box::new(source) }
    })
}

fn code(error: &lapin::Error) -> Option<u16> {
    match error.kind() {
        lapin::ErrorKind::ProtocolError(reply) => Some(reply.get_id()),
        _ => None,
    }
}

/// The broker's own words, without the library's around them.
fn reply(error: &lapin::Error) -> String {
    match error.kind() {
        lapin::ErrorKind::ProtocolError(reply) => {
            format!("{} ({})", reply.get_message(), reply.get_id())
        }
        lapin::ErrorKind::IOError(source) => source.to_string(),
        _ => error.to_string(),
    }
}
