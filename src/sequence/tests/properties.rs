//! What holds for any messages at any time. Each property prints its seed when it fails; to run
//! with that seed again: `PROPTEST_RNG_SEED`.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use proptest::test_runner::{RngSeed, TestRunner};

use super::*;

const CASES: u32 = 400;
const HOLD_BYTES: u64 = 100;
const JUMP_MAX: u64 = 20;

/// A message, and how long after the one before it comes.
#[derive(Debug, Clone)]
struct Message {
    height: u64,
    variant: u8,
    bytes: u64,
}

/// What the clock does around each message, and when the warm-up ends.
#[derive(Debug, Clone)]
struct Timing {
    pauses_ms: Vec<u16>,
    hold: Hold,
    hold_bytes: u64,
    warm_after: usize,
}

/// The history as a caller would keep it, with every rule of the steps checked on the way.
#[derive(Debug, Default)]
struct History {
    /// By height: which message.
    blocks: BTreeMap<u64, usize>,
    gap_heights: BTreeSet<u64>,
    tip: Option<u64>,
    /// Messages that came back.
    settled: BTreeSet<usize>,
}

impl History {
    /// Applies steps.
    fn apply(&mut self, steps: Vec<Step<usize>>, heights: Heights) {
        for step in steps {
            match step {
                Step::Publish { height, item } => {
                    let follows = self.tip.is_none_or(|tip| height > tip);
                    assert!(follows, "{height} is published after {:?}", self.tip);
                    let gap = self.tip.map_or(0..0, |tip| tip + 1..height);
                    let announced = gap.clone().all(|height| self.gap_heights.contains(&height));
                    assert!(announced || heights == Heights::Sparse, "{gap:?} was never given up");
                    self.tip = Some(height);
                    self.take(height, item);
                }
                Step::Fill { height, item } => {
                    let was_gap = self.gap_heights.remove(&height);
                    assert!(was_gap || heights == Heights::Sparse, "{height} was not given up");
                    self.take(height, item);
                }
                Step::Gap { from_height, to_height, .. } => {
                    assert!(
                        from_height <= to_height && self.tip.is_none_or(|tip| tip < from_height)
                    );
                    self.gap_heights.extend(from_height..=to_height);
                }
                Step::StartOver => {
                    assert_eq!(self.blocks.len(), 1, "more than one block is no mistake");
                    (self.blocks, self.gap_heights, self.tip) = Default::default();
                }
                Step::Duplicate { item }
                | Step::Conflict { item, .. }
                | Step::Old { item }
                | Step::Implausible { item, .. } => self.settle(item),
            }
        }
    }

    fn take(&mut self, height: u64, item: usize) {
        assert!(self.blocks.insert(height, item).is_none(), "{height} is taken twice");
        self.settle(item);
    }

    fn settle(&mut self, item: usize) {
        assert!(self.settled.insert(item), "message {item} came back twice");
    }
}

/// Offers all messages; checks memory, the deadline and the accessors after each call.
fn run(messages: &[Message], timing: &Timing, heights: Heights, start: SequenceStart) -> Outcome {
    let rules = SequenceRules {
        heights,
        hold: timing.hold,
        hold_bytes: timing.hold_bytes,
        jump_max: JUMP_MAX,
        doubt: None,
    };
    let mut sequencer = Sequencer::new(rules, start);
    let mut history = History::default();
    let mut now = Instant::now();
    for (at, message) in messages.iter().enumerate() {
        let mut steps = Vec::new();
        if at == timing.warm_after {
            sequencer.end_warm_up(now, &mut steps);
        }
        now += Duration::from_millis(u64::from(timing.pauses_ms[at % timing.pauses_ms.len()]));
        if at % 3 == 0 {
            sequencer.expire(now, &mut steps);
            assert!(sequencer.deadline().is_none_or(|deadline| deadline > now));
        }
        let id = format!("{}{}", message.height, message.variant);
        let content = BlockContent::from_ids([id.as_str()].into_iter(), None);
        let offer =
            OfferedBlock { height: message.height, content, bytes: message.bytes, item: at };
        sequencer.offer(offer, now, &mut steps);
        history.apply(steps, heights);
        assert!(sequencer.held_bytes() <= timing.hold_bytes, "{}", sequencer.held_bytes());
        assert_eq!(sequencer.tip(), history.tip);
        let gaps: BTreeSet<u64> = sequencer.gaps().flat_map(|(from, to)| from..=to).collect();
        assert_eq!(gaps, history.gap_heights);
    }
    let mut steps = Vec::new();
    sequencer.end_warm_up(now, &mut steps);
    sequencer.hold = Hold::For(Duration::ZERO);
    sequencer.expire(now, &mut steps);
    history.apply(steps, heights);
    assert!(sequencer.held.lowest().is_none(), "nothing waits longer than its time");
    let (first, gaps) = (sequencer.first_height(), sequencer.gaps().collect());
    sequencer.into_waiting().for_each(|item| history.settle(item));
    assert!(history.settled.iter().copied().eq(0..messages.len()), "a message is lost");
    Outcome { blocks: history.blocks, gaps, first }
}

#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    blocks: BTreeMap<u64, usize>,
    gaps: Vec<(u64, u64)>,
    first: Option<u64>,
}

/// Near heights and mistakes of some kinds, then what the chain really does.
fn messages() -> impl Strategy<Value = Vec<Message>> {
    let jitter = prop_oneof![6 => -2i64..3, 2 => -8i64..9, 1 => -60i64..60, 1 => 0i64..3_000];
    let one = (
        jitter,
        prop_oneof![8 => Just(0u8), 1 => 1u8..3],
        prop_oneof![9 => 1u64..20, 1 => 80u64..130],
    );
    (prop::collection::vec((0u64..3, one), 1..150), 0u64..200).prop_map(|(drawn, begin)| {
        let mut height = begin;
        let mut messages = Vec::new();
        for (rise, (jitter, variant, bytes)) in drawn {
            height += rise;
            messages.push(Message { height: height.saturating_add_signed(jitter), variant, bytes });
        }
        messages
    })
}

/// `warm_from`: the warm-up ends before this message at the earliest.
fn timing(warm_from: usize) -> impl Strategy<Value = Timing> {
    let hold = prop_oneof![
        (0u64..2_000).prop_map(|hold| Hold::For(Duration::from_millis(hold))),
        Just(Hold::Forever)
    ];
    let pauses = prop::collection::vec(0u16..1_000, 1..8);
    (pauses, hold, warm_from..warm_from + 100).prop_map(|(pauses_ms, hold, warm_after)| Timing {
        pauses_ms,
        hold,
        hold_bytes: HOLD_BYTES,
        warm_after,
    })
}

fn heights() -> impl Strategy<Value = Heights> {
    prop_oneof![3 => Just(Heights::Dense), 1 => Just(Heights::Sparse)]
}

#[track_caller]
fn holds<S: Strategy>(inputs: S, property: impl Fn(S::Value)) {
    let mut config =
        ProptestConfig { cases: CASES, failure_persistence: None, ..Default::default() };
    if config.rng_seed == RngSeed::Random {
        config.rng_seed = RngSeed::Fixed(fastrand::u64(..));
    }
    let seed = config.rng_seed;
    let result = TestRunner::new(config).run(&inputs, |input| {
        property(input);
        Ok(())
    });
    result.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
}

#[test]
fn producers_of_the_same_chain_yield_the_chain_without_a_gap() {
    // Each producer publishes the chain's beginning and in order, but may leave out heights that
    // another one publishes; who speaks next is arbitrary.
    let owners = prop::collection::vec(1u8..8, 1..15);
    let turns = prop::collection::vec(0usize..3, 1..200);
    holds((owners, turns, timing(0), 0u64..1 << 62), |(owners, turns, timing, begin)| {
        let chain = |producer: usize| {
            let mine = move |(at, owner): &(usize, &u8)| *at == 0 || **owner & (1 << producer) != 0;
            owners.iter().enumerate().filter(mine).map(|(at, _)| begin + at as u64)
        };
        let mut producers = [chain(0), chain(1), chain(2)];
        let mut messages = Vec::new();
        for turn in turns {
            messages.extend(producers[turn].next());
        }
        producers.into_iter().for_each(|rest| messages.extend(rest));
        let messages: Vec<Message> =
            messages.into_iter().map(|height| Message { height, variant: 0, bytes: 9 }).collect();
        let outcome = run(&messages, &timing, Heights::Dense, SequenceStart::AtFirstMessage);
        assert!(outcome.blocks.keys().copied().eq(begin..begin + owners.len() as u64));
        assert_eq!((outcome.gaps, outcome.first), (vec![], Some(begin)));
    });
}

#[test]
fn timing_decides_nothing_about_the_history() {
    holds((messages(), timing(0), timing(0), heights()), |(messages, one, other, heights)| {
        let one = run(&messages, &one, heights, SequenceStart::AtFirstMessage);
        assert_eq!(one, run(&messages, &other, heights, SequenceStart::AtFirstMessage));
    });
}

#[test]
fn timing_decides_nothing_after_a_probation() {
    holds((messages(), timing(64), timing(64), heights()), |(messages, one, other, heights)| {
        let one = run(&messages, &one, heights, SequenceStart::AfterProbation);
        assert_eq!(one, run(&messages, &other, heights, SequenceStart::AfterProbation));
    });
}

#[test]
fn one_mistaken_message_anywhere_does_not_end_the_feed() {
    let length = 80u64;
    let mistake = prop_oneof![0u64..100_000, 0..u64::MAX, 49_900u64..50_200];
    let inputs = (mistake, 0..length as usize, timing(0), any::<bool>());
    holds(inputs, |(mistake, place, mut timing, probation)| {
        let begin = 50_000;
        let mut messages: Vec<Message> = (begin..begin + length)
            .map(|height| Message { height, variant: 0, bytes: 9 })
            .collect();
        messages.insert(place, Message { height: mistake, variant: 1, bytes: 9 });
        timing.hold = Hold::For(Duration::ZERO);
        let start =
            if probation { SequenceStart::AfterProbation } else { SequenceStart::AtFirstMessage };
        let outcome = run(&messages, &timing, Heights::Dense, start);
        let tip = begin + length - 1;
        // A mistake near the chain can only delay it, by as much as a jump.
        let near = mistake > tip - 3 && mistake <= tip + 2 * JUMP_MAX;
        assert!(near || outcome.blocks.contains_key(&tip), "{outcome:?}");
    });
}
