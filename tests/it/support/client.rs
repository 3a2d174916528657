//! A WebSocket client on a real socket, from a library that is not ours.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::{Error, Message, protocol::CloseFrame};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

/// A message is awaited this long: on a busy machine a turn at the broker may be minutes away.
const DEADLINE: Duration = Duration::from_secs(240);

pub const UPGRADE: &str = "GET /api/v1/streams/valid_transactions HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n\
    Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n";

pub struct Client(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Client {
    pub async fn connect(url: &str) -> Self {
        Self::try_connect(url).await.expect("connected")
    }

    pub async fn try_connect(url: &str) -> Result<Self, Error> {
        let (socket, _) = connect_async(url).await?;
        Ok(Self(socket))
    }

    /// The next text message.
    pub async fn text(&mut self) -> String {
        match self.message().await {
            Ok(Message::Text(text)) => text.to_string(),
            other => panic!("a text message was due: {other:?}"),
        }
    }

    /// The next `count` text messages.
    pub async fn texts(&mut self, count: usize) -> Vec<String> {
        let mut texts = Vec::with_capacity(count);
        for _ in 0..count {
            texts.push(self.text().await);
        }
        texts
    }

    /// The close frame, texts before it left out.
    pub async fn closed(&mut self) -> CloseFrame {
        loop {
            match self.message().await {
                Ok(Message::Close(Some(frame))) => return frame,
                Ok(Message::Text(_)) => {}
                other => panic!("a close frame was due: {other:?}"),
            }
        }
    }

    /// The next message that is no ping or pong, or how the connection ended.
    pub async fn message(&mut self) -> Result<Message, Error> {
        loop {
            let next = tokio::time::timeout(DEADLINE, self.0.next()).await;
            match next.expect("a message in time") {
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                Some(other) => return other,
                None => return Err(Error::ConnectionClosed),
            }
        }
    }

    pub async fn send(&mut self, message: Message) {
        self.0.send(message).await.expect("sent");
    }

    /// Closes from this side and returns the server's answer.
    pub async fn close(mut self, frame: CloseFrame) -> Option<CloseFrame> {
        self.0.close(Some(frame)).await.expect("closed");
        loop {
            match self.0.next().await {
                Some(Ok(Message::Close(frame))) => return frame,
                Some(Ok(_)) => {}
                _ => return None,
            }
        }
    }
}

impl From<WebSocketStream<MaybeTlsStream<TcpStream>>> for Client {
    fn from(socket: WebSocketStream<MaybeTlsStream<TcpStream>>) -> Self {
        Self(socket)
    }
}

/// The next `count` messages that tell more than where the client is.
pub async fn texts_but_blocks(client: &mut Client, count: usize) -> Vec<String> {
    let names = ["block", "position", "heartbeat"].map(|name| format!("{{\"type\": \"{name}\""));
    let mut texts = Vec::new();
    let reading = async {
        while texts.len() < count {
            let text = client.text().await;
            if !names.iter().any(|name| text.starts_with(name)) {
                texts.push(text);
            }
        }
    };
    // Heartbeats come for ever.
    let all = tokio::time::timeout(DEADLINE, reading).await;
    assert!(all.is_ok(), "only {texts:?}");
    texts
}
