//! What is only skipped: a body with Python's words for numbers is taken exactly where JSON would be with
//! other words in their place, and says the same.

#![no_main]

use blockcast::block::{Block, DecodeRules, Decoded, decode, height_of, with_height};
use blockcast::config::Dialect;
use libfuzzer_sys::fuzz_target;
use serde::de::IgnoredAny;

const RULES: DecodeRules = DecodeRules {
    dialect: Dialect::Planetmint,
    body_bytes_max: 1 << 16,
    encoded_bytes_max: 1 << 22,
};
const WORDS: [&str; 3] = ["NaN", "Infinity", "-Infinity"];
/// Stands for a word; no text holds it.
const MARK: u8 = 0xff;
const OTHER_HEIGHT: u64 = 4_711;

fuzz_target!(|bytes: &[u8]| {
    let pieces: Result<Vec<_>, _> = bytes.split(|byte| *byte == MARK).map(str::from_utf8).collect();
    let Ok(pieces) = pieces else { return };
    // Words beside the marks, and what would be part of a longer word or an escape with one only.
    let is_other = |piece: &&str| {
        piece.contains("NaN")
            || piece.contains("Infinity")
            || ["-", "\\", "Na"].iter().any(|end| piece.ends_with(end))
    };
    if pieces.iter().any(is_other) {
        return;
    }
    let with_words = body(&pieces, |at| WORDS[at % WORDS.len()]);
    let with_null = body(&pieces, |_| "null");
    let with_numbers = body(&pieces, |_| "1e999");
    let decoded = decode(with_words.as_bytes(), &RULES);
    if serde_json::from_str::<IgnoredAny>(&with_null).is_err() {
        return assert!(decoded.is_err(), "no JSON with any word: {with_words}");
    }
    let expected = decode(with_numbers.as_bytes(), &RULES);
    assert_eq!(decoded.is_ok(), expected.is_ok(), "{with_words}: {decoded:?}");
    let (Ok(Decoded::Block(block)), Ok(Decoded::Block(expected))) = (decoded, expected) else {
        return;
    };
    assert_eq!(block.fields.len(), expected.fields.len(), "{with_words}");
    // An escape can make a longer word of one.
    if !with_words.contains('\\') {
        assert_eq!(said(&block), said(&expected), "{with_words}");
    }
    assert_eq!(height_of(with_words.as_bytes()), Some(block.height));
    let other = with_height(with_words.as_bytes(), OTHER_HEIGHT).expect("it has a height");
    match decode(&other, &RULES) {
        Ok(Decoded::Block(other)) => {
            assert_eq!((other.height, other.fields), (OTHER_HEIGHT, block.fields));
        }
        other => assert!(with_words.len() + 4 > RULES.body_bytes_max, "{other:?}"),
    }
});

/// What a block says, whatever word stood in its texts.
fn said(block: &Block) -> String {
    let fields: Vec<Vec<_>> =
        (0..block.fields.len()).map(|index| block.fields.of(index).collect()).collect();
    let said = format!("{} {:?} {fields:?}", block.height, block.hash);
    // The longest first.
    WORDS.iter().rev().fold(said, |said, word| said.replace(word, "1e999"))
}

/// The pieces where a value is skipped, and from there wherever they lead.
fn body<'a>(pieces: &[&str], word: impl Fn(usize) -> &'a str) -> String {
    let mut text = r#"{"height": 5, "transactions": [{"id": "a", "x": ["#.to_owned();
    for (at, piece) in pieces.iter().enumerate() {
        if at > 0 {
            text.push_str(word(at));
        }
        text.push_str(piece);
    }
    text + "]}]}"
}
