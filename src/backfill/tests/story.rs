//! A property: whatever happened to a chain on its way into a stream, a reading yields all of it.

use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::test_runner::{RngSeed, TestRunner};

use super::*;

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
        Err(TicketState::NotAvailable { first_height: Some(first) }) => {
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
