//! Who a client is behind proxies: what a trusted one says in `X-Forwarded-For`, else the peer.

use std::net::IpAddr;

use hyper::header::HeaderMap;

use crate::config::Network;

const FORWARDED_FOR: &str = "x-forwarded-for";

/// Whether what `address` says of others is believed.
pub fn is_trusted(address: IpAddr, trusted: &[Network]) -> bool {
    trusted.iter().any(|network| network.contains(address))
}

/// Whether the request says for whom it comes.
pub fn says_for_whom(headers: &HeaderMap) -> bool {
    headers.contains_key(FORWARDED_FOR)
}

/// The right-most address that is no trusted proxy's, for each proxy writes the one it was asked from
/// behind what it was told. What cannot be read ends the search at the last that could.
pub fn client(peer: IpAddr, headers: &HeaderMap, trusted: &[Network]) -> IpAddr {
    let mut client = peer.to_canonical();
    // Header lines are one list in their order (RFC 9110 section 5.3).
    let lines = headers.get_all(FORWARDED_FOR).into_iter().map(|line| line.to_str().unwrap_or("?"));
    let told: Vec<&str> = lines.flat_map(|line| line.split(',')).map(str::trim).collect();
    for text in told.iter().rev() {
        if !is_trusted(client, trusted) {
            break;
        }
        let Some(address) = parse(text) else { break };
        client = address;
    }
    client
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

    #[test]
    fn the_client_is_the_right_most_that_is_not_trusted() {
        let trusted: Vec<Network> =
            ["10.0.0.0/8", "fd00::/8"].map(|text| text.parse().expect("a network")).into();
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
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(FORWARDED_FOR, line.parse().expect("a header"));
            }
            let found = client(peer.parse().expect("an address"), &headers, &trusted);
            assert_eq!(found, expected.parse::<IpAddr>().expect("an address"), "{peer} {lines:?}");
        }
    }
}
