//! What a message body comes to: a block, as far as this service needs it.

use super::content::{BlockContent, digest};
use super::fields::Fields;

/// A committed block, as far as events and filters need it.
#[derive(Debug, Clone, PartialEq)]
pub struct Block {
    /// At most [`HEIGHT_MAX`](crate::protocol::HEIGHT_MAX).
    pub height: u64,
    pub hash: Option<Box<str>>,
    pub fields: Fields,
}

impl Block {
    /// Enough to tell a duplicate from a conflict.
    pub fn content(&self) -> BlockContent {
        BlockContent::from_ids(self.ids(), self.hash.as_deref())
    }

    /// The same for copies of a block with the same events in the same order. It means nothing to another
    /// process.
    pub fn digest(&self) -> u64 {
        digest(self.ids(), self.hash.as_deref())
    }

    fn ids(&self) -> impl Iterator<Item = &str> {
        (0..self.fields.len()).map(|index| self.fields.transaction_id(index))
    }

    /// The memory it takes, itself included.
    pub fn bytes(&self) -> usize {
        size_of::<Self>() + self.hash.as_ref().map_or(0, |hash| hash.len()) + self.fields.bytes()
    }
}
