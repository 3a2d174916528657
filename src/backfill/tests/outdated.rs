//! Tests of a stream that has changed since it was asked where it begins and ends.

use super::*;

const BLOCKS: u64 = 20_000;

/// A bench that has asked, and asks again only when somebody wants to know.
async fn asked(tape: &Tape) -> Bench {
    let bench = Bench::new(tape, Blocks::default(), 2);
    bench.client(0).until(0).await.expect("read");
    bench
}

#[tokio::test(start_paused = true)]
async fn what_was_trimmed_since_is_told_as_gone() {
    let tape = Tape::of(0..BLOCKS, 1);
    let bench = asked(&tape).await;
    tape.trim(15_000);
    let mut client = bench.client(10_000);
    let gone = client.until(10_000).await;
    assert_eq!(gone, Err(TicketState::NotAvailable { first_height: Some(15_000) }));
    assert_eq!(client.read, [], "and not as missing");
    let mut client = bench.client(15_000);
    client.until(BLOCKS - 1).await.expect("read");
    assert_eq!(client.read, blocks(15_000..BLOCKS));
    bench.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_came_since_is_read_and_nothing_of_it_called_missing() {
    let tape = Tape::of((0..500).chain(501..BLOCKS), 1);
    let bench = asked(&tape).await;
    let askings = tape.askings();
    // The missing one is published again, far behind where it belongs.
    let since = (BLOCKS..BLOCKS + 8_000).chain([500]).chain(BLOCKS + 8_000..BLOCKS + 9_000);
    for (offset, height) in (BLOCKS..).zip(since) {
        tape.push(offset, body(height));
    }
    let mut client = bench.client(490);
    client.until(BLOCKS + 8_999).await.expect("read");
    assert_eq!(client.read, blocks(490..BLOCKS + 9_000));
    assert!(tape.askings() > askings, "it was asked again before it was called missing");
    bench.stop().await;
}

#[tokio::test(start_paused = true)]
async fn nobody_is_told_that_there_is_nothing_on_an_old_answer() {
    let tape = Tape::default();
    let bench = Bench::new(&tape, Blocks::default(), 1);
    let nothing = TicketState::NotAvailable { first_height: None };
    assert_eq!(bench.client(0).until(0).await, Err(nothing));
    (0..10).for_each(|height| tape.push(height, body(height)));
    bench.client(0).until(9).await.expect("it was asked again");
    bench.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_shorter_than_it_was_is_asked_where_it_ends() {
    let tape = Tape::of(0..BLOCKS, 1);
    let bench = asked(&tape).await;
    // Made anew: a chain as before, of which little has come so far.
    tape.keep_first(3_000);
    let mut client = bench.client(18_000);
    client.state(TicketState::Reading).await;
    for height in 3_000..BLOCKS {
        tape.push(height, body(height));
    }
    client.until(BLOCKS - 1).await.expect("read");
    assert_eq!(client.read, blocks(18_000..BLOCKS));
    assert!(!*tape.is_mute(), "and the broker was not given up");
    bench.stop().await;
}
