//! The queue of what goes to a client beside blocks: control frames, control messages, the close. Looks at
//! no block, and takes no memory while it is empty.

use std::collections::VecDeque;

use crate::protocol::Cause;

/// Pings that wait for their answers. Behind so many, only the newest one does: RFC 6455 section 5.5.3 allows
/// that. Each takes 125 bytes at most, and a client waits for so many only while its socket is full.
pub const PONGS_MAX: usize = 16;

const FIN_PING: u8 = 0x89;
pub(super) const FIN_PONG: u8 = 0x8a;

/// Most of the time nothing is in it.
#[derive(Debug)]
pub(super) struct ControlQueue(Option<Box<Queued>>);

#[derive(Debug, Default)]
struct Queued {
    /// Whole messages, and how much of them is written.
    bytes: Vec<u8>,
    written: usize,
    /// Payloads of pings that are not answered, oldest first.
    pongs: VecDeque<Vec<u8>>,
    ping: bool,
    /// Since data last went out: another waits for more of that.
    has_ponged: bool,
    close: Close,
}

/// What goes out last.
#[derive(Debug, PartialEq, Eq)]
pub enum Ending {
    /// Why it ends, and where the client goes on: its place when this goes out.
    Cause(Cause),
    Bytes(Vec<u8>),
}

/// How far the server's own end of the stream is.
#[derive(Debug, PartialEq, Eq, Default)]
enum Close {
    #[default]
    None,
    SessionRequest(Ending),
    /// Among the bytes; nothing goes after it.
    Under,
    Written,
}

impl ControlQueue {
    pub fn of(bytes: Vec<u8>) -> Self {
        let queued = (!bytes.is_empty()).then(|| Box::new(Queued { bytes, ..Queued::default() }));
        Self(queued)
    }

    /// Whether anything waits, but for an end that is only wanted.
    pub fn is_waiting(&self) -> bool {
        self.0.as_ref().is_some_and(|queued| {
            !queued.bytes.is_empty() || !queued.pongs.is_empty() || queued.ping
        })
    }

    /// Whether it is partly written.
    pub fn is_under_way(&self) -> bool {
        self.0.as_ref().is_some_and(|queued| queued.written > 0)
    }

    /// What goes out next of that which was [collected](Self::collect).
    pub fn bytes(&self) -> &[u8] {
        self.0.as_ref().map_or(&[], |queued| &queued.bytes[queued.written..])
    }

    pub fn is_closing(&self) -> bool {
        self.0.as_ref().is_some_and(|queued| queued.close != Close::None)
    }

    pub fn is_close_written(&self) -> bool {
        self.0.as_ref().is_some_and(|queued| queued.close == Close::Written)
    }

    pub fn pong(&mut self, payload: Vec<u8>) {
        let pongs = &mut self.queued().pongs;
        pongs.truncate(PONGS_MAX - 1);
        pongs.push_back(payload);
    }

    pub fn ping(&mut self) {
        self.queued().ping = true;
    }

    /// Bytes that are a message already; not behind the end.
    pub fn put(&mut self, mut message: Vec<u8>) {
        if !self.is_closing() {
            self.queued().bytes.append(&mut message);
        }
    }

    /// Only the first end counts.
    pub fn close(&mut self, ending: Ending) {
        let queued = self.queued();
        if queued.close == Close::None {
            queued.close = Close::SessionRequest(ending);
        }
    }

    /// Moves pongs and ping among the bytes when these are written. Yields the end when
    /// its turn has come: what it is in bytes must be [put last](Self::put_last).
    pub fn collect(&mut self, has_data: bool, is_at_message_end: bool) -> Option<Ending> {
        let queued = self.0.as_mut()?;
        if !queued.bytes.is_empty() || matches!(queued.close, Close::Under | Close::Written) {
            return None;
        }
        // A client that pings all the time gets its blocks all the same.
        let may_pong = !(queued.has_ponged && has_data) || queued.close != Close::None;
        if may_pong && !queued.pongs.is_empty() {
            queued.has_ponged = true;
            for payload in std::mem::take(&mut queued.pongs) {
                queued.bytes.extend([FIN_PONG, payload.len() as u8]);
                queued.bytes.extend(payload);
            }
        }
        if std::mem::take(&mut queued.ping) {
            queued.bytes.extend([FIN_PING, 0]);
        }
        // Not before the message under way has ended: it counts for where the client goes on.
        if !is_at_message_end || !matches!(queued.close, Close::SessionRequest(_)) {
            return None;
        }
        match std::mem::replace(&mut queued.close, Close::Under) {
            Close::SessionRequest(ending) => Some(ending),
            _ => None,
        }
    }

    pub fn put_last(&mut self, mut bytes: Vec<u8>) {
        self.queued().bytes.append(&mut bytes);
    }

    /// Takes note that so much of the bytes went out.
    pub fn advance(&mut self, written: usize) {
        let Some(queued) = &mut self.0 else { return };
        queued.written += written;
        if queued.written < queued.bytes.len() {
            return;
        }
        queued.bytes = Vec::new();
        queued.written = 0;
        if queued.close == Close::Under {
            queued.close = Close::Written;
        }
        self.let_go();
    }

    /// Takes note that data went out.
    pub fn passed_data(&mut self) {
        if let Some(queued) = &mut self.0 {
            queued.has_ponged = false;
            self.let_go();
        }
    }

    fn queued(&mut self) -> &mut Queued {
        self.0.get_or_insert_default()
    }

    fn let_go(&mut self) {
        self.0.take_if(|queued| {
            let is_queued = !queued.bytes.is_empty() || !queued.pongs.is_empty() || queued.ping;
            !is_queued && !queued.has_ponged && queued.close == Close::None
        });
    }
}
