//! A stand-in for a node: its HTTP API as far as it gives blocks, with the faults of a real one.

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::task::AbortOnDropHandle;

/// A node that may be stopped and started again, at the same address.
pub struct Node {
    pub address: SocketAddr,
    chain: Arc<Mutex<Chain>>,
    server: Option<AbortOnDropHandle<()>>,
}

/// What it answers with.
#[derive(Default)]
struct Chain {
    /// By height, from 1; those that were not given are empty blocks.
    bodies: BTreeMap<u64, Vec<u8>>,
    tip: u64,
    /// For the coming requests for this height, in this order.
    faults: BTreeMap<u64, VecDeque<Fault>>,
    requests: Vec<u64>,
    authorization: Option<String>,
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
        let chain = Arc::new(Mutex::new(Chain { bodies, tip, ..Chain::default() }));
        let mut node = Self { address: SocketAddr::from(([127, 0, 0, 1], 0)), chain, server: None };
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

    /// Answers the next requests for a height with these instead.
    pub fn fail(&self, height: u64, faults: impl IntoIterator<Item = Fault>) {
        self.chain().faults.entry(height).or_default().extend(faults);
    }

    /// How often this height was asked for.
    pub fn requests(&self, height: u64) -> usize {
        self.chain().requests.iter().filter(|asked| **asked == height).count()
    }

    /// What the last request had in its header.
    pub fn authorization(&self) -> Option<String> {
        self.chain().authorization.clone()
    }

    fn chain(&self) -> MutexGuard<'_, Chain> {
        self.chain.lock().expect("nobody panicked while it held this lock")
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
    let height = request.uri().path().strip_prefix("/api/v1/blocks/");
    let height = height.and_then(|height| height.parse().ok()).expect("a block's path");
    let authorization = request.headers().get(AUTHORIZATION);
    let (fault, body) = {
        let mut chain = chain.lock().expect("nobody panicked while it held this lock");
        chain.requests.push(height);
        chain.authorization = authorization.map(|value| value.to_str().expect("ASCII").to_owned());
        let fault = chain.faults.get_mut(&height).and_then(VecDeque::pop_front);
        let empty = || format!("{{\n  \"height\": {height},\n  \"transactions\": []\n}}\n").into();
        let body = chain.bodies.get(&height).cloned().unwrap_or_else(empty);
        (fault, (height <= chain.tip).then_some(body))
    };
    let (status, body) = match (fault, body) {
        (Some(Fault::Silence), _) => std::future::pending().await,
        (Some(Fault::Status(status)), _) => (status, b"{\"message\": \"a fault\"}".to_vec()),
        (Some(Fault::Body(body)), _) | (None, Some(body)) => (200, body),
        (None, None) => (404, b"{\"message\": \"\", \"status\": 404}".to_vec()),
    };
    let answer = Response::builder().status(status).header(CONTENT_TYPE, "application/json");
    Ok(answer.body(Full::from(body)).expect("an answer"))
}
