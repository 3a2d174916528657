//! Why a stream is refused, and the answer that says so over plain HTTP.

use hyper::StatusCode;
use hyper::header::{self, HeaderValue};

use crate::metrics::Refusal;
use crate::protocol::{Cause, QueryError};
use crate::readiness::State;
use crate::server::answer::{Answer, refusal};
use crate::server::auth::NotAuthorized;
use crate::server::status;

/// RFC 6455 section 4.1.
pub const WEBSOCKET_VERSION: HeaderValue = HeaderValue::from_static("13");

/// Why a stream is refused.
pub struct Refused {
    pub status: StatusCode,
    pub label: Refusal,
    pub message: String,
    /// Whether a browser is told in-band, where it can read it.
    pub is_told_in_band: bool,
}

impl Refused {
    pub fn bad_query(error: QueryError) -> Self {
        let label = Refusal::BadRequest;
        let refused = Self::new(StatusCode::BAD_REQUEST, label, error.to_string());
        Self { is_told_in_band: true, ..refused }
    }

    /// In-band, too: a browser's page must learn that its token is the reason.
    pub fn not_authorized(reason: NotAuthorized) -> Self {
        let label = Refusal::NotAuthorized;
        let refused = Self::new(StatusCode::UNAUTHORIZED, label, reason.to_string());
        Self { is_told_in_band: true, ..refused }
    }

    pub fn new(status: StatusCode, label: Refusal, message: impl Into<String>) -> Self {
        Self { status, label, message: message.into(), is_told_in_band: false }
    }

    pub fn not_now(state: State) -> Self {
        let label = match state {
            State::Draining => Refusal::Draining,
            State::Ready | State::Warming | State::BrokerLost | State::Unreadable => {
                Refusal::Warming
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
            Refusal::NotAuthorized => Cause::NotAuthorized(self.message),
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
