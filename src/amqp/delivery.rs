//! What the source hands over: messages that have not been settled, and what happened to the stream.

use std::time::Instant;

use bytes::Bytes;
use lapin::{Acker, BasicProperties};

use super::consumer;
use super::request::settle;
use super::window::{Seat, Window};
use crate::packing::Packing;

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
    pub(super) content_type: Option<String>,
    /// None once settled, and for deliveries that tests make.
    acker: Option<Acker>,
    /// Its place in the window; none once settled, and for what nobody counts.
    seat: Option<Seat>,
}

impl Delivery {
    /// Acknowledges it: in a RabbitMQ stream only credit for further deliveries, in a queue its end.
    ///
    /// Without a result: an ack fails only when its connection is gone, and then the broker hands
    /// the message over again. Returns within [`REQUEST_DEADLINE`](super::request::REQUEST_DEADLINE). A second call does nothing: what
    /// was settled when it was taken keeps its body until it is clear what becomes of it.
    pub async fn settle(&mut self) {
        if let Some(acker) = self.acker.take() {
            settle(&acker).await;
        }
        self.seat = None;
    }

    pub(super) fn from_broker(message: lapin::message::Delivery) -> Self {
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
    pub(super) fn counted(self, window: &Window) -> Self {
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
pub(super) fn packing_of(properties: &BasicProperties) -> Packing {
    Packing {
        content_encoding: properties.content_encoding().as_ref().map(|name| name.as_str().into()),
        message_type: properties.kind().as_ref().map(|name| name.as_str().into()),
    }
}
