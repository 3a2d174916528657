//! Which web pages may use this service: the forms that `server.allowed_origins` takes, and what an
//! `Origin` header is compared with them by. Pure.
//!
//! Origins are read here and not by the `url` crate. That crate gives no origin for an app's own scheme
//! (`tauri://localhost`, `file://`) and knows no wildcards. It also takes much that is no origin: a path,
//! a user, an empty port, escapes in a host.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// What may come from where: `*`, `null`, `https://app.example.org`, `https://*.example.org:8443`,
/// `*.example.org` for any scheme, or an app's own scheme, such as `tauri://localhost` and `file://`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AllowedOrigin {
    /// Every page, and what a browser says for one without an origin of its own.
    Any,
    /// What a browser says for a file, a sandboxed frame and the like. Only where it is named.
    Null,
    Place {
        /// In lower case; none for any.
        scheme: Option<String>,
        /// Whether every name below `host` is meant, and not `host` itself.
        is_suffix: bool,
        /// In lower case; empty where the scheme has no hosts.
        host: String,
        /// None for the scheme's own.
        port: Option<u16>,
    },
}

/// An origin as a browser writes it: RFC 6454 section 4, its port filled in. `ws` and `wss` are written
/// by programs; they are the same as `http` and `https`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin<'a> {
    pub scheme: &'a str,
    /// Empty where the scheme has no hosts.
    pub host: &'a str,
    pub port: Option<u16>,
}

/// What is wrong with a value, and what would be right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is no origin: write a scheme and a host without a path, such as \
     https://app.example.org, https://*.example.org, *.example.org, null or *; an app's own scheme is \
     written as the app sends it, such as file:// or tauri://localhost"
)]
pub struct NotAnOrigin {
    text: String,
}

impl AllowedOrigin {
    /// Whether a request that says `Origin: {origin}` is meant.
    pub fn allows(&self, origin: &str) -> bool {
        if *self == Self::Any {
            return true;
        }
        let origin = origin.to_ascii_lowercase();
        let (allowed_scheme, is_suffix, host, port) = match self {
            Self::Any | Self::Null => return origin == "null",
            Self::Place { scheme, is_suffix, host, port } => (scheme, *is_suffix, host, *port),
        };
        let Some(origin) = Origin::parse(&origin) else { return false };
        let is_host = match is_suffix {
            true => origin
                .host
                .strip_suffix(host)
                .is_some_and(|below| below.strip_suffix('.').is_some_and(|name| !name.is_empty())),
            false => origin.host == host,
        };
        is_host
            && allowed_scheme.as_deref().is_none_or(|scheme| web_scheme(scheme) == origin.scheme)
            && port.or_else(|| own_port(origin.scheme)) == origin.port
    }
}

impl<'a> Origin<'a> {
    /// Reads `scheme://host[:port]` in lower case; anything behind that makes it something else.
    pub fn parse(text: &'a str) -> Option<Self> {
        let (scheme, rest) = text.split_once("://")?;
        let scheme = web_scheme(scheme);
        let is_scheme = scheme.starts_with(|first: char| first.is_ascii_alphabetic())
            && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
        let (host, port) = match rest {
            // A local file has no host, and an app's own scheme need not have one.
            "" if own_port(scheme).is_none() => ("", None),
            rest => host_and_port(rest)?,
        };
        is_scheme.then(|| Self { scheme, host, port: port.or_else(|| own_port(scheme)) })
    }
}

impl FromStr for AllowedOrigin {
    type Err = NotAnOrigin;

    fn from_str(text: &str) -> Result<Self, NotAnOrigin> {
        let wrong = || NotAnOrigin { text: text.to_owned() };
        let lower = text.to_ascii_lowercase();
        let (scheme, rest) = match (lower.as_str(), lower.split_once("://")) {
            ("*", _) => return Ok(Self::Any),
            ("null", _) => return Ok(Self::Null),
            (_, Some((scheme, rest))) => (Some(scheme), rest),
            (rest, None) => (None, rest),
        };
        let (is_suffix, rest) = match rest.strip_prefix("*.") {
            Some(rest) => (true, rest),
            None => (false, rest),
        };
        // A host alone is mostly an origin whose scheme was forgotten.
        if scheme.is_none() && !is_suffix {
            return Err(wrong());
        }
        let as_origin = format!("{}://{rest}", scheme.unwrap_or("https"));
        let is_whole = |origin: &Origin<'_>| match origin.host {
            "" => !is_suffix,
            host => !host.contains('*'),
        };
        let origin = Origin::parse(&as_origin).filter(is_whole).ok_or_else(wrong)?;
        let host = origin.host.to_owned();
        let port = host_and_port(rest).and_then(|(_, port)| port);
        Ok(Self::Place { scheme: scheme.map(str::to_owned), is_suffix, host, port })
    }
}

impl fmt::Display for AllowedOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, is_suffix, host, port) = match self {
            Self::Any => return f.write_str("*"),
            Self::Null => return f.write_str("null"),
            Self::Place { scheme, is_suffix, host, port } => (scheme, is_suffix, host, port),
        };
        if let Some(scheme) = scheme {
            write!(f, "{scheme}://")?;
        }
        write!(f, "{}{host}", if *is_suffix { "*." } else { "" })?;
        port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

impl Serialize for AllowedOrigin {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for AllowedOrigin {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

/// A host (an IPv6 address in its brackets) and the port behind it.
fn host_and_port(text: &str) -> Option<(&str, Option<u16>)> {
    let host_bytes = match text.starts_with('[') {
        true => text.find(']')? + 1,
        false => text.find(':').unwrap_or(text.len()),
    };
    let (host, rest) = text.split_at(host_bytes);
    let port = match rest.strip_prefix(':') {
        Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            Some(digits.parse().ok()?)
        }
        None if rest.is_empty() => None,
        _ => return None,
    };
    let is_host = !host.is_empty() && !host.contains(|c: char| "/?#@\\, ".contains(c));
    is_host.then_some((host, port))
}

/// A WebSocket's scheme as that of the page around it.
fn web_scheme(scheme: &str) -> &str {
    match scheme {
        "ws" => "http",
        "wss" => "https",
        other => other,
    }
}

fn own_port(scheme: &str) -> Option<u16> {
    match web_scheme(scheme) {
        "http" => Some(80),
        "https" => Some(443),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_compared_by_scheme_host_and_port() {
        let check = |allowed: &str, yes: &[&str], no: &[&str]| {
            let allowed: AllowedOrigin = allowed.parse().expect(allowed);
            for origin in yes {
                assert!(allowed.allows(origin), "{allowed} should allow {origin}");
            }
            for origin in no {
                assert!(!allowed.allows(origin), "{allowed} should not allow {origin}");
            }
        };
        check("*", &["https://a.example", "null", "anything"], &[]);
        check("null", &["null"], &["https://null", "", "file://"]);
        check(
            "https://App.Example.org",
            &["https://app.example.org", "https://APP.example.org:443"],
            &[
                "http://app.example.org",
                "https://app.example.org:8443",
                "https://example.org",
                "https://b.app.example.org",
                "https://app.example.org.evil.net",
                "https://app.example.org/",
                "https://app.example.org https://evil.net",
                "https://app.example.org@evil.net",
                "null",
                "",
            ],
        );
        check("http://localhost:3000", &["http://localhost:3000"], &["http://localhost"]);
        check("http://[::1]:3000", &["http://[::1]:3000"], &["http://[::1]", "http://[::2]:3000"]);
        check(
            "https://*.example.org",
            &["https://a.example.org", "https://a.b.example.org:443"],
            &[
                "https://example.org",
                "https://.example.org",
                "https://evilexample.org",
                "http://a.example.org",
                "https://a.example.org:444",
            ],
        );
        check(
            "*.example.org",
            &["https://a.example.org", "http://a.example.org", "http://a.example.org:80"],
            &["https://example.org", "http://a.example.org:8080"],
        );
        check("*.example.org:8080", &["http://a.example.org:8080"], &["http://a.example.org"]);
        check("chrome-extension://abc", &["chrome-extension://abc"], &["https://abc"]);
    }

    #[test]
    fn apps_with_schemes_of_their_own_can_be_listed() {
        let check = |allowed: &str, yes: &[&str], no: &[&str]| {
            let allowed: AllowedOrigin = allowed.parse().expect(allowed);
            assert_eq!(yes.iter().find(|origin| !allowed.allows(origin)), None, "{allowed}");
            assert_eq!(no.iter().find(|origin| allowed.allows(origin)), None, "{allowed}");
        };
        // Electron, Cordova, the Arduino library.
        check("file://", &["file://", "FILE://"], &["null", "file://host", "file:///x", "app://"]);
        check(
            "tauri://localhost",
            &["tauri://localhost"],
            &["tauri://localhost.evil.net", "tauri://", "http://localhost", "tauri://localhost:1"],
        );
        check("http://tauri.localhost", &["http://tauri.localhost"], &["https://tauri.localhost"]);
        check("capacitor://localhost", &["capacitor://localhost"], &["ionic://localhost"]);
        check("app://.", &["app://."], &["app://"]);
        // Programs that write the address of their socket.
        check("https://a.example", &["wss://a.example"], &["ws://a.example", "http://a.example"]);
        check(
            "ws://a.example:81",
            &["http://a.example:81", "ws://a.example:81"],
            &["ws://a.example"],
        );
    }

    #[test]
    fn what_is_no_origin_is_refused() {
        for text in [
            "",
            "app.example.org",
            "https://",
            "wss://",
            "file:///",
            "file://:80",
            "file://*.",
            "https://a/",
            "https://a/path",
            "https://u@a",
            "https://a:port",
            "https://a:70000",
            "https://*",
            "https://a.*.org",
            "*.",
            "*.*.org",
            "://a",
            "https://a b",
            "https://[::1",
            "https://a:",
        ] {
            assert!(text.parse::<AllowedOrigin>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn what_is_printed_is_read_again() {
        for text in [
            "*",
            "null",
            "https://a.example",
            "https://*.a.example:8443",
            "*.a.example",
            "file://",
            "tauri://localhost",
        ] {
            assert_eq!(text.parse::<AllowedOrigin>().expect(text).to_string(), text);
        }
    }
}
