//! A node's own event stream, listened to only to be woken: what it says is not looked at.
//!
//! A node without one, or one that cannot be reached, is asked at intervals all the same, so nothing
//! here is a failure. It is looked for again after a growing wait, for as long as this is kept.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::http::header::AUTHORIZATION;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Bytes, Message};
use tokio_tungstenite::{
    Connector, MaybeTlsStream, WebSocketStream, connect_async_tls_with_config,
};
use tokio_util::task::AbortOnDropHandle;

use super::super::progress::Voice;
use super::Node;
use super::address::StreamAddress;
use super::http::Budget;
use crate::backoff::Backoff;
use crate::cli::outcome::{half_jitter, told};
use crate::protocol::ApiRoot;
use crate::secret;

/// Connecting, with the TLS and WebSocket handshakes.
const CONNECT: Duration = Duration::from_secs(10);
/// Silence after which we ask whether the node is there: a quiet chain says nothing for hours.
const SILENCE: Duration = Duration::from_secs(30);
/// How long the answer to that may take.
const ANSWER: Duration = Duration::from_secs(10);
/// An event has 200 bytes; a block's as one message would have the ids of all its transactions.
const MESSAGE_BYTES_MAX: usize = 1 << 20;
/// An API root has a few hundred bytes.
const ROOT_BYTES_MAX: usize = 64 << 10;

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// Wakes when the node says something.
pub struct Wake {
    /// Filled by the listener, awaited by the follower: one permit, however much was said.
    woken: Arc<Notify>,
    _listener: AbortOnDropHandle<Infallible>,
}

struct Listener {
    node: Arc<Node>,
    woken: Arc<Notify>,
    voice: Voice,
    backoff: Backoff,
    /// Why it does not listen, once said, until it does.
    trouble: Option<String>,
    has_listened: bool,
}

impl Wake {
    /// Listens until it is dropped.
    #[expect(clippy::disallowed_methods, reason = "the listener ends with this")]
    pub fn listen(node: Arc<Node>, voice: Voice) -> Self {
        let woken = Arc::new(Notify::new());
        let listener = Listener {
            node,
            woken: Arc::clone(&woken),
            voice,
            backoff: Backoff::default(),
            trouble: None,
            has_listened: false,
        };
        Self { woken, _listener: AbortOnDropHandle::new(tokio::spawn(listener.run())) }
    }

    /// Waits until the node has said something since this last returned, or the stream is there
    /// (again): what was said in between is not known.
    ///
    /// # Cancel safety
    /// No waking is lost.
    pub async fn woken(&self) {
        self.woken.notified().await;
    }
}

impl Listener {
    async fn run(mut self) -> Infallible {
        loop {
            match self.connect().await {
                Ok((socket, address)) => {
                    self.connected(&address);
                    self.hear(socket).await;
                }
                Err(why) => self.failed(told(&why)),
            }
            tokio::time::sleep(self.backoff.next(half_jitter())).await;
        }
    }

    /// Asks the node where its stream is, each time anew, and connects to the first that answers.
    async fn connect(&self) -> Result<(Socket, StreamAddress)> {
        let root = self.node.http.get(&self.node.url.root(), &Budget::new(ROOT_BYTES_MAX)).await?;
        let said = root.and_then(|root| ApiRoot::transactions_in(&root));
        let said = said.context("its API root names none (`streams`)")?;
        let mut failure =
            anyhow!("its API root names {:?}, which is no WebSocket", secret::masked(&said));
        for address in StreamAddress::of(&said, &self.node.url) {
            match self.connect_to(&address).await {
                Ok(socket) => return Ok((socket, address)),
                Err(error) => {
                    // It may quote what was connected to.
                    let why = secret::concealed(told(&error), [address.url()]);
                    failure = anyhow!(why).context(address.to_string());
                }
            }
        }
        Err(failure)
    }

    async fn connect_to(&self, address: &StreamAddress) -> Result<Socket> {
        let mut request = address.url().into_client_request()?;
        if let Some(authorization) = self.node.url.authorization().filter(|_| address.is_trusted) {
            let value = HeaderValue::from_str(authorization).expect("bug: it is base64");
            request.headers_mut().insert(AUTHORIZATION, value);
        }
        let config = WebSocketConfig::default()
            .read_buffer_size(16 << 10)
            .write_buffer_size(0)
            .max_write_buffer_size(64 << 10)
            .max_message_size(Some(MESSAGE_BYTES_MAX))
            .max_frame_size(Some(MESSAGE_BYTES_MAX));
        let connector = self.node.trust.clone().map(|trust| Connector::Rustls(trust.config()));
        let connecting = connect_async_tls_with_config(request, Some(config), true, connector);
        match timeout(CONNECT, connecting).await {
            Ok(connected) => Ok(connected?.0),
            Err(_) => bail!("no connection within {} s", CONNECT.as_secs()),
        }
    }

    /// Wakes for each message, until the stream ends.
    async fn hear(&mut self, mut socket: Socket) {
        let mut has_asked = false;
        loop {
            match timeout(if has_asked { ANSWER } else { SILENCE }, socket.next()).await {
                Ok(Some(Ok(message))) => {
                    has_asked = false;
                    self.backoff.reset(); // and not before: it may break at once each time
                    match message {
                        Message::Text(_) | Message::Binary(_) => self.woken.notify_one(),
                        _ => {}
                    }
                }
                Ok(Some(Err(_)) | None) => return,
                Err(_) if has_asked => return,
                Err(_) => {
                    has_asked = true;
                    // A failure to send shows when reading.
                    let _ = timeout(ANSWER, socket.send(Message::Ping(Bytes::new()))).await;
                }
            }
        }
    }

    /// Said at first, and when it was said before that there is none.
    fn connected(&mut self, address: &StreamAddress) {
        if self.trouble.take().is_some() || !self.has_listened {
            self.voice.say(&format!("listening to {address} to hear of new blocks"));
        }
        self.has_listened = true;
        self.woken.notify_one();
    }

    fn failed(&mut self, why: String) {
        if self.trouble.is_none() {
            let url = self.node.url();
            self.voice.say(&format!(
                "no event stream of {url} to hear of new blocks ({why}); asking at intervals, and looking for it again"
            ));
        }
        self.trouble = Some(why);
    }
}
