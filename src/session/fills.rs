//! Heights that filled a gap behind a client, until it is told of them. The history has the heights; here is
//! only which of them are owed, so that a client that reads nothing costs nothing.

use crate::history::{Gone, History};

/// Heights that are told at a time.
const TOLD_MAX: usize = 64;

/// What one client is owed of a history's fills, which are numbered from 0.
#[derive(Debug, Default)]
pub struct Fills {
    /// Fills with lower numbers have been told, or are none of the client's.
    told: u64,
    owed: Option<Box<OwedFills>>,
}

#[derive(Debug)]
struct OwedFills {
    /// Up to this number.
    end: u64,
    /// The client had passed what lies below this height. What lies above is still to be sent to it.
    below_height: u64,
}

impl Fills {
    /// Begins behind the first `count` fills of a history.
    pub fn begin_behind(&mut self, count: u64) {
        *self = Self { told: count, owed: None };
    }

    /// Takes note that the history has had `count` fills, and that its client comes to `next_height`. While
    /// some are owed, the client must pass nothing but the block it is in.
    pub fn note(&mut self, count: u64, next_height: u64) {
        match &mut self.owed {
            Some(owed) => owed.end = owed.end.max(count),
            None if count > self.told => {
                self.owed = Some(Box::new(OwedFills { end: count, below_height: next_height }));
            }
            None => {}
        }
    }

    /// Its client comes back to `next_height` after it passed blocks that were read elsewhere. A height that is
    /// told though its block was among those does no harm; one that is not told does.
    pub fn come_back(&mut self, next_height: u64) {
        if let Some(owed) = &mut self.owed {
            owed.below_height = owed.below_height.max(next_height);
        }
    }

    pub fn is_owed(&self) -> bool {
        self.owed.is_some()
    }

    /// The next heights to be told, in the order in which they came.
    ///
    /// # Errors
    /// There were more than the history remembers.
    pub fn take(&mut self, history: &History) -> Result<Vec<u64>, Gone> {
        let Some(owed) = &self.owed else { return Ok(Vec::new()) };
        let left = usize::try_from(owed.end - self.told).unwrap_or(TOLD_MAX);
        let mut heights =
            history.fills_after(self.told, left.min(TOLD_MAX)).ok_or(Gone::FellOff)?;
        self.told += heights.len() as u64;
        heights.retain(|height| *height < owed.below_height);
        if self.told == owed.end {
            self.owed = None;
        }
        Ok(heights)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::testing::block;

    /// A history of the blocks 0 and 200 whose gap is filled up to this height.
    fn filled_to(height: u64) -> History {
        let history = History::new(usize::MAX);
        history.append(block(0, 1));
        history.append_gap(1, 199);
        history.append(block(200, 1));
        (1..=height).for_each(|height| assert!(history.fill(block(height, 1))));
        history
    }

    #[test]
    fn all_that_are_owed_are_told_in_portions_once_and_in_order() {
        let history = filled_to(150);
        let mut fills = Fills::default();
        fills.begin_behind(10);
        fills.note(100, 201);
        let mut portions = Vec::new();
        while fills.is_owed() {
            portions.push(fills.take(&history).expect("remembered"));
            // Others come meanwhile.
            fills.note(150, 201);
        }
        assert_eq!(portions.iter().map(Vec::len).collect::<Vec<_>>(), [64, 64, 12]);
        assert_eq!(portions.concat(), Vec::from_iter(11..=150));
        assert_eq!(fills.take(&history), Ok(Vec::new()));
        fills.note(150, 201);
        assert!(!fills.is_owed());
    }

    #[test]
    fn what_is_still_to_be_sent_is_not_told_whenever_it_is_asked() {
        let history = filled_to(150);
        let mut fills = Fills::default();
        fills.note(90, 81);
        fills.note(150, 81);
        let told = [fills.take(&history), fills.take(&history), fills.take(&history)];
        let told = told.into_iter().flat_map(|heights| heights.expect("remembered"));
        assert_eq!(Vec::from_iter(told), Vec::from_iter(1..=80));
        assert!(!fills.is_owed());
    }
}
