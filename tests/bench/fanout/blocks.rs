//! What is fanned out: blocks of real transactions, and the text of an event for servers that are
//! given events.

use std::path::PathBuf;

use serde_json::Value;

/// Block messages of the same real transactions, at heights that rise from 1.
pub struct Blocks {
    transactions: String,
    height: u64,
}

impl Blocks {
    pub fn of(transactions: usize) -> Self {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/chain.ndjson");
        let chain = std::fs::read_to_string(path).expect("the real chain");
        let blocks = chain.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
        let all: Vec<Value> = blocks
            .flat_map(|block| block["transactions"].as_array().expect("a list").clone())
            .collect();
        let transactions = Value::from(&all[..transactions]).to_string();
        Self { transactions, height: 0 }
    }
}

impl Iterator for Blocks {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        self.height += 1;
        let Self { transactions, height } = self;
        Some(format!("{{\"height\":{height},\"transactions\":{transactions}}}").into_bytes())
    }
}

/// 180 bytes, such as BigchainDB's server sends at a height of two digits.
pub fn event() -> String {
    let id = "5".repeat(64);
    format!("{{\"height\": 42, \"asset_id\": \"{id}\", \"transaction_id\": \"{id}\"}}")
}
