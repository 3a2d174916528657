//! The form that every answer over plain HTTP has.

use bytes::Bytes;
use http_body_util::{Either, Full};
use hyper::header::{self, HeaderValue};
use hyper::{Response, StatusCode};
use serde_json::Value;

use super::sessions_body::SessionsBody;
use crate::protocol::RefusalBody;

/// Bytes, or a list that is written as it is read.
pub type AnswerBody = Either<Full<Bytes>, SessionsBody>;

pub type Answer = Response<AnswerBody>;

/// An answer that says no: a status and a message, as JSON.
pub fn refusal(status: StatusCode, message: &str) -> Answer {
    json_answer(status, &RefusalBody { status: status.as_u16(), message }.to_json())
}

/// A refusal as bytes, on a connection that is not HTTP's any more. Behind the status's reason further
/// headers may stand, each after an end of line. `readers` are the lines that say who may read it.
pub fn refusal_bytes(status: &str, message: &str, readers: &[u8]) -> Vec<u8> {
    let code = status[..3].parse().expect("bug: a status begins with its number");
    let body = format!("{}\n", RefusalBody { status: code, message }.to_text());
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
         Cache-Control: no-store\r\nConnection: close\r\n",
        body.len()
    );
    [head.as_bytes(), readers, b"\r\n", body.as_bytes()].concat()
}

/// JSON of one line, for now.
pub fn json_answer(status: StatusCode, body: &Value) -> Answer {
    let mut answer = with_type(format!("{body}\n"), "application/json");
    *answer.status_mut() = status;
    answer
}

/// Prometheus' text format.
pub fn text_answer(text: String) -> Answer {
    with_type(text, "text/plain; version=0.0.4; charset=utf-8")
}

/// One JSON object per session.
pub fn sessions_answer(body: SessionsBody) -> Answer {
    of_type(Either::Right(body), "application/json")
}

/// No body, and no type of one.
pub fn empty_answer() -> Answer {
    Response::new(Either::Left(Full::default()))
}

fn with_type(body: String, content_type: &'static str) -> Answer {
    of_type(Either::Left(Full::new(Bytes::from(body))), content_type)
}

fn of_type(body: AnswerBody, content_type: &'static str) -> Answer {
    let mut answer = Response::new(body);
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

/// For how long a browser keeps a preflight's answer: Chromium keeps none for longer.
const PREFLIGHT_SECONDS: HeaderValue = HeaderValue::from_static("7200");
/// What an event stream's client sends, then anything else. The asterisk does not stand for
/// `Authorization`, and for nothing at all in a request with credentials (WHATWG Fetch, "CORS protocol").
const PREFLIGHT_HEADERS: HeaderValue =
    HeaderValue::from_static("Authorization, Last-Event-ID, Cache-Control, *");

/// To a browser that asks whether it may ask.
pub fn preflight() -> Answer {
    let mut answer = with_type(String::new(), "text/plain");
    *answer.status_mut() = StatusCode::NO_CONTENT;
    let headers = answer.headers_mut();
    headers.insert(header::ALLOW, HeaderValue::from_static("GET, HEAD, OPTIONS"));
    headers.insert(
        header::ACCESS_CONTROL_ALLOW_METHODS,
        HeaderValue::from_static("GET, HEAD, OPTIONS"),
    );
    headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, PREFLIGHT_HEADERS);
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, PREFLIGHT_SECONDS);
    answer
}
