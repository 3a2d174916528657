//! permessage-deflate (RFC 7692) on real sockets: what is agreed on, what comes compressed and what
//! does not, and what a client may send.

use std::time::Duration;

use blockcast::config::Config;
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::broker::Broker;
use crate::support::chain::{body, event, publish, real_bodies, real_events};
use crate::support::client::Client;
use crate::support::eventually::eventually;
use crate::support::replica::{Replica, config};

const OFFER: &str = "permessage-deflate; client_max_window_bits";
const AGREED: &str = "permessage-deflate; server_no_context_takeover";
const DEADLINE: Duration = Duration::from_secs(60);
const TEXT: u8 = 0x81;
const DEFLATED: u8 = 0xc1;
const CLOSE: u8 = 0x88;

/// A client that speaks it: frames and inflation are this test's own.
struct Deflated {
    socket: TcpStream,
    /// What the server agreed to.
    extensions: Option<String>,
}

#[derive(Debug)]
struct Frame {
    first: u8,
    payload: Vec<u8>,
    /// As it came, header included.
    bytes: usize,
}

impl Deflated {
    async fn connect(replica: &Replica, path: &str, headers: &str) -> Self {
        let mut socket = TcpStream::connect(replica.address).await.expect("connected");
        let request = format!(
            "GET /api/v1/streams/{path} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{headers}\r\n"
        );
        socket.write_all(request.as_bytes()).await.expect("written");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let byte = tokio::time::timeout(DEADLINE, socket.read_u8()).await;
            head.push(byte.expect("an answer in time").expect("an answer"));
        }
        let head = String::from_utf8(head).expect("text");
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        // RFC 6455 section 1.3 has this pair.
        assert!(head.contains("Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"), "{head}");
        let extensions =
            head.lines().filter_map(|line| line.strip_prefix("Sec-WebSocket-Extensions: "));
        let extensions: Vec<_> = extensions.map(str::to_owned).collect();
        assert!(extensions.len() <= 1, "{head}");
        Self { socket, extensions: extensions.into_iter().next() }
    }

    /// With a usual client's offer.
    async fn offering(replica: &Replica, path: &str) -> Self {
        let headers = format!("Sec-WebSocket-Extensions: {OFFER}\r\n");
        let client = Self::connect(replica, path, &headers).await;
        assert_eq!(client.extensions.as_deref(), Some(AGREED));
        client
    }

    async fn frame(&mut self) -> Frame {
        tokio::time::timeout(DEADLINE, self.read_frame()).await.expect("a frame in time")
    }

    async fn read_frame(&mut self) -> Frame {
        let first = self.socket.read_u8().await.expect("a frame");
        let (header_bytes, payload_bytes) = match self.socket.read_u8().await.expect("its length") {
            126 => (4, usize::from(self.socket.read_u16().await.expect("16 bits"))),
            127 => (10, self.socket.read_u64().await.expect("64 bits") as usize),
            length => (2, usize::from(length)),
        };
        let mut payload = vec![0; payload_bytes];
        self.socket.read_exact(&mut payload).await.expect("its payload");
        Frame { first, payload, bytes: header_bytes + payload_bytes }
    }

    /// Up to the close, which is answered; and its reason.
    async fn rest(mut self) -> (Vec<Frame>, String) {
        let mut frames = Vec::new();
        loop {
            let frame = self.frame().await;
            if frame.first == CLOSE {
                self.send(CLOSE, &frame.payload[..2]).await;
                return (frames, String::from_utf8_lossy(&frame.payload[2..]).into_owned());
            }
            frames.push(frame);
        }
    }

    async fn send(&mut self, first: u8, payload: &[u8]) {
        let mask = [0x12, 0x34, 0x56, 0x78];
        let length = u8::try_from(payload.len()).ok().filter(|length| *length < 126);
        let mut frame = vec![first, 0x80 | length.expect("a short payload")];
        frame.extend(mask);
        frame.extend(payload.iter().zip(mask.into_iter().cycle()).map(|(byte, mask)| byte ^ mask));
        self.socket.write_all(&frame).await.expect("sent");
    }
}

impl Frame {
    fn is_deflated(&self) -> bool {
        self.first == DEFLATED
    }

    /// RFC 7692 section 7.2.2, knowing nothing of the messages before.
    fn text(&self) -> String {
        let text = match self.first {
            TEXT => self.payload.clone(),
            DEFLATED => {
                let piece = [&*self.payload, &[0, 0, 0xff, 0xff]].concat();
                let mut text = Vec::with_capacity(1 << 20);
                let mut inflate = Decompress::new(false);
                let status = inflate.decompress_vec(&piece, &mut text, FlushDecompress::Sync);
                assert_eq!(status.expect("DEFLATE"), Status::Ok, "no final block");
                assert_eq!(inflate.total_in(), piece.len() as u64, "all of it");
                text
            }
            other => panic!("a text was due: {other:#x}"),
        };
        String::from_utf8(text).expect("UTF-8")
    }
}

/// What RFC 7692 section 7.2.1 makes of a text, with what `compress` remembers.
fn deflated(compress: &mut Compress, text: &str) -> Vec<u8> {
    let mut piece = Vec::with_capacity(1_000);
    compress.compress_vec(text.as_bytes(), &mut piece, FlushCompress::Sync).expect("compressed");
    piece.strip_suffix(&[0, 0, 0xff, 0xff]).expect("a flush").to_vec()
}

/// A replica that has the real chain.
async fn with_real_chain() -> (Replica, Config) {
    let config = config(Broker::shared());
    let replica = Replica::start_ready(&config).await;
    publish(&config, real_bodies()).await;
    eventually("the chain is there", async || replica.status().await["tip_height"] == 120).await;
    (replica, config)
}

/// All that both kinds of client get of this, which ends: the compressed frames, and the same texts.
async fn both(replica: &Replica, path: &str) -> (Vec<Frame>, Vec<String>) {
    let plain = Deflated::connect(replica, path, "").await;
    assert_eq!(plain.extensions, None);
    let (plain, plain_reason) = plain.rest().await;
    assert!(plain.iter().all(|frame| frame.first == TEXT), "nothing was agreed on");
    let (frames, reason) = Deflated::offering(replica, path).await.rest().await;
    let plain: Vec<_> = plain.iter().map(Frame::text).collect();
    let texts: Vec<_> = frames.iter().map(Frame::text).collect();
    assert_eq!((texts, reason), (plain.clone(), plain_reason), "{path}");
    (frames, plain)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_real_chain_comes_compressed_byte_for_byte_and_is_smaller() {
    let (replica, _) = with_real_chain().await;
    let path = "valid_transactions?from_height=oldest&until_height=120";
    let (frames, texts) = both(&replica, path).await;
    assert_eq!(texts, real_events());
    let plain: usize =
        texts.iter().map(|text| text.len() + if text.len() < 126 { 2 } else { 4 }).sum();
    let bytes: usize = frames.iter().map(|frame| frame.bytes).sum();
    let ratio = bytes as f64 / plain as f64;
    println!("{bytes} of {plain} bytes, {ratio:.3}");
    assert!(ratio <= 0.70, "{ratio}");

    let blocks = "valid_blocks?from_height=oldest&until_height=120";
    let (frames, _) = both(&replica, blocks).await;
    assert!(!frames[0].is_deflated(), "an empty block's would not get shorter");
    assert!(frames.iter().any(Frame::is_deflated));
    replica.stop().await.expect("drained");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_shared_is_compressed_and_what_is_a_clients_own_is_not() {
    let (replica, _) = with_real_chain().await;
    let all = "from_height=oldest&until_height=120";
    let key = "DJgnirZfikN3zr2pW9yTFM39t8EbTPZ9oSZjf3pRYHEa";
    let deflated = |frames: &[Frame]| frames.iter().filter(|frame| frame.is_deflated()).count();

    let (frames, texts) = both(&replica, &format!("valid_transactions?{all}&batch=block")).await;
    assert_eq!(frames.len(), 120);
    let shrinks = |text: &&String| text.len() >= 64;
    assert_eq!(deflated(&frames), texts.iter().filter(shrinks).count(), "all but the empty ones");
    let (frames, _) =
        both(&replica, &format!("valid_transactions?{all}&batch=block&operation=CREATE")).await;
    assert_eq!((frames.is_empty(), deflated(&frames)), (false, 0), "put together for one client");
    let path = format!("valid_transactions?{all}&operation=CREATE");
    let (frames, _) = both(&replica, &path).await;
    assert_eq!(frames.len(), deflated(&frames));
    assert!(frames.len() > 100 && frames.len() < 2_212, "slices of the shared ones");
    let (frames, _) =
        both(&replica, &format!("valid_transactions?{all}&public_key={key}&limit=1")).await;
    assert_eq!((frames.len(), deflated(&frames)), (1, 1));

    let controlled = "valid_transactions?after=2.0&until_height=120&control=true";
    let (frames, texts) = both(&replica, controlled).await;
    for (frame, text) in frames.iter().zip(&texts) {
        let is_control = text.starts_with("{\"type\": ");
        assert_eq!(frame.is_deflated(), !is_control, "{text}");
    }
    replica.stop().await.expect("drained");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_was_offered_and_can_be_served_is_agreed_on() {
    let config = config(Broker::shared());
    let replica = Replica::start_ready(&config).await;
    let header = |value: &str| format!("Sec-WebSocket-Extensions: {value}\r\n");
    for (headers, expected) in [
        (String::new(), None),
        (header("permessage-deflate; server_max_window_bits=10"), None),
        (
            header("permessage-deflate; server_max_window_bits=10") + &header("permessage-deflate"),
            Some(AGREED),
        ),
        (header(OFFER), Some(AGREED)),
        (
            header("permessage-deflate; server_no_context_takeover; client_no_context_takeover"),
            Some("permessage-deflate; server_no_context_takeover; client_no_context_takeover"),
        ),
        (
            header("permessage-deflate; client_max_window_bits=10"),
            Some("permessage-deflate; server_no_context_takeover; client_max_window_bits=10"),
        ),
    ] {
        let client = Deflated::connect(&replica, "valid_transactions", &headers).await;
        assert_eq!(client.extensions.as_deref(), expected, "{headers}");
    }
    // A refusal that is told in-band agrees to nothing.
    let headers = header(OFFER) + "Origin: http://example.org\r\n";
    let client = Deflated::connect(&replica, "valid_transactions?from=1", &headers).await;
    assert_eq!(client.extensions, None);
    let (frames, reason) = client.rest().await;
    assert!(frames.is_empty() && reason.contains("unknown parameter `from`"), "{reason}");
    replica.stop().await.expect("drained");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_may_compress_what_it_sends_if_that_was_agreed_on() {
    let config = config(Broker::shared());
    let replica = Replica::start_ready(&config).await;
    let mut client = Deflated::offering(&replica, "valid_transactions").await;
    let mut compress = Compress::new(Compression::new(6), false);
    for _ in 0..3 {
        // The second refers to the first: nobody here has to remember it.
        let message = deflated(&mut compress, "subscribe to something, subscribe to something");
        client.send(DEFLATED, &message).await;
        client.send(DEFLATED & 0x7f, &message[..1]).await;
        client.send(0x80, &message[1..]).await;
    }
    client.send(TEXT, b"plain").await;
    client.send(0x89, b"still there").await;
    let pong = client.frame().await;
    assert_eq!((pong.first, &*pong.payload), (0x8a, &b"still there"[..]));
    publish(&config, [body(1, "x")]).await;
    let frame = client.frame().await;
    assert_eq!(frame.text(), event(1, "x"));
    client.send(0xc9, b"").await;
    let (_, reason) = client.rest().await;
    assert_eq!(reason, "after=1 reserved bit set");

    let mut client = Deflated::connect(&replica, "valid_transactions", "").await;
    client.send(DEFLATED, &deflated(&mut compress, "subscribe")).await;
    let (_, reason) = client.rest().await;
    assert_eq!(reason, "after=1 reserved bit set");
    replica.stop().await.expect("drained");
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_and_compressed_clients_live_side_by_side() {
    let config = config(Broker::shared());
    let replica = Replica::start_ready(&config).await;
    let mut plain = Client::connect(&replica.url("valid_transactions")).await;
    let mut compressed = Deflated::offering(&replica, "valid_transactions").await;
    publish(&config, real_bodies()).await;
    let expected = real_events();
    assert_eq!(plain.texts(expected.len()).await, expected);
    for expected in &expected {
        assert_eq!(&compressed.frame().await.text(), expected);
    }
    eventually("both are counted alike", async || {
        let sent = replica.metric("blockcast_sent_messages_total").await;
        sent == 2.0 * expected.len() as f64
    })
    .await;
    replica.stop().await.expect("drained");
}
