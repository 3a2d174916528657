//! The fields of methods and content headers: which of them the client library cannot read, and what it
//! is given in their place.
//!
//! - A short string that is not UTF-8 (a routing key, a property, a name in a table): each byte of what
//!   is none becomes `?`. Long strings are bytes to the library, and stay.
//! - A table or an array that lies in too many others becomes a byte array, which it is read as in one step.
//!
//! Types are RabbitMQ's (its errata to AMQP 0-9-1's section 4.2.5.5). A payload is read to its end before
//! anything is changed: one that is not understood stays as it is.

use std::ops::Range;

/// Tables and arrays in each other. The library reads each level with a level of its stack; far above
/// what anybody writes.
const NESTED_MAX: usize = 32;
const REPLACEMENT: u8 = b'?';
const BYTE_ARRAY: u8 = b'x';
/// The name of the offset's header, behind its length, and the offset's type: a number of 8 bytes.
const OFFSET_NAME: &[u8] = b"\x0fx-stream-offsetl";
const TOO_NESTED: &str = "headers nested too deep";

/// A field as the protocol lays it out.
#[derive(Debug, Clone, Copy)]
enum Field {
    /// So many bytes that are not text.
    Bytes(usize),
    Short(&'static str),
    Long,
    Table,
}

use Field::{Bytes, Long, Short, Table};

/// Content's properties, from the highest bit of their flags down.
const PROPERTIES: [Field; 14] = [
    Short("content_type"),
    Short("content_encoding"),
    Table,
    Bytes(1), // delivery_mode
    Bytes(1), // priority
    Short("correlation_id"),
    Short("reply_to"),
    Short("expiration"),
    Short("message_id"),
    Bytes(8), // timestamp
    Short("type"),
    Short("user_id"),
    Short("app_id"),
    Short("cluster_id"),
];

/// What is to be changed in a payload.
enum Mend {
    Text(Range<usize>),
    /// The place of a value's type.
    Opaque(usize),
}

/// Reads a payload from its beginning to its end; none where it is cut short or not understood.
struct Walk<'a> {
    payload: &'a [u8],
    at: usize,
    mends: Vec<Mend>,
    /// The first field that is to be changed.
    field: Option<&'static str>,
}

/// Mends a method's arguments. Returns what was wrong first.
pub fn mend_method(payload: &mut [u8]) -> Option<&'static str> {
    mend(payload, |walk| {
        let (class, method) = (walk.number::<2>()?, walk.number::<2>()?);
        arguments(class, method)?.iter().try_for_each(|field| walk.field(*field))
    })
}

/// Mends a content header's properties. Returns what was wrong first.
pub fn mend_header(payload: &mut [u8]) -> Option<&'static str> {
    mend(payload, |walk| {
        // The class, the weight and the body's size.
        walk.skip(12)?;
        let flags = walk.number::<2>()?;
        let present = PROPERTIES.iter().enumerate().filter(|(bit, _)| flags & (0x8000 >> bit) != 0);
        present.map(|(_, field)| *field).try_for_each(|field| walk.field(field))
    })
}

/// The longest frame that the broker proposes in a `connection.tune`; zero is no bound. None for any other
/// method.
pub fn tuned_frame_bytes(payload: &[u8]) -> Option<u32> {
    match payload {
        &[0, 10, 0, 30, _, _, a, b, c, d, _, _] => Some(u32::from_be_bytes([a, b, c, d])),
        _ => None,
    }
}

/// A content header's payload with nothing in its table but the offset: 3 KiB at most. None when it
/// is not understood.
pub fn shortened(payload: &[u8]) -> Option<Vec<u8>> {
    let mut walk = Walk { payload, at: 0, mends: Vec::new(), field: None };
    let properties = walk.properties()?;
    let mut kept = payload[..walk.at].to_vec();
    for field in properties {
        let start = walk.at;
        if let Table = field {
            let end = walk.end()?;
            let mut entries = Vec::new();
            while walk.at < end {
                let start = walk.at;
                walk.entry(end, 1)?;
                let entry = &payload[start..walk.at];
                if entry.starts_with(OFFSET_NAME) {
                    entries = entry.to_vec();
                }
            }
            kept.extend(u32::try_from(entries.len()).ok()?.to_be_bytes());
            kept.extend(entries);
        } else {
            walk.field(field)?;
            kept.extend_from_slice(&payload[start..walk.at]);
        }
    }
    (walk.at == payload.len()).then_some(kept)
}

/// The arguments of the methods that a broker sends and that have text in them.
fn arguments(class: u64, method: u64) -> Option<&'static [Field]> {
    Some(match (class, method) {
        // connection: start, secure, open-ok, close, blocked.
        (10, 10) => &[Bytes(2), Table, Long, Long],
        (10, 20) => &[Long],
        (10, 41) => &[Short("known_hosts")],
        // Cut after 252 bytes by RabbitMQ, be that in the middle of a character.
        (10, 50) | (20, 40) => &[Bytes(2), Short("reply_text"), Bytes(4)],
        (10, 60) => &[Short("reason")],
        // queue: declare-ok.
        (50, 11) => &[Short("queue"), Bytes(8)],
        // basic: consume-ok, cancel, cancel-ok, return, deliver, get-ok.
        (60, 21) | (60, 31) => &[Short("consumer_tag")],
        (60, 30) => &[Short("consumer_tag"), Bytes(1)],
        (60, 50) => &[Bytes(2), Short("reply_text"), Short("exchange"), Short("routing_key")],
        (60, 60) => &[Short("consumer_tag"), Bytes(9), Short("exchange"), Short("routing_key")],
        (60, 71) => &[Bytes(9), Short("exchange"), Short("routing_key"), Bytes(4)],
        _ => return None,
    })
}

fn mend(
    payload: &mut [u8],
    read: impl FnOnce(&mut Walk<'_>) -> Option<()>,
) -> Option<&'static str> {
    let mut walk = Walk { payload, at: 0, mends: Vec::new(), field: None };
    read(&mut walk)?;
    let is_whole = walk.at == walk.payload.len();
    let Walk { mends, field, .. } = walk;
    if !is_whole {
        return None;
    }
    for mend in mends {
        match mend {
            Mend::Text(range) => replace_invalid(&mut payload[range]),
            Mend::Opaque(at) => payload[at] = BYTE_ARRAY,
        }
    }
    field
}

/// Makes it UTF-8, each byte that belongs to no character replaced.
fn replace_invalid(mut bytes: &mut [u8]) {
    while let Err(error) = std::str::from_utf8(bytes) {
        let rest = &mut bytes[error.valid_up_to()..];
        let len = error.error_len().unwrap_or(rest.len());
        rest[..len].fill(REPLACEMENT);
        bytes = &mut rest[len..];
    }
}

impl Walk<'_> {
    fn field(&mut self, field: Field) -> Option<()> {
        match field {
            Bytes(len) => self.skip(len),
            Short(name) => self.short(name),
            Long => self.long(),
            Table => {
                let end = self.end()?;
                self.table(end, 1)
            }
        }
    }

    /// Reads a content header up to its properties. Returns which of them are there.
    fn properties(&mut self) -> Option<impl Iterator<Item = Field> + use<>> {
        // The class, the weight and the body's size.
        self.skip(12)?;
        let flags = self.number::<2>()?;
        let all = PROPERTIES.into_iter().enumerate();
        Some(all.filter(move |(bit, _)| flags & (0x8000 >> bit) != 0).map(|(_, field)| field))
    }

    fn skip(&mut self, len: usize) -> Option<()> {
        self.at = self.at.checked_add(len).filter(|at| *at <= self.payload.len())?;
        Some(())
    }

    fn number<const LEN: usize>(&mut self) -> Option<u64> {
        let bytes = self.payload.get(self.at..)?.first_chunk::<LEN>()?;
        self.at += LEN;
        Some(bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }

    fn short(&mut self, name: &'static str) -> Option<()> {
        let len = usize::try_from(self.number::<1>()?).ok()?;
        let start = self.at;
        self.skip(len)?;
        if std::str::from_utf8(&self.payload[start..self.at]).is_err() {
            self.mends.push(Mend::Text(start..self.at));
            self.field.get_or_insert(name);
        }
        Some(())
    }

    fn long(&mut self) -> Option<()> {
        self.at = self.end()?;
        Some(())
    }

    /// The end of what has its length, in four bytes, in front of it.
    fn end(&mut self) -> Option<usize> {
        let len = usize::try_from(self.number::<4>()?).ok()?;
        self.at.checked_add(len).filter(|end| *end <= self.payload.len())
    }

    fn table(&mut self, end: usize, depth: usize) -> Option<()> {
        while self.at < end {
            self.entry(end, depth)?;
        }
        (self.at == end).then_some(())
    }

    fn entry(&mut self, end: usize, depth: usize) -> Option<()> {
        self.short("header name")?;
        self.value(end, depth)
    }

    fn array(&mut self, end: usize, depth: usize) -> Option<()> {
        while self.at < end {
            self.value(end, depth)?;
        }
        (self.at == end).then_some(())
    }

    /// A value in a table or an array that ends at `outer_end`.
    fn value(&mut self, outer_end: usize, depth: usize) -> Option<()> {
        let at = self.at;
        match *self.payload.get(at)? {
            b'V' => self.skip(1),
            b't' | b'b' | b'B' => self.skip(2),
            b's' | b'u' | b'U' => self.skip(3),
            b'I' | b'i' | b'f' => self.skip(5),
            b'D' => self.skip(6),
            b'l' | b'L' | b'd' | b'T' => self.skip(9),
            b'S' | BYTE_ARRAY => {
                self.at += 1;
                self.long()
            }
            kind @ (b'F' | b'A') => {
                self.at += 1;
                let end = self.end().filter(|end| *end <= outer_end)?;
                match kind {
                    _ if depth >= NESTED_MAX => {
                        self.mends.push(Mend::Opaque(at));
                        self.field.get_or_insert(TOO_NESTED);
                        self.at = end;
                        Some(())
                    }
                    b'F' => self.table(end, depth + 1),
                    _ => self.array(end, depth + 1),
                }
            }
            _ => None,
        }
    }
}
