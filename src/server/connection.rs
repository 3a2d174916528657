//! HTTP/1.1 on one connection, until it ends or becomes a session.

mod spoken;

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;
use tracing::debug;

use super::answer::{Answer, refusal_bytes};
use super::context::ServerContext;
use super::cors::Readers;
use super::handshake::{HandshakeOutcome, Opening};
use super::origin::Origins;
use super::peer::Peer;
use super::proxy::header;
use super::route;
use crate::metrics::HandshakeRefusal;
use crate::session::Transport;
use spoken::Spoken;

/// The answer to what has begun and does not come to its end.
pub const TOO_SLOW: &str = "the request did not come in time (server.handshake_timeout)";
/// Of a request's head; proxies and single sign-on add some dozen.
const HEAD_LINES_MAX: usize = 256;
/// How long a connection that is no session may last: one that never reads its answers would stay
/// for ever. A scraper connects again.
const PLAIN_CONNECTION_TIME: Duration = Duration::from_secs(60);
/// What is read behind a refused head, and for how long.
const REST_BYTES_MAX: usize = 1 << 20;
const REST_TIMEOUT: Duration = Duration::from_secs(2);
const URI_TOO_LONG: u16 = 414;
const HEAD_TOO_LARGE: u16 = 431;

pub async fn serve<T: Transport + 'static>(stream: T, peer: Peer, context: Arc<ServerContext>) {
    let address = peer.address;
    let handshake_timeout = context.session.limits.handshake_timeout;
    let head_bytes_max =
        usize::try_from(context.session.limits.head_max_bytes.as_u64()).unwrap_or(usize::MAX);
    let closing = context.closing.clone();
    let opened = Opened::default();
    let has_answered = AtomicBool::new(false);
    let service = service_fn(|request| {
        let outcome = route::answer(&request, &context, peer.clone());
        answered(outcome, &opened, &has_answered)
    });
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(handshake_timeout)
        .max_buf_size(head_bytes_max)
        // A buffer may take in more than its bound at once.
        .max_header_size(head_bytes_max)
        .max_headers(HEAD_LINES_MAX)
        .serve_connection(TokioIo::new(Spoken::new(stream)), service);
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
            timeout(handshake_timeout, rest).await
        }
    };
    match ended {
        Ok(Ended::Opened(opening)) => {
            let parts = connection.into_parts();
            opening.begin(parts.io.into_inner().into_transport(), parts.read_buf, &context);
        }
        Ok(Ended::Http(Ok(()))) => {}
        Ok(Ended::Http(Err(error))) => {
            debug!(peer = %address, %error, "HTTP connection ended");
            let parts = connection.into_parts();
            let failed = Failed {
                spoken: parts.io.into_inner(),
                read: parts.read_buf,
                has_answered: has_answered.load(Ordering::Relaxed),
            };
            failed.answer(&error, &peer, &context).await;
        }
        Err(_) => debug!(peer = %address, "HTTP connection cut: it did not read its answers"),
    }
}

/// What HTTP is given to send. It is given nothing when a session opens: the connection is taken from it.
async fn answered(
    outcome: HandshakeOutcome,
    opened: &Opened,
    has_answered: &AtomicBool,
) -> Result<Answer, Infallible> {
    match outcome {
        HandshakeOutcome::Answer(answer) => {
            has_answered.store(true, Ordering::Relaxed);
            Ok(answer)
        }
        HandshakeOutcome::Open(opening) => {
            opened.put(opening);
            std::future::pending().await
        }
    }
}

/// Answers in the place of HTTP, and reads what still comes so that the answer arrives.
pub async fn say(mut stream: impl AsyncRead + AsyncWrite + Unpin, answer: Vec<u8>) {
    let saying = async {
        let is_told = stream.write_all(&answer).await.is_ok();
        if is_told && stream.shutdown().await.is_ok() {
            read_out(stream).await;
        }
    };
    let _ = timeout(REST_TIMEOUT, saying).await;
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

/// A connection on which HTTP ended with an error.
struct Failed<T> {
    spoken: Spoken<T>,
    /// Bytes of the request that HTTP could not make sense of.
    read: Bytes,
    /// Set when a request before it was answered.
    has_answered: bool,
}

impl<T: Transport> Failed<T> {
    async fn answer(self, error: &hyper::Error, peer: &Peer, context: &ServerContext) {
        let refused = &context.session.metrics.handshakes_refused;
        if error.is_parse() {
            // HTTP has an answer of its own, a bare status; it has none for another protocol.
            let is_too_long = error.is_parse_too_large();
            refused.add(if is_too_long {
                HandshakeRefusal::TooLong
            } else {
                HandshakeRefusal::BadRequest
            });
            self.answer_unreadable(error, peer, context).await;
        // A connection on which nothing was asked, or nothing more, was refused nothing.
        } else if error.is_timeout() && !self.read.is_empty() {
            refused.add(HandshakeRefusal::TooSlow);
            // The rest of an answer before may still be due: this would be taken for it.
            if !self.has_answered {
                self.refuse(("408 Request Timeout", TOO_SLOW), peer, context).await;
            }
        }
    }

    async fn answer_unreadable(self, error: &hyper::Error, peer: &Peer, context: &ServerContext) {
        if header::is_begun(&self.read) {
            context.tell_of_header(peer);
            return self.refuse(("400 Bad Request", header::NOT_TRUSTED), peer, context).await;
        }
        let message;
        let refusal = match self.spoken.kept_back() {
            Some(URI_TOO_LONG) => ("414 URI Too Long", "this URL is too long: 8 KiB are read"),
            Some(HEAD_TOO_LARGE) => {
                message = format!(
                    "this request's head is too large: {HEAD_LINES_MAX} lines and {} are \
                     read (server.head_max_bytes); mostly cookies or a proxy's headers make it so",
                    context.session.limits.head_max_bytes
                );
                ("431 Request Header Fields Too Large", &*message)
            }
            Some(_) => {
                message = format!("this cannot be read as HTTP/1.1: {error}");
                ("400 Bad Request", &*message)
            }
            None => {
                let _ = timeout(REST_TIMEOUT, read_out(self.spoken.into_transport())).await;
                return;
            }
        };
        self.refuse(refusal, peer, context).await;
    }

    async fn refuse(self, (status, message): (&str, &str), peer: &Peer, context: &ServerContext) {
        let readers = Readers::unasked(Origins::new(&context.session.limits, peer));
        let answer = refusal_bytes(status, message, &readers.lines());
        say(self.spoken.into_transport(), answer).await;
    }
}
