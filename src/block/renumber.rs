//! A message's height looked up, or exchanged for another, with everything else as it is.

use std::ops::Range;

use super::bare;
use super::envelope::{Envelope, Marked};
use super::error::DecodeError;
use super::height::{Raw, bad, parse};
use super::text::text_of;
use crate::protocol::HEIGHT_MAX;

/// A message's height where it stands.
struct FoundHeight {
    height: Result<u64, DecodeError>,
    is_text: bool,
    /// Its bytes of the body.
    bytes: Range<usize>,
}

/// The height of a message of either shape. Only looks for it: the message may be bad otherwise.
pub fn height_of(body: &[u8]) -> Option<u64> {
    find(body).ok()?.height.ok()
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
    let found = find(body)?;
    let text = match found.is_text {
        true => format!("\"{height}\""),
        false => height.to_string(),
    };
    let (before, after) = (&body[..found.bytes.start], &body[found.bytes.end..]);
    Ok([before, text.as_bytes(), after].concat())
}

fn find(body: &[u8]) -> Result<FoundHeight, DecodeError> {
    let (text, at) = text_of(body)?;
    bare::read(text, at, |text, places| {
        let outer = Envelope::read(text, 0, None)?;
        let raw = match outer.marked()? {
            Marked::Plain => outer.raw_height(),
            Marked::Valid { data, at } => Envelope::read(data, at, None)?.raw_height(),
            Marked::Invalid => Err(bad("the block is marked invalid".to_owned())),
        };
        let Raw { text, at } = raw?;
        let bytes = places.of(at)..places.of(at + text.len());
        Ok(FoundHeight { height: parse(text), is_text: text.starts_with('"'), bytes })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::DecodeErrorKind;

    #[test]
    fn height_is_exchanged_and_nothing_else() {
        for (body, expected) in [
            (
                r#"{"x": "\ud800", "height" : 5 , "transactions": "?"}"#,
                r#"{"x": "\ud800", "height" : 77 , "transactions": "?"}"#,
            ),
            (r#"{"height":"5"}"#, r#"{"height":"77"}"#),
            (
                r#"{"data": {"a": {"height": 1}, "height": null}, "type": 1}"#,
                r#"{"data": {"a": {"height": 1}, "height": 77}, "type": 1}"#,
            ),
            (
                "\u{feff}{\"x\": [NaN, Infinity, NaN], \"height\": \"5\", \"y\": NaN}",
                "\u{feff}{\"x\": [NaN, Infinity, NaN], \"height\": \"77\", \"y\": NaN}",
            ),
            (r#"{"x": NaN, "height": NaN, "y": NaN}"#, r#"{"x": NaN, "height": 77, "y": NaN}"#),
        ] {
            let made = with_height(body.as_bytes(), 77).expect(body);
            assert_eq!(String::from_utf8(made).as_deref(), Ok(expected));
        }
        for body in
            [r#"{"transactions": []}"#, r#"{"height": 5, "height": 5}"#, r#"{"type": 2}"#, "5"]
        {
            assert!(with_height(body.as_bytes(), 77).is_err(), "{body}");
        }
        let error = with_height(br#"{"height": 5}"#, HEIGHT_MAX + 1).expect_err("too high");
        assert_eq!(error.kind, DecodeErrorKind::BadHeight);
    }
}
