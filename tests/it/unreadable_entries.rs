//! Entries of a RabbitMQ stream that the broker cannot hand over: what the source makes of them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use blockcast::amqp::{Bounds, Input, Keeper, PublishError, Publisher, ReadError, Reader};
use blockcast::config;
use tokio::time::timeout;

use crate::support::amqp_client::{Client, Running, bodies, config, eventually};
use crate::support::stream_writer::{Entry, Writer};
use crate::support::unreadable::broker;

/// Two thousand connections, each of which the broker ends with a crash: 10 s on two cores of one's own,
/// and many times that beside all the other tests.
const MANY_WITHIN: Duration = Duration::from_secs(240);

struct Fixture {
    config: config::Amqp,
    writer: Writer,
}

/// Chunks of entries: a number is a good entry at that height, the other characters are bad ones.
const GARBAGE: char = 'x';
const TRUNCATED: char = 't';
/// Two blocks, 90 and 91, in a compressed sub-batch.
const COMPRESSED: char = 'z';

fn body(height: u64) -> Vec<u8> {
    format!("block {height}").into_bytes()
}

impl Fixture {
    async fn new() -> Self {
        let (broker, port) = broker();
        let config = config(broker);
        Client::connect(&broker.uri()).await.declare_stream(&config).await;
        let writer = Writer::connect(port, &config.queue.resolved_name());
        Self { config, writer }
    }

    /// One whose first block a source has taken, which has caught up.
    async fn running() -> (Self, Running) {
        let mut fixture = Self::new().await;
        fixture.write("0");
        let mut source = Running::start(&fixture.config);
        source.begin().await;
        takes(&mut source, &[0]).await;
        catches_up(&mut source).await;
        (fixture, source)
    }

    /// Writes chunks, apart by `/`, of words apart by spaces.
    fn write(&mut self, chunks: &str) {
        for chunk in chunks.split('/') {
            self.writer.write(chunk.split_whitespace().map(|word| match word.parse() {
                Ok(height) => Entry::Body(body(height)),
                Err(_) if word.starts_with(GARBAGE) => Entry::Garbage,
                Err(_) if word.starts_with(TRUNCATED) => Entry::Truncated,
                Err(_) if word.starts_with(COMPRESSED) => {
                    Entry::Compressed(vec![body(90), body(91)])
                }
                Err(_) => panic!("no such entry: {word}"),
            }));
        }
    }
}

/// Takes exactly these blocks. Echoes between them are let pass, and so is a second beginning before the
/// first of them. Returns whether it said that it has caught up.
async fn takes(source: &mut Running, heights: &[u64]) -> bool {
    let mut is_caught_up = false;
    for height in heights {
        let mut delivery = loop {
            match source.next().await {
                Input::Delivery(delivery) => break delivery,
                Input::Echo(mut echo) => echo.settle().await,
                Input::CaughtUp => is_caught_up = true,
                Input::Begin { from_first: true } if Some(height) == heights.first() => {}
                other => panic!("{other:?} before block {height}"),
            }
        };
        assert_eq!(delivery.body, body(*height), "block {height}");
        delivery.settle().await;
    }
    is_caught_up
}

async fn catches_up(source: &mut Running) {
    loop {
        match source.next().await {
            Input::CaughtUp => return,
            Input::Echo(mut echo) => echo.settle().await,
            other => panic!("{other:?} instead of CaughtUp"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_source_passes_over_what_cannot_be_read_and_nothing_else() {
    // Between 0 and 9, each written at once; what comes of it; how many entries do not.
    for (chunks, heights, unreadable) in [
        ("x", &[][..], 1),
        ("1/x/2", &[1, 2], 1),
        ("1/2 3/4/x x t/5", &[1, 2, 3, 4, 5], 3),
        ("1/x/2/t/3/x/4", &[1, 2, 3, 4], 3),
        // What lies before it in its chunk RabbitMQ 3.10 does not hand over either.
        ("1/x 2 3/4", &[1, 2, 3, 4], 1),
    ] {
        let (mut fixture, mut source) = Fixture::running().await;
        fixture.write(chunks);
        fixture.write("9");
        takes(&mut source, &[heights, &[9]].concat()).await;
        assert_eq!(source.metrics.unreadable_entries.get(), unreadable, "{chunks}");
        assert_eq!(source.metrics.stream_resets.get(), 0);
        fixture.write("10 11/12");
        takes(&mut source, &[10, 11, 12]).await;
        source.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn compressed_entries_are_passed_over_by_the_broker_or_by_the_source() {
    let (mut fixture, mut source) = Fixture::running().await;
    fixture.write("1/z/2");
    takes(&mut source, &[1, 2]).await;
    // RabbitMQ 3.10 answers 541 at its first offset, 4.0 skips it.
    assert!(source.metrics.unreadable_entries.get() <= 1);
    source.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn good_entries_around_a_bad_one_in_its_chunk_come_as_far_as_the_broker_hands_them_over() {
    let (mut fixture, mut source) = Fixture::running().await;
    fixture.write("1 x 2 x 3/9");
    let mut taken = Vec::new();
    while taken.last() != Some(&b"block 9"[..].into()) {
        match source.next().await {
            Input::Delivery(mut delivery) => {
                delivery.settle().await;
                taken.push(delivery.body.clone());
            }
            Input::Echo(mut echo) => echo.settle().await,
            other => panic!("{other:?}"),
        }
    }
    // RabbitMQ 3.10 reads a chunk from the place on as a whole, 4.0 entry by entry.
    let passed_over = source.metrics.unreadable_entries.get();
    let all = [1, 2, 3, 9].map(body);
    let expected = if passed_over == 2 { &all[..] } else { &all[2..] };
    assert_eq!(taken, expected, "{passed_over} passed over");
    assert!(passed_over == 2 || passed_over == 4, "{passed_over}");
    source.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fresh_source_passes_over_what_cannot_be_read_wherever_it_lies() {
    let everything = 10_000;
    for (chunks, warm_up, from_first, heights, unreadable) in [
        ("0/1/x/2/3", everything, true, &[0, 1, 2, 3][..], 1),
        ("x/1/2", everything, true, &[1, 2], 1),
        ("x x x x x/1/2", everything, true, &[1, 2], 5),
        ("0/1/x 2", everything, true, &[0, 1, 2], 1),
        ("0/1/x/2/3/x x/4", everything, true, &[0, 1, 2, 3, 4], 3),
    ] {
        let mut fixture = Fixture::new().await;
        fixture.config.queue.warm_up = warm_up;
        fixture.write(chunks);
        let mut source = Running::start(&fixture.config);
        assert_eq!(source.begin().await, from_first, "{chunks}");
        if !takes(&mut source, heights).await {
            catches_up(&mut source).await;
        }
        assert_eq!(source.metrics.unreadable_entries.get(), unreadable, "{chunks}");
        fixture.write("10/11");
        takes(&mut source, &[10, 11]).await;
        source.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_entry_at_the_end_is_stood_before_until_something_is_published_behind_it() {
    for before in ["", "0/1"] {
        let mut fixture = Fixture::new().await;
        let heights: &[u64] = if before.is_empty() { &[] } else { &[0, 1] };
        if !before.is_empty() {
            fixture.write(before);
        }
        fixture.write("x");
        let mut source = Running::start(&fixture.config);
        if !before.is_empty() {
            assert!(source.begin().await);
            assert!(!takes(&mut source, heights).await, "something is left to be read");
        }
        source.readiness.set_warm(true);
        eventually(|| source.readiness.state() == blockcast::readiness::State::Unreadable).await;
        assert_eq!(source.metrics.unreadable_entries.get(), 0, "nothing is proven");
        fixture.write("2");
        if before.is_empty() {
            assert!(source.begin().await);
        }
        if !takes(&mut source, &[2]).await {
            catches_up(&mut source).await;
        }
        eventually(|| source.readiness.state() == blockcast::readiness::State::Ready).await;
        assert_eq!(source.metrics.unreadable_entries.get(), 1);
        source.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_unreadable_entries_in_a_row_are_passed_over() {
    let (mut fixture, mut source) = Fixture::running().await;
    let began = Instant::now();
    fixture.writer.write((0..1_000).map(|_| Entry::Garbage));
    fixture.write("1");
    let mut delivery = loop {
        let input = timeout(MANY_WITHIN, source.inputs.recv()).await.expect("in time");
        match input.expect("the source runs") {
            Input::Delivery(delivery) => break delivery,
            Input::Echo(mut echo) => echo.settle().await,
            other => panic!("{other:?}"),
        }
    };
    delivery.settle().await;
    assert_eq!(delivery.body, body(1));
    assert_eq!(source.metrics.unreadable_entries.get(), 1_000);
    println!("passed over 1,000 entries in {:?}", began.elapsed());
    source.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_source_reads_in_the_ordinary_way_again_afterwards() {
    let mut fixture = Fixture::new().await;
    fixture.write("0/x/1");
    let mut source = Running::start(&fixture.config);
    source.begin().await;
    takes(&mut source, &[0, 1]).await;
    let last = 2_500;
    let client = Client::connect(&broker().0.uri()).await;
    client.publish(&fixture.config.exchange, bodies(2..last)).await;
    takes(&mut source, &Vec::from_iter(2..last)).await;
    // Opened again once 1,000 had come.
    let connects = source.metrics.amqp_reconnects.get();
    fixture.write("x/3000");
    takes(&mut source, &[3_000]).await;
    assert!(source.metrics.amqp_reconnects.get() > connects, "it was met with many under way");
    assert_eq!(source.metrics.unreadable_entries.get(), 2);
    source.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_finds_the_ends_and_reads_over_what_cannot_be_read() {
    let mut fixture = Fixture::new().await;
    fixture.write("x x/2/3/4/x/6 7/x t/10");
    let (reader, dialer) = Reader::new(Arc::new(fixture.config.clone())).expect("configured");
    let dialing = tokio::spawn(dialer.run());
    // The first to meet one loses the connection that all share; whoever asks again reads apart.
    let bounds = loop {
        match reader.bounds().await {
            Ok(bounds) => break bounds.expect("a stream"),
            Err(error) => assert!(matches!(error, ReadError::Lost(_)), "{error}"),
        }
    };
    assert_eq!(bounds, Bounds { first: 2, last: 10 });
    for (offset, expected) in [(0, &[2, 3, 4, 6, 7, 10][..]), (5, &[6, 7, 10]), (8, &[10])] {
        let mut messages = reader.read_from(offset).await.expect("opened");
        for expected in expected {
            assert_eq!(messages.next().await.expect("read").offset, *expected);
        }
        // A look has no patience for proofs; by now there is nothing left to prove.
        let seen = reader.peek(offset).await.expect("read");
        let seen = Vec::from_iter(seen.into_iter().map(|message| message.offset));
        assert!(expected.starts_with(&seen) && !seen.is_empty(), "{seen:?} from {offset}");
    }
    // At the end it waits for what is published behind one.
    fixture.write("x");
    let mut messages = reader.read_from(10).await.expect("opened");
    assert_eq!(messages.next().await.expect("read").offset, 10);
    fixture.write("12");
    assert_eq!(messages.next().await.expect("read").offset, 12);
    reader.close().await;
    dialing.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_producer_finds_the_last_entry_that_can_be_read() {
    for (chunks, before_last_chunk, heights) in [
        ("x", 0, &[][..]),
        ("x x x/t", 3, &[]),
        ("0/1", 1, &[1]),
        ("0/1/x", 2, &[1]),
        ("x/1/x", 2, &[1]),
        ("0/1/x x/2/x t x x x", 5, &[1, 2]),
        ("0/1/2/3/4/x x x x x x x x x x x x", 5, &[4]),
    ] {
        let mut fixture = Fixture::new().await;
        fixture.write(chunks);
        let client = Client::connect(&broker().0.uri()).await;
        let queue = fixture.config.queue.resolved_name();
        // The broker counts some seconds later; of the last chunk, the first entry only.
        crate::support::eventually::eventually("it counts them", async || {
            client.count(&queue).await >= Some(before_last_chunk)
        })
        .await;
        let config = Arc::new(fixture.config.clone());
        let keeper = Keeper::new(Arc::clone(&config)).expect("configured");
        let found = loop {
            match Publisher::last_readable_messages(&keeper, &config).await {
                Ok(found) => break found,
                // RabbitMQ 4.0 lets nobody in for a while after many crashes, as other tests cause.
                Err(error) => assert!(matches!(error, PublishError::Tail(_)), "{error}"),
            }
        };
        let found = found.last().map(|message| message.body.clone());
        // What stands between two unreadable runs may be left out.
        let expected = Vec::from_iter(heights.iter().map(|height| Some(body(*height))));
        match found {
            None => assert!(expected.is_empty(), "{chunks}"),
            found => assert!(expected.contains(&found), "{found:?} of {chunks}"),
        }
        assert!(keeper.current().is_none(), "no connection is left");
    }
}
