//! The source of one session's blocks, and the client's cursor on it: the history that all share or, for what
//! has left that, a reading from the broker until it has caught up with the history. The reading begins wherever
//! the client is, and the history takes over between two blocks, so that nothing is missing or sent twice.
//!
//! Writes nothing and holds no block: entries are handed out for the length of one write.

mod beginning;

use std::sync::Arc;
use std::task::Context;

use tokio::time::Instant;

use super::cursor::SessionCursor;
use super::fills::Fills;
use super::form_requests::FormRequests;
use crate::history::{CachedBlock, Entries, Gone, History, Lag, Placed, RequiredEncodings, Watch};
use crate::protocol::Start;
use crate::tickets::{Claim, Ticket, TicketState, Tickets};

/// After so many falls a client comes back to the history only near its tip.
const FALLS_MAX: u32 = 2;

/// One session's source of blocks.
pub struct BlockSource {
    cursor: SessionCursor,
    /// The history that all share.
    shared: Watch,
    tickets: Arc<Tickets>,
    /// What it asks for its next ticket with.
    claim: Claim,
    origin: BlockOrigin,
    /// Until the client's first block is found.
    looking: Option<Box<Looking>>,
    fills: Fills,
    /// How often it fell off the history's old end since it was at the tip last.
    falls: u32,
    forms: FormRequests,
    has_changed_origin: bool,
}

/// Where blocks come from now.
enum BlockOrigin {
    History,
    Reading(Box<DeepReading>),
    /// It fell off the history's old end, or its turn with the broker is over. It asks when its client reads.
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

    /// The client's place on that history.
    fn watch<'a>(&'a mut self, shared: &'a mut Watch) -> &'a mut Watch {
        match self {
            Self::Reading(deep) => &mut deep.watch,
            Self::History | Self::Suspended => shared,
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
    /// Of what is read. Those of the shared history are told when the client is there again.
    fills: Fills,
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
    /// What comes next has left the history, and is to be had from the broker.
    FellOff,
    /// Nothing before the socket takes bytes; ask then with [`BlockSource::resume`].
    Suspended,
    /// The same: forms of what comes next are to be made.
    Unmade,
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
        (tickets, claim): (Arc<Tickets>, Claim),
        required: RequiredEncodings,
        until_height: Option<u64>,
    ) -> Self {
        Self {
            cursor: SessionCursor::new(history.live_cursor(), until_height),
            shared: history.watch(required),
            tickets,
            claim,
            origin: BlockOrigin::History,
            looking: None,
            fills: Fills::default(),
            falls: 0,
            forms: FormRequests::default(),
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

    /// Whether what comes next for the client is where its blocks come from, as far as that is known.
    pub fn is_there(&self) -> bool {
        let cursor = self.cursor.next();
        match self.origin {
            BlockOrigin::History => match self.history().is_there(cursor) {
                Ok(()) => true,
                Err(gone) => self.can_go_on_after(gone),
            },
            BlockOrigin::Reading(_) | BlockOrigin::Suspended => self.history().is_of(cursor),
        }
    }

    /// Takes the next entries with their forms, such as the client can be sent: up to the first that has not
    /// what `required` says, which is told how many of a block's events the client has already.
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
            (Ok(lag), BlockOrigin::History) if lag.blocks_behind <= 1 => {
                self.falls = 0;
                lag
            }
            (Ok(lag), _) => lag,
            (Err(gone), BlockOrigin::History) if self.can_go_on_after(gone) => {
                self.falls = self.falls.saturating_add(1);
                self.change_origin(BlockOrigin::Suspended);
                return Ok(Offer::FellOff);
            }
            (Err(gone), BlockOrigin::History) => return Err(End::Gone(gone)),
            (Err(_), _) => return Ok(Offer::Nothing),
        };
        self.keep_wanted(entries);
        let (cursor, watch) = (&self.cursor, self.origin.watch(&mut self.shared));
        let required = |block: &CachedBlock| required(cursor.events_before(block.block.height));
        match self.forms.keep_ready(watch, required, entries) {
            true => Ok(Offer::Entries(lag)),
            false => Ok(Offer::Unmade),
        }
    }

    /// Takes note of the heights that filled a gap behind the cursor up to `lag`'s time. Not of those since:
    /// the entries that the client is still to be sent may tell their gaps.
    pub fn note_fills(&mut self, lag: Lag) {
        let next_height = self.cursor.next_height();
        self.origin_fills().0.note(lag.fills, next_height);
    }

    /// Whether heights that filled a gap are still to be told. Then nothing is passed.
    pub fn owes_fills(&self) -> bool {
        match &self.origin {
            BlockOrigin::Reading(deep) => deep.fills.is_owed(),
            BlockOrigin::History | BlockOrigin::Suspended => self.fills.is_owed(),
        }
    }

    /// As [`Fills::take`].
    pub fn take_fills(&mut self) -> Result<Vec<u64>, Gone> {
        let (fills, history) = self.origin_fills();
        fills.take(history)
    }

    /// Gives its turn with the broker, or its place among those who wait for one, to others until
    /// [`BlockSource::resume`].
    pub fn suspend(&mut self) {
        if matches!(self.origin, BlockOrigin::Reading(_)) {
            self.change_origin(BlockOrigin::Suspended);
        }
    }

    /// The client takes bytes again: asks for another turn with the broker, or for the forms that it lacks.
    pub fn resume(&mut self) {
        match self.origin {
            BlockOrigin::Suspended => {
                self.ask(self.cursor.next_height());
            }
            BlockOrigin::History | BlockOrigin::Reading(_) => self.forms.allow(),
        }
    }

    /// Keeps no form any more that has been made: its client has had its turn, or takes nothing.
    pub fn let_go_of_forms(&mut self) {
        self.origin.watch(&mut self.shared).end_met_wait();
    }

    /// Takes note that so many bytes went out.
    pub fn wrote(&mut self, bytes: usize) {
        self.forms.took(bytes);
        self.let_go_of_forms();
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
        if is_between_blocks && self.may_come_back() {
            self.fills.come_back(self.cursor.next_height());
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

    /// Whether the history has what comes next, and the client will not fall off again at once. It has twice
    /// and was not at the tip since: then it has caught up first.
    fn may_come_back(&self) -> bool {
        let next_height = self.cursor.next_height();
        matches!(self.history().place(next_height), Placed::At(_))
            && (self.falls < FALLS_MAX || self.history().is_near_tip(next_height))
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

    /// Whether the broker may still have what has left the history.
    fn can_go_on_after(&self, gone: Gone) -> bool {
        gone == Gone::FellOff && self.tickets.can_read()
    }

    fn history(&self) -> &History {
        self.shared.history()
    }

    /// Those that its blocks' history has, and that history.
    fn origin_fills(&mut self) -> (&mut Fills, &History) {
        match &mut self.origin {
            BlockOrigin::Reading(deep) => (&mut deep.fills, &deep.ticket.history),
            BlockOrigin::History | BlockOrigin::Suspended => {
                (&mut self.fills, self.shared.history())
            }
        }
    }

    fn origin_history(&self) -> &History {
        self.origin.history(&self.shared)
    }

    fn ask(&mut self, height: u64) -> bool {
        self.note_claim();
        let Some(ticket) = self.tickets.issue(height, self.claim) else { return false };
        let watch = ticket.history.watch(self.shared.required_encodings());
        let deep = DeepReading { ticket, watch, fills: Fills::default() };
        self.change_origin(BlockOrigin::Reading(Box::new(deep)));
        true
    }

    /// Takes note of what its turn has been so far.
    fn note_claim(&mut self) {
        if let BlockOrigin::Reading(deep) = &self.origin {
            self.claim = deep.ticket.claim();
        }
    }

    fn change_origin(&mut self, origin: BlockOrigin) {
        self.note_claim();
        self.origin = origin;
        self.has_changed_origin = true;
    }
}

#[cfg(test)]
mod tests;
