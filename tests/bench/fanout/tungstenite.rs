//! What one writes in Rust first: tungstenite on tokio, every event fed to every client's stream,
//! flushed per block.

use std::io::Read;
use std::net::SocketAddr;
use std::sync::Arc;

use futures_util::future::LocalBoxFuture;
use futures_util::{FutureExt, SinkExt, StreamExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::broadcast::{self, error::RecvError};
use tokio_tungstenite::tungstenite::{Error, Message, Utf8Bytes};

use super::blocks;
use super::load::Greeting;
use super::peer::Peer;
use super::process::Server;

pub const ROLE: &str = "tungstenite";
/// A client that is further behind misses blocks.
const BLOCKS_BEHIND_MAX: usize = 16;

pub struct Tungstenite(Server);

impl Tungstenite {
    pub fn start(transactions: usize) -> anyhow::Result<Self> {
        Ok(Self(Server::start_own(ROLE, transactions)?))
    }
}

impl Peer for Tungstenite {
    fn pids(&self) -> Vec<u32> {
        vec![self.0.pid()]
    }

    fn address(&self) -> SocketAddr {
        self.0.address
    }

    fn greeting(&self) -> Greeting {
        Greeting::to("/")
    }

    fn send(&mut self) -> LocalBoxFuture<'_, anyhow::Result<()>> {
        async { self.0.nudge(b'\n') }.boxed_local()
    }
}

/// The process itself, on the runtime that the service uses: sends a block for each byte of its
/// input.
pub fn serve(transactions: usize) {
    tokio::runtime::Runtime::new().expect("a runtime").block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        println!("{}", listener.local_addr().expect("an address"));
        let (blocks, _) = broadcast::channel(BLOCKS_BEHIND_MAX);
        let sender = blocks.clone();
        std::thread::spawn(move || {
            let events: Arc<[Utf8Bytes]> =
                std::iter::repeat_n(blocks::event().into(), transactions).collect();
            let mut input = std::io::stdin().lock();
            while input.read_exact(&mut [0]).is_ok() {
                // Fails when nobody listens.
                let _ = sender.send(Arc::clone(&events));
            }
            std::process::exit(0);
        });
        loop {
            let (socket, _) = listener.accept().await.expect("a client");
            tokio::spawn(session(socket, blocks.subscribe()));
        }
    });
}

async fn session(
    socket: TcpStream,
    mut blocks: broadcast::Receiver<Arc<[Utf8Bytes]>>,
) -> Result<(), Error> {
    let mut socket = tokio_tungstenite::accept_async(socket).await?;
    loop {
        tokio::select! {
            block = blocks.recv() => match block {
                Ok(events) => {
                    for event in events.iter() {
                        socket.feed(Message::Text(event.clone())).await?;
                    }
                    socket.flush().await?;
                }
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return Ok(()),
            },
            message = socket.next() => match message {
                Some(message) => drop(message?),
                None => return Ok(()),
            },
        }
    }
}
