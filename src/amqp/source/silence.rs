//! Silence of a consumer: nothing comes though there is something to come, while heartbeats go on.
//!
//! It happens when the consumer's node loses its replica of the stream, or by a fault of the broker. It
//! lasts for ever. A chain without blocks looks the same. So after a quiet while the source looks at the
//! queue on another channel. That costs nothing while messages flow, and never delays one.

use std::time::Duration;

use tokio::time::timeout;
use tracing::debug;

use super::feed::{Feed, SourcePlace};
use super::interruption::{Finding, Interruption, Silence};
use crate::amqp::Delivery;
use crate::amqp::connection::Connection;
use crate::amqp::consumer::{self, Consumer, ConsumerStart, ProbeError, offset_of};
use crate::amqp::request::settle;
use crate::amqp::window::Window;
use crate::config::QueueMode;

/// How long a message may take that is there; the broker may have to read its disk.
const MESSAGE_WITHIN: Duration = Duration::from_secs(5);

impl Feed {
    /// The next message.
    ///
    /// # Errors
    /// None will come: consuming has ended, or the consumer is silent.
    ///
    /// # Cancel safety
    /// No message is lost when dropped, and no channel is left open.
    pub async fn next(
        &self,
        connection: &Connection,
        consumer: &mut Consumer,
        window: &Window,
    ) -> Result<Delivery, Interruption> {
        let message = loop {
            if let Ok(message) = timeout(self.config.quiet_after, consumer.next()).await {
                break message?;
            }
            if window.is_full() {
                continue; // The broker waits for us.
            }
            let looked = tokio::select! {
                biased;
                message = consumer.next() => break message?,
                looked = self.look_behind(connection) => looked,
            };
            let Some(finding) = looked else { continue };
            // What was found may have been written just now, and be on its way.
            match consumer.next_within(MESSAGE_WITHIN, connection).await? {
                Some(message) => break message,
                None if window.is_full() => {}
                None => return Err(Interruption::Silent(self.silence(finding))),
            }
        };
        Ok(Delivery::from_broker(message).counted(window))
    }

    /// Looks at the queue on another channel. None when there is nothing to come, or when the look
    /// failed in a way that says nothing of the consumer.
    async fn look_behind(&self, connection: &Connection) -> Option<Finding> {
        let looked = match self.config.queue.mode {
            QueueMode::Stream => self.look_at_stream(connection).await,
            QueueMode::Queue => self.look_at_queue(connection).await,
        };
        match looked {
            Ok(finding) => finding,
            Err(ProbeError::Refused(error)) if error.is_unanswered() => Some(Finding::NoAnswer),
            // The node has no replica of the stream, or no such queue.
            Err(ProbeError::Refused(error)) if matches!(error.code(), Some(404 | 406)) => {
                Some(Finding::Refused { reply: error.reply() })
            }
            Err(error) => {
                debug!(%error, "the queue cannot be looked at; it may only be quiet");
                None
            }
        }
    }

    /// Reads again from the last message that came, or from the first when none did.
    async fn look_at_stream(&self, connection: &Connection) -> Result<Option<Finding>, ProbeError> {
        let (taken, start) = match &self.place {
            SourcePlace::Taken { offset, body } => {
                (Some((*offset, body)), ConsumerStart::Offset(*offset))
            }
            SourcePlace::Fresh | SourcePlace::Anew | SourcePlace::Queue => {
                (None, ConsumerStart::First)
            }
        };
        let mut consumer = Consumer::open(connection, self.consuming(Some(start))).await?;
        let mut is_given_back = false;
        while let Some(message) = consumer.next_within(MESSAGE_WITHIN, connection).await? {
            let offset = offset_of(&message.properties).ok_or(ProbeError::NotAStream)?;
            settle(&message.acker).await;
            match taken {
                Some((taken, body)) if offset == taken && *message.data == **body => {
                    is_given_back = true;
                }
                Some((taken, _)) if offset == taken => break,
                _ => {
                    consumer.close().await;
                    let end = self.look_up_tail(connection).await.ok().flatten();
                    let end = end.unwrap_or(offset).max(offset);
                    return Ok(Some(Finding::GoesOn { end }));
                }
            }
        }
        consumer.close().await;
        let is_quiet = match taken {
            Some(_) => is_given_back,
            None => consumer::count(connection, self.topology.queue()).await? == 0,
        };
        Ok((!is_quiet).then_some(Finding::NotGivenBack))
    }

    /// Of a queue the broker counts what it has not handed over.
    async fn look_at_queue(&self, connection: &Connection) -> Result<Option<Finding>, ProbeError> {
        let messages = consumer::count(connection, self.topology.queue()).await?;
        Ok((messages > 0).then_some(Finding::Waiting { messages }))
    }

    pub fn silence(&self, finding: Finding) -> Silence {
        let taken = match &self.place {
            SourcePlace::Taken { offset, .. } => Some(*offset),
            SourcePlace::Fresh | SourcePlace::Anew | SourcePlace::Queue => None,
        };
        Silence { taken, finding }
    }
}
