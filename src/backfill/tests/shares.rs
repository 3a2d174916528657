//! Tests of what many who ask cost the broker, and what each other.

use std::net::IpAddr;

use super::*;
use crate::tickets::Claim;

/// A mebibyte is some thousand blocks, ten seconds are 50,000.
const BLOCKS: u64 = 60_000;

/// Has a little of the paused time pass.
async fn passes() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}

fn claim(network: u8) -> Claim {
    Claim::of(IpAddr::from([192, 0, 2, network]))
}

#[tokio::test(start_paused = true)]
async fn who_came_and_left_before_its_turn_costs_nothing() {
    let tape = Tape::of(0..BLOCKS, 1);
    let bench = Bench::new(&tape, Blocks::default(), 1);
    let holder = bench.client(0);
    holder.state(TicketState::Reading).await;
    let (looks, askings, played) = (tape.looks(), tape.askings(), tape.played());
    for height in 0..1_000 {
        let client = bench.client(height);
        tokio::task::yield_now().await;
        drop(client);
    }
    let mut last = bench.client(0);
    last.until(0).await.expect("read");
    assert_eq!(bench.metrics.deep_read_turns.get(), 2);
    assert_eq!((tape.looks(), tape.askings()), (looks, askings), "as the first has seen it");
    assert!(tape.played() - played < 10_000, "what one reads ahead of its client");
    bench.stop().await;
}

#[tokio::test(start_paused = true)]
async fn who_asks_for_the_same_place_is_not_looked_for_again() {
    let tape = Tape::of(0..BLOCKS, 1);
    let bench = Bench::new(&tape, Blocks::default(), 4);
    bench.client(30_000).until(30_000).await.expect("read");
    let (looks, askings) = (tape.looks(), tape.askings());
    for _ in 0..300 {
        bench.client(30_000).until(30_000).await.expect("read");
    }
    assert_eq!(tape.looks(), looks);
    // From time to time it is asked anyway, whoever comes: once in half a minute.
    assert!(tape.askings() - askings <= 1, "{} askings", tape.askings() - askings);
    assert_eq!(bench.metrics.deep_read_turns.get(), 301);
    bench.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_search_for_one_who_has_left_ends() {
    let tape = Tape::of(0..BLOCKS, 1);
    let bench = Bench::new(&tape, Blocks::default(), 1);
    bench.client(0).until(0).await.expect("read");
    let looks = tape.looks();
    let client = bench.client(59_000);
    while tape.looks() < looks + 3 {
        passes().await;
    }
    drop(client);
    let mut other = bench.client(0);
    other.until(0).await.expect("read");
    assert!(tape.looks() <= looks + 4, "{} looks", tape.looks() - looks);
    bench.stop().await;
}

#[tokio::test(start_paused = true)]
async fn turns_begin_at_a_pace_however_many_ask() {
    const CLIENTS: u32 = 100;
    let tape = Tape::of(0..100, 1);
    let bench = Bench::new(&tape, Blocks::default(), CLIENTS as usize);
    bench.client(0).until(0).await.expect("read");
    let began = tokio::time::Instant::now();
    let clients: Vec<_> = (0..CLIENTS).map(|_| bench.client(0)).collect();
    for mut client in clients {
        client.until(99).await.expect("read");
    }
    assert!(began.elapsed() >= TURN_EVERY * (CLIENTS - 1), "{:?}", began.elapsed());
    bench.stop().await;
}

#[tokio::test(start_paused = true)]
async fn many_of_one_network_do_not_hold_up_one_of_another() {
    let tape = Tape::of(0..BLOCKS, 1);
    let bench = Bench::new(&tape, Blocks::default(), 2);
    let mut many = tokio::task::JoinSet::new();
    for _ in 0..30 {
        let mut client = Client::claiming(&bench.tickets, claim(1), 0);
        many.spawn(async move { client.until(BLOCKS - 1).await });
    }
    while bench.metrics.deep_read_turns.get() < 2 {
        passes().await;
    }
    let mut one = Client::claiming(&bench.tickets, claim(2), 0);
    one.until(0).await.expect("its turn came");
    assert_eq!(bench.metrics.deep_read_turns.get(), 3, "it is the next");
    one.until(BLOCKS - 1).await.expect("read");
    assert_eq!((one.turns, one.read), (2, blocks(0..BLOCKS)));
    let turns = bench.metrics.deep_read_turns.get();
    assert!(turns <= 8, "{turns} turns until the one that needs two of them has all");
    many.shutdown().await;
    bench.stop().await;
}

#[tokio::test(start_paused = true)]
async fn behind_one_address_who_has_had_a_turn_is_behind_those_who_have_not() {
    let tape = Tape::of(0..2 * BLOCKS, 1);
    let bench = Bench::new(&tape, Blocks::default(), 1);
    let mut first = bench.client(0);
    first.until(1_000).await.expect("read");
    let reading = tokio::spawn(async move {
        first.until(2 * BLOCKS - 1).await.expect("read");
        assert_eq!(first.read, blocks(0..2 * BLOCKS), "nobody is left out");
        first.turns
    });
    // The first is called back only when all of these have had theirs, though some come after it asks.
    for _ in 0..2 {
        let mut others: Vec<_> = (0..4).map(|_| bench.client(0)).collect();
        for other in &mut others {
            other.until(5_000).await.expect("read");
        }
    }
    assert!(bench.metrics.deep_read_turns.get() >= 9);
    assert!(reading.await.expect("read") >= 2);
    bench.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_trickle_keeps_no_turn_while_others_wait() {
    let tape = Tape::of(0..BLOCKS, 1);
    let bench = Bench::new(&tape, Blocks::default(), 1);
    let mut slow = bench.client(0);
    slow.state(TicketState::Reading).await;
    let trickle = tokio::spawn(async move {
        for height in 0.. {
            // A few hundred bytes at a time, so that it always is one that has just read.
            slow.take(height).await;
            tokio::time::sleep(Duration::from_millis(300)).await;
            if slow.turns > 1 {
                return height;
            }
        }
        unreachable!("it is given up before all is read")
    });
    let mut next = bench.client(0);
    next.until(0).await.expect("its turn came");
    let read = trickle.await.expect("given up");
    assert!(read < 10, "{read} blocks in its turn");
    bench.stop().await;
}

#[tokio::test(start_paused = true)]
async fn where_there_is_no_channel_only_that_reading_waits() {
    let tape = Tape::of(0..BLOCKS, 1);
    let bench = Bench::new(&tape, Blocks::default(), 3);
    tape.limit_readings(1);
    let clients = (0..3).map(|from_height| {
        let mut client = bench.client(from_height);
        tokio::spawn(async move {
            client.until(BLOCKS - 1).await.expect("read");
            assert_eq!(client.read, blocks(from_height..BLOCKS));
            client.turns
        })
    });
    let mut turns = 0;
    for client in clients.collect::<Vec<_>>() {
        turns += client.await.expect("read all");
    }
    // Who has the channel gives it up, though all have a turn and nobody is in line.
    assert!(turns > 3, "{turns} turns");
    bench.stop().await;
}
