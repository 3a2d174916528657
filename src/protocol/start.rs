//! Where a client begins, as a URL's query or a browser's `Last-Event-ID` says it.

use std::str::FromStr;

use super::number::{height, number};
use super::parameter::{AFTER, FROM_HEIGHT, QueryError};
use super::position::{Position, Within};
use super::stream::Stream;

const LAST_EVENT_ID: &str = "Last-Event-ID";
const OLDEST: &str = "oldest";
const LATEST: &str = "latest";

/// Where a stream begins.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Start {
    /// With the first block committed from now on.
    #[default]
    Live,
    /// With the newest block there is.
    Latest,
    /// With the oldest block that can be had.
    Oldest,
    /// With the block of this height.
    Height(u64),
    /// With the block that lies so many before the newest.
    BeforeTip(u64),
    /// Behind a position.
    After(Position),
}

/// A text that is no value of `from_height`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("write oldest, latest, a height, or -N for N blocks before the newest")]
pub struct StartError;

impl Start {
    /// The parameter of a URL's query that says this. None for [`Start::Live`]: no parameter does.
    pub fn to_query(&self) -> Option<String> {
        let from = match self {
            Self::Live => return None,
            Self::After(position) => return Some(format!("{AFTER}={position}")),
            Self::Latest => LATEST.to_owned(),
            Self::Oldest => OLDEST.to_owned(),
            Self::Height(height) => height.to_string(),
            Self::BeforeTip(blocks) => format!("-{blocks}"),
        };
        Some(format!("{FROM_HEIGHT}={from}"))
    }

    /// Reads what [`Start::to_query`] writes.
    pub fn of_query(parameter: &str) -> Option<Self> {
        match parameter.split_once('=')? {
            (AFTER, position) => position.parse().ok().map(Self::After),
            (FROM_HEIGHT, start) => start.parse().ok(),
            _ => None,
        }
    }

    /// Reads the value of `after`.
    ///
    /// # Errors
    /// It names no place on this stream.
    pub fn after(text: &str, stream: Stream) -> Result<Self, QueryError> {
        position(AFTER, text, stream).map(Self::After)
    }

    /// Reads the value of `from_height`.
    ///
    /// # Errors
    /// It is none.
    pub fn from_height(text: &str) -> Result<Self, QueryError> {
        let wanted = "a height, `-N` for N blocks before the tip, `oldest` or `latest`";
        text.parse().map_err(|StartError| QueryError::bad(FROM_HEIGHT, text, wanted))
    }

    /// Reads the `Last-Event-ID` header of Server-Sent Events: `H` or `H.I`.
    ///
    /// # Errors
    /// It is not one of ours.
    pub fn of_last_event_id(text: &str, stream: Stream) -> Result<Self, QueryError> {
        let position = position(LAST_EVENT_ID, text, stream)?;
        match position.within() {
            Some(Within::Transaction(_)) => {
                Err(QueryError::bad(LAST_EVENT_ID, text, "`H` or `H.I`"))
            }
            _ => Ok(Self::After(position)),
        }
    }

    /// The same as a position, where it names a height above 0: closes say it so.
    pub fn as_position(&self) -> Self {
        match self {
            Self::Height(height @ 1..) => Self::After(Position::after_block(height - 1)),
            other => other.clone(),
        }
    }

    /// The first height of which the client has not had everything, where it names one.
    pub fn first_wanted(&self) -> Option<u64> {
        match self {
            Self::Height(height) => Some(*height),
            Self::After(position) if position.is_block_end() => {
                Some(position.height().saturating_add(1))
            }
            Self::After(position) => Some(position.height()),
            Self::Live | Self::BeforeTip(_) | Self::Oldest | Self::Latest => None,
        }
    }

    /// Whether it is inside a block, of which the client has had a part.
    pub fn is_inside_block(&self) -> bool {
        matches!(self, Self::After(position) if !position.is_block_end())
    }

    /// Whether it means the oldest there is where that much is not to be had.
    pub fn is_as_far_as_there_is(&self) -> bool {
        matches!(self, Self::Oldest | Self::BeforeTip(_))
    }
}

/// From a value of `from_height`: `oldest`, `latest`, a height, or `-N`.
impl FromStr for Start {
    type Err = StartError;

    fn from_str(text: &str) -> Result<Self, StartError> {
        let start = match text {
            OLDEST => Some(Self::Oldest),
            LATEST => Some(Self::Latest),
            _ => match text.strip_prefix('-') {
                Some(blocks) => number(blocks).map(Self::BeforeTip),
                None => height(text).map(Self::Height),
            },
        };
        start.ok_or(StartError)
    }
}

fn position(name: &'static str, text: &str, stream: Stream) -> Result<Position, QueryError> {
    if stream == Stream::Blocks && text.contains('.') {
        let wanted = "a height: a block is one message on `valid_blocks`";
        return Err(QueryError::bad(name, text, wanted));
    }
    let wanted = "`H`, `H.I` (event I of block H) or `H.T` (a transaction's 64 hex digits)";
    text.parse().map_err(|_| QueryError::bad(name, text, wanted))
}

#[cfg(test)]
pub mod tests {
    use super::super::HEIGHT_MAX;
    use super::super::position::tests::any_position;
    use super::*;
    use proptest::prelude::*;

    /// Any start that a URL's query can say.
    pub fn any_start() -> impl Strategy<Value = Start> {
        prop_oneof![
            Just(Start::Oldest),
            Just(Start::Latest),
            (0..=HEIGHT_MAX).prop_map(Start::Height),
            any::<u64>().prop_map(Start::BeforeTip),
            any_position().prop_map(Start::After),
        ]
    }

    proptest! {
        #[test]
        fn a_start_is_read_as_it_is_written(start in any_start()) {
            let written = start.to_query().expect("a parameter");
            prop_assert_eq!(Start::of_query(&written), Some(start.clone()), "{}", written);
            let again = start.as_position();
            prop_assert_eq!(again.first_wanted(), start.first_wanted());
        }

        #[test]
        fn a_browsers_last_event_is_read_as_it_is_written(position in any_position()) {
            let read = Start::of_last_event_id(&position.to_string(), Stream::Transactions);
            match position.within() {
                Some(Within::Transaction(_)) => prop_assert!(read.is_err()),
                _ => prop_assert_eq!(read, Ok(Start::After(position))),
            }
        }
    }

    #[test]
    fn a_browsers_last_event_is_read() {
        let check = |text: &str, stream| Start::of_last_event_id(text, stream).ok();
        let after = |position| Some(Start::After(position));
        assert_eq!(check("42", Stream::Blocks), after(Position::after_block(42)));
        assert_eq!(check("42.7", Stream::Transactions), after(Position::after_event(42, 7)));
        assert_eq!(check("42.7", Stream::Blocks), None);
        assert_eq!(check(&format!("42.{}", "a".repeat(64)), Stream::Transactions), None);
        assert_eq!(check("x", Stream::Transactions), None);
    }

    #[test]
    fn a_height_is_told_by_the_block_before_it() {
        let told = |start: Start| start.as_position().to_query();
        assert_eq!(told(Start::Height(30)).as_deref(), Some("after=29"));
        assert_eq!(told(Start::Height(0)).as_deref(), Some("from_height=0"));
        assert_eq!(told(Start::Live), None);
    }
}
