//! `publish --node https://`, whose authority is one of its own.

use std::net::SocketAddr;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_util::task::AbortOnDropHandle;

use crate::support::broker::Broker;
use crate::support::certificates::Authority;
use crate::support::node::Node;
use crate::support::program::Program;
use crate::support::publishing::{interrupted, is_published, node_of_three, publish};
use crate::support::replica::config;

/// TLS before a plain server, for as long as this is kept.
struct Terminator {
    port: u16,
    _server: AbortOnDropHandle<()>,
}

impl Terminator {
    async fn before(authority: &Authority, plain: SocketAddr) -> Self {
        let pair = authority.issue(3000);
        let certificate = CertificateDer::from_pem_slice(pair.certificate.as_bytes());
        let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).expect("a key");
        let config = rustls::ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.expect("a certificate")], key)
            .expect("a pair");
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("its address").port();
        let server = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (socket, _) = listener.accept().await.expect("accepted");
                let acceptor = acceptor.clone();
                connections.spawn(async move {
                    // A client that does not trust it leaves.
                    let Ok(mut socket) = acceptor.accept(socket).await else { return };
                    let mut plain = TcpStream::connect(plain).await.expect("connected");
                    let _ = tokio::io::copy_bidirectional(&mut socket, &mut plain).await;
                });
            }
        });
        Self { port, _server: AbortOnDropHandle::new(server) }
    }
}

async fn node_with_stream(authority: &Authority) -> (Node, [Terminator; 2]) {
    let mut node = node_of_three().await;
    let port = node.open_stream().await;
    let stream = Terminator::before(authority, ([127, 0, 0, 1], port).into()).await;
    node.advertise(&format!("wss://localhost:{}/api/v1/streams/valid_transactions", stream.port));
    let api = Terminator::before(authority, node.address).await;
    (node, [api, stream])
}

#[tokio::test]
async fn a_node_of_a_private_authority_is_followed_and_listened_to() {
    let config = config(Broker::shared());
    let authority = Authority::new();
    let (node, [api, stream]) = node_with_stream(&authority).await;
    let url = format!("https://me:s3cret@localhost:{}", api.port);
    let ca = authority.file("ca.pem");
    let arguments = ["--ca", ca.to_str().expect("UTF-8"), "--from-height", "1", "--poll", "1h"];
    let mut running = publish(&config, &url, &arguments).start();
    let listening = format!("listening to wss://localhost:{}/", stream.port);
    running.says_each(&[&listening, "up to the tip; waiting for height 4"]).await;
    assert_eq!(node.stream_authorization().as_deref(), Some("Basic bWU6czNjcmV0"));
    node.commit(4);
    is_published(&config, 4).await;
    interrupted(running).await.telling(&["4 blocks (heights 1 to 4)"]);
}

#[tokio::test]
async fn an_authority_that_is_not_trusted_or_of_no_use_is_told() {
    let config = config(Broker::shared());
    let (authority, other) = (Authority::new(), Authority::new());
    let (_node, [api, _stream]) = node_with_stream(&authority).await;
    let url = format!("https://localhost:{}", api.port);
    let ca = other.file("ca.pem");
    let once = ["--no-retry", "--heights", "1"];
    for arguments in [&once[..], &[&once[..], &["--ca", ca.to_str().expect("UTF-8")]].concat()] {
        let ended = publish(&config, &url, arguments).run().await.with_code(1);
        ended.telling(&["certificate is not trusted", "--ca FILE"]);
    }
    let file = other.file("none.pem");
    let path = file.to_str().expect("UTF-8");
    let key = other.issue(3000).key;
    for (text, told) in [
        (key.replace("PRIVATE", "ENCRYPTED PRIVATE"), "holds no certificate"),
        ("no PEM".to_owned(), "holds no certificate"),
        (
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_owned(),
            "that is none",
        ),
    ] {
        std::fs::write(&file, text).expect("written");
        let ended = publish(&config, &url, &["--ca", path]).run().await.with_code(64);
        ended.telling(&["--ca", path, told]);
    }
    let missing = ["publish", "--node", &url, "--ca", "/none/ca.pem"];
    Program::new(missing).run().await.with_code(64).telling(&["--ca", "no file has this name"]);
}
