//! A message's height looked up, or exchanged for another, with everything else as it is.

use super::envelope::{Envelope, Marked};
use super::height::{HEIGHT_MAX, Raw, bad, parse};
use super::{DecodeError, text_of};

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

fn raw_height(body: &str) -> Result<Raw<'_>, DecodeError> {
    let outer = Envelope::read(body, 0, None)?;
    match outer.marked()? {
        Marked::Plain => outer.raw_height(),
        Marked::Valid { data, at } => Envelope::read(data, at, None)?.raw_height(),
        Marked::Invalid => Err(bad("the block is marked invalid".to_owned())),
    }
}
