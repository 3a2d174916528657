//! The dead letters' exchange and queue, declared beside the feed, which never waits for them.

use std::convert::Infallible;
use std::sync::Mutex;
use std::time::Duration;

use lapin::ExchangeKind;
use lapin::types::{AMQPValue, FieldTable, ShortString};
use tokio::time::sleep;
use tracing::{info, warn};

use super::declare::{Binding, bind, declare_exchange, declare_queue};
use crate::amqp::connection::Connection;
use crate::amqp::precedence::Precedence;
use crate::amqp::request::BrokerError;

/// The queue's bound, in messages; the oldest are dropped.
const LETTERS_MAX: i64 = 1_000;
/// Matches every routing key of a topic exchange.
const EVERYTHING: &str = "#";
/// Until another attempt to set them up. A node that holds an older queue may be down for long.
const AGAIN_AFTER: Duration = Duration::from_secs(30);

/// The exchange and the queue of its name; none when letters are turned off, or when `amqp.declare`
/// forbids to declare anything.
pub struct DeadLetterQueue {
    name: Option<ShortString>,
    /// What was warned of already: an attempt that fails for the same reason says it no second time.
    warned: Mutex<Option<String>>,
}

impl DeadLetterQueue {
    pub fn new(name: Option<ShortString>) -> Self {
        Self { name, warned: Mutex::default() }
    }

    /// Declares what is missing, again until the broker has done it, and then waits for ever.
    ///
    /// # Cancel safety
    /// Dropped, a declaration under way may or may not be carried out.
    pub async fn look_after(&self, connection: &Connection, precedence: &Precedence) -> Infallible {
        while let Some(name) = &self.name {
            let declared = declare(connection, name).await;
            if declared.is_err() && !connection.is_open() {
                // Not the letters' fault: the feed will be back with another connection.
                break;
            }
            precedence.set_letters_set_up();
            self.tell(name, &declared);
            if declared.is_ok() {
                break;
            }
            sleep(AGAIN_AFTER).await;
        }
        precedence.set_letters_set_up();
        std::future::pending().await
    }

    fn tell(&self, name: &ShortString, declared: &Result<(), BrokerError>) {
        let mut warned = self.warned.lock().expect("bug: nothing panics while it holds this lock");
        let reason = declared.as_ref().err().map(ToString::to_string);
        match &reason {
            Some(reason) if warned.as_ref() != Some(reason) => {
                warn!(%reason, "dead letters cannot be set up; the feed goes on without");
            }
            None if warned.is_some() => info!(queue = name.as_str(), "dead letters are set up"),
            _ => {}
        }
        *warned = reason;
    }
}

async fn declare(connection: &Connection, name: &ShortString) -> Result<(), BrokerError> {
    existing(declare_exchange(connection, name, ExchangeKind::Topic).await)?;
    // With its type: a virtual host may have streams for its default, which no dead letter fits. A
    // quorum queue is there while any of its nodes is; only an old broker knows none.
    match existing(declare_queue(connection, name, arguments("quorum")).await) {
        Err(error) if error.code().is_some_and(|code| code != 403) => {
            existing(declare_queue(connection, name, arguments("classic")).await)?;
        }
        declared => declared?,
    }
    bind(connection, Binding { queue: name, exchange: name, key: &EVERYTHING.into() }).await
}

fn arguments(queue_type: &str) -> FieldTable {
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString(queue_type.into()));
    arguments.insert("x-max-length".into(), AMQPValue::LongLongInt(LETTERS_MAX));
    arguments.insert("x-overflow".into(), AMQPValue::LongString("drop-head".into()));
    arguments
}

/// What exists with other arguments, or as another type, serves as it is.
fn existing(declared: Result<(), BrokerError>) -> Result<(), BrokerError> {
    match declared {
        Err(error) if error.code() == Some(406) && error.reply().contains("inequivalent") => Ok(()),
        declared => declared,
    }
}
