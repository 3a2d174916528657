//! A session that reads with a ticket.

use std::net::Ipv4Addr;
use std::sync::Arc;

use crate::history::{Entries, Entry};
use crate::tickets::{Claim, Ticket, TicketState, Tickets};

/// A client: a cursor on a ticket's history, which asks again when it is given up.
pub struct Client {
    tickets: Arc<Tickets>,
    ticket: Ticket,
    next_height: u64,
    /// Blocks, and gaps as ranges.
    pub read: Vec<(u64, u64)>,
    /// Heights in those gaps.
    pub missing: Vec<u64>,
    /// How many turns it had, the one under way included.
    pub turns: u32,
}

impl Client {
    pub fn start(tickets: &Arc<Tickets>, from_height: u64) -> Self {
        let claim = Claim::of(Ipv4Addr::LOCALHOST.into());
        Self::claiming(tickets, claim, from_height)
    }

    pub fn claiming(tickets: &Arc<Tickets>, claim: Claim, from_height: u64) -> Self {
        let ticket = tickets.issue(from_height, claim).expect("a stream");
        Self {
            tickets: Arc::clone(tickets),
            ticket,
            next_height: from_height,
            read: Vec::new(),
            missing: Vec::new(),
            turns: 1,
        }
    }

    /// Reads until `height` has come; the state it ended with if it never can.
    pub async fn until(&mut self, height: u64) -> Result<(), TicketState> {
        while self.next_height <= height {
            self.turn().await?;
        }
        Ok(())
    }

    /// Waits for a state.
    pub async fn state(&self, wanted: TicketState) {
        let mut moved = self.ticket.history.watch(crate::history::RequiredEncodings::NONE);
        while self.ticket.state() != wanted {
            moved.moved().await;
        }
    }

    /// Reads one block, when it is there; asks again when it is given up.
    pub async fn take(&mut self, height: u64) {
        let mut moved = self.ticket.history.watch(crate::history::RequiredEncodings::NONE);
        let mut entries = Entries::new();
        loop {
            let cursor = self.ticket.history.live_cursor().at(height);
            let read = self.ticket.history.entries_from(cursor, 1, &mut entries);
            if read.is_ok() && !entries.is_empty() {
                self.next_height = height + 1;
                return self.ticket.progress(self.next_height);
            }
            if self.ticket.state() == TicketState::GivenUp {
                let claim = self.ticket.claim();
                self.ticket = self.tickets.issue(height, claim).expect("a stream");
                self.turns += 1;
                return;
            }
            moved.moved().await;
        }
    }

    /// Waits until so many blocks are there to be read.
    pub async fn unread(&self, blocks: usize) {
        let mut moved = self.ticket.history.watch(crate::history::RequiredEncodings::NONE);
        while self.ticket.history.summary().blocks < blocks {
            moved.moved().await;
        }
    }

    /// Reads what there is, or waits for more.
    async fn turn(&mut self) -> Result<(), TicketState> {
        let mut moved = self.ticket.history.watch(crate::history::RequiredEncodings::NONE);
        let mut entries = Entries::new();
        let cursor = self.ticket.history.live_cursor().at(self.next_height);
        let read = self.ticket.history.entries_from(cursor, 1 << 18, &mut entries);
        if read.is_ok() && !entries.is_empty() {
            for entry in &entries {
                let first_height = entry.first_height().max(self.next_height);
                match entry {
                    Entry::Block(cached) => {
                        let expected = format!("\"t{}\"", cached.block.height);
                        assert!(String::from_utf8_lossy(&cached.block.events).contains(&expected));
                    }
                    Entry::Gap { .. } => self.missing.extend(first_height..=entry.last_height()),
                }
                self.read.push((first_height, entry.last_height()));
                self.next_height = entry.last_height() + 1;
            }
            self.ticket.progress(self.next_height);
            return Ok(());
        }
        match self.ticket.state() {
            TicketState::GivenUp => {
                let claim = self.ticket.claim();
                self.ticket = self.tickets.issue(self.next_height, claim).expect("a stream");
                self.turns += 1;
            }
            state @ TicketState::NotAvailable { .. } => return Err(state),
            TicketState::Waiting | TicketState::Reading => moved.moved().await,
        }
        Ok(())
    }
}
