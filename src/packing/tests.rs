//! What is unpacked and to what, what is refused and why, and that nothing goes beyond the bound.

use std::io::Write;

use flate2::Compression;
use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};

use super::*;

const BYTES_MAX: usize = 100_000;

fn packed(content_encoding: &str) -> Packing {
    Packing { content_encoding: Some(content_encoding.into()), message_type: None }
}

fn sections() -> Packing {
    Packing { content_encoding: None, message_type: Some(SECTIONS.into()) }
}

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text).expect("packed");
    encoder.finish().expect("packed")
}

fn zlib(text: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text).expect("packed");
    encoder.finish().expect("packed")
}

fn raw_deflate(text: &[u8], level: u32) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::new(level));
    encoder.write_all(text).expect("packed");
    encoder.finish().expect("packed")
}

#[test]
fn known_encodings_are_unpacked_whatever_their_names_case() {
    let long: Vec<u8> = (0..BYTES_MAX).map(|at| (at * at / 7) as u8).collect();
    for text in [&b"{}"[..], b"", &long] {
        let two = [gzip(&text[..text.len() / 2]), gzip(&text[text.len() / 2..])].concat();
        for (name, body) in [
            ("gzip", gzip(text)),
            ("GZip", gzip(text)),
            (" x-gzip ", gzip(text)),
            ("gzip", two),
            ("deflate", zlib(text)),
            ("Deflate", raw_deflate(text, 6)),
            ("deflate", raw_deflate(text, 0)),
            ("identity", text.to_vec()),
            ("", text.to_vec()),
            ("UTF-8", text.to_vec()),
        ] {
            let unpacked = packed(name).unpack(&body, BYTES_MAX);
            assert!(unpacked.as_deref() == Ok(text), "{name:?}: {unpacked:?}");
        }
    }
    let plain = Packing::default();
    assert!(matches!(plain.unpack(b"{}", 1), Ok(Cow::Borrowed(b"{}"))), "nothing is copied");
}

#[test]
fn what_is_not_as_its_encoding_says_is_told() {
    let text = b"{\"height\": 1, \"transactions\": []}";
    let mut damaged = gzip(text);
    let at = damaged.len() - 6;
    damaged[at] ^= 1;
    let cut = |body: Vec<u8>| body[..body.len() - 1].to_vec();
    let and = |body: Vec<u8>, more: &[u8]| [&body, more].concat();
    for (name, body, fault) in [
        ("gzip", damaged, "gzip, but the body is damaged"),
        ("gzip", text.to_vec(), "gzip, but the body is damaged"),
        ("gzip", zlib(text), "gzip, but the body is damaged"),
        ("gzip", Vec::new(), "gzip, but the body is cut off"),
        ("gzip", cut(gzip(text)), "gzip, but the body is cut off"),
        ("gzip", gzip(text)[..5].to_vec(), "gzip, but the body is cut off"),
        ("gzip", and(gzip(text), b"\0"), "gzip, but the body has bytes behind its end"),
        ("gzip", and(gzip(text), &gzip(text)[..12]), "gzip, but the body is cut off"),
        ("gzip", gzip(b"").repeat(2_000), "gzip, but the body has more than 1,024 members"),
        ("deflate", cut(zlib(text)), "deflate, but the body is cut off"),
        ("deflate", cut(raw_deflate(text, 6)), "deflate, but the body is cut off"),
        ("deflate", and(zlib(text), b"x"), "deflate, but the body has bytes behind its end"),
        ("deflate", Vec::new(), "deflate, but the body is cut off"),
        ("deflate", b"\x78\x9c\xff\xff".to_vec(), "deflate, but the body is damaged"),
        ("deflate", b"\xff\xff".to_vec(), "deflate, but the body is damaged"),
    ] {
        let error = packed(name).unpack(&body, BYTES_MAX).expect_err(fault).to_string();
        assert!(error.ends_with(fault), "{error:?}, not {fault:?}");
    }
    for (name, told) in [
        ("br", "\"br\""),
        ("gzip, deflate", "\"gzip, deflate\""),
        ("a\nb\u{1b}[0m", "\"a\\nb\\u{1b}[0m\""),
        (&"ü".repeat(200), &format!("\"{}\"", "ü".repeat(NAME_CHARS_MAX))),
    ] {
        let error = packed(name).unpack(b"{}", BYTES_MAX).expect_err(name);
        assert!(matches!(error, UnpackError::UnknownEncoding(_)), "{name:?}");
        assert!(error.to_string().contains(told), "{error}");
    }
}

#[test]
fn nothing_is_unpacked_beyond_the_bound() {
    let bomb = vec![b' '; 50_000_000];
    for (name, body) in
        [("gzip", gzip(&bomb)), ("deflate", zlib(&bomb)), ("deflate", raw_deflate(&bomb, 6))]
    {
        let mut outcome = Ok(Cow::Borrowed(&b""[..]));
        let measured =
            allocation_counter::measure(|| outcome = packed(name).unpack(&body, BYTES_MAX));
        assert_eq!(outcome, Err(UnpackError::TooLarge { bytes_max: BYTES_MAX }), "{name}");
        let bytes = measured.bytes_max;
        // What came before while its successor is filled, and the inflater's own state.
        assert!(bytes < 2 * BYTES_MAX as u64 + (80 << 10), "{bytes} bytes at once");
    }
    for (len, passes) in [(BYTES_MAX, true), (BYTES_MAX + 1, false)] {
        let body = gzip(&bomb[..len]);
        assert_eq!(packed("gzip").unpack(&body, BYTES_MAX).is_ok(), passes, "{len}");
        let half = gzip(&bomb[..len / 2]);
        let halves = [half, gzip(&bomb[..len - len / 2])].concat();
        assert_eq!(packed("gzip").unpack(&halves, BYTES_MAX).is_ok(), passes, "{len}");
    }
}

#[test]
fn sections_yield_their_bytes() {
    let long = [&[0x00, 0x53, 0x77, 0xb1, 0, 0, 1, 0][..], &[b'x'; 256]].concat();
    let ulong = b"\x00\x80\0\0\0\0\0\0\0\x77\xa1\x02{}";
    let symbol = b"\x00\xa3\x11amqp:amqp-value:*\xa1\x02{}";
    for (body, content) in [
        (&b"\x00\x53\x77\xa1\x02{}"[..], &b"{}"[..]),
        (b"\x00\x53\x77\xa0\x02{}", b"{}"),
        (b"\x00\x53\x77\xa3\x02{}", b"{}"),
        (b"\x00\x53\x77\xb0\0\0\0\x02{}", b"{}"),
        (&long, &[b'x'; 256]),
        (ulong, b"{}"),
        (symbol, b"{}"),
        (b"\x00\x53\x75\xa0\x01{\x00\x53\x75\xa0\x01}", b"{}"),
        // A footer, whatever is in it.
        (b"\x00\x53\x77\xa1\x02{}\x00\x53\x78\xd1\0", b"{}"),
        (b"\x00\x53\x75\xa0\x00", b""),
    ] {
        assert_eq!(sections().unpack(body, BYTES_MAX).as_deref(), Ok(content), "{body:?}");
    }

    let both = Packing { content_encoding: Some("gzip".into()), ..sections() };
    let packed = gzip(b"{}");
    let body = [&[0x00, 0x53, 0x77, 0xa0, packed.len() as u8][..], &packed].concat();
    assert_eq!(both.unpack(&body, BYTES_MAX).as_deref(), Ok(&b"{}"[..]));
    // A producer of AMQP 0-9-1 may call its messages what it likes.
    assert_eq!(sections().unpack(b"{}", BYTES_MAX).as_deref(), Ok(&b"{}"[..]));
    assert_eq!(sections().unpack(b"", BYTES_MAX).as_deref(), Ok(&b""[..]));
}

/// What RabbitMQ 3.10.8's plugin handed to a 0-9-1 consumer of what Qpid Proton 0.40 sent.
#[test]
fn recorded_sections_are_read_or_told() {
    let recorded = include_str!("../../tests/data/amqp-1.0-bodies.ndjson");
    for line in recorded.lines() {
        let case: serde_json::Value = serde_json::from_str(line).expect("a case");
        let text = |key: &str| case[key].as_str();
        let packing =
            Packing { content_encoding: None, message_type: text("type").map(Into::into) };
        let body = text("body_hex").expect("a body");
        let body = data_encoding::HEXLOWER.decode(body.as_bytes()).expect("hexadecimal");
        let unpacked = packing.unpack(&body, BYTES_MAX);
        match text("content") {
            Some(content) => assert_eq!(unpacked.as_deref(), Ok(content.as_bytes()), "{line}"),
            None => assert!(matches!(unpacked, Err(UnpackError::Sections(_))), "{line}"),
        }
    }
    assert_eq!(recorded.lines().count(), 8);
}

#[test]
fn sections_without_bytes_are_told_as_what_they_are() {
    for (body, told) in [
        (&b"\x00\x53\x77\x40"[..], "no text and no bytes (type 0x40)"),
        (b"\x00\x53\x77\xc1\x01\x00", "no text and no bytes (type 0xc1)"),
        (b"\x00\x53\x77\x54\x07", "no text and no bytes (type 0x54)"),
        (b"\x00\x53\x76\x45", "an AMQP 1.0 sequence"),
        (b"\x00", "malformed at byte 1"),
        (b"\x00\x53", "malformed at byte 2"),
        (b"\x00\x53\x79\xa0\x00", "malformed at byte 0"),
        (b"\x00\x53\x78\xc1\x01\x00", "malformed at byte 0"),
        (b"\x00\x53\x77\xa1\x03{}", "malformed at byte 5"),
        (b"\x00\x53\x77\xb1\xff\xff\xff\xff{}", "malformed at byte 8"),
        (b"\x00\x53\x77\xa1\x02{}x", "malformed at byte 7"),
        (b"\x00\x53\x77\xa1\x00\x00\x53\x77\xa1\x00", "malformed at byte 5"),
    ] {
        let error = sections().unpack(body, BYTES_MAX).expect_err(told).to_string();
        assert!(error.contains(told), "{error:?}, not {told:?}");
    }
}
