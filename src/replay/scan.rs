//! Which heights lie in the part of the stream that a search has passed over: looks can mislead, so a
//! height is called missing only when everything before the place has been read.
//!
//! What was read is kept for the next reading, as runs of heights, with the last message, by which
//! the stream is known again.

use std::collections::BTreeMap;
use std::ops::{Range, RangeInclusive};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use super::Around;
use super::pace::{Cost, Pace};
use super::stream::{Messages, Stream};
use crate::amqp::{Message, ReadError};

/// Runs of heights kept; beyond it every height counts as perhaps seen. 3 MB.
const RUNS_MAX: usize = 65_536;
/// How long the next message may take that must be there.
const MESSAGE_WITHIN: Duration = Duration::from_secs(10);

/// A scan of a stream, at a reading's pace.
pub struct Scan<'a, S> {
    pub around: &'a Around<S>,
    pub pace: &'a mut Pace,
}

/// A stream's heights up to a message.
#[derive(Debug, Clone, Default)]
pub struct Scanned {
    seen: Seen,
    /// None when nothing was scanned.
    last: Option<Message>,
}

/// Heights that were seen, as runs of consecutive ones.
#[derive(Debug, Clone, Default)]
struct Seen {
    /// From, to, both included; apart from each other.
    runs: BTreeMap<u64, u64>,
}

impl<S: Stream> Scan<'_, S> {
    /// The offset of the first message with one of `heights` in a part of the stream that begins
    /// with its first message.
    ///
    /// # Errors
    /// The stream cannot be read; nothing is known then.
    pub async fn offset_of(
        &mut self,
        heights: RangeInclusive<u64>,
        part: Range<u64>,
    ) -> Result<Option<u64>, ReadError> {
        let scanned = self.scanned(part.clone()).await?;
        if !scanned.seen.has_any(*heights.start(), *heights.end()) {
            return Ok(None);
        }
        let mut found = None;
        self.walk(part, |message, height| {
            found = heights.contains(&height).then_some(message.offset);
            found.is_none()
        })
        .await?;
        Ok(found)
    }

    /// What is in a part of the stream, and perhaps more: what was scanned before is not again.
    async fn scanned(&mut self, part: Range<u64>) -> Result<Arc<Scanned>, ReadError> {
        let mut scanned = Arc::clone(&self.kept());
        if let Some(last) = &scanned.last
            && self.around.stream.peek(last.offset).await?.first() != Some(last)
        {
            // Trimmed further, or made anew.
            scanned = Arc::default();
        }
        let from = scanned.last.as_ref().map_or(part.start, |last| last.offset + 1);
        if from < part.end {
            let more = Arc::make_mut(&mut scanned);
            let seen = &mut more.seen;
            let last = self.walk(from..part.end, |_, height| {
                seen.add(height);
                true
            });
            more.last = last.await?.or(more.last.take());
            *self.kept() = Arc::clone(&scanned);
        }
        Ok(scanned)
    }

    /// Calls `each` with the blocks in a part of the stream while it says so. Returns the last
    /// message.
    async fn walk(
        &mut self,
        part: Range<u64>,
        mut each: impl FnMut(&Message, u64) -> bool,
    ) -> Result<Option<Message>, ReadError> {
        let mut messages = self.around.stream.read_from(part.start).await?;
        let mut last = None;
        loop {
            let message = timeout(MESSAGE_WITHIN, messages.next()).await;
            let message =
                message.map_err(|_| ReadError::Lost("no message within 10 s".into()))??;
            if message.offset >= part.end {
                return Ok(last);
            }
            self.pace.keep(Cost::Passed, message.body.len()).await;
            let height = self.around.height_of(&message);
            let goes_on = height.is_none_or(|height| each(&message, height));
            last = Some(message);
            if !goes_on {
                return Ok(last);
            }
        }
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, Arc<Scanned>> {
        self.around.scanned.lock().expect("bug: nothing panics while it holds this lock")
    }
}

impl Seen {
    fn add(&mut self, height: u64) {
        if self.runs.len() >= RUNS_MAX {
            self.runs = BTreeMap::from([(0, u64::MAX)]);
        }
        let below = self.runs.range(..=height).next_back().map(|(from, to)| (*from, *to));
        let from = match below {
            Some((_, to)) if to >= height => return,
            Some((from, to)) if to + 1 == height => from,
            _ => height,
        };
        let above = height.checked_add(1).and_then(|above| self.runs.remove(&above));
        self.runs.insert(from, above.unwrap_or(height));
    }

    /// Whether any height of a range, both ends included, was seen or may have been.
    fn has_any(&self, from: u64, to: u64) -> bool {
        self.runs.range(..=to).next_back().is_some_and(|(_, run_to)| *run_to >= from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_are_one_run_whatever_their_order() {
        let mut seen = Seen::default();
        for height in [5, 3, 4, 9, 4, 0, u64::MAX] {
            seen.add(height);
        }
        assert_eq!(seen.runs, BTreeMap::from([(0, 0), (3, 5), (9, 9), (u64::MAX, u64::MAX)]));
        for (from, to, expected) in
            [(0, 0, true), (1, 2, false), (1, 3, true), (5, 8, true), (6, 8, false), (2, 20, true)]
        {
            assert_eq!(seen.has_any(from, to), expected, "{from}-{to}");
        }
    }

    #[test]
    fn too_many_runs_are_told_as_perhaps() {
        let mut seen = Seen::default();
        (0..=RUNS_MAX as u64).for_each(|height| seen.add(2 * height));
        assert!(seen.has_any(1, 1));
        assert_eq!(seen.runs.len(), 1);
    }
}
