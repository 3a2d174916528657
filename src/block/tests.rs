//! What is a block and what is not, by tables.

mod model;
mod recorded;

use super::*;
use crate::protocol::HEIGHT_MAX;

const RULES: DecodeRules = DecodeRules {
    dialect: Dialect::Bigchaindb,
    body_bytes_max: 8 << 20,
    encoded_bytes_max: 64 << 20,
};

fn read(body: &str) -> Result<Decoded, DecodeError> {
    decode(body.as_bytes(), &RULES)
}

#[track_caller]
fn block(body: &str, rules: &DecodeRules) -> Block {
    match decode(body.as_bytes(), rules) {
        Ok(Decoded::Block(block)) => block,
        other => panic!("not a block: {other:?}"),
    }
}

/// A block of one transaction, `inner` between its braces.
fn of_one(inner: &str) -> String {
    format!(r#"{{"height": 5, "transactions": [{{{inner}}}]}}"#)
}

fn nested(depth: usize) -> String {
    "[".repeat(depth) + &"]".repeat(depth)
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table of cases")]
fn bad_bodies_are_refused_by_kind() {
    use DecodeErrorKind::{BadHeight, NotJson, NotUtf8, WrongShape};
    let one = |inner: &str| of_one(inner).into_bytes();
    let with_height =
        |raw: &str| format!(r#"{{"height": {raw}, "transactions": []}}"#).into_bytes();
    let table: Vec<(&str, Vec<u8>, DecodeErrorKind)> = vec![
        ("empty body", b"".into(), NotJson),
        ("only space", b" \n".into(), NotJson),
        ("not UTF-8", b"{\"height\": 5, \"transactions\": [], \"x\": \"\xff\"}".into(), NotUtf8),
        ("surrogate in UTF-8", b"\"\xed\xa0\x80\"".into(), NotUtf8),
        ("two byte order marks", "\u{feff}\u{feff}{}".into(), NotJson),
        ("byte order mark elsewhere", "{\u{feff}}".into(), NotJson),
        ("only a byte order mark", "\u{feff}".into(), NotJson),
        ("half a byte order mark", b"\xef\xbb{}".into(), NotUtf8),
        ("gzip that nobody told of", b"\x1f\x8b\x08\0".into(), NotUtf8),
        ("NaN height", with_height("NaN"), BadHeight),
        ("infinite height", with_height("-Infinity"), BadHeight),
        ("NaN transactions", br#"{"height": 5, "transactions": NaN}"#.into(), NotJson),
        ("NaN hash", br#"{"height": 5, "transactions": [], "hash": NaN}"#.into(), NotJson),
        (
            "NaN in place of a transaction",
            br#"{"height": 5, "transactions": [NaN]}"#.into(),
            NotJson,
        ),
        ("NaN id", one(r#""id": NaN"#), NotJson),
        ("NaN operation", one(r#""id": "a", "operation": NaN"#), NotJson),
        ("NaN asset", one(r#""id": "a", "asset": NaN"#), NotJson),
        ("infinite asset id", one(r#""id": "a", "asset": {"id": Infinity}"#), NotJson),
        ("NaN key", one(r#""id": "a", "outputs": [{"public_keys": [NaN]}]"#), NotJson),
        ("NaN as a whole", b"NaN".into(), NotJson),
        (
            "NaN type",
            br#"{"type": NaN, "data": {"height": 5, "transactions": []}}"#.into(),
            WrongShape,
        ),
        ("NaN data", br#"{"type": 1, "data": NaN}"#.into(), NotJson),
        ("negative NaN", one(r#""id": "a", "x": -NaN"#), NotJson),
        ("longer word", one(r#""id": "a", "x": NaNs"#), NotJson),
        ("word behind a digit", one(r#""id": "a", "x": 1NaN"#), NotJson),
        ("NaN and a mistake", one(r#""id": "a", "x": NaN, }"#), NotJson),
        ("truncated", br#"{"height": 5, "transactions": [{"id": "a""#.into(), NotJson),
        ("trailing bytes", br#"{"height": 5, "transactions": []} x"#.into(), NotJson),
        ("two objects", br#"{"height": 5, "transactions": []}{}"#.into(), NotJson),
        ("trailing comma", br#"{"height": 5, "transactions": [],}"#.into(), NotJson),
        ("control character in a key", b"{\"a\nb\": 1}".into(), NotJson),
        ("control character under a key", b"{\"a\": \"\x01\"}".into(), NotJson),
        ("array", b"[]".into(), WrongShape),
        ("array as an object", b"[5, []]".into(), WrongShape),
        ("number", b"5".into(), WrongShape),
        ("null", b"null".into(), WrongShape),
        ("empty object", b"{}".into(), WrongShape),
        ("no height", br#"{"transactions": []}"#.into(), BadHeight),
        ("negative height", with_height("-5"), BadHeight),
        ("negative zero", with_height("-0"), BadHeight),
        ("fraction", with_height("1.5"), BadHeight),
        ("whole fraction", with_height("1.0"), BadHeight),
        ("exponent", with_height("1e3"), BadHeight),
        ("huge exponent", with_height("1e999"), BadHeight),
        ("words", with_height("\"abc\""), BadHeight),
        ("empty string", with_height("\"\""), BadHeight),
        ("signed string", with_height("\"+5\""), BadHeight),
        ("padded string", with_height("\"05\""), BadHeight),
        ("spaced string", with_height("\" 5\""), BadHeight),
        ("null height", with_height("null"), BadHeight),
        ("true", with_height("true"), BadHeight),
        ("list of a height", with_height("[5]"), BadHeight),
        ("2^63", with_height("9223372036854775808"), BadHeight),
        ("2^64", with_height("18446744073709551616"), BadHeight),
        ("2^63 as a string", with_height("\"9223372036854775808\""), BadHeight),
        ("padded number", with_height("05"), NotJson),
        ("two heights", br#"{"height": 5, "height": 5, "transactions": []}"#.into(), WrongShape),
        ("no transactions", br#"{"height": 5}"#.into(), WrongShape),
        ("transactions as an object", br#"{"height": 5, "transactions": {}}"#.into(), WrongShape),
        ("transactions as a string", br#"{"height": 5, "transactions": "a"}"#.into(), WrongShape),
        ("transactions false", br#"{"height": 5, "transactions": false}"#.into(), WrongShape),
        (
            "transactions twice",
            br#"{"transactions": [], "height": 5, "transactions": []}"#.into(),
            WrongShape,
        ),
        ("transaction null", br#"{"height": 5, "transactions": [null]}"#.into(), WrongShape),
        ("transaction a string", br#"{"height": 5, "transactions": ["a"]}"#.into(), WrongShape),
        ("transaction a list", br#"{"height": 5, "transactions": [["a"]]}"#.into(), WrongShape),
        (
            "transaction a deep list",
            format!(r#"{{"height": 5, "transactions": {}}}"#, nested(10_000)).into(),
            WrongShape,
        ),
        (
            "second transaction bad",
            br#"{"height": 5, "transactions": [{"id": "a"}, {}]}"#.into(),
            WrongShape,
        ),
        ("no id", one(""), WrongShape),
        ("empty id", one(r#""id": """#), WrongShape),
        ("number id", one(r#""id": 5"#), WrongShape),
        ("null id", one(r#""id": null"#), WrongShape),
        ("list id", one(r#""id": ["a"]"#), WrongShape),
        ("two ids", one(r#""id": "a", "id": "a""#), WrongShape),
        ("two ids, one escaped", one(r#""id": "a", "\u0069d": "a""#), WrongShape),
        ("two assets", one(r#""id": "a", "asset": null, "asset": null"#), WrongShape),
        ("two asset ids", one(r#""id": "a", "asset": {"id": 1, "id": "b"}"#), WrongShape),
        ("two outputs", one(r#""id": "a", "outputs": [], "outputs": []"#), WrongShape),
        (
            "two lists of keys",
            one(r#""id": "a", "outputs": [{"public_keys": [], "public_keys": []}]"#),
            WrongShape,
        ),
        ("lone surrogate in an id", one(r#""id": "\ud800""#), NotJson),
        ("reversed surrogates in an id", one(r#""id": "\udc00\ud800""#), NotJson),
        (
            "lone surrogate in an asset's id",
            one(r#""id": "a", "asset": {"id": "\ud800"}"#),
            NotJson,
        ),
        (
            "lone surrogate in the hash",
            br#"{"height": 5, "transactions": [], "hash": "\ud800"}"#.into(),
            NotJson,
        ),
        ("number hash", br#"{"height": 5, "transactions": [], "hash": 5}"#.into(), WrongShape),
        (
            "two hashes",
            br#"{"height": 5, "transactions": [], "hash": null, "hash": null}"#.into(),
            WrongShape,
        ),
        ("no type", br#"{"data": {"height": 5, "transactions": []}}"#.into(), WrongShape),
        ("no data", br#"{"type": 1}"#.into(), WrongShape),
        ("null data", br#"{"type": 1, "data": null}"#.into(), WrongShape),
        ("list data", br#"{"type": 1, "data": [5, []]}"#.into(), WrongShape),
        (
            "other type",
            br#"{"type": 3, "data": {"height": 5, "transactions": []}}"#.into(),
            WrongShape,
        ),
        (
            "type as text",
            br#"{"type": "1", "data": {"height": 5, "transactions": []}}"#.into(),
            WrongShape,
        ),
        (
            "two types",
            br#"{"type": 1, "type": 2, "data": {"height": 5, "transactions": []}}"#.into(),
            WrongShape,
        ),
        (
            "two data",
            br#"{"type": 1, "data": {}, "data": {"height": 5, "transactions": []}}"#.into(),
            WrongShape,
        ),
        (
            "event in an event",
            br#"{"type": 1, "data": {"type": 1, "data": {"height": 5, "transactions": []}}}"#
                .into(),
            WrongShape,
        ),
        (
            "event without a height",
            br#"{"type": 1, "data": {"transactions": []}}"#.into(),
            BadHeight,
        ),
    ];
    for (name, body, kind) in table {
        match decode(&body, &RULES) {
            Err(error) => {
                assert_eq!(error.kind, kind, "{name}: {error}");
                assert!(error.to_string().len() < 400, "{name}: {error}");
            }
            Ok(message) => panic!("{name} passed: {message:?}"),
        }
    }
}

#[test]
fn odd_bodies_pass() {
    let table = [
        r#" { "transactions" : null , "height" : 5 } "#.to_owned(),
        r#"{"height": "5", "transactions": [], "hash": null}"#.into(),
        r#"{"height": 5, "transactions": [], "type": {}, "data": 1, "type": 9, "data": 2}"#.into(),
        r#"{"data": {"transactions": [], "height": 5, "type": 1}, "type": 1}"#.into(),
        r#"{"type": "BLOCK_VALID", "data": {"height": 5, "transactions": []}, "hash": 1}"#.into(),
        r#"{"height": 5, "transactions": [], "x\ud800": "\udc00\ud800", "x": 1e999, "x": 1}"#
            .into(),
        format!(r#"{{"height": 5, "transactions": [], "deep": {}}}"#, nested(10_000)),
        format!(r#"{{"height": 5, "transactions": [], "deep": {}}}"#, nested(1_000_000)),
        format!(
            r#"{{"type": 1, "data": {{"height": 5, "transactions": [], "deep": {}}}}}"#,
            nested(1_000_000)
        ),
        of_one(&format!(r#""id": "a", "deep": {}"#, nested(1_000_000))),
        of_one(&format!(r#""id": "a", "asset": {}"#, nested(1_000_000))),
        of_one(&format!(r#""id": "a", "asset": {{"id": {}}}"#, nested(1_000_000))),
        of_one(&format!(r#""id": "a", "operation": {}"#, nested(10_000))),
        of_one(&format!(r#""id": "a", "inputs": {}"#, nested(1_000_000))),
        of_one(&format!(r#""id": "a", "outputs": [{{"public_keys": {}}}]"#, nested(1_000_000))),
        of_one(r#""id": "a", "\udc00": "\udc00", "asset": {"\ud800\ud800": 1, "id": "a"}"#),
        of_one(r#""id": "a", "inputs": 5, "outputs": [null, 1, "x", {"public_keys": null}]"#),
        of_one(r#""id": "a", "outputs": [{"public_keys": [null, 1, {}, []], "x\ud800": 1}]"#),
        of_one(r#""id": "a", "outputs": {"public_keys": ["k"]}, "asset": [{"id": "b"}]"#),
        of_one(r#""id": "a", "assets": 1, "assets": 2, "metadata": "\ud800""#),
        of_one(r#""id": "a", "metadata": {"x": [NaN, -Infinity], "NaN": Infinity}, "y":NaN"#),
        of_one(r#""id": "a", "asset": {"data": NaN}, "inputs": [{"fulfills": Infinity}]"#),
        of_one(r#""x\ud800": NaN, "outputs": [{"x\ud800": NaN}], "id": "a""#),
        of_one(&format!(r#""id": "a", "x": {}NaN{}"#, "[".repeat(500_000), "]".repeat(500_000))),
        r#"{"x": NaN, "type": 1, "data": {"height": 5, "transactions": [{"id": "a", "x": NaN}]}}"#
            .into(),
        "\u{feff}{\"height\": 5, \"transactions\": []}".into(),
        "\u{feff}{\"height\": 5, \"x\": NaN, \"transactions\": []}".into(),
    ];
    for body in table {
        for dialect in [Dialect::Bigchaindb, Dialect::Planetmint] {
            let body = match dialect {
                Dialect::Planetmint => body.replace(r#""assets": 1, "#, ""),
                Dialect::Bigchaindb => body.clone(),
            };
            let block = block(&body, &DecodeRules { dialect, ..RULES });
            assert_eq!(block.height, 5);
            for index in 0..block.fields.len() {
                let fields: Vec<_> = block
                    .fields
                    .of(index)
                    .filter(|f| !matches!(f, TransactionField::Operation(_)))
                    .collect();
                assert_eq!(
                    fields,
                    [TransactionField::TransactionId("a"), TransactionField::AssetId("a")]
                );
            }
        }
    }
}

#[test]
fn heights_and_both_envelopes_are_read() {
    for (raw, height) in [
        ("0", 0),
        ("\"0\"", 0),
        ("9223372036854775807", HEIGHT_MAX),
        ("\"9223372036854775807\"", HEIGHT_MAX),
        ("\"\\u0034\\u0032\"", 42),
    ] {
        let plain = format!(r#"{{"height": {raw}, "transactions": []}}"#);
        let event = format!(r#"{{"data": {plain}, "type": 1}}"#);
        for body in [plain, event] {
            assert_eq!(block(&body, &RULES).height, height, "{body}");
            assert_eq!(height_of(body.as_bytes()), Some(height));
        }
    }
}

#[test]
fn block_marked_invalid_is_not_looked_at() {
    for body in [
        r#"{"type": 2, "data": 5}"#,
        r#"{"type": "BLOCK_INVALID", "data": {"height": 5, "transactions": "x"}}"#,
        r#"{"data": 1, "data": 2, "type": 2}"#,
    ] {
        assert_eq!(read(body), Ok(Decoded::MarkedInvalid), "{body}");
        assert_eq!(height_of(body.as_bytes()), None);
    }
}

#[test]
fn large_bodies_and_blown_up_blocks_are_refused() {
    let kind = |body: &str, rules: &DecodeRules| decode(body.as_bytes(), rules).map_err(|e| e.kind);
    let body = of_one(r#""id": "a""#);
    let exact = DecodeRules { body_bytes_max: body.len(), ..RULES };
    assert!(kind(&body, &exact).is_ok());
    assert_eq!(kind(&(body.clone() + " "), &exact), Err(DecodeErrorKind::TooLarge));
    let tight = DecodeRules { body_bytes_max: 1, ..RULES };
    assert_eq!(decode(b"\xff\xff", &tight).unwrap_err().kind, DecodeErrorKind::TooLarge);

    let encoded_bytes_max = EncodedLen::of(&block(&body, &RULES), RULES.dialect).kept();
    assert!(kind(&body, &DecodeRules { encoded_bytes_max, ..RULES }).is_ok());
    let less = DecodeRules { encoded_bytes_max: encoded_bytes_max - 1, ..RULES };
    assert_eq!(kind(&body, &less), Err(DecodeErrorKind::TooLarge));

    // 1 MB of assets without an id would repeat half a megabyte of id half a million times.
    let (id, assets) = ("\x7f".repeat(500_000), "0,".repeat(500_000));
    let bomb = of_one(&format!(r#""assets": [{assets}0], "id": "{id}""#));
    let planetmint = DecodeRules { dialect: Dialect::Planetmint, ..RULES };
    assert_eq!(kind(&bomb, &planetmint), Err(DecodeErrorKind::TooLarge));
    let kept = block(&bomb, &RULES).bytes();
    assert!(kept < bomb.len(), "{kept} bytes are kept of {}", bomb.len());
}

#[test]
fn a_block_is_judged_by_all_that_it_keeps_and_not_by_its_frames_alone() {
    // Of the shortest ids there are, at a height that a chain reaches in years.
    let (one, count) = (r#"{"id":"a"}"#, 10_000);
    let transactions = vec![one; count].join(",");
    let body = format!(r#"{{"height": 12345678, "transactions": [{transactions}]}}"#);
    let of_one_byte = 8;
    let short = EncodedLen::of(&block(&body, &RULES), RULES.dialect);
    assert!(short.kept() <= of_one_byte * body.len() as u64, "{short:?} of {}", body.len());
    assert!(short.kept() > (of_one_byte - 1) * body.len() as u64, "{short:?} of {}", body.len());

    // Many owners make long fields, and no frames at all.
    let owners = vec![r#"{"public_keys": ["a", "b"]}"#; count].join(",");
    let owned = of_one(&format!(r#""id": "a", "outputs": [{owners}]"#));
    assert!(EncodedLen::of(&block(&owned, &RULES), RULES.dialect).frames() < 200);
    for body in [body, owned] {
        let len = EncodedLen::of(&block(&body, &RULES), RULES.dialect);
        let rules = |encoded_bytes_max| DecodeRules { encoded_bytes_max, ..RULES };
        let refused = decode(body.as_bytes(), &rules(len.kept() - 1)).expect_err("too much");
        assert_eq!(refused.kind, DecodeErrorKind::TooLarge);
        assert!(refused.to_string().contains("half of history.max_bytes"), "{refused}");
        assert!(decode(body.as_bytes(), &rules(len.kept())).is_ok());
        assert!(len.frames() < len.kept(), "{len:?}");
    }
}

#[test]
fn errors_say_where() {
    for (body, message) in [
        (of_one(r#""id": "a"}, {"id": 7"#), "transaction 1, key `id`: invalid type: integer `7`"),
        (of_one(r#""id": "a"}, {"x": 7"#), "transaction 1, key `id`: missing field `id`"),
        (of_one(r#""asset": {"id": 1, "id": 2}"#), "transaction 0, key `asset`: the key `id` is"),
        (of_one(r#""id": "a"}, 7, {"id": "b""#), "transaction 1: invalid type: integer `7`"),
        (r#"{"height": -1, "transactions": []}"#.into(), "`height` is no integer from 0"),
        (r#"{"type": 1, "data": {"transactions": [{"id": "a", ]}}"#.into(), "near byte 50"),
        (r#"{"type": 1, "data": {"transactions": [{"id": 7}]}}"#.into(), "near byte 45"),
        (
            "\u{feff}{\"type\": 1, \"data\": {\"transactions\": [{\"id\": 7}]}}".into(),
            "near byte 48",
        ),
        (r#"{"x": [NaN, NaN], "transactions": [{"id": 7}]}"#.into(), "near byte 42"),
        (
            r#"{"x": [NaN, NaN], "transactions": [{"id": 7}]}"#.into(),
            "(NaN and Infinity are read as numbers out of range)",
        ),
        (r#"{"x": NaN, "height": -Infinity, "transactions": []}"#.into(), "2^63 - 1: -Infinity"),
        (r#"{"x": NaN, "height": 1e999, "transactions": []}"#.into(), "2^63 - 1: 1e999 (NaN and"),
        ("\u{1f}\u{8b}".into(), "near byte 0"),
    ] {
        let error = read(&body).expect_err(&body).to_string();
        assert!(error.contains(message), "{error} for {body}");
    }
    let error = decode(b"\x1f\x8b\x08\0", &RULES).expect_err("gzip").to_string();
    assert!(error.contains("byte 1") && error.contains("content_encoding"), "{error}");
}

#[test]
fn planetmint_asset_ids_follow_the_transactions_shape() {
    for (inner, expected) in [
        (r#""id": "t""#, &["t"][..]),
        (r#""id": "t", "assets": null"#, &["t"]),
        (r#""id": "t", "asset": {"id": "a"}"#, &["a"]),
        (r#""id": "t", "asset": {"data": {}}"#, &["t"]),
        (r#""id": "t", "asset": null"#, &["t"]),
        (r#""assets": null, "asset": {"id": "a"}, "id": "t""#, &["a"]),
        (r#""assets": [], "id": "t""#, &[]),
        (r#""assets": [], "asset": {"id": "a"}, "id": "t""#, &[]),
        (r#""assets": [{"id": "a"}], "id": "t""#, &["a"]),
        (
            r#""assets": [{"id": "a"}, {"data": 1}, null, "x", {"id": 5}], "id": "t""#,
            &["a", "t", "t", "t", "t"],
        ),
        (r#""id": "t", "assets": [{"data": "d"}, {"id": "b"}], "asset": {"id": "a"}"#, &["t", "b"]),
        (r#""assets": {"id": "a"}, "id": "t""#, &["a"]),
        (r#""id": "t", "assets": {"data": {"id": "d"}}"#, &["t"]),
        (r#""id": "t", "assets": {}, "asset": {"id": "a"}"#, &["t"]),
        (r#""assets": "a", "asset": {"id": "a"}, "id": "t""#, &["t"]),
    ] {
        let rules = DecodeRules { dialect: Dialect::Planetmint, ..RULES };
        let block = block(&of_one(inner), &rules);
        let found: Vec<&str> = block.fields.asset_ids(0).collect();
        assert_eq!(found, expected, "{inner}");
    }
}

#[test]
fn content_knows_the_same_block_again() {
    let [one, other] = [r#"{"id": "a"}, {"id": "b"}"#, r#"{"id": "b"}, {"id": "a"}, {"id": "a"}"#]
        .map(|list| block(&format!(r#"{{"height": 5, "transactions": [{list}]}}"#), &RULES));
    assert!(one.content().agrees(&other.content()));
    assert!(!one.content().agrees(&block(&of_one(r#""id": "a""#), &RULES).content()));
}
