//! A server that no broker fills, and raw connections to it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use blockcast::config;
use blockcast::history::History;
use blockcast::metrics::Metrics;
use blockcast::operator_status::OperatorStatus;
use blockcast::readiness::Readiness;
use blockcast::server::{Server, ServerParts};
use blockcast::shutdown::Drain;
use blockcast::tickets::Tickets;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::case::{Case, Step};

/// For one answer; far above what it takes.
const DEADLINE: Duration = Duration::from_secs(60);

/// How long the server waits for a client's close.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

pub struct Served {
    address: SocketAddr,
    shutdown: CancellationToken,
    task: JoinHandle<()>,
}

impl Served {
    pub async fn start() -> Self {
        let mut limits = config::ServerConfig::default();
        limits.listen = SocketAddr::from(([127, 0, 0, 1], 0)).into();
        (limits.drain_delay, limits.drain) = (Duration::ZERO, Duration::ZERO);
        let readiness = Arc::new(Readiness::new(DEADLINE));
        readiness.set_warm(true);
        let sources = ServerParts {
            history: Arc::new(History::new(usize::MAX)),
            tickets: Arc::new(Tickets::none()),
            metrics: Arc::new(Metrics::new()),
            readiness,
            operator_status: Arc::new(OperatorStatus::default()),
            drain: Arc::new(Drain::default()),
            tls: None,
            reload: Arc::default(),
        };
        let server = Server::bind(&limits, &config::Admin::default(), sources).expect("bound");
        let address = server.bound().expect("its address").first;
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(server.run(shutdown.clone()));
        Self { address, shutdown, task }
    }

    pub async fn check(&self, case: Case) {
        while !self.was_fast_enough(&case).await {}
    }

    /// Checks a case. False when this machine needed longer to send than the server waits, after its
    /// close, for the client's: then there is no end to be looked at.
    async fn was_fast_enough(&self, case: &Case) -> bool {
        let mut socket = self.connect(case).await;
        let began = Instant::now();
        for (place, step) in case.steps.iter().enumerate() {
            let at = || format!("case {}, step {place}", case.number);
            match step {
                Step::Send(bytes) => {
                    let written = timeout(DEADLINE, socket.write_all(bytes)).await;
                    let written = written.unwrap_or_else(|_| panic!("{}: nobody reads", at()));
                    if written.is_err() && began.elapsed() >= CLOSE_TIMEOUT {
                        return false;
                    }
                    written.expect("written");
                }
                Step::Due(expected) => {
                    let mut bytes = vec![0; expected.len()];
                    let read = timeout(DEADLINE, socket.read_exact(&mut bytes)).await;
                    let read = read.unwrap_or_else(|_| panic!("{}: nothing came", at()));
                    assert!(read.is_ok(), "{}: {read:?}", at());
                    assert_eq!(bytes, *expected, "{}: {}", at(), bytes.escape_ascii());
                }
            }
        }
        let mut rest = Vec::new();
        let read = timeout(DEADLINE, socket.read_to_end(&mut rest)).await;
        read.unwrap_or_else(|_| panic!("case {} has no end", case.number)).expect("read");
        assert!(rest.is_empty(), "case {}: {} is left", case.number, rest.escape_ascii());
        true
    }

    pub async fn stop(self) {
        self.shutdown.cancel();
        timeout(DEADLINE, self.task).await.expect("it ends in time").expect("it did not panic");
    }

    async fn connect(&self, case: &Case) -> TcpStream {
        let mut socket = TcpStream::connect(self.address).await.expect("connected");
        socket.set_nodelay(true).expect("set");
        let offer = case
            .offer
            .map_or(String::new(), |(offer, _)| format!("Sec-WebSocket-Extensions: {offer}\r\n"));
        let request = format!(
            "GET /api/v1/streams/valid_transactions HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n\
             Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{offer}\r\n"
        );
        socket.write_all(request.as_bytes()).await.expect("written");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let byte = timeout(DEADLINE, socket.read_u8()).await;
            head.push(byte.expect("an answer in time").expect("an answer"));
        }
        let head = String::from_utf8(head).expect("text");
        assert!(head.starts_with("HTTP/1.1 101 "), "case {}: {head}", case.number);
        let mut lines = head.lines();
        let agreed = lines.find_map(|line| line.strip_prefix("Sec-WebSocket-Extensions: "));
        assert_eq!(agreed, case.offer.and_then(|(_, agreed)| agreed), "case {}", case.number);
        socket
    }
}
