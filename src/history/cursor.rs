//! Cursors: places in a history, and what may become of one.

/// A place in a history: the height that comes next, of one chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor {
    pub next_height: u64,
    pub(super) chain: u64,
}

/// How far a cursor is behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Lag {
    /// Entries from the cursor to the tip, the cursor's own included; 0 at the end.
    pub blocks_behind: usize,
    /// Gaps' heights that were filled since this chain began; see [`super::History::fills_after`].
    pub fills: u64,
}

/// Where a height lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Placed {
    /// In the history, or what comes next.
    At(Cursor),
    /// Further up than what comes next.
    Ahead { tip: u64 },
    /// Below all that is here.
    Below { first_height: u64 },
    /// Nothing is here yet to tell.
    Unknown,
}

/// Why a cursor cannot be served any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gone {
    /// What comes next for it has left the history.
    FellOff,
    /// The history was emptied for another chain.
    AnotherChain,
}

impl Cursor {
    /// The same chain, further on.
    pub fn at(self, next_height: u64) -> Self {
        Self { next_height, ..self }
    }
}
