//! Copies that a queue's broker handed over again while their blocks still wait.
//!
//! In `queue` mode a block that waits for a missing height is not settled yet. When the connection is
//! lost meanwhile, its delivery can never be settled, and the broker hands over a copy on the next
//! connection. The copy is settled together with the block that waits.
//!
//! A pure state machine: no clock, and a delivery is opaque.

use std::collections::BTreeMap;

use crate::config::QueueMode;

/// The copies, by height: at most one per waiting block, so `amqp.prefetch` bounds them.
#[derive(Debug)]
pub struct RedeliveredCopies<D> {
    mode: QueueMode,
    copies: BTreeMap<u64, D>,
}

/// The delivery of a block that is known already.
#[derive(Debug)]
pub struct DuplicateDelivery<D> {
    pub height: u64,
    /// Set when the broker may have handed it over before.
    pub is_redelivered: bool,
    pub delivery: D,
}

impl<D> RedeliveredCopies<D> {
    pub fn new(mode: QueueMode) -> Self {
        Self { mode, copies: BTreeMap::new() }
    }

    /// Keeps a duplicate that is a copy of a waiting block. Blocks from `next_height` on wait; all
    /// wait while it is none.
    ///
    /// Returns the delivery to settle now: the duplicate if it is not kept, or the copy that was kept
    /// before for its height. That one is of an older connection, or a plain duplicate.
    pub fn keep(&mut self, duplicate: DuplicateDelivery<D>, next_height: Option<u64>) -> Option<D> {
        let DuplicateDelivery { height, is_redelivered, delivery } = duplicate;
        let is_waiting = next_height.is_none_or(|next_height| next_height <= height);
        match self.mode == QueueMode::Queue && is_redelivered && is_waiting {
            true => self.copies.insert(height, delivery),
            false => Some(delivery),
        }
    }

    /// Takes the copy out that is to be settled with the block of this height.
    pub fn take(&mut self, height: u64) -> Option<D> {
        self.copies.remove(&height)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn copy(height: u64, name: &str) -> DuplicateDelivery<&str> {
        DuplicateDelivery { height, is_redelivered: true, delivery: name }
    }

    #[test]
    fn only_a_redelivered_copy_of_a_waiting_block_of_a_queue_is_kept() {
        use QueueMode::{Queue, Stream};
        for (mode, is_redelivered, next_height, is_kept) in [
            (Queue, true, Some(4), true),
            (Queue, true, Some(5), true),
            (Queue, true, None, true),
            // Published already: its first delivery is settled.
            (Queue, true, Some(6), false),
            (Queue, false, Some(4), false),
            (Queue, false, None, false),
            // A stream's delivery is settled when it is taken.
            (Stream, true, Some(4), false),
            (Stream, true, None, false),
        ] {
            let case = format!("{mode:?}, {is_redelivered}, {next_height:?}");
            let mut copies = RedeliveredCopies::new(mode);
            let duplicate = DuplicateDelivery { is_redelivered, ..copy(5, "copy") };
            let settled = copies.keep(duplicate, next_height);
            assert_eq!(settled, (!is_kept).then_some("copy"), "{case}");
            assert_eq!(copies.take(5), is_kept.then_some("copy"), "{case}");
        }
    }

    #[test]
    fn each_copy_is_settled_once_the_last_one_with_its_block() {
        let mut copies = RedeliveredCopies::new(QueueMode::Queue);
        assert_eq!(copies.keep(copy(5, "of the second connection"), Some(4)), None);
        assert_eq!(copies.keep(copy(6, "another height"), Some(4)), None);
        let older = copies.keep(copy(5, "of the third connection"), Some(4));
        assert_eq!(older, Some("of the second connection"));
        assert_eq!(copies.take(4), None);
        assert_eq!(copies.take(5), Some("of the third connection"));
        assert_eq!(copies.take(5), None);
        assert_eq!(copies.take(6), Some("another height"));
    }
}
