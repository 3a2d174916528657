use std::io::Read;
use std::path::Path;

use flate2::read::GzDecoder;
use serde_json::Value;

use super::*;
use crate::block::{DecodeRules, Decoded, decode};
use crate::config::Dialect;
use crate::frame::encode;
use crate::frame::testing::block;

fn with_hash(hash: &str) -> EncodedBlock {
    let body = serde_json::json!({
        "height": 7, "hash": hash, "transactions": [{ "id": "ä" }, { "id": "b" }],
    });
    encoded(&body.to_string())
}

fn encoded(body: &str) -> EncodedBlock {
    let dialect = Dialect::Bigchaindb;
    let rules = DecodeRules { dialect, body_bytes_max: usize::MAX, encoded_bytes_max: u64::MAX };
    match decode(body.as_bytes(), &rules) {
        Ok(Decoded::Block(block)) => encode(block, dialect),
        other => panic!("a block was due: {other:?}"),
    }
}

fn samples() -> Vec<EncodedBlock> {
    vec![block(0, 0), block(1, 1), block(42, 3), block(1_000, 400), with_hash("a\"\\\u{1f600}")]
}

fn real_chain() -> Vec<EncodedBlock> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/chain.ndjson");
    std::fs::read_to_string(path).expect("the real chain").lines().map(encoded).collect()
}

/// The messages one by one.
fn each(messages: &MessageRun) -> Vec<&[u8]> {
    let mut start = 0;
    let each = messages.ends.iter().map(|end| {
        let message = &messages.bytes[start..*end as usize];
        start = *end as usize;
        message
    });
    let each = each.collect();
    assert_eq!(start, messages.bytes.len(), "the last message ends the run");
    each
}

fn json_of(frame: &[u8]) -> Value {
    serde_json::from_slice(payload(frame)).expect("one frame of JSON")
}

/// What a decoder makes of pieces behind a header.
fn inflated(pieces: &[u8]) -> Vec<u8> {
    let stream = [&GZIP_HEADER, pieces].concat();
    let mut text = Vec::new();
    let ended = GzDecoder::new(&*stream).read_to_end(&mut text);
    assert_eq!(ended.expect_err("no end").kind(), std::io::ErrorKind::UnexpectedEof);
    text
}

#[test]
fn a_batch_holds_the_very_bytes_of_the_events() {
    for block in samples() {
        let batch = encode_as(&block, Encoding::Batch);
        let [frame] = each(&batch)[..] else { panic!("one message") };
        let payloads: Vec<_> = (0..block.events_len()).map(|event| block.payload(event)).collect();
        let events = payloads.join(SEPARATOR);
        let text = String::from_utf8_lossy(payload(frame)).into_owned();
        assert!(text.ends_with(&format!("[{}]}}", String::from_utf8_lossy(&events))), "{text}");
        let json = json_of(frame);
        assert_eq!(json["height"], block.height);
        assert_eq!(json["hash"].as_str(), block.hash.as_deref());
        assert_eq!(json["events"].as_array().map(Vec::len), Some(block.events_len()));
        assert!(text.starts_with(&format!("{{\"height\": {}, \"hash\": ", block.height)));
    }
}

#[test]
fn a_batch_put_together_from_parts_is_the_shared_one() {
    for block in samples() {
        let payloads: Vec<_> = (0..block.events_len()).map(|event| block.payload(event)).collect();
        let events = payloads.join(SEPARATOR);
        for (wire, encoding) in
            [(Framing::WebSocket, Encoding::Batch), (Framing::EventStream, Encoding::SseBatch)]
        {
            let head = batch_head(&block, events.len(), wire);
            let parts = [&*head, &events, batch_tail(wire)];
            assert_eq!(parts.concat(), encode_as(&block, encoding).bytes, "{}", block.height);
        }
    }
}

#[test]
fn server_sent_events_name_their_place_and_carry_the_same_json() {
    for block in samples() {
        let height = block.height;
        let events = encode_as(&block, Encoding::SseEvents);
        assert_eq!(events.ends.len(), block.events_len());
        for (index, event) in each(&events).into_iter().enumerate() {
            let json = String::from_utf8_lossy(block.payload(index));
            let expected = format!("id: {height}.{index}\ndata: {json}\n\n");
            assert_eq!(String::from_utf8_lossy(event), expected);
        }
        let summary = String::from_utf8_lossy(payload(&block.summary)).into_owned();
        let batch = encode_as(&block, Encoding::Batch);
        let batch = String::from_utf8_lossy(payload(&batch.bytes)).into_owned();
        let end = format!(
            "{{\"type\": \"block\", \"height\": {height}, \"events\": {}}}",
            block.events_len()
        );
        for (encoding, expected) in [
            (Encoding::SseSummary, format!("id: {height}\ndata: {summary}\n\n")),
            (Encoding::SseBatch, format!("id: {height}\ndata: {batch}\n\n")),
            (Encoding::SseBlockEnd, format!("id: {height}\nevent: block\ndata: {end}\n\n")),
        ] {
            let made = encode_as(&block, encoding);
            let [message] = each(&made)[..] else { panic!("one message") };
            assert_eq!(String::from_utf8_lossy(message), expected);
        }
        assert_eq!(
            json_of(&encode_as(&block, Encoding::BlockEnd).bytes),
            serde_json::from_str::<Value>(&end).expect("JSON")
        );
    }
}

#[test]
fn any_sequence_of_compressed_pieces_is_one_stream() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let blocks: Vec<_> = samples().into_iter().chain(real_chain()).collect();
    let (mut pieces, mut expected) = (Vec::new(), Vec::new());
    for _ in 0..200 {
        let block = &blocks[random.usize(0..blocks.len())];
        let (gzip, plain) = [
            (Encoding::GzipEvents, Encoding::SseEvents),
            (Encoding::GzipBlock, Encoding::SseEvents),
            (Encoding::GzipSummary, Encoding::SseSummary),
            (Encoding::GzipBatch, Encoding::SseBatch),
            (Encoding::GzipBlockEnd, Encoding::SseBlockEnd),
        ][random.usize(0..5)];
        let (gzip_messages, plain) = (encode_as(block, gzip), encode_as(block, plain));
        if gzip == Encoding::GzipBlock {
            assert_eq!(gzip_messages.ends.len(), usize::from(block.events_len() > 0));
            pieces.extend_from_slice(&gzip_messages.bytes);
            expected.extend_from_slice(&plain.bytes);
            continue;
        }
        assert_eq!(gzip_messages.ends.len(), plain.ends.len());
        // Any of them may be left out.
        for (piece, text) in each(&gzip_messages).into_iter().zip(each(&plain)) {
            if random.bool() {
                pieces.extend_from_slice(piece);
                expected.extend_from_slice(text);
            }
        }
        let own = sse_message(Some("7"), None, None);
        pieces.extend(gzip_stored(&own));
        expected.extend(own);
    }
    assert_eq!(inflated(&pieces), expected);
}

/// What a client makes of frames of one compressed message each, or of a plain one.
fn read_frames(mut frames: &[u8]) -> Vec<(bool, Vec<u8>)> {
    let mut texts = Vec::new();
    while let [first, ..] = frames {
        let header_len = header_len(frames);
        let payload_len = match header_len {
            2 => usize::from(frames[1]),
            4 => usize::from(u16::from_be_bytes([frames[2], frames[3]])),
            _ => u64::from_be_bytes(frames[2..10].try_into().expect("eight bytes")) as usize,
        };
        let payload = &frames[header_len..header_len + payload_len];
        texts.push(match *first {
            0x81 => (false, payload.to_vec()),
            // RFC 7692 section 7.2.2, with nothing of the messages before.
            0xc1 => (true, inflated(&[payload, &[0, 0, 0xff, 0xff]].concat())),
            other => panic!("a first byte of {other:#x}"),
        });
        frames = &frames[header_len + payload_len..];
    }
    texts
}

#[test]
fn each_deflated_message_is_one_by_itself_and_no_longer_than_a_plain_one() {
    for block in samples().into_iter().chain(real_chain()) {
        let batch = encode_as(&block, Encoding::Batch);
        let batch = [payload(&batch.bytes)];
        let events: Vec<_> = (0..block.events_len()).map(|event| block.payload(event)).collect();
        for (encoding, expected) in [
            (Encoding::DeflateEvents, &*events),
            (Encoding::DeflateSummary, &[payload(&block.summary)]),
            (Encoding::DeflateBatch, &batch),
        ] {
            let made = encode_as(&block, encoding);
            let made = each(&made);
            assert_eq!(made.len(), expected.len());
            for (frame, expected) in made.into_iter().zip(expected) {
                let [(is_deflated, text)] = &read_frames(frame)[..] else { panic!("one frame") };
                let (text, expected) =
                    (String::from_utf8_lossy(text), String::from_utf8_lossy(expected));
                assert_eq!(text, expected, "block {}", block.height);
                let plain = text_frame(&expected).len();
                assert!(
                    frame.len() < plain || !is_deflated && frame.len() == plain,
                    "{encoding:?}"
                );
            }
        }
    }
}

#[test]
fn what_would_not_get_shorter_stays_plain() {
    for encoding in [Encoding::DeflateSummary, Encoding::DeflateBatch] {
        let empty = encode_as(&block(0, 0), encoding);
        let [(is_deflated, _)] = &read_frames(&empty.bytes)[..] else { panic!("one frame") };
        assert!(!is_deflated, "{encoding:?}");
    }
    let ids: String = (0..70_000).map(|_| fastrand::alphanumeric()).collect();
    let body = serde_json::json!({ "height": 1, "transactions": [{ "id": ids }] });
    let random = encoded(&body.to_string());
    let frames = encode_as(&random, Encoding::DeflateEvents);
    let [(is_deflated, text)] = &read_frames(&frames.bytes)[..] else { panic!("one frame") };
    assert!(is_deflated, "the id stands there twice");
    assert_eq!(text, random.payload(0));
}

#[test]
fn texts_of_every_length_come_out_as_they_went_in() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let mut deflate = Deflate::new();
    let lengths = (0..700).chain((1..=40).map(|step| step * 3_001));
    for length in lengths {
        // From what is compressed well to what is not.
        let digits = random.u32(2..=36);
        let text: Vec<u8> = (0..length).map(|_| random.digit(digits) as u8).collect();
        let mut frame = Vec::new();
        deflate.write(&mut frame, &text);
        let [(_, read)] = &read_frames(&frame)[..] else { panic!("one frame") };
        assert!(*read == text, "{length} of {digits} digits");
        assert!(frame.len() <= length + 10);
    }
}

#[test]
fn a_long_text_is_stored_in_several_blocks() {
    let text = b"x".repeat(200_000);
    assert_eq!(inflated(&gzip_stored(&text)), text);
    assert_eq!(gzip_stored(b""), b"");
}

#[test]
fn compression_of_the_real_chain_is_worth_it() {
    let chain = real_chain();
    let bytes = |encoding| -> usize {
        chain.iter().map(|block| encode_as(block, encoding).bytes.len()).sum()
    };
    let plain = bytes(Encoding::SseEvents);
    let ratio = |encoding| bytes(encoding) as f64 / plain as f64;
    let (whole, each) = (ratio(Encoding::GzipBlock), ratio(Encoding::GzipEvents));
    println!("whole blocks {whole:.2} of {plain} bytes, single events {each:.2}");
    assert!(whole < 0.4, "{whole}");
    assert!(each < 0.75, "{each}");
    let frames = |of: fn(&EncodedBlock) -> usize| chain.iter().map(of).sum::<usize>();
    for (encoding, plain, ratio_max) in [
        (Encoding::DeflateEvents, frames(|block| block.events.len()), 0.70),
        (Encoding::DeflateSummary, frames(|block| block.summary.len()), 0.70),
        (Encoding::DeflateBatch, bytes(Encoding::Batch), 0.45),
    ] {
        let ratio = bytes(encoding) as f64 / plain as f64;
        println!("{encoding:?} {ratio:.3} of {plain} bytes");
        assert!(ratio <= ratio_max, "{encoding:?} {ratio}");
    }
}

#[test]
fn messages_of_ones_own_have_no_empty_fields() {
    assert_eq!(sse_message(Some("7"), None, None), b"id: 7\n\n");
    assert_eq!(sse_message(None, Some("filled"), Some("{}")), b"event: filled\ndata: {}\n\n");
    let long = "x".repeat(300);
    let frame = text_frame(&long);
    assert_eq!((&frame[..4], payload(&frame)), (&[0x81, 126, 1, 44][..], long.as_bytes()));
}

#[test]
fn no_encoding_is_longer_than_what_is_set_aside_for_it() {
    for events in [0, 1, 7, 1_000] {
        for height in [0, 42, u64::from(u32::MAX) * 1_000] {
            let block = block(height, events);
            for encoding in Encoding::ALL {
                let (made, bytes_max) = (encode_as(&block, encoding), encoding.bytes_max(&block));
                let bytes = made.bytes_kept();
                assert!(bytes <= bytes_max, "{encoding:?}, {events}: {bytes} above {bytes_max}");
                assert_eq!(encoding.is_nothing_of(&block), made.ends.is_empty(), "{encoding:?}");
            }
        }
    }
}
