//! Where a stream is: what every message does to its place, and what to ask for to go on from it.
//! Pure: knows of no connection.

use super::message::Said;
use super::request::RequestTemplate;
use super::{Error, Event, Position, Start, StreamMessage};
use crate::protocol::control::Beginning;
use crate::protocol::{ControlMessage, Stream, Within};

#[derive(Debug)]
pub(super) struct Tracker {
    start: Start,
    is_filtered: bool,
    is_batch: bool,
    /// Whether all events of a block come, so that an event's index is known by counting.
    is_counted: bool,
    until_height: Option<u64>,
    /// Messages that are still to be yielded.
    limit: Option<u64>,
    /// All up to this height is behind.
    whole: Option<u64>,
    /// The block that is behind in part.
    open: Option<OpenBlock>,
    /// Whether a server has told its position, ever.
    is_placed: bool,
    /// Whether the server of this connection has. None before its first message.
    is_controlled: Option<bool>,
    /// Events of the open block that this connection sends although they were yielded.
    repeats: u64,
}

#[derive(Debug)]
struct OpenBlock {
    height: u64,
    /// Of the next event, where it can be known.
    index: Option<u64>,
    /// The last event that a position can name.
    last: Option<Within>,
    /// Events yielded behind it that no position can name: they match a filter, which hides their
    /// index, and their ids are not of the usual form.
    unnamed: u64,
}

impl Tracker {
    pub fn new(request: &RequestTemplate) -> Self {
        let query = request.query();
        let is_filtered = !query.filters.is_empty();
        let is_counted =
            !is_filtered && !query.batch && request.stream() == Some(Stream::Transactions);
        let mut tracker = Self {
            start: query.start.clone(),
            is_filtered,
            is_batch: query.batch,
            is_counted,
            until_height: query.until_height,
            limit: query.limit,
            whole: None,
            open: None,
            is_placed: false,
            is_controlled: None,
            repeats: 0,
        };
        if let Start::After(position) = &query.start {
            tracker.stand_behind(position);
        }
        tracker
    }

    /// Behind what was yielded last; None while nothing is.
    pub fn position(&self) -> Option<Position> {
        match &self.open {
            Some(OpenBlock { height, last: Some(last), .. }) => {
                Some(Position::new(*height, Some(last.clone())))
            }
            _ => self.whole.map(Position::after_block),
        }
    }

    /// Whether a server has told where the stream is: then it can go on from there.
    pub fn is_placed(&self) -> bool {
        self.is_placed
    }

    /// Whether nothing more is to come.
    pub fn is_done(&self) -> bool {
        let is_there = |until| self.whole.is_some_and(|height| height >= until);
        self.limit == Some(0) || self.until_height.is_some_and(is_there)
    }

    /// Whether the stream has an end that a server may tell.
    pub fn has_end(&self) -> bool {
        self.limit.is_some() || self.until_height.is_some()
    }

    /// What to ask for, and for how many messages at most.
    pub fn asks(&self) -> (Start, Option<u64>) {
        let resume = match self.position() {
            Some(position) => Start::After(position),
            None => self.start.clone(),
        };
        (resume, self.limit.map(|limit| limit.saturating_add(self.unnamed())))
    }

    /// A connection that asked for [`Tracker::asks`] is there.
    pub fn connected(&mut self) {
        self.repeats += self.open.as_mut().map_or(0, |open| std::mem::take(&mut open.unnamed));
        self.is_controlled = None;
    }

    /// What of a message is to be yielded.
    pub fn take(&mut self, said: Said) -> Result<Option<StreamMessage>, Error> {
        if let Said::Control(ControlMessage::Position(beginning)) = said {
            return self.begin(beginning).map(Some);
        }
        match self.is_controlled {
            Some(true) => self.controlled(said),
            Some(false) => self.uncontrolled(said),
            None if said == Said::Unknown => Ok(None),
            None => {
                let asks_nothing = self.start == Start::Live
                    && !self.is_filtered
                    && !self.is_batch
                    && !self.has_end();
                if self.is_placed || !asks_nothing {
                    return Err(Error::NotUnderstood);
                }
                self.is_controlled = Some(false);
                self.uncontrolled(said)
            }
        }
    }

    fn begin(&mut self, told: Beginning) -> Result<StreamMessage, Error> {
        if self.is_controlled.is_some() {
            return Err(fault("the position is told more than once".into()));
        }
        let asked = self.position();
        if let Some(asked) = &asked {
            let is_there = match (told.height, asked.within()) {
                (None, None) => true,
                (height, within) => {
                    let is_inside = told.index.is_none() || within.is_some();
                    let is_index = match (within, told.index) {
                        (Some(Within::Index(asked)), Some(told)) => *asked == told,
                        _ => true,
                    };
                    height == Some(asked.height()) && is_inside && is_index
                }
            };
            if !is_there {
                let (height, index) = (told.height, told.index);
                return Err(fault(format!(
                    "asked to go on after {asked}, the server goes on after height {height:?}, index {index:?}"
                )));
            }
        }
        self.is_controlled = Some(true);
        self.is_placed = true;
        match told.position() {
            Some(position) => self.stand_behind(&position),
            None if asked.is_none() => self.stand_before_all(&told),
            None => {}
        }
        let Beginning { first_height, tip_height, .. } = told;
        Ok(StreamMessage::Position { first_height, tip_height })
    }

    fn stand_behind(&mut self, position: &Position) {
        let height = position.height();
        match position.within() {
            None => (self.whole, self.open) = (Some(height), None),
            Some(last) => {
                let index = match last {
                    Within::Index(index) if self.is_counted => Some(index.saturating_add(1)),
                    _ => None,
                };
                self.whole = height.checked_sub(1);
                self.open = Some(OpenBlock { height, index, last: Some(last.clone()), unnamed: 0 });
            }
        }
    }

    /// Nothing lies before the stream: after a cut, it begins where it would have, whatever has come
    /// in between.
    fn stand_before_all(&mut self, told: &Beginning) {
        self.start = match (&self.start, told.first_height) {
            (Start::Height(height), _) => Start::Height(*height),
            (_, Some(first)) => Start::Height(first),
            (_, None) => Start::Oldest,
        };
    }

    /// From a server that tells no positions: all is yielded, nothing is known.
    fn uncontrolled(&mut self, said: Said) -> Result<Option<StreamMessage>, Error> {
        Ok(match said {
            Said::Event(event) => Some(StreamMessage::Event(event)),
            Said::Summary(summary) => Some(StreamMessage::Summary(summary)),
            _ => None,
        })
    }

    fn controlled(&mut self, said: Said) -> Result<Option<StreamMessage>, Error> {
        Ok(match said {
            Said::Event(event) => self.event(event)?,
            Said::Summary(summary) => {
                self.block_at_once(summary.height)?.then_some(StreamMessage::Summary(summary))
            }
            Said::Batch(batch) => {
                self.block_at_once(batch.height)?.then_some(StreamMessage::Batch(batch))
            }
            Said::Control(message) => self.control(message)?,
            Said::Unknown => None,
        })
    }

    fn control(&mut self, message: ControlMessage) -> Result<Option<StreamMessage>, Error> {
        Ok(match message {
            ControlMessage::Block { height, events } => self.block_end(height, events)?,
            ControlMessage::Gap { from_height, to_height } => self.gap(from_height, to_height)?,
            ControlMessage::Filled { height } => Some(StreamMessage::Filled { height }),
            ControlMessage::Heartbeat { height } => {
                if height.is_some_and(|height| self.is_ahead(height)) {
                    (self.whole, self.open) = (height, None);
                }
                Some(StreamMessage::Heartbeat { height })
            }
            ControlMessage::Position(_) | ControlMessage::Close { .. } => None,
        })
    }

    fn event(&mut self, event: Event) -> Result<Option<StreamMessage>, Error> {
        let height = event.height;
        if !self.is_ahead(height) {
            return Ok(None);
        }
        self.check_open(height)?;
        let index = self.is_counted.then_some(0);
        let open = self.open.get_or_insert(OpenBlock { height, index, last: None, unnamed: 0 });
        let named = match open.index {
            Some(index) => Some(Within::Index(index)),
            None => Within::transaction(&event.transaction_id),
        };
        open.index = open.index.map(|index| index + 1);
        match named {
            Some(last) => (open.last, open.unnamed) = (Some(last), 0),
            None => open.unnamed += 1,
        }
        if self.repeats > 0 {
            self.repeats -= 1;
            return Ok(None);
        }
        self.count();
        Ok(Some(StreamMessage::Event(event)))
    }

    /// Whether a message that is a whole block, or its rest, is new.
    fn block_at_once(&mut self, height: u64) -> Result<bool, Error> {
        if !self.is_ahead(height) {
            return Ok(false);
        }
        self.check_open(height)?;
        (self.whole, self.open) = (Some(height), None);
        self.count();
        Ok(true)
    }

    fn block_end(&mut self, height: u64, events: u64) -> Result<Option<StreamMessage>, Error> {
        if self.whole.is_some_and(|whole| height < whole) {
            return Ok(None);
        }
        if self.is_ahead(height) {
            self.check_open(height)?;
            let counted = match &self.open {
                Some(open) => open.index,
                None => self.is_counted.then_some(0),
            };
            if let Some(came) = counted.filter(|came| *came != events) {
                return Err(fault(format!("block {height} has {events} events, {came} came")));
            }
            if self.repeats > 0 {
                return Err(fault(format!("fewer events of block {height} came than before")));
            }
        }
        (self.whole, self.open) = (Some(height), None);
        Ok(Some(StreamMessage::BlockEnd { height, events }))
    }

    fn gap(&mut self, from_height: u64, to_height: u64) -> Result<Option<StreamMessage>, Error> {
        if !self.is_ahead(to_height) {
            return Ok(None);
        }
        if let Some(open) = &self.open {
            return Err(unended(open.height, from_height));
        }
        let from_height = self.whole.map_or(from_height, |whole| from_height.max(whole + 1));
        self.whole = Some(to_height);
        Ok(Some(StreamMessage::Gap { from_height, to_height }))
    }

    fn is_ahead(&self, height: u64) -> bool {
        self.whole.is_none_or(|whole| height > whole)
    }

    fn check_open(&self, height: u64) -> Result<(), Error> {
        match &self.open {
            Some(open) if open.height != height => Err(unended(open.height, height)),
            _ => Ok(()),
        }
    }

    fn unnamed(&self) -> u64 {
        self.repeats + self.open.as_ref().map_or(0, |open| open.unnamed)
    }

    fn count(&mut self) {
        self.limit = self.limit.map(|limit| limit.saturating_sub(1));
    }
}

fn unended(open: u64, next: u64) -> Error {
    fault(format!("block {open} was not ended when {next} came"))
}

fn fault(what: String) -> Error {
    Error::Protocol(what)
}

#[cfg(test)]
mod tests;
