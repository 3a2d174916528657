//! Where a replica listens: both families, and clients told apart alike on either.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use blockcast::bridge::Bridge;
use tokio::net::TcpSocket;
use tokio_tungstenite::client_async;

use crate::support::broker::Broker;
use crate::support::left_out;
use crate::support::process::Process;
use crate::support::replica::{Replica, config, request};

const LIVE: &str = "GET /health/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";

fn has_ipv6() -> bool {
    let bound = std::net::TcpListener::bind((Ipv6Addr::LOCALHOST, 0));
    if let Err(error) = &bound {
        left_out::say(&format!("no IPv6 loopback: {error}"));
    }
    bound.is_ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_listens_everywhere_is_reached_by_both_families() {
    if !has_ipv6() {
        return;
    }
    let mut config = config(Broker::shared());
    config.server.listen = ":0".parse().expect("a place");
    config.admin.listen = Some("localhost:0".parse().expect("a place"));
    // Written as IPv4, it is meant on a socket of both families, too.
    config.server.trusted_proxies = vec!["127.0.0.2/32".parse().expect("a network")];
    let replica = Replica::start(&config).await;
    let (port, admin) = (replica.address.port(), replica.admin.expect("it listens").port());
    let places =
        [(Ipv4Addr::LOCALHOST, port).into(), SocketAddr::from((Ipv6Addr::LOCALHOST, port))];
    for at in [
        places[0],
        places[1],
        (Ipv4Addr::LOCALHOST, admin).into(),
        (Ipv6Addr::LOCALHOST, admin).into(),
    ] {
        assert_eq!(request(at, LIVE).await.status, 200, "{at}");
    }
    let at_admin = async |path: &str| {
        let head = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        request((Ipv6Addr::LOCALHOST, admin).into(), &head).await
    };
    crate::support::eventually::eventually("the replica is ready", async || {
        at_admin("/health/ready").await.status == 200
    })
    .await;
    let mut clients = Vec::new();
    for (from, at, forwarded) in [
        (SocketAddr::from(([127, 0, 0, 3], 0)), places[0], false),
        (SocketAddr::from(([127, 0, 0, 2], 0)), places[0], true),
        (SocketAddr::from((Ipv6Addr::LOCALHOST, 0)), places[1], false),
    ] {
        let socket = match from {
            SocketAddr::V4(_) => TcpSocket::new_v4(),
            SocketAddr::V6(_) => TcpSocket::new_v6(),
        };
        let socket = socket.expect("a socket");
        socket.bind(from).expect("an address of loopback");
        let stream = socket.connect(at).await.expect("connected");
        let url = format!("ws://{at}/api/v1/streams/valid_blocks");
        let mut asked =
            tokio_tungstenite::tungstenite::client::IntoClientRequest::into_client_request(url)
                .expect("a request");
        if forwarded {
            asked.headers_mut().insert("forwarded", "for=198.51.100.1".parse().expect("a header"));
        }
        clients.push(client_async(asked, stream).await.expect("a session"));
    }
    let sessions: serde_json::Value =
        serde_json::from_str(&at_admin("/sessions").await.body).expect("JSON");
    let addresses: Vec<_> = (0..3).map(|at| sessions[at]["address"].as_str()).collect();
    assert_eq!(addresses, [Some("127.0.0.3"), Some("198.51.100.1"), Some("::1")]);
    replica.stop().await.expect("drained");
}

#[tokio::test(flavor = "multi_thread")]
async fn localhost_is_both_loopback_addresses_at_one_port_and_both_are_told() {
    if !has_ipv6() {
        return;
    }
    let mut config = config(Broker::shared());
    config.server.listen = "localhost:0".parse().expect("a place");
    let addresses = Bridge::bind(config.clone()).await.expect("bound").addresses();
    let port = addresses.server.port();
    assert_eq!(addresses.server, SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    assert_eq!(addresses.server_ipv6, Some(SocketAddr::from((Ipv6Addr::LOCALHOST, port))));
    let process = Process::start_ready(&config).await;
    let at = SocketAddr::from((Ipv6Addr::LOCALHOST, process.address.port()));
    assert_eq!(request(at, LIVE).await.status, 200);
    assert_eq!(request(process.address, LIVE).await.status, 200);
    process.stop().await;
}
