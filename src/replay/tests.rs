mod tape;

use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::test_runner::{RngSeed, TestRunner};
use tokio::task::JoinHandle;

use super::*;
use crate::archive::State;
use tape::{Client, Tape, body};

/// A replay room that reads from a tape.
struct Bench {
    archive: Arc<Archive>,
    metrics: Arc<Metrics>,
    shutdown: CancellationToken,
    task: JoinHandle<()>,
}

impl Bench {
    fn new(tape: &Tape, blocks: Blocks, turns_max: usize) -> Self {
        let (archive, requests) = Archive::new();
        let (archive, metrics) = (Arc::new(archive), Arc::new(Metrics::new()));
        let parts = Parts {
            blocks,
            encoded_bytes_max: 1 << 28,
            turns_max,
            archive: Arc::clone(&archive),
            requests,
            metrics: Arc::clone(&metrics),
        };
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(Replay::new(parts, tape.clone()).run(shutdown.clone()));
        Self { archive, metrics, shutdown, task }
    }

    fn client(&self, from_height: u64) -> Client {
        Client::start(&self.archive, from_height)
    }

    async fn stop(self) {
        self.shutdown.cancel();
        self.task.await.expect("it ended by itself");
    }
}

fn blocks(heights: impl IntoIterator<Item = u64>) -> Vec<(u64, u64)> {
    heights.into_iter().map(|height| (height, height)).collect()
}

#[tokio::test(start_paused = true)]
async fn every_block_comes_once_from_whatever_height() {
    let tape = Tape::of((5..5_000).flat_map(|height: u64| [height, height - 3]), 3);
    let bench = Bench::new(&tape, Blocks::default(), 4);
    for from_height in [5, 6, 777, 2_500, 4_998] {
        let mut client = bench.client(from_height);
        client.until(4_999).await.expect("read");
        assert_eq!(client.read, blocks(from_height..5_000));
    }
    assert_eq!(bench.archive.first_height(), Some(2));
    bench.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_below_the_stream_is_not_available_and_its_first_height_is_told() {
    let tape = Tape::of([7].into_iter().chain(0..3_000), 1);
    let bench = Bench::new(&tape, Blocks::default(), 4);
    tape.trim(1_001);
    let gone = State::NotAvailable { first_height: Some(1_000) };
    for from_height in [0, 7, 999] {
        assert_eq!(bench.client(from_height).until(2_000).await, Err(gone), "{from_height}");
    }
    assert_eq!(bench.client(1_000).until(2_000).await, Ok(()));
    tape.trim(1_999);
    bench.stop().await;
    let empty = Tape::default();
    let bench = Bench::new(&empty, Blocks::default(), 4);
    let gone = State::NotAvailable { first_height: None };
    assert_eq!(bench.client(0).until(1).await, Err(gone));
    assert_eq!(bench.archive.first_height(), None);
    bench.stop().await;
}

#[tokio::test(start_paused = true)]
async fn one_old_block_at_a_trimmed_beginning_is_not_where_the_chain_begins() {
    let tape = Tape::of([40, 1_001, 1_000, 1_002].into_iter().chain(1_003..2_000), 1);
    let bench = Bench::new(&tape, Blocks::default(), 4);
    let gone = State::NotAvailable { first_height: Some(1_000) };
    assert_eq!(bench.client(40).until(1_500).await, Err(gone));
    bench.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_missing_height_is_a_gap_and_comes_late_as_a_fill() {
    let missing = 300..=302;
    let chain = (0..1_000).filter(|height| !missing.contains(height));
    let tape = Tape::of(chain, 1);
    let bench = Bench::new(&tape, Blocks::default(), 4);
    let mut client = bench.client(290);
    client.until(310).await.expect("read");
    assert_eq!(client.read[10..12], [(300, 302), (303, 303)]);
    // It begins in the gap itself, even there where it was asked for.
    let mut client = bench.client(301);
    client.until(303).await.expect("read");
    assert_eq!(client.read[..2], [(301, 302), (303, 303)]);
    bench.stop().await;

    // Published again behind more than is waited for, it fills the gap of who has not passed it.
    let missing_then_late = (0..300).chain(301..310).chain([5; 5_000]).chain([300]).chain(310..400);
    let bench = Bench::new(&Tape::of(missing_then_late, 1), Blocks::default(), 4);
    let mut client = bench.client(295);
    client.unread(105).await;
    client.until(399).await.expect("read");
    assert_eq!(client.read, blocks(295..400));
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
async fn a_client_that_reads_nothing_gives_its_turn_up_to_the_next() {
    // A mebibyte is some thousand blocks.
    let tape = Tape::of(0..20_000, 1);
    let bench = Bench::new(&tape, Blocks::default(), 1);
    let idle = bench.client(0);
    idle.state(State::Reading).await;
    let mut next = bench.client(100);
    next.until(19_999).await.expect("read");
    assert_eq!(next.read, blocks(100..20_000));
    idle.state(State::GivenUp).await;
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
    reading.state(State::Reading).await;
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
    slow.state(State::Reading).await;
    let began = tokio::time::Instant::now();
    slow.state(State::GivenUp).await;
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
    client.state(State::GivenUp).await;
    assert!(began.elapsed() >= Duration::from_secs(15), "{:?}", began.elapsed());
    assert!(tape.played() <= last_read + 1, "{} after {last_read}", tape.played());
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

#[tokio::test(start_paused = true)]
async fn what_the_search_missed_is_looked_for_before_it_is_called_missing() {
    let tape =
        Tape::of((0..30_000).chain(0..25_000).chain(30_000..32_000).chain(32_005..40_000), 1);
    let bench = Bench::new(&tape, Blocks::default(), 1);
    let mut client = bench.client(29_990);
    client.until(39_999).await.expect("read");
    let mut expected = blocks(29_990..32_000);
    expected.push((32_000, 32_004));
    expected.extend(blocks(32_005..40_000));
    assert_eq!(client.read, expected);

    // What was read for one client need not be read for the next, unless the stream is another.
    let mut played = tape.played();
    assert!(played > 60_000, "{played}");
    let read_on = 8_000..25_000;
    let mut check = async |from_height: u64| {
        let mut client = bench.client(from_height);
        client.until(39_999).await.expect("read");
        assert!(client.read.contains(&(32_000, 32_004)));
        let before = std::mem::replace(&mut played, tape.played());
        assert!(read_on.contains(&(played - before)), "{}", played - before);
    };
    check(31_900).await;
    check(31_500).await;
    tape.push(90_000, body(40_000));
    tape.trim(10);
    check(31_900).await;
    tape.trim(56_900);
    tape.push(90_001, body(40_001));
    check(31_990).await;
    bench.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_was_published_again_far_behind_is_read_in_its_place() {
    let check = async |messages: Vec<Vec<u8>>, from_height, tip, missing: &[u64]| {
        let tape = Tape::default();
        for (offset, body) in messages.into_iter().enumerate() {
            tape.push(offset as u64, body);
        }
        let bench = Bench::new(&tape, Blocks::default(), 1);
        let mut client = bench.client(from_height);
        client.until(tip).await.expect("read");
        let read = client.read.iter().flat_map(|(from, to)| *from..=*to);
        assert!(read.eq(from_height..=tip), "in order, from {from_height}");
        let missing = missing.iter().copied().filter(|height| *height >= from_height);
        assert_eq!(client.missing, Vec::from_iter(missing), "from {from_height}");
        assert!(tape.played() < 100_000, "{} messages", tape.played());
        bench.stop().await;
    };
    let of = |heights: &mut dyn Iterator<Item = u64>| Vec::from_iter(heights.map(body));

    // Retention took the first copies of 100 to 199, and what is before them had been published again.
    let run = of(&mut (0..100).chain(200..4_400).chain(100..200).chain(4_400..5_000));
    for from_height in [50, 100, 150, 200] {
        check(run.clone(), from_height, 4_999, &[]).await;
    }

    // Gaps that somebody repaired later, in any order, but for the last.
    let missing = [300, 301, 700, 2_000, 3_000];
    let chain = of(&mut (0..8_000).filter(|height| !missing.contains(height)));
    let repaired = of(&mut [2_000, 301, 700, 300].into_iter());
    let repaired = [chain.clone(), repaired, of(&mut (8_000..9_000))].concat();
    for from_height in [290, 300, 301, 699, 701, 2_000, 3_000] {
        check(repaired.clone(), from_height, 8_999, &[3_000]).await;
    }

    // What only looks like a block repairs nothing, wherever it is, and is not looked for each time.
    let bad = |height: u64| format!("{{\"height\": {height}}}").into_bytes();
    let copies = Vec::from_iter([2_000, 301, 300, 301, 700].map(bad));
    let spoilt = [copies.clone(), chain, copies, of(&mut (8_000..9_000))].concat();
    check(spoilt, 290, 8_999, &missing).await;
    let missing = Vec::from_iter((500..9_000).filter(|height| height % 10 < 2));
    let in_place = |height| if missing.contains(&height) { bad(height) } else { body(height) };
    let spoilt = Vec::from_iter((0..9_000).map(in_place));
    for from_height in [0, 4_503] {
        check(spoilt.clone(), from_height, 8_999, &missing).await;
    }
}

/// What happens to a chain on its way into a stream.
#[derive(Debug, Clone)]
struct Story {
    begin: u64,
    /// Heights from one to the next: 1, or more after a gap.
    rises: Vec<u16>,
    producers: usize,
    /// Messages by which the producers are apart.
    lag: usize,
    /// At which part of the messages so far which part of the chain so far is published again.
    again: Vec<(f64, f64, f64)>,
    noise: Vec<f64>,
    trimmed: f64,
    apart: u64,
}

impl Story {
    fn tape(&self) -> (Tape, Vec<u64>) {
        let mut heights = vec![self.begin];
        for rise in &self.rises {
            heights.push(heights[heights.len() - 1] + u64::from(*rise));
        }
        let mut messages: Vec<Option<u64>> = Vec::new();
        for at in 0..heights.len() + self.producers * self.lag {
            let copies =
                (0..self.producers).filter_map(|producer| at.checked_sub(producer * self.lag));
            messages.extend(copies.filter_map(|at| heights.get(at)).copied().map(Some));
        }
        for (place, from, to) in &self.again {
            let place = (messages.len() as f64 * place) as usize;
            let highest = messages[..place].iter().flatten().max();
            let known: Vec<u64> =
                heights.iter().copied().filter(|height| Some(height) <= highest).collect();
            let part = |part: f64| (known.len() as f64 * part) as usize;
            let (from, to) = (part(from.min(*to)), part(from.max(*to)));
            let range: Vec<_> = known[from..to].iter().copied().map(Some).collect();
            messages.splice(place..place, range);
        }
        for place in &self.noise {
            messages.insert((messages.len() as f64 * place) as usize, None);
        }
        let tape = Tape::default();
        for (at, height) in messages.iter().enumerate() {
            let bad = || b"{\"height\": ".to_vec();
            tape.push(at as u64 * self.apart, height.map_or_else(bad, body));
        }
        let trimmed = (messages.len() as f64 * self.trimmed) as usize;
        tape.trim(trimmed);
        (tape, messages[trimmed..].iter().copied().flatten().collect())
    }
}

fn story() -> impl Strategy<Value = Story> {
    let rise = prop_oneof![400 => Just(1u16), 1 => 2u16..50];
    let rises = prop::collection::vec(rise, 300..4_000);
    let again = prop::collection::vec((0.0..1.0, 0.0..1.0, 0.0..1.0), 0..4);
    let noise = prop::collection::vec(0.0..1.0, 0..50);
    let trimmed = prop_oneof![2 => Just(0.0), 1 => 0.0..0.5];
    (0u64..5_000, rises, 1usize..4, 0usize..60, again, noise, trimmed, 1u64..4).prop_map(
        |(begin, rises, producers, lag, again, noise, trimmed, apart)| Story {
            begin,
            rises,
            producers,
            lag,
            again,
            noise,
            trimmed,
            apart,
        },
    )
}

#[test]
fn whatever_is_in_the_stream_is_read_from_any_height_and_nothing_else_is_missing() {
    let mut config = ProptestConfig { cases: 200, failure_persistence: None, ..Default::default() };
    if config.rng_seed == RngSeed::Random {
        config.rng_seed = RngSeed::Fixed(fastrand::u64(..));
    }
    let seed = config.rng_seed;
    let inputs = (story(), 0.0..1.0, any::<bool>());
    let result = TestRunner::new(config).run(&inputs, |(story, part, from_known)| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime");
        runtime.block_on(reads_all(story, part, from_known));
        Ok(())
    });
    result.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
}

async fn reads_all(story: Story, part: f64, from_known: bool) {
    let (tape, messages) = story.tape();
    let known: BTreeSet<u64> = messages.iter().copied().collect();
    let Some(tip) = known.last().copied() else { return };
    let bench = Bench::new(&tape, Blocks::default(), 1);
    let from_height = match from_known {
        true => *known.iter().nth((known.len() as f64 * part) as usize).expect("below the length"),
        false => known.first().map_or(0, |first| first + ((tip - first) as f64 * part) as u64),
    };
    let mut client = bench.client(from_height);
    match client.until(tip).await {
        Ok(()) => {}
        Err(State::NotAvailable { first_height: Some(first) }) => {
            assert!(first > from_height && story.trimmed > 0.0, "{first} above {from_height}");
        }
        Err(state) => panic!("{state:?}"),
    }
    let mut next = from_height;
    for (from, to) in &client.read {
        assert_eq!(*from, next, "in order and without a hole");
        next = to + 1;
        let is_known = known.range(from..=to).next().is_some();
        assert_eq!(is_known, from == to && known.contains(from), "{from}-{to} of {from_height}");
    }
    assert!(tape.looks() < 600, "{} looks", tape.looks());
    bench.stop().await;
}
