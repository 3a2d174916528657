//! From a request to its answer: paths, methods, and the form that every answer has.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{self, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use serde_json::{Value, json};

use super::listener::Place;
use super::outbound::Stream;
use super::{Door, api, handshake, status};

pub type Answer = Response<Full<Bytes>>;

/// Where a request came from and arrived.
pub struct Visit {
    pub peer: SocketAddr,
    pub local: Option<SocketAddr>,
    pub is_admin: bool,
    /// Kept by whatever outlives the request on its connection.
    pub place: Arc<Place>,
}

/// What there is under which path.
enum Resource {
    Root,
    ApiRoot,
    Status,
    Stream(Stream),
    Metrics,
    Live,
    Ready,
}

/// Answers a request. Never waits: what takes time is a session in a task of its own.
pub fn answer(mut request: Request<Incoming>, door: &Arc<Door>, visit: Visit) -> Answer {
    let Some(resource) = find(request.uri().path(), door, &visit) else {
        return refusal(StatusCode::NOT_FOUND, "there is nothing at this path");
    };
    if request.method() == Method::OPTIONS {
        return preflight();
    }
    if request.method() != Method::GET && request.method() != Method::HEAD {
        let mut answer = refusal(StatusCode::METHOD_NOT_ALLOWED, "only GET is understood here");
        answer.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD, OPTIONS"));
        return answer;
    }
    match resource {
        Resource::Root => json_answer(StatusCode::OK, &api::root(&request, door, &visit)),
        Resource::ApiRoot => json_answer(StatusCode::OK, &api::api_root(&request, door, &visit)),
        Resource::Status => json_answer(StatusCode::OK, &status::status(door)),
        Resource::Live => json_answer(StatusCode::OK, &json!({ "status": "live" })),
        Resource::Ready => status::ready(door),
        Resource::Metrics => text_answer(status::metrics(door)),
        Resource::Stream(stream) => handshake::answer(&mut request, stream, door, visit),
    }
}

/// An answer that says no: a status and a message, as JSON.
pub fn refusal(status: StatusCode, message: &str) -> Answer {
    json_answer(status, &json!({ "status": status.as_u16(), "message": message }))
}

pub fn json_answer(status: StatusCode, body: &Value) -> Answer {
    let mut answer = with_type(format!("{body}\n"), "application/json");
    *answer.status_mut() = status;
    answer
}

fn text_answer(text: String) -> Answer {
    with_type(text, "text/plain; version=0.0.4; charset=utf-8")
}

fn with_type(body: String, content_type: &'static str) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from(body)));
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    answer
}

fn preflight() -> Answer {
    let mut answer = with_type(String::new(), "text/plain");
    *answer.status_mut() = StatusCode::NO_CONTENT;
    let headers = answer.headers_mut();
    headers.insert(header::ALLOW, HeaderValue::from_static("GET, HEAD, OPTIONS"));
    headers.insert(
        header::ACCESS_CONTROL_ALLOW_METHODS,
        HeaderValue::from_static("GET, HEAD, OPTIONS"),
    );
    headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static("*"));
    answer
}

fn find(path: &str, door: &Door, visit: &Visit) -> Option<Resource> {
    let is_public = !visit.is_admin;
    match path {
        "/health/live" => Some(Resource::Live),
        "/health/ready" => Some(Resource::Ready),
        "/metrics" if visit.is_admin || !door.has_admin => Some(Resource::Metrics),
        "/" if is_public => Some(Resource::Root),
        "/api/v1" | "/api/v1/" if is_public => Some(Resource::ApiRoot),
        "/api/v1/status" if is_public => Some(Resource::Status),
        api::TRANSACTIONS_PATH if is_public => Some(Resource::Stream(Stream::Transactions)),
        api::BLOCKS_PATH if is_public => Some(Resource::Stream(Stream::Blocks)),
        _ => None,
    }
}
