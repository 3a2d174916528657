//! The broker's answers to messages that are published.

use lapin::Confirmation;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};

use super::connection::Connection;
use super::request::{BrokerError, Request, request};

/// A message that no queue is bound for comes back, and is not dropped.
pub const MANDATORY: BasicPublishOptions =
    BasicPublishOptions { mandatory: true, immediate: false };

/// Why the broker did not take a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unpublished {
    /// No queue is bound for it.
    Unroutable,
    Nacked,
}

/// Opens a channel on which the broker answers each message.
///
/// # Errors
/// The connection is gone, or the broker refused.
pub async fn channel(
    connection: &Connection,
    asked: impl FnOnce() -> Request,
) -> Result<lapin::Channel, BrokerError> {
    let channel = connection.channel().await?;
    request(asked, channel.confirm_select(ConfirmSelectOptions { nowait: false })).await?;
    Ok(channel)
}

/// Whether a queue has the message that was answered so.
///
/// # Errors
/// No queue has it.
pub fn taken(answer: Confirmation) -> Result<(), Unpublished> {
    match answer {
        Confirmation::Ack(None) => Ok(()),
        Confirmation::Ack(Some(_)) | Confirmation::Nack(Some(_)) => Err(Unpublished::Unroutable),
        Confirmation::Nack(None) => Err(Unpublished::Nacked),
        Confirmation::NotRequested => unreachable!("bug: the channel is in confirm mode"),
    }
}

/// What a message asks of the broker.
pub fn publishing(exchange: &str) -> Request {
    Request {
        doing: format!("publishing to exchange {exchange:?}"),
        needs: "`write` for the exchange",
    }
}
