//! A producer that puts any bytes into AMQP's frames, as no library lets one.

use tokio::io::{AsyncReadExt, AsyncWriteExt, BufStream};
use tokio::net::TcpStream;

use super::broker::Broker;

const METHOD: u8 = 1;
const HEADER: u8 = 2;
const BODY: u8 = 3;
const END: u8 = 0xce;
/// The protocol's classes and methods.
const START_OK: [u16; 2] = [10, 11];
const TUNE_OK: [u16; 2] = [10, 31];
const OPEN: [u16; 2] = [10, 40];
const CLOSE: [u16; 2] = [10, 50];
const CHANNEL_OPEN: [u16; 2] = [20, 10];
const PUBLISH: [u16; 2] = [60, 40];
const SELECT: [u16; 2] = [85, 10];
const ACK: [u16; 2] = [60, 80];

/// A connection with one channel in confirm mode.
pub struct RawProducer {
    socket: BufStream<TcpStream>,
    published: u64,
}

/// What is published: a content header's flags, and the properties that they promise.
#[derive(Debug, Clone)]
pub struct Odd {
    pub routing_key: Vec<u8>,
    pub flags: u16,
    pub properties: Vec<u8>,
}

impl Odd {
    /// With this routing key and no property.
    pub fn routing_key(bytes: &[u8]) -> Self {
        Self { routing_key: bytes.to_vec(), flags: 0, properties: Vec::new() }
    }

    /// With this property alone, a short string, by its place in the protocol's list from 0.
    pub fn property(place: u16, bytes: &[u8]) -> Self {
        Self::with(0x8000 >> place, short(bytes))
    }

    /// With a table of headers alone: these entries.
    pub fn headers(entries: &[u8]) -> Self {
        Self::with(0x2000, long(entries))
    }

    fn with(flags: u16, properties: Vec<u8>) -> Self {
        Self { routing_key: b"block.valid".to_vec(), flags, properties }
    }
}

impl RawProducer {
    pub async fn connect(broker: &Broker) -> Self {
        let socket = TcpStream::connect(("127.0.0.1", broker.port())).await.expect("connected");
        let mut producer = Self { socket: BufStream::new(socket), published: 0 };
        producer.socket.write_all(b"AMQP\x00\x00\x09\x01").await.expect("written");
        producer.answer().await;
        let login = [long(b""), short(b"PLAIN"), long(b"\0guest\0guest"), short(b"en_US")];
        let (_, tuning) = producer.ask(START_OK, &login.concat()).await;
        // As the broker proposes, without heartbeats.
        let tuned = [&tuning[..6], &[0, 0]].concat();
        producer.method(TUNE_OK, &tuned).await;
        producer.ask(OPEN, &[short(b"/"), short(b""), vec![0]].concat()).await;
        producer.ask(CHANNEL_OPEN, &short(b"")).await;
        producer.ask(SELECT, &[0]).await;
        producer
    }

    /// Publishes without waiting; the message is mandatory.
    pub async fn publish(&mut self, exchange: &str, odd: &Odd, body: &[u8]) {
        let address = [short(exchange.as_bytes()), short(&odd.routing_key)].concat();
        self.method(PUBLISH, &[&[0, 0], &address[..], &[1]].concat()).await;
        let len = (body.len() as u64).to_be_bytes();
        let head = [&[0, 60, 0, 0], &len[..], &odd.flags.to_be_bytes(), &odd.properties];
        self.frame(HEADER, &head.concat()).await;
        for piece in body.chunks(100_000) {
            self.frame(BODY, piece).await;
        }
        self.published += 1;
    }

    /// Waits until the broker has all that was published.
    pub async fn confirmed(&mut self) {
        self.try_confirmed().await.expect("the broker takes it");
    }

    /// The same, unless the broker ends the connection over it: then the text of its end.
    pub async fn try_confirmed(&mut self) -> Result<(), String> {
        let mut confirmed = 0;
        while confirmed < self.published {
            let (method, arguments) = self.answer().await;
            if method == CLOSE {
                return Err(String::from_utf8_lossy(&arguments).into_owned());
            }
            assert_eq!(method, ACK, "{}", String::from_utf8_lossy(&arguments));
            let tag = arguments.first_chunk().expect("a tag");
            confirmed = confirmed.max(u64::from_be_bytes(*tag));
        }
        Ok(())
    }

    async fn ask(&mut self, method: [u16; 2], arguments: &[u8]) -> ([u16; 2], Vec<u8>) {
        self.method(method, arguments).await;
        self.answer().await
    }

    /// The broker's next method.
    async fn answer(&mut self) -> ([u16; 2], Vec<u8>) {
        self.socket.flush().await.expect("written");
        let mut head = [0; 7];
        self.socket.read_exact(&mut head).await.expect("a frame");
        assert_eq!(head[0], METHOD, "a method is due");
        let len = u32::from_be_bytes([head[3], head[4], head[5], head[6]]);
        let mut frame = vec![0; len as usize + 1];
        self.socket.read_exact(&mut frame).await.expect("all of a frame");
        assert_eq!(frame.pop(), Some(END));
        let method =
            [u16::from_be_bytes([frame[0], frame[1]]), u16::from_be_bytes([frame[2], frame[3]])];
        (method, frame.split_off(4))
    }

    async fn method(&mut self, [class, method]: [u16; 2], arguments: &[u8]) {
        let ids = [class.to_be_bytes(), method.to_be_bytes()].concat();
        self.frame(METHOD, &[&ids, arguments].concat()).await;
    }

    async fn frame(&mut self, kind: u8, payload: &[u8]) {
        // The connection's own methods are of channel 0.
        let channel = u8::from(!(kind == METHOD && payload.starts_with(&[0, 10])));
        let head = [&[kind, 0, channel], &(payload.len() as u32).to_be_bytes()[..]].concat();
        self.socket.write_all(&[&head, payload, &[END]].concat()).await.expect("written");
    }
}

pub fn short(bytes: &[u8]) -> Vec<u8> {
    [&[u8::try_from(bytes.len()).expect("short")], bytes].concat()
}

pub fn long(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u32).to_be_bytes()[..], bytes].concat()
}
