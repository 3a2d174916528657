//! Clients come, read, stall, speak and go, and come again.

use super::{CLIENTS_MAX, World};
use crate::metrics::Disconnect;
use crate::protocol::{Cause, CloseReason, Position, Start, Within};
use crate::server::testing::{Asking, Framing, Stream, open};
use crate::simulation::client::{
    Bounds, Client, Closed, Connection, EventStream, Place, Taste, place_at,
};
use crate::simulation::pipe::{Stamp, pipe};
use crate::simulation::tally::Seen;

const TEXT: u8 = 0x81;

/// A drawn start, and which event comes first then; none: that is open.
struct Drawn {
    start: Start,
    last_event_id: Option<String>,
    next: Option<Place>,
    has_fallback: bool,
    /// It begins at once, on the chain that is here.
    is_here: bool,
}

impl World {
    /// A client connects: a new one, or one that was here.
    pub(super) fn come(&mut self) {
        if self.is_draining {
            return;
        }
        let away: Vec<usize> =
            (0..self.clients.len()).filter(|at| self.clients[*at].connection.is_none()).collect();
        let at = match away.len() {
            0 if self.clients.len() == CLIENTS_MAX => return,
            0 => self.add_client(),
            _ if self.clients.len() < CLIENTS_MAX && self.random.u8(0..4) == 0 => self.add_client(),
            count => away[self.random.usize(0..count)],
        };
        self.connect(at);
    }

    /// Whoever is away comes back.
    pub(super) fn come_all(&mut self) {
        for at in 0..self.clients.len() {
            if self.clients[at].connection.is_none() && !self.is_draining {
                self.connect(at);
            }
        }
    }

    fn add_client(&mut self) -> usize {
        let random = &mut self.random;
        let is_blocks = random.u8(0..4) == 0;
        let taste = Taste {
            stream: if is_blocks { Stream::Blocks } else { Stream::Transactions },
            wire: if random.u8(0..4) == 0 { Framing::EventStream } else { Framing::WebSocket },
            is_compressed: random.u8(0..4) == 0,
            is_batch: !is_blocks && random.u8(0..3) == 0,
            has_control: random.u8(0..3) == 0,
            is_filtered: !is_blocks && random.u8(0..3) == 0,
            is_mute: random.u8(0..8) == 0,
        };
        self.clients.push(Client::new(taste));
        self.clients.len() - 1
    }

    fn connect(&mut self, at: usize) {
        let client = &mut self.clients[at];
        if client.chain.is_some_and(|chain| chain != self.current) {
            // Another replica would tell; here it is known.
            (client.chain, client.next) = (None, None);
        }
        let is_new = client.next.is_none() || self.random.u8(0..50) == 0;
        let drawn = if is_new { self.draw_start() } else { self.resumption(at) };
        let client = &mut self.clients[at];
        if !is_new {
            self.tally.note(Seen::Resumes);
            if client.next.is_some_and(|next| next.1 > 0) {
                self.tally.note(Seen::ResumesInside);
            }
        }
        client.next = drawn.next;
        client.last_event_id = drawn.last_event_id.clone();
        client.chain = drawn.is_here.then_some(self.current);
        let bounds = self.draw_bounds(drawn.next);
        let query = self.clients[at].query(drawn.start, bounds).to_string();
        let room = match self.random.u8(0..4) {
            0 => self.random.usize(16..200),
            _ => self.random.usize(100..20_000),
        };
        let (end, server_end) = pipe(self.random.fork(), self.step.clone(), room);
        let Taste { stream, wire, is_compressed, .. } = self.clients[at].taste;
        let last_event_id = drawn.last_event_id.as_deref();
        let asking = Asking { stream, query: &query, wire, is_compressed, last_event_id };
        let session = tokio::spawn(open(server_end, self.replica.context.clone(), asking));
        let now = self.now();
        let events = (wire == Framing::EventStream).then(EventStream::new);
        let has_fallback = drawn.has_fallback;
        let connection = Connection::new(query, end, session, now);
        let connection = Connection { bounds, events, has_fallback, ..connection };
        self.clients[at].connection = Some(connection);
    }

    fn draw_start(&mut self) -> Drawn {
        let first = self.replica.history.first_height();
        let tip = self.replica.history.summary().tip;
        let live = self.replica.history.live_cursor().next_height;
        let (start, next, is_here) = match (self.random.u8(0..8), tip.zip(first)) {
            (0, Some((tip, _))) => (Start::Latest, Some(tip), true),
            (1, Some((tip, first))) => {
                let back = self.random.u64(0..30);
                let height = tip.saturating_sub(back).max(first);
                (Start::BeforeTip(back), Some(height), true)
            }
            (2, Some((tip, first))) => {
                let height = self.random.u64(first..=tip + 1);
                (Start::Height(height), Some(height), true)
            }
            (3, Some((tip, _))) => {
                let height = tip + self.random.u64(2..6);
                (Start::Height(height), Some(height), false)
            }
            (4 | 5, first) => {
                let height = first.map_or(0, |(_, first)| first);
                (Start::Oldest, Some(height), true)
            }
            _ => (Start::Live, Some(live), true),
        };
        let next = next.map(|height| (height, 0));
        Drawn { start, last_event_id: None, next, has_fallback: false, is_here }
    }

    /// Where a connection that begins at `next` has enough, if it is to end by itself.
    fn draw_bounds(&mut self, next: Option<Place>) -> Bounds {
        let kind = self.random.u8(0..12);
        let from = next.map_or(0, |next| next.0.saturating_sub(2));
        let until_height = from + self.random.u64(0..12);
        let messages_left = self.random.u64(1..20);
        Bounds {
            until_height: matches!(kind, 0 | 1).then_some(until_height),
            messages_left: matches!(kind, 1 | 2).then_some(messages_left),
        }
    }

    /// Where the client goes on, in one of the ways that there are to say it.
    fn resumption(&mut self, at: usize) -> Drawn {
        let client = &self.clients[at];
        let next = client.next.expect("bug: a place is known");
        let chain = &self.chains[client.chain.unwrap_or(self.current)];
        // One that waits for what is further ahead may meet another chain.
        let is_here = |next: Place| next.0 <= self.replica.history.live_cursor().next_height;
        if let Some(place) = client.place_of_id(chain) {
            self.tally.note(Seen::LastEventIds);
            let last_event_id = client.last_event_id.clone();
            let is_here = is_here(place);
            // What the URL says was so when it was new.
            let has_fallback = is_here && self.random.bool();
            let start = match has_fallback {
                true if self.random.bool() => Start::Oldest,
                true => Start::Latest,
                false => Start::After(Position::after_block(0)),
            };
            return Drawn { start, last_event_id, next: Some(place), has_fallback, is_here };
        }
        let start = match next {
            (0, 0) => Start::Height(0),
            (height, 0) if self.random.bool() => Start::Height(height),
            (height, 0) => Start::After(Position::after_block(height - 1)),
            (height, inside) if inside <= chain.events(height) && self.random.bool() => {
                let within = Within::transaction(&chain.id(height, inside - 1));
                assert!(within.is_some(), "a transaction that a URL can name");
                Start::After(Position::new(height, within))
            }
            (height, inside) => Start::After(Position::after_event(height, inside - 1)),
        };
        Drawn {
            start,
            last_event_id: None,
            next: Some(next),
            has_fallback: false,
            is_here: is_here(next),
        }
    }

    /// A client reads something, everything, or nothing because it is stalled.
    pub(super) async fn read(&mut self) {
        let Some(at) = self.draw_connected() else { return };
        let bytes_max = match self.random.u8(0..8) {
            0 => 1,
            1..4 => self.random.usize(1..400),
            _ => usize::MAX,
        };
        let client = &mut self.clients[at];
        if client.connection.as_ref().is_some_and(|connection| connection.is_stalled) {
            return;
        }
        client.read(bytes_max, &self.chains, &mut self.tally);
        self.end_if_over(at).await;
    }

    /// A client goes: it closes and waits, shuts, or vanishes.
    pub(super) fn leave(&mut self) {
        let Some(at) = self.draw_connected() else { return };
        let way = self.random.u8(0..3);
        let client = &mut self.clients[at];
        let Some(connection) = &mut client.connection else { return };
        connection.has_left = true;
        match way {
            0 => connection.close(),
            1 => connection.pipe.shut(),
            _ => client.connection = None,
        }
    }

    pub(super) fn stall(&mut self) {
        let Some(at) = self.draw_connected() else { return };
        if let Some(connection) = &mut self.clients[at].connection {
            connection.is_stalled = !connection.is_stalled;
        }
    }

    pub(super) fn speak(&mut self) {
        let Some(at) = self.draw_connected() else { return };
        let payload = self.random.u64(..).to_be_bytes();
        let is_ping = self.random.bool();
        let Some(connection) = &mut self.clients[at].connection else { return };
        match is_ping && !connection.has_left && connection.events.is_none() {
            true => connection.ping(&payload),
            false => connection.send(TEXT, b"nobody reads this"),
        }
    }

    fn draw_connected(&mut self) -> Option<usize> {
        let connected: Vec<usize> =
            (0..self.clients.len()).filter(|at| self.clients[*at].connection.is_some()).collect();
        (!connected.is_empty()).then(|| connected[self.random.usize(0..connected.len())])
    }

    /// When a connection's last byte is read: how it ended had to be so, and where to go on is known.
    pub(super) async fn end_if_over(&mut self, at: usize) {
        let client = &mut self.clients[at];
        if !client.connection.as_ref().is_some_and(|connection| connection.pipe.is_at_end()) {
            return;
        }
        let connection = client.connection.as_mut().expect("bug: it is there");
        let closed = connection.closed.take();
        let has_left = connection.has_left;
        connection.pipe.shut();
        let disconnect = (&mut connection.session).await.expect("the session did not panic");
        match closed {
            Some(closed) => self.end_closed(at, &closed, has_left),
            None => self.end_cut(at, disconnect, has_left),
        }
        self.clients[at].connection = None;
    }

    fn end_closed(&mut self, at: usize, closed: &Closed, has_left: bool) {
        let Closed { code, reason, stamp } = closed;
        if (*code, reason.as_str()) == (1000, "") && has_left {
            return;
        }
        let close = CloseReason::parse(*code, reason);
        let Some(CloseReason { cause, start }) = close else {
            panic!("closed with {code} {reason}")
        };
        assert_eq!(cause.reason(&start.clone().unwrap_or_default()), *reason);
        match cause {
            Cause::Done => {
                self.go_on(at, start, *stamp);
                let client = &self.clients[at];
                let (next, bounds) = (client.next.expect("a place"), client.bounds());
                self.tally.note(match bounds.messages_left {
                    Some(0) => Seen::Limited,
                    _ => Seen::Done,
                });
                assert!(!bounds.allow(next.0), "done at {reason}? {bounds:?}, {client:?}");
            }
            Cause::Draining => {
                self.tally.note(Seen::Drained);
                assert!(self.is_draining, "draining? {:?}", self.clients[at]);
                self.go_on(at, start, *stamp);
            }
            Cause::NoPong => {
                self.tally.note(Seen::NoPong);
                self.go_on(at, start, *stamp);
            }
            Cause::TooSlow => {
                self.tally.note(Seen::Slow);
                self.go_on(at, start, *stamp);
                assert!(self.has_fallen_off(at), "too slow? {:?}", self.clients[at]);
            }
            Cause::Ahead { .. } => {
                self.tally.note(Seen::Ahead);
                let client = &mut self.clients[at];
                assert!(client.chain.is_none(), "{reason}: {client:?}");
                (client.next, client.last_event_id) = (None, None);
            }
            Cause::NotAvailable { first_height } => {
                self.tally.note(Seen::NotAvailable);
                let client = &mut self.clients[at];
                let first = first_height.expect("a height");
                assert!(client.next.is_some_and(|next| next.0 < first), "{reason}: {client:?}");
                (client.next, client.last_event_id) = (Some((first, 0)), None);
            }
            Cause::AnotherChain => {
                self.tally.note(Seen::OtherChains);
                let client = &mut self.clients[at];
                assert!(client.chain.is_none_or(|chain| chain < self.current), "{client:?}");
                (client.chain, client.next) = (None, None);
            }
            other => panic!("closed with {other:?} ({reason}): {:?}", self.clients[at]),
        }
    }

    fn end_cut(&mut self, at: usize, disconnect: Disconnect, has_left: bool) {
        match disconnect {
            Disconnect::Client | Disconnect::Lost if has_left => {}
            Disconnect::Slow => {
                self.tally.note(Seen::Slow);
                assert!(self.has_fallen_off(at), "too slow? {:?}", self.clients[at]);
            }
            Disconnect::Drained if self.is_draining => self.tally.note(Seen::Cut),
            Disconnect::Stalled => self.tally.note(Seen::Stalled),
            // From here on: the close could not be written in time.
            Disconnect::NoPong => self.tally.note(Seen::NoPong),
            Disconnect::Done => {
                let Bounds { until_height, messages_left } = self.clients[at].bounds();
                assert!(
                    until_height.is_some() || messages_left.is_some(),
                    "{:?}",
                    self.clients[at]
                );
            }
            Disconnect::NotAvailable => {
                let client = &self.clients[at];
                let is_gone = client.chain.is_none() || self.has_fallen_off(at);
                assert!(is_gone, "not available? {client:?}");
            }
            Disconnect::Reset => {
                let client = &self.clients[at];
                assert!(client.chain.is_none_or(|chain| chain < self.current), "{client:?}");
            }
            other => panic!("cut: {other:?}, {:?}", self.clients[at]),
        }
    }

    /// The server says where the client goes on: nothing before that may be owed.
    fn go_on(&mut self, at: usize, start: Option<Start>, stamp: Stamp) {
        let client = &mut self.clients[at];
        let next = place_at(&start.expect("a place"));
        match client.chain_at(stamp, &self.chains) {
            Some(chain) => client.go_to(next, stamp, chain, &mut self.tally),
            None => client.next = Some(next),
        }
    }

    /// Whether what comes next for it is gone, be it with its chain.
    fn has_fallen_off(&self, at: usize) -> bool {
        let client = &self.clients[at];
        let Some(next) = client.next else { return true };
        // The mark of the block before may have been under way, or what ends a compressed piece: a text
        // is whole before it.
        let Taste { wire, has_control, is_compressed, .. } = client.taste;
        let rest = u64::from(has_control || is_compressed && wire == Framing::EventStream);
        let is_below =
            self.replica.history.first_height().is_none_or(|first| next.0 < first + rest);
        is_below || client.chain != Some(self.current)
    }
}
