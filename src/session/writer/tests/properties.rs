//! Whatever is wanted in whatever shape, cut wherever: what a client received, joined at the places
//! where it went on, is what a plain walk over the chain says.

use std::io::Read;

use fastrand::Rng;

use super::*;
use crate::filter::Filter;
use crate::frame::testing::block;
use crate::frame::{Framing, GZIP_HEADER};
use crate::history::History;
use crate::protocol::{Cause, Query, Start, Stream};
use crate::session::start::{self, Found, Seek};
use crate::tickets::Tickets;

const ROUNDS: usize = 1_500;

/// What a client is told, whatever the shape.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Fact {
    /// Height, and the event's id as a number: its index in these chains.
    Event(u64, u64),
    Summary(u64),
    /// The events of one batch, of which an empty one is a fact too.
    Batch(u64, Vec<u64>),
    BlockEnd(u64),
    Gap(u64, u64),
}

struct Case {
    chain: Vec<Block>,
    history: History,
    stream: Stream,
    wire: Framing,
    is_compressed: bool,
    is_batch: bool,
    has_control: bool,
    wanted: Vec<u64>,
}

/// A height and its events; none: a gap.
type Block = (u64, Option<u64>);

impl Case {
    fn random(random: &mut Rng) -> Self {
        let (mut chain, mut height) = (Vec::new(), random.u64(0..5));
        let history = History::new(usize::MAX);
        for _ in 0..random.usize(1..8) {
            let events = match random.u8(0..10) {
                0 | 1 => None,
                2 | 3 => Some(0),
                _ => Some(random.u64(1..6)),
            };
            // A history never begins or ends with a gap.
            let events = if chain.is_empty() { Some(events.unwrap_or(1)) } else { events };
            match events {
                Some(events) => history.append(block(height, events)),
                None => history.append_gap(height, height),
            }
            chain.push((height, events));
            height += 1;
        }
        history.append(block(height, 1));
        chain.push((height, Some(1)));
        let stream = if random.u8(0..5) == 0 { Stream::Blocks } else { Stream::Transactions };
        let is_transactions = stream == Stream::Transactions;
        let is_batch = is_transactions && random.bool();
        let wanted = match is_transactions && random.bool() {
            true => (0..random.u64(1..4)).map(|_| random.u64(0..6)).collect(),
            false => Vec::new(),
        };
        let wire = if random.bool() { Framing::WebSocket } else { Framing::EventStream };
        // What an event stream puts together for one client is not compressed.
        let is_shared = wire == Framing::WebSocket || !is_batch || wanted.is_empty();
        Self {
            chain,
            history,
            stream,
            wire,
            is_compressed: is_shared && random.bool(),
            is_batch,
            has_control: random.bool(),
            wanted,
        }
    }

    /// The query but for its start.
    fn query(&self) -> Query {
        let wanted = self.wanted.iter().map(|id| format!("&transaction_id={id:064x}"));
        let mut text = wanted.collect::<String>();
        if self.is_batch {
            text.push_str("&batch=block");
        }
        Query::parse(&text, self.stream, &[]).expect("a query")
    }

    /// What a walk over the chain says, from the first block on.
    fn expected(&self) -> Vec<Fact> {
        let mut facts = Vec::new();
        for &(height, events) in &self.chain {
            let Some(events) = events else {
                let gap = Fact::Gap(height, height);
                match facts.last_mut() {
                    Some(Fact::Gap(_, to)) if self.has_control => *to = height,
                    _ => facts.extend(self.has_control.then_some(gap)),
                }
                continue;
            };
            let is_wanted = |id: &u64| self.wanted.is_empty() || self.wanted.contains(id);
            let matching: Vec<u64> = (0..events).filter(is_wanted).collect();
            match (self.stream, self.is_batch) {
                (Stream::Blocks, _) => facts.push(Fact::Summary(height)),
                (_, false) => facts.extend(matching.into_iter().map(|id| Fact::Event(height, id))),
                (_, true) if matching.is_empty() && !self.wanted.is_empty() => {}
                (_, true) => facts.push(Fact::Batch(height, matching)),
            }
            facts.extend(self.has_control.then_some(Fact::BlockEnd(height)));
        }
        facts
    }

    /// A session that begins where `start` says.
    fn session(&self, start: &Start) -> Client {
        let query = self.query();
        let is_inside = start.is_inside_block();
        let subscription = Subscription {
            stream: self.stream,
            wire: self.wire,
            is_compressed: self.is_compressed
                && (self.wire == Framing::WebSocket || !(self.is_batch && is_inside)),
            is_batch: self.is_batch,
            has_control: self.has_control,
            filter: Filter::of(query.filters),
        };
        let Found::Here(cursor, Seek::Events(events)) =
            start::find(start, &self.history, &Tickets::none())
        else {
            panic!("{start:?} is in the history")
        };
        let mut place = SessionCursor::new(cursor, None);
        place.begin_at(cursor, events);
        Client::new(subscription, place)
    }

    /// What the whole messages among the bytes say.
    fn facts(&self, bytes: &[u8], is_compressed: bool) -> Vec<Fact> {
        match self.wire {
            Framing::WebSocket => {
                let texts = frames(whole_frames(bytes)).into_iter();
                texts.map(|(first, payload)| fact(&text(first, payload, is_compressed))).collect()
            }
            Framing::EventStream => {
                let text = if is_compressed { inflated(bytes) } else { bytes.to_vec() };
                let text = String::from_utf8(text).expect("text");
                let data = whole_events(&text).flat_map(|event| event.lines());
                let data = data.filter_map(|line| line.strip_prefix("data: "));
                data.map(|json| fact(json.as_bytes())).collect()
            }
        }
    }

    /// Where a client goes on that has read these bytes, by itself.
    fn last_event_id(&self, bytes: &[u8], is_compressed: bool) -> Option<Start> {
        let text = if is_compressed { inflated(bytes) } else { bytes.to_vec() };
        let text = String::from_utf8(text).expect("text");
        let ids = whole_events(&text).flat_map(|event| event.lines());
        let id = ids.filter_map(|line| line.strip_prefix("id: ")).last()?;
        Some(Start::of_last_event_id(id, self.stream).expect("an id of ours"))
    }
}

fn fact(json: &[u8]) -> Fact {
    let json: serde_json::Value = serde_json::from_slice(json).expect("JSON");
    let number = |key: &str| json[key].as_u64().expect("a number");
    let id = |event: &serde_json::Value| {
        let id = event["transaction_id"].as_str().expect("an id");
        u64::from_str_radix(id, 16).expect("a number")
    };
    match json["type"].as_str() {
        Some("block") => Fact::BlockEnd(number("height")),
        Some("gap") => Fact::Gap(number("from_height"), number("to_height")),
        Some(other) => panic!("nobody told a {other} here"),
        None if json["transaction_ids"].is_array() => Fact::Summary(number("height")),
        None => match json["events"].as_array() {
            Some(events) => Fact::Batch(number("height"), events.iter().map(id).collect()),
            None => Fact::Event(number("height"), id(&json)),
        },
    }
}

/// The text of a frame; RSV1 only where that was agreed on.
fn text(first: u8, payload: Vec<u8>, is_compressed: bool) -> Vec<u8> {
    match first {
        0x81 => payload,
        0xc1 if is_compressed => inflated(&[&*payload, &[0, 0, 0xff, 0xff]].concat()),
        other => panic!("no first byte was to be {other:#x}"),
    }
}

fn whole_frames(bytes: &[u8]) -> &[u8] {
    let mut end = 0;
    loop {
        let (header, length) = match bytes.get(end + 1) {
            Some(126) if bytes.len() >= end + 4 => {
                (4, usize::from(u16::from_be_bytes([bytes[end + 2], bytes[end + 3]])))
            }
            Some(length) if *length < 126 => (2, usize::from(*length)),
            _ => return &bytes[..end],
        };
        if bytes.len() < end + header + length {
            return &bytes[..end];
        }
        end += header + length;
    }
}

fn whole_events(text: &str) -> impl Iterator<Item = &str> {
    let end = text.rfind("\n\n").map_or(0, |at| at + 2);
    text[..end].split("\n\n")
}

/// What a decoder makes of a stream that ends anywhere.
fn inflated(pieces: &[u8]) -> Vec<u8> {
    let mut stream = GZIP_HEADER.to_vec();
    stream.extend_from_slice(pieces);
    let mut text = Vec::new();
    let error = flate2::read::GzDecoder::new(&*stream).read_to_end(&mut text).expect_err("no end");
    assert_eq!(error.kind(), std::io::ErrorKind::UnexpectedEof, "{error}");
    text
}

/// Writes up to `bytes_max` in random steps.
fn write(case: &Case, client: &mut Client, bytes_max: usize, random: &mut Rng) -> Vec<u8> {
    let mut written = Vec::new();
    loop {
        let (portion, room) = (random.usize(1..2_000), bytes_max - written.len());
        let taken = |offered: usize| random.usize(1..=offered).min(room);
        let (bytes, _, is_passed) = client.write(&case.history, portion, taken);
        if bytes.is_empty() && !is_passed {
            return written;
        }
        written.extend(bytes);
    }
}

/// Joins a batch that was cut with the rest of it.
fn joined(facts: Vec<Fact>) -> Vec<Fact> {
    let mut joined: Vec<Fact> = Vec::new();
    for fact in facts {
        match (joined.last_mut(), fact) {
            (Some(Fact::Batch(height, events)), Fact::Batch(other, more)) if *height == other => {
                events.extend(more);
            }
            (_, fact) => joined.push(fact),
        }
    }
    joined
}

#[test]
fn what_was_received_joined_at_its_cursors_is_the_chain() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = Rng::with_seed(seed);
    for round in 0..ROUNDS {
        let case = Case::random(&mut random);
        let (mut start, mut facts, mut cuts) = (Start::Oldest, Vec::new(), Vec::new());
        loop {
            let mut client = case.session(&start);
            let is_compressed = client.writer.subscription().is_compressed;
            let bytes_max = if cuts.len() < 6 { random.usize(0..3_000) } else { usize::MAX };
            let mut bytes = write(&case, &mut client, bytes_max, &mut random);
            let is_cut = bytes.len() == bytes_max;
            // A client of a WebSocket is told its place when the server closes.
            let told = (is_cut && case.wire == Framing::WebSocket).then(|| {
                client.writer.close(Ending::Cause(Cause::Draining));
                bytes.extend(write(&case, &mut client, usize::MAX, &mut random));
                let (_, close) = frames(&bytes).pop().expect("a close");
                bytes.truncate(bytes.len() - close.len() - 2);
                String::from_utf8(close[2..].to_vec()).expect("a reason")
            });
            facts.extend(case.facts(&bytes, is_compressed));
            if !is_cut {
                break;
            }
            start = match told {
                None => case.last_event_id(&bytes, is_compressed).unwrap_or(start),
                Some(reason) => {
                    let place = reason.strip_suffix(" draining").expect("why");
                    Query::parse(place, case.stream, &[]).expect("a place is a query").start
                }
            };
            cuts.push(start.clone());
        }
        let context = || {
            format!(
                "round {round}: {:?} {:?} compressed {} batch {} control {} wanted {:?} of {:?}, cut at {cuts:?}",
                case.stream,
                case.wire,
                case.is_compressed,
                case.is_batch,
                case.has_control,
                case.wanted,
                case.chain
            )
        };
        let (mut received, mut expected) = (joined(facts), case.expected());
        // The mark of a block's end is not what a client goes on from: cut before it, it is not told.
        received.retain(|fact| !matches!(fact, Fact::BlockEnd(_)));
        expected.retain(|fact| !matches!(fact, Fact::BlockEnd(_)));
        assert_eq!(received, expected, "{}", context());
    }
}

#[test]
fn uncut_every_block_has_its_end_in_its_place() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = Rng::with_seed(seed);
    for _ in 0..ROUNDS {
        let case = Case::random(&mut random);
        let mut client = case.session(&Start::Oldest);
        let is_compressed = client.writer.subscription().is_compressed;
        let bytes = write(&case, &mut client, usize::MAX, &mut random);
        assert_eq!(case.facts(&bytes, is_compressed), case.expected());
        let tip = case.chain.last().expect("a tip").0;
        assert_eq!(client.position(), format!("after={tip}"));
    }
}
