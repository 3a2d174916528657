//! Why a stream is refused, and the answer that says so over plain HTTP.

use hyper::StatusCode;
use hyper::header::{self, HeaderValue};

use crate::metrics::HandshakeRefusal;
use crate::protocol::{Cause, QueryError};
use crate::readiness::State;
use crate::server::admission::NotAdmitted;
use crate::server::answer::{Answer, refusal};
use crate::server::auth::NotAuthorized;
use crate::server::status;

/// RFC 6455 section 4.1.
pub const WEBSOCKET_VERSION: HeaderValue = HeaderValue::from_static("13");

const NO_UPGRADE: &str = "this is a WebSocket: the request has no `Connection: Upgrade` and \
    `Upgrade: websocket` headers. If your client sent them, a proxy on the way removed them \
    (nginx: proxy_http_version 1.1 and proxy_set_header Upgrade and Connection). For Server-Sent \
    Events send `Accept: text/event-stream`";
const OTHER_ORIGIN: &str = "web pages of this origin may not open a stream here: list it in \
    server.allowed_origins, or set server.advertised_host if it is this service's own";

/// Why a stream is refused.
pub struct Refused {
    pub status: StatusCode,
    pub label: HandshakeRefusal,
    pub message: String,
    /// Whether a browser is told in-band, where it can read it.
    pub is_told_in_band: bool,
}

/// What is wrong with a WebSocket handshake.
#[derive(Debug, Clone, Copy)]
pub enum BadUpgrade {
    Version,
    Key,
}

impl Refused {
    pub fn bad_query(error: QueryError) -> Self {
        let label = HandshakeRefusal::BadRequest;
        let refused = Self::new(StatusCode::BAD_REQUEST, label, error.to_string());
        Self { is_told_in_band: true, ..refused }
    }

    /// In-band, too: a browser's page must learn that its token is the reason.
    pub fn not_authorized(reason: NotAuthorized) -> Self {
        let label = HandshakeRefusal::NotAuthorized;
        let refused = Self::new(StatusCode::UNAUTHORIZED, label, reason.to_string());
        Self { is_told_in_band: true, ..refused }
    }

    pub fn other_origin() -> Self {
        Self::new(StatusCode::FORBIDDEN, HandshakeRefusal::Origin, OTHER_ORIGIN)
    }

    pub fn too_often() -> Self {
        let message = "your address asks for streams too often (server.handshakes_per_second)";
        Self::new(StatusCode::TOO_MANY_REQUESTS, HandshakeRefusal::Rate, message)
    }

    pub fn no_upgrade() -> Self {
        Self::new(StatusCode::UPGRADE_REQUIRED, HandshakeRefusal::NoUpgrade, NO_UPGRADE)
    }

    pub fn bad_upgrade(fault: BadUpgrade) -> Self {
        let label = HandshakeRefusal::BadRequest;
        match fault {
            BadUpgrade::Version => {
                let message = "only version 13 of the WebSocket protocol is spoken here";
                Self::new(StatusCode::UPGRADE_REQUIRED, label, message)
            }
            BadUpgrade::Key => {
                let message = "Sec-WebSocket-Key must be 16 bytes in base64";
                Self::new(StatusCode::BAD_REQUEST, label, message)
            }
        }
    }

    pub fn not_admitted(reason: NotAdmitted) -> Self {
        match reason {
            NotAdmitted::Full => Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                HandshakeRefusal::Full,
                "all places are taken; try again, or another replica",
            ),
            NotAdmitted::TooManyFromAddress => Self::new(
                StatusCode::TOO_MANY_REQUESTS,
                HandshakeRefusal::Address,
                "too many connections from your address",
            ),
        }
    }

    fn new(status: StatusCode, label: HandshakeRefusal, message: impl Into<String>) -> Self {
        Self { status, label, message: message.into(), is_told_in_band: false }
    }

    pub fn not_now(state: State) -> Self {
        let label = match state {
            State::Draining => HandshakeRefusal::Draining,
            State::Ready | State::Warming | State::BrokerLost | State::Unreadable => {
                HandshakeRefusal::Warming
            }
        };
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            label,
            format!("not now: {}", status::name(state)),
        )
    }

    /// As a close says it.
    pub fn cause(self) -> Cause {
        match self.label {
            HandshakeRefusal::NotAuthorized => Cause::NotAuthorized(self.message),
            _ => Cause::BadRequest(self.message),
        }
    }

    pub fn into_answer(self) -> Answer {
        let mut answer = refusal(self.status, &self.message);
        let headers = answer.headers_mut();
        match self.status {
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS => {
                headers.insert(header::RETRY_AFTER, status::RETRY_AFTER);
            }
            StatusCode::UNAUTHORIZED => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            StatusCode::UPGRADE_REQUIRED => {
                headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
                headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
                headers.insert(header::SEC_WEBSOCKET_VERSION, WEBSOCKET_VERSION);
            }
            _ => {}
        }
        answer
    }
}
