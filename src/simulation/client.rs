//! A client that believes nothing: what it is sent is held against the model, message by message, over
//! all its connections.

use std::collections::BTreeMap;

use flate2::{Decompress, FlushDecompress};
use tokio::task::JoinHandle;

use super::chain::Chain;
use super::pipe::{Pipe, Stamp};
use crate::metrics::Disconnect;
use crate::server::simulated::Stream;

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

pub struct Connection {
    /// The whole query.
    pub asked: String,
    pub pipe: Pipe,
    pub session: JoinHandle<Disconnect>,
    /// When a block's newest message, or the opening, was written.
    pub seen: Stamp,
    pub is_stalled: bool,
    /// Whether this client has said or shown that it leaves.
    pub has_left: bool,
    pub closed: Option<Closed>,
    pub gaps: Vec<(u64, u64)>,
    pub filled: Vec<u64>,
    pings: Vec<Vec<u8>>,
    buffer: Vec<u8>,
}

/// A server's close.
pub struct Closed {
    pub code: u16,
    pub reason: String,
    pub stamp: Stamp,
}

/// What a simulation has come across; shows that it looked at something.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Tally {
    pub steps: u64,
    pub counts: BTreeMap<Seen, u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Seen {
    Messages,
    Pongs,
    Resumes,
    ResumesInside,
    Gaps,
    Fills,
    PassedMissing,
    Slow,
    Stalled,
    NoPong,
    NotAvailable,
    Ahead,
    OtherChains,
}

impl Tally {
    pub fn note(&mut self, seen: Seen) {
        *self.counts.entry(seen).or_default() += 1;
    }

    pub fn add(&mut self, other: &Self) {
        self.steps += other.steps;
        for (seen, count) in &other.counts {
            *self.counts.entry(*seen).or_default() += count;
        }
    }
}

impl Seen {
    pub const ALL: [Self; 13] = [
        Self::Messages,
        Self::Pongs,
        Self::Resumes,
        Self::ResumesInside,
        Self::Gaps,
        Self::Fills,
        Self::PassedMissing,
        Self::Slow,
        Self::Stalled,
        Self::NoPong,
        Self::NotAvailable,
        Self::Ahead,
        Self::OtherChains,
    ];
}

impl Connection {
    pub fn new(asked: String, pipe: Pipe, session: JoinHandle<Disconnect>, seen: Stamp) -> Self {
        Self {
            asked,
            pipe,
            session,
            seen,
            is_stalled: false,
            has_left: false,
            closed: None,
            gaps: Vec::new(),
            filled: Vec::new(),
            pings: Vec::new(),
            buffer: Vec::new(),
        }
    }

    pub fn ping(&mut self, payload: &[u8]) {
        self.pings.push(payload.to_vec());
        self.send(PING, payload);
    }

    /// A masked frame; the mask is nothing.
    pub fn send(&self, first: u8, payload: &[u8]) {
        let head = [first, 0x80 | payload.len() as u8, 0, 0, 0, 0];
        self.pipe.write(&[&head, payload].concat());
    }

    /// The next whole frame.
    fn frame(&mut self) -> Option<(u8, Vec<u8>)> {
        let (head, len) = match self.buffer.get(1)? {
            126 => {
                let len = self.buffer.get(2..4)?;
                (4, usize::from(u16::from_be_bytes([len[0], len[1]])))
            }
            127 => panic!("no message is that long here"),
            len => (2, usize::from(*len)),
        };
        let payload = self.buffer.get(head..head + len)?.to_vec();
        let first = self.buffer[0];
        self.buffer.drain(..head + len);
        Some((first, payload))
    }
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

    fn hear(&mut self, text: &[u8], stamp: Stamp, chains: &[Chain], tally: &mut Tally) {
        let text = std::str::from_utf8(text).expect("text");
        tally.note(Seen::Messages);
        let kind = text.strip_prefix("{\"type\": \"").and_then(|rest| rest.split('"').next());
        match kind {
            Some(kind) => self.hear_control(kind, text, stamp, chains, tally),
            None => self.hear_data(text, stamp, chains, tally),
        }
        // The others may have waited, since when they were true, for room.
        if let (None | Some("block"), Some(connection)) = (kind, &mut self.connection) {
            connection.seen = stamp;
        }
    }

    fn hear_data(&mut self, text: &str, stamp: Stamp, chains: &[Chain], tally: &mut Tally) {
        let height = number(text, "height").expect("a height");
        let of_chain = chain_of(text);
        if let Some(number) = of_chain {
            let at = chains.iter().position(|chain| chain.number == number).expect("a chain");
            let mine = *self.chain.get_or_insert(at);
            assert_eq!(mine, at, "an event of another chain, untold: {text}");
        }
        let Some(chain) = self.chain_at(stamp, chains) else { return };
        let inside = self.next.filter(|next| next.0 == height).map_or(0, |next| next.1);
        let (place, next, expected) = if self.taste.stream == Stream::Blocks {
            ((height, 0), (height + 1, 0), chain.summary(height))
        } else if self.taste.is_batch {
            let indices: Vec<u64> = self.matching(chain, height, inside).collect();
            assert!(!self.taste.is_filtered || !indices.is_empty(), "an empty batch: {text}");
            // With control messages the block goes on up to its end.
            let next = match self.taste.has_control {
                true => (height, chain.events(height)),
                false => (height + 1, 0),
            };
            ((height, inside), next, chain.batch(height, &indices))
        } else {
            let index = index_of(text);
            ((height, index), (height, index + 1), chain.event(height, index))
        };
        assert_eq!(text, expected);
        self.pass(place, stamp, chain, tally);
        self.next = Some(next);
    }

    fn hear_control(
        &mut self,
        kind: &str,
        text: &str,
        stamp: Stamp,
        chains: &[Chain],
        tally: &mut Tally,
    ) {
        assert!(self.taste.has_control, "control messages are asked for: {text}");
        let known = self.chain;
        let Some(chain) = self.chain_at(stamp, chains) else { return };
        if kind != "block" {
            // On its way while another chain took the place: it is no proof of the newest.
            self.chain = known;
        }
        let height = number(text, "height");
        match kind {
            "position" => {
                let next = match (height, number(text, "index")) {
                    (Some(height), Some(index)) => (height, index + 1),
                    (Some(height), None) => (height + 1, 0),
                    (None, _) => (0, 0),
                };
                self.go_to(next, stamp, chain, tally);
            }
            "block" => {
                let height = height.expect("a height");
                let events = number(text, "events").expect("a number");
                assert_eq!(events, chain.events(height), "{text}");
                match self.taste.stream {
                    Stream::Transactions => {
                        self.pass((height, events.max(1)), stamp, chain, tally);
                    }
                    Stream::Blocks => assert_eq!(self.next, Some((height + 1, 0)), "{text}"),
                }
                self.next = Some((height + 1, 0));
            }
            "gap" => {
                let from = number(text, "from_height").expect("a height");
                let to = number(text, "to_height").expect("a height");
                let seen = self.seen();
                let is_fair = |chain: &&Chain| {
                    (from..=to).all(|it| chain.may_be_missing(it, seen.step, stamp.at))
                };
                let of = match known {
                    Some(_) => Some(chain).filter(is_fair),
                    None => chains.iter().rfind(is_fair),
                };
                assert!(from <= to && of.is_some(), "no such gap: {text}, {}", chain.around(from));
                self.pass((from, 0), stamp, of.unwrap_or(chain), tally);
                self.next = Some((to + 1, 0));
                self.connection.iter_mut().for_each(|it| it.gaps.push((from, to)));
                tally.note(Seen::Gaps);
            }
            "filled" => {
                let height = height.expect("a height");
                assert!(self.next.is_some_and(|next| height < next.0), "yet to come: {text}");
                let of_another = known.is_none() && chains.iter().any(|chain| chain.has(height));
                assert!(
                    chain.has(height) || of_another,
                    "nothing filled that: {text}, {}",
                    chain.around(height)
                );
                let filled = &mut self.connection.as_mut().expect("bug: it has read").filled;
                assert!(!filled.contains(&height), "told twice: {text}");
                filled.push(height);
                tally.note(Seen::Fills);
            }
            "heartbeat" => {
                let height = height.expect("a height");
                let next = (height + 1, 0);
                if self.next == Some((0, 0)) {
                    // From before the chain's first block: what lies below that is nobody's.
                    self.pass(next, stamp, chain, tally);
                    self.next = Some(next);
                }
                assert!(self.next.is_none_or(|it| it == next), "{text}, next is {:?}", self.next);
            }
            _ => panic!("what is {text}?"),
        }
    }

    /// The chain that this client follows; one that waited for its start learns it with what comes
    /// first. None: that tells of none, in the very step that one chain took another's place.
    pub fn chain_at<'a>(&mut self, stamp: Stamp, chains: &'a [Chain]) -> Option<&'a Chain> {
        if self.chain.is_none() {
            let began = |chain: &Chain| chain.began.is_some_and(|began| began <= stamp.step);
            let newest = chains.iter().rposition(began).unwrap_or(0);
            if chains[newest].began == Some(stamp.step) {
                return None;
            }
            self.chain = Some(newest);
        }
        self.chain.map(|at| &chains[at])
    }

    /// Goes on at a place that the server named.
    pub fn go_to(&mut self, place: Place, stamp: Stamp, chain: &Chain, tally: &mut Tally) {
        // The mark of a block's end is not told again: it has nothing else to say.
        if let (Some(next), Some(last), 0) = (self.next, place.0.checked_sub(1), place.1)
            && next.0 <= last
        {
            let inside = if next.0 == last { next.1 } else { 0 };
            if !self.owes(chain, last, inside) {
                self.pass((last, inside), stamp, chain, tally);
                self.next = Some(place);
                return;
            }
        }
        self.pass(place, stamp, chain, tally);
        self.next = Some(place);
    }

    /// Nothing of the chain up to `place` may be owed: what was not sent had to be missing.
    pub fn pass(&self, place: Place, stamp: Stamp, chain: &Chain, tally: &mut Tally) {
        let Some(next) = self.next else { return };
        assert!(place >= next, "{place:?} again, next was {next:?}");
        let seen = self.seen();
        let (mut height, mut inside) = next;
        while height < place.0 {
            // A block that was begun is there; what control messages do not name did not come.
            let is_told = self.taste.has_control || self.owes(chain, height, inside);
            if is_told {
                let is_old = chain.base.is_none_or(|base| height < base);
                let may_pass = is_old || inside == 0 && !self.taste.has_control;
                let is_missing = chain.may_be_missing(height, seen.step, stamp.at);
                assert!(
                    may_pass && is_missing,
                    "{height} is skipped from {next:?} to {place:?} (seen {seen:?}, now {stamp:?}): {self:?} of {chain:?}"
                );
                if !is_old {
                    tally.note(Seen::PassedMissing);
                }
            }
            (height, inside) = (height + 1, 0);
        }
        if self.taste.stream == Stream::Transactions {
            let skipped = self.matching(chain, height, inside).find(|index| *index < place.1);
            assert_eq!(skipped, None, "an event is skipped in {height}, next was {next:?}");
        }
    }

    /// Whether a message of this block is still to come for this client, if the block is there.
    pub fn owes(&self, chain: &Chain, height: u64, inside: u64) -> bool {
        let whole = self.taste.stream == Stream::Blocks
            || self.taste.is_batch && !self.taste.is_filtered && inside == 0;
        whole || self.matching(chain, height, inside).next().is_some()
    }

    fn matching<'a>(
        &self,
        chain: &'a Chain,
        height: u64,
        inside: u64,
    ) -> impl Iterator<Item = u64> + 'a {
        let is_filtered = self.taste.is_filtered;
        let all = inside..chain.events(height);
        all.filter(move |index| !is_filtered || chain.is_create(height, *index))
    }

    fn seen(&self) -> Stamp {
        self.connection.as_ref().expect("bug: it has read").seen
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let asked = self.connection.as_ref().map(|connection| &connection.asked);
        let Self { taste, next, chain, .. } = self;
        write!(f, "{taste:?} at {next:?} of chain {chain:?}, which asked for {asked:?}")
    }
}

fn inflated(payload: &[u8]) -> Vec<u8> {
    let message = [payload, &[0, 0, 0xff, 0xff]].concat();
    let mut text = Vec::with_capacity(8_192);
    let mut decompress = Decompress::new(false);
    decompress
        .decompress_vec(&message, &mut text, FlushDecompress::Sync)
        .expect("a compressed message");
    assert_eq!(decompress.total_in(), message.len() as u64, "all of it");
    text
}

fn number(text: &str, key: &str) -> Option<u64> {
    let (_, rest) = text.split_once(&format!("\"{key}\": "))?;
    let end = rest.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(rest.len());
    rest[..end].parse().ok()
}

/// The number of the chain that the first id is of.
fn chain_of(text: &str) -> Option<u64> {
    let ids = text.split('"').find(|part| part.len() == 64)?;
    Some(u64::from_str_radix(&ids[..8], 16).expect("an id of ours"))
}

fn index_of(text: &str) -> u64 {
    let id = text.strip_suffix("\"}").expect("an event");
    u64::from_str_radix(&id[id.len() - 16..], 16).expect("an id of ours")
}
