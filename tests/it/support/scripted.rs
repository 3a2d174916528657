//! A WebSocket server that says what a test wants, connection by connection: the other side of the
//! contract, as far as a client sees it.

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::{WebSocketStream, accept_hdr_async};

/// For whatever a test waits for; far above what it takes.
const PATIENCE: Duration = Duration::from_secs(60);

pub struct Scripted {
    listener: TcpListener,
    pub address: SocketAddr,
}

/// A connection of a client.
pub struct Served {
    socket: WebSocketStream<TcpStream>,
    /// What it asked for.
    pub query: String,
}

impl Scripted {
    pub async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("its address");
        Self { listener, address }
    }

    pub fn url(&self) -> String {
        format!("ws://{}/api/v1/streams/valid_transactions", self.address)
    }

    /// The next client.
    pub async fn serve(&self) -> Served {
        let mut query = String::new();
        #[expect(clippy::result_large_err, reason = "the library's type of a refusal")]
        let note = |request: &Request, response: Response| {
            query = request.uri().query().unwrap_or("").to_owned();
            Ok(response)
        };
        let socket = timeout(PATIENCE, accept_hdr_async(self.accept().await, note)).await;
        Served { socket: socket.expect("a handshake in time").expect("a WebSocket"), query }
    }

    /// Answers the next client with this, instead of a WebSocket; returns its request.
    pub async fn refuse(&self, status: &str, headers: &str, body: &str) -> String {
        let mut socket = self.accept().await;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(socket.read_u8().await.expect("a whole request"));
        }
        let len = body.len();
        let answer = format!(
            "HTTP/1.1 {status}\r\nContent-Length: {len}\r\n{headers}Connection: close\r\n\r\n{body}"
        );
        socket.write_all(answer.as_bytes()).await.expect("written");
        socket.shutdown().await.expect("shut down");
        String::from_utf8(head).expect("text")
    }

    async fn accept(&self) -> TcpStream {
        let accepted = timeout(PATIENCE, self.listener.accept()).await;
        accepted.expect("a client in time").expect("accepted").0
    }
}

impl Served {
    pub async fn say(&mut self, texts: &[&str]) {
        for text in texts {
            self.socket.send(Message::text(*text)).await.expect("sent");
        }
    }

    /// Closes and waits for the client's answer.
    pub async fn close(mut self, code: u16, reason: &str) {
        let frame = CloseFrame { code: code.into(), reason: reason.into() };
        self.socket.close(Some(frame)).await.expect("closed");
        self.gone().await;
    }

    /// Breaks the connection, without a close.
    pub fn cut(self) {
        drop(self.socket);
    }

    /// Waits until the client has left.
    pub async fn gone(&mut self) {
        let left = async { while let Some(Ok(_)) = self.socket.next().await {} };
        timeout(PATIENCE, left).await.expect("the client leaves in time");
    }
}

pub fn position(height: impl std::fmt::Display) -> String {
    format!(r#"{{"type": "position", "height": {height}, "first_height": 1, "tip_height": 9}}"#)
}

pub fn event(height: u64, id: &str) -> String {
    format!(r#"{{"height": {height}, "asset_id": "{id}", "transaction_id": "{id}"}}"#)
}

pub fn block(height: u64, events: u64) -> String {
    format!(r#"{{"type": "block", "height": {height}, "events": {events}}}"#)
}
