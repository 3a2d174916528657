//! Blocks for the tests of other rooms.

use super::*;
use crate::block::{DecodeRules, Decoded, decode};
use crate::config::Dialect;

/// A block of `events` transactions, encoded.
pub fn block(height: u64, events: u64) -> EncodedBlock {
    let ids = (0..events).map(|index| format!("{{\"id\": \"{index:064x}\"}}"));
    let transactions = ids.collect::<Vec<_>>().join(",");
    encoded(&format!("{{\"height\": {height}, \"transactions\": [{transactions}]}}"))
}

/// The block in this body, encoded.
pub fn encoded(body: &str) -> EncodedBlock {
    let dialect = Dialect::Bigchaindb;
    let rules = DecodeRules { dialect, body_bytes_max: usize::MAX, encoded_bytes_max: u64::MAX };
    match decode(body.as_bytes(), &rules) {
        Ok(Decoded::Block(block)) => encode(block, dialect),
        other => panic!("a block was due: {other:?}"),
    }
}
