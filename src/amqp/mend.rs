//! The broker's frames, mended where the client library could not read them.
//!
//! A producer may write any bytes into a routing key, a property or a header's name, and RabbitMQ hands
//! them on. The client library drops its whole connection at one that is not UTF-8, and at a table in
//! tables without end its thread has no stack left. [`Mender`] sees every byte before the library does
//! and replaces what must be replaced (see [`fields`]). No length changes, so whatever else is in a
//! frame stays in its place.
//!
//! The hot path is bodies: of a body's frame only the head is looked at. Frames are AMQP 0-9-1's, section
//! 2.3.5: type, channel, size, payload, end. What is not of this form goes on as it is.
//!
//! Absent here: sockets, and what becomes of a connection that breaks.

mod fields;
#[cfg(test)]
mod tests;

const METHOD: u8 = 1;
const HEADER: u8 = 2;
const BODY: u8 = 3;
const HEARTBEAT: u8 = 8;
/// Type, channel (two bytes) and size (four bytes).
const HEAD_BYTES: usize = 7;
/// The head, and the end behind the payload.
const FRAME_BYTES_MIN: usize = HEAD_BYTES + 1;
const FRAME_END: u8 = 0xce;
/// The lowest bound that the two sides may agree on.
const FRAME_BYTES_LEAST: usize = 4_096;
/// Of a frame that is kept until all of it is there; a longer one goes on as it is. RabbitMQ's own limit
/// is 128 KiB for all frames, if nobody changes it.
const HELD_BYTES_MAX: usize = 1 << 20;

/// Mends one connection's frames as they come, however they are cut.
///
/// While [`Mender::wanted`] is zero and nothing is [ready](Mender::is_ready), bytes go through
/// [`Mender::pass`]; else they are asked for and given back.
#[derive(Debug, Default)]
pub struct Mender {
    /// Of a whole frame, as the two sides agreed; none without a bound, or before they did.
    frame_bytes_max: Option<usize>,
    /// How many of the coming bytes need no look.
    passing: u64,
    /// The beginning of a frame that is looked at when it is whole; then the frame, until it is given.
    held: Vec<u8>,
    /// How much of what is held was given.
    given: usize,
    /// Set when what is held is to be given.
    is_ready: bool,
    mended: Option<Mended>,
}

/// What was mended since somebody last asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mended {
    pub frames: u64,
    /// What was wrong first, by the protocol's name.
    pub field: &'static str,
}

/// What comes next, by the first bytes of a frame.
enum Next {
    /// So many bytes that nothing is done to.
    Pass(u64),
    /// A frame of so many bytes, to be looked at.
    Frame(usize),
    /// So many bytes are missing to say it.
    Unknown(usize),
}

impl Mender {
    /// With the bound that our side asks for; the broker's own counts when that is lower.
    pub fn new(frame_bytes_max: Option<u32>) -> Self {
        let mut mender = Self::default();
        mender.agree(frame_bytes_max.unwrap_or(0));
        mender
    }

    /// Mends whole frames where they stand. Returns how many bytes go on now; those behind them are kept
    /// here.
    pub fn pass(&mut self, bytes: &mut [u8]) -> usize {
        let mut at = 0;
        while at < bytes.len() {
            let rest = &mut bytes[at..];
            if self.passing > 0 {
                let step = usize::try_from(self.passing).map_or(rest.len(), |n| n.min(rest.len()));
                self.passing -= step as u64;
                at += step;
                continue;
            }
            match next(rest) {
                Next::Pass(len) => self.passing = len,
                Next::Frame(len) if len <= rest.len() => {
                    self.mend(&mut rest[..len]);
                    at += len;
                }
                Next::Frame(_) | Next::Unknown(_) => {
                    self.held.extend_from_slice(rest);
                    break;
                }
            }
        }
        at
    }

    /// How many bytes are missing from the frame that is held; zero when none is.
    pub fn wanted(&self) -> usize {
        if self.held.is_empty() || self.is_ready {
            return 0;
        }
        match next(&self.held) {
            Next::Pass(_) => 0,
            Next::Frame(len) => len - self.held.len(),
            Next::Unknown(missing) => missing,
        }
    }

    /// Adds to the frame that is held, at most as much as is wanted.
    pub fn hold(&mut self, bytes: &[u8]) {
        self.held.extend_from_slice(bytes);
        match next(&self.held) {
            Next::Pass(len) => {
                self.passing = len - self.held.len() as u64;
                self.is_ready = true;
            }
            Next::Frame(len) if len == self.held.len() => {
                let mut frame = std::mem::take(&mut self.held);
                self.mend(&mut frame);
                self.held = frame;
                self.is_ready = true;
            }
            Next::Frame(_) | Next::Unknown(_) => {}
        }
    }

    /// Says that nothing comes any more: what is held is given as it is.
    pub fn end(&mut self) {
        self.is_ready = !self.held.is_empty();
    }

    /// Whether there is something to give.
    pub fn is_ready(&self) -> bool {
        self.is_ready
    }

    /// Gives what is ready, as far as there is room. Returns how much that was.
    pub fn give(&mut self, room: &mut [u8]) -> usize {
        if !self.is_ready {
            return 0;
        }
        let left = &self.held[self.given..];
        let len = left.len().min(room.len());
        room[..len].copy_from_slice(&left[..len]);
        self.given += len;
        if self.given == self.held.len() {
            self.held = Vec::new();
            self.given = 0;
            self.is_ready = false;
        }
        len
    }

    /// What was mended since the last call.
    pub fn take_mended(&mut self) -> Option<Mended> {
        self.mended.take()
    }

    /// Mends one whole frame.
    fn mend(&mut self, frame: &mut [u8]) {
        let Some(([kind, .., FRAME_END], payload)) = split(frame) else {
            // Out of step: nothing behind it can be told apart.
            self.passing = u64::MAX;
            return;
        };
        let mut field = match kind {
            METHOD => {
                self.agree(fields::tuned_frame_bytes(payload).unwrap_or(0));
                fields::mend_method(payload)
            }
            _ => fields::mend_header(payload),
        };
        let is_too_long = self.frame_bytes_max.is_some_and(|max| frame.len() > max);
        if is_too_long && kind == HEADER && self.shorten(frame) {
            field = field.or(Some("headers longer than a frame"));
        }
        if let Some(field) = field {
            self.mended.get_or_insert(Mended { frames: 0, field }).frames += 1;
        }
    }

    /// The lowest bound counts; zero is none.
    fn agree(&mut self, frame_bytes: u32) {
        let agreed = usize::try_from(frame_bytes).ok().filter(|bytes| *bytes > 0);
        let agreed = agreed.map(|bytes| bytes.max(FRAME_BYTES_LEAST));
        self.frame_bytes_max = self.frame_bytes_max.into_iter().chain(agreed).min();
    }

    /// Makes frames that are short enough of a content header that is not. Returns whether it could.
    fn shorten(&self, frame: &mut [u8]) -> bool {
        let max = self.frame_bytes_max.unwrap_or(usize::MAX);
        let payload = fields::shortened(&frame[HEAD_BYTES..frame.len() - 1]);
        let Some(payload) = payload.filter(|short| {
            let len = short.len() + FRAME_BYTES_MIN;
            len <= max && len + FRAME_BYTES_MIN <= frame.len()
        }) else {
            return false;
        };
        let (header, mut rest) = frame.split_at_mut(payload.len() + FRAME_BYTES_MIN);
        header[HEAD_BYTES..HEAD_BYTES + payload.len()].copy_from_slice(&payload);
        close(header);
        while !rest.is_empty() {
            let len = match rest.len() {
                all if all <= max => all,
                // So that enough is left for another.
                all if all < max + FRAME_BYTES_MIN => max - FRAME_BYTES_MIN,
                _ => max,
            };
            let (heartbeat, behind) = rest.split_at_mut(len);
            heartbeat[..HEAD_BYTES].copy_from_slice(&[HEARTBEAT, 0, 0, 0, 0, 0, 0]);
            close(heartbeat);
            rest = behind;
        }
        true
    }
}

/// Writes a frame's size and its end.
fn close(frame: &mut [u8]) {
    let size = u32::try_from(frame.len() - FRAME_BYTES_MIN).expect("bug: what is held is short");
    frame[HEAD_BYTES - 4..HEAD_BYTES].copy_from_slice(&size.to_be_bytes());
    frame[frame.len() - 1] = FRAME_END;
}

/// A frame's type and end, and its payload.
fn split(frame: &mut [u8]) -> Option<([u8; 2], &mut [u8])> {
    let (head, rest) = frame.split_first_chunk_mut::<HEAD_BYTES>()?;
    let (end, payload) = rest.split_last_mut()?;
    Some(([head[0], *end], payload))
}

fn next(bytes: &[u8]) -> Next {
    let Some(kind @ (METHOD | HEADER | BODY | HEARTBEAT)) = bytes.first().copied() else {
        // Such as the protocol's name, from a broker that speaks another version.
        return Next::Pass(u64::MAX);
    };
    let Some(&[_, _, _, a, b, c, d]) = bytes.first_chunk::<HEAD_BYTES>() else {
        return Next::Unknown(HEAD_BYTES - bytes.len());
    };
    let len = u64::from(u32::from_be_bytes([a, b, c, d])) + FRAME_BYTES_MIN as u64;
    match usize::try_from(len) {
        Ok(len) if matches!(kind, METHOD | HEADER) && len <= HELD_BYTES_MAX => Next::Frame(len),
        _ => Next::Pass(len),
    }
}
