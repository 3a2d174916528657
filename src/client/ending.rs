//! How a connection ended, in a sentence, and what that means for the stream. Pure.

use std::time::Duration;

use rustls::CertificateError;
use tokio_tungstenite::tungstenite::Error as SocketError;
use tokio_tungstenite::tungstenite::error::{ProtocolError, TlsError};
use tokio_tungstenite::tungstenite::http::{HeaderMap, Response, StatusCode, header};
use tokio_tungstenite::tungstenite::protocol::CloseFrame;

use super::Error;
use crate::protocol::{CONTROL, Cause, CloseReason, RefusalBody, unknown_parameter};

/// No `Retry-After` keeps a stream waiting longer than this.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(300);
/// What of a refusal's body is told when it is not ours.
const BODY_CHARS_MAX: usize = 200;

#[derive(Debug)]
pub(super) enum ConnectionEnd {
    /// 1000: what was asked for is there, if there was an end.
    Done { why: String },
    /// The same request may succeed, not before this has passed.
    Again { why: String, not_before: Duration },
    /// The server has not come as far as the position.
    Ahead { why: String, tip_height: Option<u64> },
    /// The same request would end the same way.
    Fatal(Error),
}

pub(super) fn again(why: impl Into<String>) -> ConnectionEnd {
    ConnectionEnd::Again { why: why.into(), not_before: Duration::ZERO }
}

fn protocol(why: String) -> ConnectionEnd {
    ConnectionEnd::Fatal(Error::Protocol(why))
}

/// No WebSocket came about.
pub(super) fn of_connect(error: &SocketError) -> ConnectionEnd {
    match error {
        SocketError::Http(response) => of_refusal(response),
        SocketError::Url(_) | SocketError::HttpFormat(_) => {
            protocol(format!("cannot use this address: {error}"))
        }
        // Cut before it had answered, as by a replica that is killed.
        SocketError::Protocol(ProtocolError::HandshakeIncomplete) => {
            again("cut before the answer was whole".to_owned())
        }
        SocketError::Protocol(_) => protocol(format!("this is no WebSocket server: {error}")),
        SocketError::Io(error) => match rustls_error(error) {
            Some(error) => of_tls(error),
            None => again(format!("cannot connect: {error}")),
        },
        SocketError::Tls(TlsError::Rustls(error)) => of_tls(error),
        SocketError::Tls(TlsError::InvalidDnsName) => {
            protocol(format!("cannot use this address: {error}"))
        }
        _ => again(format!("cannot connect: {error}")),
    }
}

/// What TLS itself found wrong, which is handed over as a fault of the socket.
fn rustls_error(error: &std::io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}

/// No TLS came about: trying again mends no certificate and no other protocol.
fn of_tls(error: &rustls::Error) -> ConnectionEnd {
    match error {
        rustls::Error::InvalidCertificate(reason) => {
            let why = match reason {
                CertificateError::UnknownIssuer => "its authority is not known here".to_owned(),
                CertificateError::BadSignature => {
                    "it is forged: a signature is not true".to_owned()
                }
                reason => reason.to_string(),
            };
            ConnectionEnd::Fatal(Error::Untrusted { why })
        }
        rustls::Error::InvalidMessage(_) => {
            protocol(format!("this is no TLS server (if it is a plain one, write ws://): {error}"))
        }
        rustls::Error::PeerIncompatible(_) => protocol(format!("no common TLS: {error}")),
        _ => again(format!("cannot connect: {error}")),
    }
}

/// The connection broke, or the server broke the protocol.
pub(super) fn of_failure(error: &SocketError) -> ConnectionEnd {
    match error {
        SocketError::Capacity(_) => protocol(format!("a message is too large: {error}")),
        SocketError::Io(error) => again(format!("connection lost: {error}")),
        _ => again(format!("connection lost: {error}")),
    }
}

/// The server closed: what is wrong with the request (4000), the credentials (4001), the position
/// (4009) or our own frames is so next time; 4010 ends the chain. After anything else the stream can
/// go on.
pub(super) fn of_close(frame: Option<&CloseFrame>) -> ConnectionEnd {
    let Some(frame) = frame else { return again("closed by the server without a code") };
    let (code, reason) = (u16::from(frame.code), frame.reason.as_str());
    let why = match reason {
        "" => format!("closed by the server: {code}"),
        reason => format!("closed by the server: {code} {reason:?}"),
    };
    match CloseReason::parse(code, reason).map(|close| close.cause) {
        Some(Cause::Done) => ConnectionEnd::Done { why },
        Some(Cause::Protocol(_) | Cause::NotUtf8 | Cause::TooBig) => protocol(why),
        Some(
            Cause::BadRequest(_)
            | Cause::NotAuthorized(_)
            | Cause::TokenExpired
            | Cause::TokenRevoked,
        ) => refused(code, reason.to_owned()),
        Some(Cause::Ahead { tip }) => ConnectionEnd::Ahead { why, tip_height: Some(tip) },
        Some(Cause::NotAvailable { first_height }) => {
            ConnectionEnd::Fatal(Error::Gone { first_height })
        }
        Some(Cause::AnotherChain) => ConnectionEnd::Fatal(Error::AnotherChain),
        Some(Cause::Draining | Cause::NoPong | Cause::TooSlow) | None => again(why),
    }
}

fn of_refusal(response: &Response<Option<Vec<u8>>>) -> ConnectionEnd {
    let status = response.status();
    let body = response.body().as_deref().unwrap_or_default();
    let told = RefusalBody::message_in(body).unwrap_or_else(|| {
        String::from_utf8_lossy(body).trim().chars().take(BODY_CHARS_MAX).collect()
    });
    let may_pass = status.is_server_error()
        || [StatusCode::TOO_MANY_REQUESTS, StatusCode::REQUEST_TIMEOUT].contains(&status);
    if !may_pass {
        return refused(status.as_u16(), told);
    }
    let why = match told.as_str() {
        "" => format!("refused with {status}"),
        told => format!("refused with {status}: {told}"),
    };
    ConnectionEnd::Again { why, not_before: retry_after(response.headers()) }
}

fn refused(status: u16, message: String) -> ConnectionEnd {
    ConnectionEnd::Fatal(match unknown_parameter(&message) == Some(CONTROL) {
        true => Error::Outdated { message },
        false => Error::Refused { status, message },
    })
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

    fn refusal(status: u16, retry_after: Option<&str>, body: &str) -> ConnectionEnd {
        let mut response = Response::builder().status(status);
        if let Some(value) = retry_after {
            response = response.header("Retry-After", value);
        }
        let response = response.body(Some(body.as_bytes().to_vec())).expect("a response");
        of_connect(&SocketError::Http(Box::new(response)))
    }

    #[test]
    fn a_refusal_that_may_pass_is_waited_out() {
        for (status, retry_after, seconds) in [
            (408, None, 0),
            (429, Some("7"), 7),
            (502, None, 0),
            (503, Some("2"), 2),
            (503, Some("99999999"), 300),
            (503, Some("Mon, 23 Nov 2026"), 0),
        ] {
            match refusal(status, retry_after, "") {
                ConnectionEnd::Again { not_before, .. } => {
                    assert_eq!(not_before.as_secs(), seconds)
                }
                other => panic!("{status} {retry_after:?}: {other:?}"),
            }
        }
        let ConnectionEnd::Again { why, .. } = refusal(502, None, "<html>") else {
            panic!("final")
        };
        assert_eq!(why, "refused with 502 Bad Gateway: <html>");
    }

    #[test]
    fn what_trying_again_does_not_mend_in_tls_is_final() {
        use rustls::{AlertDescription, Error as Tls, InvalidMessage, PeerIncompatible};
        for (error, told) in [
            (Tls::InvalidCertificate(CertificateError::UnknownIssuer), Some("not known here")),
            (Tls::InvalidCertificate(CertificateError::Expired), Some("not trusted")),
            (Tls::InvalidMessage(InvalidMessage::InvalidContentType), Some("write ws://")),
            (Tls::PeerIncompatible(PeerIncompatible::Tls12NotOffered), Some("no common TLS")),
            (Tls::AlertReceived(AlertDescription::InternalError), None),
            (Tls::HandshakeNotComplete, None),
        ] {
            let shown = error.to_string();
            let io = std::io::Error::new(std::io::ErrorKind::InvalidData, error);
            match (of_connect(&SocketError::Io(io)), told) {
                (ConnectionEnd::Fatal(error), Some(told)) => {
                    assert!(error.to_string().contains(told), "{error}");
                }
                (ConnectionEnd::Again { .. }, None) => {}
                (other, _) => panic!("{shown}: {other:?}"),
            }
        }
    }

    #[test]
    fn any_other_refusal_is_final_and_tells_its_message() {
        let bad = r#"{"status": 400, "message": "bad from_height"}"#;
        let old = r#"{"status": 400, "message": "unknown parameter `control`"}"#;
        for (status, body, told) in [
            (400, bad, "refused with 400: bad from_height"),
            (400, old, "too old for this client"),
            (301, "", "refused with 301"),
            (401, "", "refused with 401"),
            (404, "", "refused with 404"),
            (426, "", "refused with 426"),
        ] {
            match refusal(status, Some("1"), body) {
                ConnectionEnd::Fatal(error) => {
                    assert!(error.to_string().contains(told), "{error}");
                    assert_eq!(matches!(error, Error::Outdated { .. }), body == old);
                }
                other => panic!("{status}: {other:?}"),
            }
        }
    }

    #[test]
    fn a_server_cut_in_its_handshake_may_come_back_and_another_protocol_does_not() {
        let cut = of_connect(&SocketError::Protocol(ProtocolError::HandshakeIncomplete));
        assert!(matches!(cut, ConnectionEnd::Again { .. }), "{cut:?}");
        let other = of_connect(&SocketError::Protocol(ProtocolError::WrongHttpVersion));
        assert!(matches!(other, ConnectionEnd::Fatal(Error::Protocol(_))), "{other:?}");
    }

    #[test]
    fn a_close_is_told_by_its_code_and_reason() {
        let of = |code: u16, reason: &str| {
            of_close(Some(&CloseFrame { code: code.into(), reason: reason.into() }))
        };
        for (code, reason, told) in [
            (1001, "after=42.7 draining", "closed by the server: 1001 \"after=42.7 draining\""),
            (1011, "", "closed by the server: 1011"),
            (4008, "after=42 too slow", "closed by the server: 4008 \"after=42 too slow\""),
        ] {
            match of(code, reason) {
                ConnectionEnd::Again { why, not_before } => {
                    assert_eq!((why.as_str(), not_before), (told, Duration::ZERO));
                }
                other => panic!("{code}: {other:?}"),
            }
        }
        assert!(matches!(of_close(None), ConnectionEnd::Again { .. }));
    }

    #[test]
    fn a_close_is_an_end_or_not_by_its_code_and_reason() {
        let of = |code: u16, reason: &str| {
            of_close(Some(&CloseFrame { code: code.into(), reason: reason.into() }))
        };
        assert!(matches!(of(1000, ""), ConnectionEnd::Done { .. }));
        assert!(matches!(
            of(4009, "from_height=3"),
            ConnectionEnd::Fatal(Error::Gone { first_height: Some(3) })
        ));
        assert!(matches!(of(4009, ""), ConnectionEnd::Fatal(Error::Gone { first_height: None })));
        assert!(matches!(
            of(4009, "tip=9 ahead"),
            ConnectionEnd::Ahead { tip_height: Some(9), .. }
        ));
        assert!(matches!(
            of(4010, "from_height=oldest"),
            ConnectionEnd::Fatal(Error::AnotherChain)
        ));
        assert!(matches!(
            of(4000, "bad"),
            ConnectionEnd::Fatal(Error::Refused { status: 4000, .. })
        ));
        assert!(matches!(of(4001, ""), ConnectionEnd::Fatal(Error::Refused { status: 4001, .. })));
        assert!(matches!(of(1009, ""), ConnectionEnd::Fatal(Error::Protocol(_))));
    }
}
