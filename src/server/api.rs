//! The API root: where the streams are, as clients of BigchainDB look it up.

use hyper::body::Incoming;
use hyper::http::uri::Authority;
use hyper::{Request, header};
use serde_json::{Value, json};

use super::context::ServerContext;
use super::peer::Peer;
use super::proxy;
use crate::config;
use crate::protocol::{ApiRoot, STATUS_PATH, Stream};

const HTTP_PORT: u16 = 80;
const HTTPS_PORT: u16 = 443;

pub fn root(request: &Request<Incoming>, context: &ServerContext, peer: &Peer) -> Value {
    json!({
        "api": { "v1": api_root(request, context, peer) },
        "software": "Blockcast",
        "version": env!("CARGO_PKG_VERSION"),
    })
}

pub fn api_root(request: &Request<Incoming>, context: &ServerContext, peer: &Peer) -> Value {
    let Advertised { base, prefix } = advertised(request, &context.session.limits, peer);
    let address = |stream: Stream| format!("{base}{prefix}{}", stream.path());
    let root = ApiRoot {
        status: format!("{prefix}{STATUS_PATH}"),
        blocks: address(Stream::Blocks),
        transactions: address(Stream::Transactions),
    };
    root.to_json()
}

/// How a client reaches us.
#[derive(Debug, PartialEq, Eq)]
struct Advertised {
    /// `wss://chain.example:8443`.
    base: String,
    /// What a proxy takes away from the front of the path.
    prefix: String,
}

/// The advertised address; what it does not say, the request's own, as a trusted proxy tells it.
fn advertised<B>(request: &Request<B>, limits: &config::ServerConfig, peer: &Peer) -> Advertised {
    let headers = request.headers();
    // Without a list every proxy's word of its scheme is taken: the worst is an address that its asker
    // cannot use.
    let is_believed = peer.is_proxied || limits.trusted_proxies.is_empty();
    let is_tls = proxy::is_tls(headers).filter(|_| is_believed).unwrap_or(peer.is_tls);
    let own_scheme = if is_tls { "wss" } else { "ws" };
    let scheme = limits.advertised_scheme.as_deref().unwrap_or(own_scheme);
    let told = |told: fn(&header::HeaderMap) -> Option<Authority>| {
        peer.is_proxied.then(|| told(headers)).flatten()
    };
    let host = told(proxy::host).or_else(|| asked(request));
    let (host, host_port) = match (&host, peer.local) {
        // Clients elsewhere cannot use it, and this one has come to an address of ours.
        (Some(host), Some(local)) if is_unspecified(host.host()) => {
            (local.ip().to_string(), host.port_u16())
        }
        (Some(host), _) => (host.host().to_owned(), host.port_u16()),
        (None, Some(local)) => (local.ip().to_string(), Some(local.port())),
        (None, None) => ("localhost".to_owned(), None),
    };
    let proxy_port = peer.is_proxied.then(|| proxy::port(headers)).flatten();
    // Of two proxies the one behind says its own port, where nobody speaks TLS.
    let proxy_port = proxy_port.filter(|port| !(scheme == "wss" && *port == HTTP_PORT));
    let advertised_host = limits.advertised_host.as_deref().filter(|host| !is_unspecified(host));
    let port = match (advertised_host, limits.advertised_port) {
        (_, Some(port)) => Some(port),
        (Some(_), None) => proxy_port.or_else(|| peer.local.map(|local| local.port())),
        // A proxy's port is its scheme's own when the request named none.
        (None, None) => match proxy_port {
            Some(port) => Some(port).filter(|port| *port != own_port(scheme)),
            None => host_port,
        },
    };
    let host = advertised_host.unwrap_or(&host);
    let host = match host.contains(':') && !host.starts_with('[') {
        true => format!("[{host}]"),
        false => host.to_owned(),
    };
    let base = match port {
        Some(port) => format!("{scheme}://{host}:{port}"),
        None => format!("{scheme}://{host}"),
    };
    let prefix = if peer.is_proxied { proxy::prefix(headers) } else { String::new() };
    Advertised { base, prefix }
}

/// What the request asked for. A target that names a host wins (RFC 9112 section 3.2.2).
fn asked<B>(request: &Request<B>) -> Option<Authority> {
    let host = || request.headers().get(header::HOST)?.to_str().ok()?.parse().ok();
    request.uri().authority().cloned().or_else(host)
}

/// Whether it is an address to listen on, and none to connect to.
fn is_unspecified(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    bare.parse::<std::net::IpAddr>().is_ok_and(|address| address.to_canonical().is_unspecified())
}

/// What to say of an advertised host that no client can connect to, and that is passed over.
pub fn unreachable_host(limits: &config::ServerConfig) -> Option<String> {
    let host = limits.advertised_host.as_deref().filter(|host| is_unspecified(host))?;
    Some(format!(
        "server.advertised_host is {host}, where no client can connect: the API root says the host that \
         each request asks for; set a name that clients know, or nothing"
    ))
}

fn own_port(scheme: &str) -> u16 {
    if scheme == "wss" { HTTPS_PORT } else { HTTP_PORT }
}
