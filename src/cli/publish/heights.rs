//! Heights as they are typed, and the search for the newest one. Pure.

use std::ops::RangeInclusive;
use std::str::FromStr;

use crate::block::HEIGHT_MAX;

/// The first block of a chain; a node has every height from here to its tip.
pub const FIRST: u64 = 1;

/// `--heights`: both ends are meant.
#[derive(Debug, Clone, PartialEq)]
pub struct Heights(pub RangeInclusive<u64>);

/// Where following begins.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Start {
    At(u64),
    /// The node's tip, which is published too.
    Latest,
}

/// Finds a node's tip, by doubling and then halving, from a height that is known to be there.
#[derive(Debug)]
pub struct TipSearch {
    /// There, or 0.
    low: u64,
    /// The lowest that is known not to be there.
    high: Option<u64>,
    step: u64,
}

impl FromStr for Heights {
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

impl FromStr for Start {
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
        Self { low: there, high: None, step: 1 }
    }

    /// The height to ask for next; `None` when the tip is found.
    pub fn next(&self) -> Option<u64> {
        match self.high {
            None if self.low >= HEIGHT_MAX => None,
            None => Some(self.low.saturating_add(self.step).min(HEIGHT_MAX)),
            Some(high) if high - self.low <= 1 => None,
            Some(high) => Some(self.low + (high - self.low) / 2),
        }
    }

    /// What the node said of `height`, which `next` gave.
    pub fn learn(&mut self, height: u64, is_there: bool) {
        if is_there {
            self.low = height;
            self.step = self.step.saturating_mul(2);
        } else {
            self.high = Some(height);
        }
    }

    /// The newest height known to be there; 0 for a node without a block.
    pub fn tip(&self) -> u64 {
        self.low
    }
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
            assert_eq!(text.parse(), Ok(Heights(expected)), "{text}");
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
            let error = text.parse::<Heights>().expect_err("refused");
            assert!(error.contains(told), "{text}: {error}");
        }
        assert_eq!("latest".parse(), Ok(Start::Latest));
        assert_eq!("9".parse(), Ok(Start::At(9)));
        assert!("newest".parse::<Start>().is_err());
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
                assert!(asked <= 2 * distance.ilog2() + 2, "{asked} for {tip} from {known}");
            }
        }
    }
}
