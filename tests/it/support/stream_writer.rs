//! A producer over RabbitMQ's stream protocol, which looks at nothing that it is given: for entries that
//! the broker cannot hand over as AMQP 0-9-1, or does not take as such.

use std::collections::HashSet;
use std::io::{Read, Write};
use std::net::TcpStream;

const PUBLISHER: u8 = 1;

// Keys of the protocol's frames; an answer has the highest bit too.
const DECLARE_PUBLISHER: u16 = 0x01;
const PUBLISH: u16 = 0x02;
const PUBLISH_CONFIRM: u16 = 0x03;
const PEER_PROPERTIES: u16 = 0x11;
const SASL_HANDSHAKE: u16 = 0x12;
const SASL_AUTHENTICATE: u16 = 0x13;
const TUNE: u16 = 0x14;
const OPEN: u16 = 0x15;
const ANSWER: u16 = 0x8000;
const OK: u16 = 1;

/// What is written.
#[derive(Debug, Clone)]
pub enum Entry {
    /// A consumer over AMQP 0-9-1 gets this as a body.
    Body(Vec<u8>),
    /// The same, and this as the message's `reply_to`.
    Answerable { reply_to: Vec<u8>, body: Vec<u8> },
    /// No AMQP 1.0 at all.
    Garbage,
    /// A body whose message says that it is longer than it is.
    Truncated,
    /// Bodies in one sub-batch, compressed: one entry with an offset for each.
    Compressed(Vec<Vec<u8>>),
}

/// A connection that publishes to one stream.
pub struct Writer {
    socket: TcpStream,
    requests: u32,
    published: u64,
}

impl Entry {
    fn encode(&self) -> Vec<u8> {
        let whole = |message: Vec<u8>| [&len(&message)[..], &message].concat();
        match self {
            Self::Body(body) => whole(data_section(body)),
            Self::Answerable { reply_to, body } => {
                whole([reply_to_section(reply_to), data_section(body)].concat())
            }
            Self::Garbage => whole(vec![0xff; 8]),
            Self::Truncated => {
                let mut message = data_section(b"cut off");
                message.truncate(message.len() - 4);
                whole(message)
            }
            Self::Compressed(bodies) => {
                let plain: Vec<u8> =
                    bodies.iter().flat_map(|body| whole(data_section(body))).collect();
                let gzip = flate2::Compression::default();
                let mut packed = flate2::write::GzEncoder::new(Vec::new(), gzip);
                packed.write_all(&plain).expect("packed");
                let packed = packed.finish().expect("packed");
                let count = u16::try_from(bodies.len()).expect("few").to_be_bytes();
                [&[0x90][..], &count, &len(&plain), &len(&packed), &packed].concat()
            }
        }
    }
}

impl Writer {
    /// The stream must exist.
    pub fn connect(port: u16, stream: &str) -> Self {
        let socket = TcpStream::connect(("127.0.0.1", port)).expect("the stream protocol's port");
        let mut writer = Self { socket, requests: 0, published: 0 };
        writer.call(PEER_PROPERTIES, &0_u32.to_be_bytes());
        writer.call(SASL_HANDSHAKE, &[]);
        let plain = b"\0guest\0guest";
        writer.call(SASL_AUTHENTICATE, &[&text("PLAIN")[..], &len(plain), plain].concat());
        let (key, tune) = writer.receive();
        assert_eq!(key & !ANSWER, TUNE);
        writer.send(ANSWER | TUNE, &tune);
        writer.call(OPEN, &text("/"));
        writer.call(DECLARE_PUBLISHER, &[&[PUBLISHER][..], &text(""), &text(stream)].concat());
        writer
    }

    /// Writes these into one chunk of the stream and waits until they are confirmed.
    pub fn write(&mut self, entries: impl IntoIterator<Item = Entry>) {
        let entries = Vec::from_iter(entries);
        let mut frame = vec![PUBLISHER];
        frame.extend(u32::try_from(entries.len()).expect("few").to_be_bytes());
        let mut due = HashSet::new();
        for entry in entries {
            frame.extend(self.published.to_be_bytes());
            frame.extend(entry.encode());
            due.insert(self.published);
            self.published += 1;
        }
        self.send(PUBLISH, &frame);
        while !due.is_empty() {
            let (key, confirmed) = self.receive();
            assert_eq!(key, PUBLISH_CONFIRM, "{confirmed:?}");
            for id in confirmed[5..].chunks_exact(8) {
                due.remove(&u64::from_be_bytes(id.try_into().expect("8 bytes")));
            }
        }
    }

    /// Sends a request and waits until it is answered well.
    fn call(&mut self, key: u16, content: &[u8]) {
        self.requests += 1;
        self.send(key, &[&self.requests.to_be_bytes()[..], content].concat());
        let (answered, answer) = self.receive();
        assert_eq!(answered, ANSWER | key);
        assert_eq!(u16::from_be_bytes([answer[4], answer[5]]), OK, "request {key:#x}");
    }

    fn send(&mut self, key: u16, content: &[u8]) {
        let frame = [&key.to_be_bytes()[..], &1_u16.to_be_bytes(), content].concat();
        self.socket.write_all(&[&len(&frame)[..], &frame].concat()).expect("sent");
    }

    /// A frame's key, and what follows its version.
    fn receive(&mut self) -> (u16, Vec<u8>) {
        let mut length = [0; 4];
        self.socket.read_exact(&mut length).expect("the broker goes on");
        let mut frame = vec![0; u32::from_be_bytes(length) as usize];
        self.socket.read_exact(&mut frame).expect("the broker goes on");
        (u16::from_be_bytes([frame[0], frame[1]]), frame.split_off(4))
    }
}

fn data_section(body: &[u8]) -> Vec<u8> {
    [&[0x00, 0x53, 0x75, 0xb0][..], &len(body), body].concat()
}

/// A message's properties: four that are not there, then this short text.
fn reply_to_section(bytes: &[u8]) -> Vec<u8> {
    let text = [&[0xa1, u8::try_from(bytes.len()).expect("short")][..], bytes].concat();
    let list = [&[5, 0x40, 0x40, 0x40, 0x40][..], &text].concat();
    [&[0x00, 0x53, 0x73, 0xc0, u8::try_from(list.len()).expect("short")][..], &list].concat()
}

fn len(bytes: &[u8]) -> [u8; 4] {
    u32::try_from(bytes.len()).expect("small").to_be_bytes()
}

fn text(text: &str) -> Vec<u8> {
    [&u16::try_from(text.len()).expect("short").to_be_bytes()[..], text.as_bytes()].concat()
}
