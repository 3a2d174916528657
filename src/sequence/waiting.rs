//! A block that waits to be published or believed.

use std::time::Instant;

use super::step::OfferedBlock;

/// A block that waits, and since when.
#[derive(Debug)]
pub(super) struct WaitingBlock<T> {
    pub offer: OfferedBlock<T>,
    pub arrived: Instant,
}
