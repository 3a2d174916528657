//! What a stream yields, and how it is read from a server's text. Pure.

use std::time::Duration;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use crate::protocol::ControlMessage;
use crate::protocol::control::ControlError;

/// What of a text that cannot be read is quoted.
const QUOTED_CHARS_MAX: usize = 200;

/// One thing that a [`Subscriber`](super::Subscriber) has to say. More may be added: match with a `_` arm.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum StreamMessage {
    /// A connection is there, the first or another.
    Connected,
    /// Where this connection's messages begin: at the stream's position. `None`: the server holds no
    /// block. Never comes from a server that cannot resume.
    Position {
        /// The oldest block that can be had.
        first_height: Option<u64>,
        /// The newest block that there is.
        tip_height: Option<u64>,
    },
    /// A transaction was committed.
    Event(Event),
    /// A block was committed; on `valid_blocks`.
    Summary(BlockSummary),
    /// A block's events in one; with [`Builder::batch`](super::Builder::batch).
    Batch(Batch),
    /// All of a block has been yielded, whether the filter matched or not.
    BlockEnd {
        /// The block's.
        height: u64,
        /// How many the block has in all.
        events: u64,
    },
    /// These blocks, both included, never came; the stream goes on behind them.
    Gap {
        /// The first that is missing.
        from_height: u64,
        /// The last that is missing.
        to_height: u64,
    },
    /// A block told missing before is there now. It is not yielded: a stream from its height on has
    /// it.
    Filled {
        /// The block's.
        height: u64,
    },
    /// Nothing was sent for a while; all up to this height has been. `None`: there is no block yet.
    Heartbeat {
        /// The last block that was sent whole.
        height: Option<u64>,
    },
    /// The connection is gone. The stream connects again after `again_in`, when it is asked for its
    /// next message, and goes on where it was; if it does not
    /// [resume](super::Subscriber::resumes), what is committed until then is not yielded.
    Disconnected {
        /// What ended it, in words.
        why: String,
        /// How long the stream waits.
        again_in: Duration,
    },
}

/// A committed transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Its block's.
    pub height: u64,
    /// The transaction's `id`.
    pub transaction_id: String,
    /// One from BigchainDB's dialect; any number from Planetmint's.
    pub asset_ids: Vec<String>,
    /// The JSON as it came.
    pub text: String,
}

/// A committed block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockSummary {
    /// The block's.
    pub height: u64,
    /// None where the producer tells none.
    pub hash: Option<String>,
    /// Of all of its transactions, in order.
    pub transaction_ids: Vec<String>,
    /// The JSON as it came.
    pub text: String,
}

/// A block's events that match, in order; behind a place inside a block, those that are left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// The block's.
    pub height: u64,
    /// None where the producer tells none.
    pub hash: Option<String>,
    /// At least one with a filter; perhaps none without.
    pub events: Vec<Event>,
    /// The JSON as it came.
    pub text: String,
}

/// A text message of the server.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Said {
    Event(Event),
    Summary(BlockSummary),
    Batch(Batch),
    Control(ControlMessage),
    /// A kind of control message that is newer than this client.
    Unknown,
}

impl Said {
    pub fn is_block_end(&self) -> bool {
        matches!(self, Self::Control(ControlMessage::Block { .. }))
    }
}

/// The keys of data messages. Control messages have a `type`, others never.
#[derive(Deserialize)]
struct DataKeys<'a> {
    #[serde(rename = "type")]
    kind: Option<IgnoredAny>,
    height: Option<u64>,
    #[serde(borrow)]
    events: Option<&'a RawValue>,
    hash: Option<String>,
    transaction_id: Option<String>,
    transaction_ids: Option<Vec<String>>,
    asset_id: Option<String>,
    asset_ids: Option<Vec<AssetId>>,
}

/// One of `asset_ids`. A Planetmint 2.5.3 node's own stream says the whole asset in its place, of a
/// transaction in version 2.0.
#[derive(Deserialize)]
#[serde(untagged)]
enum AssetId {
    Id(String),
    Asset { id: String },
    WithoutId(IgnoredAny),
}

impl AssetId {
    /// An asset without an id is named by its transaction.
    fn or_own(self, transaction_id: &str) -> String {
        match self {
            Self::Id(id) | Self::Asset { id } => id,
            Self::WithoutId(_) => transaction_id.to_owned(),
        }
    }
}

/// Reads a text message.
///
/// # Errors
/// A sentence with what it is and why it is none of a stream's messages.
pub(super) fn read(text: &str) -> Result<Said, String> {
    let unreadable = |why: &str| {
        let quoted: String = text.chars().take(QUOTED_CHARS_MAX).collect();
        format!("this is no message of a block stream ({why}): {quoted}")
    };
    let keys: DataKeys =
        serde_json::from_str(text).map_err(|error| unreadable(&error.to_string()))?;
    if keys.kind.is_some() {
        return match ControlMessage::parse(text) {
            Ok(ControlMessage::Close { .. }) | Err(ControlError::UnknownKind) => Ok(Said::Unknown),
            Ok(message) => Ok(Said::Control(message)),
            Err(error) => Err(unreadable(&error.to_string())),
        };
    }
    data(keys, text)?.ok_or_else(|| unreadable("keys are missing"))
}

fn data(keys: DataKeys<'_>, text: &str) -> Result<Option<Said>, String> {
    let (Some(height), text) = (keys.height, text.to_owned()) else { return Ok(None) };
    let asset_ids = keys.asset_ids.or(keys.asset_id.map(|id| vec![AssetId::Id(id)]));
    let hash = keys.hash;
    Ok(Some(match (keys.transaction_id, keys.transaction_ids, keys.events) {
        (Some(transaction_id), ..) => {
            let named = |asset: AssetId| asset.or_own(&transaction_id);
            let asset_ids = asset_ids.unwrap_or_default().into_iter().map(named).collect();
            Said::Event(Event { height, transaction_id, asset_ids, text })
        }
        (_, Some(transaction_ids), _) => {
            Said::Summary(BlockSummary { height, hash, transaction_ids, text })
        }
        (_, _, Some(events)) => {
            let events = batched(events.get())?;
            Said::Batch(Batch { height, hash, events, text })
        }
        _ => return Ok(None),
    }))
}

fn batched(events: &str) -> Result<Vec<Event>, String> {
    let events: Vec<&RawValue> =
        serde_json::from_str(events).map_err(|error| format!("a batch's `events`: {error}"))?;
    let read_event = |event: &&RawValue| match read(event.get())? {
        Said::Event(event) => Ok(event),
        other => Err(format!("a batch has no event but {other:?}")),
    };
    events.iter().map(read_event).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::control::Beginning;

    #[test]
    fn every_message_is_read() {
        let event = |text: &str, assets: &[&str]| Event {
            height: 7,
            transaction_id: "t".into(),
            asset_ids: assets.iter().map(ToString::to_string).collect(),
            text: text.into(),
        };
        let plain = r#"{"height": 7, "asset_id": "a", "transaction_id": "t"}"#;
        let planetmint = r#"{"height": 7, "asset_ids": ["a", "b"], "transaction_id": "t"}"#;
        let whole = r#"{"height": 7, "asset_ids": [{"id": "a"}, {"data": {"id": 5}}], "transaction_id": "t"}"#;
        let summary = r#"{"height": 7, "hash": null, "transaction_ids": ["t"]}"#;
        let batch = format!(r#"{{"height": 7, "hash": "h", "events": [{plain}]}}"#);
        let none = Beginning { height: None, index: None, first_height: None, tip_height: None };
        for (text, said) in [
            (plain, Said::Event(event(plain, &["a"]))),
            (planetmint, Said::Event(event(planetmint, &["a", "b"]))),
            (whole, Said::Event(event(whole, &["a", "t"]))),
            (
                summary,
                Said::Summary(BlockSummary {
                    height: 7,
                    hash: None,
                    transaction_ids: vec!["t".into()],
                    text: summary.into(),
                }),
            ),
            (
                &batch,
                Said::Batch(Batch {
                    height: 7,
                    hash: Some("h".into()),
                    events: vec![event(plain, &["a"])],
                    text: batch.clone(),
                }),
            ),
            (
                r#"{"type": "position", "height": null, "first_height": null, "tip_height": null}"#,
                Said::Control(ControlMessage::Position(none)),
            ),
            (
                r#"{"type": "position", "height": 7, "index": 2, "first_height": 1, "tip_height": 9}"#,
                Said::Control(ControlMessage::Position(Beginning {
                    height: Some(7),
                    index: Some(2),
                    first_height: Some(1),
                    tip_height: Some(9),
                })),
            ),
            (
                r#"{"type": "block", "height": 7, "events": 3}"#,
                Said::Control(ControlMessage::Block { height: 7, events: 3 }),
            ),
            (
                r#"{"type": "gap", "from_height": 8, "to_height": 9}"#,
                Said::Control(ControlMessage::Gap { from_height: 8, to_height: 9 }),
            ),
            (
                r#"{"type": "filled", "height": 8}"#,
                Said::Control(ControlMessage::Filled { height: 8 }),
            ),
            (
                r#"{"type": "heartbeat", "height": 9}"#,
                Said::Control(ControlMessage::Heartbeat { height: Some(9) }),
            ),
            (r#"{"type": "new", "height": 1}"#, Said::Unknown),
        ] {
            assert_eq!(read(text), Ok(said), "{text}");
        }
    }

    #[test]
    fn what_is_no_message_is_quoted() {
        for (text, told) in [
            ("hello", "expected value"),
            (r#"{"height": 7}"#, "keys are missing"),
            (r#"{"transaction_id": "t"}"#, "keys are missing"),
            (r#"{"type": "block", "height": 7, "events": []}"#, "keys are missing"),
            (r#"{"height": 7, "events": 3}"#, "a batch's `events`"),
            (r#"{"height": 7, "events": [{"type": "filled", "height": 7}]}"#, "no event"),
        ] {
            let why = read(text).expect_err(text);
            assert!(why.contains(told), "{why}");
        }
        assert!(read(&"x".repeat(10_000)).expect_err("no JSON").len() < 400);
    }
}
