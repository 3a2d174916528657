//! Heights as they are typed, and the search for the newest one. Pure.

use std::ops::RangeInclusive;
use std::str::FromStr;

use crate::protocol::HEIGHT_MAX;

/// The first block of a chain. A node has every height from here to its tip, unless it was pruned or
/// has lost some.
pub const FIRST: u64 = 1;
/// How far above a height that is not there another one is looked for, in powers of two: the block
/// count of a chain with a block a second for half a year.
const BEYOND_POWER_MAX: u32 = 24;

/// `--heights`: both ends are meant.
#[derive(Debug, Clone, PartialEq)]
pub struct HeightRange(pub RangeInclusive<u64>);

/// Where following begins.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum FirstHeight {
    At(u64),
    /// The node's tip, which is published too.
    Latest,
}

/// Finds a node's tip, by doubling and then halving, from a height that is known to be there. What it
/// finds may be the edge of a hole, so it looks beyond that too, and begins again from what is there.
#[derive(Debug)]
pub struct TipSearch {
    /// There, or 0.
    low: u64,
    /// The lowest that is known not to be there.
    high: Option<u64>,
    step: u64,
    /// The power of two that is next to be looked at above `low`, which is then an edge.
    beyond: u32,
}

impl FromStr for HeightRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (first, last) = text.split_once("..").unwrap_or((text, text));
        let (first, last) = (height(first)?, height(last)?);
        if first > last {
            return Err(format!("{first} is above {last}; write {last}..{first}"));
        }
        Ok(Self(first..=last))
    }
}

impl FromStr for FirstHeight {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "latest" => Ok(Self::Latest),
            text => Ok(Self::At(height(text)?)),
        }
    }
}

impl TipSearch {
    /// `there`: a height that the node has, or 0.
    pub fn above(there: u64) -> Self {
        Self { low: there, high: None, step: 1, beyond: 0 }
    }

    /// The height to ask for next; `None` when the tip is found.
    pub fn next(&self) -> Option<u64> {
        match self.high {
            None if self.low >= HEIGHT_MAX => None,
            None => Some(self.low.saturating_add(self.step).min(HEIGHT_MAX)),
            Some(high) if high - self.low <= 1 => beyond(self.low.saturating_add(1), self.beyond),
            Some(high) => Some(self.low + (high - self.low) / 2),
        }
    }

    /// What the node said of `height`, which `next` gave.
    pub fn learn(&mut self, height: u64, is_there: bool) {
        let is_beyond = self.high.is_some_and(|high| height > high);
        match is_there {
            true if is_beyond => *self = Self::above(height),
            true => {
                self.low = height;
                self.step = self.step.saturating_mul(2);
            }
            false if is_beyond => self.beyond += 1,
            false => self.high = Some(height),
        }
    }

    /// The newest height known to be there; 0 for a node without a block.
    pub fn tip(&self) -> u64 {
        self.low
    }
}

/// The height 2^`power` above `height`; `None` when that is further than is looked.
pub fn beyond(height: u64, power: u32) -> Option<u64> {
    let above = height.checked_add(1 << power.min(BEYOND_POWER_MAX))?;
    (power <= BEYOND_POWER_MAX && above <= HEIGHT_MAX).then_some(above)
}

fn height(text: &str) -> Result<u64, String> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let height = is_number.then(|| text.parse().ok()).flatten();
    height
        .filter(|height| (FIRST..=HEIGHT_MAX).contains(height))
        .ok_or_else(|| format!("{text:?} is no height from {FIRST} to 2^63 - 1"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heights_are_one_or_a_range_with_both_ends() {
        for (text, expected) in [("50", 50..=50), ("50..51", 50..=51), ("7..7", 7..=7)] {
            assert_eq!(text.parse(), Ok(HeightRange(expected)), "{text}");
        }
        for (text, told) in [
            ("51..50", "write 50..51"),
            ("0", "no height"),
            ("..5", "no height"),
            ("5..", "no height"),
            ("5...7", "no height"),
            ("5..=7", "no height"),
            ("+5", "no height"),
            ("9223372036854775808", "no height"),
        ] {
            let error = text.parse::<HeightRange>().expect_err("refused");
            assert!(error.contains(told), "{text}: {error}");
        }
        assert_eq!("latest".parse(), Ok(FirstHeight::Latest));
        assert_eq!("9".parse(), Ok(FirstHeight::At(9)));
        assert!("newest".parse::<FirstHeight>().is_err());
    }

    #[test]
    fn the_tip_is_found_in_few_questions() {
        for tip in (0..200).chain([4_095, 4_096, 10_000_000, HEIGHT_MAX - 1, HEIGHT_MAX]) {
            for known in [0, tip / 2, tip.saturating_sub(1), tip] {
                let mut search = TipSearch::above(known);
                let mut asked = 0;
                while let Some(height) = search.next() {
                    search.learn(height, height <= tip);
                    asked += 1;
                }
                assert_eq!(search.tip(), tip, "from {known}");
                let distance = tip - known + 1;
                let asked_max = 2 * distance.ilog2() + 2 + BEYOND_POWER_MAX + 1;
                assert!(asked <= asked_max, "{asked} for {tip} from {known}");
            }
        }
    }

    #[test]
    fn the_tip_is_found_above_holes() {
        for (missing, tip) in [
            (1..=1, 2),
            (1..=1_000, 2_000),
            (1..=1_000_000, 2_100_000),
            (7..=7, 100),
            (99..=99, 100),
            (50..=98, 200),
        ] {
            for known in [0, tip / 2, tip] {
                let is_there = |height| height <= tip && !missing.contains(&height);
                let mut search = TipSearch::above(if is_there(known) { known } else { 0 });
                while let Some(height) = search.next() {
                    search.learn(height, is_there(height));
                }
                assert_eq!(search.tip(), tip, "without {missing:?} from {known}");
            }
        }
    }
}
