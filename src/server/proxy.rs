//! Who a client is behind proxies, and how it reached them: what a trusted one says of it, else the peer.
//!
//! A proxy that passes requests on says it in their headers, one that passes bytes on in a [`header`]
//! before them. `X-Forwarded-*` counts before `Forwarded`: most proxies write the one and pass the other
//! on as their client sent it.

pub mod forwarded;
pub mod header;

use std::net::IpAddr;

use hyper::header::HeaderMap;
use hyper::http::uri::Authority;

use crate::config::Network;
use forwarded::Element;

const FORWARDED: &str = "forwarded";
const FORWARDED_FOR: &str = "x-forwarded-for";
const FORWARDED_HOST: &str = "x-forwarded-host";
const FORWARDED_PORT: &str = "x-forwarded-port";
const FORWARDED_PREFIX: &str = "x-forwarded-prefix";
const FORWARDED_PROTO: &str = "x-forwarded-proto";
/// Of all prefixes together.
const PREFIX_BYTES_MAX: usize = 256;

/// Whether what `address` says of others is believed.
pub fn is_trusted(address: IpAddr, trusted: &[Network]) -> bool {
    trusted.iter().any(|network| network.contains(address))
}

/// Whether a request of a peer that is not trusted says what only a trusted one may say. A scheme is
/// believed of everyone where nobody is trusted.
pub fn is_passed_over(headers: &HeaderMap, trusted: &[Network]) -> bool {
    let names = [FORWARDED, FORWARDED_FOR, FORWARDED_HOST, FORWARDED_PORT, FORWARDED_PREFIX];
    names.iter().any(|name| headers.contains_key(*name))
        || (!trusted.is_empty() && headers.contains_key(FORWARDED_PROTO))
}

/// The right-most address that is no trusted proxy's, for each proxy writes the one it was asked from
/// behind what it was told. What cannot be read ends the search at the last that could.
pub fn client(peer: IpAddr, headers: &HeaderMap, trusted: &[Network]) -> IpAddr {
    let mut client = peer.to_canonical();
    let told: Vec<String> = match headers.contains_key(FORWARDED_FOR) {
        true => list(headers, FORWARDED_FOR).map(str::to_owned).collect(),
        false => elements(headers).map(|element| element.for_whom.unwrap_or_default()).collect(),
    };
    for text in told.iter().rev() {
        if !is_trusted(client, trusted) {
            break;
        }
        let Some(address) = parse(text) else { break };
        client = address;
    }
    client
}

/// Whether the client speaks TLS with the outermost proxy; None: nobody says.
pub fn is_tls(headers: &HeaderMap) -> Option<bool> {
    let scheme = list(headers, FORWARDED_PROTO).next().map(str::to_owned);
    let scheme = scheme.or_else(|| elements(headers).find_map(|element| element.proto))?;
    Some(["https", "wss"].iter().any(|tls| scheme.eq_ignore_ascii_case(tls)))
}

/// The host that the client asked the outermost proxy for, with its port if it named one.
pub fn host(headers: &HeaderMap) -> Option<Authority> {
    let host = list(headers, FORWARDED_HOST).next().map(str::to_owned);
    let host = host.or_else(|| elements(headers).find_map(|element| element.host))?;
    host.parse().ok()
}

/// The port at which the client asked the outermost proxy.
pub fn port(headers: &HeaderMap) -> Option<u16> {
    list(headers, FORWARDED_PORT).next()?.parse().ok().filter(|port| *port > 0)
}

/// What proxies took away from the front of the path, the outermost first; it is empty or begins with a
/// slash and ends without one.
pub fn prefix(headers: &HeaderMap) -> String {
    let is_of_path =
        |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~%!$&'()*+;=:@".contains(&byte);
    let parts = list(headers, FORWARDED_PREFIX).map(|part| part.trim_matches('/'));
    let prefix: String =
        parts.filter(|part| !part.is_empty()).flat_map(|part| ["/", part]).collect();
    match prefix.len() <= PREFIX_BYTES_MAX && prefix.bytes().all(is_of_path) {
        true => prefix,
        false => String::new(),
    }
}

/// The parts of a list. Header lines are one list in their order (RFC 9110 section 5.3).
fn list<'a>(headers: &'a HeaderMap, name: &str) -> impl Iterator<Item = &'a str> + use<'a> {
    let lines = headers.get_all(name).into_iter().map(|line| line.to_str().unwrap_or("?"));
    lines.flat_map(|line| line.split(',')).map(str::trim)
}

fn elements(headers: &HeaderMap) -> impl Iterator<Item = Element> {
    let lines = headers.get_all(FORWARDED).into_iter().map(|line| line.to_str().unwrap_or("?"));
    lines.flat_map(forwarded::elements)
}

/// An address; some proxies write its port, too, and IPv6 in brackets then.
fn parse(text: &str) -> Option<IpAddr> {
    let with_port = || text.parse::<std::net::SocketAddr>().ok().map(|address| address.ip());
    let bracketed = || text.strip_prefix('[')?.strip_suffix(']')?.parse().ok();
    let address = text.parse().ok().or_else(with_port).or_else(bracketed);
    address.map(|address: IpAddr| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: &str, lines: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for line in lines {
            let name = name.parse::<hyper::header::HeaderName>().expect("a name");
            headers.append(name, line.parse().expect("a header"));
        }
        headers
    }

    fn check(peer: &str, headers: &HeaderMap, expected: &str) {
        let trusted: Vec<Network> =
            ["10.0.0.0/8", "fd00::/8"].map(|text| text.parse().expect("a network")).into();
        let found = client(peer.parse().expect("an address"), headers, &trusted);
        let expected = expected.parse::<IpAddr>().expect("an address");
        assert_eq!(found, expected, "{peer} {headers:?}");
    }

    #[test]
    fn the_client_is_the_right_most_that_is_not_trusted() {
        for (peer, lines, expected) in [
            ("203.0.113.5", &["198.51.100.1"][..], "203.0.113.5"),
            ("10.0.0.1", &[], "10.0.0.1"),
            ("10.0.0.1", &["198.51.100.1"], "198.51.100.1"),
            ("::ffff:10.0.0.1", &["198.51.100.1"], "198.51.100.1"),
            ("10.0.0.1", &["6.6.6.6, 198.51.100.1"], "198.51.100.1"),
            ("10.0.0.1", &["6.6.6.6", "198.51.100.1, 10.0.0.2"], "198.51.100.1"),
            ("10.0.0.1", &["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
            ("10.0.0.1", &["198.51.100.1, unknown, 10.0.0.2"], "10.0.0.2"),
            ("10.0.0.1", &["[2001:db8::1]:4711"], "2001:db8::1"),
            ("fd00::1", &["[2001:db8::1]"], "2001:db8::1"),
            ("10.0.0.1", &["198.51.100.1:4711"], "198.51.100.1"),
        ] {
            check(peer, &headers(FORWARDED_FOR, lines), expected);
        }
        for (peer, lines, expected) in [
            ("203.0.113.5", &["for=198.51.100.1"][..], "203.0.113.5"),
            ("10.0.0.1", &["for=198.51.100.1;proto=https"], "198.51.100.1"),
            ("10.0.0.1", &["for=6.6.6.6", "for=198.51.100.1, For=10.0.0.2"], "198.51.100.1"),
            ("10.0.0.1", &["for=\"[2001:db8::1]:4711\""], "2001:db8::1"),
            ("10.0.0.1", &["for=198.51.100.1, for=unknown, for=10.0.0.2"], "10.0.0.2"),
            ("10.0.0.1", &["for=198.51.100.1, proto=https"], "10.0.0.1"),
            ("10.0.0.1", &["for=\"198.51.100.1"], "10.0.0.1"),
        ] {
            check(peer, &headers(FORWARDED, lines), expected);
        }
        let mut both = headers(FORWARDED_FOR, &["198.51.100.1"]);
        both.extend(headers(FORWARDED, &["for=6.6.6.6"]));
        check("10.0.0.1", &both, "198.51.100.1");
    }

    #[test]
    fn how_the_client_reached_the_outermost_proxy_is_read() {
        for (text, expected) in [
            ("https", Some(true)),
            ("WSS", Some(true)),
            ("wss, http", Some(true)),
            ("http, https", Some(false)),
            ("ws", Some(false)),
        ] {
            assert_eq!(is_tls(&headers(FORWARDED_PROTO, &[text])), expected, "{text}");
            let element = text.replace(", ", ",proto=");
            let forwarded = headers(FORWARDED, &[&format!("proto={element}")]);
            assert_eq!(is_tls(&forwarded), expected, "{forwarded:?}");
        }
        assert_eq!(is_tls(&HeaderMap::new()), None);
        for (name, text, expected) in [
            (FORWARDED_HOST, "a.example:8443, b.example", Some("a.example:8443")),
            (FORWARDED_HOST, "[2001:db8::1]:80", Some("[2001:db8::1]:80")),
            (FORWARDED_HOST, "a.example/evil", None),
            (FORWARDED, "for=x;host=\"a.example:8443\", host=b.example", Some("a.example:8443")),
            (FORWARDED, "for=x, host=b.example", Some("b.example")),
        ] {
            let host = host(&headers(name, &[text])).map(|host| host.to_string());
            assert_eq!(host.as_deref(), expected, "{text}");
        }
        for (text, expected) in
            [("8443", Some(8443)), ("443, 80", Some(443)), ("0", None), ("x", None)]
        {
            assert_eq!(port(&headers(FORWARDED_PORT, &[text])), expected, "{text}");
        }
    }

    #[test]
    fn what_only_a_trusted_proxy_may_say_is_noticed() {
        let network = ["10.0.0.0/8".parse().expect("a network")];
        for name in [FORWARDED, FORWARDED_FOR, FORWARDED_HOST, FORWARDED_PORT, FORWARDED_PREFIX] {
            let told = headers(name, &["x"]);
            assert!(is_passed_over(&told, &[]) && is_passed_over(&told, &network), "{name}");
        }
        let scheme = headers(FORWARDED_PROTO, &["https"]);
        assert!(!is_passed_over(&scheme, &[]) && is_passed_over(&scheme, &network));
        assert!(!is_passed_over(&HeaderMap::new(), &network));
    }

    #[test]
    fn prefixes_are_joined_and_what_is_no_path_is_none() {
        let long = format!("/{}", "x".repeat(PREFIX_BYTES_MAX));
        for (lines, expected) in [
            (&["/chain"][..], "/chain"),
            (&["chain/"], "/chain"),
            (&["/outer/, /inner"], "/outer/inner"),
            (&["/outer", "/inner"], "/outer/inner"),
            (&["/"], ""),
            (&["//evil.example"], "/evil.example"),
            (&["/a\"b"], ""),
            (&["/a?b"], ""),
            (&[&long], ""),
            (&[], ""),
        ] {
            assert_eq!(prefix(&headers(FORWARDED_PREFIX, lines)), expected, "{lines:?}");
        }
    }
}
