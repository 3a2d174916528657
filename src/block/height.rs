//! A block's height: what counts as one, and where it stands in a message.

use crate::metrics::DecodeErrorKind;

use super::envelope::{Envelope, Marked};
use super::{DecodeError, text_of};

/// Heights are signed 64-bit integers in Tendermint.
pub const HEIGHT_MAX: u64 = i64::MAX as u64;

/// The height of a message of either shape. Only looks for it: the message may be bad otherwise.
pub fn height_of(body: &[u8]) -> Option<u64> {
    let raw = raw_height(text_of(body).ok()?).ok()?;
    parse(raw.text).ok()
}

/// The same message with another height, in the old one's form (number or string), all else byte for
/// byte.
///
/// # Errors
/// The message has no height that could be exchanged, or `height` is above [`HEIGHT_MAX`].
pub fn with_height(body: &[u8], height: u64) -> Result<Vec<u8>, DecodeError> {
    if height > HEIGHT_MAX {
        return Err(bad(format!("the height {height} is above {HEIGHT_MAX}")));
    }
    let raw = raw_height(text_of(body)?)?;
    let text = match raw.text.starts_with('"') {
        true => format!("\"{height}\""),
        false => height.to_string(),
    };
    let (before, after) = (&body[..raw.at], &body[raw.at + raw.text.len()..]);
    Ok([before, text.as_bytes(), after].concat())
}

/// A value as it stands in a message.
#[derive(Debug, Clone, Copy)]
pub(super) struct Raw<'a> {
    pub text: &'a str,
    /// The byte of the body at which it begins.
    pub at: usize,
}

/// An integer from 0 to [`HEIGHT_MAX`], or a string of one: digits only, no leading zero.
pub(super) fn parse(raw: &str) -> Result<u64, DecodeError> {
    let unescaped;
    let decimal = match raw.starts_with('"') {
        true => {
            unescaped = serde_json::from_str::<String>(raw).unwrap_or_default();
            &unescaped
        }
        false => raw,
    };
    let canonical = decimal.bytes().all(|byte| byte.is_ascii_digit())
        && (decimal == "0" || !decimal.starts_with('0'));
    let height = canonical.then(|| decimal.parse().ok()).flatten();
    height
        .filter(|height| *height <= HEIGHT_MAX)
        .ok_or_else(|| bad(format!("`height` is no integer from 0 to 2^63 - 1: {raw}")))
}

pub(super) fn bad(what: String) -> DecodeError {
    DecodeError::new(DecodeErrorKind::BadHeight, what)
}

fn raw_height(body: &str) -> Result<Raw<'_>, DecodeError> {
    let outer = Envelope::read(body, 0, None)?;
    match outer.marked()? {
        Marked::Plain => outer.raw_height(),
        Marked::Valid { data, at } => Envelope::read(data, at, None)?.raw_height(),
        Marked::Invalid => Err(bad("the block is marked invalid".to_owned())),
    }
}
