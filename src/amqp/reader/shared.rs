//! Reading over the connection that readings share, with several messages under way.

use std::sync::Arc;

use futures_lite::future::poll_once;
use lapin::Acker;

use super::channels::Slot;
use super::link::{Link, Message, ReadError};
use crate::amqp::connection::Connection;
use crate::amqp::consumer::{Consumer, ConsumerStart, ProbeError};
use crate::amqp::request::settle_up_to;

/// Messages under way to one reading. Fewer than a live consumer has, since there are several
/// readings and each message may be as large as a block can be; enough for thousands a second from a
/// broker a millisecond away.
const PREFETCH: u16 = 8;

/// Messages over the connection that readings share.
pub struct Shared {
    consumer: Consumer,
    _slot: Slot,
    /// The last message not acked, and how many there are.
    unacked: Option<Acker>,
    unacked_len: u16,
    link: Arc<Link>,
    connection: Arc<Connection>,
}

impl Shared {
    pub async fn from(link: &Arc<Link>, offset: u64) -> Result<Self, ReadError> {
        let connection = link.connection().await;
        let opened = link.consumer(&connection, ConsumerStart::Offset(offset), PREFETCH).await;
        let (consumer, slot) = opened.map_err(|error| link.failed(&connection, error.into()))?;
        let link = Arc::clone(link);
        Ok(Self { consumer, _slot: slot, unacked: None, unacked_len: 0, link, connection })
    }

    /// As [`super::Messages::next`].
    pub async fn next(&mut self) -> Result<Message, ReadError> {
        if self.unacked_len >= PREFETCH / 2 {
            self.ack().await;
        }
        let next = match poll_once(self.consumer.next()).await {
            Some(next) => next,
            None => {
                self.ack().await;
                self.consumer.next().await
            }
        };
        let message = next
            .map_err(|ended| self.link.failed(&self.connection, ProbeError::ConsumerEnd(ended)))?;
        let acker = message.acker.clone();
        let message = Message::of(message).ok_or(ReadError::NotAStream)?;
        self.unacked = Some(acker);
        self.unacked_len += 1;
        Ok(message)
    }

    async fn ack(&mut self) {
        self.unacked_len = 0;
        if let Some(acker) = self.unacked.take() {
            settle_up_to(&acker).await;
        }
    }
}
