//! Numbers as URLs and reasons have them: decimal digits and nothing else.

/// Heights are signed 64-bit integers in Tendermint.
pub const HEIGHT_MAX: u64 = i64::MAX as u64;

/// A count, or an event's index: from 0 to 2^64 - 1.
pub fn number(text: &str) -> Option<u64> {
    let is_digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| is_digits)
}

/// A height: from 0 to [`HEIGHT_MAX`].
pub fn height(text: &str) -> Option<u64> {
    number(text).filter(|height| *height <= HEIGHT_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn numbers_and_heights_are_read_as_they_are_written(value: u64) {
            prop_assert_eq!(number(&value.to_string()), Some(value));
            let expected = (value <= HEIGHT_MAX).then_some(value);
            prop_assert_eq!(height(&value.to_string()), expected);
        }
    }

    #[test]
    fn bounds_are_exact_and_nothing_but_digits_is_a_number() {
        assert_eq!(height("9223372036854775807"), Some(HEIGHT_MAX));
        assert_eq!(height("9223372036854775808"), None);
        assert_eq!(number("18446744073709551615"), Some(u64::MAX));
        assert_eq!(number("007"), Some(7));
        for text in ["", "+1", "-1", " 1", "1e3", "0x1", "\u{661}", "18446744073709551616"] {
            assert_eq!(number(text), None, "{text}");
        }
    }
}
