//! From a request to its answer: paths and methods.

use std::net::SocketAddr;
use std::sync::Arc;

use hyper::body::{Body, Incoming};
use hyper::header::{self, HeaderValue};
use hyper::http::uri::Authority;
use hyper::{Method, Request, StatusCode, Version};
use serde_json::json;
use tracing::warn;

use super::answer::{Answer, json_answer, preflight, refusal, text_answer};
use super::cors::Readers;
use super::door::Door;
use super::handshake::HandshakeOutcome;
use super::origin::Origins;
use super::visit::Visit;
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
pub fn answer(request: &Request<Incoming>, door: &Arc<Door>, visit: Visit) -> HandshakeOutcome {
    if let Some(message) = ambiguity(request) {
        door.around.metrics.handshakes_refused.add(HandshakeRefusal::BadRequest);
        let mut answer = refusal(StatusCode::BAD_REQUEST, message);
        answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        Readers::of(request, Origins::new(&door.around.limits, &visit)).tell(&mut answer);
        return HandshakeOutcome::Answer(answer);
    }
    let is_stream_method = request.method() == Method::GET || request.method() == Method::HEAD;
    let visit = behind_proxies(request, door, visit);
    let readers = Readers::of(request, Origins::new(&door.around.limits, &visit));
    let path = plain(request.uri().path());
    let mut outcome = match find(&path, request, door, &visit) {
        Some(Resource::Stream(stream)) if is_stream_method && !is_too_long(request) => {
            handshake::answer(request, stream, door, visit)
        }
        found => HandshakeOutcome::Answer(plain_answer(request, found, door, &visit)),
    };
    if let HandshakeOutcome::Answer(answer) = &mut outcome {
        readers.tell(answer);
    }
    outcome
}

/// The visit as it is behind the proxies that are trusted.
fn behind_proxies(request: &Request<Incoming>, door: &Door, visit: Visit) -> Visit {
    let trusted = &door.around.limits.trusted_proxies;
    if proxy::is_trusted(visit.peer.ip(), trusted) {
        let client = proxy::client(visit.peer.ip(), request.headers(), trusted);
        let is_itself = client == visit.peer.ip().to_canonical();
        let peer = if is_itself { visit.peer } else { SocketAddr::new(client, 0) };
        return Visit { peer, is_proxied: true, ..visit };
    }
    if proxy::is_passed_over(request.headers(), trusted) {
        door.told_of_stranger.call_once(|| {
            warn!(
                peer = %visit.peer.ip(),
                "X-Forwarded-* and Forwarded are passed over: the peer is not among server.trusted_proxies"
            );
        });
    }
    visit
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
    door: &Door,
    visit: &Visit,
) -> Answer {
    if is_too_long(request) {
        door.around.metrics.handshakes_refused.add(HandshakeRefusal::TooLong);
        return refusal(StatusCode::URI_TOO_LONG, "this URL is too long: 8 KiB are read");
    }
    let Some(resource) = found else {
        return nothing_here(request.uri().path(), door, visit);
    };
    if request.method() == Method::OPTIONS {
        return preflight();
    }
    if request.method() != Method::GET && request.method() != Method::HEAD {
        if matches!(resource, Resource::Stream(_)) {
            door.around.metrics.handshakes_refused.add(HandshakeRefusal::MethodNotAllowed);
        }
        let mut answer = refusal(StatusCode::METHOD_NOT_ALLOWED, "only GET is understood here");
        answer.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD, OPTIONS"));
        return answer;
    }
    match resource {
        Resource::Root => json_answer(StatusCode::OK, &api::root(request, door, visit)),
        Resource::ApiRoot => json_answer(StatusCode::OK, &api::api_root(request, door, visit)),
        Resource::Status => json_answer(StatusCode::OK, &status::status(door)),
        Resource::Live => json_answer(StatusCode::OK, &json!({ "status": "live" })),
        Resource::Ready => status::ready(door),
        Resource::Sessions => {
            let tip = door.around.history.summary().tip;
            json_answer(StatusCode::OK, &door.sessions.to_json(tip))
        }
        Resource::Metrics => text_answer(status::metrics(door)),
        Resource::Stream(_) => unreachable!("bug: a GET of a stream is a handshake's"),
    }
}

fn is_too_long(request: &Request<Incoming>) -> bool {
    request.uri().path_and_query().is_some_and(|path| path.as_str().len() > URL_BYTES_MAX)
}

/// Says what may be meant, if anything is near.
fn nothing_here(asked: &str, door: &Door, visit: &Visit) -> Answer {
    let known: Vec<&str> = RESOURCES
        .iter()
        .filter(|(_, resource)| is_here(*resource, door, visit))
        .map(|(path, _)| *path)
        .collect();
    let hint = path::meant(&plain(asked), &known);
    let hint = hint.map_or(String::new(), |meant| format!("; is `{meant}` meant?"));
    refusal(StatusCode::NOT_FOUND, &format!("there is nothing at this path{hint}"))
}

/// What is at `plain`, which is the request's path as it is looked up.
fn find(plain: &str, request: &Request<Incoming>, door: &Door, visit: &Visit) -> Option<Resource> {
    let found = RESOURCES.iter().find(|(path, _)| *path == plain);
    let (path, resource) = found.filter(|(_, resource)| is_here(*resource, door, visit))?;
    // Where clients are, a proxy in front may keep this path from them, and only as it is written.
    let is_kept_away = *resource == Resource::Metrics && !visit.is_admin;
    (!is_kept_away || request.uri().path() == *path).then_some(*resource)
}

/// Whether it is on the listener that was asked.
fn is_here(resource: Resource, door: &Door, visit: &Visit) -> bool {
    match resource {
        Resource::Live | Resource::Ready => true,
        Resource::Metrics => visit.is_admin || !door.has_admin,
        Resource::Sessions => visit.is_admin,
        Resource::Root | Resource::ApiRoot | Resource::Status | Resource::Stream(_) => {
            !visit.is_admin
        }
    }
}
