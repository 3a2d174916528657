//! Accepts connections and speaks HTTP/1.1 on each until it ends or becomes a session.
//!
//! A failing accept (no descriptors left) is waited out; it never ends the listener.

use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tracing::{debug, warn};

use super::admission::Admission;
use super::answer::refusal_bytes;
use super::cors::Readers;
use super::handshake::{Opening, Outcome};
use super::origin::Origins;
use super::tls::{NoTls, Tls};
use super::transport::Transport;
use super::visit::Visit;
use super::{Door, proxy, route};
use crate::config;
use crate::metrics::Refusal;

/// Waiting to be accepted; the kernel caps it at `net.core.somaxconn`.
const BACKLOG: i32 = 4_096;
/// A request's head; hyper's least is 8 KiB. More is answered with 431.
const HEAD_BYTES_MAX: usize = 16 * 1_024;
/// Connections of one listener that are no sessions: scrapes, probes, handshakes under way.
pub const PLAIN_CONNECTIONS_MAX: usize = 1_024;
/// The same from one address, when there is a limit on its sessions.
const PLAIN_CONNECTIONS_PER_ADDRESS_MAX: usize = 16;
/// How long the next connection may wait for one of the others to end or to become a session, and those
/// behind it in the kernel: a crowd that comes at once is let in as fast as it is answered.
const PLAIN_PLACE_WAIT: Duration = Duration::from_millis(200);
/// How long a connection that is no session may last: one that never reads its answers would stay
/// for ever. A scraper connects again.
const PLAIN_CONNECTION_TIME: Duration = Duration::from_secs(60);
/// What is read behind a refused head, and for how long.
const REST_BYTES_MAX: usize = 1 << 20;
const REST_TIMEOUT: Duration = Duration::from_secs(2);
/// The kernel's buffer for what a client sends, which it doubles: without a bound it takes megabytes of
/// requests from one that reads no answers. Enough for some 5 Mbit/s at 100 ms.
const RECEIVE_BUFFER_BYTES: usize = 64 << 10;
const ACCEPT_PAUSE_MIN: Duration = Duration::from_millis(10);
const ACCEPT_PAUSE_MAX: Duration = Duration::from_secs(1);

/// Binds `address`, its connections with a kernel send buffer of `send_buffer_bytes` (0: the
/// system's own, which grows to megabytes).
pub fn bind(address: SocketAddr, send_buffer_bytes: usize) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.set_recv_buffer_size(RECEIVE_BUFFER_BYTES)?;
    if send_buffer_bytes > 0 {
        socket.set_send_buffer_size(send_buffer_bytes)?;
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Accepts until the task is dropped; each connection gets a task on the door's tracker. With `tls`,
/// that is where it is spoken: a slow handshake keeps nobody from being accepted.
pub async fn accept(listener: TcpListener, door: Arc<Door>, tls: Option<Arc<Tls>>, is_admin: bool) {
    let open = Arc::new(of_addresses(&door.around.limits, is_admin));
    let plain = Arc::new(Semaphore::new(PLAIN_CONNECTIONS_MAX));
    loop {
        let (stream, peer) = accepted(|cx| listener.poll_accept(cx)).await;
        let refused = &door.around.metrics.handshakes_refused;
        let is_proxy = proxy::is_trusted(peer.ip(), &door.around.limits.trusted_proxies);
        // No room even to say so; the client sees an end and comes back.
        let Ok(place) = open.admit(Some(peer.ip()).filter(|_| !is_proxy)) else {
            refused.add(Refusal::Address);
            continue;
        };
        let waiting = timeout(PLAIN_PLACE_WAIT, Arc::clone(&plain).acquire_owned());
        let Ok(Ok(plain_place)) = waiting.await else {
            refused.add(Refusal::Full);
            continue;
        };
        let door_inside = Arc::clone(&door);
        // A block is one write: nothing is gained by waiting for more.
        let _ = stream.set_nodelay(true);
        let visit = Visit {
            peer,
            local: stream.local_addr().ok(),
            is_proxied: false,
            is_admin,
            is_tls: tls.is_some(),
            place: Arc::new(place),
            plain_place: Arc::new(plain_place),
        };
        // Two kinds of tasks, so that a plain one is no larger for the other.
        match &tls {
            None => door.spawn(serve(stream, visit, door_inside)),
            Some(tls) => door.spawn(serve_tls(stream, visit, door_inside, Arc::clone(tls))),
        }
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
fn of_addresses(limits: &config::Server, is_admin: bool) -> Admission {
    let per_address_max = match limits.max_connections_per_address {
        0 => 0,
        _ if is_admin => 0,
        sessions_max => sessions_max.saturating_add(PLAIN_CONNECTIONS_PER_ADDRESS_MAX),
    };
    Admission::new(usize::MAX, per_address_max)
}

async fn serve_tls(stream: TcpStream, visit: Visit, door: Arc<Door>, tls: Arc<Tls>) {
    let handshake = tls.accept(stream, door.around.limits.handshake_timeout);
    let accepted = tokio::select! {
        accepted = handshake => accepted,
        () = door.closing.cancelled() => return,
    };
    match accepted {
        // What the handshake took is given back before the connection's long part.
        Ok(transport) => Box::pin(serve(transport, visit, door)).await,
        Err(NoTls::Nothing) => {}
        Err(reason) => {
            door.around.metrics.handshakes_refused.add(Refusal::Tls);
            debug!(peer = %visit.peer, %reason, "no TLS");
        }
    }
}

async fn serve<T: Transport + 'static>(stream: T, visit: Visit, door: Arc<Door>) {
    let peer = visit.peer;
    let handshake_timeout = door.around.limits.handshake_timeout;
    let closing = door.closing.clone();
    let opened = Opened::default();
    let has_answered = AtomicBool::new(false);
    let readers = Readers::unasked(Origins::new(&door.around.limits, &visit));
    let service = service_fn(|request| {
        let outcome = route::answer(&request, &door, visit.clone());
        let (opened, has_answered) = (&opened, &has_answered);
        async move {
            match outcome {
                Outcome::Answer(answer) => {
                    has_answered.store(true, Ordering::Relaxed);
                    Ok::<_, std::convert::Infallible>(answer)
                }
                Outcome::Open(opening) => {
                    opened.put(opening);
                    // HTTP never answers: the connection is taken from it.
                    std::future::pending().await
                }
            }
        }
    });
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(handshake_timeout)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service);
    // All answers before were written: a client that asks for a stream has read them.
    let mut served = poll_fn(|cx| {
        let ended = Pin::new(&mut connection).poll(cx);
        match opened.take() {
            Some(opening) => Poll::Ready(Ended::Opened(Box::new(opening))),
            None => ended.map(Ended::Http),
        }
    });
    let ended = tokio::select! {
        ended = &mut served => Some(ended),
        () = async {
            tokio::select! {
                () = closing.cancelled() => {}
                () = tokio::time::sleep(PLAIN_CONNECTION_TIME) => {}
            }
        } => None,
    };
    let ended = match ended {
        Some(ended) => Ok(ended),
        None => {
            Pin::new(&mut connection).graceful_shutdown();
            let rest = async { Ended::Http(Pin::new(&mut connection).await) };
            tokio::time::timeout(handshake_timeout, rest).await
        }
    };
    match ended {
        Ok(Ended::Opened(opening)) => {
            let parts = connection.into_parts();
            opening.begin(parts.io.into_inner(), parts.read_buf, &door);
        }
        Ok(Ended::Http(Ok(()))) => {}
        Ok(Ended::Http(Err(error))) => {
            debug!(%peer, %error, "HTTP connection ended");
            let parts = connection.into_parts();
            let stream = parts.io.into_inner();
            let refused = &door.around.metrics.handshakes_refused;
            if error.is_parse() {
                // HTTP has answered by itself, with a bare status; it has none for another protocol.
                let is_too_long = error.is_parse_too_large();
                refused.add(if is_too_long { Refusal::TooLong } else { Refusal::BadRequest });
                let _ = tokio::time::timeout(REST_TIMEOUT, read_out(stream)).await;
            // A connection on which nothing was asked, or nothing more, was refused nothing.
            } else if error.is_timeout() && !parts.read_buf.is_empty() {
                refused.add(Refusal::TooSlow);
                // The rest of an answer before may still be due: this would be taken for it.
                if !has_answered.load(Ordering::Relaxed) {
                    let _ = tokio::time::timeout(REST_TIMEOUT, say_too_slow(stream, readers)).await;
                }
            }
        }
        Err(_) => debug!(%peer, "HTTP connection cut: it did not read its answers"),
    }
}

/// Answers in the place of HTTP, which has no word for a head that does not come to its end.
async fn say_too_slow(mut stream: impl AsyncRead + AsyncWrite + Unpin, readers: Readers) {
    let message = "the request did not come in time (server.handshake_timeout)";
    let answer = refusal_bytes("408 Request Timeout", message, &readers.lines());
    let is_told = stream.write_all(&answer).await.is_ok();
    if is_told && stream.shutdown().await.is_ok() {
        read_out(stream).await;
    }
}

/// Reads what a client still sends that was refused in the middle of it: a close with bytes unread is a
/// reset, which takes the answer back.
async fn read_out(mut stream: impl AsyncRead + Unpin) {
    let mut bytes = [0; 4_096];
    let mut left = REST_BYTES_MAX;
    while let Ok(read @ 1..) = stream.read(&mut bytes).await {
        left = left.saturating_sub(read);
        if left == 0 {
            return;
        }
    }
}

/// From a connection's service to the task around it, which takes the connection back: one at most.
#[derive(Default)]
struct Opened(Mutex<Option<Opening>>);

impl Opened {
    fn put(&self, opening: Opening) {
        *self.lock() = Some(opening);
    }

    fn take(&self) -> Option<Opening> {
        self.lock().take()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Opening>> {
        self.0.lock().expect("bug: nothing panics while it holds this lock")
    }
}

/// How HTTP on a connection came to its end.
enum Ended {
    Opened(Box<Opening>),
    Http(hyper::Result<()>),
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

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::Instant;

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
