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

#[cfg(test)]
pub mod testing;
#[cfg(test)]
mod tests;
