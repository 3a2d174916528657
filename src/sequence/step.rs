//! What goes into the sequencer and what comes out. Plain values; nothing is decided here.

use crate::block::BlockContent;

/// A block that came.
#[derive(Debug)]
pub struct OfferedBlock<T> {
    pub height: u64,
    pub content: BlockContent,
    /// What it takes while it waits.
    pub bytes: u64,
    pub item: T,
}

/// What the caller does, in this order. Each offered item comes back in exactly one step.
#[derive(Debug, PartialEq, Eq)]
pub enum Step<T> {
    /// Append at the end. Heights rise from one to the next.
    Publish { height: u64, item: T },
    /// Put into its place in a known gap (`sparse`: between two blocks).
    Fill { height: u64, item: T },
    /// Append a gap: these heights, both ends included, are given up, though a fill may come later.
    Gap { from_height: u64, to_height: u64, cause: GapCause },
    /// The same block again.
    Duplicate { item: T },
    /// Other content for a height that is taken; the one taken first stays. `in_a_row` counts from
    /// 1, until something new or a duplicate comes.
    Conflict { height: u64, item: T, in_a_row: u32 },
    /// Below the beginning, or no longer in the history.
    Old { item: T },
    /// A height far above the others that nothing confirmed: bad input.
    Implausible { height: u64, item: T },
    /// The one block published so far was a mistake, since another chain of heights, far below, came
    /// and nothing followed it: empty the history. What follows begins it anew.
    StartOver,
}

/// Why missing heights are given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GapCause {
    /// A block behind them has waited for `blocks.hold`.
    HoldOver,
    /// What waits would exceed `blocks.hold_bytes`.
    HoldBytes,
    /// Nothing waits during warm-up.
    WarmUp,
}
