//! From a request for a stream to a session: what is checked, in which order, and what a refusal
//! says. A refused request never costs more than its answer.
//!
//! A session begins with its answer's head: HTTP lets go of the connection unanswered, so that all
//! that goes out on it afterwards goes through one place.

use std::sync::Arc;

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{Method, Request, StatusCode, Version};
use hyper_tungstenite::tungstenite::handshake::derive_accept_key;
use tracing::debug;

use super::admission::{Admitted, NotAdmitted};
use super::answer::{Answer, refusal};
use super::close::Cause;
use super::extensions;
use super::form::{Form, Stream};
use super::outbound::Bounds;
use super::query::{Query, QueryError, Start};
use super::session::{Head, Session, Transport, Wanted};
use super::visit::Visit;
use super::{Door, status};
use crate::config;
use crate::frame::{self, Wire};
use crate::metrics::{Label, Refusal};
use crate::readiness::State;

/// RFC 6455 section 4.1.
const WEBSOCKET_VERSION: HeaderValue = HeaderValue::from_static("13");
const NO_UPGRADE: &str = "this is a WebSocket: the request has no `Connection: Upgrade` and \
    `Upgrade: websocket` headers. If your client sent them, a proxy on the way removed them \
    (nginx: proxy_http_version 1.1 and proxy_set_header Upgrade and Connection). For Server-Sent \
    Events send `Accept: text/event-stream`";
/// When an event stream's client comes back after the connection is lost, in milliseconds.
const RETRY_MS: std::ops::RangeInclusive<u32> = 1_000..=3_000;

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
    Serve { wanted: Wanted, admitted: Admitted },
    Refuse { cause: Cause, head: Vec<u8> },
}

/// Over what the stream is to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    WebSocket,
    /// Server-Sent Events, as the WHATWG's HTML standard has them.
    EventStream,
    /// Neither was asked for.
    None,
}

/// Answers a request for `stream`: a session, or a refusal.
pub fn answer(
    request: &Request<Incoming>,
    stream: Stream,
    door: &Arc<Door>,
    visit: Visit,
) -> Outcome {
    let way = way(request);
    let refused = match check(request, stream, way, door, &visit) {
        Ok(Checked::Serve(wanted, admitted)) => {
            let purpose = Purpose::Serve { wanted, admitted };
            return Outcome::Open(Opening { purpose, visit });
        }
        Ok(Checked::NothingLeft) => return Outcome::Answer(no_content()),
        Err(refused) => refused,
    };
    door.around.metrics.handshakes_refused.add(refused.label);
    debug!(peer = %visit.peer, status = refused.status.as_u16(), message = refused.message, "stream refused");
    let is_browser = request.headers().contains_key(header::ORIGIN);
    match accept_key(request) {
        Ok(accept) if refused.is_told_in_band && is_browser && way == Way::WebSocket => {
            let (cause, head) = (Cause::BadRequest(refused.message), switching_head(&accept, None));
            Outcome::Open(Opening { purpose: Purpose::Refuse { cause, head }, visit })
        }
        _ => Outcome::Answer(refused.into_answer()),
    }
}

/// What the checks come to.
enum Checked {
    Serve(Wanted, Admitted),
    /// A browser that comes back after all that it asked for.
    NothingLeft,
}

/// The checks, cheapest and most telling first.
fn check(
    request: &Request<Incoming>,
    stream: Stream,
    way: Way,
    door: &Door,
    visit: &Visit,
) -> Result<Checked, Refused> {
    let ignored = &door.around.limits.ignored_parameters;
    let query = Query::parse(request.uri().query().unwrap_or(""), stream, ignored)
        .map_err(Refused::bad_query)?;
    let last_event_id = last_event_id(request, stream, way)?;
    door.readiness.takes_clients().map_err(Refused::not_now)?;
    let extension = extension(request, way);
    let head = match way {
        Way::WebSocket => Head::Now(switching_head(&accept_key(request)?, extension)),
        Way::EventStream => Head::WhenBegun(Vec::new()),
        Way::None => {
            let (status, label) = (StatusCode::UPGRADE_REQUIRED, Refusal::NoUpgrade);
            return Err(Refused::new(status, label, NO_UPGRADE));
        }
    };
    let is_over = |start: &Start| {
        query.until_height.zip(start.first_wanted()).is_some_and(|(until, next)| next > until)
    };
    if last_event_id.as_ref().is_some_and(is_over) {
        return Ok(Checked::NothingLeft);
    }
    let admitted = door.admission.admit(visit.peer.ip()).map_err(|reason| match reason {
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
    })?;
    let is_deflated = extension.is_some();
    let asked = Asked { request, stream, way, is_deflated };
    let wanted = wanted(query, last_event_id, head, asked);
    Ok(Checked::Serve(wanted, admitted))
}

/// A request, and what it was found to ask for.
struct Asked<'a> {
    request: &'a Request<Incoming>,
    stream: Stream,
    way: Way,
    /// permessage-deflate is agreed on.
    is_deflated: bool,
}

fn wanted(query: Query, last_event_id: Option<Start>, head: Head, asked: Asked<'_>) -> Wanted {
    let Asked { request, stream, way, is_deflated } = asked;
    let (start, fallback) = match (last_event_id, query.start) {
        (Some(last), start @ (Start::Oldest | Start::Latest)) => (last, Some(start)),
        (Some(last), _) => (last, None),
        (None, start) => (start, None),
    };
    let begins_inside = matches!(start, Start::AfterEvent { .. } | Start::AfterTransaction { .. });
    let has_filter = !query.filter.is_empty();
    let is_gzip = way == Way::EventStream
        && accepts(request, header::ACCEPT_ENCODING, "gzip")
        // Such batches are put together per client, and what is compressed is shared.
        && !(query.batch && (has_filter || begins_inside));
    let form = Form {
        stream,
        wire: if way == Way::WebSocket { Wire::WebSocket } else { Wire::EventStream },
        is_compressed: is_deflated || is_gzip,
        is_batch: query.batch,
        has_control: query.control,
        filter: has_filter.then(|| Box::new(query.filter)),
    };
    let head = match head {
        Head::Now(head) => Head::Now(head),
        Head::WhenBegun(_) => Head::WhenBegun(event_stream_head(&form)),
    };
    let bounds = Bounds { until_height: query.until_height, messages_max: query.limit };
    Wanted { form, bounds, start, fallback, head }
}

fn way(request: &Request<Incoming>) -> Way {
    let is_get = request.method() == Method::GET;
    // RFC 6455 section 4.1 wants HTTP/1.1.
    let is_websocket = hyper_tungstenite::is_upgrade_request(request);
    match () {
        () if is_get && is_websocket && request.version() == Version::HTTP_11 => Way::WebSocket,
        () if is_get && accepts(request, header::ACCEPT, "text/event-stream") => Way::EventStream,
        () => Way::None,
    }
}

/// Whether the header names `wanted` itself, and not with a quality of 0 (RFC 9110 section 12.4.2).
/// A wildcard is no wish: every browser's address line sends one.
fn accepts(request: &Request<Incoming>, name: HeaderName, wanted: &str) -> bool {
    let values = request.headers().get_all(name).into_iter();
    let values = values.filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|choice| {
        let mut parts = choice.split(';').map(str::trim);
        let is_named = parts.next().is_some_and(|named| named.eq_ignore_ascii_case(wanted));
        let quality = parts.find_map(|part| part.strip_prefix("q="));
        is_named && quality.is_none_or(|quality| quality.parse::<f32>().is_ok_and(|q| q > 0.0))
    })
}

/// Where a browser's `EventSource` goes on by itself; it wins over the query.
fn last_event_id(
    request: &Request<Incoming>,
    stream: Stream,
    way: Way,
) -> Result<Option<Start>, Refused> {
    let id = request.headers().get("last-event-id").filter(|id| !id.is_empty());
    let Some(id) = id.filter(|_| way == Way::EventStream) else { return Ok(None) };
    let id = id.to_str().unwrap_or("not text");
    Start::of_last_event_id(id, stream).map(Some).map_err(Refused::bad_query)
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

/// What a WebSocket is to use beside RFC 6455, as its answer says it.
fn extension(request: &Request<Incoming>, way: Way) -> Option<&'static str> {
    let values = request.headers().get_all(header::SEC_WEBSOCKET_EXTENSIONS).into_iter();
    let agreed = extensions::agree(values.filter_map(|value| value.to_str().ok()));
    agreed.filter(|_| way == Way::WebSocket)
}

/// The head of the answer that makes a connection a WebSocket (RFC 6455 section 4.2.2).
fn switching_head(accept: &str, extension: Option<&str>) -> Vec<u8> {
    let extension = extension
        .map(|extension| format!("Sec-WebSocket-Extensions: {extension}\r\n"))
        .unwrap_or_default();
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Accept: {accept}\r\n{extension}\r\n"
    )
    .into_bytes()
}

/// The head of an answer that ends with its connection, and when to come back after that.
fn event_stream_head(form: &Form) -> Vec<u8> {
    let encoding = if form.is_compressed { "Content-Encoding: gzip\r\n" } else { "" };
    let mut head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n{encoding}\
         Vary: Accept-Encoding\r\nCache-Control: no-store, no-transform\r\n\
         X-Accel-Buffering: no\r\nAccess-Control-Allow-Origin: *\r\nConnection: close\r\n\r\n"
    )
    .into_bytes();
    if form.is_compressed {
        head.extend(frame::GZIP_HEADER);
    }
    // Drawn for each, so that those who lose a replica do not return all at once.
    let retry_ms = fastrand::u32(RETRY_MS);
    head.extend(form.own_text(format!("retry: {retry_ms}\n\n").as_bytes()));
    head
}

/// What stops an `EventSource` for good (WHATWG HTML, "server-sent events").
fn no_content() -> Answer {
    let mut answer = Answer::default();
    *answer.status_mut() = StatusCode::NO_CONTENT;
    let headers = answer.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    answer
}

impl Opening {
    /// Runs the session on its connection, in a task of its own. `early` is what the client sent
    /// behind its request.
    pub fn begin<T>(self, transport: T, early: Bytes, door: &Arc<Door>)
    where
        T: Transport + 'static,
    {
        let Self { purpose, visit } = self;
        let around = Arc::clone(&door.around);
        let (mut session, admitted) = match purpose {
            Purpose::Serve { wanted, admitted } => {
                if wanted.form.wire == Wire::EventStream {
                    find_dead_peer(&transport, &around.limits);
                }
                around.metrics.sessions_opened.inc();
                (Session::new(transport, around, wanted), Some(admitted))
            }
            Purpose::Refuse { cause, head } => {
                (Session::refused(transport, around, &cause, head), None)
            }
        };
        session.listen(&early);
        // It shares hyper's whole read buffer, 8 KiB.
        drop(early);
        let Visit { peer, place, .. } = visit;
        door.spawn_session(async move {
            let disconnect = session.run().await;
            if admitted.is_some() {
                session.metrics().disconnects.add(disconnect);
            }
            debug!(%peer, reason = disconnect.name(), "session ended");
            drop(place);
        });
    }
}

/// Nothing answers a heartbeat of an event stream but TCP: what is unacknowledged for as long as a
/// WebSocket client may be silent ends the connection.
fn find_dead_peer(transport: &impl Transport, limits: &config::Server) {
    transport.give_up_after(limits.ping_interval + limits.pong_timeout);
}

impl Refused {
    fn bad_query(error: QueryError) -> Self {
        let label = Refusal::BadRequest;
        let refused = Self::new(StatusCode::BAD_REQUEST, label, error.to_string());
        Self { is_told_in_band: true, ..refused }
    }

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
