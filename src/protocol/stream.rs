//! The two streams of the API.

/// Which of the two streams a client reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// One message per transaction.
    Transactions,
    /// One message per block.
    Blocks,
}
