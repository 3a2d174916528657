//! Blocks and gaps of one reading, appended to its ticket's history as fast as the session reads.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use super::context::BackfillContext;
use super::stop::Stop;
use super::uptake::Uptake;
use crate::block::Block;
use crate::frame::{self, EncodedBlock};
use crate::tickets::{CalledTicket, TicketState};

/// What the session has not read yet may take, or one block if that is larger: a socket's buffer
/// several times over, so that a client that reads does not wait for us.
const UNREAD_BYTES_MAX: usize = 1 << 20;
/// A session that reads nothing for so long gives its turn up if others wait; else after
/// [`TURN_MAX`], since what waits for it takes memory.
const PROGRESS_WITHIN: Duration = Duration::from_secs(1);
/// How long a turn may last while others wait.
const TURN_MAX: Duration = Duration::from_secs(10);

/// The output of one ticket's turn.
pub struct TicketOutput<'a, S> {
    pub context: &'a BackfillContext<S>,
    ticket: CalledTicket,
    /// How many others wait for a turn.
    waiting: watch::Receiver<usize>,
    next_height: u64,
    /// When reading began, put off by what was spent on looking for missing heights.
    began: Option<Instant>,
    uptake: Uptake,
}

impl<'a, S> TicketOutput<'a, S> {
    pub fn new(
        context: &'a BackfillContext<S>,
        ticket: CalledTicket,
        waiting: watch::Receiver<usize>,
    ) -> Self {
        let next_height = ticket.from_height();
        let uptake = Uptake::default();
        Self { context, ticket, waiting, next_height, began: None, uptake }
    }

    /// The lowest height that has not been appended, neither as a block nor in a gap.
    pub fn next_height(&self) -> u64 {
        self.next_height
    }

    /// The height that the session wants next.
    pub fn session_height(&self) -> u64 {
        self.ticket.next_height()
    }

    /// Says that nothing comes for now.
    pub fn wait(&self) {
        self.ticket.set_state(TicketState::Waiting);
    }

    /// Says that blocks come. The turn's time runs from the first call on.
    pub fn begin(&mut self) {
        self.ticket.set_state(TicketState::Reading);
        self.began.get_or_insert_with(Instant::now);
    }

    /// Gives the turn time back that the session is not charged for.
    pub fn give_time(&mut self, time: Duration) {
        if let Some(began) = &mut self.began {
            *began += time;
        }
    }

    /// Says how the turn ended.
    pub fn end(self, state: TicketState) {
        self.ticket.set_state(state);
        if state == TicketState::GivenUp {
            // After the state: a reader that finds it empty looks there for why.
            self.ticket.history().start_over();
        }
    }

    /// Appends the next block.
    pub async fn publish(&mut self, block: Block) -> Result<(), Stop> {
        let height = block.height;
        let encoded = self.encode(block).await?;
        let now = Instant::now();
        self.uptake.read_below(self.ticket.next_height(), now);
        self.uptake.append(height, encoded.bytes(), now);
        self.ticket.history().append(encoded);
        self.next_height = height.saturating_add(1);
        self.count_block().await;
        Ok(())
    }

    /// Puts a block into a gap that was appended before.
    pub async fn fill(&mut self, block: Block) -> Result<(), Stop> {
        let encoded = self.encode(block).await?;
        self.ticket.history().fill(encoded);
        self.count_block().await;
        Ok(())
    }

    /// Appends a gap from the next height on, up to `to_height`.
    pub fn append_gap(&mut self, from_height: u64, to_height: u64) {
        self.ticket.history().append_gap(from_height, to_height);
        self.next_height = to_height.saturating_add(1);
    }

    /// Ends the turn when it has lasted long enough and others wait.
    pub fn check_time(&self) -> Result<(), Stop> {
        let is_over = self.began.is_some_and(|began| began.elapsed() >= TURN_MAX);
        match is_over && self.others_wait() {
            true => Err(Stop::End(TicketState::GivenUp)),
            false => Ok(()),
        }
    }

    /// Ends the turn when the session reads too slowly and others wait: it cannot keep with a trickle what
    /// others would have their share of meanwhile.
    pub fn check_client(&mut self) -> Result<(), Stop> {
        let now = Instant::now();
        self.uptake.read_below(self.ticket.next_height(), now);
        match self.uptake.is_late(now) && self.others_wait() {
            true => Err(Stop::End(TicketState::GivenUp)),
            false => Ok(()),
        }
    }

    /// Whether somebody else's turn begins, or goes on, when this one ends.
    fn others_wait(&self) -> bool {
        *self.waiting.borrow() > 0 || self.context.held_up.load(Ordering::Relaxed) > 0
    }

    async fn encode(&mut self, block: Block) -> Result<EncodedBlock, Stop> {
        let encoded = frame::encode(block, self.context.blocks.dialect);
        self.wait_for_room(&encoded).await?;
        Ok(encoded)
    }

    async fn count_block(&self) {
        self.context.metrics.deep_read_blocks.inc();
        // A large block takes milliseconds: others have their turn after each.
        tokio::task::yield_now().await;
    }

    /// Waits until the unread blocks leave room for this one.
    async fn wait_for_room(&mut self, block: &EncodedBlock) -> Result<(), Stop> {
        let mut read_at = Instant::now();
        loop {
            let unread = self.ticket.history().let_go_below(self.ticket.next_height());
            if unread == 0 || unread + block.bytes() <= UNREAD_BYTES_MAX {
                return Ok(());
            }
            self.check_time()?;
            self.check_client()?;
            match timeout(PROGRESS_WITHIN, self.ticket.progressed()).await {
                Ok(()) => read_at = Instant::now(),
                Err(_) if self.others_wait() || read_at.elapsed() >= TURN_MAX => {
                    return Err(Stop::End(TicketState::GivenUp));
                }
                Err(_) => {}
            }
        }
    }
}
