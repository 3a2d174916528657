//! Control messages, told apart by their `type`: their texts, and the event ids that go with them.

use std::borrow::Cow;
use std::fmt::{self, Display, Write};

use serde::Deserialize;
use serde_json::Value;

use super::position::{Position, Within};

const POSITION: &str = "position";
const BLOCK: &str = "block";
const GAP: &str = "gap";
const FILLED: &str = "filled";
const HEARTBEAT: &str = "heartbeat";
const CLOSE: &str = "close";

/// A message that is no data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ControlMessage {
    /// Comes first: `after=` its position gives this same stream.
    Position(Beginning),
    /// All of a block has been sent that this client is to have; `events` is how many it has in all.
    Block {
        /// The block's.
        height: u64,
        /// Of the whole block, those left out by a filter too.
        events: u64,
    },
    /// In the place of heights that never came, both ends included.
    Gap {
        /// The first height that is missing.
        from_height: u64,
        /// The last one.
        to_height: u64,
    },
    /// A height that came after this client had passed it.
    Filled {
        /// The block's.
        height: u64,
    },
    /// Everything up to `height` has been sent. None: there is no block yet.
    Heartbeat {
        /// The newest one.
        height: Option<u64>,
    },
    /// The end, as a Server-Sent Event: what a WebSocket's close frame says.
    Close {
        /// RFC 6455's, or one from 4000 on.
        code: u16,
        /// In words, which may tell where to go on.
        reason: String,
    },
}

/// Where a client begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Beginning {
    /// The block that the client is behind, or in; None: nothing lies before the stream.
    pub height: Option<u64>,
    /// The event of that block that the client is behind; None: it is behind the whole block.
    pub index: Option<u64>,
    /// The oldest height that could be had, in memory or from the broker.
    pub first_height: Option<u64>,
    /// The newest height; None: there is no block yet.
    pub tip_height: Option<u64>,
}

/// A control message as it goes out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// What it says.
    pub message: ControlMessage,
    /// Where a client goes on that has read this; only Server-Sent Events can say it beside the text.
    pub id: Option<String>,
}

/// Why a text is no control message that this program knows.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// A kind that is newer than this program: it is passed over.
    #[error("an unknown kind of control message")]
    UnknownKind,
    /// A known kind without a key that it needs.
    #[error("keys are missing")]
    MissingKeys,
    /// No JSON object, or a key with another type.
    #[error(transparent)]
    Malformed(#[from] serde_json::Error),
}

#[derive(Deserialize)]
struct ControlKeys<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    height: Option<u64>,
    index: Option<u64>,
    first_height: Option<u64>,
    tip_height: Option<u64>,
    from_height: Option<u64>,
    to_height: Option<u64>,
    events: Option<Value>,
    code: Option<u16>,
    reason: Option<String>,
}

impl ControlMessage {
    /// The `type`, and the event's name of a Server-Sent Event.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Position(_) => POSITION,
            Self::Block { .. } => BLOCK,
            Self::Gap { .. } => GAP,
            Self::Filled { .. } => FILLED,
            Self::Heartbeat { .. } => HEARTBEAT,
            Self::Close { .. } => CLOSE,
        }
    }

    /// The text that goes out, byte for byte.
    pub fn to_json(&self) -> String {
        let mut json = format!("{{\"type\": \"{}\"", self.kind());
        let mut put = |key: &str, value: &dyn Display| {
            write!(json, ", \"{key}\": {value}").expect("bug: a string takes all");
        };
        match self {
            Self::Position(Beginning { height, index, first_height, tip_height }) => {
                put("height", &OrNull(*height));
                if let Some(index) = index {
                    put("index", index);
                }
                put("first_height", &OrNull(*first_height));
                put("tip_height", &OrNull(*tip_height));
            }
            Self::Block { height, events } => {
                put("height", height);
                put("events", events);
            }
            Self::Gap { from_height, to_height } => {
                put("from_height", from_height);
                put("to_height", to_height);
            }
            Self::Filled { height } => put("height", height),
            Self::Heartbeat { height } => put("height", &OrNull(*height)),
            Self::Close { code, reason } => {
                put("code", code);
                put("reason", &Value::from(reason.as_str()));
            }
        }
        json.push('}');
        json
    }

    /// Reads what [`ControlMessage::to_json`] writes. ControlKeys that are not known are passed over.
    ///
    /// # Errors
    /// It is no control message that this program knows.
    pub fn parse(json: &str) -> Result<Self, ControlError> {
        let keys: ControlKeys = serde_json::from_str(json)?;
        if ![POSITION, BLOCK, GAP, FILLED, HEARTBEAT, CLOSE].contains(&&*keys.kind) {
            return Err(ControlError::UnknownKind);
        }
        Self::of(keys).ok_or(ControlError::MissingKeys)
    }

    fn of(keys: ControlKeys<'_>) -> Option<Self> {
        let ControlKeys { height, index, first_height, tip_height, .. } = keys;
        Some(match &*keys.kind {
            POSITION => Self::Position(Beginning { height, index, first_height, tip_height }),
            BLOCK => Self::Block { height: height?, events: keys.events?.as_u64()? },
            GAP => Self::Gap { from_height: keys.from_height?, to_height: keys.to_height? },
            FILLED => Self::Filled { height: height? },
            HEARTBEAT => Self::Heartbeat { height },
            CLOSE => Self::Close { code: keys.code?, reason: keys.reason? },
            _ => return None,
        })
    }

    /// Where a client goes on that has read this, if the message itself says so. [`Self::Filled`] has
    /// none: it would move the client back.
    fn position(&self) -> Option<Position> {
        match self {
            Self::Position(beginning) => beginning.position(),
            Self::Block { height, .. } => Some(Position::after_block(*height)),
            Self::Gap { to_height, .. } => Some(Position::after_block(*to_height)),
            Self::Filled { .. } | Self::Heartbeat { .. } | Self::Close { .. } => None,
        }
    }
}

impl Beginning {
    /// Before the block `next_height`, of which the client has had so many events already.
    pub fn before(next_height: u64, events_before: u64) -> Self {
        let (height, index) = match events_before.checked_sub(1) {
            Some(index) => (Some(next_height), Some(index)),
            None => (next_height.checked_sub(1), None),
        };
        Self { height, index, first_height: None, tip_height: None }
    }

    /// None: nothing lies before the stream.
    pub fn position(&self) -> Option<Position> {
        self.height.map(|height| Position::new(height, self.index.map(Within::Index)))
    }
}

impl From<ControlMessage> for Notice {
    fn from(message: ControlMessage) -> Self {
        let id = message.position().map(|position| position.to_string());
        Self { message, id }
    }
}

/// A number in JSON, where there is one.
struct OrNull(Option<u64>);

impl Display for OrNull {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(number) => write!(f, "{number}"),
            None => f.write_str("null"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::option;
    use proptest::prelude::*;

    fn any_control() -> impl Strategy<Value = ControlMessage> {
        let height = || option::of(any::<u64>());
        let position = (height(), height(), height(), height()).prop_map(
            |(height, index, first_height, tip_height)| {
                ControlMessage::Position(Beginning { height, index, first_height, tip_height })
            },
        );
        prop_oneof![
            position,
            any::<(u64, u64)>()
                .prop_map(|(height, events)| ControlMessage::Block { height, events }),
            any::<(u64, u64)>().prop_map(|(from_height, to_height)| ControlMessage::Gap {
                from_height,
                to_height
            }),
            any::<u64>().prop_map(|height| ControlMessage::Filled { height }),
            height().prop_map(|height| ControlMessage::Heartbeat { height }),
            any::<(u16, String)>()
                .prop_map(|(code, reason)| ControlMessage::Close { code, reason }),
        ]
    }

    proptest! {
        #[test]
        fn a_control_message_is_read_as_it_is_written(message in any_control()) {
            let json = message.to_json();
            let kind = format!("{{\"type\": \"{}\", ", message.kind());
            prop_assert!(json.starts_with(&kind), "{}", json);
            prop_assert_eq!(ControlMessage::parse(&json).expect("one of ours"), message, "{}", json);
        }
    }

    #[test]
    fn a_position_is_what_gives_the_same_stream_again() {
        let check = |next_height, events_before, id: Option<&str>, json: &str| {
            let (first_height, tip_height) = (Some(3), Some(50));
            let beginning = Beginning::before(next_height, events_before);
            let beginning = Beginning { first_height, tip_height, ..beginning };
            let notice = Notice::from(ControlMessage::Position(beginning));
            assert_eq!(notice.id.as_deref(), id);
            let expected = format!(
                "{{\"type\": \"position\", {json}, \"first_height\": 3, \"tip_height\": 50}}"
            );
            assert_eq!(notice.message.to_json(), expected);
        };
        check(43, 0, Some("42"), "\"height\": 42");
        check(42, 8, Some("42.7"), "\"height\": 42, \"index\": 7");
        check(0, 0, None, "\"height\": null");
    }

    #[test]
    fn control_messages_have_the_shapes_of_the_contract() {
        for (message, json, id) in [
            (
                ControlMessage::Block { height: 7, events: 3 },
                r#"{"type": "block", "height": 7, "events": 3}"#,
                Some("7"),
            ),
            (
                ControlMessage::Gap { from_height: 5, to_height: 7 },
                r#"{"type": "gap", "from_height": 5, "to_height": 7}"#,
                Some("7"),
            ),
            (ControlMessage::Filled { height: 6 }, r#"{"type": "filled", "height": 6}"#, None),
            (
                ControlMessage::Heartbeat { height: Some(9) },
                r#"{"type": "heartbeat", "height": 9}"#,
                None,
            ),
            (
                ControlMessage::Close { code: 4009, reason: "from_height=3 \"x\"".into() },
                r#"{"type": "close", "code": 4009, "reason": "from_height=3 \"x\""}"#,
                None,
            ),
        ] {
            assert_eq!(message.to_json(), json);
            assert_eq!(Notice::from(message).id.as_deref(), id);
        }
    }

    #[test]
    fn what_is_newer_or_incomplete_is_told_apart() {
        let parse = |json: &str| ControlMessage::parse(json).expect_err(json);
        assert!(matches!(parse(r#"{"type": "new", "height": 1}"#), ControlError::UnknownKind));
        for json in [
            r#"{"type": "block", "height": 7, "events": []}"#,
            r#"{"type": "block", "height": 7}"#,
            r#"{"type": "gap", "from_height": 7}"#,
            r#"{"type": "filled"}"#,
            r#"{"type": "close", "code": 1000}"#,
        ] {
            assert!(matches!(parse(json), ControlError::MissingKeys), "{json}");
        }
        assert!(matches!(parse("close"), ControlError::Malformed(_)));
    }
}
