//! Tests of turns: how long one lasts, and what ends it.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_client_that_reads_nothing_gives_its_turn_up_to_the_next() {
    // A mebibyte is some thousand blocks.
    let tape = Tape::of(0..20_000, 1);
    let bench = Bench::new(&tape, Blocks::default(), 1);
    let idle = bench.client(0);
    idle.state(TicketState::Reading).await;
    let mut next = bench.client(100);
    next.until(19_999).await.expect("read");
    assert_eq!(next.read, blocks(100..20_000));
    idle.state(TicketState::GivenUp).await;
    let mut idle = idle;
    idle.until(19_999).await.expect("asked again");
    assert_eq!(idle.read, blocks(0..20_000));
    bench.stop().await;
}

#[tokio::test(start_paused = true)]
async fn turns_are_short_when_others_wait_and_every_client_gets_all() {
    // Ten seconds are 50,000 blocks.
    let tape = Tape::of(0..60_000, 1);
    let bench = Bench::new(&tape, Blocks::default(), 1);
    let clients = (0..3).map(|from_height| {
        let mut client = bench.client(from_height);
        tokio::spawn(async move {
            client.until(59_999).await.expect("read");
            assert_eq!(client.read, blocks(from_height..60_000));
            client.turns
        })
    });
    let mut turns = Vec::new();
    for client in clients.collect::<Vec<_>>() {
        turns.push(client.await.expect("read all"));
    }
    assert_eq!(turns, [2, 2, 2]);
    bench.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_dropped_reading_ends_while_it_waits_and_while_it_reads() {
    let tape = Tape::of(0..20_000, 1);
    let bench = Bench::new(&tape, Blocks::default(), 1);
    let reading = bench.client(0);
    reading.state(TicketState::Reading).await;
    let waiting = bench.client(1);
    let mut last = bench.client(2);
    drop(waiting);
    drop(reading);
    last.until(19_999).await.expect("its turn came");
    drop(last);
    let idle = bench.metrics.clone();
    while idle.deep_reads.get() > 0 || idle.deep_reads_waiting.get() > 0 {
        tokio::task::yield_now().await;
    }
    bench.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_lost_broker_is_waited_for_and_reading_goes_on_where_it_was() {
    let tape = Tape::of(0..20_000, 1);
    let bench = Bench::new(&tape, Blocks::default(), 1);
    let mut client = bench.client(10);
    for height in [10, 500, 5_000, 12_345] {
        client.until(height).await.expect("read");
        tape.fail(5);
    }
    client.until(19_999).await.expect("read");
    assert_eq!(client.read, blocks(10..20_000));
    bench.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_falls_silent_in_a_reading_is_left() {
    let tape = Tape::of(0..20_000, 1);
    let bench = Bench::new(&tape, Blocks::default(), 1);
    let mut client = bench.client(10);
    client.until(500).await.expect("read");
    tape.mute();
    let began = tokio::time::Instant::now();
    client.until(19_999).await.expect("read");
    assert_eq!(client.read, blocks(10..20_000));
    assert!(!*tape.is_mute(), "given up");
    assert!(began.elapsed() >= Duration::from_secs(60), "{:?}", began.elapsed());
    bench.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_slow_client_keeps_its_turn_for_a_while_if_nobody_waits_for_it() {
    let tape = Tape::of(0..20_000, 1);
    let bench = Bench::new(&tape, Blocks::default(), 1);
    let slow = bench.client(0);
    slow.state(TicketState::Reading).await;
    let began = tokio::time::Instant::now();
    slow.state(TicketState::GivenUp).await;
    assert_eq!(began.elapsed().as_secs(), 10, "with others in line it is one");
    bench.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_stream_made_anew_while_the_broker_was_away_is_not_gone_on_with() {
    let tape = Tape::of(0..20_000, 1);
    let bench = Bench::new(&tape, Blocks::default(), 1);
    let mut client = bench.client(10);
    client.until(500).await.expect("read");
    tape.make_anew();
    tape.fail(1);
    // Whoever finds that it is another chain has the time to tell the client so.
    let (began, last_read) = (tokio::time::Instant::now(), tape.played());
    client.state(TicketState::GivenUp).await;
    assert!(began.elapsed() >= Duration::from_secs(15), "{:?}", began.elapsed());
    assert!(tape.played() <= last_read + 1, "{} after {last_read}", tape.played());
    bench.stop().await;
}
