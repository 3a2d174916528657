//! Frames against what the real server sent, and against a model of Python's `json.dumps`.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::header::FIN_TEXT;
use super::*;
use crate::block::{DecodeRules, Decoded, EncodedLen, decode};
use crate::config::Dialect;

fn encoded(body: &str, dialect: Dialect) -> EncodedBlock {
    let rules = DecodeRules { dialect, body_bytes_max: 16 << 20, encoded_bytes_max: 64 << 20 };
    match decode(body.as_bytes(), &rules) {
        Ok(Decoded::Block(block)) => encode(block, dialect),
        other => panic!("not a block: {other:?}"),
    }
}

#[test]
fn a_block_keeps_what_it_was_judged_by_and_itself() {
    for dialect in [Dialect::Bigchaindb, Dialect::Planetmint] {
        let transactions = r#"[{"id": "a", "assets": [{}, {"id": "é"}]}, {"id": "b", "outputs": [{"public_keys": ["k"]}]}]"#;
        let body = format!(r#"{{"height": 7, "hash": "h", "transactions": {transactions}}}"#);
        let rules = DecodeRules { dialect, body_bytes_max: 1 << 10, encoded_bytes_max: 1 << 10 };
        let Ok(Decoded::Block(block)) = decode(body.as_bytes(), &rules) else { panic!("a block") };
        let judged = EncodedLen::of(&block, dialect).kept();
        let kept = encode(block, dialect).bytes() - size_of::<EncodedBlock>() - "h".len();
        assert_eq!(kept as u64, judged, "{dialect:?}");
    }
}

/// The payloads of frames, by reading their headers.
fn payloads(mut frames: &[u8]) -> Vec<String> {
    let mut payloads = Vec::new();
    while let [FIN_TEXT, short, rest @ ..] = frames {
        let (len, rest) = match *short {
            126 => (u64::from(u16::from_be_bytes([rest[0], rest[1]])), &rest[2..]),
            127 => (u64::from_be_bytes(rest[..8].try_into().expect("eight bytes")), &rest[8..]),
            short => (u64::from(short), rest),
        };
        let (payload, rest) = rest.split_at(usize::try_from(len).expect("it fits"));
        payloads.push(String::from_utf8(payload.to_vec()).expect("ASCII"));
        frames = rest;
    }
    assert_eq!(frames, b"", "no text frame");
    payloads
}

/// A string as Python's `json.dumps` writes it, by its rules and not by our code.
fn python_string(text: &str) -> String {
    let unit = |unit: u16| match unit {
        0x22 => "\\\"".to_owned(),
        0x5c => "\\\\".to_owned(),
        0x0a => "\\n".to_owned(),
        0x0d => "\\r".to_owned(),
        0x09 => "\\t".to_owned(),
        0x0c => "\\f".to_owned(),
        0x08 => "\\b".to_owned(),
        0x20..=0x7e => char::from(unit as u8).to_string(),
        _ => format!("\\u{unit:04x}"),
    };
    format!("\"{}\"", text.encode_utf16().map(unit).collect::<String>())
}

#[test]
fn recorded_blocks_give_what_the_real_server_sent() {
    let chain = include_str!("../../tests/data/chain.ndjson");
    let block = include_str!("../../tests/data/block.json");
    for (bodies, expected) in [
        (chain.lines().collect(), include_str!("../../tests/data/chain.expected-2.2.2.txt")),
        (vec![block], include_str!("../../tests/data/block.expected-2.2.2.txt")),
    ] {
        let blocks: Vec<_> = bodies.iter().map(|b| encoded(b, Dialect::Bigchaindb)).collect();
        let sent: Vec<String> = blocks.iter().flat_map(|block| payloads(&block.events)).collect();
        assert_eq!(sent, expected.lines().collect::<Vec<_>>());
        let cut = blocks.iter().flat_map(|block| {
            (0..block.events_len())
                .map(|index| str::from_utf8(block.payload(index)).expect("ASCII"))
        });
        assert!(cut.eq(expected.lines()), "payloads are the frames' own");
    }
}

#[test]
fn summary_has_hash_and_ids_and_an_empty_block_has_one() {
    for (body, expected) in [
        (
            r#"{"height": 7, "transactions": null}"#,
            r#"{"height": 7, "hash": null, "transaction_ids": []}"#,
        ),
        (
            r#"{"height": 0, "hash": "h/\"", "transactions": [{"id": "a"}, {"id": "ü"}]}"#,
            r#"{"height": 0, "hash": "h/\"", "transaction_ids": ["a", "\u00fc"]}"#,
        ),
    ] {
        let block = encoded(body, Dialect::Bigchaindb);
        assert_eq!(payloads(&block.summary), [expected]);
        assert_eq!(block.events_len(), payloads(&block.events).len());
    }
}

#[test]
fn planetmint_events_carry_a_list() {
    let list = r#"{"id": "t", "assets": [{"id": "a"}, {"data": 1}]}, {"id": "u", "assets": []}"#;
    let body = format!(r#"{{"height": 42, "transactions": [{list}]}}"#);
    let expected = [
        r#"{"height": 42, "asset_ids": ["a", "t"], "transaction_id": "t"}"#,
        r#"{"height": 42, "asset_ids": [], "transaction_id": "u"}"#,
    ];
    assert_eq!(payloads(&encoded(&body, Dialect::Planetmint).events), expected);
}

#[test]
fn headers_are_as_short_as_they_may_be() {
    let fixed = r#"{"height": 1, "asset_id": "a", "transaction_id": ""}"#.len();
    for (payload_len, header_len) in [(125, 2), (126, 4), (0xffff, 4), (0x1_0000, 10)] {
        let id = "i".repeat(payload_len - fixed);
        let transaction = format!(r#"{{"id": "{id}", "asset": {{"id": "a"}}}}"#);
        let body = format!(r#"{{"height": 1, "transactions": [{transaction}, {transaction}]}}"#);
        let block = encoded(&body, Dialect::Bigchaindb);
        let frame_len = header_len + payload_len;
        assert_eq!(block.events.len(), 2 * frame_len);
        assert_eq!(block.event_ends.as_ref(), [frame_len as u32, 2 * frame_len as u32]);
        assert_eq!(payloads(&block.events)[1].as_bytes(), block.payload(1));
        assert_eq!(block.payload(1).len(), payload_len);
    }
}

#[test]
fn all_that_is_kept_is_counted() {
    let block = encoded(include_str!("../../tests/data/block-with-hash.json"), Dialect::Bigchaindb);
    assert!(block.hash.is_some());
    let parts = block.events.len() + block.summary.len() + 64 + 4 * block.events_len();
    assert_eq!(block.bytes(), size_of::<EncodedBlock>() + parts + block.fields.bytes());
}

proptest! {
    #[test]
    fn random_texts_are_escaped_like_pythons(
        height in 0..=i64::MAX as u64,
        texts in proptest::collection::vec((".*", any::<String>(), r#"[\x00-\x7f"\\😀ü/]{0,9}"#), 0..4),
    ) {
        let ids: Vec<(String, String)> =
            texts.into_iter().map(|(a, b, c)| (a + &c + "x", b + &c)).collect();
        let transactions: Vec<Value> =
            ids.iter().map(|(id, asset)| json!({"id": id, "asset": {"id": asset}})).collect();
        let body = json!({"height": height, "transactions": transactions}).to_string();
        let block = encoded(&body, Dialect::Bigchaindb);
        let expected: Vec<String> = ids
            .iter()
            .map(|(id, asset)| {
                let (id, asset) = (python_string(id), python_string(asset));
                format!(r#"{{"height": {height}, "asset_id": {asset}, "transaction_id": {id}}}"#)
            })
            .collect();
        prop_assert_eq!(payloads(&block.events), expected);
        let list: Vec<String> = ids.iter().map(|(id, _)| python_string(id)).collect();
        let list = list.join(", ");
        let expected = format!(r#"{{"height": {height}, "hash": null, "transaction_ids": [{list}]}}"#);
        prop_assert_eq!(payloads(&block.summary), vec![expected]);
    }
}

#[test]
fn an_encoding_keeps_as_much_memory_as_it_says() {
    for events in [0, 1, 10, 1_000] {
        let block = super::testing::block(7, events);
        for encoding in Encoding::ALL {
            let mut made = None;
            let kept = allocation_counter::measure(|| made = Some(encode_as(&block, encoding)));
            let said = made.expect("made").bytes_kept();
            assert_eq!(kept.bytes_current, said as i64, "{encoding:?} of {events} events");
        }
    }
}
