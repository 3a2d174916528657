//! Paths as they are looked up, and what may be meant by one that leads nowhere. Pure.

use std::borrow::Cow;

/// Paths further off than this are no slip of the pen.
const SIMILARITY_MIN: f64 = 0.75;
/// Longer ones are not compared.
const COMPARED_BYTES_MAX: usize = 128;

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

/// Which of `known` somebody may mean who asks for `path`.
pub fn meant(path: &str, known: &[&'static str]) -> Option<&'static str> {
    if path.len() > COMPARED_BYTES_MAX {
        return None;
    }
    let lower = path.to_ascii_lowercase();
    let known = || known.iter().copied().filter(|known| *known != "/");
    // A proxy left its own prefix in front.
    let behind_prefix = known().find(|known| lower.ends_with(known));
    let begun = known().find(|known| {
        lower.len() > 1 && known.strip_prefix(&*lower).is_some_and(|rest| rest.starts_with('/'))
    });
    let similar = || {
        let similarities =
            known().map(|known| (strsim::normalized_damerau_levenshtein(known, &lower), known));
        let near = similarities.filter(|(similarity, _)| *similarity >= SIMILARITY_MIN);
        near.max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, known)| known)
    };
    behind_prefix.or(begun).or_else(similar)
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

    #[test]
    fn what_is_meant_is_found_where_it_is_near() {
        let known = ["/", "/api/v1", "/api/v1/streams/valid_transactions", "/health/ready"];
        for (path, expected) in [
            ("/chain/api/v1/streams/valid_transactions", Some(known[2])),
            ("/api/v1/streams/Valid_Transactions", Some(known[2])),
            ("/api/v1/streams/valid-transaction", Some(known[2])),
            ("/api/v1/streams", Some(known[2])),
            ("/api", Some(known[1])),
            ("/api/v2", Some(known[1])),
            ("/health", Some(known[3])),
            ("/favicon.ico", None),
            ("", None),
            ("/", None),
            (&format!("/{}/api/v1", "x".repeat(200)), None),
        ] {
            assert_eq!(meant(path, &known), expected, "{path}");
        }
    }
}
