//! Tests of what a reading yields.

use super::*;

#[tokio::test(start_paused = true)]
async fn every_block_comes_once_from_whatever_height() {
    let tape = Tape::of((5..5_000).flat_map(|height: u64| [height, height - 3]), 3);
    let bench = Bench::new(&tape, Blocks::default(), 4);
    for from_height in [5, 6, 777, 2_500, 4_998] {
        let mut client = bench.client(from_height);
        client.until(4_999).await.expect("read");
        assert_eq!(client.read, blocks(from_height..5_000));
    }
    assert_eq!(bench.tickets.first_height(), Some(2));
    bench.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_below_the_stream_is_not_available_and_its_first_height_is_told() {
    let tape = Tape::of([7].into_iter().chain(0..3_000), 1);
    let bench = Bench::new(&tape, Blocks::default(), 4);
    tape.trim(1_001);
    let gone = TicketState::NotAvailable { first_height: Some(1_000) };
    for from_height in [0, 7, 999] {
        assert_eq!(bench.client(from_height).until(2_000).await, Err(gone), "{from_height}");
    }
    assert_eq!(bench.client(1_000).until(2_000).await, Ok(()));
    tape.trim(1_999);
    bench.stop().await;
    let empty = Tape::default();
    let bench = Bench::new(&empty, Blocks::default(), 4);
    let gone = TicketState::NotAvailable { first_height: None };
    assert_eq!(bench.client(0).until(1).await, Err(gone));
    assert_eq!(bench.tickets.first_height(), None);
    bench.stop().await;
}

#[tokio::test(start_paused = true)]
async fn one_old_block_at_a_trimmed_beginning_is_not_where_the_chain_begins() {
    let tape = Tape::of([40, 1_001, 1_000, 1_002].into_iter().chain(1_003..2_000), 1);
    let bench = Bench::new(&tape, Blocks::default(), 4);
    let gone = TicketState::NotAvailable { first_height: Some(1_000) };
    assert_eq!(bench.client(40).until(1_500).await, Err(gone));
    bench.stop().await;
}

#[tokio::test(start_paused = true)]
async fn with_a_hold_for_ever_nothing_is_read_past_a_missing_height() {
    let chain = (0..500).chain(501..6_000);
    let tape = Tape::of(chain, 1);
    let rules = Blocks { hold: Hold::Forever, ..Blocks::default() };
    let bench = Bench::new(&tape, rules, 1);
    let mut client = bench.client(450);
    client.until(499).await.expect("read");
    let more = tokio::time::timeout(Duration::from_secs(600), client.until(500)).await;
    assert!(more.is_err(), "{more:?}, {:?}", client.read.last());
    tape.push(10_000, body(500));
    client.until(5_999).await.expect("read");
    assert_eq!(client.read, blocks(450..6_000));
    bench.stop().await;
}

#[tokio::test(start_paused = true)]
async fn bad_messages_and_other_blocks_are_passed_over() {
    let tape = Tape::default();
    for height in 0..2_000 {
        tape.push(3 * height, body(height));
        let other = format!("{{\"height\": {height}, \"transactions\": [{{\"id\": \"other\"}}]}}");
        let bad = [b"no block".to_vec(), format!("{{\"height\": {height}}}").into_bytes()];
        let bad = bad.into_iter().chain([other.into_bytes(), body(height * 1_000_000)]);
        tape.push(3 * height + 1, bad.clone().nth(height as usize % 4).expect("four"));
    }
    let bench = Bench::new(&tape, Blocks::default(), 1);
    let mut client = bench.client(1_234);
    client.until(1_999).await.expect("read");
    assert_eq!(client.read, blocks(1_234..2_000));
    bench.stop().await;
}

#[tokio::test(start_paused = true)]
async fn sparse_heights_have_no_gaps() {
    let tape = Tape::of((0..5_000).map(|height| 7 * height), 1);
    let blocks_rules = Blocks { heights: Heights::Sparse, ..Blocks::default() };
    let bench = Bench::new(&tape, blocks_rules, 1);
    let mut client = bench.client(7_001);
    client.until(7 * 4_999).await.expect("read");
    assert_eq!(client.read, blocks((1_001..5_000).map(|height| 7 * height)));
    bench.stop().await;
}
