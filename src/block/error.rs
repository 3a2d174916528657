//! Why a body is not a block, for the operator who finds it among the dead letters.

use serde_json::error::Category;

use crate::metrics::DecodeErrorKind;
use crate::packing::UnpackError;

/// Of a message at most this many characters are kept: a value quoted in it may be the whole body.
const MESSAGE_CHARS_MAX: usize = 200;

/// What is wrong with a body, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}{}", byte.map(|byte| format!(", near byte {byte}")).unwrap_or_default())]
pub struct DecodeError {
    pub kind: DecodeErrorKind,
    message: Box<str>,
    /// Of the text that was read, or, once it is placed, of the body.
    byte: Option<usize>,
}

impl DecodeError {
    pub(super) fn new(kind: DecodeErrorKind, message: String) -> Self {
        Self { kind, message: clipped(message).into(), byte: None }
    }

    pub(super) fn shape(message: impl Into<String>) -> Self {
        Self::new(DecodeErrorKind::WrongShape, message.into())
    }

    /// An error of `serde_json` in `text`, which is part of what is read and begins at its byte `at`.
    /// `place` says in which transaction and key, or is empty.
    pub(super) fn json(error: &serde_json::Error, text: &str, at: usize, place: &str) -> Self {
        let kind = match error.classify() {
            Category::Data => DecodeErrorKind::WrongShape,
            Category::Syntax | Category::Eof | Category::Io => DecodeErrorKind::NotJson,
        };
        let position = format!(" at line {} column {}", error.line(), error.column());
        let what = error.to_string();
        let what = clipped(what.strip_suffix(&position).unwrap_or(&what).to_owned());
        let byte = at + offset(text, error.line(), error.column());
        Self { byte: Some(byte), ..Self::new(kind, format!("{place}{what}")) }
    }

    /// The same with its byte counted from the body's first: what `place` makes of it.
    pub(super) fn placed(self, place: impl FnOnce(usize) -> usize) -> Self {
        Self { byte: self.byte.map(place), ..self }
    }

    /// The same, for a text that has words of Python's for numbers: with the word where the message
    /// quotes the number that it was spelled as. `words` has each word with that number.
    pub(super) fn of_spelled(self, original: &str, words: &[(&str, &str)]) -> Self {
        let is_quoted = |number| self.message.contains(number) && !original.contains(number);
        let message = match words.iter().find(|(_, number)| is_quoted(*number)) {
            Some((word, number)) => self.message.replace(number, word),
            None => {
                format!("{} (NaN and Infinity are read as numbers out of range)", self.message)
            }
        };
        Self { message: message.into(), ..self }
    }
}

impl From<UnpackError> for DecodeError {
    fn from(error: UnpackError) -> Self {
        let kind = match &error {
            UnpackError::UnknownEncoding(_) => DecodeErrorKind::UnknownEncoding,
            UnpackError::Corrupt { .. } => DecodeErrorKind::CorruptEncoding,
            UnpackError::TooLarge { .. } => DecodeErrorKind::TooLarge,
            UnpackError::Sections(_) => DecodeErrorKind::AmqpValue,
        };
        Self::new(kind, error.to_string())
    }
}

/// The offset of a position as `serde_json` gives it: the line from 1, the column in bytes from 1.
fn offset(text: &str, line: usize, column: usize) -> usize {
    let before: usize = text.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum();
    before + column.saturating_sub(1)
}

fn clipped(mut message: String) -> String {
    if let Some((end, _)) = message.char_indices().nth(MESSAGE_CHARS_MAX) {
        message.truncate(end);
        message.push_str("...");
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn position_is_counted_in_bytes_of_the_body() {
        let text = "{\"a\": 1,\n \"ü\" 2}";
        let error = serde_json::from_str::<serde::de::IgnoredAny>(text).expect_err("no colon");
        let error = DecodeError::json(&error, text, 100, "here: ");
        assert_eq!(error.to_string(), "here: expected `:`, near byte 115");
        assert_eq!(error.kind, DecodeErrorKind::NotJson);
    }

    #[test]
    fn long_message_is_clipped_between_characters() {
        let error = DecodeError::shape("ü".repeat(10_000));
        assert_eq!(error.to_string(), "ü".repeat(MESSAGE_CHARS_MAX) + "...");
    }
}
