//! Where a node's event stream may be, by what its API root says. Pure.
//!
//! BigchainDB says `ws://localhost:9985/...` unless it is told otherwise, and a node in a container
//! names a host that is known only there. The port is right in both, and the node's own host answers.

use std::fmt;
use std::net::IpAddr;

use hyper::Uri;

use super::NodeUrl;
use crate::secret;

/// A `ws://` or `wss://` address. It holds no user and no password; its query, which may be a token, is
/// not printed.
#[derive(Clone, PartialEq)]
pub struct StreamAddress {
    url: String,
    /// Whether the node's own credentials may go there: to the node's host, and not in clear text
    /// when they are otherwise encrypted.
    pub is_trusted: bool,
}

impl StreamAddress {
    /// The addresses to try, in this order; none when `said` is no address of a WebSocket.
    pub fn of(said: &str, node: &NodeUrl) -> Vec<Self> {
        let Ok(uri) = said.parse::<Uri>() else { return Vec::new() };
        let (Some(scheme @ ("ws" | "wss")), Some(host)) = (uri.scheme_str(), uri.host()) else {
            return Vec::new();
        };
        let port = uri.port_u16().unwrap_or(if scheme == "wss" { 443 } else { 80 });
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        let own = node.host();
        let at = |host: &str| Self {
            url: format!("{scheme}://{host}:{port}{path}"),
            is_trusted: host.eq_ignore_ascii_case(&own) && (scheme == "wss" || !node.is_tls()),
        };
        match ip(host) {
            _ if host.eq_ignore_ascii_case(&own) => vec![at(host)],
            Some(address) if address.is_unspecified() => vec![at(&own)],
            _ if is_loopback(host) && !is_loopback(&own) => vec![at(&own)],
            _ => vec![at(host), at(&own)],
        }
    }

    /// With its query. Never for a log or an error.
    pub fn url(&self) -> &str {
        &self.url
    }
}

impl fmt::Display for StreamAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&secret::masked(&self.url))
    }
}

fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost") || ip(host).is_some_and(|address| address.is_loopback())
}

fn ip(host: &str) -> Option<IpAddr> {
    host.trim_start_matches('[').trim_end_matches(']').parse().ok()
}

#[cfg(test)]
mod tests {
    use super::super::NodeText;
    use super::*;

    fn addresses(said: &str, node: &str) -> Vec<String> {
        let node = NodeText::from(node.to_owned()).parse().expect("a node");
        let shown = |address: &StreamAddress| {
            format!("{address}{}", if address.is_trusted { " trusted" } else { "" })
        };
        StreamAddress::of(said, &node).iter().map(shown).collect()
    }

    #[test]
    fn a_host_that_cannot_be_meant_gives_way_to_the_nodes_own() {
        let node = NodeText::from("http://node".to_owned()).parse().expect("a node");
        let asked = StreamAddress::of("ws://node:1/s?x=1", &node);
        assert_eq!(asked[0].url(), "ws://node:1/s?x=1");
        for (said, node, expected) in [
            ("ws://localhost:9985/s", "http://node:9984", &["ws://node:9985/s trusted"][..]),
            ("ws://127.0.0.1:9985/s", "http://node", &["ws://node:9985/s trusted"]),
            ("ws://0.0.0.0:9985/s", "http://[fd00::7]", &["ws://[fd00::7]:9985/s trusted"]),
            ("ws://[::]:9985/s", "http://localhost", &["ws://localhost:9985/s trusted"]),
            (
                "ws://localhost:9985/s",
                "http://127.0.0.1:9984",
                &["ws://localhost:9985/s", "ws://127.0.0.1:9985/s trusted"],
            ),
            (
                "ws://container:9985/s?x=1",
                "http://node",
                &["ws://container:9985/s?***", "ws://node:9985/s?*** trusted"],
            ),
            ("wss://NODE/s", "https://node/chain", &["wss://NODE:443/s trusted"]),
            ("ws://node/s", "https://node", &["ws://node:80/s"]),
            ("ws://me:s3cret@node/s", "http://node", &["ws://node:80/s trusted"]),
            ("http://node/s", "http://node", &[]),
            ("/streams", "http://node", &[]),
            ("", "http://node", &[]),
        ] {
            assert_eq!(addresses(said, node), expected, "{said} of {node}");
        }
    }
}
