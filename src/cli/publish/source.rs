//! Where blocks come from: lines or a node. The publication does not tell them apart.

use anyhow::Result;

use super::blocks::{BlockMessage, BlockReader};
use super::follow::Follower;

pub enum BlockSupply {
    Lines(BlockReader),
    Node(Follower),
}

impl BlockSupply {
    /// The next block to publish; `None` at the end.
    ///
    /// # Errors
    /// There will be no more: what was taken before is still to be confirmed.
    ///
    /// # Cancel safety
    /// Nothing is lost: what was begun is kept for the next call.
    pub async fn next(&mut self) -> Result<Option<BlockMessage>> {
        match self {
            Self::Lines(blocks) => blocks.next().await,
            Self::Node(follower) => follower.next().await,
        }
    }
}
