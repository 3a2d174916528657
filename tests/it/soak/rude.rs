//! Clients as nobody wants them: they ask for all there is, break off anywhere, and send rubbish.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// What they ask for: streams, query parameters and headers, and so all that a block is made into.
const ASKED: [(&str, &str); 7] = [
    ("valid_transactions?from_height=oldest", UPGRADE),
    ("valid_transactions?from_height=oldest&control=true&batch=block", UPGRADE),
    ("valid_transactions?from_height=oldest", DEFLATE),
    ("valid_transactions?operation=CREATE", UPGRADE),
    ("valid_blocks?from_height=oldest", UPGRADE),
    ("valid_transactions?from_height=oldest", "Accept: text/event-stream"),
    // Below the history of a megabyte: from the RabbitMQ stream.
    ("valid_transactions?from_height=1", UPGRADE),
];
const UPGRADE: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                       Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==";
const DEFLATE: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                       Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\
                       Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover";

/// Where clients come in.
pub struct Entrance {
    pub address: SocketAddr,
    pub tls: Option<Arc<ClientConfig>>,
}

/// A connection, over TLS or not.
trait Line: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Line for T {}

impl Entrance {
    async fn connect(&self) -> std::io::Result<Box<dyn Line>> {
        let stream = TcpStream::connect(self.address).await?;
        let Some(tls) = &self.tls else { return Ok(Box::new(stream)) };
        let name = ServerName::from(self.address.ip());
        Ok(Box::new(TlsConnector::from(Arc::clone(tls)).connect(name, stream).await?))
    }
}

/// Such clients, one after the other, until it is aborted.
pub async fn misbehave(entrances: [Entrance; 2], seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut kept = std::collections::VecDeque::new();
    loop {
        let entrance = random.choice(&entrances).expect("two");
        let Ok(mut client) = entrance.connect().await else {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let (stream, headers) = random.choice(&ASKED).expect("some");
        let whole =
            format!("GET /api/v1/streams/{stream} HTTP/1.1\r\nHost: x\r\n{headers}\r\n\r\n");
        let request = match random.u8(..8) {
            0 => &whole[..random.usize(..whole.len())],
            1 => "\x16\x03\x01 this is no HTTP\r\n\r\n",
            _ => &whole,
        };
        let _ = client.write_all(request.as_bytes()).await;
        let mut some = vec![0; random.usize(16..4_096)];
        let _ = tokio::time::timeout(Duration::from_millis(100), client.read(&mut some)).await;
        assert!(request != whole || !some.starts_with(b"HTTP/1.1 400"), "refused: {whole}");
        match random.u8(..4) {
            // Rubbish in the place of a frame.
            0 => drop(client.write_all(&[0xff; 64]).await),
            // Gone with a reset: there is something unread.
            1 => drop(client),
            // Never reads again.
            _ => kept.push_back(client),
        }
        if kept.len() > 20 {
            kept.pop_front();
        }
    }
}
