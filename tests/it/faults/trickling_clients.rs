//! A client that reads one byte a second, beside ones that read at once. How it ends depends on what
//! it is too slow for first; what it got by then is whole frames from the chain's beginning on.

use std::net::SocketAddr;
use std::time::Duration;

use blockcast::config::{Config, QueueMode};
use bytesize::ByteSize;
use futures_util::future::join_all;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::support::broker::Broker;
use crate::support::chain::{height_of, publish};
use crate::support::client::Client;
use crate::support::eventually::eventually;
use crate::support::load::{Pace, Producer, all_have_the_chain, assert_slice, followers};
use crate::support::process::Process;
use crate::support::replica::config;

const UPGRADE: &str = "GET /api/v1/streams/valid_transactions HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n\
    Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n";
/// Masked with zeros: an answer to no ping, but a sign of life.
const PONG: [u8; 6] = [0x8a, 0x80, 0, 0, 0, 0];
/// The client's goodbye, 1000, masked with zeros.
const CLOSE: [u8; 8] = [0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe8];
const READERS: usize = 10;
/// Far more than the sockets between take.
const EVENTS: usize = 1_000;
const NEVER: Duration = Duration::from_secs(3_600);
/// For the end of a connection.
const PATIENCE: Duration = Duration::from_secs(60);

/// One that reads a byte a second until it is told to read all.
struct Trickle {
    address: SocketAddr,
    hurry: CancellationToken,
    task: JoinHandle<Vec<u8>>,
}

/// What it does beside reading.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Manner {
    Mute,
    /// Says a word with each byte, and goodbye before it reads all.
    Lively,
    /// Goes away when it has read so many bytes.
    Until(usize),
}

impl Trickle {
    async fn start(replica: &Process, manner: Manner) -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_recv_buffer_size(4_096).expect("set");
        let mut stream = socket.connect(replica.address).await.expect("connected");
        let address = stream.local_addr().expect("its address");
        stream.write_all(UPGRADE.as_bytes()).await.expect("written");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.expect("the answer"));
        }
        assert!(head.starts_with(b"HTTP/1.1 101"));
        let hurry = CancellationToken::new();
        let task = tokio::spawn(trickle(stream, manner, hurry.clone()));
        Self { address, hurry, task }
    }

    /// All that it was sent.
    async fn ended(self) -> Vec<u8> {
        self.hurry.cancel();
        let ended = tokio::time::timeout(PATIENCE, self.task).await;
        ended.expect("the server ends it").expect("it did not fail")
    }
}

async fn trickle(mut stream: TcpStream, manner: Manner, hurry: CancellationToken) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut due = tokio::time::interval(Duration::from_secs(1));
    while hurry.run_until_cancelled(due.tick()).await.is_some() {
        let Some(read) = hurry.run_until_cancelled(stream.read_u8()).await else { break };
        let Ok(byte) = read else { return bytes };
        bytes.push(byte);
        if manner == Manner::Lively {
            stream.write_all(&PONG).await.expect("the server listens");
        }
    }
    if let Manner::Until(bytes_max) = manner {
        let here = bytes.len();
        bytes.resize(bytes_max, 0);
        stream.read_exact(&mut bytes[here..]).await.expect("the rest");
        return bytes;
    }
    if manner == Manner::Lively {
        stream.write_all(&CLOSE).await.expect("the server listens");
    }
    // Perhaps cut: what came before is read all the same.
    let _reset = stream.read_to_end(&mut bytes).await;
    bytes
}

fn body(height: u64) -> Vec<u8> {
    let ids = (0..EVENTS).map(|index| format!("{{\"id\": \"{index:064x}\"}}"));
    let transactions = ids.collect::<Vec<_>>().join(",");
    format!("{{\"height\": {height}, \"transactions\": [{transactions}]}}").into_bytes()
}

fn event(height: u64, index: usize) -> String {
    let id = format!("{index:064x}");
    format!("{{\"height\": {height}, \"asset_id\": \"{id}\", \"transaction_id\": \"{id}\"}}")
}

/// A replica with clients that get each block before the next is published.
struct Fixture {
    config: Config,
    replica: Process,
    readers: Vec<Client>,
    tip_height: u64,
}

impl Fixture {
    async fn start(set: impl FnOnce(&mut Config)) -> Self {
        let mut config = talkative();
        // Nothing is said in between: what ends a client is what it does not read.
        config.server.ping_interval = NEVER;
        set(&mut config);
        let replica = Process::start_ready(&config).await;
        let mut readers = Vec::new();
        for _ in 0..READERS {
            readers.push(Client::connect(&replica.url("valid_transactions")).await);
        }
        Self { config, replica, readers, tip_height: 0 }
    }

    /// Publishes a block, which every reader gets whole whatever the slow one does.
    async fn block(&mut self) {
        self.tip_height += 1;
        publish(&self.config, [body(self.tip_height)]).await;
        let expected: Vec<_> = (0..EVENTS).map(|index| event(self.tip_height, index)).collect();
        // All at once: one that waits for its turn to read would be slow itself.
        let all = self.readers.iter_mut().map(|reader| reader.texts(EVENTS));
        for received in join_all(all).await {
            assert_eq!(received, expected);
        }
    }

    /// What it got is the chain's beginning: whole messages, and perhaps a part of the next.
    fn check_cut(&self, bytes: &[u8]) {
        let (frames, rest) = frames(bytes);
        assert!(!bytes.is_empty(), "it read a while");
        let heights = 1..=self.tip_height;
        let mut due = heights.flat_map(|height| (0..EVENTS).map(move |index| event(height, index)));
        for frame in frames {
            assert_eq!(frame, Frame::Text(due.next().expect("an event")));
        }
        let next = due.next().expect("it is far behind");
        let whole = [&[0x81, 126, 0, next.len() as u8], next.as_bytes()].concat();
        assert!(whole.starts_with(rest), "{}", rest.escape_ascii());
    }

    async fn stop(self) {
        sessions_are(&self.replica, READERS).await;
        drop(self.readers);
        self.replica.stop().await;
    }
}

/// The log says of each client how it ended.
fn talkative() -> Config {
    let mut config = config(Broker::shared());
    config.log.level = "info,blockcast=debug".into();
    config.server.send_buffer_bytes = ByteSize::kib(16);
    config
}

/// Waits until the metric counts one such end and the log names this client for it, and no other.
async fn is_told(replica: &Process, client: SocketAddr, reason: &str) {
    let counter = format!("blockcast_disconnects_total{{reason=\"{reason}\"}}");
    eventually(reason, async || replica.metric(&counter).await == 1.0).await;
    replica.logs("session ended").await;
    let lines = replica.logged("session ended");
    let [line] = lines.as_slice() else { panic!("one line was due: {lines:?}") };
    for told in [client.to_string(), format!("\"reason\":\"{reason}\"")] {
        assert!(line.contains(&told), "{told} is not in {line}");
    }
}

async fn sessions_are(replica: &Process, count: usize) {
    eventually("only that one is gone", async || {
        replica.metric("blockcast_sessions").await == count as f64
    })
    .await;
}

#[derive(Debug, PartialEq, Eq)]
enum Frame {
    Text(String),
    Ping,
    Close { code: u16, reason: String },
}

/// The frames that are whole, and the bytes behind them.
fn frames(mut bytes: &[u8]) -> (Vec<Frame>, &[u8]) {
    let mut frames = Vec::new();
    loop {
        let (head_bytes, len) = match bytes {
            [_, 126, high, low, ..] => (4, usize::from(u16::from_be_bytes([*high, *low]))),
            [_, len @ ..126, ..] => (2, usize::from(*len)),
            _ => return (frames, bytes),
        };
        let Some(payload) = bytes.get(head_bytes..head_bytes + len) else { return (frames, bytes) };
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text");
        frames.push(match (bytes[0], payload) {
            (0x81, payload) => Frame::Text(text(payload)),
            (0x89, []) => Frame::Ping,
            (0x88, [high, low, reason @ ..]) => {
                Frame::Close { code: u16::from_be_bytes([*high, *low]), reason: text(reason) }
            }
            (first, payload) => panic!("{first:#x} {}", payload.escape_ascii()),
        });
        bytes = &bytes[head_bytes + len..];
    }
}

/// What it got is a slice of the chain and pings between, all whole, then a close: an echo of its own,
/// or 1001 with its place and `why`.
fn check_slice(bytes: &[u8], why: Option<&str>) {
    let (mut frames, rest) = frames(bytes);
    assert_eq!(rest, b"", "whole frames only");
    let close = frames.pop();
    assert!(why.is_none() || frames.contains(&Frame::Ping), "it was asked for life");
    let texts = frames.into_iter().filter(|frame| *frame != Frame::Ping);
    let texts: Vec<_> = texts
        .map(|frame| match frame {
            Frame::Text(text) => text,
            other => panic!("an event was due: {other:?}"),
        })
        .collect();
    assert_slice(&texts);
    let last = height_of(texts.last().expect("events"));
    let expected = match why {
        Some(why) => Frame::Close { code: 1001, reason: format!("after={last} {why}") },
        None => Frame::Close { code: 1000, reason: String::new() },
    };
    assert_eq!(close, Some(expected));
}

/// Each counts its frames in it, at least 180 KB.
fn little_memory(config: &mut Config) {
    config.history.max_bytes = ByteSize::mib(1);
    config.blocks.max_bytes = ByteSize::mib(1);
    config.blocks.hold_bytes = ByteSize::mib(1);
    config.server.write_stall_timeout = NEVER;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_byte_a_second_goes_on_from_the_broker_when_its_block_has_left_the_history() {
    const BLOCKS: u64 = 11;
    let mut fixture = Fixture::start(little_memory).await;
    let expected = (1..=BLOCKS).flat_map(|height| (0..EVENTS).map(move |at| event(height, at)));
    let expected = Vec::from_iter(expected);
    // Each with a header of four bytes.
    let bytes = expected.iter().map(|text| 4 + text.len()).sum();
    let slow = Trickle::start(&fixture.replica, Manner::Until(bytes)).await;
    for _ in 0..BLOCKS {
        fixture.block().await;
    }
    assert!(fixture.replica.metric("blockcast_first_height").await > 1.0, "its block has left");
    sessions_are(&fixture.replica, READERS + 1).await;
    let received = slow.ended().await;
    assert!(fixture.replica.metric("blockcast_falls_total").await >= 1.0);
    let (frames, rest) = frames(&received);
    assert!(rest.is_empty());
    assert!(frames == Vec::from_iter(expected.into_iter().map(Frame::Text)), "all of it, once");
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_byte_a_second_is_too_slow_where_there_is_no_stream_to_go_on_from() {
    is_too_slow(|config| config.amqp.queue.mode = QueueMode::Queue).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_byte_a_second_is_too_slow_where_nothing_is_read_back() {
    is_too_slow(|config| config.history.deep_reads = 0).await;
}

async fn is_too_slow(set: impl FnOnce(&mut Config)) {
    let mut fixture = Fixture::start(|config| {
        little_memory(config);
        set(config);
    })
    .await;
    let slow = Trickle::start(&fixture.replica, Manner::Mute).await;
    for _ in 0..10 {
        fixture.block().await;
    }
    is_told(&fixture.replica, slow.address, "slow").await;
    fixture.block().await;
    fixture.check_cut(&slow.ended().await);
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_byte_a_second_makes_no_room_in_a_full_socket_and_is_stalled() {
    let mut fixture = Fixture::start(|config| {
        config.server.write_stall_timeout = Duration::from_secs(2);
    })
    .await;
    let slow = Trickle::start(&fixture.replica, Manner::Mute).await;
    fixture.block().await;
    is_told(&fixture.replica, slow.address, "stalled").await;
    fixture.block().await;
    fixture.check_cut(&slow.ended().await);
    fixture.stop().await;
}

/// What it is sent fits in the socket, so that it is asked for life, behind all that it has not read.
#[tokio::test(flavor = "multi_thread")]
async fn one_byte_a_second_on_a_quiet_chain_is_given_up_if_mute_and_goes_on_if_lively() {
    let mut config = talkative();
    config.server.ping_interval = Duration::from_secs(3);
    config.server.pong_timeout = Duration::from_secs(3);
    let replica = Process::start_ready(&config).await;
    let mut producer =
        Producer::start(&config, Pace { blocks: 1, every: Duration::from_millis(600) });
    let good = followers(&[replica.url("valid_transactions")], READERS);
    let lively = Trickle::start(&replica, Manner::Lively).await;
    let mute = Trickle::start(&replica, Manner::Mute).await;
    is_told(&replica, mute.address, "no_pong").await;
    sessions_are(&replica, READERS + 1).await;
    producer.confirms(1).await;

    // It is told where it was: behind all that it was sent, not only what it had read by then.
    check_slice(&mute.ended().await, Some("no pong"));
    check_slice(&lively.ended().await, None);
    let followed = all_have_the_chain(good, producer.end().await).await;
    assert!(followed.iter().all(|client| client.connected_at.len() == 1), "never cut");
    replica.stop().await;
}
