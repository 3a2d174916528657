//! A stream's address: what is connected to, and what of it may be shown.

use std::fmt;

use tokio_tungstenite::tungstenite::http::Uri;

use super::BuildError;
use crate::secret;

/// A `ws://` or `wss://` address without its query. Prints without what may stand before the host:
/// a password.
#[derive(Clone)]
pub(super) struct Address {
    url: String,
    shown: String,
    path: String,
}

impl Address {
    /// The address and the query, which may be empty.
    ///
    /// # Errors
    /// Another kind of address; says what was probably meant.
    pub fn parse(text: &str) -> Result<(Self, &str), BuildError> {
        let refused = |why: String| Err(BuildError::Address(why));
        let rest = text.split_once("://").map_or(text, |(_, rest)| rest);
        let (authority, behind) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        if behind.contains('@') || authority.matches('@').count() > 1 {
            return refused(
                "an @ in a password or behind the host must be written %40, and / ? # in a password %2F %3F %23"
                    .to_owned(),
            );
        }
        let whole = text.split('#').next().unwrap_or(text);
        let (url, query) = whole.split_once('?').unwrap_or((whole, ""));
        let uri: Uri = match whole.parse() {
            Ok(uri) => uri,
            Err(error) => return refused(format!("this is no address: {error}")),
        };
        match uri.scheme_str() {
            Some("ws" | "wss") => {}
            Some("http") => return refused(meant("ws", &text["http".len()..])),
            Some("https") => return refused(meant("wss", &text["https".len()..])),
            _ => return refused("a stream's address begins with ws:// or wss://".to_owned()),
        }
        let scheme = uri.scheme_str().unwrap_or("ws");
        let place = uri.authority().map_or("", |authority| authority.as_str());
        let place = place.rsplit('@').next().unwrap_or(place);
        // The library takes what is no number for no port: without a host, a password stands there.
        if uri.host().is_none_or(|host| place.len() > host.len()) && uri.port_u16().is_none() {
            return refused("the port is no number up to 65535".to_owned());
        }
        let path = uri.path().to_owned();
        let shown = format!("{scheme}://{place}{path}");
        Ok((Self { url: url.to_owned(), shown, path }, query))
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    pub fn path(&self) -> &str {
        &self.path
    }
}

/// Without what may be a password or a token.
fn meant(scheme: &str, rest: &str) -> String {
    format!("write {}", secret::masked(&format!("{scheme}{rest}")))
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_websocket_addresses_are_taken_and_passwords_never_shown() {
        let (address, query) = Address::parse("wss://node:s3cret@host:1/a/b?x=1#f").expect("one");
        assert_eq!((address.path(), query), ("/a/b", "x=1"));
        assert_eq!(address.url(), "wss://node:s3cret@host:1/a/b");
        assert_eq!(format!("{address} {address:?}"), "wss://host:1/a/b wss://host:1/a/b");
        for (text, told) in [
            ("http://node:9985/x?y=1", "write ws://node:9985/x"),
            ("https://u:hunt3r@node:9985/x?access_token=hunt3r", "write wss://***@node:9985/x?***"),
            ("wss://u:12/hunt3r@node", "%2F"),
            ("wss://u:12#hunt3r@node", "%23"),
            ("wss://u:hunt3r/x@node", "%2F"),
            ("wss://u:hunt3r", "port"),
            ("wss://u:hunt3r@hunt3r@node", "%40"),
            ("HTTPS://node/x", "write wss://node/x"),
            ("node:9985", "ws://"),
            ("/x", "ws://"),
            ("", "no address"),
            ("ws://", "no address"),
        ] {
            let error = Address::parse(text).expect_err(text).to_string();
            assert!(error.contains(told) && !error.contains("hunt3r"), "{text}: {error}");
        }
    }
}
