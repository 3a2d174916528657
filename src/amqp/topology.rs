//! Exchanges, queues and bindings: declared when `amqp.declare` says so, and nothing else.
//!
//! Each declaration has a channel of its own, since the broker closes a channel on which it
//! refuses something.

mod dead_letters;
mod declare;
mod refusal;

use std::collections::BTreeMap;
use std::sync::Arc;

use lapin::ExchangeKind;
use lapin::types::{AMQPValue, FieldTable, ShortString};
use tracing::warn;

use super::connection::Connection;
use super::request::BrokerError;
use crate::config::{self, Argument, ExchangeType, QueueMode};
use declare::{Binding, bind, declare_exchange, declare_queue, delete_queue};

pub use dead_letters::DeadLetterQueue;
pub use refusal::{TopologyError, is_node_down};

/// The names on the broker, checked for what AMQP can carry.
pub struct Topology {
    config: Arc<config::Amqp>,
    exchange: ShortString,
    binding_keys: Vec<ShortString>,
    queue: ShortString,
    dead_letter_exchange: Option<ShortString>,
    queue_arguments: FieldTable,
    /// What was warned of already: a re-attach says it no second time. One entry per object at
    /// most, but for a broker that words its refusal differently each time.
    warned: BTreeMap<String, String>,
}

/// A name that AMQP cannot carry.
#[derive(Debug, thiserror::Error)]
#[error("{key}: a name is longer than the 255 bytes that AMQP can carry")]
pub struct NameError {
    key: &'static str,
}

impl Topology {
    pub fn new(config: Arc<config::Amqp>) -> Result<Self, NameError> {
        let keys = config.binding_keys.iter();
        let dead = config.dead_letter.exchange.as_deref();
        let arguments = match config.queue.mode {
            QueueMode::Stream => stream_arguments(&config.queue),
            QueueMode::Queue => queue_arguments(&config.queue),
        };
        let mut queue_arguments = FieldTable::default();
        for (key, argument) in arguments.into_iter().chain(config.queue.arguments.clone()) {
            let value = match argument {
                Argument::Boolean(value) => AMQPValue::Boolean(value),
                Argument::Integer(value) => AMQPValue::LongLongInt(value),
                Argument::Text(value) => AMQPValue::LongString(value.into()),
            };
            queue_arguments.insert(name("amqp.queue.arguments", &key)?, value);
        }
        Ok(Self {
            exchange: name("amqp.exchange", &config.exchange)?,
            binding_keys: keys
                .map(|key| name("amqp.binding_keys", key))
                .collect::<Result<_, _>>()?,
            queue: name("amqp.queue.name", &config.queue.resolved_name())?,
            dead_letter_exchange: dead
                .map(|exchange| name("amqp.dead_letter.exchange", exchange))
                .transpose()?,
            queue_arguments,
            warned: BTreeMap::new(),
            config,
        })
    }

    pub fn exchange(&self) -> &ShortString {
        &self.exchange
    }

    pub fn queue(&self) -> &ShortString {
        &self.queue
    }

    /// What the feed looks after for the dead letters.
    pub fn dead_letter_queue(&self) -> DeadLetterQueue {
        let name = self.dead_letter_exchange.clone();
        DeadLetterQueue::new(name.filter(|_| self.config.declare))
    }

    /// Makes sure that the queue is there, bound to the exchange, when `amqp.declare` says so.
    ///
    /// What exists with other arguments is used as it is, with one warning.
    ///
    /// # Errors
    /// [`TopologyError::QueueType`] for good; otherwise the broker refused or failed: try again.
    pub async fn ensure(&mut self, connection: &Connection) -> Result<(), TopologyError> {
        self.ensure_exchange(connection).await?;
        if !self.config.declare {
            return Ok(());
        }
        let arguments = self.queue_arguments.clone();
        let declared = declare_queue(connection, &self.queue, arguments).await;
        self.differing(format!("queue {}", self.queue), declared)?;
        for key in &self.binding_keys {
            let binding = Binding { queue: &self.queue, exchange: &self.exchange, key };
            bind(connection, binding).await.map_err(|error| self.refused(error))?;
        }
        Ok(())
    }

    /// Makes sure that the exchange is there, when `amqp.declare` says so. One with other arguments is
    /// used as it is, with one warning.
    ///
    /// # Errors
    /// The broker refused or failed: try again.
    pub async fn ensure_exchange(&mut self, connection: &Connection) -> Result<(), TopologyError> {
        if !self.config.declare {
            return Ok(());
        }
        let kind = match self.config.exchange_type {
            ExchangeType::Topic => ExchangeKind::Topic,
            ExchangeType::Direct => ExchangeKind::Direct,
            ExchangeType::Fanout => ExchangeKind::Fanout,
            ExchangeType::Headers => ExchangeKind::Headers,
        };
        let declared = declare_exchange(connection, &self.exchange, kind).await;
        self.differing(format!("exchange {}", self.exchange), declared)
    }

    /// Deletes the queue of a replica that ends in good order, in `queue` mode, when it is ours and not
    /// to be kept.
    ///
    /// # Errors
    /// The broker refused or failed: `amqp.queue.expires` ends the queue later.
    pub async fn leave(&self, connection: &Connection) -> Result<(), BrokerError> {
        let config::Queue { mode, keep, .. } = self.config.queue;
        if mode == QueueMode::Queue && self.config.declare && !keep {
            delete_queue(connection, &self.queue).await?;
        }
        Ok(())
    }

    /// Turns a refusal that says that the object exists with other arguments into a warning.
    fn differing(
        &mut self,
        object: String,
        declared: Result<(), BrokerError>,
    ) -> Result<(), TopologyError> {
        let Err(error) = declared else { return Ok(()) };
        match self.refused(error) {
            TopologyError::Differs(error) => {
                self.warn_once(object, &error);
                Ok(())
            }
            refused => Err(refused),
        }
    }

    fn refused(&self, error: BrokerError) -> TopologyError {
        TopologyError::of(error, self.queue.as_str())
    }

    fn warn_once(&mut self, object: String, error: &BrokerError) {
        let reason = error.to_string();
        if self.warned.get(&object) == Some(&reason) {
            return;
        }
        warn!(object, %reason, "exists with other arguments and is used as it is");
        self.warned.insert(object, reason);
    }
}

fn name(key: &'static str, name: &str) -> Result<ShortString, NameError> {
    ShortString::try_new(name).map_err(|_| NameError { key })
}

fn stream_arguments(queue: &config::Queue) -> BTreeMap<String, Argument> {
    BTreeMap::from([
        ("x-queue-type".into(), Argument::Text("stream".into())),
        ("x-max-age".into(), Argument::Text(queue.max_age.clone())),
        ("x-max-length-bytes".into(), bytes(queue.max_length_bytes)),
        ("x-stream-max-segment-size-bytes".into(), bytes(queue.segment_bytes)),
    ])
}

fn bytes(size: bytesize::ByteSize) -> Argument {
    Argument::Integer(i64::try_from(size.as_u64()).unwrap_or(i64::MAX))
}

fn queue_arguments(queue: &config::Queue) -> BTreeMap<String, Argument> {
    let expires_ms = i64::try_from(queue.expires.as_millis()).unwrap_or(i64::MAX);
    BTreeMap::from([
        ("x-queue-type".into(), Argument::Text("classic".into())),
        ("x-expires".into(), Argument::Integer(expires_ms)),
        ("x-max-length-bytes".into(), bytes(queue.max_length_bytes)),
    ])
}
