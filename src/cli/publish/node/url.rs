//! A node's address as it is typed. Credentials in it are never printed.

use std::fmt;

use data_encoding::BASE64;
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use url::Url;

use crate::web_address;

/// What was typed, not looked at yet: an error about it must not quote a password.
#[derive(Clone)]
pub struct NodeText(String);

/// `http://` or `https://`, a host, and the path under which the node answers.
#[derive(Clone, PartialEq)]
pub struct NodeUrl {
    /// Without a slash at its end and without credentials.
    base: String,
    /// With the credentials, and with a slash for an empty path.
    url: Url,
    /// The header's value for basic authentication.
    authorization: Option<String>,
}

impl From<String> for NodeText {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Debug for NodeText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NodeText(..)")
    }
}

impl NodeText {
    /// # Errors
    /// What is wrong with it, without quoting it.
    pub fn parse(&self) -> Result<NodeUrl, String> {
        if !self.0.contains("://") {
            return Err("write http://HOST:PORT".to_owned());
        }
        let url = web_address::parse(&self.0).map_err(|error| {
            format!("a node's URL names a host, as in http://HOST:PORT: {error}")
        })?;
        if !["http", "https"].contains(&url.scheme()) {
            return Err("a node's URL begins with http:// or https://".to_owned());
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err("a node's URL has neither a query nor a fragment".to_owned());
        }
        let shown = web_address::shown(&url);
        let base = shown.trim_end_matches('/');
        let base = base.strip_suffix("/api/v1").unwrap_or(base).to_owned();
        Ok(NodeUrl { base, authorization: basic(&url), url })
    }
}

impl NodeUrl {
    /// Where the node answers for the block at `height`.
    pub fn block(&self, height: u64) -> String {
        format!("{}/api/v1/blocks/{height}", self.base)
    }

    /// Where it answers for its newest block, if it knows this path.
    pub fn latest(&self) -> String {
        format!("{}/api/v1/blocks/latest", self.base)
    }

    /// Where it answers for a transaction. The id is the node's own word, so it is escaped.
    pub fn transaction(&self, id: &str) -> String {
        format!("{}/api/v1/transactions/{}", self.base, utf8_percent_encode(id, NON_ALPHANUMERIC))
    }

    /// The root of its API, which says where its streams are.
    pub fn root(&self) -> String {
        format!("{}/api/v1/", self.base)
    }

    /// As it stands in the URL, an IPv6 address in its brackets.
    pub fn host(&self) -> String {
        self.url.host_str().expect("bug: http has a host").to_owned()
    }

    pub fn is_tls(&self) -> bool {
        self.url.scheme() == "https"
    }

    /// The value of `Authorization`. Never for a log or an error.
    pub fn authorization(&self) -> Option<&str> {
        self.authorization.as_deref()
    }
}

impl fmt::Display for NodeUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.base)
    }
}

/// RFC 7617; a user without a password has an empty one. None without credentials.
fn basic(url: &Url) -> Option<String> {
    if url.username().is_empty() && url.password().is_none() {
        return None;
    }
    let mut plain: Vec<u8> = percent_decode_str(url.username()).collect();
    plain.push(b':');
    plain.extend(percent_decode_str(url.password().unwrap_or_default()));
    Some(format!("Basic {}", BASE64.encode(&plain)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<NodeUrl, String> {
        NodeText::from(text.to_owned()).parse()
    }

    #[test]
    fn addresses_lead_to_blocks() {
        for (text, expected) in [
            ("http://node:9984", "http://node:9984/api/v1/blocks/7"),
            ("http://NODE:9984/", "http://node:9984/api/v1/blocks/7"),
            ("https://chain.example/one/", "https://chain.example/one/api/v1/blocks/7"),
            ("http://[::1]:9984/api/v1/", "http://[::1]:9984/api/v1/blocks/7"),
        ] {
            assert_eq!(parse(text).expect("parses").block(7), expected, "{text}");
        }
        let url = parse("http://[::1]:9984/one").expect("parses");
        assert_eq!(url.host(), "[::1]");
        assert_eq!(url.root(), "http://[::1]:9984/one/api/v1/");
        assert_eq!(url.latest(), "http://[::1]:9984/one/api/v1/blocks/latest");
        assert_eq!(
            url.transaction("../a?b#c"),
            "http://[::1]:9984/one/api/v1/transactions/%2E%2E%2Fa%3Fb%23c"
        );
    }

    #[test]
    fn credentials_are_sent_and_not_shown() {
        let url = parse("https://me:p%40ss%3A@node").expect("parses");
        assert_eq!(url.authorization(), Some("Basic bWU6cEBzczo="));
        assert_eq!(url.to_string(), "https://node");
        assert_eq!(parse("http://node").expect("parses").authorization(), None);
        assert_eq!(
            format!("{:?}", NodeText::from("http://me:pass@node".to_owned())),
            "NodeText(..)"
        );
    }

    #[test]
    fn what_is_no_address_is_refused_without_the_password() {
        for (text, told) in [
            ("node:9984", "write http://"),
            ("ws://me:s3cret@node", "begins with http://"),
            ("http://me:s3cret@", "names a host"),
            ("http://me:s3cret@node:99840", "node:99840"),
            ("http://me:s3cret@no de", "no de"),
            ("http://me:s3cret@node/?x=1", "neither a query"),
            ("http://me:s3/cret@node", "%2F"),
            ("http://me:s3?cret@node", "%3F"),
            ("http://me:s3#cret@node", "%23"),
            ("http://me:s3@cret@node", "%40"),
            ("http://me:12/s3cret@node", "%2F"),
            ("http://me:s3cret", "port"),
            ("http://me:s3 cret", "invalid"),
        ] {
            let Err(error) = parse(text) else { panic!("taken: {text}") };
            assert!(error.contains(told) && !error.contains("s3cret"), "{text}: {error}");
        }
    }
}
