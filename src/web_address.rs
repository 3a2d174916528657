//! Addresses of servers as people type them (`http`, `https`, `ws`, `wss`), read by the `url` crate. Pure.
//!
//! That crate reads addresses as a browser does, and a browser finds a host in almost any text. So what
//! may put a piece of a password into the path, or another host than the one that was meant, is refused
//! before. An error quotes nothing but the place behind the credentials.

use url::{ParseError, Position, Url};

/// Why a text is no address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    #[error("a user or a password with one of / ? # @ must be percent-encoded: %2F %3F %23 %40")]
    AmbiguousAt,
    /// `place`: what stands behind the credentials. Without credentials a password may stand in the place
    /// of a host, and it holds nothing of the text.
    #[error("{place}: {error}")]
    Malformed { place: String, error: ParseError },
}

/// # Errors
/// It is no address, or may be another one than was meant.
pub fn parse(typed: &str) -> Result<Url, AddressError> {
    let rest = typed.split_once("://").map_or(typed, |(_, rest)| rest);
    let end = rest.find(['/', '\\', '?', '#']).unwrap_or(rest.len());
    let (authority, behind) = rest.split_at(end);
    if behind.contains('@') || authority.matches('@').count() > 1 {
        return Err(AddressError::AmbiguousAt);
    }
    let place = authority.split_once('@').map(|(_, place)| place);
    let place = place.filter(|place| !place.is_empty()).unwrap_or("it");
    let malformed = |error| AddressError::Malformed { place: place.to_owned(), error };
    // A browser drops or encodes them, and takes no digits for no port.
    if typed.contains(|c: char| c.is_whitespace() || c.is_control() || c == '\\') {
        return Err(malformed(ParseError::InvalidDomainCharacter));
    }
    match authority.ends_with(':') {
        true => Err(malformed(ParseError::InvalidPort)),
        false => Url::parse(typed).map_err(malformed),
    }
}

/// The address without credentials and without what follows the path.
pub fn shown(url: &Url) -> String {
    format!("{}://{}", url.scheme(), &url[Position::BeforeHost..Position::AfterPath])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_shown_without_what_may_be_a_secret() {
        for (typed, expected) in [
            ("ws://u:hunter@Host:9985/a/b?hunter#hunter", "ws://host:9985/a/b"),
            ("HTTPS://node", "https://node/"),
            ("http://[::1]:9984/one", "http://[::1]:9984/one"),
        ] {
            assert_eq!(shown(&parse(typed).expect(typed)), expected);
        }
    }

    #[test]
    fn what_may_be_another_address_than_was_meant_is_refused() {
        let malformed =
            |error, place: &str| AddressError::Malformed { place: place.to_owned(), error };
        for (typed, expected) in [
            ("http://u:12/hunter@node", AddressError::AmbiguousAt),
            ("http://u:12\\hunter@node", AddressError::AmbiguousAt),
            ("http://u:hunter@hunter@node", AddressError::AmbiguousAt),
            ("http://u:hunter@no de", malformed(ParseError::InvalidDomainCharacter, "no de")),
            ("ht\ttp://node", malformed(ParseError::InvalidDomainCharacter, "it")),
            ("http://node\\x", malformed(ParseError::InvalidDomainCharacter, "it")),
            ("http://u@node:", malformed(ParseError::InvalidPort, "node:")),
            ("http://u:hunter", malformed(ParseError::InvalidPort, "it")),
            ("http://u:hunter@", malformed(ParseError::EmptyHost, "it")),
            ("node", malformed(ParseError::RelativeUrlWithoutBase, "it")),
        ] {
            assert_eq!(parse(typed), Err(expected), "{typed}");
        }
    }
}
