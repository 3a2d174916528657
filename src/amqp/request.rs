//! One request to the broker: how long it may take, what it asks for, and what the broker answers in
//! place of doing it.

use std::time::Duration;

use lapin::Acker;

/// How long the broker may take over one request. Far above any real answer, so that it means a
/// broker that hangs while its heartbeats still come.
pub(super) const REQUEST_DEADLINE: Duration = Duration::from_secs(10);
/// The broker's reply code for a crash of its own.
pub(super) const INTERNAL_ERROR: u16 = 541;
/// For what its configuration forbids.
const NOT_ALLOWED: u16 = 530;

/// What the broker did not do.
#[derive(Debug, thiserror::Error)]
#[error("{doing}: {}{}", reply(source), self.lacking())]
pub struct BrokerError {
    /// What was asked of it, such as `declaring queue "blockcast.blocks"`.
    pub(super) doing: String,
    /// The permissions that this takes, in words. RabbitMQ before 4.0 does not say which is missing,
    /// and later ones name one of several that would do.
    pub(super) needs: &'static str,
    pub(super) source: Box<lapin::Error>,
}

impl BrokerError {
    /// The broker's reply code, such as 406; none when the connection failed.
    pub(super) fn code(&self) -> Option<u16> {
        code(&self.source)
    }

    /// As [`consumer::Ended::is_unreadable`].
    pub(super) fn is_unreadable(&self) -> bool {
        self.code() == Some(INTERNAL_ERROR)
    }

    /// No further channel may be opened.
    pub(super) fn no_channel() -> Self {
        let source = Box::new(lapin::ErrorKind::ChannelsLimitReached.into());
        Self { doing: "opening a channel".into(), needs: "to connect", source }
    }

    /// Whether the connection may have no further channel. It goes on with those that it has.
    pub(super) fn is_out_of_channels(&self) -> bool {
        matches!(self.source.kind(), lapin::ErrorKind::ChannelsLimitReached)
    }

    /// Whether the broker did not answer in time.
    pub(super) fn is_unanswered(&self) -> bool {
        matches!(self.source.kind(), lapin::ErrorKind::IOError(error)
            if error.kind() == std::io::ErrorKind::TimedOut)
    }

    pub(super) fn reply(&self) -> String {
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
pub(super) struct Request {
    /// Such as `declaring queue "blockcast.blocks"`.
    pub(super) doing: String,
    /// The permissions that it takes, in words.
    pub(super) needs: &'static str,
}

impl From<&str> for Request {
    fn from(doing: &str) -> Self {
        Self { doing: doing.into(), needs: "to connect" }
    }
}

/// Waits for the broker's answer, at most [`REQUEST_DEADLINE`].
pub(super) async fn request<T>(
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

pub(super) fn code(error: &lapin::Error) -> Option<u16> {
    match error.kind() {
        lapin::ErrorKind::ProtocolError(reply) => Some(reply.get_id()),
        _ => None,
    }
}

/// Whether the broker has closed the connection since it allows its user, or all users, no such number of
/// channels.
pub(super) fn is_too_many_channels(error: &lapin::Error) -> bool {
    code(error) == Some(NOT_ALLOWED) && reply(error).contains("number of channels")
}

/// The broker's own words, without the library's around them.
pub(super) fn reply(error: &lapin::Error) -> String {
    match error.kind() {
        lapin::ErrorKind::ProtocolError(reply) => {
            format!("{} ({})", reply.get_message(), reply.get_id())
        }
        lapin::ErrorKind::IOError(source) => source.to_string(),
        _ => error.to_string(),
    }
}

/// Acks one message; see [`Delivery::settle`](super::Delivery::settle) for why nothing is returned.
pub(super) async fn settle(acker: &Acker) {
    let ack = acker.ack(lapin::options::BasicAckOptions { multiple: false });
    let _gone = tokio::time::timeout(REQUEST_DEADLINE, ack).await;
}

/// Acks one message and all before it on its channel, where that is credit only.
pub(super) async fn settle_up_to(acker: &Acker) {
    let ack = acker.ack(lapin::options::BasicAckOptions { multiple: true });
    let _gone = tokio::time::timeout(REQUEST_DEADLINE, ack).await;
}
