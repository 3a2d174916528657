//! The API root: where the streams are, as clients of BigchainDB look it up.

use serde_json::{Map, Value};

const STATUS: &str = "status";
const STREAMED_BLOCKS: &str = "streamedblocks";
const STREAMS: &str = "streams";

/// What the root says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiRoot {
    /// A path.
    pub status: String,
    /// The address of `valid_blocks`.
    pub blocks: String,
    /// The address of `valid_transactions`.
    pub transactions: String,
}

impl ApiRoot {
    /// The API root's `v1` object.
    pub fn to_json(&self) -> Value {
        let Self { status, blocks, transactions } = self;
        let keys = [(STATUS, status), (STREAMED_BLOCKS, blocks), (STREAMS, transactions)];
        let pairs = keys.map(|(key, value)| (key.to_owned(), value.as_str().into()));
        Value::Object(Map::from_iter(pairs))
    }

    /// The address of `valid_transactions` in any node's root, whatever else that says.
    pub fn transactions_in(json: &[u8]) -> Option<String> {
        let root: Value = serde_json::from_slice(json).ok()?;
        root.get(STREAMS)?.as_str().map(str::to_owned)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_streams_address_is_read_as_it_is_written(status: String, transactions: String) {
            let root = ApiRoot { status, blocks: String::new(), transactions };
            let json = root.to_json().to_string();
            prop_assert_eq!(ApiRoot::transactions_in(json.as_bytes()), Some(root.transactions));
        }
    }

    #[test]
    fn a_root_may_name_its_stream() {
        let root = ApiRoot { status: "s".into(), blocks: "b".into(), transactions: "t".into() };
        let json = r#"{"status":"s","streamedblocks":"b","streams":"t"}"#;
        assert_eq!(root.to_json().to_string(), json);
        let planetmint = br#"{"assets": "/assets/", "streams": "ws://localhost:9985/x"}"#;
        let found = ApiRoot::transactions_in(planetmint);
        assert_eq!(found.as_deref(), Some("ws://localhost:9985/x"));
        for root in [&br#"{"streams": null}"#[..], b"{}", br#"{"streams": 1}"#, b"<html>", b"[]"] {
            assert_eq!(ApiRoot::transactions_in(root), None);
        }
    }
}
