//! Which heights lie in the stream, and where: before the place that a search has found, since looks can
//! mislead, and behind more than is waited for, where a block was published again. A height is called
//! missing only when all of that has been read.
//!
//! What was read is kept for the next reading, as runs of heights, with the last message, by which
//! the stream is known again.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::BackfillContext;
use super::pace::{Cost, ReadPace};
use super::stream::{ReadableStream, StreamMessages};
use crate::amqp::{Message, ReadError};

/// Runs of heights kept; beyond it every height counts as perhaps seen. 3 MB.
const RUNS_MAX: usize = 65_536;
/// Late heights whose place is kept; another's is looked for. 3 MB.
const LATE_MAX: usize = 65_536;
/// How long it is read ahead for one reading: a gibibyte and more, or a million messages. What is missing
/// until then counts as missing, though the next reading goes on from there.
const AHEAD_MAX: Duration = Duration::from_secs(60);
/// How long the next message may take that must be there.
const MESSAGE_WITHIN: Duration = Duration::from_secs(10);

/// A scan of a stream, at a reading's pace.
pub struct Scan<'a, S> {
    pub context: &'a BackfillContext<S>,
    pub pace: &'a mut ReadPace,
}

/// A part of a stream, both ends included.
pub type OffsetRange = RangeInclusive<u64>;

/// A stream's heights up to a message.
#[derive(Debug, Clone, Default)]
pub struct Scanned {
    seen: HeightRuns,
    /// Where heights are that came first behind higher ones, such as those published again into a gap.
    late: BTreeMap<u64, u64>,
    /// The highest seen.
    highest: u64,
    /// None when nothing was scanned.
    last: Option<Message>,
}

/// What a passage of a reading knows of the stream.
pub struct PassageHeights {
    scanned: Arc<Scanned>,
    /// The heights before its place, once somebody asked for one that is not late.
    before: Option<HeightRuns>,
}

/// Heights that were seen, as runs of consecutive ones.
#[derive(Debug, Clone, Default)]
struct HeightRuns {
    /// From, to, both included; apart from each other.
    runs: BTreeMap<u64, u64>,
}

impl<S: ReadableStream> Scan<'_, S> {
    /// What is in a part of the stream that begins with its first message: all before `place`, and behind
    /// that as much as there is time for. Perhaps more: what was scanned before is not again.
    ///
    /// # Errors
    /// The stream cannot be read; nothing is known then.
    pub async fn known(
        &mut self,
        part: OffsetRange,
        place: u64,
    ) -> Result<PassageHeights, ReadError> {
        let mut scanned = Arc::clone(&self.kept());
        if let Some(last) = &scanned.last
            && self.context.stream.peek(last.offset).await?.first() != Some(last)
        {
            // Trimmed further, or made anew.
            scanned = Arc::default();
        }
        let from = scanned.last.as_ref().map_or(*part.start(), |last| last.offset + 1);
        if from <= *part.end() {
            let until = Instant::now() + AHEAD_MAX;
            let more = Arc::make_mut(&mut scanned);
            let last = self.walk(from..=*part.end(), |message, height| {
                more.add(height, message.offset);
                message.offset < place || Instant::now() < until
            });
            let last = last.await?;
            more.last = last.or(more.last.take());
            *self.kept() = Arc::clone(&scanned);
        }
        Ok(PassageHeights { scanned, before: None })
    }

    /// The lowest of `heights` that is in the stream, and the offset of a message with it: of the first one
    /// before `passed`, or of one that came late. What lies in `passed` does not count: it was read.
    ///
    /// # Errors
    /// The stream cannot be read; nothing is known then.
    pub async fn lowest_of(
        &mut self,
        heights: RangeInclusive<u64>,
        known: &mut PassageHeights,
        first: u64,
        passed: OffsetRange,
    ) -> Result<Option<(u64, u64)>, ReadError> {
        let (from, to) = (*heights.start(), *heights.end());
        let Some(lowest) = known.scanned.seen.lowest(from, to) else { return Ok(None) };
        let is_there = |offset: u64| offset >= first && !passed.contains(&offset);
        let mut late = known.scanned.late.range(heights).map(|(height, offset)| (*height, *offset));
        let late = late.find(|(_, offset)| is_there(*offset));
        if late.is_some_and(|(height, _)| height == lowest) || *passed.start() <= first {
            return Ok(late);
        }
        let before = first..=*passed.start() - 1;
        if known.before.is_none() {
            let mut seen = HeightRuns::default();
            let each = |_: &Message, height| {
                seen.add(height);
                true
            };
            self.walk(before.clone(), each).await?;
            known.before = Some(seen);
        }
        let early = known.before.as_ref().and_then(|seen| seen.lowest(from, to));
        let Some(early) = early.filter(|early| late.is_none_or(|(late, _)| *early < late)) else {
            return Ok(late);
        };
        let mut found = None;
        self.walk(before, |message, height| {
            found = (height == early).then_some((height, message.offset));
            found.is_none()
        })
        .await?;
        Ok(found.or(late))
    }

    /// Calls `each` with the blocks in a part of the stream, whose last offset is that of a message or
    /// before one, while it says so. Returns the last message.
    async fn walk(
        &mut self,
        part: OffsetRange,
        mut each: impl FnMut(&Message, u64) -> bool,
    ) -> Result<Option<Message>, ReadError> {
        let mut messages = self.context.stream.read_from(*part.start()).await?;
        let mut last = None;
        loop {
            let message = timeout(MESSAGE_WITHIN, messages.next()).await;
            let message =
                message.map_err(|_| ReadError::Lost("no message within 10 s".into()))??;
            if message.offset > *part.end() {
                return Ok(last);
            }
            self.pace.keep(Cost::Passed, message.body.len()).await;
            let height = self.context.height_of(&message);
            let goes_on = height.is_none_or(|height| each(&message, height));
            let is_last = message.offset == *part.end();
            last = Some(message);
            if !goes_on || is_last {
                return Ok(last);
            }
        }
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, Arc<Scanned>> {
        self.context.scanned.lock().expect("bug: nothing panics while it holds this lock")
    }
}

impl Scanned {
    fn add(&mut self, height: u64, offset: u64) {
        let is_new = self.seen.add(height);
        if is_new && height < self.highest && self.late.len() < LATE_MAX {
            self.late.insert(height, offset);
        }
        self.highest = self.highest.max(height);
    }
}

impl HeightRuns {
    /// Whether it was not seen before.
    fn add(&mut self, height: u64) -> bool {
        if self.runs.len() >= RUNS_MAX {
            self.runs = BTreeMap::from([(0, u64::MAX)]);
        }
        let below = self.runs.range(..=height).next_back().map(|(from, to)| (*from, *to));
        let from = match below {
            Some((_, to)) if to >= height => return false,
            Some((from, to)) if to + 1 == height => from,
            _ => height,
        };
        let above = height.checked_add(1).and_then(|above| self.runs.remove(&above));
        self.runs.insert(from, above.unwrap_or(height));
        true
    }

    /// The lowest height of a range, both ends included, that was seen or may have been.
    fn lowest(&self, from: u64, to: u64) -> Option<u64> {
        let below = self.runs.range(..=from).next_back();
        if below.is_some_and(|(_, run_to)| *run_to >= from) {
            return Some(from);
        }
        self.runs.range(from..=to).next().map(|(run_from, _)| *run_from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_are_one_run_whatever_their_order() {
        let mut seen = HeightRuns::default();
        for height in [5, 3, 4, 9, 4, 0, u64::MAX] {
            seen.add(height);
        }
        assert_eq!(seen.runs, BTreeMap::from([(0, 0), (3, 5), (9, 9), (u64::MAX, u64::MAX)]));
        for (from, to, expected) in [
            (0, 0, Some(0)),
            (1, 2, None),
            (1, 3, Some(3)),
            (4, 8, Some(4)),
            (5, 8, Some(5)),
            (6, 8, None),
            (6, 20, Some(9)),
        ] {
            assert_eq!(seen.lowest(from, to), expected, "{from}-{to}");
        }
    }

    #[test]
    fn too_many_runs_are_told_as_perhaps() {
        let mut seen = HeightRuns::default();
        for height in 0..=RUNS_MAX as u64 {
            seen.add(2 * height);
        }
        assert_eq!(seen.lowest(1, 1), Some(1));
        assert_eq!(seen.runs.len(), 1);
    }
}
