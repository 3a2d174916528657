//! A stream's address: what is connected to, and what of it may be shown.

use std::fmt;

use url::Url;

use super::BuildError;
use crate::{secret, web_address};

/// A `ws://` or `wss://` address without its query. Prints without what may stand before the host:
/// a password.
#[derive(Clone)]
pub(super) struct Address(Url);

impl Address {
    /// The address and the query, which may be empty.
    ///
    /// # Errors
    /// Another kind of address; says what was probably meant.
    pub fn parse(text: &str) -> Result<(Self, String), BuildError> {
        let mut url = web_address::parse(text).map_err(|error| {
            BuildError::Address(format!("this is no address such as ws://HOST:PORT/PATH: {error}"))
        })?;
        match url.scheme() {
            "ws" | "wss" => {}
            "http" => return Err(BuildError::Address(meant("ws", &text["http".len()..]))),
            "https" => return Err(BuildError::Address(meant("wss", &text["https".len()..]))),
            _ => {
                let why = "a stream's address begins with ws:// or wss://";
                return Err(BuildError::Address(why.to_owned()));
            }
        }
        let query = url.query().unwrap_or_default().to_owned();
        url.set_query(None);
        url.set_fragment(None);
        Ok((Self(url), query))
    }

    pub fn url(&self) -> &str {
        self.0.as_str()
    }

    pub fn path(&self) -> &str {
        self.0.path()
    }
}

/// Without what may be a password or a token.
fn meant(scheme: &str, rest: &str) -> String {
    format!("write {}", secret::masked(&format!("{scheme}{rest}")))
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&web_address::shown(&self.0))
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_websocket_addresses_are_taken_and_passwords_never_shown() {
        let (address, query) = Address::parse("wss://node:s3cret@host:1/a/b?x=1#f").expect("one");
        assert_eq!((address.path(), query.as_str()), ("/a/b", "x=1"));
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
