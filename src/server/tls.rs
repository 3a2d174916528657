//! TLS on the public listener: handshakes, and the certificate they are made with, which may change
//! while sessions go on.
//!
//! No client certificates are asked for, and nothing is read before a handshake is done.

mod identity;
mod renewal;
mod stream;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::answer::refusal_bytes;
use super::connection;
use super::proxy::header;
use crate::config;
use crate::watched::Watched;
use identity::IdentityFiles;
pub use identity::TlsError;
pub use stream::TlsTransport;

/// RFC 8446 section 5.1 and RFC 5246 section 6.2.1: the type of a record that holds a handshake.
const HANDSHAKE_RECORD: u8 = 22;
const PLAIN_REQUEST: &str = "this port speaks TLS: write https:// or wss://";
/// What tells a plain request from a PROXY header.
const FIRST_BYTES: usize = 16;

/// What handshakes are answered with.
pub struct Tls {
    identity: Arc<Watched<IdentityFiles>>,
}

/// Why there is no TLS on a connection.
#[derive(Debug, thiserror::Error)]
pub enum NoTls {
    /// It came and went, as probes do.
    #[error("ended before its first byte")]
    Nothing,
    #[error("a plain request where TLS is spoken")]
    Plain,
    #[error("a PROXY header of one who is not trusted")]
    ProxyHeader,
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
        let Some(files) = IdentityFiles::of(config) else { return Ok(None) };
        let identity = Watched::load(files)?;
        if let Err(error) = identity.current().check_time() {
            tracing::warn!(%error, "clients will not trust this server");
        }
        Ok(Some(Self { identity: Arc::new(identity) }))
    }

    /// When the certificate in use expires, in seconds since 1970.
    pub fn expiry_timestamp(&self) -> i64 {
        self.identity.current().expiry_timestamp()
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
            let mut first = [0; FIRST_BYTES];
            match stream.peek(&mut first).await {
                Ok(0) => return Err(NoTls::Nothing),
                Ok(len) if first[0] != HANDSHAKE_RECORD => {
                    let is_header = header::is_begun(&first[..len]);
                    let (words, reason) = match is_header {
                        true => (header::NOT_TRUSTED, NoTls::ProxyHeader),
                        false => (PLAIN_REQUEST, NoTls::Plain),
                    };
                    let answer = refusal_bytes("400 Bad Request", words, b"");
                    connection::say(stream, answer).await;
                    return Err(reason);
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
        Arc::clone(self.identity.current().server_config())
    }
}

/// Judges the configured files, their time too. Blocks for as long as reading takes.
///
/// # Errors
/// Clients could not trust this server, or it would not start.
pub fn check(config: &config::ServerTls) -> Result<(), TlsError> {
    match IdentityFiles::of(config) {
        Some(files) => Watched::load(files)?.current().check_time(),
        None => Ok(()),
    }
}
