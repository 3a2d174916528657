//! From a request for a stream to a session: what is checked, in which order, and what a refusal
//! says. A refused request never costs more than its answer.
//!
//! A session begins with its answer's head: HTTP lets go of the connection unanswered, so that all
//! that goes out on it afterwards goes through one place.

mod head;
mod refused;
mod request;

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::Request;
use tokio::time::Instant;
use tracing::debug;

use super::admission::{Admitted, network};
use super::answer::Answer;
use super::context::ServerContext;
use super::cors::Readers;
use super::origin::Origins;
use super::peer::Peer;
use super::places::Place;
use super::rate::TooOften;
use crate::config;
use crate::frame::Framing;
use crate::metrics::Label;
use crate::protocol::{Cause, Stream};
use crate::session::{Session, SessionListing, SessionRequest, SessionStatus, Transport};
use head::no_content;
use refused::Refused;
pub use request::StreamRequest;
use request::Upgrade;

/// A session to be: what HTTP hands the connection over for.
pub struct Opening {
    purpose: Purpose,
    peer: Peer,
}

/// What becomes of a request.
pub enum HandshakeOutcome {
    Answer(Answer),
    Open(Opening),
}

/// What the session is to do.
enum Purpose {
    Serve { request: SessionRequest, admitted: Admitted, seen: Arc<SessionStatus> },
    Refuse { cause: Cause, head: Vec<u8> },
}

/// Answers a request for `stream`: a session, or a refusal.
pub fn answer<B>(
    request: &Request<B>,
    stream: Stream,
    context: &Arc<ServerContext>,
    peer: Peer,
) -> HandshakeOutcome {
    let limits = &context.session.limits;
    let origins = Origins::new(limits, &peer);
    if let Err(refused) = may_ask(request, origins, context, &peer) {
        return refuse(refused, None, context, peer);
    }
    let asked = StreamRequest::of(request, stream, &limits.ignored_parameters);
    let page_upgrade = asked.page_upgrade();
    match check(asked, Readers::of(request, origins), context, &peer) {
        Ok(Some(purpose)) => HandshakeOutcome::Open(Opening { purpose, peer }),
        Ok(None) => HandshakeOutcome::Answer(no_content()),
        Err(refused) => refuse(refused, page_upgrade, context, peer),
    }
}

/// The checks that come before a request is read.
fn may_ask<B>(
    request: &Request<B>,
    origins: Origins<'_>,
    context: &ServerContext,
    peer: &Peer,
) -> Result<(), Refused> {
    if !origins.allow(request) {
        return Err(Refused::other_origin());
    }
    context.rate.take(peer.address.ip(), Instant::now()).map_err(|TooOften| Refused::too_often())
}

/// The checks of what was read, cheapest and most telling first. None for a browser that comes back after
/// all that it asked for.
fn check(
    request: StreamRequest<'_>,
    readers: Readers,
    context: &ServerContext,
    peer: &Peer,
) -> Result<Option<Purpose>, Refused> {
    let pass = match context.guard.is_off() {
        true => None,
        false => {
            let credential = request.credential.map_err(Refused::not_authorized)?;
            context.guard.admit(credential.as_deref()).map_err(Refused::not_authorized)?
        }
    };
    let asked = request.asked.map_err(Refused::bad_query)?;
    context.readiness.takes_clients().map_err(Refused::not_now)?;
    let accepted = request.transport.accept(readers)?;
    if asked.is_over() {
        return Ok(None);
    }
    let address = peer.address.ip();
    let admitted = context.admission.admit(Some(address)).map_err(Refused::not_admitted)?;
    let seen = Arc::new(SessionStatus::new(
        address.to_canonical(),
        asked.stream,
        &asked.query.filter_text(),
    ));
    let request = asked.session(accepted, pass, network(address));
    Ok(Some(Purpose::Serve { request, admitted, seen }))
}

/// Refuses over plain HTTP, or in-band where a page can read only that.
fn refuse(
    refused: Refused,
    page_upgrade: Option<Upgrade>,
    context: &ServerContext,
    peer: Peer,
) -> HandshakeOutcome {
    context.session.metrics.handshakes_refused.add(refused.label);
    debug!(peer = %peer.address, status = refused.status.as_u16(), message = refused.message, "stream refused");
    let upgrade = page_upgrade.filter(|_| refused.is_told_in_band);
    match upgrade.and_then(|upgrade| upgrade.refusal_head()) {
        Some(head) => {
            let purpose = Purpose::Refuse { cause: refused.cause(), head };
            HandshakeOutcome::Open(Opening { purpose, peer })
        }
        None => HandshakeOutcome::Answer(refused.into_answer()),
    }
}

impl Opening {
    /// Runs the session on its connection, in a task of its own. `early` is what the client sent
    /// behind its request.
    pub fn begin<T>(self, transport: T, early: Bytes, context: &Arc<ServerContext>)
    where
        T: Transport + 'static,
    {
        let Self { purpose, peer } = self;
        let session_context = Arc::clone(&context.session);
        let (mut session, admitted) = match purpose {
            Purpose::Serve { request, admitted, seen } => {
                if request.subscription.wire == Framing::EventStream {
                    find_dead_peer(&transport, &session_context.limits);
                }
                session_context.metrics.sessions_opened.inc();
                let listed = context.sessions.list(&seen);
                let mut session = Session::new(transport, session_context, request);
                session.show_in(seen);
                (session, Some((admitted, listed)))
            }
            Purpose::Refuse { cause, head } => {
                (Session::refused(transport, session_context, &cause, head), None)
            }
        };
        session.listen(&early);
        // It shares hyper's whole read buffer, 8 KiB.
        drop(early);
        let Peer { address, slot, place, .. } = peer;
        // It sees for itself that it does not last.
        place.stays();
        // One that is only told why it is refused is no session in any other limit.
        let place = admitted.is_none().then_some(place);
        context.spawn_session(Served { session, address, admitted, _places: (slot, place) });
    }
}

/// A session's task, with what it occupies until it has ended.
struct Served<T> {
    session: Session<T>,
    address: SocketAddr,
    /// None for one that is only told why it is refused.
    admitted: Option<(Admitted, SessionListing)>,
    _places: (Arc<Admitted>, Option<Arc<Place>>),
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
        debug!(peer = %self.address, reason = disconnect.name(), "session ended");
        Poll::Ready(())
    }
}

/// Nothing answers a heartbeat of an event stream but TCP: what is unacknowledged for as long as a
/// WebSocket client may be silent ends the connection.
fn find_dead_peer(transport: &impl Transport, limits: &config::ServerConfig) {
    transport.give_up_after(limits.ping_interval + limits.pong_timeout);
}
