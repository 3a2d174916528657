//! What a session owes its client beside blocks, in the order in which it goes out: control frames,
//! control messages, the end. Looks at no block, and has no room of its own while nothing is owed.

use super::Ending;

const FIN_PING: u8 = 0x89;
pub(super) const FIN_PONG: u8 = 0x8a;

/// Messages of a session's own; most of the time there are none.
#[derive(Debug)]
pub(super) struct Own(Option<Box<Owed>>);

#[derive(Debug, Default)]
struct Owed {
    /// Whole messages, and how much of them is written.
    bytes: Vec<u8>,
    written: usize,
    /// The newest ping's payload that is not answered: RFC 6455 section 5.5.3 wants no more.
    pong: Option<Vec<u8>>,
    ping: bool,
    /// Since data last went out: another waits for more of that.
    has_ponged: bool,
    close: Close,
}

/// How far the server's own end of the stream is.
#[derive(Debug, PartialEq, Eq, Default)]
enum Close {
    #[default]
    None,
    Wanted(Ending),
    /// Among the bytes; nothing goes after it.
    Under,
    Written,
}

impl Own {
    pub fn of(bytes: Vec<u8>) -> Self {
        let owed = (!bytes.is_empty()).then(|| Box::new(Owed { bytes, ..Owed::default() }));
        Self(owed)
    }

    /// Whether anything waits, but for an end that is only wanted.
    pub fn is_waiting(&self) -> bool {
        self.0
            .as_ref()
            .is_some_and(|owed| !owed.bytes.is_empty() || owed.pong.is_some() || owed.ping)
    }

    /// Whether it is partly written.
    pub fn is_under_way(&self) -> bool {
        self.0.as_ref().is_some_and(|owed| owed.written > 0)
    }

    /// What goes out next of that which was [collected](Self::collect).
    pub fn bytes(&self) -> &[u8] {
        self.0.as_ref().map_or(&[], |owed| &owed.bytes[owed.written..])
    }

    pub fn is_closing(&self) -> bool {
        self.0.as_ref().is_some_and(|owed| owed.close != Close::None)
    }

    pub fn is_close_written(&self) -> bool {
        self.0.as_ref().is_some_and(|owed| owed.close == Close::Written)
    }

    pub fn pong(&mut self, payload: Vec<u8>) {
        self.owed().pong = Some(payload);
    }

    pub fn ping(&mut self) {
        self.owed().ping = true;
    }

    /// Bytes that are a message already; not behind the end.
    pub fn put(&mut self, mut message: Vec<u8>) {
        if !self.is_closing() {
            self.owed().bytes.append(&mut message);
        }
    }

    /// Only the first end counts.
    pub fn close(&mut self, ending: Ending) {
        let owed = self.owed();
        if owed.close == Close::None {
            owed.close = Close::Wanted(ending);
        }
    }

    /// Moves what is owed to the protocol among the bytes when these are written. Yields the end when
    /// its turn has come: what it is in bytes must be [put last](Self::put_last).
    pub fn collect(&mut self, has_data: bool, is_at_message_end: bool) -> Option<Ending> {
        let owed = self.0.as_mut()?;
        if !owed.bytes.is_empty() || matches!(owed.close, Close::Under | Close::Written) {
            return None;
        }
        // A client that pings all the time gets its blocks all the same.
        let may_pong = !(owed.has_ponged && has_data) || owed.close != Close::None;
        if let Some(payload) = owed.pong.take_if(|_| may_pong) {
            owed.has_ponged = true;
            owed.bytes.extend([FIN_PONG, payload.len() as u8]);
            owed.bytes.extend(payload);
        }
        if std::mem::take(&mut owed.ping) {
            owed.bytes.extend([FIN_PING, 0]);
        }
        // Not before the message under way has ended: it counts for where the client goes on.
        if !is_at_message_end || !matches!(owed.close, Close::Wanted(_)) {
            return None;
        }
        match std::mem::replace(&mut owed.close, Close::Under) {
            Close::Wanted(ending) => Some(ending),
            _ => None,
        }
    }

    pub fn put_last(&mut self, mut bytes: Vec<u8>) {
        self.owed().bytes.append(&mut bytes);
    }

    /// Takes note that so much of the bytes went out.
    pub fn advance(&mut self, written: usize) {
        let Some(owed) = &mut self.0 else { return };
        owed.written += written;
        if owed.written < owed.bytes.len() {
            return;
        }
        owed.bytes = Vec::new();
        owed.written = 0;
        if owed.close == Close::Under {
            owed.close = Close::Written;
        }
        self.let_go();
    }

    /// Takes note that data went out.
    pub fn passed_data(&mut self) {
        if let Some(owed) = &mut self.0 {
            owed.has_ponged = false;
            self.let_go();
        }
    }

    fn owed(&mut self) -> &mut Owed {
        self.0.get_or_insert_default()
    }

    fn let_go(&mut self) {
        self.0.take_if(|owed| {
            let is_owed = !owed.bytes.is_empty() || owed.pong.is_some() || owed.ping;
            !is_owed && !owed.has_ponged && owed.close == Close::None
        });
    }
}
