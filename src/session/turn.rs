//! One client: a cursor on the history, a socket, and a clock. It ends in exactly one
//! [`Disconnect`], which is counted.
//!
//! Nothing is queued here. Blocks are borrowed from the history for the length of one write and let
//! go, so that a client which stops reading keeps no block alive. Never waits on another session.

mod announcing;
mod clock;
mod half_closed;
mod writing;

use std::hint::black_box;
use std::mem::MaybeUninit;
use std::net::{IpAddr, Ipv4Addr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::ReadBuf;
use tokio::task::coop;
use tokio::time::{Instant, Sleep};

use super::close;
use super::inbound::{Fault, Heard, Inbound};
use super::liveness::Liveness;
use super::pass::Pass;
use super::sessions::SessionStatus;
use super::source::BlockSource;
use super::subscription::{Part, Subscription};
use super::transport::Transport;
use super::view::Selection;
use super::writer::{Ending, Writer};
use crate::config;
use crate::frame::Framing;
use crate::history::History;
use crate::metrics::{Disconnect, Metrics};
use crate::protocol::{Cause, Start, Stream};
use crate::shutdown::Drain;
use crate::tickets::{Claim, Tickets};

/// What a client sends is small and rare; this much is read at a time, on the stack.
const READ_BYTES: usize = 1_024;
/// Of tokio's 128 operations per turn, so that some are left for writing and waiting.
const TURN_READS_MAX: usize = 16;
/// From the decision to close until the socket is dropped, whatever the client does.
pub const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// What every session looks at.
pub struct SessionContext {
    pub limits: config::ServerConfig,
    pub history: Arc<History>,
    pub tickets: Arc<Tickets>,
    pub metrics: Arc<Metrics>,
    pub drain: Arc<Drain>,
}

/// What a client asked for, and what it is answered first.
pub struct SessionRequest {
    pub subscription: Subscription,
    /// The last block wanted.
    pub until_height: Option<u64>,
    /// Data messages wanted at most.
    pub messages_max: Option<u64>,
    pub start: Start,
    /// Where to begin when that is not to be had.
    pub fallback: Option<Start>,
    /// What lets the client in; none where nobody is asked.
    pub pass: Option<Pass>,
    /// Where it comes from, as limits per address count it.
    pub network: IpAddr,
    pub head: Head,
}

/// The first that goes out.
pub enum Head {
    /// At once: a refusal can still be told behind it.
    Now(Vec<u8>),
    /// When the client's first block is found; otherwise it is refused with a status.
    WhenBegun(Box<StreamHead>),
}

/// The head of an event stream's answer.
pub struct StreamHead {
    pub bytes: Vec<u8>,
    /// Header lines of it that a refusal in its place has, too.
    pub common_lines: Vec<u8>,
    /// Writes that refusal.
    pub refuse: Refuse,
}

/// An answer, whole, to a request for a stream that cannot begin: from why, the position that the request
/// named, and the header lines that all answers to it have.
pub type Refuse = fn(&Cause, &Start, &[u8]) -> Vec<u8>;

/// What every block touches comes first, and together: when a block comes to thousands, no cache has
/// any of it, and each line that is fetched costs as much as a hundred instructions.
#[repr(C)]
pub struct Session<T> {
    context: Arc<SessionContext>,
    source: BlockSource,
    writer: Writer,
    /// None for a subscription that needs none.
    selection: Option<Box<Selection>>,
    /// Where others see how far it is.
    status: Option<Arc<SessionStatus>>,
    pass: Option<Pass>,
    began_at: Instant,
    /// Whether the timer wakes this task when [`Liveness`] is due.
    is_timer_set: bool,
    /// Whether the transport wakes this task when it may be read.
    is_read_set: bool,
    is_write_shut: bool,
    /// Set when the client says nothing more, though it may still read.
    is_read_shut: bool,
    liveness: Liveness,
    transport: T,
    timer: Pin<Box<Sleep>>,
    /// None for Server-Sent Events: what such a client sends has no meaning.
    inbound: Option<Inbound>,
    /// See [`Head::WhenBegun`].
    head: Option<Box<StreamHead>>,
    /// Whether the client named a place to begin at.
    is_resumed: bool,
    /// Until when it is not known whether a client that says nothing more is still there.
    doubted_until: Option<Instant>,
    /// When the drain closes it.
    drained_at: Option<Instant>,
    /// Set with the close frame; its end is the session's.
    closing: Option<Closing>,
}

#[derive(Debug, Clone, Copy)]
struct Closing {
    disconnect: Disconnect,
    until: Instant,
}

/// How reading ended.
enum Read {
    /// A turn's reads are used up.
    More,
    Ended(Disconnect),
}

/// Why a turn ended.
enum Turn {
    /// Its portion is used up; there is more.
    More,
    /// The socket, the history or the clock comes next.
    Waits,
    Ended(Disconnect),
}

impl<T: Transport> Session<T> {
    pub fn new(transport: T, context: Arc<SessionContext>, wanted: SessionRequest) -> Self {
        let now = Instant::now();
        let SessionRequest {
            subscription,
            until_height,
            messages_max,
            start,
            fallback,
            pass,
            network,
            head,
        } = wanted;
        let inbound = (subscription.wire == Framing::WebSocket).then(|| {
            let message_bytes_max = context.limits.max_message_bytes.as_u64();
            Inbound::new(message_bytes_max, subscription.is_compressed)
        });
        let part = Part { first_event: 0, is_limited: messages_max.is_some() };
        let required = subscription.required_encodings(part);
        let (head_now, head) = match head {
            Head::Now(head) => (head, None),
            Head::WhenBegun(head) => (Vec::new(), Some(head)),
        };
        let (history, tickets) = (Arc::clone(&context.history), Arc::clone(&context.tickets));
        let is_resumed = start != Start::Live;
        let has_selection = subscription.has_selection();
        let tickets = (tickets, Claim::of(network));
        let mut source = BlockSource::new(history, tickets, required, until_height);
        source.look_for(start, fallback);
        let mut session = Self {
            context,
            source,
            writer: Writer::new(subscription, messages_max, head_now),
            selection: has_selection.then(Box::default),
            status: None,
            pass,
            began_at: now,
            is_timer_set: false,
            is_read_set: false,
            is_write_shut: false,
            is_read_shut: false,
            liveness: Liveness::new(now),
            transport,
            timer: Box::pin(tokio::time::sleep_until(now)),
            inbound,
            head,
            is_resumed,
            doubted_until: None,
            drained_at: None,
            closing: None,
        };
        // Now, before the client is told that it is connected: from then on it misses nothing.
        session.begin(now);
        session
    }

    /// A session that is only opened to tell why it is refused.
    pub fn refused(
        transport: T,
        context: Arc<SessionContext>,
        cause: &Cause,
        head: Vec<u8>,
    ) -> Self {
        let wanted = SessionRequest {
            subscription: Subscription::plain(Stream::Transactions),
            until_height: None,
            messages_max: None,
            start: Start::Live,
            fallback: None,
            pass: None,
            // It asks for no block.
            network: Ipv4Addr::UNSPECIFIED.into(),
            head: Head::Now(head),
        };
        let mut session = Self::new(transport, context, wanted);
        session.close(cause);
        session
    }

    /// Shows in `seen` how far it is, from now on.
    pub fn show_in(&mut self, seen: Arc<SessionStatus>) {
        self.status = Some(seen);
    }

    pub fn metrics(&self) -> &Metrics {
        &self.context.metrics
    }

    /// One turn: what the client sent, the clock, what there is for it; then it waits for any of these.
    fn poll_run(&mut self, cx: &mut Context<'_>) -> Poll<Disconnect> {
        self.fetch();
        loop {
            // First: what comes after the look wakes this task again.
            if self.source.wake_when_moved(cx) {
                (self.is_timer_set, self.is_read_set) = (false, false);
            }
            let turn = self.turn(cx);
            if let Some(seen) = self.status.as_ref().filter(|_| !self.source.is_looking()) {
                seen.set_next_height(self.source.cursor().next_height());
            }
            match turn {
                Turn::Ended(disconnect) => return Poll::Ready(disconnect),
                Turn::More => {
                    // Behind whoever else has something to do.
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Turn::Waits if self.source.has_changed_origin() => continue,
                Turn::Waits => {}
            }
            if self.is_timer_set {
                return Poll::Pending;
            }
            self.timer.as_mut().reset(self.liveness.due_at());
            // Without budget the timer only has this task polled again.
            self.is_timer_set = coop::has_budget_remaining();
            ready!(self.timer.as_mut().poll(cx));
            self.is_timer_set = false;
        }
    }

    /// Asks for the memory of a turn all at once, where one line after the other would be waited for.
    fn fetch(&self) {
        let seen = self.status.as_ref().map(|seen| seen.next_height());
        let own =
            (self.source.cursor().next(), self.liveness.due_at(), self.began_at, self.is_read_set);
        black_box((own, seen, self.transport.may_be_read()));
    }

    /// Reads what there is, does what is due, then writes what goes.
    fn turn(&mut self, cx: &mut Context<'_>) -> Turn {
        let read = self.poll_read(cx);
        if let Poll::Ready(Read::Ended(disconnect)) = read {
            if self.writer.is_closing() {
                // A client that closed and shut its side at once may still read our answer.
                let _ = self.poll_write(cx);
            }
            return Turn::Ended(disconnect);
        }
        // Not before reading: a pong may lie in the socket since before this process stood still.
        let now = Instant::now();
        if self.is_due(now)
            && let Some(disconnect) = self.look_at_clock(now)
        {
            return Turn::Ended(disconnect);
        }
        match self.poll_write(cx) {
            Poll::Ready(Err(disconnect)) => Turn::Ended(disconnect),
            _ if self.is_read_shut && self.is_write_shut => Turn::Ended(self.ended_by_client()),
            Poll::Ready(Ok(())) => Turn::More,
            Poll::Pending if read.is_ready() => Turn::More,
            Poll::Pending => Turn::Waits,
        }
    }

    /// Reads what there is, up to a turn's bound: a client that never stops sending must not keep
    /// the clock, the writes and tokio's budget for them from their turn.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Read> {
        if self.is_read_set && !self.transport.may_be_read() {
            return Poll::Pending;
        }
        self.is_read_set = false;
        for _ in 0..TURN_READS_MAX {
            let mut bytes = [MaybeUninit::uninit(); READ_BYTES];
            let mut buffer = ReadBuf::uninit(&mut bytes);
            let read = Pin::new(&mut self.transport).poll_read(cx, &mut buffer);
            // Without budget it only has this task polled again.
            self.is_read_set = read.is_pending() && coop::has_budget_remaining();
            match ready!(read) {
                Ok(()) if buffer.filled().is_empty() => return self.read_end().map(Read::Ended),
                Ok(()) => self.listen(buffer.filled()),
                Err(_) => return Poll::Ready(Read::Ended(self.lost())),
            }
        }
        Poll::Ready(Read::More)
    }

    /// Takes bytes that the client sent; also those that came with its handshake.
    pub fn listen(&mut self, mut bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        self.liveness.hear(Instant::now());
        while self.closing.is_none() {
            let Some(inbound) = &mut self.inbound else { return };
            match inbound.next(&mut bytes) {
                Ok(None) => return,
                Ok(Some(Heard::Pong)) => {}
                Ok(Some(Heard::Ping(payload))) => self.writer.pong(payload),
                Ok(Some(Heard::Close(code))) => {
                    let ending = Ending::Bytes(close::echo_frame(code));
                    self.begin_close(ending, close::by_client(code));
                }
                Err(Fault::Protocol(fault)) => self.close(&Cause::Protocol(fault.into())),
                Err(Fault::NotUtf8) => self.close(&Cause::NotUtf8),
                Err(Fault::TooBig) => self.close(&Cause::TooBig),
            }
        }
    }

    /// Where this client would go on.
    fn position(&self) -> Start {
        self.source.cursor().position(self.writer.told())
    }

    /// The client's end of stream: the answer to our close, or its own end without one.
    fn ended_by_client(&self) -> Disconnect {
        self.closing.map_or(Disconnect::Client, |closing| closing.disconnect)
    }

    fn lost(&self) -> Disconnect {
        let unsaid = if self.is_read_shut { Disconnect::Client } else { Disconnect::Lost };
        self.closing.map_or(unsaid, |closing| closing.disconnect)
    }
}

/// Serves the client until one side ends it.
impl<T: Transport> Future for Session<T> {
    type Output = Disconnect;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Disconnect> {
        self.poll_run(cx)
    }
}

#[cfg(test)]
mod tests;
