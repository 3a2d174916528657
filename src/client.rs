//! A client of the streams: follows one over cuts and restarts, yields every event once and in
//! order, and always knows the cursor to go on from.
#![doc = include_str!("client/README.md")]
#![deny(missing_docs, reason = "programs of others are built on this")]

mod address;
mod connection;
mod cursor;
mod ending;
mod error;
mod message;
mod place;
mod request;
mod state;
mod trust;

use std::fmt;
use std::pin::Pin;
use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout_at};

use crate::backoff::Backoff;
use connection::{ANSWER, Connection};
use ending::Ending;
use place::Place;
use request::Request;
use state::StateFile;

pub use cursor::{Cursor, CursorError};
pub use error::{BuildError, Error, StateError};
pub use message::{Batch, Event, Message, Summary};
pub use request::{Builder, Filter, Start};
pub(crate) use trust::Trust;

/// Connections in a row whose server has not come as far as the stream has, before the position is
/// taken for another chain's. Each waits 10 s for the server to catch up.
const AHEAD_MAX: u32 = 5;

/// Messages of a stream, made by [`Builder::build`].
#[derive(Debug)]
pub struct Stream {
    request: Request,
    place: Place,
    state: Option<StateFile>,
    link: Link,
    backoff: Backoff,
    /// Connections in a row that ended because the server is behind.
    ahead: u32,
    /// Until when the server may say that the stream is done; set when it is.
    goodbye_at: Option<Instant>,
}

type Opening = Pin<Box<dyn Future<Output = Result<Connection, Ending>> + Send>>;

enum Link {
    /// There is none before this.
    Waiting(Instant),
    Opening(Opening),
    Open(Box<Connection>),
    Ended,
}

impl Stream {
    fn new(request: Request, place: Place, state: Option<StateFile>) -> Self {
        Self {
            request,
            place,
            state,
            link: Link::Waiting(Instant::now()),
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
    pub async fn next(&mut self) -> Result<Option<Message>, Error> {
        let outcome = self.advance().await;
        if !matches!(outcome, Ok(Some(_))) {
            self.link = Link::Ended;
        }
        outcome
    }

    /// Behind what [`Stream::next`] yielded last: where a stream goes on that begins
    /// [after](Start::After) it. None while the server has not told where it begins, and always from
    /// a server that cannot resume.
    ///
    /// It moves with blocks and heartbeats too, so it is a good place even when a filter rarely
    /// matches. In the one case that a filter matches a transaction whose id is not of 64 hex digits,
    /// no cursor can name that event and this stays where it was until the block's end.
    pub fn cursor(&self) -> Option<Cursor> {
        self.place.cursor()
    }

    /// Whether the stream goes on where it was after a cut. False until the server has told a
    /// [position](Message::Position), and for good with a server that never does.
    pub fn resumes(&self) -> bool {
        self.place.is_placed()
    }

    /// Writes the cursor to the state file; nothing without one, or if it says so already. Call it
    /// when all that was yielded is dealt with: at a block's end, and at your own.
    ///
    /// The file is replaced as a whole and on the disk when this returns, so it blocks for as long as
    /// the disk takes.
    ///
    /// # Errors
    /// The file cannot be written. It says what it said before.
    pub fn save(&mut self) -> Result<(), StateError> {
        match self.cursor() {
            Some(cursor) => self.save_at(&cursor),
            None => Ok(()),
        }
    }

    /// As [`Stream::save`], with an earlier cursor of this stream: for a caller that deals with
    /// messages later than it asks for the next.
    ///
    /// # Errors
    /// As [`Stream::save`].
    pub fn save_at(&mut self, cursor: &Cursor) -> Result<(), StateError> {
        match &mut self.state {
            Some(state) => state.save(cursor),
            None => Ok(()),
        }
    }

    /// Takes leave of the server, for up to 10 s. Dropping the stream instead is no fault.
    pub async fn close(self) {
        if let Link::Open(connection) = self.link {
            connection.close().await;
        }
    }

    /// What the next connection asks for.
    fn asks(&self) -> String {
        let (resume, limit) = self.place.asks();
        self.request.url(&resume, limit)
    }

    async fn advance(&mut self) -> Result<Option<Message>, Error> {
        loop {
            if self.place.is_done() {
                self.take_leave().await;
                return Ok(None);
            }
            match &mut self.link {
                Link::Ended => return Ok(None),
                Link::Waiting(until) => {
                    sleep_until(*until).await;
                    self.link = Link::Opening(Box::pin(Connection::open(
                        self.asks(),
                        self.request.trust(),
                    )));
                }
                Link::Opening(opening) => match opening.await {
                    Ok(connection) => {
                        self.link = Link::Open(Box::new(connection));
                        self.place.connected();
                        return Ok(Some(Message::Connected));
                    }
                    Err(ending) => return self.ended(ending),
                },
                Link::Open(connection) => match connection.text().await {
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

    fn take(&mut self, text: &str) -> Result<Option<Message>, Error> {
        let message = self.place.take(message::read(text).map_err(Error::Protocol)?)?;
        match &message {
            // A server that takes clients and drops them at once is not asked ever faster.
            Some(Message::Position { .. }) | None => {}
            Some(_) => {
                self.backoff.reset();
                self.ahead = 0;
            }
        }
        Ok(message)
    }

    fn ended(&mut self, ending: Ending) -> Result<Option<Message>, Error> {
        let (why, not_before) = match ending {
            Ending::Fatal(error) => return Err(error),
            Ending::Done { .. } if self.place.has_end() => return Ok(None),
            Ending::Done { why } => (why, Duration::ZERO),
            Ending::Again { why, not_before } => (why, not_before),
            Ending::Ahead { why, tip_height } => {
                self.ahead += 1;
                // A replica that lags behind the one that was left; else a cursor of another chain.
                if !self.place.is_placed() || self.ahead >= AHEAD_MAX {
                    return Err(Error::Ahead { tip_height });
                }
                (why, Duration::ZERO)
            }
        };
        // At least half of it, since a person may be watching; and never before the server wants.
        let again_in = self.backoff.next(1.0 - fastrand::f64() / 2.0) + not_before;
        self.link = Link::Waiting(Instant::now() + again_in);
        Ok(Some(Message::Disconnected { why, again_in }))
    }

    /// All is yielded: reads what the server still says, so that the cursor is at the block's end if
    /// that is where the stream ends.
    ///
    /// # Cancel safety
    /// Goes on with the next call.
    async fn take_leave(&mut self) {
        let until = *self.goodbye_at.get_or_insert(Instant::now() + ANSWER);
        while let Link::Open(connection) = &mut self.link {
            match timeout_at(until, connection.text()).await {
                Ok(Ok(text)) => {
                    let Ok(said @ message::Said::Block { .. }) = message::read(&text) else {
                        continue;
                    };
                    if self.place.take(said).is_err() {
                        return;
                    }
                }
                Ok(Err(_)) | Err(_) => return,
            }
        }
    }
}

impl fmt::Debug for Link {
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
