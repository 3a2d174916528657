//! One row per rule. A script's words: `12` offers height 12 (`12b` with other transactions, `12#x`
//! with a hash, `12*50` of 50 bytes), `+500` lets 500 ms pass, `<12` forgets below 12, `warm` ends
//! the warm-up. Each word's steps: P published, F filled, G gap, D duplicate, C conflict (height and
//! how many in a row), O old, I implausible, S start over, `-` none.

mod properties;

use std::time::{Duration, Instant};

use super::*;

const RULES: SequenceRules = SequenceRules {
    heights: Heights::Dense,
    hold: Hold::For(Duration::from_secs(1)),
    hold_bytes: 1_000,
    jump_max: 1_000,
    doubt: None,
};
const SPARSE: SequenceRules = SequenceRules { heights: Heights::Sparse, ..RULES };
const IMPATIENT: SequenceRules = SequenceRules { doubt: Some(Duration::from_secs(600)), ..RULES };
const FOR_EVER: SequenceRules = SequenceRules { hold: Hold::Forever, hold_bytes: 3, ..RULES };

/// Runs words against one sequencer.
struct Script {
    sequencer: Sequencer<()>,
    now: Instant,
}

impl Script {
    fn new(rules: SequenceRules, start: SequenceStart) -> Self {
        Self { sequencer: Sequencer::new(rules, start), now: Instant::now() }
    }

    fn run(&mut self, words: &str) -> String {
        let answers: Vec<String> = words.split_whitespace().map(|word| self.say(word)).collect();
        answers.join(" | ")
    }

    fn say(&mut self, word: &str) -> String {
        let mut steps = Vec::new();
        if word == "warm" {
            self.sequencer.end_warm_up(self.now, &mut steps);
        } else if let Some(time) = word.strip_prefix('+') {
            self.now += Duration::from_millis(time.parse().expect("milliseconds"));
            self.sequencer.expire(self.now, &mut steps);
        } else if let Some(height) = word.strip_prefix('<') {
            self.sequencer.forget_below(height.parse().expect("a height"));
        } else {
            self.sequencer.offer(offer(word), self.now, &mut steps);
        }
        match steps.is_empty() {
            true => "-".into(),
            false => steps.iter().map(text).collect::<Vec<_>>().join(" "),
        }
    }
}

fn offer(word: &str) -> OfferedBlock<()> {
    let (word, bytes) = word.split_once('*').unwrap_or((word, "1"));
    let (word, hash) = word.split_once('#').map_or((word, None), |(word, hash)| (word, Some(hash)));
    let height = word.trim_end_matches(|letter: char| letter.is_ascii_lowercase());
    OfferedBlock {
        height: height.parse().expect("a height"),
        content: BlockContent::from_ids([&word[height.len()..]].into_iter(), hash),
        bytes: bytes.parse().expect("a number of bytes"),
        item: (),
    }
}

fn text(step: &Step<()>) -> String {
    match step {
        Step::Publish { height, .. } => format!("P{height}"),
        Step::Fill { height, .. } => format!("F{height}"),
        Step::Gap { from_height, to_height, cause } => {
            format!("G{from_height}-{to_height}:{cause:?}")
        }
        Step::Duplicate { .. } => "D".into(),
        Step::Conflict { height, in_a_row, .. } => format!("C{height}:{in_a_row}"),
        Step::Old { .. } => "O".into(),
        Step::Implausible { height, .. } => format!("I{height}"),
        Step::StartOver => "S".into(),
    }
}

#[track_caller]
fn check(rules: SequenceRules, words: &str, expected: &str) {
    let mut script = Script::new(rules, SequenceStart::AtFirstMessage);
    assert_eq!(script.run(words), expected, "for {words}");
}

#[test]
fn heights_are_published_in_order_and_the_first_is_the_beginning() {
    check(RULES, "10 11 12 9", "P10 | P11 | P12 | O");
    check(RULES, "warm 0 1", "- | P0 | P1");
}

#[test]
fn warm_up_holds_nothing_and_a_gap_can_be_filled() {
    check(RULES, "10 13 12 11", "P10 | G11-12:WarmUp P13 | F12 | F11");
    check(RULES, "10 12 warm 14 11", "P10 | G11-11:WarmUp P12 | - | - | F11");
}

#[test]
fn a_block_waits_for_the_one_before_it() {
    check(RULES, "warm 10 12 13 11 14", "- | P10 | - | - | P11 P12 P13 | P14");
    check(RULES, "warm 10 12 +999 11", "- | P10 | - | - | P11 P12");
}

#[test]
fn a_gap_is_entered_when_the_oldest_hold_is_over() {
    check(
        RULES,
        "warm 10 13 14 +999 +1 15 12",
        "- | P10 | - | - | - | G11-12:HoldOver P13 P14 | P15 | F12",
    );
    // Behind a further hole, a block that came later keeps its own time.
    check(
        RULES,
        "warm 10 12 +500 15 +500 +499 +1",
        "- | P10 | - | - | - | G11-11:HoldOver P12 | - | G13-14:HoldOver P15",
    );
    // Below one that came earlier, it cannot.
    check(
        RULES,
        "warm 10 15 +500 12 +500",
        "- | P10 | - | - | - | G11-11:HoldOver P12 G13-14:HoldOver P15",
    );
    // The missing height comes when the hold is over, but before anybody looked.
    let mut script = Script::new(RULES, SequenceStart::AtFirstMessage);
    script.run("warm 10 12");
    script.now += Duration::from_secs(2);
    assert_eq!(script.run("11"), "P11 P12");
    let no_hold = SequenceRules { hold: Hold::For(Duration::ZERO), ..RULES };
    check(no_hold, "warm 10 12 11", "- | P10 | G11-11:HoldOver P12 | F11");
}

#[test]
fn the_deadline_is_the_oldest_hold_s_end() {
    let mut script = Script::new(RULES, SequenceStart::AtFirstMessage);
    let begin = script.now;
    assert_eq!(script.run("10 12"), "P10 | G11-11:WarmUp P12");
    assert_eq!(script.sequencer.deadline(), None, "nothing waits in warm-up");
    script.run("warm 17 +300 14");
    assert_eq!(script.sequencer.deadline(), Some(begin + Duration::from_secs(1)));
    script.run("+700");
    assert_eq!(script.sequencer.deadline(), None);
    let longest = SequenceRules { hold: Hold::For(Duration::MAX), ..RULES };
    let mut script = Script::new(longest, SequenceStart::AtFirstMessage);
    assert_eq!(script.run("warm 10 12 +9999999"), "- | P10 | - | -");
    assert_eq!(script.sequencer.deadline(), None);
}

#[test]
fn held_bytes_are_bounded_even_for_ever() {
    check(FOR_EVER, "warm 10 12 14 +9999999 11", "- | P10 | - | - | - | P11 P12");
    check(FOR_EVER, "warm 10 12*2 15 14 11", "- | P10 | - | - | G11-11:HoldBytes P12 | F11");
    // As many gaps as it takes; a block that has no room at all waits not at all.
    check(
        FOR_EVER,
        "warm 10 12 14 16*4",
        "- | P10 | - | - | G11-11:HoldBytes P12 G13-13:HoldBytes P14 G15-15:HoldBytes P16",
    );
    // Doubted blocks take room too, so that timing does not decide which are kept.
    check(FOR_EVER, "warm 10 12*2 2000*2", "- | P10 | - | G11-11:HoldBytes P12");
}

#[test]
fn the_same_block_is_a_duplicate_wherever_the_first_one_is() {
    check(RULES, "10 10 11 10", "P10 | D | P11 | D");
    check(RULES, "warm 10 12 12 11 12", "- | P10 | - | D | P11 P12 | D");
    check(RULES, "10 2000 2000 11", "P10 | - | D | P11 I2000");
}

#[test]
fn other_content_is_a_conflict_and_the_first_wins() {
    check(RULES, "10 10b 10", "P10 | C10:1 | D");
    check(RULES, "warm 10 12 12b 11 12", "- | P10 | - | C12:1 | P11 P12 | D");
    check(
        RULES,
        "10 2000 2000b 2001 2002",
        "P10 | - | C2000:1 | - | G11-1999:WarmUp P2000 P2001 P2002",
    );
    // A hash that only a later copy knows is remembered, and what conflicts is not.
    check(RULES, "10 10#x 10#y 10#x 10", "P10 | D | C10:1 | D | D");
    check(RULES, "warm 10 12 12b#y 12#x 12#y", "- | P10 | - | C12:1 | D | C12:1");
}

#[test]
fn conflicts_in_a_row_are_counted_until_something_agrees() {
    check(RULES, "10 10b 10b 10c", "P10 | C10:1 | C10:2 | C10:3");
    check(RULES, "10 10b 11 10b", "P10 | C10:1 | P11 | C10:1");
    check(RULES, "10 10b 10 10b", "P10 | C10:1 | D | C10:1");
    check(RULES, "10 10b 9 10b", "P10 | C10:1 | O | C10:2");
    check(RULES, "10 12 10b 11 10b", "P10 | G11-11:WarmUp P12 | C10:1 | F11 | C10:1");
    check(RULES, "10 10b 2000 10b", "P10 | C10:1 | - | C10:2");
}

#[test]
fn a_jump_is_measured_from_the_highest_height_taken() {
    check(RULES, "10 1010", "P10 | G11-1009:WarmUp P1010");
    check(RULES, "10 1011", "P10 | -");
    check(RULES, "warm 10 1010 2010 3011", "- | P10 | - | - | -");
    check(SequenceRules { jump_max: 0, ..RULES }, "10 11 13", "P10 | P11 | -");
}

#[test]
fn a_doubted_block_waits_no_longer_than_it_may() {
    check(IMPATIENT, "10 5000 +599999 +1", "P10 | - | - | I5000");
    check(IMPATIENT, "warm 10 5000 +300000 5001 +300000 5002", "- | P10 | - | - | - | I5000 | -");
    check(
        IMPATIENT,
        "10 5000 +599999 5001 5002 +1",
        "P10 | - | - | - | G11-4999:WarmUp P5000 P5001 P5002 | -",
    );
    check(
        RULES,
        "10 5000 +6000000 5001 5002",
        "P10 | - | - | - | G11-4999:WarmUp P5000 P5001 P5002",
    );
    let mut script = Script::new(IMPATIENT, SequenceStart::AtFirstMessage);
    script.run("warm 10 5000");
    assert_eq!(script.sequencer.deadline(), Some(script.now + Duration::from_secs(600)));
    script.run("11");
    assert_eq!(script.sequencer.deadline(), None, "refuted by a block that continues the chain");
}

#[test]
fn a_far_height_is_refuted_by_a_block_that_continues_the_chain() {
    check(RULES, "10 5000 11", "P10 | - | P11 I5000");
    check(RULES, "warm 10 5000 12", "- | P10 | - | I5000");
    check(RULES, "10 5000 5001 11 5002", "P10 | - | - | P11 I5000 I5001 | -");
    // Neither a copy nor a repaired gap continues it.
    check(
        RULES,
        "10 12 5000 10 11 5001 9 5002",
        "P10 | G11-11:WarmUp P12 | - | D | F11 | - | O | G13-4999:WarmUp P5000 P5001 P5002",
    );
    check(RULES, "warm 10 12 5000 11 13", "- | P10 | - | - | P11 P12 | P13 I5000");
}

#[test]
fn three_consecutive_far_heights_are_believed() {
    check(RULES, "10 5002 5001 5000", "P10 | - | - | G11-4999:WarmUp P5000 P5001 P5002");
    check(
        RULES,
        "10 5000 5001 5003 5002",
        "P10 | - | - | - | G11-4999:WarmUp P5000 P5001 P5002 P5003",
    );
    check(
        RULES,
        "warm 10 5000 5001 5002 +1000",
        "- | P10 | - | - | - | G11-4999:HoldOver P5000 P5001 P5002",
    );
    // Waiting counts from their own arrival.
    check(
        RULES,
        "warm 10 5000 +1000 5001 5002",
        "- | P10 | - | - | - | G11-4999:HoldOver P5000 P5001 P5002",
    );
    // Those below are taken like any other missing height, those still too far above are not.
    check(
        RULES,
        "10 4000 9000 6001 5000 5001 5002",
        "P10 | - | - | - | - | - | G11-3999:WarmUp P4000 G4001-4999:WarmUp P5000 P5001 P5002 \
         G5003-6000:WarmUp P6001 I9000",
    );
}

#[test]
fn doubted_blocks_are_bounded_and_the_oldest_goes() {
    let mut script = Script::new(RULES, SequenceStart::AtFirstMessage);
    script.run("10");
    for count in 1..=16 {
        assert_eq!(script.say(&(count * 5_000).to_string()), "-");
    }
    assert_eq!(script.say("90000"), "I5000");
    assert_eq!(
        script.say("95000*995"),
        "I10000 I15000 I20000 I25000 I30000 I35000 I40000 I45000 \
        I50000 I55000 I60000"
    );
    assert_eq!(script.sequencer.held_bytes(), 1_000);
    assert_eq!(script.say("100000*1001").split(' ').count(), 7, "it has no room at all");
    assert_eq!(script.sequencer.held_bytes(), 0);
}

#[test]
fn a_mistaken_first_height_does_not_end_the_feed() {
    check(RULES, "5000 10 11 12 13", "P5000 | - | - | S P10 P11 P12 | P13");
    check(RULES, "warm 5000 12 11 5000 10 9", "- | P5000 | - | - | D | S P10 P11 P12 | O");
    check(RULES, "5000 3 10 11 12", "P5000 | - | - | - | S P10 P11 P12 O");
    // It is none if it is near, or once another height has followed it.
    check(RULES, "1010 10 11 12", "P1010 | O | O | O");
    check(RULES, "5000 10 11 5001 12", "P5000 | - | - | P5001 O O | O");
    check(RULES, "5000 5001 10 11 12", "P5000 | P5001 | O | O | O");
}

#[test]
fn sparse_heights_leave_no_gaps_and_nothing_waits() {
    check(SPARSE, "warm 10 15 12 12 15b 9", "- | P10 | P15 | F12 | D | C15:1 | O");
    check(SPARSE, "10 1011 1500 2400", "P10 | - | - | P1011 P1500 P2400");
    check(SPARSE, "10 1011 3000 11", "P10 | - | - | P11 I1011 I3000");
    check(SPARSE, "9000 10 500 1500", "P9000 | - | - | S P10 P500 P1500");
    let mut script = Script::new(SPARSE, SequenceStart::AtFirstMessage);
    script.run("10 15");
    assert_eq!(script.sequencer.gaps().count(), 0);
}

#[test]
fn probation_takes_none_of_the_first_blocks_and_begins_above_them() {
    let mut script = Script::new(RULES, SequenceStart::AfterProbation);
    for count in 0..63 {
        assert_eq!(script.say(&(100 + count % 8).to_string()), "O");
    }
    assert_eq!(script.sequencer.first_height(), None);
    assert_eq!(script.run("104 107 108 109"), "O | O | P108 | P109");
    assert_eq!(script.sequencer.first_height(), Some(108));

    check_probation(
        "100 101 warm 101 104 +1000 102",
        "O | O | - | O | - | G102-103:HoldOver P104 | F102",
    );
    check_probation("warm 5 6", "- | P5 | P6");
    // A mistake among them decides nothing, whichever way it errs.
    check_probation("100 90000 101 warm 102", "O | O | O | - | P102");
    check_probation("3 90001 90000 90002 90003 warm 90004", "O | O | O | O | O | - | P90004");
    check_probation("3 90000 warm 90001 90002 90003", "O | O | - | - | - | -");
    check_probation("90000 warm 102 103 104 105", "O | - | - | - | P102 P103 P104 | P105");
}

#[track_caller]
fn check_probation(words: &str, expected: &str) {
    let mut script = Script::new(RULES, SequenceStart::AfterProbation);
    assert_eq!(script.run(words), expected, "for {words}");
}

#[test]
fn a_known_beginning_is_exactly_there() {
    let check_at = |height, words: &str, expected: &str| {
        let mut script = Script::new(RULES, SequenceStart::At(height));
        assert_eq!(script.run(words), expected, "for {words}");
    };
    check_at(10, "warm 8 9 10 9 11", "- | O | O | P10 | O | P11");
    check_at(10, "warm 12 +1000 11 10 9", "- | - | G10-11:HoldOver P12 | F11 | F10 | O");
    check_at(10, "warm 12 11 10", "- | - | - | P10 P11 P12");
    check_at(0, "warm 0 1", "- | P0 | P1");
    // Vouched for: what comes from far below does not begin it anew.
    check_at(5000, "warm 5000 10 11 12 5001", "- | P5000 | O | O | O | P5001");
    check_at(10, "warm 5000 10 5001", "- | - | P10 I5000 | -");
    let mut script = Script::new(SPARSE, SequenceStart::At(10));
    assert_eq!(script.run("warm 9 15 12"), "- | O | P15 | F12");
}

#[test]
fn what_the_history_dropped_is_old() {
    let mut script = Script::new(RULES, SequenceStart::AtFirstMessage);
    script.run("10 15 16 20");
    assert_eq!(script.sequencer.gaps().collect::<Vec<_>>(), [(11, 14), (17, 19)]);
    assert_eq!(script.run("<13 12 13 10"), "- | O | F13 | O");
    assert_eq!(script.sequencer.gaps().collect::<Vec<_>>(), [(14, 14), (17, 19)]);
    assert_eq!(script.sequencer.first_height(), Some(13));
    assert_eq!(script.run("<5 <99 20 19 21"), "- | - | D | O | P21");
    assert_eq!(script.sequencer.first_height(), Some(20), "the tip is not forgotten");
    assert_eq!(script.sequencer.gaps().count(), 0);
}

#[test]
fn nothing_overflows_and_a_gap_costs_one_entry_whatever_its_length() {
    const TOP: u64 = u64::MAX;
    let far = SequenceRules { jump_max: u64::MAX, ..RULES };
    let mut script = Script::new(far, SequenceStart::AtFirstMessage);
    assert_eq!(script.say("0"), "P0");
    assert_eq!(script.say(&TOP.to_string()), format!("G1-{}:WarmUp P{TOP}", TOP - 1));
    assert_eq!(script.run(&format!("{TOP} 5 warm {TOP}b")), format!("D | F5 | - | C{TOP}:1"));
    assert_eq!(script.sequencer.gaps().collect::<Vec<_>>(), [(1, 4), (6, TOP - 1)]);
    assert_eq!(script.sequencer.next_height(), Some(TOP));

    let mut script = Script::new(RULES, SequenceStart::AtFirstMessage);
    let believed = script.run(&format!("0 {} {} {TOP}", TOP - 2, TOP - 1));
    assert!(believed.ends_with(&format!("P{} P{} P{TOP}", TOP - 2, TOP - 1)), "{believed}");
    check_probation(&format!("{TOP} warm {TOP}"), &format!("O | - | P{TOP}"));
}

#[test]
fn what_waits_is_handed_back_when_the_sequencer_is_given_up() {
    let mut script = Script::new(RULES, SequenceStart::AtFirstMessage);
    script.run("warm 10 12 13 5000 5001");
    assert_eq!(script.sequencer.into_waiting().count(), 4);
}
