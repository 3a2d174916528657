//! Dead letters: bad messages published, body untouched, with headers that say what was wrong.
//!
//! Over a connection of its own, opened when first needed: RabbitMQ stops reading from a connection
//! that publishes while a memory or disk alarm is on, and acks on that connection would stop with
//! it, and the feed with them. Absent here: what is bad, and what is logged when a letter is lost.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use data_encoding::HEXLOWER;
use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable, ShortString};
use sha2::{Digest, Sha256};
use tokio::time::{Instant, timeout_at};

use super::confirm::{self, Unpublished, publishing};
use super::connection::ConnectError;
use super::delivery::Delivery;
use super::keeper::{Keeper, KeeperFailure};
use super::precedence::Precedence;
use super::request::{BrokerError, INTERNAL_ERROR, request};
use super::source::SourceLink;
use crate::config;
use crate::packing::Packing;

/// For one letter, in all: the feed waits for it.
const LETTER_DEADLINE: Duration = Duration::from_secs(10);
/// AMQP 0-9-1's `connection-forced` and `internal-error`: the broker ends, or has lost something, and
/// says nothing about the letter.
const PASSING_CODES: [u16; 2] = [320, INTERNAL_ERROR];
/// Of `detail`, which may quote the message; all headers must fit one frame of 128 KiB.
const DETAIL_BYTES_MAX: usize = 1_024;

/// Publisher of dead letters.
pub struct DeadLetters {
    config: Arc<config::Amqp>,
    queue: String,
    /// Keeper of a connection that is made for the first letter, and anew after a failure. Empty
    /// before the first letter.
    keeper: OnceLock<Keeper>,
    precedence: Arc<Precedence>,
}

/// A bad message and why it is bad.
#[derive(Debug, Clone, Copy)]
pub struct DeadLetter<'a> {
    pub delivery: &'a Delivery,
    /// One word of a closed set, for machines.
    pub reason: &'static str,
    /// A sentence, for people; cut after 1,024 bytes.
    pub detail: &'a str,
}

/// Why a letter was not written. For each the caller logs what it can of the message.
#[derive(Debug, thiserror::Error)]
pub enum DeadLetterError {
    #[error("dead letters are turned off (amqp.dead_letter.exchange is empty)")]
    TurnedOff,
    #[error("no queue is bound to exchange {exchange:?} for routing key {routing_key:?}")]
    Unroutable { exchange: String, routing_key: String },
    #[error("the broker did not take it (nack)")]
    Nacked,
    /// Such as 404 for a missing exchange or 403 for a forbidden one.
    #[error(transparent)]
    Refused(BrokerError),
    #[error(transparent)]
    NoBroker(#[from] ConnectError),
    /// The caller's own decision, after one that was not written in time.
    #[error("not tried: the one before it was not written within 10 s")]
    NotTried,
    #[error("not written within 10 s{}", last.as_ref().map(|error| format!("; {error}")).unwrap_or_default())]
    Deadline { last: Option<Box<DeadLetterError>> },
}

impl DeadLetters {
    /// Dead letters that wait for no feed.
    pub fn new(config: Arc<config::Amqp>) -> Self {
        Self::after(config, Arc::new(Precedence::none()))
    }

    /// Dead letters beside the source of this link: they connect when it has, and wait for it to set
    /// them up.
    pub fn beside(config: Arc<config::Amqp>, link: &SourceLink) -> Self {
        Self::after(config, Arc::clone(&link.precedence))
    }

    fn after(config: Arc<config::Amqp>, precedence: Arc<Precedence>) -> Self {
        let queue = config.queue.resolved_name();
        Self { config, queue, keeper: OnceLock::new(), precedence }
    }

    /// Writes the letter and waits for the broker's word that a queue has it, ten seconds at most.
    ///
    /// A lost connection is made again within that time, so a letter may be written twice.
    ///
    /// # Errors
    /// It was not written, or the broker's word did not come.
    ///
    /// # Cancel safety
    /// Dropped, the letter may or may not be written.
    pub async fn publish(&self, letter: DeadLetter<'_>) -> Result<(), DeadLetterError> {
        let exchange = self.config.dead_letter.exchange.as_deref();
        let exchange = exchange.ok_or(DeadLetterError::TurnedOff)?;
        let deadline = Instant::now() + LETTER_DEADLINE;
        let keeper = self.keeper()?;
        // What became of the letter before, long ago perhaps, is no reason to wait with this one.
        keeper.forget_failures();
        let mut last = None;
        let attempts = async {
            self.precedence.letters_set_up().await;
            loop {
                match self.attempt(keeper, exchange, letter).await {
                    Err(error) if error.is_transient() => {
                        drop(keeper.take());
                        last = Some(Box::new(error));
                        keeper.rest(KeeperFailure::Unfit).await;
                    }
                    settled => return settled,
                }
            }
        };
        match timeout_at(deadline, attempts).await {
            Ok(settled) => settled,
            Err(_) => {
                // What hangs is not used for the next letter.
                drop(keeper.take());
                keeper.failed(KeeperFailure::Unfit, 0.0);
                Err(DeadLetterError::Deadline { last })
            }
        }
    }

    /// Lets the source have the connection's place at the broker; see [`Keeper::give_way`]. Waits for
    /// ever before the first letter.
    ///
    /// # Cancel safety
    /// Dropped, the connection may be closed or not.
    pub async fn give_way(&self) {
        match self.keeper.get() {
            Some(keeper) => keeper.give_way().await,
            None => std::future::pending().await,
        }
    }

    /// Closes the connection, if there is one, within two seconds.
    pub async fn close(&self) {
        if let Some(keeper) = self.keeper.get() {
            keeper.close().await;
        }
    }

    async fn attempt(
        &self,
        keeper: &Keeper,
        exchange: &str,
        letter: DeadLetter<'_>,
    ) -> Result<(), DeadLetterError> {
        let connection = keeper.connection().await?;
        // A channel for each letter: the broker closes one on which it refuses something, and a
        // return belongs to the only message there is.
        let asked = || publishing(exchange);
        let channel =
            confirm::channel(&connection, asked).await.map_err(DeadLetterError::Refused)?;
        let routing_key = letter.delivery.routing_key.as_str();
        let confirm = channel.basic_publish(
            short(exchange),
            short(routing_key),
            confirm::MANDATORY,
            &letter.delivery.body,
            self.properties(letter),
        );
        let answer = async { confirm.await?.await };
        let answer = request(asked, answer).await.map_err(DeadLetterError::Refused)?;
        // Closed in the background when dropped; the letter is written whatever becomes of that.
        drop(channel);
        confirm::taken(answer).map_err(|why| match why {
            Unpublished::Unroutable => DeadLetterError::Unroutable {
                exchange: exchange.into(),
                routing_key: routing_key.into(),
            },
            Unpublished::Nacked => DeadLetterError::Nacked,
        })
    }

    fn keeper(&self) -> Result<&Keeper, ConnectError> {
        match self.keeper.get() {
            Some(keeper) => Ok(keeper),
            None => {
                let precedence = Arc::clone(&self.precedence);
                let keeper = Keeper::beside(Arc::clone(&self.config), precedence)?;
                Ok(self.keeper.get_or_init(|| keeper))
            }
        }
    }

    fn properties(&self, letter: DeadLetter<'_>) -> BasicProperties {
        let DeadLetter { delivery, reason, detail } = letter;
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let detail = cut(detail, DETAIL_BYTES_MAX);
        let mut headers = FieldTable::default();
        for (name, text) in [
            ("x-blockcast-reason", reason),
            ("x-blockcast-detail", detail),
            ("x-blockcast-queue", self.queue.as_str()),
            ("x-blockcast-exchange", delivery.exchange.as_str()),
            ("x-blockcast-routing-key", delivery.routing_key.as_str()),
        ] {
            headers.insert(name.into(), AMQPValue::LongString(text.into()));
        }
        if let Some(offset) = delivery.offset {
            let offset = i64::try_from(offset).unwrap_or(i64::MAX);
            headers.insert("x-blockcast-offset".into(), AMQPValue::LongLongInt(offset));
        }
        headers.insert("x-blockcast-at".into(), AMQPValue::Timestamp(now.as_secs()));
        let properties = BasicProperties::default()
            .with_message_id(short(&message_id(&self.queue, delivery)))
            .with_timestamp(now.as_secs())
            .with_delivery_mode(2)
            .with_headers(headers);
        // What the body needs to be read again is kept with it.
        let Packing { content_encoding, message_type } = &delivery.packing;
        let kept = [
            (delivery.content_type.as_deref(), BasicProperties::with_content_type as fn(_, _) -> _),
            (content_encoding.as_deref(), BasicProperties::with_content_encoding),
            (message_type.as_deref(), BasicProperties::with_type),
        ];
        kept.into_iter().fold(properties, |properties, (text, with)| match text {
            Some(text) => with(properties, short(text)),
            None => properties,
        })
    }
}

impl DeadLetterError {
    /// Whether another attempt may do better: the connection failed, and nothing was refused.
    fn is_transient(&self) -> bool {
        match self {
            Self::NoBroker(ConnectError::Unreachable(_)) => true,
            Self::Refused(error) => error.code().is_none_or(|code| PASSING_CODES.contains(&code)),
            _ => false,
        }
    }
}

/// The same for the same message, on whichever replica: `<queue>@<offset>`, or in `queue` mode, where
/// there is no offset, `<queue>@` and the first 32 hex digits of the body's SHA-256.
fn message_id(queue: &str, delivery: &Delivery) -> String {
    match delivery.offset {
        Some(offset) => format!("{queue}@{offset}"),
        None => {
            let digest = Sha256::digest(&delivery.body);
            format!("{queue}@{}", HEXLOWER.encode(&digest[..16]))
        }
    }
}

/// As much of the text as a short string can carry, 255 bytes.
fn short(text: &str) -> ShortString {
    cut(text, 255).into()
}

/// The text up to the last whole character within so many bytes.
fn cut(text: &str, bytes_max: usize) -> &str {
    let end = (0..=bytes_max.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    &text[..end.unwrap_or(0)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn message_ids_are_the_same_on_every_replica() {
        let at = |offset| message_id("blocks", &Delivery::detached("bad", offset));
        assert_eq!(at(Some(7)), "blocks@7");
        assert_eq!(at(None), at(None));
        assert_eq!(at(None).len(), "blocks@".len() + 32);
        let other = message_id("blocks", &Delivery::detached("worse", None));
        assert_ne!(at(None), other);
    }

    #[test]
    fn long_text_is_cut_between_characters() {
        assert_eq!(cut("blöck", 3), "bl");
        assert_eq!(cut("blöck", 4), "blö");
        assert_eq!(cut("blöck", 100), "blöck");
        assert_eq!(short(&"é".repeat(200)).as_str().len(), 254);
    }

    #[tokio::test]
    async fn an_empty_exchange_turns_letters_off() {
        let mut config = config::Amqp::default();
        config.dead_letter.exchange = None;
        let delivery = Delivery::detached("bad", Some(1));
        let letter = DeadLetter { delivery: &delivery, reason: "not_json", detail: "" };
        let error = DeadLetters::new(Arc::new(config)).publish(letter).await;
        assert!(matches!(error, Err(DeadLetterError::TurnedOff)), "{error:?}");
    }
}
