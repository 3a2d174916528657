use super::own::FIN_PONG;
use super::*;
use crate::frame::sample::block;
use crate::history::{Entries, History};
use crate::protocol::Stream;

/// A client's view of a byte stream: whole unmasked frames, or a panic.
pub fn frames(mut bytes: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut frames = Vec::new();
    while let [first, length, rest @ ..] = bytes {
        let (length, rest) = match length {
            126 => (usize::from(u16::from_be_bytes([rest[0], rest[1]])), &rest[2..]),
            127 => panic!("no test frame is that long"),
            length => (usize::from(*length), rest),
        };
        frames.push((*first, rest[..length].to_vec()));
        bytes = &rest[length..];
    }
    assert!(bytes.is_empty(), "the stream ends at a frame's end");
    frames
}

/// Where a client would go on, as a URL says it.
pub fn url_of(outbound: &Outbound) -> String {
    outbound.position().to_query().expect("a position")
}

/// Writes what there is in steps of `step` bytes; before each, `between` may owe control frames.
fn write_all(
    history: &History,
    outbound: &mut Outbound,
    step: impl Fn() -> usize,
    mut between: impl FnMut(&mut Outbound),
) -> (Vec<u8>, usize) {
    let (mut written, mut messages) = (Vec::new(), 0);
    loop {
        between(outbound);
        let (mut entries, mut scratch) = (Entries::new(), Scratch::default());
        if outbound.wants_blocks() {
            history.entries_from(outbound.cursor(), 1 << 20, &mut entries).expect("all is there");
        }
        for entry in &entries {
            if let Entry::Block(kept) = entry {
                kept.make(outbound.needs(kept.block.height));
            }
        }
        outbound.pass_empty(&entries, &mut scratch);
        let offered: Vec<u8> = {
            let mut slices = Slices::new();
            outbound.slices(&entries, &mut scratch, &mut slices);
            if slices.is_empty() {
                return (written, messages);
            }
            slices.iter().flat_map(|slice| slice.iter().copied()).collect()
        };
        assert!(!offered.is_empty(), "what is offered can be written");
        let taken = step().clamp(1, offered.len());
        written.extend_from_slice(&offered[..taken]);
        messages += outbound.advance(&entries, taken, &mut scratch, &mut |_| ());
    }
}

/// A client of the plain stream that begins with the first block.
fn plain(stream: Stream, history: &History) -> Outbound {
    of_form(Form::plain(stream), history)
}

fn of_form(form: Form, history: &History) -> Outbound {
    Outbound::new(form, history.live_cursor().at(0), Bounds::default(), Vec::new())
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
            let mut outbound = plain(stream, &history);
            let (written, messages) = write_all(&history, &mut outbound, || step, |_| ());
            assert_eq!(&written, expected, "{stream:?}, {step} bytes at a time");
            assert_eq!(messages, count);
            assert_eq!(url_of(&outbound), "after=9");
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
            let mut outbound = plain(Stream::Transactions, &history);
            let mut owed = 0_u32;
            let (written, _) = write_all(
                &history,
                &mut outbound,
                || random.borrow_mut().usize(1..=step_max),
                |outbound| {
                    // A bounded number: each step may owe another.
                    if owed < 500 && random.borrow_mut().u8(..) < chance {
                        owed += 1;
                        outbound.pong(owed.to_be_bytes().to_vec());
                        if random.borrow_mut().bool() {
                            outbound.ping();
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
        let mut outbound = plain(Stream::Transactions, &history);
        let mut seen = 0;
        let (written, _) = write_all(
            &history,
            &mut outbound,
            || 1,
            |outbound| {
                if seen == closed_after {
                    outbound.close(Ending::Cause(Cause::Draining));
                }
                seen += 1;
            },
        );
        let written = frames(&written);
        let (close, data) = written.split_last().expect("a close");
        assert_eq!(close.0, 0x88);
        assert!(outbound.is_close_written());
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
    let mut outbound = plain(Stream::Transactions, &history);
    assert_eq!(url_of(&outbound), "from_height=oldest");
    let mut positions = Vec::new();
    write_all(&history, &mut outbound, || 1, |outbound| positions.push(url_of(outbound)));
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
        let form = Form::plain(Stream::Transactions);
        Outbound::new(form, history.live_cursor(), Bounds::default(), Vec::new())
    };
    assert_eq!(url_of(&live(&history)), "from_height=oldest");
    history.append(block(41, 1));
    assert_eq!(url_of(&live(&history)), "after=41");
}

#[test]
fn a_gap_is_told_as_far_as_it_is_wanted_and_not_above() {
    let told = |until_height| {
        let history = History::new(usize::MAX);
        history.append_gap(101, 109);
        history.append(block(110, 1));
        let form = Form { has_control: true, ..Form::plain(Stream::Transactions) };
        let bounds = Bounds { until_height: Some(until_height), messages_max: None };
        let cursor = history.live_cursor().at(0);
        let mut outbound = Outbound::new(form, cursor, bounds, Vec::new());
        let (written, _) = write_all(&history, &mut outbound, || usize::MAX, |_| ());
        assert!(outbound.is_done() && outbound.cursor().next_height == until_height + 1);
        let texts = frames(&written).into_iter().map(|(_, text)| String::from_utf8(text));
        texts.collect::<Result<Vec<_>, _>>().expect("text")
    };
    assert_eq!(told(3), [""; 0]);
    assert_eq!(told(100), [""; 0]);
    assert_eq!(told(101), [r#"{"type": "gap", "from_height": 101, "to_height": 101}"#]);
    assert_eq!(told(105), [r#"{"type": "gap", "from_height": 101, "to_height": 105}"#]);
}
