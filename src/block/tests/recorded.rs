//! Bodies as producers send them that are only odd, and packed ones.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::*;

#[test]
fn recorded_bodies_that_are_only_odd_pass() {
    let lines = include_str!("../../../tests/data/bodies-that-pass.ndjson").lines();
    let marked = include_str!("../../../tests/data/body-with-byte-order-mark.json");
    assert!(marked.starts_with('\u{feff}'));
    for (height, body) in (2..).zip(lines.chain([marked])) {
        let block = block(body, &RULES);
        assert_eq!((block.height, block.fields.len()), (height, 1));
        assert_eq!(block.fields.transaction_id(0), format!("{height:064}"));
        assert_eq!(height_of(body.as_bytes()), Some(height));
    }
}

#[test]
fn packed_bodies_are_as_large_as_they_unpack() {
    let body = of_one(r#""id": "a""#) + &" ".repeat(1_000);
    let packing = Packing { content_encoding: Some("gzip".into()), message_type: None };
    let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
    gzip.write_all(body.as_bytes()).expect("packed");
    let packed = gzip.finish().expect("packed");
    let unpacked = unpack(&packed, &packing, body.len()).expect("small enough");
    assert_eq!(decode(&unpacked, &RULES), read(&body));
    assert_eq!(packed_height_of(&packed, &packing, body.len()), Some(5));
    let kind = |body_bytes_max| unpack(&packed, &packing, body_bytes_max).map_err(|e| e.kind);
    assert_eq!(kind(packed.len() - 1), Err(DecodeErrorKind::TooLarge));
    assert_eq!(
        unpack(&packed[1..], &packing, 99).unwrap_err().kind,
        DecodeErrorKind::CorruptEncoding
    );
    assert_eq!(packed_height_of(&packed[1..], &packing, 99), None);
    let other = Packing { content_encoding: Some("zstd".into()), ..packing };
    assert_eq!(unpack(&packed, &other, 99).unwrap_err().kind, DecodeErrorKind::UnknownEncoding);
}
