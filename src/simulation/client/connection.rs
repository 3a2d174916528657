//! One connection of a client: its end of the pipe, and the frames that come out of it. Knows nothing of
//! what they say.

use flate2::{Decompress, FlushDecompress};
use tokio::task::JoinHandle;

use super::EventStream;
use crate::metrics::Disconnect;
use crate::simulation::pipe::{Pipe, Stamp};

const CLOSE: u8 = 0x88;
const PING: u8 = 0x89;

pub struct Connection {
    /// The whole query.
    pub asked: String,
    pub bounds: Bounds,
    /// None: it is a WebSocket.
    pub events: Option<EventStream>,
    pub pipe: Pipe,
    pub session: JoinHandle<Disconnect>,
    /// When a block's newest message, or the opening, was written.
    pub seen: Stamp,
    pub is_stalled: bool,
    /// Whether this client has said or shown that it leaves.
    pub has_left: bool,
    pub closed: Option<Closed>,
    pub gaps: Vec<(u64, u64)>,
    pub filled: Vec<u64>,
    pub pings: Vec<Vec<u8>>,
    /// Whether it may begin elsewhere if its start is not to be had. Then a gap says so, before all else.
    pub has_fallback: bool,
    pub buffer: Vec<u8>,
    /// Whether the answer's head is read, of a WebSocket.
    pub is_open: bool,
}

/// Where a connection has all that it asked for.
#[derive(Debug, Clone, Copy, Default)]
pub struct Bounds {
    pub until_height: Option<u64>,
    /// Data messages that may still come.
    pub messages_left: Option<u64>,
}

/// A server's close.
pub struct Closed {
    pub code: u16,
    pub reason: String,
    pub stamp: Stamp,
}

impl Connection {
    pub fn new(asked: String, pipe: Pipe, session: JoinHandle<Disconnect>, seen: Stamp) -> Self {
        Self {
            asked,
            bounds: Bounds::default(),
            events: None,
            pipe,
            session,
            seen,
            is_stalled: false,
            has_left: false,
            closed: None,
            gaps: Vec::new(),
            filled: Vec::new(),
            pings: Vec::new(),
            has_fallback: false,
            buffer: Vec::new(),
            is_open: false,
        }
    }

    pub fn ping(&mut self, payload: &[u8]) {
        self.pings.push(payload.to_vec());
        self.send(PING, payload);
    }

    /// Says that it leaves.
    pub fn close(&self) {
        match self.events {
            None => self.send(CLOSE, &1000_u16.to_be_bytes()),
            Some(_) => self.pipe.shut(),
        }
    }

    /// A masked frame; the mask is nothing.
    pub fn send(&self, first: u8, payload: &[u8]) {
        let head = [first, 0x80 | payload.len() as u8, 0, 0, 0, 0];
        self.pipe.write(&[&head, payload].concat());
    }

    /// The next whole frame.
    pub fn frame(&mut self) -> Option<(u8, Vec<u8>)> {
        if !self.is_open {
            let end = self.buffer.windows(4).position(|it| it == b"\r\n\r\n")?;
            let head: Vec<u8> = self.buffer.drain(..end + 4).collect();
            assert!(head.starts_with(b"HTTP/1.1 101 Switching Protocols\r\n"));
            self.is_open = true;
        }
        let (head, len) = match self.buffer.get(1)? {
            126 => {
                let len = self.buffer.get(2..4)?;
                (4, usize::from(u16::from_be_bytes([len[0], len[1]])))
            }
            127 => panic!("no message is that long here"),
            len => (2, usize::from(*len)),
        };
        let payload = self.buffer.get(head..head + len)?.to_vec();
        let first = self.buffer[0];
        self.buffer.drain(..head + len);
        Some((first, payload))
    }
}

impl Bounds {
    /// Whether something of this height may still come.
    pub fn allow(&self, height: u64) -> bool {
        self.messages_left != Some(0) && self.until_height.is_none_or(|until| height <= until)
    }
}

pub fn inflated(payload: &[u8]) -> Vec<u8> {
    let message = [payload, &[0, 0, 0xff, 0xff]].concat();
    let mut text = Vec::with_capacity(8_192);
    let mut decompress = Decompress::new(false);
    decompress
        .decompress_vec(&message, &mut text, FlushDecompress::Sync)
        .expect("a compressed message");
    assert_eq!(decompress.total_in(), message.len() as u64, "all of it");
    text
}
