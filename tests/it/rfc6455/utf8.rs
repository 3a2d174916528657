//! Autobahn's 6: what is UTF-8 and what is not, and how soon that is said.

use super::case::Chop::{Frames, Octets, Whole};
use super::case::{CONTINUATION, Case, FIN, TEXT, fragments, frame};

const NOT_UTF_8: &str = "text that is not UTF-8";
const KOSME: &[u8] = "κόσμε".as_bytes();

pub fn cases() -> Vec<Case> {
    let mut cases = vec![
        Case::new("6.1.1").send(&[frame(FIN | TEXT, b"")], Whole).then_taken(),
        Case::new("6.1.2").send(&three(b"", b"", b""), Whole).then_taken(),
        Case::new("6.1.3").send(&three(b"", b"middle frame payload", b""), Whole).then_taken(),
    ];
    cases.extend(unfragmented_and_not());
    cases.extend(refused_early());
    for (section, is_valid, texts) in sections() {
        for (place, text) in (1..).zip(texts) {
            let case = Case::new(format!("{section}.{place}"));
            let case = case.send(&[frame(FIN | TEXT, &text)], Whole);
            cases.push(match is_valid(&text) {
                true => case.then_taken(),
                false => case.then_refused(1007, NOT_UTF_8),
            });
        }
    }
    cases
}

fn three(first: &[u8], second: &[u8], third: &[u8]) -> [Vec<u8>; 3] {
    [frame(TEXT, first), frame(CONTINUATION, second), frame(FIN | CONTINUATION, third)]
}

/// 6.2 and 6.3: the same whole, at a character's end, and octet by octet.
fn unfragmented_and_not() -> Vec<Case> {
    let valid = "Hello-µ@ßöäüàá-UTF-8!!".as_bytes();
    let invalid = [KOSME, b"\xed\xa0\x80edited"].concat();
    let whole =
        |number: &str, text: &[u8]| Case::new(number).send(&[frame(FIN | TEXT, text)], Whole);
    let octets =
        |number: &str, text: &[u8]| Case::new(number).send(&fragments(TEXT, text, 1), Whole);
    let at_character = "Hello-µ@ßöä".len();
    vec![
        whole("6.2.1", valid).then_taken(),
        Case::new("6.2.2").send(&fragments(TEXT, valid, at_character), Whole).then_taken(),
        octets("6.2.3", valid).then_taken(),
        octets("6.2.4", KOSME).then_taken(),
        whole("6.3.1", &invalid).then_refused(1007, NOT_UTF_8),
        octets("6.3.2", &invalid).then_refused(1007, NOT_UTF_8),
    ]
}

/// 6.4: at the first octet that cannot be, while the rest of the message never comes.
fn refused_early() -> Vec<Case> {
    let after = b"edited";
    let message = [KOSME, b"\xf4\x90\x80\x80", after].concat();
    let whole = frame(FIN | TEXT, &message);
    let header = whole.len() - message.len();
    let cut = |end: usize| whole[..header + end].to_vec();
    let refused = |number: &str, sent: Vec<Vec<u8>>| {
        Case::new(number).send(&sent, Frames).then_refused(1007, NOT_UTF_8)
    };
    let (first, second) = (KOSME.len(), KOSME.len() + 4);
    vec![
        refused("6.4.1", vec![frame(TEXT, KOSME), frame(CONTINUATION, b"\xf4\x90\x80\x80")]),
        refused(
            "6.4.2",
            vec![frame(TEXT, &[KOSME, b"\xf4"].concat()), frame(CONTINUATION, b"\x90")],
        ),
        refused("6.4.3", vec![cut(first), cut(second)[header + first..].to_vec()]),
        refused("6.4.4", vec![cut(first + 1), cut(first + 2)[header + first + 1..].to_vec()]),
        // Beside Autobahn's: octet by octet, up to the second of the character.
        Case::new("6.4.4b").send(&[cut(first + 2)], Octets(1)).then_refused(1007, NOT_UTF_8),
    ]
}

type Section = (&'static str, fn(&[u8]) -> bool, Vec<Vec<u8>>);

fn sections() -> Vec<Section> {
    let always = |_: &[u8]| true;
    let never = |_: &[u8]| false;
    // Sections with rows of both kinds.
    let as_std = |text: &[u8]| std::str::from_utf8(text).is_ok();
    let hex = |rows: &str| rows.split_whitespace().map(bytes_of).collect::<Vec<_>>();
    let continuations: Vec<u8> = (0x80..=0xbf).collect();
    let lonely = |starts: std::ops::RangeInclusive<u8>| -> Vec<u8> {
        starts.flat_map(|start| [start, b' ']).collect()
    };
    let incomplete = hex("c0 e080 f08080 f8808080 fc80808080 df efbf f7bfbf fbbfbfbf fdbfbfbfbf");
    vec![
        (
            "6.5",
            always,
            ["hello$world", "hello¢world", "hello€world", "hello𤭢world", "κόσμε"]
                .map(|text| text.into())
                .to_vec(),
        ),
        ("6.6", as_std, (1..=KOSME.len()).map(|end| KOSME[..end].to_vec()).collect()),
        ("6.7", always, hex("00 c280 e0a080 f0908080")),
        ("6.8", never, hex("f888808080 fc8480808080")),
        ("6.9", always, hex("7f dfbf efbfbf f48fbfbf")),
        ("6.10", never, hex("f7bfbfbf fbbfbfbfbf fdbfbfbfbfbf")),
        ("6.11", as_std, hex("ed9fbf ee8080 efbfbd f48fbfbf f4908080")),
        (
            "6.12",
            never,
            [hex("80 bf 80bf 80bf80 80bf80bf 80bf80bf80 80bf80bf80bf"), vec![continuations]]
                .concat(),
        ),
        (
            "6.13",
            never,
            [0xc0..=0xdf, 0xe0..=0xef, 0xf0..=0xf7, 0xf8..=0xfb, 0xfc..=0xfd].map(lonely).to_vec(),
        ),
        ("6.14", never, incomplete.clone()),
        ("6.15", never, vec![incomplete.concat()]),
        ("6.16", never, hex("fe ff fefeffff")),
        ("6.17", never, hex("c0af e080af f08080af f8808080af fc80808080af")),
        ("6.18", never, hex("c1bf e09fbf f08fbfbf f887bfbfbf fc83bfbfbfbf")),
        ("6.19", never, hex("c080 e08080 f0808080 f880808080 fc8080808080")),
        ("6.20", never, hex("eda080 edadbf edae80 edafbf edb080 edbe80 edbfbf")),
        (
            "6.21",
            never,
            hex(
                "eda080edb080 eda080edbfbf edadbfedb080 edadbfedbfbf edae80edb080 edae80edbfbf edafbfedb080 edafbfedbfbf",
            ),
        ),
        ("6.22", always, noncharacters()),
        ("6.23", always, hex("efbfb9 efbfba efbfbb efbfbc efbfbd efbfbe efbfbf")),
    ]
}

/// U+FFFE and U+FFFF of each plane.
fn noncharacters() -> Vec<Vec<u8>> {
    let all = (0..=16_u32).flat_map(|plane| [plane << 16 | 0xfffe, plane << 16 | 0xffff]);
    all.map(|code| char::from_u32(code).expect("a scalar value").to_string().into()).collect()
}

fn bytes_of(hex: &str) -> Vec<u8> {
    let digits = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).expect("hex");
    (0..hex.len()).step_by(2).map(digits).collect()
}

#[test]
fn a_text_cut_within_a_character_is_not_valid() {
    let valid: Vec<usize> =
        (1..=KOSME.len()).filter(|end| std::str::from_utf8(&KOSME[..*end]).is_ok()).collect();
    assert_eq!(valid, [2, 4, 6, 8, 10]);
}
