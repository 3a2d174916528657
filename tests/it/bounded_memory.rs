//! What bounds a replica's memory, at the bound: history full, as many connections as may be, a tenth
//! of them never reading, or a third with TLS. Nothing is kept per client but what TLS needs, and of the
//! kernel's memory no more than was set.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use blockcast::config::Config;
use bytesize::ByteSize;
use rustls::ALL_VERSIONS;
use rustls::client::ClientConfig;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpSocket;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::support::broker::Broker;
use crate::support::certificates::Authority;
use crate::support::chain::publish;
use crate::support::eventually::{eventually, eventually_within};
use crate::support::process::Process;
use crate::support::replica::config;
use crate::support::sockets::socket_bytes;

const HISTORY: ByteSize = ByteSize::mib(16);
const SEND_BUFFER: ByteSize = ByteSize::kib(64);
const TRANSACTIONS: usize = 200;
/// Its frames, at least.
const BLOCK_BYTES: usize = TRANSACTIONS * 180;
/// Twice what fills the history: a block counts with its filter fields too.
const FILLING_BLOCKS: u64 = 2 * HISTORY.0 / BLOCK_BYTES as u64;
/// Less than is kept, so that nobody is cut for being slow: what is owed to each that does not read.
const OWED_BLOCKS: u64 = 60;
/// The allocator's share of what is kept, and of the sum in `deploy/README.md` what is neither history nor session:
/// blocks under way, plain connections for the metrics, log lines. The process itself is not in it.
const SLACK_BYTES: f64 = 12e6;
/// Beside what is sent and received: a page that either side of a connection may keep in reserve.
const SOCKET_BYTES: u64 = 2 * 4_096;
/// As small as that of a client on a slow line.
const RECEIVE_BUFFER: ByteSize = ByteSize::kib(4);
/// What a replica gives itself for what clients send.
const RECEIVE_BUFFER_BYTES: u64 = 64 << 10;
/// Sockets are counted for the whole machine: what other tests' may come to while this one looks.
const OTHERS_BYTES: u64 = 32 << 20;
const PLAIN: Crowd = Crowd { connections: 1_000, stalled: 100, session_bytes: 8_192.0 };
/// What `deploy/README.md` says of a session with TLS that does not read.
const WITH_TLS: Crowd = Crowd { connections: 300, stalled: 100, session_bytes: 90.0 * 1_024.0 };

/// Who is connected.
struct Crowd {
    connections: usize,
    /// They take what the kernel takes for them, and then nothing.
    stalled: usize,
    /// Of one session in a build without optimisation; the benchmark has the figures that matter.
    session_bytes: f64,
}

impl Crowd {
    /// To those who are stalled.
    fn owed_bytes(&self) -> u64 {
        OWED_BLOCKS * BLOCK_BYTES as u64 * self.stalled as u64
    }
}

/// A client's end of its connection.
trait Connected: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Connected for T {}

fn body(height: u64) -> Vec<u8> {
    let ids = (0..TRANSACTIONS).map(|place| format!("{{\"id\":\"{:064x}\"}}", place));
    let transactions = ids.collect::<Vec<_>>().join(",");
    format!("{{\"height\":{height},\"transactions\":[{transactions}]}}").into_bytes()
}

/// A client whose handshake is done; over TLS, if it is told whom to trust.
async fn connect(
    address: SocketAddr,
    tls: Option<&Arc<ClientConfig>>,
    receive_buffer_bytes: Option<u32>,
) -> Box<dyn Connected> {
    let socket = TcpSocket::new_v4().expect("a socket");
    if let Some(bytes) = receive_buffer_bytes {
        socket.set_recv_buffer_size(bytes).expect("set");
    }
    let stream = socket.connect(address).await.expect("connected");
    let mut stream: Box<dyn Connected> = match tls {
        None => Box::new(stream),
        Some(tls) => {
            let connector = TlsConnector::from(Arc::clone(tls));
            Box::new(connector.connect(address.ip().into(), stream).await.expect("trusted"))
        }
    };
    let request = "GET /api/v1/streams/valid_transactions HTTP/1.1\r\nHost: x\r\n\
        Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
        Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n";
    stream.write_all(request.as_bytes()).await.expect("written");
    stream.flush().await.expect("written");
    let mut status = [0; 12];
    stream.read_exact(&mut status).await.expect("an answer");
    assert_eq!(&status, b"HTTP/1.1 101");
    stream
}

/// Bytes that the kernel holds for those who are connected to this port, by the fields of proc(5):
/// local address and port, then after the other end and the state what is to be sent and what is to be
/// read, all in hex.
fn queues(port: u16) -> Vec<[u64; 2]> {
    let sockets = std::fs::read_to_string("/proc/net/tcp").expect("Linux");
    let local = format!(":{port:04X}");
    let fields = sockets.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let here = fields.filter(|fields| fields.get(1).is_some_and(|it| it.ends_with(&local)));
    let bytes = |hex: &str| u64::from_str_radix(hex, 16).expect("hex");
    let queues = here.filter_map(|fields| {
        fields.get(4)?.split_once(':').map(|(unsent, unread)| [bytes(unsent), bytes(unread)])
    });
    queues.collect()
}

fn unsent_bytes(port: u16) -> Vec<u64> {
    queues(port).into_iter().map(|[unsent, _]| unsent).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_client_sends_and_nobody_reads_fills_a_buffer_that_does_not_grow() {
    let replica = Process::start_ready(&config(Broker::shared())).await;
    let mut client = connect(replica.address, None, None).await;
    // Binary messages of 60,000 bytes, which are skipped; masked with zeros.
    let message = [&[0x82, 0xfe, 0xea, 0x60, 0, 0, 0, 0][..], &[0; 60_000]].concat();
    // The system's own buffer grows for who is read from as fast as that.
    for _ in 0..1_000 {
        client.write_all(&message).await.expect("taken");
    }
    replica.signal("STOP").await;
    let bound = 2 * RECEIVE_BUFFER_BYTES;
    let mut unread = None;
    // Beside thousands of other connections the kernel is short of memory, for as long as their test takes.
    eventually_within(Duration::from_secs(240), "the buffer is full", async || {
        let blocked = async { while client.write_all(&message).await.is_ok() {} };
        timeout(Duration::from_secs(2), blocked).await.expect_err("nobody reads");
        unread = queues(replica.address.port()).into_iter().map(|[_, unread]| unread).max();
        unread.is_some_and(|bytes| bytes >= bound / 16)
    })
    .await;
    replica.signal("CONT").await;
    println!("{unread:?} bytes unread");
    assert!(unread.is_some_and(|bytes| bytes <= bound), "{unread:?}");
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_replica_takes_what_was_set_and_no_more() {
    takes_what_was_set_and_no_more(&PLAIN, config(Broker::shared()), None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_replica_with_tls_takes_what_was_set_and_no_more() {
    let authority = Authority::new();
    authority.install(&authority.issue(3000));
    let mut config = config(Broker::shared());
    config.server.tls = authority.tls();
    config.admin.listen = Some(SocketAddr::from(([127, 0, 0, 1], 0)).into());
    let tls = authority.client(ALL_VERSIONS);
    takes_what_was_set_and_no_more(&WITH_TLS, config, Some(&tls)).await;
}

#[expect(clippy::print_stdout, reason = "a figure to look at")]
async fn takes_what_was_set_and_no_more(
    crowd: &Crowd,
    mut config: Config,
    tls: Option<&Arc<ClientConfig>>,
) {
    let Crowd { connections, stalled: stalled_count, session_bytes } = *crowd;
    config.history.max_bytes = HISTORY;
    config.blocks.max_bytes = ByteSize::mib(1);
    config.server.max_connections = connections;
    config.server.send_buffer_bytes = SEND_BUFFER;
    // Nobody is cut while this looks.
    config.server.ping_interval = Duration::from_secs(3_600);
    config.server.write_stall_timeout = Duration::from_secs(3_600);
    let replica = Process::start_ready(&config).await;
    let resident = async || replica.metric("process_resident_memory_bytes").await;
    let at_first = resident().await;
    publish(&config, (1..=FILLING_BLOCKS).map(body)).await;
    replica.reaches(FILLING_BLOCKS).await;
    let oldest = replica.metric("blockcast_first_height").await;
    assert!(oldest > 1.0, "the history is full");

    let sockets_before = socket_bytes();
    let mut stalled = Vec::new();
    for _ in 0..stalled_count {
        stalled.push(connect(replica.address, tls, Some(RECEIVE_BUFFER.0 as u32)).await);
    }
    let mut readers: Vec<JoinHandle<()>> = Vec::new();
    for _ in stalled_count..connections {
        let mut stream = connect(replica.address, tls, None).await;
        readers.push(tokio::spawn(async move {
            let mut bytes = vec![0; 16_384];
            while let Ok(1..) = stream.read(&mut bytes).await {}
        }));
    }
    publish(&config, (FILLING_BLOCKS + 1..=FILLING_BLOCKS + OWED_BLOCKS).map(body)).await;
    all_is_read_but_by_the_stalled(&replica, crowd).await;

    assert_eq!(replica.metric("blockcast_sessions").await, connections as f64, "nobody was cut");
    let owed = crowd.owed_bytes();
    let (more, allowed) = (
        resident().await - at_first,
        HISTORY.0 as f64 + connections as f64 * session_bytes + SLACK_BYTES,
    );
    println!(
        "resident: {more} more than {at_first} at first, {allowed} allowed; {owed} owed to the stalled"
    );
    assert!(owed as f64 > 2.0 * allowed, "a queue per client would show");
    assert!(more <= allowed, "{more} bytes resident, {allowed} allowed");
    sockets_take_what_was_set(&replica, crowd, sockets_before).await;
    readers.iter().for_each(JoinHandle::abort);
    drop(stalled);
    replica.stop().await;
}

async fn all_is_read_but_by_the_stalled(replica: &Process, crowd: &Crowd) {
    replica.reaches(FILLING_BLOCKS + OWED_BLOCKS).await;
    let readers = crowd.connections - crowd.stalled;
    let read = (OWED_BLOCKS as usize * TRANSACTIONS * readers) as f64;
    eventually("everybody else has everything", async || {
        replica.metric("blockcast_sent_messages_total").await >= read
    })
    .await;
    // A message counts when the kernel has it, and those who stalled took some too.
    eventually("everybody else has read it", async || {
        unsent_bytes(replica.address.port()).iter().filter(|bytes| **bytes > 0).count()
            == crowd.stalled
    })
    .await;
}

#[expect(clippy::print_stdout, reason = "a figure to look at")]
async fn sockets_take_what_was_set(replica: &Process, crowd: &Crowd, sockets_before: u64) {
    let Crowd { connections, stalled: stalled_count, .. } = *crowd;
    let owed = crowd.owed_bytes();
    // The kernel doubles what is asked for, for what it adds to the bytes itself (socket(7)).
    let allowed = 2 * SEND_BUFFER.0;
    assert!(
        owed / stalled_count as u64 > 2 * allowed,
        "what the kernel would take, were it let, would show"
    );
    let unsent = unsent_bytes(replica.address.port());
    let (most, in_all) = (unsent.iter().max().expect("sockets"), unsent.iter().sum::<u64>());
    println!("sockets: {in_all} bytes unsent, {most} at most for one");
    let stalled_bytes = stalled_count as u64 * (allowed + 2 * RECEIVE_BUFFER.0);
    let sockets_allowed = stalled_bytes + connections as u64 * SOCKET_BYTES + OTHERS_BYTES;
    assert!(owed > 3 * sockets_allowed / 2, "the same of all sockets together");
    let mut sockets = 0;
    // What others have in flight passes; what is kept for those who stalled does not.
    eventually("sockets take what was set", async || {
        sockets = socket_bytes().saturating_sub(sockets_before);
        sockets <= sockets_allowed
    })
    .await;
    println!("sockstat: {sockets} more than before, {sockets_allowed} allowed");
    assert_eq!(replica.metric("blockcast_sessions").await, connections as f64, "and still there");
    assert!(*most <= allowed && in_all <= stalled_count as u64 * allowed, "{unsent:?}");
    assert!(in_all > stalled_count as u64 * SEND_BUFFER.0 / 2, "they are stalled: {unsent:?}");
}
