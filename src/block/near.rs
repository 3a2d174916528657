//! What a message that is no block looks like: other chains' blocks, and ours in another shape. For the
//! person who asks `check --message`; nothing is made of it.

use serde_json::Value;

use super::bare;
use super::text::text_of;

/// The smallest message with an event that passes.
pub const SMALLEST: &str = r#"{"height": 7, "transactions": [{"id": "an id"}]}"#;

/// A shape that is known and is no block of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Near {
    Tendermint,
    Ethereum,
    /// BigchainDB 1.x: a block has no height, but an id and votes.
    Bigchaindb1,
    /// Planetmint 2.2 and later over HTTP: ids in the place of transactions.
    OnlyIds,
    OneTransaction,
    HexHeight,
    /// Several messages, such as a file that `publish` takes.
    Lines,
    List,
}

impl Near {
    /// What a body looks like, if that is known. Looks at it as a whole, so its size is bounded before.
    pub fn of(body: &[u8]) -> Option<Self> {
        let (text, _) = text_of(body).ok()?;
        let text = bare::spelled(text, |_| "null");
        match serde_json::from_str(&text) {
            Ok(value) => Self::of_value(&value),
            Err(_) => {
                let mut lines = text.lines().filter(|line| !line.trim().is_empty());
                let is_object = |line: &str| serde_json::from_str::<Value>(line).is_ok();
                let [first, second] = [lines.next()?, lines.next()?];
                (is_object(first) && is_object(second)).then_some(Near::Lines)
            }
        }
    }

    fn of_value(value: &Value) -> Option<Self> {
        if value.is_array() {
            return Some(Near::List);
        }
        // As Tendermint's RPC and its events have it.
        let inner = ["/result/block", "/result/data/value/block", "/block"];
        let block = inner.iter().find_map(|place| value.pointer(place)).unwrap_or(value);
        let is_hex = |value: &Value| value.as_str().is_some_and(|text| text.starts_with("0x"));
        if block.pointer("/header/height").is_some() {
            Some(Near::Tendermint)
        } else if is_hex(&value["number"]) || is_hex(&value["result"]["number"]) {
            Some(Near::Ethereum)
        } else if value["id"].is_string() && value["block"]["transactions"].is_array() {
            Some(Near::Bigchaindb1)
        } else if value["transaction_ids"].is_array() && value["transactions"].is_null() {
            Some(Near::OnlyIds)
        } else if value["transaction"].is_object() && value["transactions"].is_null() {
            Some(Near::OneTransaction)
        } else {
            is_hex(&value["height"]).then_some(Near::HexHeight)
        }
    }

    /// What it is, and what to do about it, as one sentence.
    pub fn told(self) -> &'static str {
        match self {
            Near::Tendermint => {
                "it looks like a block of Tendermint's, which holds rejected transactions too; publish \
                 what BigchainDB or Planetmint commits of it"
            }
            Near::Ethereum => {
                "it looks like a block of Ethereum's; a program of yours must make a height and \
                 transactions with an `id` of it"
            }
            Near::Bigchaindb1 => {
                "it looks like a block of BigchainDB 1.x, which has no height; number the blocks that \
                 were voted valid and publish each one's `block.transactions`"
            }
            Near::OnlyIds => {
                "it lists only ids, as Planetmint's API does from 2.2 on; `transactions` must hold the \
                 transactions themselves, at least each one's `id`"
            }
            Near::OneTransaction => {
                "it has `transaction`; `transactions` must be a list of all the block's transactions"
            }
            Near::HexHeight => {
                "its height is in hexadecimal; write it as a number, or as decimal digits in quotes"
            }
            Near::Lines => "it is several messages, one a line; a message is one of them",
            Near::List => "it is a list; a message is one block",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{DecodeRules, Decoded, decode};
    use super::*;
    use crate::config::Dialect;

    #[test]
    fn shapes_of_others_are_known_and_none_is_a_block() {
        let cases = include_str!("../../tests/data/no-block-shapes.ndjson");
        let expected = [
            Near::Tendermint,
            Near::Ethereum,
            Near::Bigchaindb1,
            Near::OneTransaction,
            Near::HexHeight,
        ];
        assert_eq!(
            cases.lines().map(|line| Near::of(line.as_bytes())).collect::<Vec<_>>(),
            expected.map(Some)
        );
        for (body, near) in [
            (cases, Near::Lines),
            (r#"{"app_hash": "9f", "height": 5, "transaction_ids": ["a"]}"#, Near::OnlyIds),
            (r#"[{"height": 5, "transactions": []}]"#, Near::List),
            (r#"{"result": {"block": {"header": {"height": "12"}, "x": NaN}}}"#, Near::Tendermint),
            (r#"{"jsonrpc": "2.0", "result": {"number": "0x1"}}"#, Near::Ethereum),
        ] {
            assert_eq!(Near::of(body.as_bytes()), Some(near), "{body}");
        }
        for body in ["", "x", "5", "{}", r#"{"height": -1, "transactions": []}"#, "x\ny"] {
            assert_eq!(Near::of(body.as_bytes()), None, "{body}");
        }
    }

    #[test]
    fn smallest_message_passes() {
        let rules = DecodeRules {
            dialect: Dialect::Bigchaindb,
            body_bytes_max: 1 << 10,
            encoded_bytes_max: 1 << 10,
        };
        let decoded = decode(SMALLEST.as_bytes(), &rules);
        assert!(matches!(decoded, Ok(Decoded::Block(block)) if block.fields.len() == 1));
    }
}
