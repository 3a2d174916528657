//! A client of Server-Sent Events on a plain socket, so that a test sees what a browser hides.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::replica::{Answer, Replica, request};

const TRANSACTIONS: &str = "/api/v1/streams/valid_transactions";

/// An event stream that is being read.
pub struct EventStream {
    socket: TcpStream,
    unread: Vec<u8>,
}

impl EventStream {
    pub async fn open(replica: &Replica, query: &str, headers: &str) -> (String, Self) {
        let mut socket = TcpStream::connect(replica.address).await.expect("connected");
        socket.write_all(head(query, headers).as_bytes()).await.expect("written");
        let mut stream = Self { socket, unread: Vec::new() };
        let head = stream.up_to("\r\n\r\n").await;
        (head, stream)
    }

    /// The text up to `end`, without it.
    async fn up_to(&mut self, end: &str) -> String {
        loop {
            let found = self.unread.windows(end.len()).position(|here| here == end.as_bytes());
            if let Some(at) = found {
                let rest = self.unread.split_off(at + end.len());
                self.unread.truncate(at);
                let text = std::mem::replace(&mut self.unread, rest);
                return String::from_utf8(text).expect("text");
            }
            assert_ne!(self.read().await, 0, "the stream ended");
        }
    }

    /// The server ends the connection, and says nothing more.
    pub async fn is_over(&mut self) {
        assert_eq!(self.read().await, 0);
        assert_eq!(self.unread, b"");
    }

    async fn read(&mut self) -> usize {
        let read = self.socket.read_buf(&mut self.unread);
        let read = tokio::time::timeout(Duration::from_secs(60), read).await;
        read.expect("more in time").expect("read")
    }

    /// The next event, its fields by line.
    pub async fn event(&mut self) -> String {
        self.up_to("\n\n").await
    }
}

/// A request for an event stream.
pub fn head(query: &str, headers: &str) -> String {
    format!(
        "GET {TRANSACTIONS}?{query} HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n{headers}\r\n"
    )
}

/// What it is answered until the server ends it.
pub async fn ask(replica: &Replica, query: &str, headers: &str) -> Answer {
    request(replica.address, &head(query, headers)).await
}
