//! From a request to its answer: paths and methods.

use std::net::SocketAddr;
use std::sync::Arc;

use hyper::body::{Body, Incoming};
use hyper::header::{self, HeaderValue};
use hyper::http::uri::Authority;
use hyper::{Method, Request, StatusCode, Version};
use serde_json::json;
use tracing::warn;

use super::answer::{Answer, json_answer, preflight, refusal, sessions_answer, text_answer};
use super::context::ServerContext;
use super::cors::Readers;
use super::handshake::HandshakeOutcome;
use super::origin::Origins;
use super::peer::Peer;
use super::sessions_body::SessionsBody;
use super::{api, handshake, path, proxy, status};
use crate::metrics::HandshakeRefusal;
use crate::protocol::{ROOT_PATH, STATUS_PATH, Stream, plain};

/// RFC 9110 section 4.1 wants 8,000; the least head has room for it.
const URL_BYTES_MAX: usize = 8 * 1_024;

/// What there is, by its path.
const RESOURCES: [(&str, Resource); 9] = [
    (Stream::Transactions.path(), Resource::Stream(Stream::Transactions)),
    (Stream::Blocks.path(), Resource::Stream(Stream::Blocks)),
    (STATUS_PATH, Resource::Status),
    (ROOT_PATH, Resource::ApiRoot),
    ("/", Resource::Root),
    ("/health/ready", Resource::Ready),
    ("/health/live", Resource::Live),
    ("/metrics", Resource::Metrics),
    ("/sessions", Resource::Sessions),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Resource {
    Root,
    ApiRoot,
    Status,
    Stream(Stream),
    Metrics,
    Live,
    Ready,
    Sessions,
}

/// Answers a request. Never waits: what takes time is a session in a task of its own.
pub fn answer(
    request: &Request<Incoming>,
    context: &Arc<ServerContext>,
    peer: Peer,
) -> HandshakeOutcome {
    if let Some(message) = ambiguity(request) {
        context.session.metrics.handshakes_refused.add(HandshakeRefusal::BadRequest);
        let mut answer = refusal(StatusCode::BAD_REQUEST, message);
        answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        Readers::of(request, Origins::new(&context.session.limits, &peer)).tell(&mut answer);
        return HandshakeOutcome::Answer(answer);
    }
    let is_stream_method = request.method() == Method::GET || request.method() == Method::HEAD;
    let peer = behind_proxies(request, context, peer);
    let readers = Readers::of(request, Origins::new(&context.session.limits, &peer));
    let path = plain(request.uri().path());
    let mut outcome = match find(&path, request, context, &peer) {
        Some(Resource::Stream(stream)) if is_stream_method && !is_too_long(request) => {
            handshake::answer(request, stream, context, peer)
        }
        found => HandshakeOutcome::Answer(plain_answer(request, found, context, &peer)),
    };
    if let HandshakeOutcome::Answer(answer) = &mut outcome {
        readers.tell(answer);
    }
    outcome
}

/// The peer as it is behind the proxies that are trusted.
fn behind_proxies(request: &Request<Incoming>, context: &ServerContext, peer: Peer) -> Peer {
    let trusted = &context.session.limits.trusted_proxies;
    if proxy::is_trusted(peer.address.ip(), trusted) {
        let client = proxy::client(peer.address.ip(), request.headers(), trusted);
        let is_itself = client == peer.address.ip().to_canonical();
        let address = if is_itself { peer.address } else { SocketAddr::new(client, 0) };
        return Peer { address, is_proxied: true, ..peer };
    }
    if proxy::is_passed_over(request.headers(), trusted) {
        context.told_of_stranger.call_once(|| {
            warn!(
                peer = %peer.address.ip(),
                "X-Forwarded-* and Forwarded are passed over: the peer is not among server.trusted_proxies"
            );
        });
    }
    peer
}

/// What a proxy before us could read in another way than we do: the connection ends behind it.
fn ambiguity(request: &Request<Incoming>) -> Option<&'static str> {
    let headers = request.headers();
    let mut hosts = headers.get_all(header::HOST).into_iter();
    // RFC 9112 section 3.2.
    match (hosts.next(), hosts.next()) {
        (_, Some(_)) => return Some("more than one Host"),
        (None, _) if request.version() == Version::HTTP_11 => return Some("Host is missing"),
        (Some(host), _) if !host.is_empty() && Authority::try_from(host.as_bytes()).is_err() => {
            return Some("Host is not an address");
        }
        _ => {}
    }
    // No request here has a body: a GET's is most often a second request in disguise (RFC 9110 section
    // 9.3.1), and a length beside `Transfer-Encoding` is not shown to us (RFC 9112 section 6.3).
    let is_get = request.method() == Method::GET || request.method() == Method::HEAD;
    let has_body = is_get && !request.body().is_end_stream();
    let is_coded = headers.contains_key(header::TRANSFER_ENCODING);
    (has_body || is_coded).then_some("a body is not understood here")
}

fn plain_answer(
    request: &Request<Incoming>,
    found: Option<Resource>,
    context: &ServerContext,
    peer: &Peer,
) -> Answer {
    if is_too_long(request) {
        context.session.metrics.handshakes_refused.add(HandshakeRefusal::TooLong);
        return refusal(StatusCode::URI_TOO_LONG, "this URL is too long: 8 KiB are read");
    }
    let Some(resource) = found else {
        return nothing_here(request.uri().path(), context, peer);
    };
    if request.method() == Method::OPTIONS {
        return preflight();
    }
    if request.method() != Method::GET && request.method() != Method::HEAD {
        if matches!(resource, Resource::Stream(_)) {
            context.session.metrics.handshakes_refused.add(HandshakeRefusal::MethodNotAllowed);
        }
        let mut answer = refusal(StatusCode::METHOD_NOT_ALLOWED, "only GET is understood here");
        answer.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD, OPTIONS"));
        return answer;
    }
    match resource {
        Resource::Root => json_answer(StatusCode::OK, &api::root(request, context, peer)),
        Resource::ApiRoot => json_answer(StatusCode::OK, &api::api_root(request, context, peer)),
        Resource::Status => json_answer(StatusCode::OK, &status::status(context)),
        Resource::Live => json_answer(StatusCode::OK, &json!({ "status": "live" })),
        Resource::Ready => status::ready(context),
        Resource::Sessions => {
            let tip = context.session.history.summary().tip;
            sessions_answer(SessionsBody::new(Arc::clone(&context.sessions), tip))
        }
        Resource::Metrics => text_answer(status::metrics(context)),
        Resource::Stream(_) => unreachable!("bug: a GET of a stream is a handshake's"),
    }
}

fn is_too_long(request: &Request<Incoming>) -> bool {
    request.uri().path_and_query().is_some_and(|path| path.as_str().len() > URL_BYTES_MAX)
}

/// Says what may be meant, if anything is near.
fn nothing_here(asked: &str, context: &ServerContext, peer: &Peer) -> Answer {
    let known: Vec<&str> = RESOURCES
        .iter()
        .filter(|(_, resource)| is_here(*resource, context, peer))
        .map(|(path, _)| *path)
        .collect();
    let hint = path::meant(&plain(asked), &known);
    let hint = hint.map_or(String::new(), |meant| format!("; is `{meant}` meant?"));
    refusal(StatusCode::NOT_FOUND, &format!("there is nothing at this path{hint}"))
}

/// What is at `plain`, which is the request's path as it is looked up.
fn find(
    plain: &str,
    request: &Request<Incoming>,
    context: &ServerContext,
    peer: &Peer,
) -> Option<Resource> {
    let found = RESOURCES.iter().find(|(path, _)| *path == plain);
    let (path, resource) = found.filter(|(_, resource)| is_here(*resource, context, peer))?;
    // Where clients are, a proxy in front may keep this path from them, and only as it is written.
    let is_kept_away = *resource == Resource::Metrics && !peer.is_admin;
    (!is_kept_away || request.uri().path() == *path).then_some(*resource)
}

/// Whether it is on the listener that was asked.
fn is_here(resource: Resource, context: &ServerContext, peer: &Peer) -> bool {
    match resource {
        Resource::Live | Resource::Ready => true,
        Resource::Metrics => peer.is_admin || !context.has_admin,
        Resource::Sessions => peer.is_admin,
        Resource::Root | Resource::ApiRoot | Resource::Status | Resource::Stream(_) => {
            !peer.is_admin
        }
    }
}
