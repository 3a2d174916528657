//! A scan of the stream for heights that were not found where they were looked for.
//!
//! They may lie before the place that a search has found, since looks can mislead, or behind more than
//! is waited for, if a block was published again. A height is called missing only when all of that has
//! been read. What was read is kept for the next reading, with the last message, by which the stream
//! is known again.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::context::BackfillContext;
use super::heights::{HeightRuns, Scanned};
use super::pace::{Cost, ReadPace};
use super::stream::{ReadableStream, StreamMessages};
use crate::amqp::{Message, ReadError};

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

/// What a passage of a reading knows of the stream.
pub struct PassageHeights {
    scanned: Arc<Scanned>,
    /// The heights before its place, once somebody asked for one that is not late.
    before: Option<HeightRuns>,
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
