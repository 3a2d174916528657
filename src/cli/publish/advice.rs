//! Advice on what the broker refuses for good.

use anyhow::anyhow;

use crate::amqp::PublishError;
use crate::config::{self, QueueMode};

/// A final error, with what to do about it where that is known.
pub fn explain(error: PublishError, amqp: &config::Amqp) -> anyhow::Error {
    match error {
        PublishError::Unroutable { exchange } => {
            let queue = amqp.queue.resolved_name();
            let way_out = match amqp.queue.mode {
                QueueMode::Stream => format!(
                    "bind queue {queue:?} with \"block.#\" (amqp.binding_keys is {:?}), or set amqp.declare=true to have that done",
                    amqp.binding_keys.join(",")
                ),
                QueueMode::Queue => {
                    "in queue mode each replica has a queue of its own: start one before, or bind its queue with \"block.#\""
                        .to_owned()
                }
            };
            anyhow!(
                "no queue is bound to exchange {exchange:?} with a key that matches \"block.valid\", so the broker returned the block; {way_out}"
            )
        }
        error => anyhow!("cannot publish: {error}"),
    }
}
