//! Paths as they are written and as they are looked up.

use std::borrow::Cow;

/// Of the API root.
pub const ROOT_PATH: &str = "/api/v1";
/// Of the status of one replica.
pub const STATUS_PATH: &str = "/api/v1/status";

/// `path` without doubled and trailing slashes, and without percent-encoding where that says nothing: of
/// letters, digits, `-`, `.`, `_` and `~` (RFC 3986 section 6.2.2.2).
pub fn plain(path: &str) -> Cow<'_, str> {
    let is_plain = !path.contains('%') && !path.contains("//");
    if is_plain && (path == "/" || !path.ends_with('/')) {
        return Cow::Borrowed(path);
    }
    let mut plain = String::with_capacity(path.len());
    let mut rest = path;
    while let Some(first) = rest.chars().next() {
        let (next, len) = match unreserved(rest) {
            Some(decoded) => (decoded, "%00".len()),
            None => (first, first.len_utf8()),
        };
        rest = &rest[len..];
        if next != '/' || !plain.ends_with('/') {
            plain.push(next);
        }
    }
    if plain.len() > 1 && plain.ends_with('/') {
        plain.pop();
    }
    Cow::Owned(plain)
}

/// The character that `text` begins with in a percent-encoding that it does not need.
fn unreserved(text: &str) -> Option<char> {
    let digits = text.strip_prefix('%')?.get(..2)?;
    let is_hex = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    let byte = u8::from_str_radix(digits, 16).ok().filter(|_| is_hex)?;
    let is_unreserved = byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    is_unreserved.then_some(char::from(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slashes_and_needless_encodings_say_nothing() {
        for (path, expected) in [
            ("/", "/"),
            ("//", "/"),
            ("", ""),
            ("/api/v1", "/api/v1"),
            ("/api/v1/", "/api/v1"),
            ("/api/v1//", "/api/v1"),
            ("//api///v1", "/api/v1"),
            ("/api/v1/streams/valid%5Ftransactions/", "/api/v1/streams/valid_transactions"),
            ("/%61pi/v%31", "/api/v1"),
            ("/api%2Fv1", "/api%2Fv1"),
            ("/a%5", "/a%5"),
            ("/a%+1", "/a%+1"),
            ("/a%", "/a%"),
            ("/%C3%BC", "/%C3%BC"),
            ("/ü%5F/", "/ü_"),
        ] {
            assert_eq!(plain(path), expected, "{path}");
        }
    }
}
