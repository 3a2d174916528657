//! Autobahn's 9 and 10 as far as there is something without an echo: our bound, on a message however
//! it is cut.

use super::case::Chop::{Octets, Whole};
use super::case::{BINARY, Case, FIN, TEXT, fragments, frame};

const KIB: usize = 1_024;
/// `server.max_message_bytes`.
const BOUND: usize = 64 * KIB;
const TOO_BIG: &str = "message too big";

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (place, opcode) in [TEXT, BINARY].into_iter().enumerate() {
        cases.extend(whole(place, opcode));
        cases.extend(fragmented(place, opcode));
        cases.extend(chopped(place, opcode));
        cases.extend(many(place, opcode));
    }
    let message = fragments(TEXT, &[b'*'; BOUND], 1_300);
    cases.push(Case::new("10.1.1").send(&message, Whole).then_taken());
    cases
}

fn message(size: usize) -> Vec<u8> {
    vec![b'*'; size]
}

/// 9.1 and 9.2: 64 KiB to 16 MiB, and one byte more than is taken.
fn whole(kind: usize, opcode: u8) -> Vec<Case> {
    let sizes = [64, 256, 1_024, 4_096, 8_192, 16_384].map(|kib| kib * KIB);
    let mut cases = Vec::new();
    for (place, size) in (1..).zip(sizes) {
        let case = Case::new(format!("9.{}.{place}", kind + 1));
        let case = case.send(&[frame(FIN | opcode, &message(size))], Whole);
        cases.push(if size <= BOUND {
            case.then_taken()
        } else {
            case.then_refused(1009, TOO_BIG)
        });
    }
    let over = frame(FIN | opcode, &message(BOUND + 1));
    let case = Case::new(format!("9.{}.1b", kind + 1)).send(&[over], Whole);
    cases.push(case.then_refused(1009, TOO_BIG));
    cases
}

/// 9.3 and 9.4: 4 MiB in fragments of 64 bytes to 4 MiB; and what is just taken, in the smallest.
fn fragmented(kind: usize, opcode: u8) -> Vec<Case> {
    let sizes = [64, 256, KIB, 4 * KIB, 16 * KIB, 64 * KIB, 256 * KIB, 1_024 * KIB, 4_096 * KIB];
    let mut cases = Vec::new();
    for (place, size) in (1..).zip(sizes) {
        let case = Case::new(format!("9.{}.{place}", kind + 3));
        let frames = fragments(opcode, &message(4_096 * KIB), size);
        cases.push(case.send(&frames, Whole).then_refused(1009, TOO_BIG));
    }
    let case = Case::new(format!("9.{}.1b", kind + 3));
    cases.push(case.send(&fragments(opcode, &message(BOUND), 64), Whole).then_taken());
    // The bound is on the message, not on a frame.
    let case = Case::new(format!("9.{}.1c", kind + 3));
    let over = fragments(opcode, &message(BOUND + 1), 64);
    cases.push(case.send(&over, Whole).then_refused(1009, TOO_BIG));
    cases
}

/// 9.5 and 9.6: 1 MiB in chops of 64 to 2,048 octets; and what is just taken, in the smallest.
fn chopped(kind: usize, opcode: u8) -> Vec<Case> {
    let mut cases = Vec::new();
    for (place, octets) in (1..).zip([64, 128, 256, 512, 1_024, 2_048]) {
        let case = Case::new(format!("9.{}.{place}", kind + 5));
        let over = frame(FIN | opcode, &message(1_024 * KIB));
        cases.push(case.send(&[over], Octets(octets)).then_refused(1009, TOO_BIG));
    }
    let case = Case::new(format!("9.{}.1b", kind + 5));
    cases.push(case.send(&[frame(FIN | opcode, &message(BOUND))], Octets(64)).then_taken());
    cases
}

/// 9.7 and 9.8: a thousand messages of each size; the bound is on each, not on all.
fn many(kind: usize, opcode: u8) -> Vec<Case> {
    let mut cases = Vec::new();
    for (place, size) in (1..).zip([0, 16, 64, 256, 1_024, 4_096]) {
        let case = Case::new(format!("9.{}.{place}", kind + 7));
        let messages = vec![frame(FIN | opcode, &message(size)); 1_000];
        cases.push(case.send(&messages, Whole).then_taken());
    }
    cases
}
