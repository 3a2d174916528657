//! A place in the chain that a URL can name.

use std::fmt;
use std::str::FromStr;

use super::number::{height, number};
use crate::secret;

/// SHA3-256 in hexadecimal digits: what a transaction's id is.
pub(super) const ID_DIGITS: usize = 64;

/// A place in the chain: behind a whole block, or behind one of its events.
///
/// Good on every replica that streams the same chain. Written as the value of the URL parameter
/// `after`: `42` (behind block 42), `42.7` (behind the event with index 7, from 0, counted over all
/// events of the block) or `42.<64 hex digits>` (behind that transaction's event).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Position {
    height: u64,
    within: Option<Within>,
}

/// The event that a position inside a block is behind.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Within {
    /// From 0, over all events of the block.
    Index(u64),
    /// 64 hexadecimal digits in lower case.
    Transaction(Box<str>),
}

/// A text that is no [`Position`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is no cursor: write a height (42), a height and an index (42.7), or a height and a transaction id of 64 hex digits"
)]
pub struct PositionError {
    text: String,
}

impl Position {
    /// Behind the whole of block `height`.
    pub fn after_block(height: u64) -> Self {
        Self { height, within: None }
    }

    /// Behind the event at `index` of block `height`, from 0, over all events of the block.
    pub fn after_event(height: u64, index: u64) -> Self {
        Self { height, within: Some(Within::Index(index)) }
    }

    /// Behind an event of block `height`, or without one behind the whole block.
    pub fn new(height: u64, within: Option<Within>) -> Self {
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

    /// The event that it is behind; None: it is behind the whole block.
    pub fn within(&self) -> Option<&Within> {
        self.within.as_ref()
    }
}

impl Within {
    /// The place behind a transaction. None for an id that no URL can name: one of other digits, or in
    /// upper case, which a URL's reader takes for the same in lower case.
    pub fn transaction(id: &str) -> Option<Self> {
        let is_digit = |byte: u8| byte.is_ascii_digit() || matches!(byte, b'a'..=b'f');
        let is_id = id.len() == ID_DIGITS && id.bytes().all(is_digit);
        is_id.then(|| Self::Transaction(id.into()))
    }

    fn parse(text: &str) -> Option<Self> {
        match text.len() {
            ID_DIGITS => Self::transaction(&text.to_ascii_lowercase()),
            _ => number(text).map(Self::Index),
        }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.within {
            None => write!(f, "{}", self.height),
            Some(Within::Index(index)) => write!(f, "{}.{index}", self.height),
            Some(Within::Transaction(id)) => write!(f, "{}.{id}", self.height),
        }
    }
}

impl FromStr for Position {
    type Err = PositionError;

    fn from_str(text: &str) -> Result<Self, PositionError> {
        let position = match text.split_once('.') {
            None => height(text).map(Self::after_block),
            Some((block, within)) => height(block)
                .zip(Within::parse(within))
                .map(|(height, within)| Self::new(height, Some(within))),
        };
        position.ok_or_else(|| PositionError { text: secret::excerpt(text) })
    }
}

#[cfg(test)]
pub mod tests {
    use super::super::HEIGHT_MAX;
    use super::*;
    use proptest::prelude::*;

    /// Any position that can be written.
    pub fn any_position() -> impl Strategy<Value = Position> {
        let within = prop_oneof![
            Just(None),
            any::<u64>().prop_map(|index| Some(Within::Index(index))),
            "[0-9a-f]{64}".prop_map(|id| Within::transaction(&id)),
        ];
        (0..=HEIGHT_MAX, within).prop_map(|(height, within)| Position::new(height, within))
    }

    proptest! {
        #[test]
        fn a_position_is_read_as_it_is_written(position in any_position()) {
            prop_assert_eq!(position.to_string().parse(), Ok(position.clone()));
            prop_assert_eq!(position.is_block_end(), position.within().is_none());
        }
    }

    #[test]
    fn every_form_is_read_as_it_is_written() {
        let id = "0123456789abcdef".repeat(4);
        for (text, position) in [
            ("0".to_owned(), Position::after_block(0)),
            ("9223372036854775807".to_owned(), Position::after_block(HEIGHT_MAX)),
            ("42.7".to_owned(), Position::after_event(42, 7)),
            (format!("42.{id}"), Position::new(42, Within::transaction(&id))),
            (
                format!("42.{}", "1".repeat(64)),
                Position::new(42, Within::transaction(&"1".repeat(64))),
            ),
        ] {
            assert_eq!(text.parse(), Ok(position.clone()));
            assert_eq!(position.to_string(), text);
            assert_eq!(position.is_block_end(), !text.contains('.'));
        }
    }

    #[test]
    fn what_is_no_place_is_refused() {
        for text in ["", ".", "42.", ".7", "+42", "-1", "42.-7", "42.7.1", "9223372036854775808"] {
            let told = text.parse::<Position>().expect_err(text).to_string();
            assert!(told.starts_with(&format!("{text:?} is no cursor")), "{told}");
        }
        assert!(format!("42.{}", "g".repeat(64)).parse::<Position>().is_err());
        assert!(format!("42.{}", "a".repeat(63)).parse::<Position>().is_err());
    }

    #[test]
    fn an_id_in_upper_case_is_read_as_the_same_in_lower_case_and_never_written() {
        let read: Position = format!("42.{}", "AB".repeat(32)).parse().expect("a position");
        assert_eq!(read.to_string(), format!("42.{}", "ab".repeat(32)));
        assert_eq!(Within::transaction(&"AB".repeat(32)), None);
    }
}
