use amq_protocol::frame::{AMQPFrame, parse_frame};
use proptest::prelude::*;

use super::*;

/// A frame around this payload.
fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
    let len = u32::try_from(payload.len()).expect("short").to_be_bytes();
    [&[kind, 0, 1][..], &len, payload, &[FRAME_END]].concat()
}

fn short(text: &[u8]) -> Vec<u8> {
    [&[u8::try_from(text.len()).expect("short")], text].concat()
}

fn long(bytes: &[u8]) -> Vec<u8> {
    [&u32::try_from(bytes.len()).expect("short").to_be_bytes()[..], bytes].concat()
}

/// A content header with these flags and this behind them.
fn header(flags: u16, properties: &[u8]) -> Vec<u8> {
    let head = [&[0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7], &flags.to_be_bytes()[..]].concat();
    frame(HEADER, &[head.as_slice(), properties].concat())
}

/// A `basic.deliver` with this exchange and routing key.
fn deliver(exchange: &[u8], routing_key: &[u8]) -> Vec<u8> {
    let parts =
        [&[0, 60, 0, 60][..], &short(b"tag"), &[0; 9], &short(exchange), &short(routing_key)];
    frame(METHOD, &parts.concat())
}

/// As a connection sees it, with so many bytes at a time and so much room for what is given.
fn mended(bytes: &[u8], step: usize, room: usize) -> (Vec<u8>, Option<Mended>) {
    let mut mender = Mender::default();
    let (mut given, mut left) = (Vec::new(), bytes.to_vec());
    let mut room = vec![0; room];
    while !left.is_empty() || mender.is_ready() {
        if mender.is_ready() {
            let len = mender.give(&mut room);
            given.extend_from_slice(&room[..len]);
            continue;
        }
        let wanted = mender.wanted();
        let len = if wanted == 0 { step } else { wanted.min(step) };
        let mut piece: Vec<u8> = left.drain(..len.min(left.len())).collect();
        if wanted == 0 {
            let len = mender.pass(&mut piece);
            given.extend_from_slice(&piece[..len]);
        } else {
            mender.hold(&piece);
        }
        if left.is_empty() {
            mender.end();
        }
    }
    assert!(mender.held.len() <= HELD_BYTES_MAX);
    (given, mender.take_mended())
}

#[track_caller]
fn check(bytes: &[u8], expected: &[u8], field: Option<&str>) {
    let whole = mended(bytes, bytes.len(), 1 << 16);
    assert_eq!(whole.0, expected, "{bytes:x?}");
    assert_eq!(whole.1.map(|mended| mended.field), field);
    for (step, room) in [(1, 1), (2, 1 << 16), (3, 2), (7, 5), (8, 1 << 16)] {
        assert_eq!(mended(bytes, step, room), whole, "{step} at a time");
    }
}

fn parses(frame: &[u8]) -> AMQPFrame {
    let (rest, parsed) = parse_frame(frame).expect("a frame that the library reads");
    assert!(rest.is_empty());
    parsed
}

#[test]
fn what_is_not_utf8_is_replaced_byte_for_byte() {
    let key = |key: &[u8]| deliver(b"bigchaindb", key);
    check(&key(b"block.\xe9"), &key(b"block.?"), Some("routing_key"));
    check(&key("block.é".as_bytes()), &key("block.é".as_bytes()), None);
    check(&key(b"a\xc3\xa9\xe9\xc3"), &key(b"a\xc3\xa9??"), Some("routing_key"));
    check(&deliver(b"\xf0\x9f\x92", b""), &deliver(b"???", b""), Some("exchange"));
    // Every property that is text, one for each bit of the flags.
    for (bit, name) in [
        (0, "content_type"),
        (1, "content_encoding"),
        (5, "correlation_id"),
        (6, "reply_to"),
        (7, "expiration"),
        (8, "message_id"),
        (10, "type"),
        (11, "user_id"),
        (12, "app_id"),
        (13, "cluster_id"),
    ] {
        let property = |text: &[u8]| header(0x8000 >> bit, &short(text));
        check(&property(b"\xff\xfe"), &property(b"??"), Some(name));
    }
    let table = |name: &[u8]| {
        let entries = [&short(name)[..], b"S", &long(b"\xff")].concat();
        let inner = [b"\x01aF", &long(&entries)[..], b"\x01bA", &long(b"V")].concat();
        let entries = [entries, inner].concat();
        header(0x3008, &[&long(&entries)[..], &[2], &short(name)].concat())
    };
    check(&table(b"caf\xe9"), &table(b"caf?"), Some("header name"));
}

#[test]
fn every_method_with_text_is_read_to_its_end() {
    let (bad, good) = (short(b"\xe9"), short(b"?"));
    for (method, before, behind) in [
        ([0, 10, 0, 41], 0, 0),
        ([0, 10, 0, 50], 2, 4),
        ([0, 10, 0, 60], 0, 0),
        ([0, 20, 0, 40], 2, 4),
        ([0, 50, 0, 11], 0, 8),
        ([0, 60, 0, 21], 0, 0),
        ([0, 60, 0, 30], 0, 1),
        ([0, 60, 0, 31], 0, 0),
    ] {
        let of = |text: &[u8]| {
            let payload = [&method[..], &vec![0; before], text, &vec![0; behind]].concat();
            frame(METHOD, &payload)
        };
        let (given, mended) = mended(&of(&bad), usize::MAX, 1 << 10);
        assert_eq!(given, of(&good), "{method:?}");
        assert!(mended.is_some());
        parses(&given);
    }
    for (method, before, behind) in [([60, 0, 50], 2, 0), ([60, 0, 71], 9, 4)] {
        let of = |text: &[u8]| {
            let texts = if method[2] == 50 { 3 } else { 2 };
            let payload =
                [&[0], &method[..], &vec![0; before], &text.repeat(texts), &vec![0; behind]];
            frame(METHOD, &payload.concat())
        };
        assert_eq!(mended(&of(&bad), usize::MAX, 1 << 10).0, of(&good));
        parses(&of(&good));
    }
    let server = [&[0, 10, 0, 10, 0, 9][..], &long(b"\x01\xffV"), &long(b"\xff"), &long(b"")];
    let (given, _) = mended(&frame(METHOD, &server.concat()), usize::MAX, 1 << 10);
    parses(&given);
}

/// A header's table that lies `depth` deep in tables, or in arrays.
fn nested(depth: usize, kind: u8) -> Vec<u8> {
    let mut inner = Vec::new();
    for level in (0..depth).rev() {
        let name: &[u8] = if kind == b'F' || level == 0 { b"\x01a" } else { b"" };
        inner = [name, &[kind], &long(&inner)].concat();
    }
    header(0x2000, &long(&inner))
}

#[test]
fn tables_in_tables_without_end_are_read_as_bytes() {
    for kind in [b'F', b'A'] {
        for depth in [1, 5, 31] {
            check(&nested(depth, kind), &nested(depth, kind), None);
        }
        let deep = nested(10_000, kind);
        let (given, told) = mended(&deep, usize::MAX, 1 << 20);
        assert_eq!(told.expect("mended").field, "headers nested too deep");
        let changed = deep.iter().zip(&given).filter(|(before, after)| before != after);
        assert_eq!(changed.count(), 1, "one type, and all that it had in it is as it was");
        parses(&given);
    }
}

/// A `connection.tune` with this bound.
fn tune(frame_bytes: u32) -> Vec<u8> {
    frame(METHOD, &[&[0, 10, 0, 30, 7, 255][..], &frame_bytes.to_be_bytes(), &[0, 60]].concat())
}

/// A content header with an id that is not UTF-8, this much in its table, and an offset.
fn with_table(len: usize) -> Vec<u8> {
    let filler = [b"\x01hS", &long(&vec![7; len])[..]].concat();
    let offset = [b"\x0fx-stream-offsetl", &5_u64.to_be_bytes()[..]].concat();
    let properties = [long(&[filler, offset].concat()), short(b"\xe9")].concat();
    header(0x2080, &properties)
}

#[test]
fn a_header_longer_than_the_frames_agreed_on_keeps_what_is_needed() {
    let long_enough = with_table(4_096 - 8 - 14 - 7 - 25 - 4 - 2);
    assert_eq!(long_enough.len(), 4_096);
    for len in (4_000..4_200).chain([8_100, 8_190, 8_200, 100_000]) {
        for agreed in [tune(4_096), tune(1)] {
            let bytes = [agreed.clone(), with_table(len), deliver(b"", b"\xe9")].concat();
            let (given, told) = mended(&bytes, usize::MAX, 1 << 20);
            assert_eq!(mended(&bytes, 1_000, 1 << 20).0, given);
            assert_eq!(given.len(), bytes.len());
            assert_eq!(told.map(|told| told.frames), Some(2));
            let mut rest = &given[agreed.len()..];
            let mut frames = Vec::new();
            while !rest.is_empty() {
                let (behind, parsed) = parse_frame(rest).expect("a frame");
                assert!(rest.len() - behind.len() <= 4_096, "short enough");
                frames.push(parsed);
                rest = behind;
            }
            let [AMQPFrame::Header(1, header), heartbeats @ .., AMQPFrame::Method(..)] =
                &frames[..]
            else {
                panic!("{frames:?}");
            };
            assert!(heartbeats.iter().all(|frame| matches!(frame, AMQPFrame::Heartbeat)));
            assert_eq!(header.properties.message_id().as_ref().map(|id| id.as_str()), Some("?"));
            let table = header.properties.headers().as_ref().expect("a table").inner();
            let is_cut = 4_096 < with_table(len).len();
            assert_eq!(
                (table.len(), heartbeats.is_empty()),
                if is_cut { (1, false) } else { (2, true) }
            );
            assert_eq!(format!("{:?}", table["x-stream-offset"]), "LongLongInt(5)");
        }
    }
    // Without a bound, before there is one, and where it cannot be cut.
    for agreed in [tune(0), Vec::new()] {
        let bytes = [agreed, with_table(100_000)].concat();
        let (given, told) = mended(&bytes, usize::MAX, 1 << 20);
        assert_eq!(told.map(|told| told.field), Some("message_id"));
        assert_eq!(given.len(), bytes.len());
    }
    let odd = [tune(4_096), header(0x2000, &vec![0xff; 5_000])].concat();
    check(&odd, &odd, None);
    // Ours counts when it is the lower one.
    let mut mender = Mender::new(Some(5_000));
    assert_eq!(mender.pass(&mut tune(8_192)), tune(8_192).len());
    assert_eq!(mender.frame_bytes_max, Some(5_000));
}

#[test]
fn what_is_not_understood_stays_as_it_is() {
    let bad = short(b"\xe9");
    for bytes in [
        b"AMQP\x00\x00\x09\x01".to_vec(),
        // Bodies, whatever is in them; a heartbeat.
        frame(BODY, &deliver(b"", b"\xe9")),
        frame(HEARTBEAT, b""),
        // A method that has no text, and one that nobody knows.
        frame(METHOD, &[&[0, 10, 0, 30], &bad[..]].concat()),
        frame(METHOD, &[&[0, 99, 0, 99], &bad[..]].concat()),
        frame(METHOD, b""),
        frame(HEADER, b"\0\x3c"),
        // Cut short, too long, and of an unknown type of value, behind what could be mended.
        header(0xc000, &bad),
        header(0x8000, &[&bad[..], b"x"].concat()),
        header(0xa000, &[&bad[..], &long(b"\x01aZ")].concat()),
        header(0xa000, &[&bad[..], &long(b"\x01aF\0\0\0\x09")].concat()),
        // A frame that was never finished.
        deliver(b"", b"\xe9")[..20].to_vec(),
        vec![METHOD, 0],
        // Longer than is held.
        [vec![METHOD, 0, 1, 0x7f, 0, 0, 0], bad.clone()].concat(),
    ] {
        check(&bytes, &bytes, None);
    }
    // Behind a frame with another end nothing can be told apart.
    let mut broken = deliver(b"", b"\xe9");
    *broken.last_mut().expect("an end") = 0;
    broken.extend(deliver(b"", b"\xe9"));
    check(&broken, &broken, None);
}

#[test]
fn each_mended_frame_counts_once() {
    let frames = [deliver(b"\xe9", b"\xe9"), frame(BODY, b"\xe9"), header(0x8000, &short(b"\xe9"))];
    let told = Some(Mended { frames: 2, field: "exchange" });
    assert_eq!(mended(&frames.concat(), 1 << 10, 1 << 10).1, told);
    assert_eq!(mended(&frames.concat(), 5, 3).1, told);
}

fn bytes(len: usize) -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..len),
        proptest::string::string_regex("[a-zé✓𝄞]{0,8}")
            .expect("an expression")
            .prop_map(String::into_bytes),
    ]
}

/// A value of every type that RabbitMQ knows, with its type.
fn value() -> impl Strategy<Value = Vec<u8>> {
    let fixed = prop::sample::select(
        [(b'V', 0), (b't', 1), (b'b', 1), (b'B', 1), (b's', 2), (b'u', 2), (b'I', 4), (b'i', 4)]
            .into_iter()
            .chain([(b'f', 4), (b'D', 5), (b'l', 8), (b'L', 8), (b'd', 8), (b'T', 8)])
            .collect::<Vec<_>>(),
    );
    let fixed = fixed.prop_flat_map(|(kind, len)| {
        prop::collection::vec(any::<u8>(), len).prop_map(move |rest| [vec![kind], rest].concat())
    });
    let strings = (prop::sample::select(vec![b'S', b'x']), bytes(40))
        .prop_map(|(kind, text)| [vec![kind], long(&text)].concat());
    prop_oneof![fixed, strings].prop_recursive(5, 40, 6, |inner| {
        let array = prop::collection::vec(inner.clone(), 0..6).prop_map(|values| values.concat());
        let table = prop::collection::vec((bytes(20), inner), 0..6).prop_map(entries);
        prop_oneof![
            array.prop_map(|values| [b"A", &long(&values)[..]].concat()),
            table.prop_map(|entries| [b"F", &long(&entries)[..]].concat()),
        ]
    })
}

fn entries(entries: Vec<(Vec<u8>, Vec<u8>)>) -> Vec<u8> {
    entries.into_iter().flat_map(|(name, value)| [short(&name), value].concat()).collect()
}

/// A frame as RabbitMQ may send it.
fn sent() -> impl Strategy<Value = Vec<u8>> {
    let table = prop::collection::vec((bytes(20), value()), 0..5).prop_map(entries);
    let texts = prop::collection::vec(bytes(255), 10);
    let properties = (any::<u16>(), table, texts).prop_map(|(flags, table, texts)| {
        let mut texts = texts.iter();
        let mut written = Vec::new();
        for bit in (0..14).filter(|bit| flags & (0x8000 >> bit) != 0) {
            match bit {
                2 => written.extend(long(&table)),
                3 | 4 => written.push(1),
                9 => written.extend([0; 8]),
                _ => written.extend(short(texts.next().expect("ten"))),
            }
        }
        header(flags, &written)
    });
    prop_oneof![
        properties,
        (bytes(255), bytes(255)).prop_map(|(exchange, key)| deliver(&exchange, &key)),
        bytes(300).prop_map(|body| frame(BODY, &body)),
        Just(frame(HEARTBEAT, b"")),
    ]
}

proptest! {
    #[test]
    fn the_library_reads_all_that_a_broker_sends(
        frames in prop::collection::vec(sent(), 1..6),
        step in 1..600_usize,
        room in 1..600_usize,
    ) {
        let bytes = frames.concat();
        let (whole, _) = mended(&bytes, bytes.len(), bytes.len());
        prop_assert_eq!(&mended(&bytes, step, room).0, &whole);
        prop_assert_eq!(whole.len(), bytes.len());
        prop_assert_eq!(&mended(&whole, whole.len(), 1).0, &whole);
        let mut at = 0;
        for frame in &frames {
            let ours = &whole[at..at + frame.len()];
            at += frame.len();
            parses(ours);
            if parse_frame(&frame[..]).is_ok() {
                prop_assert_eq!(ours, &frame[..]);
            }
        }
    }

    #[test]
    fn whatever_comes_goes_on_in_its_length(
        bytes in prop::collection::vec(any::<u8>(), 0..400),
        first in prop::sample::select(vec![METHOD, HEADER, BODY, HEARTBEAT]),
        step in 1..40_usize,
    ) {
        let bytes = [&[first, 0, 0, 0, 0, 0][..], &bytes].concat();
        let (whole, _) = mended(&bytes, bytes.len(), 1 << 10);
        prop_assert_eq!(whole.len(), bytes.len());
        prop_assert_eq!(mended(&bytes, step, 3).0, whole);
    }
}
