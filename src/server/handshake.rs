//! From a request for a stream to a session: what is checked, in which order, and what a refusal
//! says. A refused request never costs more than its answer.
//!
//! A session begins with its answer's head: HTTP lets go of the connection unanswered, so that all
//! that goes out on it afterwards goes through one place.

use std::sync::Arc;

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::header::{self, HeaderValue};
use hyper::{Method, Request, StatusCode, Version};
use hyper_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio::net::TcpStream;
use tracing::debug;

use super::admission::{Admitted, NotAdmitted};
use super::answer::{Answer, refusal};
use super::close::Cause;
use super::outbound::Stream;
use super::session::Session;
use super::visit::Visit;
use super::{Door, status};
use crate::history::Cursor;
use crate::metrics::{Label, Refusal};
use crate::readiness::State;

/// RFC 6455 section 4.1.
const WEBSOCKET_VERSION: HeaderValue = HeaderValue::from_static("13");
const NO_UPGRADE: &str = "this is a WebSocket: the request has no `Connection: Upgrade` and \
    `Upgrade: websocket` headers. If your client sent them, a proxy on the way removed them \
    (nginx: proxy_http_version 1.1 and proxy_set_header Upgrade and Connection)";

/// Why a stream is refused.
struct Refused {
    status: StatusCode,
    label: Refusal,
    message: String,
    /// Whether a browser is told in-band, where it can read it.
    is_told_in_band: bool,
}

/// A session to be: what HTTP hands the connection over for.
pub struct Opening {
    /// The answer's head, the first that goes out.
    head: Vec<u8>,
    purpose: Purpose,
    visit: Visit,
}

/// What becomes of a request.
pub enum Outcome {
    Answer(Answer),
    Open(Opening),
}

/// What the session is to do.
enum Purpose {
    Serve { stream: Stream, cursor: Cursor, admitted: Admitted },
    Refuse(Cause),
}

/// Answers a request for `stream`: a session, or a refusal.
pub fn answer(
    request: &Request<Incoming>,
    stream: Stream,
    door: &Arc<Door>,
    visit: Visit,
) -> Outcome {
    // RFC 6455 section 4.1 wants GET and HTTP/1.1.
    let is_upgrade = hyper_tungstenite::is_upgrade_request(request)
        && request.method() == Method::GET
        && request.version() == Version::HTTP_11;
    let checked = check(request, is_upgrade, door, &visit);
    let purpose = match checked {
        Ok(admitted) => {
            // Before the client is told that it is connected: from then on it misses nothing.
            let cursor = door.around.history.live_cursor();
            Purpose::Serve { stream, cursor, admitted }
        }
        Err(refused) => {
            door.around.metrics.handshakes_refused.add(refused.label);
            debug!(peer = %visit.peer, status = refused.status.as_u16(), message = refused.message, "stream refused");
            let is_browser = request.headers().contains_key(header::ORIGIN);
            if !(refused.is_told_in_band && is_browser && is_upgrade && accept_key(request).is_ok())
            {
                return Outcome::Answer(refused.into_answer());
            }
            Purpose::Refuse(Cause::BadRequest(refused.message))
        }
    };
    match accept_key(request) {
        Ok(accept) => Outcome::Open(Opening { head: switching_head(&accept), purpose, visit }),
        Err(refused) => Outcome::Answer(refused.into_answer()),
    }
}

/// The checks, cheapest and most telling first.
fn check(
    request: &Request<Incoming>,
    is_upgrade: bool,
    door: &Door,
    visit: &Visit,
) -> Result<Admitted, Refused> {
    check_query(request.uri().query().unwrap_or(""), &door.around.limits.ignored_parameters)?;
    door.readiness.takes_clients().map_err(Refused::not_now)?;
    if !is_upgrade {
        return Err(Refused::new(StatusCode::UPGRADE_REQUIRED, Refusal::NoUpgrade, NO_UPGRADE));
    }
    accept_key(request)?;
    door.admission.admit(visit.peer.ip()).map_err(|reason| match reason {
        NotAdmitted::Full => Refused::new(
            StatusCode::SERVICE_UNAVAILABLE,
            Refusal::Full,
            "all places are taken; try again, or another replica",
        ),
        NotAdmitted::TooManyFromAddress => Refused::new(
            StatusCode::TOO_MANY_REQUESTS,
            Refusal::Address,
            "too many connections from your address",
        ),
    })
}

/// No parameter is known yet; each is refused by name, so that nobody believes it was understood.
fn check_query(query: &str, ignored: &[String]) -> Result<(), Refused> {
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let name = pair.split('=').next().unwrap_or(pair);
        if !ignored.iter().any(|ignored| ignored == name) {
            let message =
                format!("unknown parameter `{}`", name.chars().take(64).collect::<String>());
            let refused = Refused::new(StatusCode::BAD_REQUEST, Refusal::BadRequest, message);
            return Err(Refused { is_told_in_band: true, ..refused });
        }
    }
    Ok(())
}

/// What RFC 6455 section 4.2.2 wants back for the request's key.
fn accept_key(request: &Request<Incoming>) -> Result<String, Refused> {
    let version = request.headers().get(header::SEC_WEBSOCKET_VERSION);
    if version != Some(&WEBSOCKET_VERSION) {
        let message = "only version 13 of the WebSocket protocol is spoken here";
        return Err(Refused::new(StatusCode::UPGRADE_REQUIRED, Refusal::BadRequest, message));
    }
    match request.headers().get(header::SEC_WEBSOCKET_KEY) {
        Some(key) if key.len() == 24 => Ok(derive_accept_key(key.as_bytes())),
        _ => {
            let message = "Sec-WebSocket-Key must be 16 bytes in base64";
            Err(Refused::new(StatusCode::BAD_REQUEST, Refusal::BadRequest, message))
        }
    }
}

/// The head of the answer that makes a connection a WebSocket (RFC 6455 section 4.2.2).
fn switching_head(accept: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Accept: {accept}\r\n\r\n"
    )
    .into_bytes()
}

impl Opening {
    /// Runs the session on its connection, in a task of its own. `early` is what the client sent
    /// behind its request.
    pub fn begin(self, transport: TcpStream, early: Bytes, door: &Arc<Door>) {
        let door_inside = Arc::clone(door);
        door.spawn(async move {
            let (door, Self { head, purpose, visit }) = (door_inside, self);
            let metrics = &door.around.metrics;
            let around = Arc::clone(&door.around);
            let (mut session, admitted) = match purpose {
                Purpose::Serve { stream, cursor, admitted } => {
                    metrics.sessions_opened.inc();
                    (Session::new(transport, around, stream, cursor, head), Some(admitted))
                }
                Purpose::Refuse(cause) => (Session::refused(transport, around, &cause, head), None),
            };
            session.listen(&early);
            // It shares hyper's whole read buffer, 8 KiB.
            drop(early);
            let disconnect = Box::pin(session.run()).await;
            if admitted.is_some() {
                metrics.disconnects.add(disconnect);
            }
            debug!(peer = %visit.peer, reason = disconnect.name(), "session ended");
            drop(visit.place);
        });
    }
}

impl Refused {
    fn new(status: StatusCode, label: Refusal, message: impl Into<String>) -> Self {
        Self { status, label, message: message.into(), is_told_in_band: false }
    }

    fn not_now(state: State) -> Self {
        let label = match state {
            State::Draining => Refusal::Draining,
            State::Ready | State::Warming | State::BrokerLost => Refusal::Warming,
        };
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            label,
            format!("not now: {}", status::name(state)),
        )
    }

    fn into_answer(self) -> Answer {
        let mut answer = refusal(self.status, &self.message);
        let headers = answer.headers_mut();
        match self.status {
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS => {
                headers.insert(header::RETRY_AFTER, status::RETRY_AFTER);
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
