//! Accepts connections, and finds out what is spoken on each before its first request: whether a balancer
//! says for whom it comes, whether TLS.
//!
//! A failing accept (no descriptors left) is waited out; it never ends the listener.

mod bound;

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tracing::{debug, warn};

use super::admission::Admission;
use super::answer::refusal_bytes;
use super::connection::{self, HEAD_PEACE, serve};
use super::context::ServerContext;
use super::peer::Peer;
use super::places::Places;
use super::proxy;
use super::proxy::header::{self, NotTaken};
use super::tls::{NoTls, Tls};
use crate::config;
use crate::metrics::HandshakeRefusal;
pub use bound::{Bound, CannotListen, Listeners};

/// Connections of one listener that are no sessions: scrapes, probes, handshakes under way.
pub const PLAIN_CONNECTIONS_MAX: usize = 1_024;
/// The same from one address, when there is a limit on its sessions.
const PLAIN_CONNECTIONS_PER_ADDRESS_MAX: usize = 16;
/// How long the next connection may wait for one of the others to end, to become a session or to give up
/// its place, and those behind it in the kernel: a crowd that comes at once is let in as fast as it is
/// answered.
const PLAIN_PLACE_WAIT: Duration = Duration::from_millis(200);
const ACCEPT_PAUSE_MIN: Duration = Duration::from_millis(10);
const ACCEPT_PAUSE_MAX: Duration = Duration::from_secs(1);

/// Accepts until the task is dropped; each connection gets a task on the server's tracker. With `tls`,
/// that is where it is spoken: a slow handshake keeps nobody from being accepted.
pub async fn accept(
    mut listeners: Listeners,
    context: Arc<ServerContext>,
    tls: Option<Arc<Tls>>,
    is_admin: bool,
) {
    let open = Arc::new(of_addresses(&context.session.limits, is_admin));
    let places = Arc::new(Places::new(PLAIN_CONNECTIONS_MAX));
    loop {
        let (stream, address) = accepted(|cx| listeners.poll_accept(cx)).await;
        let address = canonical(address);
        let refused = &context.session.metrics.handshakes_refused;
        let is_proxy = proxy::is_trusted(address.ip(), &context.session.limits.trusted_proxies);
        // No room even to say so; the client sees an end and comes back.
        let Ok(slot) = open.admit(Some(address.ip()).filter(|_| !is_proxy)) else {
            refused.add(HandshakeRefusal::Address);
            continue;
        };
        let Some(place) = places.take(PLAIN_PLACE_WAIT).await else {
            refused.add(HandshakeRefusal::Full);
            continue;
        };
        place.may_go_from(Instant::now() + HEAD_PEACE);
        let context_inside = Arc::clone(&context);
        // A block is one write: nothing is gained by waiting for more.
        let _ = stream.set_nodelay(true);
        let peer = Peer {
            address,
            local: stream.local_addr().ok().map(canonical),
            is_proxied: false,
            is_admin,
            is_tls: tls.is_some(),
            slot: Arc::new(slot),
            place: Arc::new(place),
        };
        // Three kinds of tasks, so that a plain one is no larger for the others.
        match &tls {
            _ if is_proxy => {
                let open = Arc::clone(&open);
                context.spawn(serve_proxied(
                    stream,
                    peer,
                    context_inside,
                    Proxied { tls: tls.clone(), open },
                ));
            }
            None => context.spawn(serve(stream, peer, context_inside)),
            Some(tls) => context.spawn(serve_tls(stream, peer, context_inside, Arc::clone(tls))),
        }
    }
}

/// What becomes of a trusted proxy's connection when it is known whose it is.
struct Proxied {
    tls: Option<Arc<Tls>>,
    /// The places of the client's own address.
    open: Arc<Admission>,
}

/// Serves a trusted proxy's connection, which may begin with a PROXY header.
async fn serve_proxied(
    mut stream: TcpStream,
    mut peer: Peer,
    context: Arc<ServerContext>,
    proxied: Proxied,
) {
    let limits = &context.session.limits;
    let refused = &context.session.metrics.handshakes_refused;
    let taken = tokio::select! {
        taken = timeout(limits.handshake_timeout, header::take(&mut stream)) => taken,
        () = context.closing.cancelled() => return,
        () = peer.place.asked() => return context.put_out(&peer),
    };
    match taken {
        Ok(Ok(None)) => {}
        Ok(Ok(Some(told))) => {
            peer.address = told.client;
            peer.local = Some(told.arrived_at);
            peer.is_tls |= told.is_tls;
            let is_proxy = proxy::is_trusted(told.client.ip(), &limits.trusted_proxies);
            let address = Some(told.client.ip()).filter(|_| !is_proxy);
            let Ok(slot) = proxied.open.admit(address) else {
                refused.add(HandshakeRefusal::Address);
                return;
            };
            peer.slot = Arc::new(slot);
        }
        Ok(Err(error @ NotTaken::Bad)) => {
            refused.add(HandshakeRefusal::BadRequest);
            debug!(peer = %peer.address, %error, "connection refused");
            let answer = refusal_bytes("400 Bad Request", header::MALFORMED, b"");
            connection::say(stream, answer).await;
            return;
        }
        Ok(Err(error)) => {
            debug!(peer = %peer.address, %error, "connection lost before its first request");
            return;
        }
        Err(_) => {
            let begun = timeout(Duration::ZERO, stream.peek(&mut [0])).await;
            // One on which nothing was said was refused nothing.
            if matches!(begun, Ok(Ok(1..))) {
                refused.add(HandshakeRefusal::TooSlow);
                let answer = refusal_bytes("408 Request Timeout", connection::TOO_SLOW, b"");
                connection::say(stream, answer).await;
            }
            return;
        }
    }
    match proxied.tls {
        None => Box::pin(serve(stream, peer, context)).await,
        Some(tls) => Box::pin(serve_tls(stream, peer, context, tls)).await,
    }
}

/// The next connection. What fails for want of descriptors is tried again after a pause, which grows.
async fn accepted<T>(mut poll_accept: impl FnMut(&mut Context<'_>) -> Poll<io::Result<T>>) -> T {
    let mut pause = ACCEPT_PAUSE_MIN;
    loop {
        match poll_fn(&mut poll_accept).await {
            Ok(accepted) => return accepted,
            Err(error) if is_of_one_connection(&error) => {
                debug!(%error, "connection lost before accept")
            }
            Err(error) => {
                if pause == ACCEPT_PAUSE_MIN {
                    warn!(%error, "cannot accept; trying again");
                }
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(ACCEPT_PAUSE_MAX);
            }
        }
    }
}

/// The connections of each address that may be open at once: sessions, and some plain ones beside them.
fn of_addresses(limits: &config::ServerConfig, is_admin: bool) -> Admission {
    let per_address_max = match limits.max_connections_per_address {
        0 => 0,
        _ if is_admin => 0,
        sessions_max => sessions_max.saturating_add(PLAIN_CONNECTIONS_PER_ADDRESS_MAX),
    };
    Admission::new(usize::MAX, per_address_max)
}

async fn serve_tls(stream: TcpStream, peer: Peer, context: Arc<ServerContext>, tls: Arc<Tls>) {
    let handshake = tls.accept(stream, context.session.limits.handshake_timeout);
    let accepted = tokio::select! {
        accepted = handshake => accepted,
        () = context.closing.cancelled() => return,
        () = peer.place.asked() => return context.put_out(&peer),
    };
    match accepted {
        // What the handshake took is given back before the connection's long part.
        Ok(transport) => Box::pin(serve(transport, peer, context)).await,
        Err(NoTls::Nothing) => {}
        Err(NoTls::ProxyHeader) => {
            context.session.metrics.handshakes_refused.add(HandshakeRefusal::BadRequest);
            context.tell_of_header(&peer);
        }
        Err(reason) => {
            context.session.metrics.handshakes_refused.add(HandshakeRefusal::Tls);
            debug!(peer = %peer.address, %reason, "no TLS");
        }
    }
}

/// Errors that `accept` reports of a connection that is gone already (accept(2)).
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
    )
}

/// An IPv4 address as what it is: on a socket of both families it comes in IPv6's clothes.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_accept_that_goes_on_failing_is_tried_ever_more_seldom_up_to_a_bound() {
        let began = Instant::now();
        let mut tried_at = Vec::new();
        let failures = |_: &mut Context<'_>| {
            tried_at.push(began.elapsed().as_millis());
            Poll::Ready(match tried_at.len() {
                // A connection that is gone says nothing of the next.
                3 => Err(io::ErrorKind::ConnectionAborted.into()),
                11.. => Ok(()),
                // accept(2): EMFILE.
                _ => Err(io::Error::from_raw_os_error(24)),
            })
        };
        accepted(failures).await;
        assert_eq!(tried_at, [0, 10, 30, 30, 70, 150, 310, 630, 1_270, 2_270, 3_270]);
    }
}
