//! A block encoded once into shared bytes: what every session writes, with the offsets to cut it.
//!
//! Frames from a server are not masked (RFC 6455 section 5.1), so they are the same for every
//! client. Nothing here knows who reads them.

mod encoded;
mod encoding;
mod header;

pub use encoded::{EncodedBlock, encode};
pub use encoding::{
    Encoding, Framing, GZIP_HEADER, MessageRun, SEPARATOR, batch_head, batch_tail, encode_as,
    gzip_stored, sse_message, text_frame,
};

/// Blocks for the tests of other rooms.
#[cfg(test)]
pub mod sample {
    use super::*;
    use crate::block::{DecodeRules, Decoded, decode};
    use crate::config::Dialect;

    /// A block of `events` transactions, encoded.
    pub fn block(height: u64, events: u64) -> EncodedBlock {
        let ids = (0..events).map(|index| format!("{{\"id\": \"{index:064x}\"}}"));
        let transactions = ids.collect::<Vec<_>>().join(",");
        let body = format!("{{\"height\": {height}, \"transactions\": [{transactions}]}}");
        let dialect = Dialect::Bigchaindb;
        let rules =
            DecodeRules { dialect, body_bytes_max: usize::MAX, encoded_bytes_max: u64::MAX };
        match decode(body.as_bytes(), &rules) {
            Ok(Decoded::Block(block)) => encode(block, dialect),
            other => panic!("a block was due: {other:?}"),
        }
    }
}

#[cfg(test)]
mod tests;
