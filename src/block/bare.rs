//! `NaN`, `Infinity` and `-Infinity` as Python's `json` writes them: words that are no JSON.
//!
//! They stand for a number where only skipping is asked for. So they are spelled as a number out of
//! range, which passes where a value is skipped and nowhere else. Only a text that is no JSON is looked
//! at; that takes one pass, whatever is in it.

use std::ops::Range;

use crate::metrics::DecodeErrorKind;

use super::error::DecodeError;

/// Each with the number that it is spelled as. No two words begin alike. The numbers are out of a
/// double's range: skipped like any number, refused by whoever reads them.
pub(super) const WORDS: [(&str, &str); 3] =
    [("NaN", "1e999"), ("Infinity", "2e999"), ("-Infinity", "3e999")];
const NUMBER_LEN: usize = 5;

/// Where the bytes of a text that was read are in the body.
#[derive(Debug, Clone, Copy)]
pub(super) struct Places<'a> {
    /// The byte of the body at which the text begins.
    at: usize,
    /// The text before its words were spelled anew; none when nothing was.
    original: Option<&'a str>,
}

/// Reads `text`, which begins at byte `at` of the body; once more with its words spelled as numbers if
/// it is no JSON and has any.
pub(super) fn read<T>(
    text: &str,
    at: usize,
    read: impl Fn(&str, Places<'_>) -> Result<T, DecodeError>,
) -> Result<T, DecodeError> {
    let plain = Places { at, original: None };
    match read(text, plain) {
        Ok(read) => Ok(read),
        Err(error) if error.kind == DecodeErrorKind::NotJson && words(text).next().is_some() => {
            let spelled = spelled(text, number);
            let places = Places { at, original: Some(text) };
            read(&spelled, places)
                .map_err(|error| error.placed(|byte| places.of(byte)).of_spelled(text, &WORDS))
        }
        Err(error) => Err(error.placed(|byte| plain.of(byte))),
    }
}

/// The text with `value` in the place of every word, which keeps its length where `value` is shorter.
pub(super) fn spelled(text: &str, value: impl Fn(&str) -> &'static str) -> String {
    let mut spelled = String::with_capacity(text.len() + text.len() / 8);
    let mut taken = 0;
    for word in words(text) {
        spelled.push_str(&text[taken..word.start]);
        let value = value(&text[word.clone()]);
        spelled.push_str(value);
        spelled.extend(std::iter::repeat_n(' ', word.len().saturating_sub(value.len())));
        taken = word.end;
    }
    spelled.push_str(&text[taken..]);
    spelled
}

fn number(word: &str) -> &'static str {
    let found = WORDS.iter().find(|(known, _)| *known == word);
    found.expect("bug: only words are spelled").1
}

/// Where the words are, outside of strings. What stands beside one must be able to end a number.
fn words(text: &str) -> impl Iterator<Item = Range<usize>> {
    let bytes = text.as_bytes();
    let mut at = 0;
    std::iter::from_fn(move || {
        while at < bytes.len() {
            match bytes[at] {
                b'"' => at = string_end(bytes, at),
                b'N' | b'I' | b'-' => {
                    if let Some(word) = word_at(bytes, at) {
                        at = word.end;
                        return Some(word);
                    }
                    at += 1;
                }
                _ => at += 1,
            }
        }
        None
    })
}

fn word_at(bytes: &[u8], at: usize) -> Option<Range<usize>> {
    let (word, _) = WORDS.iter().find(|(word, _)| bytes[at..].starts_with(word.as_bytes()))?;
    let end = at + word.len();
    let before = at.checked_sub(1).map(|before| bytes[before]);
    let is_begun = before.is_none_or(|byte| matches!(byte, b':' | b',' | b'[') || is_space(byte));
    let is_ended =
        bytes.get(end).is_none_or(|byte| matches!(byte, b',' | b']' | b'}') || is_space(*byte));
    (is_begun && is_ended).then_some(at..end)
}

/// Behind the string that begins at `at`.
fn string_end(bytes: &[u8], at: usize) -> usize {
    let mut at = at + 1;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => return at + 1,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    bytes.len()
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

impl Places<'_> {
    /// The byte of the body for a byte of the text.
    pub(super) fn of(self, byte: usize) -> usize {
        let mut grown = 0;
        for word in self.original.into_iter().flat_map(words) {
            let before = word.start + grown;
            if byte <= before {
                break;
            }
            let more = NUMBER_LEN.saturating_sub(word.len());
            grown += more.min(byte - before);
        }
        self.at + byte - grown
    }
}

#[cfg(test)]
mod tests {
    use serde::de::IgnoredAny;

    use super::*;

    fn is_json(text: &str) -> bool {
        serde_json::from_str::<IgnoredAny>(text).is_ok()
    }

    #[test]
    fn words_are_spelled_where_a_value_may_stand_and_nowhere_else() {
        for (text, passes) in [
            ("NaN", true),
            ("[NaN,Infinity, -Infinity]", true),
            ("{\"a\":NaN,\"b\": {\"c\":\n-Infinity}}", true),
            ("[\"NaN\", \"\\\"\", NaN]", true),
            ("[\"\\\\\", NaN]", true),
            ("-NaN", false),
            ("- Infinity", false),
            ("--Infinity", false),
            ("+Infinity", false),
            ("1NaN", false),
            ("NaN1", false),
            ("[NaN.5]", false),
            ("[1-Infinity]", false),
            ("[1 NaN]", false),
            ("NaNNaN", false),
            ("{NaN: 1}", false),
            ("[nan]", false),
            ("[Inf]", false),
            ("[Infinitys]", false),
            ("[\"NaN]", false),
            ("[\"\\", false),
        ] {
            assert_eq!(is_json(&spelled(text, number)), passes, "{text}");
            assert_eq!(is_json(&spelled(text, |_| "null")), passes, "{text}");
        }
        for (word, number) in WORDS {
            assert_eq!(number.len(), NUMBER_LEN);
            assert!(serde_json::from_str::<f64>(number).is_err(), "{word} has no value");
        }
    }

    #[test]
    fn bytes_are_found_again_behind_words() {
        let text = "[NaN, \"x\", -Infinity, NaN, \"y\", Infinity] z";
        let spelled = spelled(text, number);
        let places = Places { at: 100, original: Some(text) };
        for mark in ["[", "\"x\"", "-", ", NaN, \"y\"", "\"y\"", "]", "z"] {
            let in_spelled = match mark {
                "-" => spelled.find("3e999    "),
                ", NaN, \"y\"" => spelled.find(", 1e999, \"y\""),
                mark => spelled.find(mark),
            };
            let byte = in_spelled.expect("it is there");
            assert_eq!(Some(places.of(byte)), text.find(mark).map(|at| 100 + at), "{mark}");
        }
        assert_eq!(places.of(spelled.len()), 100 + text.len());
    }
}
