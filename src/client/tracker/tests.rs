use fastrand::Rng;

use super::super::{Batch, Builder, Filter, Stream};
use super::*;

const URL: &str = "ws://host/api/v1/streams/valid_transactions";

fn event(height: u64, id: &str) -> Said {
    Said::Event(of(height, id))
}

fn of(height: u64, id: &str) -> Event {
    Event { height, transaction_id: id.into(), asset_ids: vec![], text: String::new() }
}

fn position(height: Option<u64>, index: Option<u64>) -> Said {
    Said::Position(Position { height, index, first_height: Some(1), tip_height: Some(99) })
}

fn place(builder: Builder) -> Place {
    let Stream { place, .. } = builder.build().expect("a stream");
    place
}

fn unfiltered() -> Place {
    place(Builder::new(URL).expect("a URL"))
}

fn filtered() -> Place {
    place(Builder::new(URL).expect("a URL").filter(Filter::Operation("CREATE".into())))
}

/// What is yielded, in short, and the cursor after each message.
#[track_caller]
fn check(place: &mut Place, steps: &[(Said, bool, Option<&str>)]) {
    for (said, is_yielded, cursor) in steps {
        let read = match said {
            Said::Event(event) => Said::Event(event.clone()),
            Said::Block { height, events } => Said::Block { height: *height, events: *events },
            Said::Gap { from_height, to_height } => {
                Said::Gap { from_height: *from_height, to_height: *to_height }
            }
            Said::Filled { height } => Said::Filled { height: *height },
            Said::Heartbeat { height } => Said::Heartbeat { height: *height },
            Said::Position(position) => Said::Position(*position),
            other => panic!("not used here: {other:?}"),
        };
        let message = place.take(read).unwrap_or_else(|error| panic!("{said:?}: {error}"));
        assert_eq!(message.is_some(), *is_yielded, "{said:?}");
        assert_eq!(place.cursor().map(|cursor| cursor.to_string()).as_deref(), *cursor, "{said:?}");
    }
}

#[test]
fn the_cursor_moves_with_events_blocks_gaps_and_heartbeats() {
    let mut place = unfiltered();
    place.connected();
    check(
        &mut place,
        &[
            (position(Some(4), None), true, Some("4")),
            (event(5, "a"), true, Some("5.0")),
            (event(5, "b"), true, Some("5.1")),
            (Said::Block { height: 5, events: 2 }, true, Some("5")),
            (Said::Block { height: 6, events: 0 }, true, Some("6")),
            (Said::Gap { from_height: 7, to_height: 9 }, true, Some("9")),
            (Said::Filled { height: 8 }, true, Some("9")),
            (Said::Heartbeat { height: Some(12) }, true, Some("12")),
            (Said::Heartbeat { height: Some(11) }, true, Some("12")),
        ],
    );
}

#[test]
fn what_is_behind_is_not_yielded_again() {
    let mut place = unfiltered();
    place.connected();
    check(
        &mut place,
        &[
            (position(Some(9), None), true, Some("9")),
            (event(9, "a"), false, Some("9")),
            (Said::Block { height: 8, events: 1 }, false, Some("9")),
            (Said::Gap { from_height: 3, to_height: 9 }, false, Some("9")),
        ],
    );
    let gap = place.take(Said::Gap { from_height: 8, to_height: 11 }).expect("taken");
    assert_eq!(gap, Some(Message::Gap { from_height: 10, to_height: 11 }));
}

#[test]
fn in_mid_block_a_filter_leaves_the_transaction_to_go_on_from() {
    let id = "ab".repeat(32);
    let mut place = filtered();
    place.connected();
    check(
        &mut place,
        &[
            (position(Some(4), None), true, Some("4")),
            (event(5, &id), true, Some(&format!("5.{id}"))),
        ],
    );
    assert_eq!(place.asks().0, Resume::After(format!("5.{id}").parse().expect("a cursor")));
    place.connected();
    check(
        &mut place,
        &[
            (position(Some(5), Some(6)), true, Some("5.6")),
            (event(5, &"cd".repeat(32)), true, Some(&format!("5.{}", "cd".repeat(32)))),
            (Said::Block { height: 5, events: 9 }, true, Some("5")),
        ],
    );
}

#[test]
fn events_that_no_cursor_can_name_are_counted_and_not_yielded_again() {
    let id = "ab".repeat(32);
    let builder = || Builder::new(URL).expect("a URL").filter(Filter::Operation("CREATE".into()));
    let mut place = place(builder().limit(9));
    place.connected();
    let named = format!("5.{id}");
    check(
        &mut place,
        &[
            (position(Some(4), None), true, Some("4")),
            (event(5, "odd"), true, Some("4")),
            (event(5, &id), true, Some(&named)),
            (event(5, "odder"), true, Some(&named)),
            (event(5, "oddest"), true, Some(&named)),
        ],
    );
    assert_eq!(place.asks(), (Resume::After(named.parse().expect("a cursor")), Some(5 + 2)));
    place.connected();
    check(&mut place, &[(position(Some(5), Some(1)), true, Some("5.1"))]);
    check(&mut place, &[(event(5, "odder"), false, Some("5.1"))]);
    assert_eq!(place.asks().1, Some(5 + 2), "cut again in between");
    place.connected();
    check(
        &mut place,
        &[
            (position(Some(5), Some(1)), true, Some("5.1")),
            (event(5, "odder"), false, Some("5.1")),
            (event(5, "oddest"), false, Some("5.1")),
            (event(5, "new"), true, Some("5.1")),
            (Said::Block { height: 5, events: 7 }, true, Some("5")),
        ],
    );
    assert_eq!(place.asks().1, Some(4));
}

#[test]
fn a_server_that_skips_or_begins_elsewhere_is_at_fault() {
    let fault = |place: &mut Place, said: Said, told: &str| {
        let error = place.take(said).expect_err("a fault").to_string();
        assert!(error.contains(told), "{error}");
    };
    let open = || {
        let mut place = unfiltered();
        place.connected();
        check(
            &mut place,
            &[(position(Some(4), None), true, Some("4")), (event(5, "a"), true, Some("5.0"))],
        );
        place
    };
    fault(&mut open(), event(6, "b"), "block 5 was not ended when 6 came");
    fault(&mut open(), Said::Gap { from_height: 6, to_height: 7 }, "block 5 was not ended");
    fault(&mut open(), Said::Block { height: 5, events: 2 }, "block 5 has 2 events, 1 came");
    fault(&mut open(), Said::Block { height: 6, events: 0 }, "block 5 was not ended");
    fault(&mut open(), position(Some(4), None), "more than once");
    for (height, index) in [(Some(4), None), (Some(6), None), (Some(5), Some(1))] {
        let mut place = open();
        place.connected();
        fault(&mut place, position(height, index), "asked to go on after 5.0");
    }
    let mut place = open();
    place.connected();
    fault(&mut place, event(5, "b"), "passes over the parameters");
}

#[test]
fn a_node_is_followed_live_and_nothing_else() {
    let mut node = unfiltered();
    node.connected();
    check(&mut node, &[(event(5, "a"), true, None), (event(5, "a"), true, None)]);
    assert!(!node.is_placed());
    assert_eq!(node.asks(), (Resume::Start(Start::Live), None));
    let builder = || Builder::new(URL).expect("a URL");
    for builder in [
        builder().start(Start::Oldest),
        builder().until_height(9),
        builder().limit(9),
        builder().batch(),
        builder().filter(Filter::AssetId("x".into())),
    ] {
        let mut place = place(builder);
        place.connected();
        assert!(matches!(place.take(event(5, "a")), Err(Error::NotUnderstood)));
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
        let mut place = place(Builder::new(URL).expect("a URL").start(start));
        place.connected();
        let told = Position { height: None, index: None, first_height, tip_height: first_height };
        place.take(Said::Position(told)).expect("taken");
        assert_eq!(place.asks().0, Resume::Start(again));
    }
}

#[test]
fn the_end_is_the_height_or_the_limit() {
    let mut place = place(Builder::new(URL).expect("a URL").until_height(6).limit(2));
    place.connected();
    check(
        &mut place,
        &[(position(Some(4), None), true, Some("4")), (event(5, "a"), true, Some("5.0"))],
    );
    assert!(!place.is_done());
    check(&mut place, &[(event(5, "b"), true, Some("5.1"))]);
    assert!(place.is_done());
    let cursor = Start::After(Cursor::after_block(6));
    let builder = Builder::new(URL).expect("a URL").start(cursor);
    assert!(super::tests::place(builder.until_height(6)).is_done());
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
    fn said(&self, place: &Place) -> Vec<Said> {
        let (resume, limit) = place.asks();
        let mut left = limit.unwrap_or(u64::MAX);
        let (after, index) = match &resume {
            Resume::Start(_) => (0, None),
            Resume::After(cursor) => {
                (cursor.height(), cursor.within().map(|within| self.index(cursor, within)))
            }
        };
        let mut said = vec![position(Some(after), index)];
        let first = index.map_or(after + 1, |_| after);
        for (block, height) in self.blocks[first as usize - 1..].iter().zip(first..) {
            let Some(transactions) = block else {
                said.push(Said::Gap { from_height: height, to_height: height });
                continue;
            };
            let skipped = match index {
                Some(index) if height == after => index as usize + 1,
                _ => 0,
            };
            let mut events = Vec::new();
            for (id, is_match) in &transactions[skipped..] {
                if left > 0 && (*is_match || !place.is_filtered) {
                    left -= u64::from(!place.is_batch);
                    events.push(of(height, id));
                }
            }
            if !place.is_batch {
                said.extend(events.into_iter().map(Said::Event));
            } else if left > 0 && (!events.is_empty() || !place.is_filtered) {
                left -= 1;
                said.push(Said::Batch(Batch { height, hash: None, events, text: String::new() }));
            }
            if left == 0 {
                break;
            }
            said.push(Said::Block { height, events: transactions.len() as u64 });
        }
        said
    }

    fn index(&self, cursor: &Cursor, within: &Within) -> u64 {
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
    let mut limit = build(Start::Oldest, 0).build().expect("a stream").place.limit.unwrap_or(0);
    let limited = limit > 0;
    let mut place = place(build(Start::Oldest, limit));
    let mut yielded: Vec<String> = Vec::new();
    let mut by_cursor = (None, 0, limit);
    loop {
        let said = chain.said(&place);
        let cut_at = random.usize(..said.len() * 2);
        let is_cut = cut_at < said.len();
        place.connected();
        for said in said.into_iter().take(cut_at) {
            if place.is_done() {
                break;
            }
            let message = place.take(said).expect("the server keeps to the contract");
            // The same place by another name: what was yielded behind it stays behind it.
            if matches!(message, Some(Message::Position { .. })) {
                by_cursor.0 = place.cursor();
            }
            match message {
                Some(Message::Event(event)) => {
                    yielded.push(format!("{} {}", event.height, event.transaction_id));
                    limit = limit.saturating_sub(1);
                }
                Some(Message::Batch(batch)) => {
                    let events = batch.events.iter();
                    yielded.extend(
                        events.map(|event| format!("{} {}", batch.height, event.transaction_id)),
                    );
                    limit = limit.saturating_sub(1);
                }
                Some(Message::Gap { from_height, to_height }) => {
                    yielded.extend((from_height..=to_height).map(|height| format!("gap {height}")));
                }
                _ => {}
            }
            if place.cursor() != by_cursor.0 {
                by_cursor = (place.cursor(), yielded.len(), limit);
            }
        }
        if !is_cut || place.is_done() {
            return yielded;
        }
        // Another process that has what was saved: it goes on from the cursor and nothing else.
        if let (true, (Some(cursor), len, left)) = (random.u8(..) < 60, &by_cursor)
            && (!limited || *left > 0)
        {
            yielded.truncate(*len);
            limit = *left;
            place = super::tests::place(build(Start::After(cursor.clone()), limit));
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
                builder = builder.filter(Filter::Operation("CREATE".into()));
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
