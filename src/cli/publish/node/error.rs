//! Why a node did not give a block.

use std::time::Duration;

use hyper::StatusCode;

use crate::block::DecodeError;

/// All but [`NodeError::is_final`] may pass: the caller asks again.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    #[error("{url}: no answer: {source}")]
    Unreachable { url: String, source: hyper_util::client::legacy::Error },
    #[error("{url}: the node's certificate is not trusted ({why}); --ca FILE names its authority")]
    Untrusted { url: String, why: String },
    #[error("{url}: the answer broke off: {source}")]
    BrokeOff { url: String, source: hyper::Error },
    #[error("{url}: no answer within {within:?}")]
    Slow { url: String, within: Duration },
    #[error("{url}: answered {status}{hint}")]
    Status { url: String, status: StatusCode, hint: &'static str },
    /// `bytes`: of this answer, where the node says it before.
    #[error("{url}: the block has {} bytes, more than {bytes_max}", shown(*bytes))]
    TooLong { url: String, bytes: Option<u64>, bytes_max: usize },
    #[error("{url}: the answer is no block{}{why}", if why.is_empty() { "" } else { ": " })]
    NoBlock { url: String, why: String },
    #[error("{url}: the answer is block {height}, which was not asked for")]
    OtherHeight { url: String, height: u64 },
    /// The right height, and yet nothing that a replica could stream.
    #[error("{url}: no replica could read block {height}: {why}")]
    Unreadable { url: String, height: u64, why: DecodeError },
    /// A block lists it.
    #[error(
        "{url}: the node does not have this transaction, which a block of its own lists (--skip-missing or --from-height goes on without the block)"
    )]
    NoTransaction { url: String },
    #[error("{url}: the transactions are not those that the block lists")]
    OtherTransactions { url: String },
}

impl NodeError {
    /// Whether the same block would fail in the same way for ever.
    pub fn is_final(&self) -> bool {
        matches!(self, Self::TooLong { .. } | Self::Unreadable { .. })
    }
}

fn shown(bytes: Option<u64>) -> String {
    bytes.map_or_else(|| "too many".to_owned(), |bytes| bytes.to_string())
}
