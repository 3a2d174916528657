//! The source of one session's blocks, and the client's cursor on it: the history that all share or, for a
//! start older than that, a reading from the broker until it has caught up with the history. The one becomes
//! the other between two blocks, so that nothing is missing or sent twice.
//!
//! Writes nothing and holds no block: entries are handed out for the length of one write.

use std::sync::Arc;
use std::task::Context;
use std::time::Duration;

use tokio::time::Instant;

use super::cursor::SessionCursor;
use super::fills::Fills;
use super::start::{self, Found, Seek};
use crate::history::{Entries, Entry, Gone, History, Lag, Placed, RequiredEncodings, Watch};
use crate::protocol::Start;
use crate::tickets::{Ticket, TicketState, Tickets};

/// How long a start further up than what comes next may wait for the chain to get there.
const AHEAD_WAIT: Duration = Duration::from_secs(10);
/// How soon it is asked again where the RabbitMQ stream begins, in a replica's first moments.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// One session's source of blocks.
pub struct BlockSource {
    cursor: SessionCursor,
    /// The history that all share.
    shared: Watch,
    tickets: Arc<Tickets>,
    origin: BlockOrigin,
    /// Until the client's first block is found.
    looking: Option<Box<Looking>>,
    fills: Fills,
    has_changed_origin: bool,
}

/// Where blocks come from now.
enum BlockOrigin {
    History,
    Reading(Box<DeepReading>),
    /// Its turn with the broker is over, and it asks again when its client reads.
    Suspended,
}

impl BlockOrigin {
    /// The history that has its blocks: that of its ticket, or the one that all share.
    fn history<'a>(&'a self, shared: &'a Watch) -> &'a History {
        match self {
            Self::Reading(deep) => &deep.ticket.history,
            Self::History | Self::Suspended => shared.history(),
        }
    }
}

/// Where a client wants to begin.
struct Looking {
    start: Start,
    /// Where it begins when that is not to be had.
    fallback: Option<Start>,
    /// In the block that comes first.
    seek: Option<Box<str>>,
    ahead_since: Option<Instant>,
    /// When to look again though nothing has moved.
    look_again_at: Option<Instant>,
}

struct DeepReading {
    ticket: Ticket,
    watch: Watch,
}

/// How a start was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Begun {
    /// From the broker.
    pub is_deep: bool,
    /// The block of the transaction that was named is missing here: its height is a gap.
    pub is_within_gap: bool,
    /// What was asked for and is not to be had, when the request said where to begin instead.
    pub skipped: Option<(u64, u64)>,
}

/// What there is for a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offer {
    /// Entries to write from; none at the end.
    Entries(Lag),
    /// Nothing before the source is woken.
    Nothing,
    /// Nothing before the socket takes bytes; ask then with [`BlockSource::resume`].
    Suspended,
}

/// Why there is nothing more for a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    Gone(Gone),
    /// It is older than all there is.
    NotAvailable {
        first_height: Option<u64>,
    },
    /// The chain did not get there in time.
    Ahead {
        tip: u64,
    },
    /// There is no such transaction in the block that was named.
    NotInBlock {
        height: u64,
    },
}

impl BlockSource {
    /// Begins with what comes from now on, until [`BlockSource::look_for`] says otherwise. Nothing above
    /// `until_height` is offered.
    pub fn new(
        history: Arc<History>,
        tickets: Arc<Tickets>,
        required: RequiredEncodings,
        until_height: Option<u64>,
    ) -> Self {
        Self {
            cursor: SessionCursor::new(history.live_cursor(), until_height),
            shared: history.watch(required),
            tickets,
            origin: BlockOrigin::History,
            looking: None,
            fills: Fills::default(),
            has_changed_origin: false,
        }
    }

    /// The client's place.
    pub fn cursor(&self) -> &SessionCursor {
        &self.cursor
    }

    /// Takes note of how far the client is.
    pub fn move_to(&mut self, next_height: u64) {
        self.cursor.move_to(next_height);
    }

    /// Says where the client wants to begin; [`BlockSource::begin`] finds it.
    pub fn look_for(&mut self, start: Start, fallback: Option<Start>) {
        let looking =
            Looking { start, fallback, seek: None, ahead_since: None, look_again_at: None };
        self.looking = Some(Box::new(looking));
    }

    /// From now on `cx`'s task is woken when there may be more; first that, then look. Returns whether
    /// it was another task before, or none.
    pub fn wake_when_moved(&mut self, cx: &mut Context<'_>) -> bool {
        self.has_changed_origin = false;
        if let BlockOrigin::Reading(deep) = &mut self.origin {
            deep.watch.enter(cx);
        }
        self.shared.enter(cx)
    }

    /// Whether [`BlockSource::wake_when_moved`] must be called again.
    pub fn has_changed_origin(&self) -> bool {
        self.has_changed_origin
    }

    /// Whether the client's first block is still looked for.
    pub fn is_looking(&self) -> bool {
        self.looking.is_some()
    }

    /// The first height that the client wants, while that is looked for and if it named one.
    pub fn first_wanted(&self) -> Option<u64> {
        self.looking.as_ref().and_then(|looking| looking.start.first_wanted())
    }

    /// Where the client asked to begin, while that is looked for and if it named a place.
    pub fn asked(&self) -> Option<Start> {
        let start = self.looking.as_ref().map(|looking| looking.start.as_position());
        start.filter(|start| *start != Start::Live)
    }

    /// Whether its blocks are the history's that all share.
    pub fn is_shared(&self) -> bool {
        matches!(self.origin, BlockOrigin::History)
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

    /// Takes the next entries, such as the client can be sent: up to the first that has not what `required`
    /// says, which is told how many of a block's events the client has already.
    ///
    /// # Errors
    /// There is nothing more for this client.
    pub fn offer(
        &mut self,
        is_between_blocks: bool,
        required: impl Fn(u32) -> RequiredEncodings,
        bytes_max: usize,
        entries: &mut Entries,
    ) -> Result<Offer, End> {
        entries.clear();
        self.change_over(is_between_blocks)?;
        let taken = match &self.origin {
            BlockOrigin::Suspended => return Ok(Offer::Suspended),
            BlockOrigin::History => {
                self.history().entries_from(self.cursor.next(), bytes_max, entries)
            }
            BlockOrigin::Reading(deep) => {
                let (ticket, next_height) = (&deep.ticket, self.cursor.next_height());
                ticket.passed(next_height);
                let cursor = ticket.history.live_cursor().at(next_height);
                ticket.history.entries_from(cursor, bytes_max, entries)
            }
        };
        let lag = match (taken, &self.origin) {
            (Ok(lag), _) => lag,
            (Err(gone), BlockOrigin::History) => return Err(End::Gone(gone)),
            (Err(_), _) => return Ok(Offer::Nothing),
        };
        self.keep_wanted(entries);
        self.keep_ready(required, entries);
        Ok(Offer::Entries(lag))
    }

    /// Takes note of the heights that filled a gap behind the cursor up to `lag`'s time. Not of those since:
    /// the entries that the client is still to be sent may tell their gaps.
    pub fn note_fills(&mut self, lag: Lag) {
        self.fills.note(lag.fills, self.cursor.next_height());
    }

    /// Whether heights that filled a gap are still to be told. Then nothing is passed.
    pub fn owes_fills(&self) -> bool {
        self.fills.is_owed()
    }

    /// As [`Fills::take`].
    pub fn take_fills(&mut self) -> Result<Vec<u64>, Gone> {
        self.fills.take(self.origin.history(&self.shared))
    }

    /// Gives its turn with the broker, or its place among those who wait for one, to others until
    /// [`BlockSource::resume`].
    pub fn suspend(&mut self) {
        if matches!(self.origin, BlockOrigin::Reading(_)) {
            self.change_origin(BlockOrigin::Suspended);
        }
    }

    /// The client takes bytes again: asks for another turn with the broker.
    pub fn resume(&mut self) {
        if matches!(self.origin, BlockOrigin::Suspended) {
            self.ask(self.cursor.next_height());
        }
    }

    /// Takes note that bytes went out.
    pub fn wrote(&self) {
        if let BlockOrigin::Reading(deep) = &self.origin {
            deep.ticket.progress(self.cursor.next_height());
        }
    }

    /// From the reading to the history when that has what comes next, or back to waiting.
    fn change_over(&mut self, is_between_blocks: bool) -> Result<(), End> {
        if matches!(self.origin, BlockOrigin::History) {
            return Ok(());
        }
        if !self.history().is_of(self.cursor.next()) {
            return Err(End::Gone(Gone::AnotherChain));
        }
        if is_between_blocks
            && matches!(self.history().place(self.cursor.next_height()), Placed::At(_))
        {
            let fills = self.history().fills();
            self.fills.begin_behind(fills);
            self.change_origin(BlockOrigin::History);
            return Ok(());
        }
        let BlockOrigin::Reading(deep) = &self.origin else { return Ok(()) };
        match deep.ticket.state() {
            TicketState::Waiting | TicketState::Reading => {}
            TicketState::GivenUp => self.change_origin(BlockOrigin::Suspended),
            TicketState::NotAvailable { first_height } => {
                return Err(End::NotAvailable { first_height });
            }
        }
        Ok(())
    }

    /// Leaves the entries that begin where the client wants them. What lies between the client and the end
    /// of what it wants is behind it when that is nothing.
    fn keep_wanted(&mut self, entries: &mut Entries) {
        let Some(until) = self.cursor.until_height() else { return };
        let wanted = entries.iter().take_while(|entry| entry.first_height() <= until).count();
        if wanted == 0 && !entries.is_empty() {
            self.cursor.move_to(until + 1);
        }
        entries.truncate(wanted);
    }

    /// Leaves the entries up to the first that is not made ready, and has the others made.
    fn keep_ready(&self, required: impl Fn(u32) -> RequiredEncodings, entries: &mut Entries) {
        let history = self.origin_history();
        let mut ready = None;
        for (place, entry) in entries.iter().enumerate() {
            let Entry::Block(cached) = entry else { continue };
            let required = required(self.cursor.events_before(cached.block.height));
            if !cached.has(required) {
                ready.get_or_insert(place);
                history.queue_encodings(cached, required);
            }
        }
        entries.truncate(ready.unwrap_or(entries.len()));
    }

    fn history(&self) -> &History {
        self.shared.history()
    }

    fn origin_history(&self) -> &History {
        self.origin.history(&self.shared)
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

    fn ask(&mut self, height: u64) -> bool {
        let Some(ticket) = self.tickets.issue(height) else { return false };
        let watch = ticket.history.watch(self.shared.required_encodings());
        self.fills.begin_behind(0);
        self.change_origin(BlockOrigin::Reading(Box::new(DeepReading { ticket, watch })));
        true
    }

    fn change_origin(&mut self, origin: BlockOrigin) {
        self.origin = origin;
        self.has_changed_origin = true;
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
