//! Autobahn's 7: who closes how, and which codes may be said.

use super::case::Chop::Whole;
use super::case::{CLOSE, CONTINUATION, Case, FIN, PING, TEXT, frame};

/// Autobahn's 7.7 and 7.9, and 7.13, which it leaves open: codes above 4999 are nobody's (RFC 6455
/// section 7.4.2).
const MAY_BE_SENT: [u16; 13] =
    [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999];
const MUST_NOT_BE_SENT: [u16; 9] = [0, 999, 1004, 1005, 1006, 1016, 1100, 2000, 2999];
const OUT_OF_RANGE: [u16; 2] = [5000, 65_535];
/// Registered since Autobahn's list was made, and 1015, which is only for those who look on.
const SINCE: [(u16, bool); 4] = [(1012, true), (1013, true), (1014, true), (1015, false)];

pub fn cases() -> Vec<Case> {
    let mut cases = order();
    cases.extend(payloads());
    for (place, code) in (1..).zip(MAY_BE_SENT) {
        cases.push(with_code(format!("7.7.{place}"), code, true));
    }
    for (place, code) in (1..).zip(MUST_NOT_BE_SENT) {
        cases.push(with_code(format!("7.9.{place}"), code, false));
    }
    for (place, code) in (1..).zip(OUT_OF_RANGE) {
        cases.push(with_code(format!("7.13.{place}"), code, false));
    }
    for (letter, (code, may_be_sent)) in ('a'..).zip(SINCE) {
        cases.push(with_code(format!("7.9.10{letter}"), code, may_be_sent));
    }
    cases
}

fn with_code(number: String, code: u16, may_be_sent: bool) -> Case {
    let code = code.to_be_bytes();
    let case = Case::new(number).send(&[frame(FIN | CLOSE, &code)], Whole);
    match may_be_sent {
        true => case.then_closed_with(&code),
        false => case.then_refused(1002, "close code that must not be sent"),
    }
}

/// 7.1: after a close nothing counts.
fn order() -> Vec<Case> {
    let normal = 1000_u16.to_be_bytes();
    let close = || frame(FIN | CLOSE, &normal);
    let text = || frame(FIN | TEXT, b"Hello World!");
    let answered = |number: &str, frames: &[Vec<u8>]| {
        Case::new(number).send(frames, Whole).then_closed_with(&normal)
    };
    let large = frame(FIN | TEXT, &vec![b'*'; 256 * 1_024]);
    vec![
        answered("7.1.1", &[text(), close()]),
        answered("7.1.2", &[close(), close()]),
        answered("7.1.3", &[close(), frame(FIN | PING, b"")]),
        answered("7.1.4", &[close(), text()]),
        answered(
            "7.1.5",
            &[frame(TEXT, b"fragment1"), close(), frame(FIN | CONTINUATION, b"fragment2")],
        ),
        // Of 256 KiB: above our bound, and what comes behind it is not looked at.
        Case::new("7.1.6")
            .send(&[large, close(), frame(FIN | PING, b"")], Whole)
            .then_refused(1009, "message too big"),
    ]
}

fn payloads() -> Vec<Case> {
    let close = |payload: &[u8]| [frame(FIN | CLOSE, payload)];
    let normal = 1000_u16.to_be_bytes();
    let with_reason = |reason: &[u8]| [&normal[..], reason].concat();
    vec![
        Case::new("7.3.1").send(&close(b""), Whole).then_closed_with(b""),
        Case::new("7.3.2").send(&close(b"a"), Whole).then_refused(1002, "close frame of one byte"),
        Case::new("7.3.3").send(&close(&normal), Whole).then_closed_with(&normal),
        Case::new("7.3.4")
            .send(&close(&with_reason(b"Hello World!")), Whole)
            .then_closed_with(&normal),
        Case::new("7.3.5")
            .send(&close(&with_reason(&[b'*'; 123])), Whole)
            .then_closed_with(&normal),
        Case::new("7.3.6")
            .send(&close(&with_reason(&[b'*'; 124])), Whole)
            .then_refused(1002, "control frame above 125 bytes"),
        Case::new("7.5.1")
            .send(&close(&with_reason("κόσμε\u{e000}".as_bytes())), Whole)
            .then_closed_with(&normal),
        Case::new("7.5.1b")
            .send(&close(&with_reason(b"\xce\xba\xed\xa0\x80edited")), Whole)
            .then_refused(1007, "text that is not UTF-8"),
    ]
}
