//! The text that a body is, before anything in it is read.

use super::error::DecodeError;
use crate::byte_order_mark;
use crate::metrics::DecodeErrorKind;

/// What a gzip file begins with; see RFC 1952.
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];
const GZIP_HINT: &str = "; it begins like gzip, which its message's content_encoding must say";

/// A body's text without its byte order mark, and the byte at which that begins.
pub fn text_of(body: &[u8]) -> Result<(&str, usize), DecodeError> {
    let text = byte_order_mark::skipped(body);
    let at = body.len() - text.len();
    let text = std::str::from_utf8(text).map_err(|error| {
        let hint = if body.starts_with(&GZIP_MAGIC) { GZIP_HINT } else { "" };
        let what = format!("not UTF-8 at byte {}{hint}", at + error.valid_up_to());
        DecodeError::new(DecodeErrorKind::NotUtf8, what)
    })?;
    Ok((text, at))
}
