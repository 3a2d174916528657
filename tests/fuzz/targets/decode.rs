//! Message bodies: whatever they are, decoding yields a block or says what is wrong, and what it yields
//! can be encoded in every shape, and decoded again to the same.

#![no_main]

use blockcast::block::{Block, DecodeRules, Decoded, decode, height_of, with_height};
use blockcast::config::Dialect;
use blockcast::filter::Index;
use blockcast::frame::{EncodedBlock, Encoding, encode, encode_as};
use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};

const OTHER_HEIGHT: u64 = 4_711;

fuzz_target!(|bytes: &[u8]| {
    let Some((first, body)) = bytes.split_first() else { return };
    let dialect = if first % 2 == 0 { Dialect::Bigchaindb } else { Dialect::Planetmint };
    let rules = DecodeRules { dialect, body_bytes_max: 1 << 16, encoded_bytes_max: 1 << 22 };
    let block = match decode(body, &rules) {
        Ok(Decoded::Block(block)) => block,
        Ok(Decoded::MarkedInvalid) => return,
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    assert_eq!(height_of(body), Some(block.height));
    same_under_another_height(body, &block, &rules);
    same_again(&block, &rules);
    encodes(block, dialect);
});

fn block_of(body: &[u8], rules: &DecodeRules) -> Block {
    match decode(body, rules) {
        Ok(Decoded::Block(block)) => block,
        other => panic!("a block was due: {other:?}"),
    }
}

fn same_under_another_height(body: &[u8], block: &Block, rules: &DecodeRules) {
    let other = with_height(body, OTHER_HEIGHT).expect("it has a height");
    // A longer one may be above the bounds.
    if let Ok(Decoded::Block(other)) = decode(&other, rules) {
        assert_eq!(other.height, OTHER_HEIGHT);
        assert_eq!((&other.hash, &other.fields), (&block.hash, &block.fields));
    }
}

/// Written anew with nothing but what the block says, it says the same.
fn same_again(block: &Block, rules: &DecodeRules) {
    let ids = (0..block.fields.len()).map(|index| block.fields.transaction_id(index));
    let transactions: Vec<Value> = ids.map(|id| json!({ "id": id })).collect();
    let body = json!({ "height": block.height, "hash": block.hash, "transactions": transactions });
    let rules =
        DecodeRules { body_bytes_max: usize::MAX, encoded_bytes_max: u64::MAX, ..rules.clone() };
    let again = block_of(body.to_string().as_bytes(), &rules);
    assert_eq!(again.height, block.height);
    assert!(again.content().agrees(&block.content()), "{body}");
}

fn encodes(block: Block, dialect: Dialect) {
    let (height, len) = (block.height, block.fields.len());
    let ids: Vec<String> =
        (0..len).map(|index| block.fields.transaction_id(index).to_owned()).collect();
    let encoded = encode(block, dialect);
    assert_eq!(encoded.events_len(), len);
    for (index, id) in ids.iter().enumerate() {
        let event: Value = serde_json::from_slice(encoded.payload(index)).expect("JSON");
        assert_eq!(event["height"].as_u64(), Some(height));
        assert_eq!(event["transaction_id"].as_str(), Some(id.as_str()));
        assert!(encoded.payload(index).is_ascii(), "as Python's json has it");
    }
    frames_end_where_they_say(&encoded);
    for encoding in Encoding::ALL {
        let made = encode_as(&encoded, encoding);
        assert!(made.ends.is_sorted());
        assert_eq!(made.ends.last().map_or(0, |end| *end as usize), made.bytes.len());
    }
    let _index = Index::of(&encoded.fields);
}

fn frames_end_where_they_say(encoded: &EncodedBlock) {
    let mut at = 0;
    for (index, end) in encoded.event_ends.iter().enumerate() {
        let frame = &encoded.events[at..*end as usize];
        assert!(frame[0] == 0x81 && frame.ends_with(encoded.payload(index)));
        at = *end as usize;
    }
    assert_eq!(at, encoded.events.len());
}
