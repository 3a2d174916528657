//! TLS on the public listener: handshakes, and the certificate they are made with, which may change
//! while sessions go on.
//!
//! No client certificates are asked for, and nothing is read before a handshake is done.

mod identity;
mod renewal;
mod stream;

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustls::ServerConfig;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use crate::config;
pub use identity::TlsError;
use identity::{Files, Identity};
pub use stream::TlsTransport;

/// RFC 8446 section 5.1 and RFC 5246 section 6.2.1: the type of a record that holds a handshake.
const HANDSHAKE_RECORD: u8 = 22;
const PLAIN_REQUEST: &str = "this port speaks TLS: write https:// or wss://";
/// Of a plain request, what is read and dropped so that its answer is not cut off by a reset.
const PLAIN_BYTES_MAX: usize = 64 << 10;

/// What handshakes are answered with.
pub struct Tls {
    files: Files,
    current: Mutex<Current>,
}

/// The certificate in use, and the files as they were when it was read.
struct Current {
    identity: Identity,
    files_read: identity::Read,
}

/// Why there is no TLS on a connection.
#[derive(Debug, thiserror::Error)]
pub enum NoTls {
    /// It came and went, as probes do.
    #[error("ended before its first byte")]
    Nothing,
    #[error("a plain request where TLS is spoken")]
    Plain,
    #[error("no handshake within {0:?}")]
    Slow(Duration),
    #[error("the handshake failed: {0}")]
    Failed(#[from] io::Error),
}

impl Tls {
    /// Reads the configured files; None when there are none. Blocks for as long as that takes.
    ///
    /// A certificate that is out of its time is taken, since an old one may be better than no server;
    /// the caller should say so.
    ///
    /// # Errors
    /// The pair is of no use; each names the key and the file.
    pub fn load(config: &config::ServerTls) -> Result<Option<Self>, TlsError> {
        let Some(files) = Files::of(config) else { return Ok(None) };
        let files_read = files.read();
        let identity = Identity::of(&files_read)?;
        if let Err(error) = identity.check_time() {
            tracing::warn!(%error, "clients will not trust this server");
        }
        Ok(Some(Self { files, current: Mutex::new(Current { identity, files_read }) }))
    }

    /// When the certificate in use expires, in seconds since 1970.
    pub fn expiry_timestamp(&self) -> i64 {
        self.current().identity.expiry_timestamp()
    }

    /// Makes a connection speak TLS, within `deadline` or not at all. A plain request is told so.
    ///
    /// # Errors
    /// Why not; the connection is closed.
    pub async fn accept(
        &self,
        stream: TcpStream,
        deadline: Duration,
    ) -> Result<TlsTransport, NoTls> {
        let handshake = async {
            let mut first = [0];
            match stream.peek(&mut first).await {
                Ok(0) => return Err(NoTls::Nothing),
                Ok(_) if first[0] != HANDSHAKE_RECORD => {
                    // What it failed at is its own affair.
                    let _ = answer_plainly(stream).await;
                    return Err(NoTls::Plain);
                }
                Ok(_) => {}
                Err(error) => return Err(error.into()),
            }
            let acceptor = TlsAcceptor::from(self.server_config());
            let accepted = acceptor.accept_with(stream, stream::bound).await?;
            Ok(TlsTransport::new(accepted))
        };
        timeout(deadline, handshake).await.unwrap_or(Err(NoTls::Slow(deadline)))
    }

    /// Held by a connection only for its handshake: what replaces it is used by the next.
    fn server_config(&self) -> Arc<ServerConfig> {
        Arc::clone(self.current().identity.server_config())
    }

    fn current(&self) -> std::sync::MutexGuard<'_, Current> {
        self.current.lock().expect("bug: nothing panics while it holds this lock")
    }
}

/// Judges the configured files, their time too. Blocks for as long as reading takes.
///
/// # Errors
/// Clients could not trust this server, or it would not start.
pub fn check(config: &config::ServerTls) -> Result<(), TlsError> {
    match Files::of(config) {
        Some(files) => Identity::of(&files.read())?.check_time(),
        None => Ok(()),
    }
}

/// Tells a client without TLS what it should have written, in the words of HTTP.
async fn answer_plainly(mut stream: TcpStream) -> io::Result<()> {
    let body = format!("{{\"status\": 400, \"message\": \"{PLAIN_REQUEST}\"}}");
    let head = format!(
        "HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n",
        body.len()
    );
    stream.write_all((head + &body).as_bytes()).await?;
    stream.shutdown().await?;
    let (mut left, mut bytes) = (PLAIN_BYTES_MAX, [0; 1_024]);
    while left > 0 {
        match stream.read(&mut bytes).await? {
            0 => break,
            read => left = left.saturating_sub(read),
        }
    }
    Ok(())
}
