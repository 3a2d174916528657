//! The UTF-8 byte order mark, which some editors put before a text. It is no part of it.

const MARK: &[u8] = "\u{feff}".as_bytes();

/// The bytes behind the mark; all of them where there is none.
pub fn skipped(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix(MARK).unwrap_or(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_mark_is_skipped() {
        for (bytes, text) in [
            (&b"\xef\xbb\xbf{}"[..], "{}"),
            (b"{}", "{}"),
            (b"\xef\xbb\xbf", ""),
            (b"\xef\xbb\xbf\xef\xbb\xbf{}", "\u{feff}{}"),
            (b"", ""),
        ] {
            assert_eq!(skipped(bytes), text.as_bytes(), "{bytes:?}");
        }
    }
}
