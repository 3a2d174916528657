//! The heads of answers that begin a stream, and the answer that ends one for good.

use hyper::StatusCode;
use hyper::header::{self, HeaderValue};

use crate::frame;
use crate::server::answer::Answer;
use crate::server::cors::Readers;
use crate::server::form::Form;
use crate::server::session::StreamHead;

/// When an event stream's client comes back after the connection is lost, in milliseconds.
const RETRY_MS: std::ops::RangeInclusive<u32> = 1_000..=3_000;

/// The head of the answer that makes a connection a WebSocket (RFC 6455 section 4.2.2).
pub fn switching_head(accept: &str, extension: Option<&str>, protocol: Option<&str>) -> Vec<u8> {
    let extension = extension
        .map(|extension| format!("Sec-WebSocket-Extensions: {extension}\r\n"))
        .unwrap_or_default();
    let protocol = protocol
        .map(|protocol| format!("Sec-WebSocket-Protocol: {protocol}\r\n"))
        .unwrap_or_default();
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Accept: {accept}\r\n{extension}{protocol}\r\n"
    )
    .into_bytes()
}

/// The head of an answer that ends with its connection, and when to come back after that.
pub fn event_stream_head(form: &Form, readers: &Readers) -> StreamHead {
    let readers = readers.lines();
    let encoding = if form.is_compressed { "Content-Encoding: gzip\r\n" } else { "" };
    let mut head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n{encoding}\
         Vary: Accept-Encoding\r\nCache-Control: no-store, no-transform\r\n\
         X-Accel-Buffering: no\r\nConnection: close\r\n"
    )
    .into_bytes();
    head.extend_from_slice(&readers);
    head.extend(b"\r\n");
    if form.is_compressed {
        head.extend(frame::GZIP_HEADER);
    }
    // Drawn for each, so that those who lose a replica do not return all at once.
    let retry_ms = fastrand::u32(RETRY_MS);
    head.extend(form.own_text(format!("retry: {retry_ms}\n\n").as_bytes()));
    StreamHead { bytes: head, readers }
}

/// What stops an `EventSource` for good (WHATWG HTML, "server-sent events").
pub fn no_content() -> Answer {
    let mut answer = Answer::default();
    *answer.status_mut() = StatusCode::NO_CONTENT;
    let headers = answer.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}
