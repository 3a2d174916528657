//! A client that believes nothing: what it is sent is held against the model, message by message, over
//! all its connections.

mod connection;
mod event_stream;
mod heard;
mod place;

use super::chain::Chain;
use super::pipe::Stamp;
use super::tally::{Seen, Tally};
use crate::protocol::{ControlMessage, FilterName, FilterParameter, Query, Start};
use crate::server::testing::{Framing, Stream};
use connection::inflated;
pub use connection::{Bounds, Closed, Connection};
use event_stream::Event;
pub use event_stream::EventStream;
pub use heard::index_of_id;
use place::place_after_id;
pub use place::{place_after, place_at};

const TEXT: u8 = 0x81;
const DEFLATED: u8 = 0xc1;
const CLOSE: u8 = 0x88;
const PING: u8 = 0x89;
const PONG: u8 = 0x8a;

/// What a client asks for but for its place; for all its life.
#[derive(Debug, Clone, Copy)]
pub struct Taste {
    pub stream: Stream,
    pub wire: Framing,
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
    /// Of its connections of Server-Sent Events, what the newest event with an id had.
    pub last_event_id: Option<String>,
    pub connection: Option<Connection>,
}

impl Client {
    pub fn new(taste: Taste) -> Self {
        Self { taste, chain: None, next: None, last_event_id: None, connection: None }
    }

    /// What it asks for with the next connection.
    pub fn query(&self, start: Start, bounds: Bounds) -> Query {
        let Taste { is_batch: batch, has_control: control, is_filtered, .. } = self.taste;
        let Bounds { until_height, messages_left: limit } = bounds;
        let create = || FilterParameter::new(FilterName::Operation, "CREATE").expect("a value");
        let filters = Vec::from_iter(is_filtered.then(create));
        Query { start, filters, until_height, limit, batch, control }
    }

    /// Reads up to `bytes_max` of what is there; returns how many.
    pub fn read(&mut self, bytes_max: usize, chains: &[Chain], tally: &mut Tally) -> usize {
        let mut left = bytes_max;
        while left > 0 {
            let Some(connection) = &mut self.connection else { break };
            let Some((bytes, stamp)) = connection.pipe.read(left) else { break };
            left -= bytes.len();
            if let Some(events) = &mut connection.events {
                events.take(bytes);
                self.take_events(stamp, chains, tally);
                continue;
            }
            connection.buffer.extend(bytes);
            while let Some((first, payload)) = self.connection.as_mut().and_then(Connection::frame)
            {
                self.take(first, payload, stamp, chains, tally);
            }
        }
        bytes_max - left
    }

    fn take_events(&mut self, stamp: Stamp, chains: &[Chain], tally: &mut Tally) {
        let events = |client: &mut Self| client.connection.as_mut()?.events.as_mut()?.next();
        while let Some(event) = events(self) {
            let connection = self.connection.as_ref().expect("bug: it has just read");
            assert!(connection.closed.is_none(), "an event behind the close");
            self.take_event(event, stamp, chains, tally);
        }
        let connection = self.connection.as_mut().expect("bug: it has just read");
        if let Some(refused) = connection.events.as_ref().and_then(|it| it.refused(stamp)) {
            connection.closed = Some(refused);
        }
    }

    fn take_event(&mut self, event: Event, stamp: Stamp, chains: &[Chain], tally: &mut Tally) {
        let Event { id, kind, data } = event;
        if let (Some(data), Some("close")) = (&data, kind.as_deref()) {
            let connection = self.connection.as_mut().expect("bug: it has just read");
            connection.closed = Some(closed(data, stamp));
        } else if let Some(data) = &data {
            let is_named =
                kind.is_none_or(|kind| data.starts_with(&format!("{{\"type\": \"{kind}\"")));
            assert!(is_named, "another event's name: {data}");
            self.hear(data.as_bytes(), stamp, chains, tally);
        } else if let Some(id) = &id
            && let Some(chain) = self.chain_at(stamp, chains)
        {
            tally.note(Seen::Ids);
            self.go_to(place_after_id(id), stamp, chain, tally);
        }
        match id {
            Some(id) if id.is_empty() => self.last_event_id = None,
            Some(id) => self.last_event_id = Some(id),
            None => {}
        }
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

/// What the last event of a stream says, as the close of a WebSocket would.
fn closed(data: &str, stamp: Stamp) -> Closed {
    match ControlMessage::parse(data) {
        Ok(ControlMessage::Close { code, reason }) => Closed { code, reason, stamp },
        other => panic!("no close: {other:?}"),
    }
}
