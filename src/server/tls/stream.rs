//! A TLS connection as a session's transport.
//!
//! What is encrypted but not yet taken by the socket is at most [`CIPHERTEXT_BYTES_MAX`]: until it is
//! gone nothing more is encrypted, so that a full socket shows to the session as one.
//!
//! An idle session costs some 9 KiB, where a plain one costs 1.5 KiB: the connection's keys and states,
//! and the 4 KiB that the library reads into. One that does not read keeps up to 64 KiB more.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustls::ServerConnection;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use crate::session::Transport;

/// Four full records, which go out with one system call.
const CIPHERTEXT_BYTES_MAX: usize = 64 << 10;

pub struct TlsTransport(TlsStream<TcpStream>);

/// Bounds what a connection encrypts ahead of its socket.
pub(super) fn bound(connection: &mut ServerConnection) {
    connection.set_buffer_limit(Some(CIPHERTEXT_BYTES_MAX));
}

impl TlsTransport {
    pub(super) fn new(stream: TlsStream<TcpStream>) -> Self {
        Self(stream)
    }

    fn tcp(&self) -> &TcpStream {
        self.0.get_ref().0
    }

    /// Hands the socket what is encrypted.
    fn poll_drained(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.0.get_ref().1.wants_write() {
            true => Pin::new(&mut self.0).poll_flush(cx),
            false => Poll::Ready(Ok(())),
        }
    }
}

impl AsyncRead for TlsTransport {
    /// Also sends what is left of earlier writes, and what the protocol itself answers: a session
    /// reads in every turn, and has nothing more to write when it has given all of it to this.
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Poll::Ready(Err(error)) = self.poll_drained(cx) {
            return Poll::Ready(Err(error));
        }
        match ready!(Pin::new(&mut self.0).poll_read(cx, buffer)) {
            // Without a farewell, as from most clients. What a client says has no meaning that a cut
            // could change.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Poll::Ready(Ok(())),
            outcome => Poll::Ready(outcome),
        }
    }
}

impl AsyncWrite for TlsTransport {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_drained(cx))?;
        // All of it at once, the library would go on as long as the socket takes it.
        let portion = &bytes[..bytes.len().min(CIPHERTEXT_BYTES_MAX)];
        Pin::new(&mut self.0).poll_write(cx, portion)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_drained(cx))?;
        Pin::new(&mut self.0).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    /// Says farewell (`close_notify`), then ends this side.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

impl Transport for TlsTransport {
    fn reset_on_drop(&self) {
        self.tcp().reset_on_drop();
    }

    /// Only asked in a turn that has read, hence drained.
    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.tcp().poll_writable(cx)
    }

    fn is_reset(&self) -> bool {
        self.tcp().is_reset()
    }

    fn give_up_after(&self, silence: Duration) {
        self.tcp().give_up_after(silence);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use std::sync::Arc;

    use rustls::crypto::ring;
    use rustls::{ClientConfig, RootCertStore, ServerConfig};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio_rustls::{TlsAcceptor, TlsConnector, client};

    async fn pair() -> (TlsTransport, client::TlsStream<TcpStream>) {
        let issued = rcgen::generate_simple_self_signed(["server".into()]).expect("a certificate");
        let certificate = issued.cert.der().clone();
        let key = issued.signing_key.serialize_der().try_into().expect("a key");
        let mut roots = RootCertStore::empty();
        roots.add(certificate.clone()).expect("trusted");
        let provider = Arc::new(ring::default_provider());
        let server = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .expect("a pair");
        let client = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("its address");
        let connected = TcpStream::connect(address).await.expect("connected");
        let (accepted, _) = listener.accept().await.expect("accepted");
        let (acceptor, connector) =
            (TlsAcceptor::from(Arc::new(server)), TlsConnector::from(Arc::new(client)));
        let name = "server".try_into().expect("a name");
        let (accepted, connected) =
            tokio::join!(acceptor.accept_with(accepted, bound), connector.connect(name, connected));
        (TlsTransport::new(accepted.expect("TLS")), connected.expect("TLS"))
    }

    #[tokio::test]
    async fn what_a_full_socket_did_not_take_goes_out_by_reading_alone() {
        let (mut server, mut client) = pair().await;
        let block = vec![7; 1 << 20];
        let mut written = 0;
        // Until the socket is full, and then no more: all else is the transport's affair.
        poll_fn(|cx| {
            loop {
                let slices = [IoSlice::new(&block)];
                match Pin::new(&mut server).poll_write_vectored(cx, &slices) {
                    Poll::Ready(outcome) => {
                        let portion = outcome.expect("written");
                        assert!(portion <= CIPHERTEXT_BYTES_MAX, "{portion}");
                        written += portion;
                    }
                    Poll::Pending => return Poll::Ready(()),
                }
            }
        })
        .await;
        assert!(server.0.get_ref().1.wants_write(), "nothing is left to be sent");
        let reading = async {
            let mut received = vec![0; written];
            client.read_exact(&mut received).await.expect("all of it");
            client.shutdown().await.expect("shut");
        };
        let mut byte = [0];
        let both = async { tokio::join!(reading, server.read(&mut byte)) };
        let both = tokio::time::timeout(Duration::from_secs(60), both).await;
        let ((), ended) = both.expect("all of it in time");
        assert_eq!(ended.expect("the client's end"), 0);
    }

    #[tokio::test]
    async fn an_end_without_a_farewell_is_an_end_and_ours_has_one() {
        let (mut server, mut client) = pair().await;
        client.get_mut().0.shutdown().await.expect("shut");
        assert_eq!(server.read(&mut [0]).await.expect("an end"), 0);

        let (mut server, mut client) = pair().await;
        server.write_all(b"last").await.expect("written");
        server.shutdown().await.expect("shut");
        let mut received = String::new();
        client.read_to_string(&mut received).await.expect("a farewell");
        assert_eq!(received, "last");
    }
}
