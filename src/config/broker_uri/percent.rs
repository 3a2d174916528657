//! Percent-encoding, as strict as a URI of a broker needs it.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

use super::error::UriError;

/// Every `%` begins two hex digits, unlike what the decoder itself takes.
pub fn decoded(text: &str) -> Result<Cow<'_, str>, UriError> {
    let is_escape = |rest: &str| {
        let digits = rest.as_bytes().get(..2);
        digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    };
    if text.split('%').skip(1).any(|rest| !is_escape(rest)) {
        return Err(UriError::Percent);
    }
    let decoded = percent_decode_str(text).decode_utf8().map_err(|_| UriError::NotUtf8)?;
    match decoded.contains('\0') {
        true => Err(UriError::Nul),
        // What a source that is not UTF-8 leaves in a text.
        false if decoded.contains(char::REPLACEMENT_CHARACTER) => Err(UriError::NotUtf8),
        false => Ok(decoded),
    }
}
