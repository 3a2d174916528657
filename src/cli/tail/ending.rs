//! How a connection ended, in a sentence, and what `tail` does then. Pure.

use std::time::Duration;

use serde::Deserialize;
use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::tungstenite::http::{HeaderMap, Response, StatusCode, header};
use tokio_tungstenite::tungstenite::protocol::CloseFrame;

/// No `Retry-After` keeps a person waiting longer than this.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(300);
/// What of a refusal's body is shown when it is not ours.
const BODY_CHARS_MAX: usize = 200;

#[derive(Debug, PartialEq)]
pub struct Ending {
    pub next: Next,
    pub why: String,
}

#[derive(Debug, PartialEq)]
pub enum Next {
    /// Nothing more is to come.
    Done,
    /// The same request would end the same way.
    Fail,
    Again {
        not_before: Duration,
    },
}

/// A refusal's body, `{"status": 403, "message": "..."}`.
#[derive(Deserialize)]
struct Refusal {
    message: String,
}

pub fn done() -> Ending {
    Ending { next: Next::Done, why: String::new() }
}

pub fn again(why: String) -> Ending {
    Ending { next: Next::Again { not_before: Duration::ZERO }, why }
}

fn fail(why: String) -> Ending {
    Ending { next: Next::Fail, why }
}

/// No WebSocket came about.
pub fn of_connect(error: &Error) -> Ending {
    match error {
        Error::Http(response) => of_refusal(response),
        Error::Url(_) | Error::HttpFormat(_) => fail(format!("cannot use this address: {error}")),
        Error::Protocol(_) => fail(format!("this is no WebSocket server: {error}")),
        Error::Io(error) => again(format!("cannot connect: {error}")),
        _ => again(format!("cannot connect: {error}")),
    }
}

/// The connection broke, or the server broke the protocol.
pub fn of_failure(error: &Error) -> Ending {
    match error {
        Error::Capacity(_) => fail(format!("a message is too large: {error}")),
        Error::Io(error) => again(format!("connection lost: {error}")),
        _ => again(format!("connection lost: {error}")),
    }
}

/// The server closed. 1000 says that the stream is done (`until_height`, `limit`); what is wrong
/// with the request (4000), the credentials (4001), the position (4009) or our own frames is so
/// next time.
pub fn of_close(frame: Option<&CloseFrame>) -> Ending {
    let Some(frame) = frame else { return again("closed by the server without a code".into()) };
    let code = u16::from(frame.code);
    let why = match frame.reason.as_str() {
        "" => format!("closed by the server: {code}"),
        reason => format!("closed by the server: {code} {reason:?}"),
    };
    match code {
        1000 => Ending { next: Next::Done, why },
        1002 | 1007 | 1009 | 4000 | 4001 | 4009 => fail(why),
        _ => again(why),
    }
}

fn of_refusal(response: &Response<Option<Vec<u8>>>) -> Ending {
    let status = response.status();
    let body = response.body().as_deref().unwrap_or_default();
    let told = match serde_json::from_slice::<Refusal>(body) {
        Ok(refusal) => refusal.message,
        Err(_) => String::from_utf8_lossy(body).trim().chars().take(BODY_CHARS_MAX).collect(),
    };
    let mut why = format!("refused with {status}");
    if !told.is_empty() {
        why.push_str(&format!(": {told}"));
    }
    let may_pass = status.is_server_error()
        || [StatusCode::TOO_MANY_REQUESTS, StatusCode::REQUEST_TIMEOUT].contains(&status);
    if may_pass {
        Ending { next: Next::Again { not_before: retry_after(response.headers()) }, why }
    } else {
        fail(why)
    }
}

/// The seconds of `Retry-After`; its form as a date is passed over.
fn retry_after(headers: &HeaderMap) -> Duration {
    let seconds = headers.get(header::RETRY_AFTER).and_then(|value| value.to_str().ok());
    let seconds = seconds.and_then(|text| text.trim().parse().ok()).unwrap_or(0);
    Duration::from_secs(seconds).min(RETRY_AFTER_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(status: u16, retry_after: Option<&str>, body: &str) -> Ending {
        let mut response = Response::builder().status(status);
        if let Some(value) = retry_after {
            response = response.header("Retry-After", value);
        }
        let response = response.body(Some(body.as_bytes().to_vec())).expect("a response");
        of_connect(&Error::Http(Box::new(response)))
    }

    #[test]
    fn a_refusal_is_final_unless_it_may_pass() {
        for (status, retry_after, next) in [
            (400, None, Next::Fail),
            (404, Some("1"), Next::Fail),
            (301, None, Next::Fail),
            (408, None, Next::Again { not_before: Duration::ZERO }),
            (429, Some("7"), Next::Again { not_before: Duration::from_secs(7) }),
            (503, Some("2"), Next::Again { not_before: Duration::from_secs(2) }),
            (503, Some("99999999"), Next::Again { not_before: RETRY_AFTER_MAX }),
            (503, Some("Mon, 23 Nov 2026"), Next::Again { not_before: Duration::ZERO }),
        ] {
            assert_eq!(refused(status, retry_after, "").next, next, "{status} {retry_after:?}");
        }
    }

    #[test]
    fn a_refusal_tells_its_message() {
        let why = refused(400, None, r#"{"status": 400, "message": "bad from_height"}"#).why;
        assert_eq!(why, "refused with 400 Bad Request: bad from_height");
        assert_eq!(refused(502, None, "<html>").why, "refused with 502 Bad Gateway: <html>");
    }

    #[test]
    fn a_close_tells_its_code_and_reason() {
        for (code, reason, next, why) in [
            (1000, "", Next::Done, "closed by the server: 1000"),
            (
                1001,
                "after=42.7 draining",
                Next::Again { not_before: Duration::ZERO },
                "closed by the server: 1001 \"after=42.7 draining\"",
            ),
            (4009, "from_height=3", Next::Fail, "closed by the server: 4009 \"from_height=3\""),
        ] {
            let frame = CloseFrame { code: code.into(), reason: reason.into() };
            assert_eq!(of_close(Some(&frame)), Ending { next, why: why.into() });
        }
    }
}
