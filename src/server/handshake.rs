//! From a request for a stream to a session: what is checked, in which order, and what a refusal
//! says. A refused request never costs more than its answer.
//!
//! A session begins with its answer's head: HTTP lets go of the connection unanswered, so that all
//! that goes out on it afterwards goes through one place.

mod head;
mod refused;
mod way;

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::header;
use hyper::{Request, StatusCode};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;
use tracing::debug;

use super::admission::{Admitted, NotAdmitted};
use super::answer::Answer;
use super::cors::Readers;
use super::door::Door;
use super::origin::Origins;
use super::rate::TooOften;
use super::visit::Visit;
use crate::config;
use crate::filter::Filter;
use crate::frame::Wire;
use crate::metrics::{Label, Refusal};
use crate::protocol::{Cause, Query, Start, Stream, filter_text};
use crate::session::{Bounds, Form, Head, Listed, Pass, Seen, Session, Transport, Wanted};
#[cfg(test)]
pub use head::refuse_start;
use head::{event_stream_head, no_content, switching_head};
use refused::Refused;
use way::{Way, accept_key, accepts, credential, extension, last_event_id, subprotocol, way};

const NO_UPGRADE: &str = "this is a WebSocket: the request has no `Connection: Upgrade` and \
    `Upgrade: websocket` headers. If your client sent them, a proxy on the way removed them \
    (nginx: proxy_http_version 1.1 and proxy_set_header Upgrade and Connection). For Server-Sent \
    Events send `Accept: text/event-stream`";
const OTHER_ORIGIN: &str = "web pages of this origin may not open a stream here: list it in \
    server.allowed_origins, or set server.advertised_host if it is this service's own";

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
    Serve { wanted: Wanted, admitted: Admitted, seen: Arc<Seen> },
    Refuse { cause: Cause, head: Vec<u8> },
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
            let filter = filter_text(request.uri().query().unwrap_or(""));
            let seen = Arc::new(Seen::new(visit.peer.ip().to_canonical(), stream, &filter));
            let purpose = Purpose::Serve { wanted, admitted, seen };
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
            let (cause, head) =
                (refused.cause(), switching_head(&accept, None, subprotocol(request)));
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
    let limits = &door.around.limits;
    let origins = Origins::new(limits, visit);
    if !origins.allow(request) {
        return Err(Refused::new(StatusCode::FORBIDDEN, Refusal::Origin, OTHER_ORIGIN));
    }
    door.rate.take(visit.peer.ip(), Instant::now()).map_err(|TooOften| {
        let message = "your address asks for streams too often (server.handshakes_per_second)";
        Refused::new(StatusCode::TOO_MANY_REQUESTS, Refusal::Rate, message)
    })?;
    let pass = match door.guard.is_off() {
        true => None,
        false => {
            let credential = credential(request).map_err(Refused::not_authorized)?;
            door.guard.admit(credential.as_deref()).map_err(Refused::not_authorized)?
        }
    };
    let ignored = &limits.ignored_parameters;
    let query = Query::parse(request.uri().query().unwrap_or(""), stream, ignored)
        .map_err(Refused::bad_query)?;
    let last_event_id = last_event_id(request, stream, way)?;
    door.readiness.takes_clients().map_err(Refused::not_now)?;
    let extension = extension(request, way);
    let head = match way {
        Way::WebSocket => {
            let protocol = subprotocol(request);
            Some(switching_head(&accept_key(request)?, extension.as_deref(), protocol))
        }
        Way::EventStream => None,
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
    let admitted = door.admission.admit(Some(visit.peer.ip())).map_err(|reason| match reason {
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
    let readers = Readers::of(request, origins);
    let asked = Asked { request, stream, way, is_deflated, pass, readers };
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
    pass: Option<Pass>,
    readers: Readers,
}

/// `head` is a WebSocket's.
fn wanted(
    query: Query,
    last_event_id: Option<Start>,
    head: Option<Vec<u8>>,
    asked: Asked<'_>,
) -> Wanted {
    let Asked { request, stream, way, is_deflated, pass, readers } = asked;
    let (start, fallback) = match (last_event_id, query.start) {
        (Some(last), start @ (Start::Oldest | Start::Latest)) => (last, Some(start)),
        (Some(last), _) => (last, None),
        (None, start) => (start, None),
    };
    let has_filter = !query.filters.is_empty();
    let is_gzip = way == Way::EventStream
        && accepts(request, header::ACCEPT_ENCODING, "gzip")
        // Such batches are put together per client, and what is compressed is shared.
        && !(query.batch && (has_filter || start.is_inside_block()));
    let form = Form {
        stream,
        wire: if way == Way::WebSocket { Wire::WebSocket } else { Wire::EventStream },
        is_compressed: is_deflated || is_gzip,
        is_batch: query.batch,
        has_control: query.control,
        filter: Filter::of(query.filters),
    };
    let head = match head {
        Some(head) => Head::Now(head),
        None => Head::WhenBegun(Box::new(event_stream_head(&form, &readers))),
    };
    let bounds = Bounds { until_height: query.until_height, messages_max: query.limit };
    Wanted { form, bounds, start, fallback, pass, head }
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
            Purpose::Serve { wanted, admitted, seen } => {
                if wanted.form.wire == Wire::EventStream {
                    find_dead_peer(&transport, &around.limits);
                }
                around.metrics.sessions_opened.inc();
                let listed = door.sessions.list(&seen);
                let mut session = Session::new(transport, around, wanted);
                session.show_in(seen);
                (session, Some((admitted, listed)))
            }
            Purpose::Refuse { cause, head } => {
                (Session::refused(transport, around, &cause, head), None)
            }
        };
        session.listen(&early);
        // It shares hyper's whole read buffer, 8 KiB.
        drop(early);
        let Visit { peer, place, plain_place, .. } = visit;
        // One that is only told why it is refused is no session in any other limit.
        let plain_place = admitted.is_none().then_some(plain_place);
        door.spawn_session(Served { session, peer, admitted, _places: (place, plain_place) });
    }
}

/// A session's task, with what it occupies until it has ended.
struct Served<T> {
    session: Session<T>,
    peer: SocketAddr,
    /// None for one that is only told why it is refused.
    admitted: Option<(Admitted, Listed)>,
    _places: (Arc<Admitted>, Option<Arc<OwnedSemaphorePermit>>),
}

/// By hand: what the compiler makes of an `async` block has its state and its pointers elsewhere than
/// the session, and each would be waited for before the session's own memory is asked for.
impl<T: Transport> Future for Served<T> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let disconnect = ready!(Pin::new(&mut self.session).poll(cx));
        if self.admitted.is_some() {
            self.session.metrics().disconnects.add(disconnect);
        }
        debug!(peer = %self.peer, reason = disconnect.name(), "session ended");
        Poll::Ready(())
    }
}

/// Nothing answers a heartbeat of an event stream but TCP: what is unacknowledged for as long as a
/// WebSocket client may be silent ends the connection.
fn find_dead_peer(transport: &impl Transport, limits: &config::Server) {
    transport.give_up_after(limits.ping_interval + limits.pong_timeout);
}
