//! Autobahn's 12 and 13: compressed messages under each offer, as a client sends them. They are
//! skipped as they came, so the bound is on their compressed size.

use flate2::{Compress, Compression, FlushCompress, Status};

use super::case::Chop::Whole;
use super::case::{BINARY, Case, FIN, PING, TEXT, fragments, frame};

const OFFER: &str = "permessage-deflate; client_no_context_takeover; client_max_window_bits";
/// What a client binds itself to is said back to it.
const AGREED_FOR_BOTH: &str =
    "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
const AGREED: &str = "permessage-deflate; server_no_context_takeover";
const AGREED_WITH_WINDOW: &str =
    "permessage-deflate; server_no_context_takeover; server_max_window_bits=15";
/// RFC 7692 section 6.
const RSV1: u8 = 0x40;
/// `server.max_message_bytes`.
const BOUND: usize = 64 * 1_024;
const MESSAGES: usize = 10;

/// A message of so many bytes.
type Payload = fn(usize) -> Vec<u8>;

/// Size, and of which fragments; 0: of none.
const FORMS: [(usize, usize); 18] = [
    (16, 0),
    (64, 0),
    (256, 0),
    (1_024, 0),
    (4_096, 0),
    (8_192, 0),
    (16_384, 0),
    (32_768, 0),
    (65_536, 0),
    (131_072, 0),
    (8_192, 256),
    (16_384, 256),
    (32_768, 256),
    (65_536, 256),
    (131_072, 256),
    (131_072, 1_024),
    (131_072, 4_096),
    (131_072, 32_768),
];
/// What a client of 13.1 to 13.7 offers, in its words, and what this server, which compresses once for
/// all and with the full window, makes of it. A smaller window of the server's own is not agreed on.
const OFFERS: [(&str, Option<&str>); 7] = [
    ("permessage-deflate; client_max_window_bits", Some(AGREED)),
    ("permessage-deflate; server_no_context_takeover; client_max_window_bits", Some(AGREED)),
    ("permessage-deflate; server_max_window_bits=9; client_max_window_bits", None),
    (
        "permessage-deflate; server_max_window_bits=15; client_max_window_bits",
        Some(AGREED_WITH_WINDOW),
    ),
    (
        "permessage-deflate; server_no_context_takeover; server_max_window_bits=9; client_max_window_bits",
        None,
    ),
    (
        "permessage-deflate; server_no_context_takeover; server_max_window_bits=15; client_max_window_bits",
        Some(AGREED_WITH_WINDOW),
    ),
    (
        "permessage-deflate; server_no_context_takeover; server_max_window_bits=9, \
         permessage-deflate; server_no_context_takeover, permessage-deflate",
        Some(AGREED),
    ),
];

pub fn cases() -> Vec<Case> {
    let kinds: [(u8, Payload); 5] =
        [(TEXT, json), (BINARY, picture), (TEXT, prose), (TEXT, markup), (BINARY, noise)];
    let mut cases = Vec::new();
    for (kind, (opcode, payload)) in (1..).zip(kinds) {
        for (place, form) in (1..).zip(FORMS) {
            let case =
                Case::new(format!("12.{kind}.{place}")).offering(OFFER, Some(AGREED_FOR_BOTH));
            cases.push(compressed(case, opcode, payload, form));
        }
    }
    for (kind, (offer, agreed)) in (1..).zip(OFFERS) {
        for (place, form) in (1..).zip(FORMS) {
            let case = Case::new(format!("13.{kind}.{place}")).offering(offer, agreed);
            cases.push(match agreed {
                Some(_) => compressed(case, TEXT, json, form),
                // Then a reserved bit is one.
                None => case
                    .send(&[frame(FIN | RSV1 | TEXT, &deflated(&json(form.0)))], Whole)
                    .then_refused(1002, "reserved bit set"),
            });
        }
    }
    cases
}

fn compressed(case: Case, opcode: u8, payload: Payload, form: (usize, usize)) -> Case {
    let (size, octets) = form;
    let message = deflated(&payload(size));
    let octets = if octets == 0 { message.len().max(1) } else { octets };
    let mut frames = fragments(RSV1 | opcode, &message, octets);
    if message.len() > BOUND {
        return case.send(&frames, Whole).then_refused(1009, "message too big");
    }
    // A ping may stand between fragments, and is never compressed.
    frames.insert(frames.len() - 1, frame(FIN | PING, b"between"));
    let mut case = case;
    for _ in 0..MESSAGES {
        case = case.send(&frames, Whole).then_pong(b"between");
    }
    case.then_taken()
}

/// A message as RFC 7692 section 7.2.1 has it: raw deflate up to a flush, the flush's end left out.
fn deflated(payload: &[u8]) -> Vec<u8> {
    let mut compress = Compress::new(Compression::fast(), false);
    let mut message = Vec::with_capacity(2 * payload.len() + 64);
    let status = compress.compress_vec(payload, &mut message, FlushCompress::Sync);
    assert!(matches!(status, Ok(Status::Ok)) && compress.total_in() == payload.len() as u64);
    assert!(message.ends_with(&[0, 0, 0xff, 0xff]), "a flush's end");
    message.truncate(message.len() - 4);
    message
}

fn json(size: usize) -> Vec<u8> {
    of_rows(size, |row| format!("{{\"id\": {row}, \"name\": \"n{}\"}},\n", row * 7919 % 1_000))
}

fn prose(size: usize) -> Vec<u8> {
    let words = ["Habe", "nun,", "ach!", "Philosophie,", "Juristerei", "und", "Medizin"];
    of_rows(size, |row| format!("{} ", words[row * 31 % 11 % words.len()]))
}

fn markup(size: usize) -> Vec<u8> {
    of_rows(size, |row| format!("<tr><td class=\"c{}\">{row}</td></tr>\n", row % 5))
}

fn of_rows(size: usize, row: impl Fn(usize) -> String) -> Vec<u8> {
    let mut text = (0..).flat_map(|at| row(at).into_bytes());
    text.by_ref().take(size).collect()
}

/// Planes of nearly one colour.
fn picture(size: usize) -> Vec<u8> {
    (0..size).map(|at| (at / 300 % 251) as u8 ^ (at % 3) as u8).collect()
}

/// What no compression makes smaller; the same each time.
fn noise(size: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(7692);
    (0..size).map(|_| random.u8(..)).collect()
}
