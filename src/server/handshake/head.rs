//! The heads of answers that begin a stream, and the answers in their place.

use hyper::StatusCode;
use hyper::header::{self, HeaderValue};

use crate::frame;
use crate::protocol::{Cause, Start};
use crate::server::answer::{Answer, empty_answer, refusal_bytes};
use crate::server::cors::Readers;
use crate::session::{Head, StreamHead, Subscription};

/// When an event stream's client comes back after the connection is lost, in milliseconds.
const RETRY_MS: std::ops::RangeInclusive<u32> = 1_000..=3_000;

/// A transport that this server and the client agree on.
pub enum Accepted {
    WebSocket {
        head: Vec<u8>,
        /// permessage-deflate is agreed on.
        is_deflated: bool,
    },
    EventStream {
        accepts_gzip: bool,
        readers: Readers,
    },
}

impl Accepted {
    /// The head of the answer.
    pub fn head(self, subscription: &Subscription) -> Head {
        match self {
            Self::WebSocket { head, .. } => Head::Now(head),
            Self::EventStream { readers, .. } => {
                Head::WhenBegun(Box::new(event_stream_head(subscription, &readers)))
            }
        }
    }
}

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
fn event_stream_head(subscription: &Subscription, readers: &Readers) -> StreamHead {
    let common_lines = readers.lines();
    let encoding = if subscription.is_compressed { "Content-Encoding: gzip\r\n" } else { "" };
    let mut head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n{encoding}\
         Vary: Accept-Encoding\r\nCache-Control: no-store, no-transform\r\n\
         X-Accel-Buffering: no\r\nConnection: close\r\n"
    )
    .into_bytes();
    head.extend_from_slice(&common_lines);
    head.extend(b"\r\n");
    if subscription.is_compressed {
        head.extend(frame::GZIP_HEADER);
    }
    // Drawn for each, so that those who lose a replica do not return all at once.
    let retry_ms = fastrand::u32(RETRY_MS);
    head.extend(subscription.own_text(format!("retry: {retry_ms}\n\n").as_bytes()));
    StreamHead { bytes: head, common_lines, refuse: refuse_start }
}

/// The answer, whole, to a request for Server-Sent Events that cannot begin: a status stops a browser from
/// asking again, which a close within the stream does not. `common_lines` say who may read it.
fn refuse_start(cause: &Cause, position: &Start, common_lines: &[u8]) -> Vec<u8> {
    let reason = cause.reason(position);
    let (status, message) = match cause {
        Cause::NotAvailable { .. } => {
            ("410 Gone", format!("that start is older than all there is; oldest: {reason}"))
        }
        Cause::Ahead { .. } => ("410 Gone", format!("the chain is not there yet: {reason}")),
        Cause::BadRequest(_) => ("400 Bad Request", reason),
        Cause::NotAuthorized(_) | Cause::TokenExpired | Cause::TokenRevoked => {
            ("401 Unauthorized\r\nWWW-Authenticate: Bearer", reason)
        }
        _ => ("503 Service Unavailable", reason),
    };
    refusal_bytes(status, &message, common_lines)
}

/// What stops an `EventSource` for good (WHATWG HTML, "server-sent events").
pub fn no_content() -> Answer {
    let mut answer = empty_answer();
    *answer.status_mut() = StatusCode::NO_CONTENT;
    let headers = answer.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::Position;

    #[test]
    fn a_start_that_cannot_be_had_is_answered_with_its_status_and_the_way_on() {
        let first_height = Some(3);
        let position = Start::After(Position::after_block(4));
        for (cause, status, message) in [
            (
                Cause::NotAvailable { first_height },
                "410 Gone",
                "that start is older than all there is; oldest: from_height=3",
            ),
            (Cause::Ahead { tip: 9 }, "410 Gone", "the chain is not there yet: tip=9"),
            (Cause::BadRequest("no".into()), "400 Bad Request", "no"),
            (
                Cause::NotAuthorized("no".into()),
                "401 Unauthorized\r\nWWW-Authenticate: Bearer",
                "no",
            ),
            (Cause::Draining, "503 Service Unavailable", "after=4 draining"),
        ] {
            let answer = refuse_start(&cause, &position, b"Vary: Origin\r\n");
            let answer = String::from_utf8(answer).expect("text");
            assert!(answer.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{answer}");
            assert!(answer.contains("\r\nVary: Origin\r\n\r\n"), "{answer}");
            assert!(answer.ends_with(&format!(",\"message\":\"{message}\"}}\n")), "{answer}");
        }
    }
}
