//! One WebSocket to a server, from its handshake to its close. Knows of no blocks.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Bytes, Message, Utf8Bytes};
use tokio_tungstenite::{
    Connector, MaybeTlsStream, WebSocketStream, connect_async_tls_with_config,
};

use super::ending::{self, ConnectionEnd};
use super::trust::Trust;

/// Connecting, with the TLS and WebSocket handshakes.
const CONNECT: Duration = Duration::from_secs(10);
/// Silence after which we ask whether the server is there; it pings idle clients every 25 s itself.
const SILENCE: Duration = Duration::from_secs(40);
/// How long an answer to that, or to our close, may take.
pub(super) const ANSWER: Duration = Duration::from_secs(10);
/// A block as one message, `batch=block`, is the largest there is; history.max_bytes bounds it to
/// 256 MiB, but one of 64 MiB would hold 300,000 events already.
const MESSAGE_BYTES_MAX: usize = 64 << 20;

pub(super) struct ServerConnection<S = MaybeTlsStream<TcpStream>> {
    socket: WebSocketStream<S>,
    /// Whether we have asked since something was last heard.
    has_asked: bool,
    /// When silence is answered: by asking, or by giving up.
    silent_at: Instant,
    /// The server's close, with or without a code, until it is told.
    close: Option<Option<CloseFrame>>,
}

impl ServerConnection {
    /// # Errors
    /// Why there is none, and what that means for the stream.
    pub async fn open(url: String, trust: Option<Trust>) -> Result<Self, ConnectionEnd> {
        let connector = trust.map(|trust| Connector::Rustls(trust.config()));
        let connecting = connect_async_tls_with_config(url, Some(config()), true, connector);
        match timeout(CONNECT, connecting).await {
            Ok(Ok((socket, _))) => Ok(Self::new(socket)),
            Ok(Err(error)) => Err(ending::of_connect(&error)),
            Err(_) => Err(ending::again(format!("no connection within {} s", CONNECT.as_secs()))),
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> ServerConnection<S> {
    fn new(socket: WebSocketStream<S>) -> Self {
        let silent_at = Instant::now() + SILENCE;
        Self { socket, has_asked: false, silent_at, close: None }
    }

    /// The next text message. Pings are answered by the library as it reads on.
    ///
    /// # Errors
    /// How the connection ended; it is of no more use.
    ///
    /// # Cancel safety
    /// No message and no ending is lost.
    pub async fn text(&mut self) -> Result<Utf8Bytes, ConnectionEnd> {
        loop {
            if let Some(frame) = &self.close {
                // The answer to the close: told or not, the server has ended it.
                let _ = timeout_at(self.silent_at, self.socket.flush()).await;
                return Err(ending::of_close(frame.as_ref()));
            }
            let message = match timeout_at(self.silent_at, self.socket.next()).await {
                Ok(Some(Ok(message))) => message,
                Ok(Some(Err(error))) => return Err(ending::of_failure(&error)),
                Ok(None) => return Err(ending::again("the connection ended without a close")),
                Err(_) if self.has_asked => return Err(ending::again("the server is silent")),
                Err(_) => {
                    self.has_asked = true;
                    self.silent_at = Instant::now() + ANSWER;
                    // A failure to send shows when reading.
                    let ping = Message::Ping(Bytes::new());
                    let _ = timeout_at(self.silent_at, self.socket.send(ping)).await;
                    continue;
                }
            };
            self.has_asked = false;
            self.silent_at = Instant::now() + SILENCE;
            match message {
                Message::Text(text) => return Ok(text),
                Message::Close(frame) => {
                    self.silent_at = Instant::now() + ANSWER;
                    self.close = Some(frame);
                }
                _ => {}
            }
        }
    }

    /// Says goodbye, for as long as that may take.
    pub async fn close(mut self) {
        let frame = CloseFrame { code: CloseCode::Normal, reason: "".into() };
        let _ = timeout(ANSWER, self.socket.close(Some(frame))).await;
    }
}

fn config() -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(64 << 10)
        .write_buffer_size(0)
        .max_write_buffer_size(64 << 10)
        .max_message_size(Some(MESSAGE_BYTES_MAX))
        .max_frame_size(Some(MESSAGE_BYTES_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::DuplexStream;
    use tokio_tungstenite::tungstenite::protocol::Role;

    async fn pair() -> (ServerConnection<DuplexStream>, WebSocketStream<DuplexStream>) {
        let (ours, theirs) = tokio::io::duplex(1 << 16);
        let socket = WebSocketStream::from_raw_socket(ours, Role::Client, Some(config())).await;
        let server = WebSocketStream::from_raw_socket(theirs, Role::Server, None).await;
        (ServerConnection::new(socket), server)
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_server_is_asked_once_and_then_given_up() {
        let (mut connection, mut server) = pair().await;
        let begun = Instant::now();
        let ending = connection.text().await.expect_err("nothing came");
        assert!(matches!(ending, ConnectionEnd::Again { why, .. } if why.contains("silent")));
        assert_eq!(begun.elapsed(), SILENCE + ANSWER);
        assert!(matches!(server.next().await, Some(Ok(Message::Ping(_)))));
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_answers_is_kept_however_often_reading_is_given_up() {
        let (mut connection, mut server) = pair().await;
        let answering = async {
            for _ in 0..3 {
                // Reading answers the ping.
                assert!(matches!(server.next().await, Some(Ok(Message::Ping(_)))));
                server.flush().await.expect("flushed");
            }
            server.send(Message::text("x")).await.expect("sent");
            std::future::pending::<()>().await
        };
        let reading = async {
            loop {
                if let Ok(text) = timeout(Duration::from_millis(700), connection.text()).await {
                    break text.expect("a text");
                }
            }
        };
        tokio::select! {
            text = reading => assert_eq!(text.as_str(), "x"),
            () = answering => {}
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_close_is_told_although_reading_was_given_up_in_it() {
        let (mut connection, mut server) = pair().await;
        let frame = CloseFrame { code: 4009.into(), reason: "from_height=3".into() };
        server.send(Message::Close(Some(frame))).await.expect("sent");
        let mut reading = Box::pin(connection.text());
        let _ = futures_util::poll!(&mut reading);
        drop(reading);
        let ending = connection.text().await.expect_err("closed");
        assert!(
            matches!(ending, ConnectionEnd::Fatal(crate::client::Error::Gone { .. })),
            "{ending:?}"
        );
    }
}
