//! What a node's answers say beside whole blocks. Pure.

use std::borrow::Cow;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

/// A block without its transactions, as Planetmint has it from 2.2 on:
/// `{"app_hash": "...", "height": 5, "transaction_ids": ["...", ...]}`.
pub struct Listing<'a> {
    /// JSON.
    app_hash: &'a str,
    ids: Vec<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct NodeBlock<'a> {
    #[serde(borrow, default)]
    app_hash: Option<&'a RawValue>,
    #[serde(borrow)]
    transaction_ids: Vec<Id<'a>>,
    #[serde(default)]
    transactions: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct Id<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'a> Listing<'a> {
    /// `None` for anything else: a whole block is one with `transactions`.
    pub fn of(body: &'a [u8]) -> Option<Self> {
        let block: NodeBlock<'a> = serde_json::from_slice(body).ok()?;
        if block.transactions.is_some() {
            return None;
        }
        let app_hash = block.app_hash.map_or("null", RawValue::get);
        Some(Self { app_hash, ids: block.transaction_ids.into_iter().map(|id| id.0).collect() })
    }

    /// In the block's order.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.ids.iter().map(AsRef::as_ref)
    }

    /// The block with its transactions, each as the node words it. `hash` is the node's `app_hash`,
    /// as in the node's own stream.
    pub fn whole(&self, height: u64, transactions: &[Vec<u8>]) -> Vec<u8> {
        let head =
            format!("{{\"height\": {height}, \"hash\": {}, \"transactions\": [", self.app_hash);
        let transactions: Vec<&[u8]> =
            transactions.iter().map(|transaction| transaction.trim_ascii()).collect();
        [head.as_bytes(), &transactions.join(&b", "[..]), b"]}"].concat()
    }
}

/// Whether it may be a transaction: an object by its first and last byte, so that several answers
/// stand apart once they are put together.
pub fn is_object(body: &[u8]) -> bool {
    let body = body.trim_ascii();
    body.starts_with(b"{") && body.ends_with(b"}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listed_block_is_put_together_byte_for_byte() {
        let body = include_bytes!(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/data/planetmint-2.5.3-block.json"
        ));
        let listing = Listing::of(body).expect("a listing");
        assert!(listing.ids().eq([
            "672d3316b9a2f2169c52422da40a71bea51d72eef6fd27f78fd47673ce70df0a",
            "da828638a4c4fa226e23f6bd2b13f110dd83ec9417ecdb867eb517d34e69435f",
        ]));
        let hash = "9f2c".repeat(16);
        assert_eq!(
            String::from_utf8(listing.whole(5, &[b"{ \"a\":1e3 }\n".to_vec(), b"{}".to_vec()])),
            Ok(format!(
                "{{\"height\": 5, \"hash\": \"{hash}\", \"transactions\": [{{ \"a\":1e3 }}, {{}}]}}"
            ))
        );
    }

    #[test]
    fn only_ids_without_transactions_are_a_listing() {
        for (text, hash) in [
            (r#"{"transaction_ids": []}"#, "null"),
            (r#"{"app_hash": null, "transaction_ids": []}"#, "null"),
            (r#"{"app_hash": "", "transaction_ids": [], "transactions": null}"#, "\"\""),
        ] {
            let listing = Listing::of(text.as_bytes()).expect(text);
            assert_eq!(
                String::from_utf8(listing.whole(7, &[])),
                Ok(format!("{{\"height\": 7, \"hash\": {hash}, \"transactions\": []}}"))
            );
        }
        for text in [
            r#"{"height": 1, "transactions": []}"#,
            r#"{"transactions": [], "transaction_ids": ["a"]}"#,
            r#"{"transaction_ids": "a"}"#,
            r#"{"transaction_ids": [1]}"#,
            "[]",
            "<html>",
        ] {
            assert!(Listing::of(text.as_bytes()).is_none(), "{text}");
        }
    }
}
