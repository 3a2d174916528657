//! The API root: where the streams are, as clients of BigchainDB look it up.

use hyper::body::Incoming;
use hyper::{Request, header};
use serde_json::{Value, json};

use super::Door;
use super::visit::Visit;

pub const TRANSACTIONS_PATH: &str = "/api/v1/streams/valid_transactions";
pub const BLOCKS_PATH: &str = "/api/v1/streams/valid_blocks";

pub fn root(request: &Request<Incoming>, door: &Door, visit: &Visit) -> Value {
    json!({
        "api": { "v1": api_root(request, door, visit) },
        "software": "Blockcast",
        "version": env!("CARGO_PKG_VERSION"),
    })
}

pub fn api_root(request: &Request<Incoming>, door: &Door, visit: &Visit) -> Value {
    let base = advertised(request, door, visit);
    json!({
        "status": "/api/v1/status",
        "streamedblocks": format!("{base}{BLOCKS_PATH}"),
        "streams": format!("{base}{TRANSACTIONS_PATH}"),
    })
}

/// The advertised address; what it does not say, the request's own.
fn advertised(request: &Request<Incoming>, door: &Door, visit: &Visit) -> String {
    let limits = &door.around.limits;
    let header = |name| request.headers().get(name).and_then(|value| value.to_str().ok());
    // Without a list every proxy's word is taken: the worst is an address that its asker cannot use.
    let is_believed = visit.is_proxied || limits.trusted_proxies.is_empty();
    let is_tls = header("x-forwarded-proto")
        .filter(|_| is_believed)
        .and_then(|chain| chain.split(',').next())
        .map_or(visit.is_tls, |scheme| scheme.trim().eq_ignore_ascii_case("https"));
    let own_scheme = if is_tls { "wss" } else { "ws" };
    let scheme = limits.advertised_scheme.as_deref().unwrap_or(own_scheme);
    // RFC 9112 section 3.2.2: a target that names a host wins.
    let host = request.uri().authority().cloned().or_else(|| {
        header(header::HOST.as_str())
            .and_then(|host| host.parse::<hyper::http::uri::Authority>().ok())
    });
    let own_host = match (&host, visit.local) {
        (Some(authority), _) => authority.host().to_owned(),
        (None, Some(local)) => local.ip().to_canonical().to_string(),
        (None, None) => "localhost".to_owned(),
    };
    // A proxy's port is its scheme's own when the request named none.
    let own_port = match &host {
        Some(authority) => authority.port_u16(),
        None => visit.local.map(|local| local.port()),
    };
    let port = match (&limits.advertised_host, limits.advertised_port) {
        (_, Some(port)) => Some(port),
        (Some(_), None) => visit.local.map(|local| local.port()),
        (None, None) => own_port,
    };
    let host = limits.advertised_host.clone().unwrap_or(own_host);
    let host =
        if host.contains(':') && !host.starts_with('[') { format!("[{host}]") } else { host };
    match port {
        Some(port) => format!("{scheme}://{host}:{port}"),
        None => format!("{scheme}://{host}"),
    }
}
