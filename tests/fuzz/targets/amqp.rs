//! What a broker sends: cut anywhere it goes on alike, in its length, bodies untouched; what the client
//! library reads as it came stays as it came, and what was mended once is right.

#![no_main]

use amq_protocol::frame::parse_frame;
use blockcast::amqp::fuzzed::Mender;
use libfuzzer_sys::fuzz_target;

/// Not so many that the library's own reading, level by level of a table, needs all of a stack.
const BYTES_MAX: usize = 1_000;
const HEADER: u8 = 2;
const BODY: u8 = 3;
const HEAD_BYTES: usize = 7;
/// The class, the weight and the body's size.
const BEFORE_FLAGS: [u8; 12] = [0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7];

fuzz_target!(|bytes: &[u8]| {
    let Some((first, bytes)) = bytes.split_first() else { return };
    let bytes = &bytes[..bytes.len().min(BYTES_MAX)];
    // Frames as they are, or the properties of one.
    let sent = if first & 1 == 0 { bytes.to_vec() } else { header(bytes) };
    let whole = mended(&sent, usize::MAX, 1 << 12);
    assert_eq!(whole.len(), sent.len());
    for (step, room) in [(1, 1), (2 + usize::from(first >> 1), 5)] {
        assert_eq!(mended(&sent, step, room), whole, "{step} at a time");
    }
    assert_eq!(mended(&whole, usize::MAX, 1 << 12), whole, "right at once");
    let mut at = 0;
    while let Some(len) = frame_len(&sent[at..]) {
        let (before, after) = (&sent[at..at + len], &whole[at..at + len]);
        if before[0] == BODY || parse_frame(before).is_ok() && !is_nested(before) {
            assert_eq!(after, before);
        }
        at += len;
    }
});

/// As a connection sees it, with so many bytes at a time and so much room for what is given.
fn mended(bytes: &[u8], step: usize, room: usize) -> Vec<u8> {
    let mut mender = Mender::default();
    let (mut given, mut left, mut room) = (Vec::new(), bytes, vec![0; room]);
    while !left.is_empty() || mender.is_ready() {
        if mender.is_ready() {
            let len = mender.give(&mut room);
            given.extend_from_slice(&room[..len]);
            continue;
        }
        let wanted = mender.wanted();
        let len = if wanted == 0 { step } else { wanted.min(step) };
        let (piece, behind) = left.split_at(len.min(left.len()));
        left = behind;
        if wanted == 0 {
            let mut piece = piece.to_vec();
            let len = mender.pass(&mut piece);
            given.extend_from_slice(&piece[..len]);
        } else {
            mender.hold(piece);
        }
        if left.is_empty() {
            mender.end();
        }
    }
    given
}

fn header(properties: &[u8]) -> Vec<u8> {
    let size = u32::try_from(BEFORE_FLAGS.len() + properties.len()).expect("short");
    [&[HEADER, 0, 1], &size.to_be_bytes()[..], &BEFORE_FLAGS, properties, &[0xce]].concat()
}

/// The length of the frame at the beginning, when all of it is there.
fn frame_len(bytes: &[u8]) -> Option<usize> {
    let head = bytes.first_chunk::<HEAD_BYTES>().filter(|head| [1, 2, 3, 8].contains(&head[0]))?;
    let size = u32::from_be_bytes([head[3], head[4], head[5], head[6]]);
    let len = usize::try_from(size).ok()?.checked_add(HEAD_BYTES + 1)?;
    let is_whole = len <= bytes.len() && bytes[len - 1] == 0xce;
    is_whole.then_some(len)
}

/// Whether there may be more tables in each other than are let through.
fn is_nested(frame: &[u8]) -> bool {
    frame.iter().filter(|byte| [b'F', b'A'].contains(byte)).count() > 30
}
