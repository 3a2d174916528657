//! A client that believes nothing: what it is sent is held against the model, message by message, over
//! all its connections.

mod connection;
mod heard;
mod place;

use super::chain::Chain;
use super::pipe::Stamp;
use super::tally::{Seen, Tally};
use crate::server::simulated::Stream;
use connection::inflated;
pub use connection::{Bounds, Closed, Connection};
pub use heard::index_of_id;

const TEXT: u8 = 0x81;
const DEFLATED: u8 = 0xc1;
const CLOSE: u8 = 0x88;
const PING: u8 = 0x89;
const PONG: u8 = 0x8a;

/// What a client asks for but for its place; for all its life.
#[derive(Debug, Clone, Copy)]
pub struct Taste {
    pub stream: Stream,
    pub is_compressed: bool,
    pub is_batch: bool,
    pub has_control: bool,
    /// Only transactions that create.
    pub is_filtered: bool,
    /// Does not answer pings.
    pub is_mute: bool,
}

/// The event that is wanted next: a height, and a place in its block.
pub type Place = (u64, u64);

pub struct Client {
    pub taste: Taste,
    /// Which chain it has seen something of.
    pub chain: Option<usize>,
    /// None: wherever the next connection begins.
    pub next: Option<Place>,
    pub connection: Option<Connection>,
}

impl Client {
    pub fn new(taste: Taste) -> Self {
        Self { taste, chain: None, next: None, connection: None }
    }

    /// The query but for its start.
    pub fn query(&self) -> String {
        let mut parts = Vec::new();
        parts.extend(self.taste.is_batch.then_some("batch=block"));
        parts.extend(self.taste.has_control.then_some("control=true"));
        parts.extend(self.taste.is_filtered.then_some("operation=CREATE"));
        parts.join("&")
    }

    /// Reads up to `bytes_max` of what is there; returns how many.
    pub fn read(&mut self, bytes_max: usize, chains: &[Chain], tally: &mut Tally) -> usize {
        let mut left = bytes_max;
        while left > 0 {
            let Some(connection) = &mut self.connection else { break };
            let Some((bytes, stamp)) = connection.pipe.read(left) else { break };
            left -= bytes.len();
            connection.buffer.extend(bytes);
            while let Some((first, payload)) = self.connection.as_mut().and_then(Connection::frame)
            {
                self.take(first, payload, stamp, chains, tally);
            }
        }
        bytes_max - left
    }

    fn take(
        &mut self,
        first: u8,
        payload: Vec<u8>,
        stamp: Stamp,
        chains: &[Chain],
        tally: &mut Tally,
    ) {
        let connection = self.connection.as_mut().expect("bug: it has just read");
        assert!(connection.closed.is_none(), "a frame behind the close");
        match first {
            PING if !self.taste.is_mute => connection.send(PONG, &payload),
            PING => {}
            PONG => {
                let at = connection.pings.iter().position(|ping| *ping == payload);
                connection.pings.drain(..=at.expect("a pong to a ping of ours"));
                tally.note(Seen::Pongs);
            }
            CLOSE => {
                let code = payload.get(..2).map_or(1005, |it| u16::from_be_bytes([it[0], it[1]]));
                let reason = payload.get(2..).unwrap_or_default().to_vec();
                let reason = String::from_utf8(reason).expect("text");
                connection.closed = Some(Closed { code, reason, stamp });
            }
            TEXT => self.hear(&payload, stamp, chains, tally),
            DEFLATED if self.taste.is_compressed => {
                self.hear(&inflated(&payload), stamp, chains, tally);
            }
            other => panic!("no frame was to begin with {other:#x}"),
        }
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let asked = self.connection.as_ref().map(|connection| &connection.asked);
        let Self { taste, next, chain, .. } = self;
        write!(f, "{taste:?} at {next:?} of chain {chain:?}, which asked for {asked:?}")
    }
}
