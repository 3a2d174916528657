mod properties;

use futures_util::FutureExt;

use super::control_queue::FIN_PONG;
use super::*;
use crate::frame::testing::{block, encoded};
use crate::history::{Entries, History};
use crate::protocol::{Cause, Stream};

/// A client's view of a byte stream: whole unmasked frames, or a panic.
pub fn frames(mut bytes: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut frames = Vec::new();
    while let [first, length, rest @ ..] = bytes {
        let (length, rest) = match length {
            126 => (usize::from(u16::from_be_bytes([rest[0], rest[1]])), &rest[2..]),
            127 => {
                let length = u64::from_be_bytes(rest[..8].try_into().expect("eight"));
                (usize::try_from(length).expect("a length"), &rest[8..])
            }
            length => (usize::from(*length), rest),
        };
        frames.push((*first, rest[..length].to_vec()));
        bytes = &rest[length..];
    }
    assert!(bytes.is_empty(), "the stream ends at a frame's end");
    frames
}

/// A writer, and the place that its source would keep.
pub struct Client {
    pub writer: Writer,
    pub cursor: SessionCursor,
}

impl Client {
    pub fn new(subscription: Subscription, cursor: SessionCursor) -> Self {
        Self { writer: Writer::new(subscription, None, Vec::new()), cursor }
    }

    pub fn position(&self) -> String {
        self.cursor.position(self.writer.told()).to_query().expect("a position")
    }

    /// One look at the history and one write of what `taken` says of what is offered. Returns what went
    /// out, the messages that ended, and whether entries without a byte were passed.
    pub fn write(
        &mut self,
        history: &History,
        portion_bytes: usize,
        taken: impl FnOnce(usize) -> usize,
    ) -> (Vec<u8>, usize, bool) {
        let (mut entries, mut selection) = (Entries::new(), Selection::default());
        if self.writer.wants_blocks() && !self.cursor.is_over() {
            history.entries_from(self.cursor.next(), portion_bytes, &mut entries).expect("there");
        }
        let wanted = entries.iter().take_while(|it| !self.cursor.ends_before(it.first_height()));
        let wanted = wanted.count();
        if let (0, false, Some(until)) = (wanted, entries.is_empty(), self.cursor.until_height()) {
            self.cursor.move_to(until + 1);
        }
        entries.truncate(wanted);
        for entry in &mut entries {
            if let Entry::Block(taken) = entry {
                let events_before = self.cursor.events_before(taken.block.height);
                let required = self.writer.required_encodings(events_before);
                history.queue_encodings(taken.cached(), required, usize::MAX);
                while let Some(mut job) = history.encodings().next_job().now_or_never() {
                    job.make();
                    job.finish();
                }
                assert!(taken.take(required));
            }
        }
        let mut views = Views::new();
        while !self.writer.view(&mut Views::new(), &entries, &self.cursor, &mut selection) {
            self.writer.count_batch(&entries, &self.cursor, &mut selection);
        }
        assert!(self.writer.view(&mut views, &entries, &self.cursor, &mut selection));
        assert!(self.writer.goes_on_in(&views));
        self.writer.pass_empty(&mut views);
        self.cursor.move_to(views.next_height());
        let offered: Vec<u8> = {
            let mut slices = Slices::new();
            self.writer.slices(&views, |told| self.cursor.position(told), &mut slices);
            slices.iter().flat_map(|slice| slice.iter().copied()).collect()
        };
        let taken = if offered.is_empty() { 0 } else { taken(offered.len()) };
        let messages = match taken {
            0 => 0,
            taken => self.writer.advance(&mut views, taken, &mut |_| ()),
        };
        self.cursor.move_to(views.next_height());
        let is_passed = !entries.is_empty() && views.is_passed();
        (offered[..taken].to_vec(), messages, is_passed)
    }
}

/// Writes what there is in steps of `step` bytes; before each, `between` may queue control frames.
fn write_all(
    history: &History,
    client: &mut Client,
    step: impl Fn() -> usize,
    mut between: impl FnMut(&mut Client),
) -> (Vec<u8>, usize) {
    let (mut written, mut messages) = (Vec::new(), 0);
    loop {
        between(client);
        let taken = |offered: usize| step().clamp(1, offered);
        let (bytes, ended, _) = client.write(history, 1 << 20, taken);
        if bytes.is_empty() {
            return (written, messages);
        }
        written.extend_from_slice(&bytes);
        messages += ended;
    }
}

/// A client of the plain stream that begins with the first block.
fn plain(stream: Stream, history: &History) -> Client {
    let cursor = SessionCursor::new(history.live_cursor().at(0), None);
    Client::new(Subscription::plain(stream), cursor)
}

fn chain() -> (History, Vec<u8>, Vec<u8>) {
    chain_of(&[(1, 3), (2, 0), (3, 1), (4, 0), (5, 0), (8, 7), (9, 2)])
}

/// Blocks of these heights and sizes; their bytes on both streams.
fn chain_of(blocks: &[(u64, u64)]) -> (History, Vec<u8>, Vec<u8>) {
    let history = History::new(usize::MAX);
    let (mut events, mut summaries) = (Vec::new(), Vec::new());
    for &(height, size) in blocks {
        if height == 8 {
            history.append_gap(6, 7);
        }
        let block = block(height, size);
        events.extend_from_slice(&block.events);
        summaries.extend_from_slice(&block.summary);
        history.append(block);
    }
    (history, events, summaries)
}

#[test]
fn every_write_boundary_yields_the_same_bytes() {
    let (history, events, summaries) = chain();
    for (stream, expected, count) in
        [(Stream::Transactions, &events, 13), (Stream::Blocks, &summaries, 7)]
    {
        for step in (1..=400).chain([expected.len() - 1, expected.len()]) {
            let mut client = plain(stream, &history);
            let (written, messages) = write_all(&history, &mut client, || step, |_| ());
            assert_eq!(&written, expected, "{stream:?}, {step} bytes at a time");
            assert_eq!(messages, count);
            assert_eq!(client.position(), "after=9");
        }
    }
}

#[test]
fn control_frames_never_start_inside_a_data_frame_at_any_boundary() {
    let (history, events, _) = chain();
    let expected = frames(&events);
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let random = std::cell::RefCell::new(fastrand::Rng::with_seed(seed));
    for step_max in [1, 2, 3, 50, 180, 190, 2_000] {
        for chance in [0, 30, 255] {
            let mut client = plain(Stream::Transactions, &history);
            let mut owed = 0_u32;
            let (written, _) = write_all(
                &history,
                &mut client,
                || random.borrow_mut().usize(1..=step_max),
                |client| {
                    // A bounded number: each step may owe another.
                    if owed < 500 && random.borrow_mut().u8(..) < chance {
                        owed += 1;
                        client.writer.pong(owed.to_be_bytes().to_vec());
                        if random.borrow_mut().bool() {
                            client.writer.ping();
                        }
                    }
                },
            );
            let (data, control): (Vec<_>, Vec<_>) =
                frames(&written).into_iter().partition(|(first, _)| *first == 0x81);
            assert_eq!(data, expected, "up to {step_max} bytes, chance {chance}");
            let pongs: Vec<_> = control.iter().filter(|(first, _)| *first == FIN_PONG).collect();
            assert!(pongs.windows(2).all(|pair| pair[0].1 < pair[1].1), "pongs in order");
            assert_eq!(
                pongs.last().map(|pong| pong.1.clone()),
                (owed > 0).then(|| owed.to_be_bytes().to_vec()),
                "the newest ping is answered"
            );
        }
    }
}

#[test]
fn a_close_ends_the_frame_under_way_and_nothing_follows() {
    let (history, events, _) = chain_of(&[(1, 2), (2, 0), (3, 1)]);
    let length = events.len();
    for closed_after in (0..length).step_by(3) {
        let mut client = plain(Stream::Transactions, &history);
        let mut seen = 0;
        let (written, _) = write_all(
            &history,
            &mut client,
            || 1,
            |client| {
                if seen == closed_after {
                    client.writer.close(Ending::Cause(Cause::Draining));
                }
                seen += 1;
            },
        );
        let written = frames(&written);
        let (close, data) = written.split_last().expect("a close");
        assert_eq!(close.0, 0x88);
        assert!(client.writer.is_close_written());
        assert_eq!(data, &frames(&events)[..data.len()], "closed after {closed_after} bytes");
        let place = ["from_height=oldest", "after=1.0", "after=1", "after=3"][data.len()];
        // Passed over when it was closed in between: an empty block.
        let reasons = [place, "after=2"].map(|place| format!("{place} draining"));
        let reason = String::from_utf8_lossy(&close.1[2..]);
        assert!(reasons.contains(&reason.into_owned()), "{close:?} after {closed_after} bytes");
    }
}

#[test]
fn the_position_tells_where_to_go_on() {
    let (history, ..) = chain();
    let mut client = plain(Stream::Transactions, &history);
    assert_eq!(client.position(), "from_height=oldest");
    let mut positions = Vec::new();
    write_all(&history, &mut client, || 1, |client| positions.push(client.position()));
    positions.dedup();
    assert_eq!(
        positions,
        [
            "from_height=oldest",
            "after=0",
            "after=1.0",
            "after=1.1",
            "after=2",
            "after=7",
            "after=8.0",
            "after=8.1",
            "after=8.2",
            "after=8.3",
            "after=8.4",
            "after=8.5",
            "after=8",
            "after=9.0",
            "after=9"
        ],
        "block 3 has one event and ends with it; empty ones and the gap are passed at once"
    );
}

#[test]
fn a_live_client_on_a_history_that_begins_is_at_its_beginning() {
    let history = History::new(usize::MAX);
    let live = |history: &History| {
        let cursor = SessionCursor::new(history.live_cursor(), None);
        Client::new(Subscription::plain(Stream::Transactions), cursor)
    };
    assert_eq!(live(&history).position(), "from_height=oldest");
    history.append(block(41, 1));
    assert_eq!(live(&history).position(), "after=41");
}

#[test]
fn a_gap_is_told_as_far_as_it_is_wanted_and_not_above() {
    let told = |until_height| {
        let history = History::new(usize::MAX);
        history.append_gap(101, 109);
        history.append(block(110, 1));
        let plain = Subscription::plain(Stream::Transactions);
        let subscription = Subscription { has_control: true, ..plain };
        let cursor = SessionCursor::new(history.live_cursor().at(0), Some(until_height));
        let mut client = Client::new(subscription, cursor);
        let (written, _) = write_all(&history, &mut client, || usize::MAX, |_| ());
        assert!(client.cursor.is_over() && client.cursor.next_height() == until_height + 1);
        let texts = frames(&written).into_iter().map(|(_, text)| String::from_utf8(text));
        texts.collect::<Result<Vec<_>, _>>().expect("text")
    };
    assert_eq!(told(3), [""; 0]);
    assert_eq!(told(100), [""; 0]);
    assert_eq!(told(101), [r#"{"type": "gap", "from_height": 101, "to_height": 101}"#]);
    assert_eq!(told(105), [r#"{"type": "gap", "from_height": 101, "to_height": 105}"#]);
}

#[test]
fn a_limit_inside_a_block_behind_heights_that_are_left_out_ends_inside_it() {
    let history = History::new(usize::MAX);
    history.append(block(5, 1));
    history.append(block(9, 3));
    let cursor = SessionCursor::new(history.live_cursor().at(6), None);
    let writer = Writer::new(Subscription::plain(Stream::Transactions), Some(2), Vec::new());
    let mut client = Client { writer, cursor };
    let (_, messages) = write_all(&history, &mut client, || usize::MAX, |_| ());
    assert!(client.writer.is_done() && messages == 2);
    assert_eq!(client.position(), "after=9.1");
}

/// As a broker has it that gave up the first copy, and got the block again.
#[test]
fn a_block_goes_on_in_no_copy_with_other_events_or_in_another_order() {
    let of = |ids: [u8; 3], hash: &str| {
        let transactions = ids.map(|id| format!("{{\"id\": \"{id}\"}}")).join(",");
        let body =
            format!("{{\"height\": 1, \"hash\": \"{hash}\", \"transactions\": [{transactions}]}}");
        let history = History::new(usize::MAX);
        history.append(encoded(&body));
        history
    };
    let first = of([1, 2, 3], "x");
    for (other, goes_on) in [
        (of([1, 2, 3], "x"), true),
        (of([1, 3, 2], "x"), false),
        (of([1, 2, 4], "x"), false),
        (of([1, 2, 3], "y"), false),
    ] {
        for taken in [1, first_frame(&first)] {
            let mut client = plain(Stream::Transactions, &first);
            client.write(&first, 1 << 20, |_| taken);
            let (mut entries, mut selection) = (Entries::new(), Selection::default());
            let place = SessionCursor::new(other.live_cursor().at(1), None);
            other.entries_from(place.next(), 0, &mut entries).expect("there");
            let mut views = Views::new();
            assert!(client.writer.view(&mut views, &entries, &place, &mut selection));
            assert_eq!(client.writer.goes_on_in(&views), goes_on, "{taken} bytes");
        }
    }
}

fn first_frame(history: &History) -> usize {
    let mut entries = Entries::new();
    history.entries_from(history.live_cursor().at(1), 0, &mut entries).expect("there");
    let Some(Entry::Block(cached)) = entries.first() else { panic!("a block") };
    cached.block.event_ends[0] as usize
}

/// Longer than what one turn counts, and than what one write takes.
#[test]
fn a_batch_of_ones_own_is_whole_however_long_it_is_and_wherever_writes_stop() {
    let history = History::new(usize::MAX);
    for (height, events) in [(1, 200), (2, 2), (3, 50)] {
        history.append(block(height, events));
    }
    let plain = Subscription::plain(Stream::Transactions);
    let subscription = Subscription { is_batch: true, has_control: true, ..plain };
    let write_batches = |step: usize| {
        let mut cursor = SessionCursor::new(history.live_cursor().at(0), None);
        cursor.begin_at(history.live_cursor().at(1), 3);
        let mut client = Client::new(subscription.clone(), cursor);
        let (mut pings, mut written) = (0, Vec::new());
        let (bytes, _) = write_all(
            &history,
            &mut client,
            || step,
            |client| {
                // In the middle of each batch one is due.
                if !client.writer.is_at_message_end() && pings < 10 {
                    client.writer.ping();
                    pings += 1;
                }
            },
        );
        written.extend(bytes);
        assert_eq!(client.position(), "after=3");
        written
    };
    let expected: Vec<_> = texts(&write_batches(usize::MAX));
    let first: serde_json::Value = serde_json::from_str(&expected[0]).expect("JSON");
    let ids = first["events"].as_array().expect("a list").iter();
    let ids = ids.map(|event| event["transaction_id"].as_str().expect("an id").to_owned());
    assert_eq!(
        ids.collect::<Vec<_>>(),
        (3..200).map(|id| format!("{id:064x}")).collect::<Vec<_>>()
    );
    assert_eq!(expected.len(), 6, "three batches and three ends");
    for step in [1, 7, 64, 190, 1_000, 5_000] {
        assert_eq!(texts(&write_batches(step)), expected, "{step} bytes at a time");
    }
}

/// The text frames among these.
fn texts(bytes: &[u8]) -> Vec<String> {
    let texts = frames(bytes).into_iter().filter(|(first, _)| *first == 0x81);
    texts.map(|(_, text)| String::from_utf8(text).expect("text")).collect()
}
