//! A client's place in the chain: the block that comes next for it, what it has of the block that it began
//! in, and where it has enough. Pure.

use crate::history::Cursor;
use crate::protocol::{Position, Start};

/// A cursor on a history, of one client.
#[derive(Debug, Clone, Copy)]
pub struct SessionCursor {
    /// The block under way, or the one to come.
    next: Cursor,
    /// The block that the client began in, and its events that the client had already.
    begun: (u64, u32),
    /// The last block that is wanted.
    until_height: Option<u64>,
}

/// What the first messages of a block have told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Told {
    #[default]
    Nothing,
    /// All that is wanted up to this event.
    To(u32),
    All,
}

impl SessionCursor {
    pub fn new(next: Cursor, until_height: Option<u64>) -> Self {
        Self { next, begun: (0, 0), until_height }
    }

    /// As a history knows it.
    pub fn next(&self) -> Cursor {
        self.next
    }

    pub fn next_height(&self) -> u64 {
        self.next.next_height
    }

    pub fn until_height(&self) -> Option<u64> {
        self.until_height
    }

    /// Begins `events_before` events into its block; only before anything of a block went out.
    pub fn begin_at(&mut self, next: Cursor, events_before: u32) {
        self.next = next;
        self.begun = (next.next_height, events_before);
    }

    pub fn move_to(&mut self, next_height: u64) {
        self.next = self.next.at(next_height);
    }

    /// Events of the block at `height` that the client had before it came.
    pub fn events_before(&self, height: u64) -> u32 {
        if self.begun.0 == height { self.begun.1 } else { 0 }
    }

    /// Events of the first block that the client had already.
    pub fn events_before_start(&self) -> u64 {
        u64::from(self.begun.1)
    }

    /// Whether nothing from `height` on is wanted.
    pub fn ends_before(&self, height: u64) -> bool {
        self.until_height.is_some_and(|until| until < height)
    }

    /// Whether the client has every block that it wants.
    pub fn is_over(&self) -> bool {
        self.ends_before(self.next_height())
    }

    /// Where this client goes on when `told` of the block under way has been told.
    pub fn position(&self, told: Told) -> Start {
        let next = self.next_height();
        let told = match (told, self.begun) {
            (Told::Nothing, (height, events @ 1..)) if height == next => Told::To(events - 1),
            (told, _) => told,
        };
        match (next, told) {
            (0, Told::Nothing) => Start::Oldest,
            (next, Told::Nothing) => Start::After(Position::after_block(next - 1)),
            (next, Told::To(event)) => Start::After(Position::after_event(next, event.into())),
            (next, Told::All) => Start::After(Position::after_block(next)),
        }
    }
}
