//! Web pages of other places: which of them may have a stream.
//!
//! A program can say any origin, or none: this protects people with a browser, and nobody else. Other
//! answers than streams are public; a browser does not show them to a page that is not allowed
//! ([`super::cors`]).
//!
//! A page of this service's own origin is let in. Which origin that is must not be taken from `Host`
//! alone: a page of any name can have its name resolved to our address (DNS rebinding), and its browser
//! then sends that name in `Host` and in `Origin`. Nobody can do that with the advertised host, with an
//! IP address, or with `localhost`.

use std::net::{IpAddr, SocketAddr};

use hyper::Request;
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::http::uri::Authority;

use super::peer::Peer;
use crate::config::{self, AllowedOrigin, Origin};

/// W3C Fetch Metadata: how the page that asks stands to us. Browsers send it where a connection is
/// trustworthy (TLS, or this machine), and no page can set it.
const SEC_FETCH_SITE: &str = "sec-fetch-site";
/// How the `User-Agent` of every browser begins.
const BROWSER: &str = "Mozilla/";

/// Which pages are let in on a connection.
#[derive(Clone, Copy)]
pub struct Origins<'a> {
    limits: &'a config::ServerConfig,
    local: Option<SocketAddr>,
    is_tls: bool,
}

impl<'a> Origins<'a> {
    pub fn new(limits: &'a config::ServerConfig, peer: &Peer) -> Self {
        Self { limits, local: peer.local, is_tls: peer.is_tls }
    }

    /// Whether every page is let in.
    pub fn is_open(&self) -> bool {
        let allowed = &self.limits.allowed_origins;
        allowed.is_empty() || allowed.contains(&AllowedOrigin::Any)
    }

    /// Whether the page that sent `request`, if one did, may have a stream.
    pub fn allow<B>(&self, request: &Request<B>) -> bool {
        if self.is_open() {
            return true;
        }
        let headers = request.headers();
        match headers.contains_key(header::ORIGIN) {
            // All of them: what stands twice is as suspicious as what stands for nobody.
            true => headers.get_all(header::ORIGIN).iter().all(|origin| match origin.to_str() {
                Ok(origin) => self.allow_origin(origin, request),
                Err(_) => false,
            }),
            false => self.allow_unnamed(request),
        }
    }

    fn allow_origin<B>(&self, origin: &str, request: &Request<B>) -> bool {
        let is_listed = self.limits.allowed_origins.iter().any(|allowed| allowed.allows(origin));
        let origin = origin.to_ascii_lowercase();
        is_listed || Origin::parse(&origin).is_some_and(|origin| self.is_own(&origin, request))
    }

    /// A page's request that does not say its origin: a browser leaves it out of a GET to the page's own
    /// host, which `Host` names then, and of requests whose answers the page cannot read.
    fn allow_unnamed<B>(&self, request: &Request<B>) -> bool {
        let headers = request.headers();
        match headers.get(SEC_FETCH_SITE).map(HeaderValue::as_bytes) {
            // A browser's WebSocket always says its origin, and no page can set this header.
            _ if headers.contains_key(header::SEC_WEBSOCKET_KEY) => true,
            // A person asks, not a page.
            Some(b"none") => true,
            Some(b"same-origin") => self.allow_host(request),
            Some(_) => false,
            None => !is_browser(headers) || self.allow_host(request),
        }
    }

    /// Whether a page of the host that the request names would be let in.
    fn allow_host<B>(&self, request: &Request<B>) -> bool {
        let Some(host) = host(request) else { return false };
        let mut schemes = ["https", "http"].into_iter().filter(|scheme| self.takes(scheme));
        schemes.any(|scheme| self.allow_origin(&format!("{scheme}://{host}"), request))
    }

    /// A proxy may have ended TLS before us, but nobody has begun it.
    fn takes(&self, scheme: &str) -> bool {
        scheme == "https" || (scheme == "http" && !self.is_tls)
    }

    fn is_own<B>(&self, origin: &Origin<'_>, request: &Request<B>) -> bool {
        let advertised = self.limits.advertised_host.as_deref();
        let is_at = |host: &str, port: Option<u16>| {
            let scheme_port = if origin.scheme == "https" { 443 } else { 80 };
            is_same_host(host, origin.host) && Some(port.unwrap_or(scheme_port)) == origin.port
        };
        let is_advertised = advertised.is_some_and(|host| {
            let local = self.local.map(|local| local.port());
            is_at(host, self.limits.advertised_port.or(local))
        });
        let is_named = || {
            host(request).is_some_and(|host| {
                let name = host.host();
                let is_ours = address(name).is_some()
                    || name.eq_ignore_ascii_case("localhost")
                    || advertised.is_some_and(|advertised| is_same_host(advertised, name));
                is_ours && is_at(name, host.port_u16())
            })
        };
        self.takes(origin.scheme) && (is_advertised || is_named())
    }
}

/// RFC 9112 section 3.2.2: a target that names a host wins.
fn host<B>(request: &Request<B>) -> Option<Authority> {
    let of_header = || Authority::try_from(request.headers().get(header::HOST)?.as_bytes()).ok();
    request.uri().authority().cloned().or_else(of_header)
}

fn is_browser(headers: &HeaderMap) -> bool {
    let agent = headers.get(header::USER_AGENT);
    agent.is_some_and(|agent| agent.as_bytes().starts_with(BROWSER.as_bytes()))
}

fn is_same_host(one: &str, other: &str) -> bool {
    match (address(one), address(other)) {
        (Some(one), Some(other)) => one == other,
        _ => one.eq_ignore_ascii_case(other),
    }
}

/// An IP address as a URL has it, IPv6 in brackets, or as a configuration may have it.
fn address(host: &str) -> Option<IpAddr> {
    let inside = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    inside.unwrap_or(host).parse().ok()
}

#[cfg(test)]
mod tests;
