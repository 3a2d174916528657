use fastrand::Rng;

use super::super::{Batch, Builder, FilterName, FilterParameter, Subscriber};
use super::*;

const URL: &str = "ws://host/api/v1/streams/valid_transactions";

fn create() -> FilterParameter {
    FilterParameter::new(FilterName::Operation, "CREATE").expect("a value")
}

fn event(height: u64, id: &str) -> Said {
    Said::Event(of(height, id))
}

fn of(height: u64, id: &str) -> Event {
    Event { height, transaction_id: id.into(), asset_ids: vec![], text: String::new() }
}

fn position(height: Option<u64>, index: Option<u64>) -> Said {
    Said::Control(ControlMessage::Position(Beginning {
        height,
        index,
        first_height: Some(1),
        tip_height: Some(99),
    }))
}

fn tracker(builder: Builder) -> Tracker {
    let Subscriber { tracker, .. } = builder.build().expect("a stream");
    tracker
}

fn unfiltered() -> Tracker {
    tracker(Builder::new(URL).expect("a URL"))
}

fn filtered() -> Tracker {
    tracker(Builder::new(URL).expect("a URL").filter(create()))
}

/// What is yielded, in short, and the cursor after each message.
#[track_caller]
fn check(tracker: &mut Tracker, steps: &[(Said, bool, Option<&str>)]) {
    for (said, is_yielded, cursor) in steps {
        let message =
            tracker.take(said.clone()).unwrap_or_else(|error| panic!("{said:?}: {error}"));
        assert_eq!(message.is_some(), *is_yielded, "{said:?}");
        assert_eq!(
            tracker.position().map(|cursor| cursor.to_string()).as_deref(),
            *cursor,
            "{said:?}"
        );
    }
}

#[test]
fn the_cursor_moves_with_events_blocks_gaps_and_heartbeats() {
    let mut tracker = unfiltered();
    tracker.connected();
    check(
        &mut tracker,
        &[
            (position(Some(4), None), true, Some("4")),
            (event(5, "a"), true, Some("5.0")),
            (event(5, "b"), true, Some("5.1")),
            (Said::Control(ControlMessage::Block { height: 5, events: 2 }), true, Some("5")),
            (Said::Control(ControlMessage::Block { height: 6, events: 0 }), true, Some("6")),
            (Said::Control(ControlMessage::Gap { from_height: 7, to_height: 9 }), true, Some("9")),
            (Said::Control(ControlMessage::Filled { height: 8 }), true, Some("9")),
            (Said::Control(ControlMessage::Heartbeat { height: Some(12) }), true, Some("12")),
            (Said::Control(ControlMessage::Heartbeat { height: Some(11) }), true, Some("12")),
        ],
    );
}

#[test]
fn the_stream_is_known_by_its_name_however_the_path_is_written() {
    let mut tracker =
        tracker(Builder::new("ws://host/chain/streams/valid%5Ftransactions/").expect("a URL"));
    tracker.connected();
    check(
        &mut tracker,
        &[(position(Some(4), None), true, Some("4")), (event(5, "a"), true, Some("5.0"))],
    );
}

#[test]
fn an_id_in_upper_case_is_none_that_a_position_can_name() {
    let mut tracker = filtered();
    tracker.connected();
    check(
        &mut tracker,
        &[
            (position(Some(4), None), true, Some("4")),
            (event(5, &"AB".repeat(32)), true, Some("4")),
        ],
    );
}

#[test]
fn what_is_behind_is_not_yielded_again() {
    let mut tracker = unfiltered();
    tracker.connected();
    check(
        &mut tracker,
        &[
            (position(Some(9), None), true, Some("9")),
            (event(9, "a"), false, Some("9")),
            (Said::Control(ControlMessage::Block { height: 8, events: 1 }), false, Some("9")),
            (Said::Control(ControlMessage::Gap { from_height: 3, to_height: 9 }), false, Some("9")),
        ],
    );
    let gap = tracker
        .take(Said::Control(ControlMessage::Gap { from_height: 8, to_height: 11 }))
        .expect("taken");
    assert_eq!(gap, Some(StreamMessage::Gap { from_height: 10, to_height: 11 }));
}

#[test]
fn in_mid_block_a_filter_leaves_the_transaction_to_go_on_from() {
    let id = "ab".repeat(32);
    let mut tracker = filtered();
    tracker.connected();
    check(
        &mut tracker,
        &[
            (position(Some(4), None), true, Some("4")),
            (event(5, &id), true, Some(&format!("5.{id}"))),
        ],
    );
    assert_eq!(tracker.asks().0, Start::After(format!("5.{id}").parse().expect("a cursor")));
    tracker.connected();
    check(
        &mut tracker,
        &[
            (position(Some(5), Some(6)), true, Some("5.6")),
            (event(5, &"cd".repeat(32)), true, Some(&format!("5.{}", "cd".repeat(32)))),
            (Said::Control(ControlMessage::Block { height: 5, events: 9 }), true, Some("5")),
        ],
    );
}

#[test]
fn events_that_no_cursor_can_name_are_counted_and_not_yielded_again() {
    let id = "ab".repeat(32);
    let builder = || Builder::new(URL).expect("a URL").filter(create());
    let mut tracker = tracker(builder().limit(9));
    tracker.connected();
    let named = format!("5.{id}");
    check(
        &mut tracker,
        &[
            (position(Some(4), None), true, Some("4")),
            (event(5, "odd"), true, Some("4")),
            (event(5, &id), true, Some(&named)),
            (event(5, "odder"), true, Some(&named)),
            (event(5, "oddest"), true, Some(&named)),
        ],
    );
    assert_eq!(tracker.asks(), (Start::After(named.parse().expect("a cursor")), Some(5 + 2)));
    tracker.connected();
    check(&mut tracker, &[(position(Some(5), Some(1)), true, Some("5.1"))]);
    check(&mut tracker, &[(event(5, "odder"), false, Some("5.1"))]);
    assert_eq!(tracker.asks().1, Some(5 + 2), "cut again in between");
    tracker.connected();
    check(
        &mut tracker,
        &[
            (position(Some(5), Some(1)), true, Some("5.1")),
            (event(5, "odder"), false, Some("5.1")),
            (event(5, "oddest"), false, Some("5.1")),
            (event(5, "new"), true, Some("5.1")),
            (Said::Control(ControlMessage::Block { height: 5, events: 7 }), true, Some("5")),
        ],
    );
    assert_eq!(tracker.asks().1, Some(4));
}

#[test]
fn a_server_that_skips_or_begins_elsewhere_is_at_fault() {
    let fault = |tracker: &mut Tracker, said: Said, told: &str| {
        let error = tracker.take(said).expect_err("a fault").to_string();
        assert!(error.contains(told), "{error}");
    };
    let open = || {
        let mut tracker = unfiltered();
        tracker.connected();
        check(
            &mut tracker,
            &[(position(Some(4), None), true, Some("4")), (event(5, "a"), true, Some("5.0"))],
        );
        tracker
    };
    fault(&mut open(), event(6, "b"), "block 5 was not ended when 6 came");
    fault(
        &mut open(),
        Said::Control(ControlMessage::Gap { from_height: 6, to_height: 7 }),
        "block 5 was not ended",
    );
    fault(
        &mut open(),
        Said::Control(ControlMessage::Block { height: 5, events: 2 }),
        "block 5 has 2 events, 1 came",
    );
    fault(
        &mut open(),
        Said::Control(ControlMessage::Block { height: 6, events: 0 }),
        "block 5 was not ended",
    );
    fault(&mut open(), position(Some(4), None), "more than once");
    for (height, index) in [(Some(4), None), (Some(6), None), (Some(5), Some(1))] {
        let mut tracker = open();
        tracker.connected();
        fault(&mut tracker, position(height, index), "asked to go on after 5.0");
    }
    let mut tracker = open();
    tracker.connected();
    fault(&mut tracker, event(5, "b"), "passes over the parameters");
}

#[test]
fn a_node_is_followed_live_and_nothing_else() {
    let mut node = unfiltered();
    node.connected();
    check(&mut node, &[(event(5, "a"), true, None), (event(5, "a"), true, None)]);
    assert!(!node.is_placed());
    assert_eq!(node.asks(), (Start::Live, None));
    let builder = || Builder::new(URL).expect("a URL");
    for builder in [
        builder().start(Start::Oldest),
        builder().until_height(9),
        builder().limit(9),
        builder().batch(),
        builder().filter(create()),
    ] {
        let mut tracker = tracker(builder);
        tracker.connected();
        assert!(matches!(tracker.take(event(5, "a")), Err(Error::NotUnderstood)));
    }
}

#[test]
fn with_nothing_before_it_a_cut_stream_begins_where_it_would_have() {
    for (start, first_height, again) in [
        (Start::Live, None, Start::Oldest),
        (Start::Live, Some(0), Start::Height(0)),
        (Start::BeforeTip(3), Some(2), Start::Height(2)),
        (Start::Height(0), Some(0), Start::Height(0)),
        (Start::Height(7), None, Start::Height(7)),
    ] {
        let mut tracker = tracker(Builder::new(URL).expect("a URL").start(start));
        tracker.connected();
        let told = Beginning { height: None, index: None, first_height, tip_height: first_height };
        tracker.take(Said::Control(ControlMessage::Position(told))).expect("taken");
        assert_eq!(tracker.asks().0, again);
    }
}

#[test]
fn the_end_is_the_height_or_the_limit() {
    let mut tracker = tracker(Builder::new(URL).expect("a URL").until_height(6).limit(2));
    tracker.connected();
    check(
        &mut tracker,
        &[(position(Some(4), None), true, Some("4")), (event(5, "a"), true, Some("5.0"))],
    );
    assert!(!tracker.is_done());
    check(&mut tracker, &[(event(5, "b"), true, Some("5.1"))]);
    assert!(tracker.is_done());
    let cursor = Start::After(Position::after_block(6));
    let builder = Builder::new(URL).expect("a URL").start(cursor);
    assert!(super::tests::tracker(builder.until_height(6)).is_done());
}

/// A chain, and a server of it by the contract.
struct Chain {
    /// Per height from 1: the transactions' ids and whether the filter matches, or a gap.
    blocks: Vec<Option<Vec<(String, bool)>>>,
}

impl Chain {
    fn random(random: &mut Rng) -> Self {
        let block = |height: usize, random: &mut Rng| {
            (random.u8(..) >= 40).then(|| {
                let len = random.usize(..6);
                let transaction = |index: usize| {
                    let id = format!("{height:032x}{index:032x}");
                    let is_odd = random.u8(..) < 60;
                    (if is_odd { format!("odd-{id}") } else { id }, random.bool())
                };
                (0..len).map(transaction).collect()
            })
        };
        Self { blocks: (1..=random.usize(5..30)).map(|height| block(height, random)).collect() }
    }

    /// All that is said from a place on, messages that match at most `limit`.
    fn said(&self, tracker: &Tracker) -> Vec<Said> {
        let (resume, limit) = tracker.asks();
        let mut left = limit.unwrap_or(u64::MAX);
        let (after, index) = match &resume {
            Start::After(cursor) => {
                (cursor.height(), cursor.within().map(|within| self.index(cursor, within)))
            }
            _ => (0, None),
        };
        let mut said = vec![position(Some(after), index)];
        let first = index.map_or(after + 1, |_| after);
        for (block, height) in self.blocks[first as usize - 1..].iter().zip(first..) {
            let Some(transactions) = block else {
                said.push(Said::Control(ControlMessage::Gap {
                    from_height: height,
                    to_height: height,
                }));
                continue;
            };
            let skipped = match index {
                Some(index) if height == after => index as usize + 1,
                _ => 0,
            };
            let mut events = Vec::new();
            for (id, is_match) in &transactions[skipped..] {
                if left > 0 && (*is_match || !tracker.is_filtered) {
                    left -= u64::from(!tracker.is_batch);
                    events.push(of(height, id));
                }
            }
            if !tracker.is_batch {
                said.extend(events.into_iter().map(Said::Event));
            } else if left > 0 && (!events.is_empty() || !tracker.is_filtered) {
                left -= 1;
                said.push(Said::Batch(Batch { height, hash: None, events, text: String::new() }));
            }
            if left == 0 {
                break;
            }
            said.push(Said::Control(ControlMessage::Block {
                height,
                events: transactions.len() as u64,
            }));
        }
        said
    }

    fn index(&self, cursor: &Position, within: &Within) -> u64 {
        let transactions = self.blocks[cursor.height() as usize - 1].as_ref().expect("a block");
        match within {
            Within::Index(index) => *index,
            Within::Transaction(id) => {
                let at = transactions.iter().position(|(other, _)| *other == **id);
                at.expect("a transaction of the block") as u64
            }
        }
    }

    fn expected(&self, is_filtered: bool, limit: usize, is_batch: bool) -> Vec<String> {
        let mut expected = Vec::new();
        let mut left = limit;
        for (block, height) in self.blocks.iter().zip(1..) {
            let Some(transactions) = block else {
                if left > 0 {
                    expected.push(format!("gap {height}"));
                }
                continue;
            };
            let ids = transactions.iter().filter(|(_, is_match)| *is_match || !is_filtered);
            let ids: Vec<_> = ids.map(|(id, _)| format!("{height} {id}")).collect();
            match is_batch {
                true if left > 0 && (!ids.is_empty() || !is_filtered) => {
                    left -= 1;
                    expected.extend(ids);
                }
                true => {}
                false => {
                    expected.extend(ids.into_iter().take(left).inspect(|_| left -= 1));
                }
            }
        }
        expected
    }
}

/// Reads a stream over random cuts, in one process or several; yields what was yielded.
fn read(chain: &Chain, build: impl Fn(Start, u64) -> Builder, random: &mut Rng) -> Vec<String> {
    let mut limit = build(Start::Oldest, 0).build().expect("a stream").tracker.limit.unwrap_or(0);
    let limited = limit > 0;
    let mut tracker = tracker(build(Start::Oldest, limit));
    let mut yielded: Vec<String> = Vec::new();
    let mut by_position = (None, 0, limit);
    loop {
        let said = chain.said(&tracker);
        let cut_at = random.usize(..said.len() * 2);
        let is_cut = cut_at < said.len();
        tracker.connected();
        for said in said.into_iter().take(cut_at) {
            if tracker.is_done() {
                break;
            }
            let message = tracker.take(said).expect("the server keeps to the contract");
            // The same place by another name: what was yielded behind it stays behind it.
            if matches!(message, Some(StreamMessage::Position { .. })) {
                by_position.0 = tracker.position();
            }
            match message {
                Some(StreamMessage::Event(event)) => {
                    yielded.push(format!("{} {}", event.height, event.transaction_id));
                    limit = limit.saturating_sub(1);
                }
                Some(StreamMessage::Batch(batch)) => {
                    let events = batch.events.iter();
                    yielded.extend(
                        events.map(|event| format!("{} {}", batch.height, event.transaction_id)),
                    );
                    limit = limit.saturating_sub(1);
                }
                Some(StreamMessage::Gap { from_height, to_height }) => {
                    yielded.extend((from_height..=to_height).map(|height| format!("gap {height}")));
                }
                _ => {}
            }
            if tracker.position() != by_position.0 {
                by_position = (tracker.position(), yielded.len(), limit);
            }
        }
        if !is_cut || tracker.is_done() {
            return yielded;
        }
        // Another process that has what was saved: it goes on from the cursor and nothing else.
        if let (true, (Some(cursor), len, left)) = (random.u8(..) < 60, &by_position)
            && (!limited || *left > 0)
        {
            yielded.truncate(*len);
            limit = *left;
            tracker = super::tests::tracker(build(Start::After(cursor.clone()), limit));
        }
    }
}

#[test]
fn over_random_cuts_a_stream_is_the_whole_of_it_without_repeats() {
    for _ in 0..2_000 {
        let seed = fastrand::u64(..);
        let mut random = Rng::with_seed(seed);
        let chain = Chain::random(&mut random);
        let (is_filtered, is_batch) = (random.bool(), random.bool());
        let limit = random.bool().then(|| random.u64(1..40));
        let build = |start: Start, left: u64| {
            let mut builder = Builder::new(URL).expect("a URL").start(start);
            if is_filtered {
                builder = builder.filter(create());
            }
            if is_batch {
                builder = builder.batch();
            }
            match limit {
                Some(limit) => builder.limit(if left > 0 { left } else { limit }),
                None => builder,
            }
        };
        let read = read(&chain, build, &mut random);
        let limit = limit.map_or(usize::MAX, |limit| limit as usize);
        let expected = chain.expected(is_filtered, limit, is_batch);
        assert_eq!(read, expected, "seed {seed}: filter {is_filtered}, batch {is_batch}, {limit}");
    }
}
