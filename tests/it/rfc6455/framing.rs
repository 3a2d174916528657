//! Autobahn's 1 (framing), 2 (pings and pongs), 3 (reserved bits), 4 (opcodes), 5 (fragmentation).

use super::case::Chop::{Frames, Octets, Whole};
use super::case::{BINARY, CONTINUATION, Case, Chop, FIN, PING, PONG, TEXT, frame};

const HELLO: &[u8] = b"Hello, world!";

pub fn cases() -> Vec<Case> {
    let autobahns = [
        messages(),
        pings(),
        reserved_bits(),
        opcodes(),
        fragmented_control(),
        fragments(),
        orphans(),
    ];
    autobahns.into_iter().flatten().chain(headers()).collect()
}

/// Not among Autobahn's: what RFC 6455 section 5.2 forbids in a header beside reserved bits and opcodes.
fn headers() -> Vec<Case> {
    const UNMASKED: &str = "client frames must be masked";
    const LONG: &str = "length not in its shortest form";
    let payload = vec![b'*'; 65_535];
    let masked =
        |first: u8, length: &[u8], payload: &[u8]| [&[first], length, &[0; 4], payload].concat();
    let cases = [
        ("5.2 text unmasked", vec![FIN | TEXT, 5, b'h', b'e', b'l', b'l', b'o'], UNMASKED),
        ("5.2 ping unmasked", vec![FIN | PING, 0], UNMASKED),
        ("5.2 5 in 16 bits", masked(FIN | TEXT, &[0xfe, 0, 5], &payload[..5]), LONG),
        ("5.2 125 in 16 bits", masked(FIN | BINARY, &[0xfe, 0, 125], &payload[..125]), LONG),
        ("5.2 ping in 16 bits", masked(FIN | PING, &[0xfe, 0, 1], &payload[..1]), LONG),
        (
            "5.2 65,535 in 64 bits",
            masked(FIN | TEXT, &[0xff, 0, 0, 0, 0, 0, 0, 0xff, 0xff], &payload),
            LONG,
        ),
    ];
    let refused = |(name, bytes, why): (&str, Vec<u8>, &str)| {
        Case::new(name).send(&[bytes], Whole).then_refused(1002, why)
    };
    cases.into_iter().map(refused).collect()
}

/// 1: messages around each border of the length's form.
fn messages() -> Vec<Case> {
    let mut cases = Vec::new();
    for (kind, opcode, byte) in [(1, TEXT, b'*'), (2, BINARY, 0xfe)] {
        let sizes = [0, 125, 126, 127, 128, 65_535, 65_536, 65_536];
        for (place, size) in (1..).zip(sizes) {
            let chop = if place == 8 { Octets(997) } else { Whole };
            let message = frame(FIN | opcode, &vec![byte; size]);
            let case = Case::new(format!("1.{kind}.{place}"));
            cases.push(case.send(&[message], chop).then_taken());
        }
    }
    cases
}

fn pings() -> Vec<Case> {
    let binary = [0x00, 0xff, 0xfe, 0xfd, 0xfc, 0xfb, 0x00, 0xff];
    let ping = |payload: &[u8]| [frame(FIN | PING, payload)];
    let pong = |payload: &[u8]| frame(FIN | PONG, payload);
    let ten: Vec<Vec<u8>> = (0..10).map(|place| format!("payload-{place}").into_bytes()).collect();
    let ten_pings: Vec<Vec<u8>> = ten.iter().map(|payload| frame(FIN | PING, payload)).collect();
    let answered = |number: &str, payload: &[u8], chop: Chop| {
        Case::new(number).send(&ping(payload), chop).then_pong(payload).then_taken()
    };
    vec![
        answered("2.1", b"", Whole),
        answered("2.2", HELLO, Whole),
        answered("2.3", &binary, Whole),
        answered("2.4", &[0xfe; 125], Whole),
        Case::new("2.5")
            .send(&ping(&[0xfe; 126]), Whole)
            .then_refused(1002, "control frame above 125 bytes"),
        answered("2.6", &[0xfe; 125], Octets(1)),
        Case::new("2.7").send(&[pong(b"")], Whole).then_taken(),
        Case::new("2.8").send(&[pong(b"unsolicited pong payload")], Whole).then_taken(),
        Case::new("2.9")
            .send(&[pong(b"unsolicited pong payload"), frame(FIN | PING, b"ping payload")], Whole)
            .then_pong(b"ping payload")
            .then_taken(),
        Case::new("2.10").send(&ten_pings, Whole).then_pongs(&ten).then_taken(),
        Case::new("2.11").send(&ten_pings, Octets(1)).then_pongs(&ten).then_taken(),
    ]
}

fn reserved_bits() -> Vec<Case> {
    let refused = |number: &str, before: &[u8], first: u8, payload: &[u8], chop: Chop| {
        let mut frames = vec![frame(first, payload), frame(FIN | PING, b"")];
        if !before.is_empty() {
            frames.insert(0, frame(FIN | TEXT, before));
        }
        Case::new(number).send(&frames, chop).then_refused(1002, "reserved bit set")
    };
    vec![
        refused("3.1", b"", 0x91, HELLO, Whole),
        refused("3.2", HELLO, 0xa1, HELLO, Whole),
        refused("3.3", HELLO, 0xb1, HELLO, Frames),
        refused("3.4", HELLO, 0xc1, HELLO, Octets(1)),
        refused("3.5", b"", 0xd2, &[0x00, 0xff, 0xfe, 0xfd], Whole),
        refused("3.6", b"", 0xe9, HELLO, Whole),
        refused("3.7", b"", 0xf8, b"", Whole),
    ]
}

fn opcodes() -> Vec<Case> {
    let mut cases = Vec::new();
    for (kind, reserved) in [(1, [3, 4, 5, 6, 7]), (2, [11, 12, 13, 14, 15])] {
        for (place, opcode) in (1..).zip(reserved) {
            // With and without a payload, alone and behind a message, in pieces.
            let (payload, has_text, chop) = match place {
                1 => (&b""[..], false, Whole),
                2 => (HELLO, false, Whole),
                3 => (&b""[..], true, Whole),
                4 => (HELLO, true, Frames),
                _ => (HELLO, true, Octets(1)),
            };
            let mut frames = vec![frame(FIN | opcode, payload), frame(FIN | PING, b"")];
            if has_text {
                frames.insert(0, frame(FIN | TEXT, HELLO));
            }
            let case = Case::new(format!("4.{kind}.{place}"));
            cases.push(case.send(&frames, chop).then_refused(1002, "reserved opcode"));
        }
    }
    cases
}

fn fragmented_control() -> Vec<Case> {
    let refused = |number: &str, opcode: u8| {
        let frames = [frame(opcode, b"fragment1"), frame(FIN | CONTINUATION, b"fragment2")];
        Case::new(number).send(&frames, Whole).then_refused(1002, "fragmented control frame")
    };
    vec![refused("5.1", PING), refused("5.2", PONG)]
}

fn fragments() -> Vec<Case> {
    let two = || [frame(TEXT, b"fragment1"), frame(FIN | CONTINUATION, b"fragment2")];
    let taken = |number: &str, chop: Chop| Case::new(number).send(&two(), chop).then_taken();
    let around_ping = |number: &str, chop: Chop| {
        let [first, second] = two();
        let frames = [first, frame(FIN | PING, b"ping payload"), second];
        Case::new(number).send(&frames, chop).then_pong(b"ping payload").then_taken()
    };
    let five = |number: &str, waits: bool| {
        let ping = |place: u8| frame(FIN | PING, &[b'p', place]);
        let before = [frame(TEXT, b"fragment1"), frame(CONTINUATION, b"fragment2"), ping(1)];
        let after = [
            frame(CONTINUATION, b"fragment3"),
            frame(CONTINUATION, b"fragment4"),
            ping(2),
            frame(FIN | CONTINUATION, b"fragment5"),
        ];
        let case = Case::new(number);
        match waits {
            true => case.send(&before, Whole).then_pong(b"p\x01").send(&after, Whole),
            false => case.send(&[&before[..], &after[..]].concat(), Whole),
        }
    };
    vec![
        taken("5.3", Whole),
        taken("5.4", Frames),
        taken("5.5", Octets(1)),
        around_ping("5.6", Whole),
        around_ping("5.7", Frames),
        around_ping("5.8", Octets(1)),
        five("5.19", true).then_pong(b"p\x02").then_taken(),
        five("5.20", false).then_pongs(&[b"p\x01".to_vec(), b"p\x02".to_vec()]).then_taken(),
    ]
}

/// Continuations of nothing, and messages within messages.
fn orphans() -> Vec<Case> {
    let orphan = |number: &str, first: u8, chop: Chop| {
        let frames = [frame(first, b"non-continuation payload"), frame(FIN | TEXT, HELLO)];
        Case::new(number).send(&frames, chop).then_refused(1002, "continuation of nothing")
    };
    let after_message = |number: &str, first: u8| {
        let frames = [
            frame(TEXT, b"fragment1"),
            frame(FIN | CONTINUATION, b"fragment2"),
            frame(first, b"fragment3"),
            frame(FIN | TEXT, b"fragment4"),
        ];
        Case::new(number).send(&frames, Whole).then_refused(1002, "continuation of nothing")
    };
    let again = |number: &str, first: u8| {
        let round = [
            frame(first, b"fragment1"),
            frame(TEXT, b"fragment2"),
            frame(FIN | CONTINUATION, b"fragment3"),
        ];
        let rounds = [round.clone(), round].concat();
        Case::new(number).send(&rounds, Whole).then_refused(1002, "continuation of nothing")
    };
    vec![
        orphan("5.9", FIN | CONTINUATION, Whole),
        orphan("5.10", FIN | CONTINUATION, Frames),
        orphan("5.11", FIN | CONTINUATION, Octets(1)),
        orphan("5.12", CONTINUATION, Whole),
        orphan("5.13", CONTINUATION, Frames),
        orphan("5.14", CONTINUATION, Octets(1)),
        after_message("5.15", CONTINUATION),
        again("5.16", CONTINUATION),
        again("5.17", FIN | CONTINUATION),
        Case::new("5.18")
            .send(&[frame(TEXT, b"fragment1"), frame(FIN | TEXT, b"fragment2")], Whole)
            .then_refused(1002, "new message before the last one's end"),
    ]
}
