//! A block's height: what counts as one.

use crate::metrics::DecodeErrorKind;
use crate::protocol::HEIGHT_MAX;

use super::error::DecodeError;

/// A value as it stands in a message.
#[derive(Debug, Clone, Copy)]
pub(super) struct Raw<'a> {
    pub text: &'a str,
    /// The byte of what is read at which it begins.
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
