//! A stand-in for a node: its HTTP API as far as it gives blocks and transactions, and its event
//! stream, with the faults of a real one.

#[path = "node/held.rs"]
mod held;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use futures_util::{SinkExt, StreamExt};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::broadcast;
use tokio::task::JoinSet;
use tokio_tungstenite::accept_hdr_async;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server;
use tokio_util::task::AbortOnDropHandle;

pub use held::Held;

/// What BigchainDB 2.2.2 and Planetmint 2.5.3 say of what they do not have.
const NOT_FOUND: &[u8] = include_bytes!("../../data/bigchaindb-2.2.2-block-404.json");

/// A node that may be stopped and started again, at the same address.
pub struct Node {
    pub address: SocketAddr,
    chain: Arc<Mutex<Chain>>,
    server: Option<AbortOnDropHandle<()>>,
    stream: Option<AbortOnDropHandle<()>>,
}

/// What it answers with.
struct Chain {
    /// By height, from 1; those that were not given are empty blocks.
    bodies: BTreeMap<u64, Vec<u8>>,
    tip: u64,
    /// Heights that it does not have.
    lost: BTreeSet<u64>,
    /// By id, for blocks that only list them.
    transactions: BTreeMap<String, Vec<u8>>,
    /// By path; they come before all else, but for blocks above the tip.
    recorded: BTreeMap<String, Recorded>,
    /// Holds back what it answers for transactions.
    held: Option<Arc<Held>>,
    has_latest: bool,
    /// What its API root says.
    streams: Option<String>,
    /// What its stream says, to those who listen.
    events: broadcast::Sender<String>,
    stream_authorization: Option<String>,
    /// For the coming requests for this height, in this order.
    faults: BTreeMap<u64, VecDeque<Fault>>,
    requests: Vec<u64>,
    transaction_requests: Vec<String>,
    authorization: Option<String>,
}

/// What a real node answered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Recorded {
    pub path: String,
    pub status: u16,
    pub content_type: String,
    pub body: String,
}

/// Something other than the block.
#[derive(Debug, Clone)]
pub enum Fault {
    Status(u16),
    /// No answer at all.
    Silence,
    /// 200 with this body.
    Body(Vec<u8>),
}

impl Node {
    pub async fn start(bodies: impl IntoIterator<Item = Vec<u8>>) -> Self {
        let bodies: BTreeMap<u64, Vec<u8>> = (1..).zip(bodies).collect();
        let tip = bodies.len() as u64;
        let chain = Arc::new(Mutex::new(Chain {
            bodies,
            tip,
            lost: BTreeSet::new(),
            transactions: BTreeMap::new(),
            recorded: BTreeMap::new(),
            held: None,
            has_latest: false,
            streams: None,
            events: broadcast::channel(64).0,
            stream_authorization: None,
            faults: BTreeMap::new(),
            requests: Vec::new(),
            transaction_requests: Vec::new(),
            authorization: None,
        }));
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut node = Self { address, chain, server: None, stream: None };
        node.restart().await;
        node
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Closes the listener and every connection.
    pub async fn stop(&mut self) {
        if let Some(server) = self.server.take() {
            server.abort();
            let _ = server.await;
        }
    }

    pub async fn restart(&mut self) {
        let listener = TcpListener::bind(self.address).await.expect("the address is free");
        self.address = listener.local_addr().expect("its address");
        let chain = Arc::clone(&self.chain);
        self.server = Some(AbortOnDropHandle::new(tokio::spawn(serve(listener, chain))));
    }

    pub fn set_tip(&self, tip: u64) {
        self.chain().tip = tip;
    }

    pub fn put(&self, height: u64, body: Vec<u8>) {
        self.chain().bodies.insert(height, body);
    }

    pub fn put_transaction(&self, id: &str, body: &[u8]) {
        self.chain().transactions.insert(id.to_owned(), body.to_owned());
    }

    /// Answers so at that path.
    pub fn record(&self, answer: Recorded) {
        self.chain().recorded.insert(answer.path.clone(), answer);
    }

    /// Holds back all that it answers for transactions from now on.
    pub fn hold_transactions(&self) -> Arc<Held> {
        let held = Arc::new(Held::new());
        self.chain().held = Some(Arc::clone(&held));
        held
    }

    /// It has these no more.
    pub fn lose(&self, heights: impl IntoIterator<Item = u64>) {
        self.chain().lost.extend(heights);
    }

    /// It has this one again.
    pub fn find(&self, height: u64) {
        self.chain().lost.remove(&height);
    }

    /// It answers for `blocks/latest`, as Planetmint does.
    pub fn tell_latest(&self) {
        self.chain().has_latest = true;
    }

    /// Its API root says this.
    pub fn advertise(&self, streams: &str) {
        self.chain().streams = Some(streams.to_owned());
    }

    /// Opens its event stream, and says so in its API root. Returns the port.
    pub async fn open_stream(&mut self) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("its address").port();
        let chain = Arc::clone(&self.chain);
        self.stream = Some(AbortOnDropHandle::new(tokio::spawn(stream(listener, chain))));
        self.advertise(&format!("ws://127.0.0.1:{port}/api/v1/streams/valid_transactions"));
        port
    }

    /// Cuts those who listen; the API root still names the stream.
    pub async fn close_stream(&mut self) {
        if let Some(stream) = self.stream.take() {
            stream.abort();
            let _ = stream.await;
        }
    }

    /// How many listen to the stream.
    pub fn listeners(&self) -> usize {
        self.chain().events.receiver_count()
    }

    /// Has a new tip, and says so on its stream.
    pub fn commit(&self, height: u64) {
        let mut chain = self.chain();
        chain.tip = height;
        // Nobody may listen.
        let _ = chain.events.send(format!("{{\"height\": {height}}}"));
    }

    /// What the last handshake of its stream had in its header.
    pub fn stream_authorization(&self) -> Option<String> {
        self.chain().stream_authorization.clone()
    }

    /// Answers the next requests for a height with these instead.
    pub fn fail(&self, height: u64, faults: impl IntoIterator<Item = Fault>) {
        self.chain().faults.entry(height).or_default().extend(faults);
    }

    /// How often this height was asked for.
    pub fn requests(&self, height: u64) -> usize {
        self.chain().requests.iter().filter(|asked| **asked == height).count()
    }

    /// How often this transaction was asked for.
    pub fn asked_for(&self, id: &str) -> usize {
        self.chain().transaction_requests.iter().filter(|asked| *asked == id).count()
    }

    /// What the last request had in its header.
    pub fn authorization(&self) -> Option<String> {
        self.chain().authorization.clone()
    }

    fn chain(&self) -> MutexGuard<'_, Chain> {
        self.chain.lock().expect("nobody panicked while it held this lock")
    }
}

impl Chain {
    fn recorded(&self, path: &str) -> Option<Recorded> {
        let height = path.strip_prefix("/api/v1/blocks/").and_then(|height| height.parse().ok());
        let is_there = height.is_none_or(|height: u64| height <= self.tip);
        self.recorded.get(path).filter(|_| is_there).cloned()
    }

    fn answer(&mut self, path: &str) -> (Option<Fault>, Option<Vec<u8>>) {
        if path.is_empty() {
            let root = |streams| format!("{{\"streams\": \"{streams}\"}}").into_bytes();
            return (None, self.streams.as_ref().map(root));
        }
        if let Some(id) = path.strip_prefix("transactions/") {
            self.transaction_requests.push(id.to_owned());
            return (None, self.transactions.get(id).cloned());
        }
        let height = path.strip_prefix("blocks/").expect("a block's path");
        if height == "latest" {
            return match self.has_latest {
                true => (None, self.block(self.tip)),
                false => (Some(Fault::Status(404)), None),
            };
        }
        let height = height.parse().expect("a height");
        self.requests.push(height);
        (self.faults.get_mut(&height).and_then(VecDeque::pop_front), self.block(height))
    }

    fn block(&self, height: u64) -> Option<Vec<u8>> {
        let is_there = height <= self.tip && !self.lost.contains(&height);
        let empty = || format!("{{\n  \"height\": {height},\n  \"transactions\": []\n}}\n").into();
        is_there.then(|| self.bodies.get(&height).cloned().unwrap_or_else(empty))
    }
}

async fn stream(listener: TcpListener, chain: Arc<Mutex<Chain>>) {
    let mut connections = JoinSet::new();
    loop {
        let (socket, _) = listener.accept().await.expect("accepted");
        connections.spawn(say(socket, Arc::clone(&chain)));
    }
}

/// Says the events to one who listens, until it leaves.
async fn say(socket: TcpStream, chain: Arc<Mutex<Chain>>) {
    socket.set_nodelay(true).expect("set");
    let locked = || chain.lock().expect("nobody panicked while it held this lock");
    let mut events = locked().events.subscribe();
    #[expect(clippy::result_large_err, reason = "the library's type of a refusal")]
    let note = |request: &server::Request, response: server::Response| {
        let authorization = request.headers().get(AUTHORIZATION);
        locked().stream_authorization =
            authorization.map(|value| value.to_str().expect("ASCII").to_owned());
        Ok(response)
    };
    let Ok(mut socket) = accept_hdr_async(socket, note).await else { return };
    loop {
        tokio::select! {
            event = events.recv() => {
                let event = event.expect("the chain outlives this and nobody lags");
                if socket.send(Message::text(event)).await.is_err() {
                    return;
                }
            }
            message = socket.next() => match message {
                Some(Ok(_)) => {}
                _ => return,
            }
        }
    }
}

async fn serve(listener: TcpListener, chain: Arc<Mutex<Chain>>) {
    let mut connections = JoinSet::new();
    loop {
        let (socket, _) = listener.accept().await.expect("accepted");
        let chain = Arc::clone(&chain);
        let service = service_fn(move |request| answer(Arc::clone(&chain), request));
        connections.spawn(async move {
            let connection = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(socket), service);
            let _ = connection.await; // the client may leave at any time
        });
    }
}

async fn answer(
    chain: Arc<Mutex<Chain>>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let authorization = request.headers().get(AUTHORIZATION);
    let authorization = authorization.map(|value| value.to_str().expect("ASCII").to_owned());
    let path = request.uri().path();
    let (fault, body, held) = {
        let mut chain = chain.lock().expect("nobody panicked while it held this lock");
        chain.authorization = authorization;
        if let Some(Recorded { status, content_type, body, .. }) = chain.recorded(path) {
            let answer = Response::builder().status(status).header(CONTENT_TYPE, content_type);
            return Ok(answer.body(Full::from(body)).expect("an answer"));
        }
        let path = path.strip_prefix("/api/v1/").expect("a path of the API");
        let (fault, body) = chain.answer(path);
        (fault, body, chain.held.clone().filter(|_| path.starts_with("transactions/")))
    };
    if let Some(held) = held {
        held.turn().await;
    }
    let (status, body) = match (fault, body) {
        (Some(Fault::Silence), _) => std::future::pending().await,
        (Some(Fault::Status(status)), _) => (status, b"{\"message\": \"a fault\"}".to_vec()),
        (Some(Fault::Body(body)), _) | (None, Some(body)) => (200, body),
        (None, None) => (404, NOT_FOUND.to_vec()),
    };
    let answer = Response::builder().status(status).header(CONTENT_TYPE, "application/json");
    Ok(answer.body(Full::from(body)).expect("an answer"))
}
