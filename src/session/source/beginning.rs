//! How a session's source of blocks finds the place where its client wants to begin, and waits for it.
//! Knows of no socket.

use std::time::Duration;

use tokio::time::Instant;

use super::{Begun, BlockOrigin, BlockSource, End, Looking};
use crate::history::{Entries, Entry};
use crate::protocol::Start;
use crate::session::start::{self, Found, Seek};
use crate::tickets::TicketState;

/// How long a start further up than what comes next may wait for the chain to get there.
const AHEAD_WAIT: Duration = Duration::from_secs(10);
/// How soon it is asked again where the RabbitMQ stream begins, in a replica's first moments.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

impl BlockSource {
    /// Says where the client wants to begin; [`BlockSource::begin`] finds it.
    pub fn look_for(&mut self, start: Start, fallback: Option<Start>) {
        let looking =
            Looking { start, fallback, seek: None, ahead_since: None, look_again_at: None };
        self.looking = Some(Box::new(looking));
    }

    /// When waiting for the chain to get to the start is over, or when to look for it again.
    pub fn deadline(&self) -> Option<Instant> {
        let looking = self.looking.as_ref()?;
        looking.look_again_at.or(looking.ahead_since.map(|since| since + AHEAD_WAIT))
    }

    /// Looks for the start. Returns how it was made once it is.
    ///
    /// # Errors
    /// It is not to be had.
    pub fn begin(&mut self, now: Instant) -> Result<Option<Begun>, End> {
        let Some(looking) = &self.looking else { return Ok(None) };
        if let BlockOrigin::Reading(deep) = &self.origin {
            // Whether the broker has it shows only with its first block.
            return match deep.ticket.state() {
                TicketState::NotAvailable { first_height }
                    if looking.start.is_as_far_as_there_is() =>
                {
                    Ok(self.look_again_above(first_height, now))
                }
                TicketState::NotAvailable { first_height } => self.fall_back(first_height, now),
                TicketState::Reading => self.begin_behind(true),
                TicketState::GivenUp => {
                    self.ask(self.cursor.next_height());
                    Ok(None)
                }
                TicketState::Waiting => Ok(None),
            };
        }
        match start::find(&looking.start, self.history(), &self.tickets) {
            Found::Here(cursor, seek) => {
                let fills = self.history().fills();
                self.fills.begin_behind(fills);
                let events = self.events_of(seek);
                self.cursor.begin_at(cursor, events);
                self.begin_behind(false)
            }
            Found::Deep { height, seek } => {
                self.wait_anew();
                let fills = self.history().fills();
                self.fills.begin_behind(fills);
                let events = self.events_of(seek);
                self.cursor.begin_at(self.history().live_cursor().at(height), events);
                if !self.ask(height) {
                    return self.fall_back(self.history().first_height(), now);
                }
                // What is known of the stream's beginning may be half a minute old, and what was there
                // trimmed since: its first block is told when it has come.
                let may_yet_change = self.looking.as_ref().is_some_and(|looking| {
                    looking.seek.is_some() || looking.start.is_as_far_as_there_is()
                });
                match self.tickets.first_height().is_some() && !may_yet_change {
                    true => Ok(Some(self.begun(true))),
                    false => Ok(None),
                }
            }
            Found::Unknown => {
                if let Some(looking) = &mut self.looking {
                    looking.look_again_at = Some(now + LOOK_AGAIN);
                }
                Ok(None)
            }
            Found::Ahead { tip: None } => {
                // Another chain is to come: what was waited for so far was the other's.
                self.wait_anew();
                Ok(None)
            }
            Found::Ahead { tip: Some(tip) } => {
                let looking = self.looking.as_mut().expect("bug: it was there a moment ago");
                looking.look_again_at = None;
                let since = *looking.ahead_since.get_or_insert(now);
                match now < since + AHEAD_WAIT {
                    true => Ok(None),
                    false if looking.fallback.is_some() => self.fall_back(None, now),
                    false => Err(End::Ahead { tip }),
                }
            }
            Found::Gone { first_height } => self.fall_back(first_height, now),
        }
    }

    /// Begins behind the transaction that was named, if one was: that shows when its block is there.
    fn begin_behind(&mut self, is_deep: bool) -> Result<Option<Begun>, End> {
        let seek = self.looking.as_ref().and_then(|looking| looking.seek.as_ref());
        let Some(id) = seek else { return Ok(Some(self.begun(is_deep))) };
        let (history, next) = (self.origin_history(), self.cursor.next());
        let mut entries = Entries::new();
        let here = history.live_cursor().at(next.next_height);
        if history.entries_from(here, 0, &mut entries).is_err() {
            return Ok(None);
        }
        let is_within_gap = match entries.first() {
            None => return Ok(None),
            Some(Entry::Block(cached)) if cached.block.height == next.next_height => {
                let fields = &cached.block.fields;
                let event = (0..fields.len()).find(|event| fields.transaction_id(*event) == &**id);
                let event = event.ok_or(End::NotInBlock { height: next.next_height })?;
                self.cursor.begin_at(next, event as u32 + 1);
                false
            }
            // Its block never came to this replica: what follows comes next.
            Some(_) => true,
        };
        Ok(Some(Begun { is_within_gap, ..self.begun(is_deep) }))
    }

    /// What was waited for is no longer ahead.
    fn wait_anew(&mut self) {
        if let Some(looking) = &mut self.looking {
            (looking.ahead_since, looking.look_again_at) = (None, None);
        }
    }

    fn begun(&mut self, is_deep: bool) -> Begun {
        self.looking = None;
        Begun { is_deep, is_within_gap: false, skipped: None }
    }

    fn events_of(&mut self, seek: Seek) -> u32 {
        match seek {
            Seek::Events(events) => events,
            Seek::Transaction(id) => {
                if let Some(looking) = &mut self.looking {
                    looking.seek = Some(id);
                }
                0
            }
        }
    }

    /// The stream begins higher up than was known: that is the place that was asked for.
    fn look_again_above(&mut self, first_height: Option<u64>, now: Instant) -> Option<Begun> {
        if first_height.is_some() {
            self.tickets.set_first_height(first_height);
        }
        self.change_origin(BlockOrigin::History);
        if let Some(looking) = &mut self.looking {
            looking.look_again_at = Some(now + LOOK_AGAIN);
        }
        None
    }

    /// Begins where the request says instead, if it does.
    fn fall_back(&mut self, first_height: Option<u64>, now: Instant) -> Result<Option<Begun>, End> {
        let looking = self.looking.as_mut().filter(|looking| looking.fallback.is_some());
        let Some(looking) = looking else { return Err(End::NotAvailable { first_height }) };
        let wanted = looking.start.first_wanted();
        if let Some(fallback) = looking.fallback.take() {
            (looking.start, looking.seek, looking.ahead_since) = (fallback, None, None);
        }
        self.change_origin(BlockOrigin::History);
        let begun = self.begin(now)?;
        let next = self.cursor.next_height();
        let skipped = wanted.filter(|wanted| *wanted < next).map(|wanted| (wanted, next - 1));
        Ok(begun.map(|begun| Begun { skipped, ..begun }))
    }
}
