//! A place in a stream, as it stands in a URL.

use std::fmt;
use std::str::FromStr;

use crate::secret;

/// Heights are signed 64-bit integers in Tendermint.
const HEIGHT_MAX: u64 = i64::MAX as u64;
/// SHA3-256 in hex: what a transaction's id is.
const ID_DIGITS: usize = 64;

/// A place in a stream: behind a whole block, or behind one of its events.
///
/// Good on every replica that streams the same chain. Written as the value of the URL parameter
/// `after`: `42` (behind block 42), `42.7` (behind the event with index 7, from 0, counted over all
/// events of the block) or `42.<64 hex digits>` (behind that transaction's event).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Cursor {
    height: u64,
    within: Option<Within>,
}

/// The event that a place inside a block is behind.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Within {
    Index(u64),
    Transaction(Box<str>),
}

/// A text that is no [`Cursor`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is no cursor: write a height (42), a height and an index (42.7), or a height and a transaction id of 64 hex digits"
)]
pub struct CursorError {
    text: String,
}

impl Cursor {
    /// Behind the whole of block `height`.
    pub fn after_block(height: u64) -> Self {
        Self { height, within: None }
    }

    /// Behind the event at `index` of block `height`, from 0, over all events of the block.
    pub fn after_event(height: u64, index: u64) -> Self {
        Self { height, within: Some(Within::Index(index)) }
    }

    pub(super) fn new(height: u64, within: Option<Within>) -> Self {
        Self { height, within }
    }

    /// The block that it is behind, or in.
    pub fn height(&self) -> u64 {
        self.height
    }

    /// Whether it is behind a whole block. Places to remember: an event's place is good too, but
    /// there are many of them.
    pub fn is_block_end(&self) -> bool {
        self.within.is_none()
    }

    pub(super) fn within(&self) -> Option<&Within> {
        self.within.as_ref()
    }
}

impl Within {
    /// The place behind a transaction, if its id is of the form that a URL can name.
    pub fn transaction(id: &str) -> Option<Self> {
        let is_id = id.len() == ID_DIGITS && id.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_id.then(|| Self::Transaction(id.into()))
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.within {
            None => write!(f, "{}", self.height),
            Some(Within::Index(index)) => write!(f, "{}.{index}", self.height),
            Some(Within::Transaction(id)) => write!(f, "{}.{id}", self.height),
        }
    }
}

impl FromStr for Cursor {
    type Err = CursorError;

    fn from_str(text: &str) -> Result<Self, CursorError> {
        let error = || CursorError { text: secret::excerpt(text) };
        let (height, within) = match text.split_once('.') {
            Some((height, within)) => (height, Some(within)),
            None => (text, None),
        };
        let height = digits(height).ok_or_else(error)?;
        let within = match within {
            None => None,
            Some(within) => Some(
                Within::transaction(within)
                    .or_else(|| digits(within).map(Within::Index))
                    .ok_or_else(error)?,
            ),
        };
        Ok(Self { height, within })
    }
}

/// An integer from 0 to 2^63 - 1, digits only.
pub(super) fn digits(text: &str) -> Option<u64> {
    let is_decimal = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|number| is_decimal && *number <= HEIGHT_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_read_as_it_is_written() {
        let id = "0123456789abcdef".repeat(4);
        for (text, cursor) in [
            ("0".to_owned(), Cursor::after_block(0)),
            ("9223372036854775807".to_owned(), Cursor::after_block(HEIGHT_MAX)),
            ("42.7".to_owned(), Cursor::after_event(42, 7)),
            (format!("42.{id}"), Cursor::new(42, Within::transaction(&id))),
            (
                format!("42.{}", "1".repeat(64)),
                Cursor::new(42, Within::transaction(&"1".repeat(64))),
            ),
        ] {
            assert_eq!(text.parse(), Ok(cursor.clone()));
            assert_eq!(cursor.to_string(), text);
            assert_eq!(cursor.is_block_end(), !text.contains('.'));
        }
    }

    #[test]
    fn what_is_no_place_is_refused() {
        for text in ["", ".", "42.", ".7", "+42", "-1", "42.-7", "42.7.1", "9223372036854775808"] {
            let told = text.parse::<Cursor>().expect_err(text).to_string();
            assert!(told.starts_with(&format!("{text:?} is no cursor")), "{told}");
        }
        assert!(format!("42.{}", "g".repeat(64)).parse::<Cursor>().is_err());
        assert!(format!("42.{}", "a".repeat(63)).parse::<Cursor>().is_err());
    }
}
