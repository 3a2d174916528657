//! HTTP/1.1 on one connection, until it ends or becomes a session.

mod course;
mod spoken;

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use hyper::Response;
use hyper::header::{self, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;
use tracing::debug;

use super::answer::{AnswerBody, refusal_bytes};
use super::context::ServerContext;
use super::cors::Readers;
use super::handshake::{HandshakeOutcome, Opening};
use super::origin::Origins;
use super::peer::Peer;
use super::{proxy, route};
use crate::metrics::HandshakeRefusal;
use crate::readiness;
use crate::session::Transport;
pub use course::HEAD_PEACE;
use course::{Course, Given, Over, Phase};
use spoken::Spoken;

/// The answer to what has begun and does not come to its end.
pub const TOO_SLOW: &str = "the request did not come in time (server.handshake_timeout)";
/// Of a request's head; proxies and single sign-on add some dozen.
const HEAD_LINES_MAX: usize = 256;
/// What is read behind a refused head, and for how long.
const REST_BYTES_MAX: usize = 1 << 20;
const REST_TIMEOUT: Duration = Duration::from_secs(2);
const URI_TOO_LONG: u16 = 414;
const HEAD_TOO_LARGE: u16 = 431;

pub async fn serve<T: Transport + 'static>(stream: T, peer: Peer, context: Arc<ServerContext>) {
    let limits = &context.session.limits;
    let head_bytes_max = usize::try_from(limits.head_max_bytes.as_u64()).unwrap_or(usize::MAX);
    let course = Arc::new(Course::new(Arc::clone(&peer.place), limits.handshake_timeout));
    let opened = Opened::default();
    let service = service_fn(|request| {
        course.begin_answer();
        let outcome = route::answer(&request, &context, peer.clone());
        answered(outcome, &opened, &course, is_last(&peer, &context))
    });
    let mut connection = http1::Builder::new()
        // Behind a client's last request its answer is still wanted.
        .half_close(true)
        // What a connection may be at, and for how long, its course knows.
        .header_read_timeout(None)
        .max_buf_size(head_bytes_max)
        // A buffer may take in more than its bound at once.
        .max_header_size(head_bytes_max)
        .max_headers(HEAD_LINES_MAX)
        .serve_connection(TokioIo::new(Spoken::new(stream, Arc::clone(&course))), service);
    let mut ended = end_of(&mut connection, &course, &opened, &context).await;
    if let Ended::Over(Over::PutOut(_)) = ended {
        context.put_out(&peer);
    }
    if ended.is_calm() {
        Pin::new(&mut connection).graceful_shutdown();
        let rest = timeout(limits.handshake_timeout, Pin::new(&mut connection)).await;
        ended = rest.map_or(Ended::Cut, Ended::Http);
    }
    let error = match ended {
        Ended::Opened(opening) => {
            let parts = connection.into_parts();
            let transport = parts.io.into_inner().into_transport();
            return opening.begin(transport, parts.read_buf, &context);
        }
        Ended::Http(Err(error)) => Some(error),
        Ended::Over(Over::Late(_)) => None,
        Ended::Http(Ok(())) | Ended::Over(Over::PutOut(_)) => return,
        Ended::Closing | Ended::Cut => {
            return debug!(peer = %peer.address, "HTTP connection cut: it did not read its answers");
        }
    };
    let parts = connection.into_parts();
    let failed = Failed {
        spoken: parts.io.into_inner(),
        read: parts.read_buf,
        has_answered: course.has_answered(),
    };
    tokio::select! {
        () = failed.answer(error.as_ref(), &peer, &context) => {}
        () = peer.place.asked() => context.put_out(&peer),
    }
}

/// Serves HTTP until its end, or until somebody ends it.
async fn end_of(
    connection: &mut (impl Future<Output = hyper::Result<()>> + Unpin),
    course: &Course,
    opened: &Opened,
    context: &ServerContext,
) -> Ended {
    let mut closing = pin!(context.closing.cancelled());
    let mut phase = course.phase();
    let mut over = pin!(course.over());
    poll_fn(|cx| {
        let ended = Pin::new(&mut *connection).poll(cx);
        // All answers before were written: a client that asks for a stream has read them.
        if let Some(opening) = opened.take() {
            return Poll::Ready(Ended::Opened(Box::new(opening)));
        }
        if let Poll::Ready(ended) = ended {
            return Poll::Ready(Ended::Http(ended));
        }
        if course.phase() != phase {
            phase = course.phase();
            over.set(course.over());
        }
        match closing.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Ended::Closing),
            Poll::Pending => over.as_mut().poll(cx).map(Ended::Over),
        }
    })
    .await
}

/// What HTTP is given to send. It is given nothing when a session opens: the connection is taken from it.
async fn answered(
    outcome: HandshakeOutcome,
    opened: &Opened,
    course: &Arc<Course>,
    is_last: bool,
) -> Result<Response<Given<AnswerBody>>, Infallible> {
    match outcome {
        HandshakeOutcome::Answer(mut answer) => {
            if is_last {
                answer.headers_mut().append(header::CONNECTION, HeaderValue::from_static("close"));
            }
            Ok(answer.map(|body| course.give(body)))
        }
        HandshakeOutcome::Open(opening) => {
            opened.put(opening);
            std::future::pending().await
        }
    }
}

/// Whether a connection ends behind the answer that is given now, which says so: others need its place, or
/// the replica goes.
fn is_last(peer: &Peer, context: &ServerContext) -> bool {
    peer.place.is_wanted()
        || peer.slot.is_crowded()
        || context.readiness.state() == readiness::State::Draining
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

/// How a connection's time as one of HTTP came to its end.
enum Ended {
    Opened(Box<Opening>),
    Http(hyper::Result<()>),
    Over(Over),
    /// Of all connections.
    Closing,
    /// Its last answer was not read in time.
    Cut,
}

impl Ended {
    /// Whether what is under way on the connection still comes to its end.
    fn is_calm(&self) -> bool {
        match self {
            Self::Closing => true,
            Self::Over(Over::Late(phase)) => *phase != Phase::Head,
            // In the middle of what takes long, nobody waits for the rest of it.
            Self::Over(Over::PutOut(phase)) => matches!(phase, Phase::Unasked | Phase::Idle),
            Self::Opened(_) | Self::Http(_) | Self::Cut => false,
        }
    }
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
    /// Says what was wrong, if there was a request. Without an error it is not whole in time.
    async fn answer(self, error: Option<&hyper::Error>, peer: &Peer, context: &ServerContext) {
        let refused = &context.session.metrics.handshakes_refused;
        match error {
            None => {
                refused.add(HandshakeRefusal::TooSlow);
                // The rest of an answer before may still be due: this would be taken for it.
                if !self.has_answered {
                    self.refuse(("408 Request Timeout", TOO_SLOW), peer, context).await;
                }
            }
            Some(error) if error.is_parse() => {
                // HTTP has an answer of its own, a bare status; it has none for another protocol.
                refused.add(match error.is_parse_too_large() {
                    true => HandshakeRefusal::TooLong,
                    false => HandshakeRefusal::BadRequest,
                });
                self.answer_unreadable(error, peer, context).await;
            }
            Some(_) => {}
        }
    }

    async fn answer_unreadable(self, error: &hyper::Error, peer: &Peer, context: &ServerContext) {
        if proxy::header::is_begun(&self.read) {
            context.tell_of_header(peer);
            return self
                .refuse(("400 Bad Request", proxy::header::NOT_TRUSTED), peer, context)
                .await;
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

#[cfg(test)]
mod tests;
