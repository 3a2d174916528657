//! A stream that is followed: its connection, another one after a cut, and the position that moves on.

use std::fmt;
use std::pin::Pin;
use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout_at};

use super::connection::{ANSWER, ServerConnection};
use super::ending::ConnectionEnd;
use super::error::{Error, StateError};
use super::message::{self, StreamMessage};
use super::request::RequestTemplate;
use super::state::StateFile;
use super::tracker::Tracker;
use crate::backoff::Backoff;
use crate::protocol::Position;

/// Connections in a row whose server has not come as far as the stream has, before the position is
/// taken for another chain's. Each waits 10 s for the server to catch up.
const AHEAD_MAX: u32 = 5;

/// Follows a stream and yields its messages; made by [`Builder::build`].
#[derive(Debug)]
pub struct Subscriber {
    request: RequestTemplate,
    pub(super) tracker: Tracker,
    state: Option<StateFile>,
    link: LinkState,
    backoff: Backoff,
    /// Connections in a row that ended because the server is behind.
    ahead: u32,
    /// Until when the server may say that the stream is done; set when it is.
    goodbye_at: Option<Instant>,
}

type Connecting = Pin<Box<dyn Future<Output = Result<ServerConnection, ConnectionEnd>> + Send>>;

enum LinkState {
    /// There is none before this.
    Waiting(Instant),
    Opening(Connecting),
    Open(Box<ServerConnection>),
    Ended,
}

impl Subscriber {
    pub(super) fn new(
        request: RequestTemplate,
        tracker: Tracker,
        state: Option<StateFile>,
    ) -> Self {
        Self {
            request,
            tracker,
            state,
            link: LinkState::Waiting(Instant::now()),
            backoff: Backoff::default(),
            ahead: 0,
            goodbye_at: None,
        }
    }

    /// The next message; None at the end that was asked for, by height or by limit.
    ///
    /// Waits as long as nothing comes. Connects, and connects again, as part of this.
    ///
    /// # Errors
    /// What trying again does not mend; each [`Error`] says what to do. The stream has ended then:
    /// further calls yield None.
    ///
    /// # Cancel safety
    /// Nothing is lost or repeated: a call that is dropped before it yields has yielded nothing, and
    /// connecting goes on with the next call.
    pub async fn next(&mut self) -> Result<Option<StreamMessage>, Error> {
        let outcome = self.advance().await;
        if !matches!(outcome, Ok(Some(_))) {
            self.link = LinkState::Ended;
        }
        outcome
    }

    /// Behind what [`Subscriber::next`] yielded last: where a stream goes on that begins
    /// [after](Start::After) it. None while the server has not told where it begins, and always from
    /// a server that cannot resume.
    ///
    /// It moves with blocks and heartbeats too, so it is a good place even when a filter rarely
    /// matches. In the one case that a filter matches a transaction whose id is not of 64 hex digits
    /// in lower case, no position can name that event and this stays where it was until the block's end.
    pub fn position(&self) -> Option<Position> {
        self.tracker.position()
    }

    /// Whether the stream goes on where it was after a cut. False until the server has told a
    /// [position](StreamMessage::Position), and for good with a server that never does.
    pub fn resumes(&self) -> bool {
        self.tracker.is_placed()
    }

    /// Writes the position to the state file; nothing without one, or if it says so already. Call it
    /// when all that was yielded is dealt with: at a block's end, and at your own.
    ///
    /// The file is replaced as a whole and on the disk when this returns, so it blocks for as long as
    /// the disk takes.
    ///
    /// # Errors
    /// The file cannot be written. It says what it said before.
    pub fn save(&mut self) -> Result<(), StateError> {
        match self.position() {
            Some(position) => self.save_at(&position),
            None => Ok(()),
        }
    }

    /// As [`Subscriber::save`], with an earlier position of this stream: for a caller that deals with
    /// messages later than it asks for the next.
    ///
    /// # Errors
    /// As [`Subscriber::save`].
    pub fn save_at(&mut self, position: &Position) -> Result<(), StateError> {
        match &mut self.state {
            Some(state) => state.save(position),
            None => Ok(()),
        }
    }

    /// Takes leave of the server, for up to 10 s. Dropping the stream instead is no fault.
    pub async fn close(self) {
        if let LinkState::Open(connection) = self.link {
            connection.close().await;
        }
    }

    /// What the next connection asks for.
    pub(super) fn asks(&self) -> String {
        let (resume, limit) = self.tracker.asks();
        self.request.url(resume, limit)
    }

    async fn advance(&mut self) -> Result<Option<StreamMessage>, Error> {
        loop {
            if self.tracker.is_done() {
                self.take_leave().await;
                return Ok(None);
            }
            match &mut self.link {
                LinkState::Ended => return Ok(None),
                LinkState::Waiting(until) => {
                    sleep_until(*until).await;
                    self.link = LinkState::Opening(Box::pin(ServerConnection::open(
                        self.asks(),
                        self.request.trust(),
                    )));
                }
                LinkState::Opening(opening) => match opening.await {
                    Ok(connection) => {
                        self.link = LinkState::Open(Box::new(connection));
                        self.tracker.connected();
                        return Ok(Some(StreamMessage::Connected));
                    }
                    Err(ending) => return self.ended(ending),
                },
                LinkState::Open(connection) => match connection.text().await {
                    Ok(text) => {
                        if let Some(message) = self.take(&text)? {
                            return Ok(Some(message));
                        }
                    }
                    Err(ending) => return self.ended(ending),
                },
            }
        }
    }

    fn take(&mut self, text: &str) -> Result<Option<StreamMessage>, Error> {
        let message = self.tracker.take(message::read(text).map_err(Error::Protocol)?)?;
        match &message {
            // A server that takes clients and drops them at once is not asked ever faster.
            Some(StreamMessage::Position { .. }) | None => {}
            Some(_) => {
                self.backoff.reset();
                self.ahead = 0;
            }
        }
        Ok(message)
    }

    fn ended(&mut self, ending: ConnectionEnd) -> Result<Option<StreamMessage>, Error> {
        let (why, not_before) = match ending {
            ConnectionEnd::Fatal(error) => return Err(error),
            ConnectionEnd::Done { .. } if self.tracker.has_end() => return Ok(None),
            ConnectionEnd::Done { why } => (why, Duration::ZERO),
            ConnectionEnd::Again { why, not_before } => (why, not_before),
            ConnectionEnd::Ahead { why, tip_height } => {
                self.ahead += 1;
                // A replica that lags behind the one that was left; else a position of another chain.
                if !self.tracker.is_placed() || self.ahead >= AHEAD_MAX {
                    return Err(Error::Ahead { tip_height });
                }
                (why, Duration::ZERO)
            }
        };
        // At least half of it, since a person may be watching; and never before the server wants.
        let again_in = self.backoff.next(1.0 - fastrand::f64() / 2.0) + not_before;
        self.link = LinkState::Waiting(Instant::now() + again_in);
        Ok(Some(StreamMessage::Disconnected { why, again_in }))
    }

    /// All is yielded: reads what the server still says, so that the position is at the block's end if
    /// that is where the stream ends.
    ///
    /// # Cancel safety
    /// Goes on with the next call.
    async fn take_leave(&mut self) {
        let until = *self.goodbye_at.get_or_insert(Instant::now() + ANSWER);
        while let LinkState::Open(connection) = &mut self.link {
            match timeout_at(until, connection.text()).await {
                Ok(Ok(text)) => {
                    let Ok(said) = message::read(&text) else { continue };
                    if !said.is_block_end() {
                        continue;
                    }
                    if self.tracker.take(said).is_err() {
                        return;
                    }
                }
                Ok(Err(_)) | Err(_) => return,
            }
        }
    }
}

impl fmt::Debug for LinkState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Waiting(_) => "waiting",
            Self::Opening(_) => "opening",
            Self::Open(_) => "open",
            Self::Ended => "ended",
        })
    }
}

#[cfg(test)]
mod tests;
