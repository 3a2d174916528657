//! Replicas as processes behind HAProxy, killed in turn under load: whoever follows the stream with
//! our own client misses nothing and gets nothing twice.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::net::TcpSocket;
use tokio::process::{Child, Command};
use tokio_tungstenite::client_async;

use crate::support::broker::Broker;
use crate::support::eventually::eventually;
use crate::support::load::{Pace, Producer, all_have_the_chain, followers};
use crate::support::ports;
use crate::support::process::Process;
use crate::support::replica::{Replica, config, request};

const HAPROXY: &str = "/usr/sbin/haproxy";
const CLIENTS: usize = 200;
const KILLS: usize = 10;
/// Between two blocks.
const EVERY: Duration = Duration::from_millis(40);

/// A balancer on loopback, ended with the test.
struct Balancer {
    address: SocketAddr,
    _child: Child,
    _directory: tempfile::TempDir,
}

impl Balancer {
    async fn start(replicas: &[SocketAddr]) -> Self {
        let servers: String = replicas
            .iter()
            .map(|replica| {
                let port = replica.port();
                format!("    server r{port} {replica} check inter 200ms fall 1 rise 1\n")
            })
            .collect();
        let options = "    balance leastconn\n    option httpchk GET /health/ready\n";
        Self::of("http", &format!("{options}{servers}")).await
    }

    /// One that passes bytes on (`tcp`) or requests (`http`) to what `backend` names.
    async fn of(mode: &str, backend: &str) -> Self {
        assert!(Path::new(HAPROXY).exists(), "HAProxy is not installed; `make test` installs it");
        let directory = tempfile::tempdir().expect("a directory");
        let [port] = ports::free();
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let file = directory.path().join("haproxy.cfg");
        let text = format!(
            "global\n    maxconn 2000\n    stats socket {socket}\n\
             defaults\n    mode {mode}\n    timeout connect 2s\n    timeout client 60s\n    timeout server 60s\n    \
             timeout tunnel 1h\n    timeout check 2s\n    option redispatch\n    retries 3\n\
             frontend streams\n    bind {address}\n    default_backend replicas\n\
             backend replicas\n{backend}",
            socket = directory.path().join("stats").display(),
        );
        std::fs::write(&file, text).expect("written");
        let child = Command::new(HAPROXY)
            .args(["-db", "-f"])
            .arg(&file)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("started");
        let balancer = Self { address, _child: child, _directory: directory };
        eventually("the balancer finds a replica", async || {
            let head = "GET /health/ready HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
            std::net::TcpStream::connect(address).is_ok()
                && request(address, head).await.status == 200
        })
        .await;
        balancer
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_killed_in_turn_behind_a_balancer_cost_nobody_anything() {
    let mut config = config(Broker::shared());
    // At places that are theirs also while they are killed.
    let addresses = ports::free::<2>().map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
    config.server.listen = addresses[0].into();
    let first = Process::start_ready(&config).await;
    config.server.listen = addresses[1].into();
    let second = Process::start_ready(&config).await;
    let balancer = Balancer::start(&addresses).await;
    let url = format!("ws://{}/api/v1/streams/valid_transactions", balancer.address);
    let producer = Producer::start(&config, Pace { blocks: 1, every: EVERY });
    let clients = followers(&[url], CLIENTS);

    let mut replicas = [Some(first), Some(second)];
    for kill in 0..KILLS {
        let place = kill % 2;
        let sessions = async || {
            let replica = replicas[place].as_ref().expect("it runs");
            replica.metric("blockcast_sessions").await
        };
        eventually("clients are on it", async || sessions().await > 0.0).await;
        replicas[place].take().expect("it runs").kill().await;
        // At its old place, which the balancer knows.
        config.server.listen = addresses[place].into();
        replicas[place] = Some(Process::start_ready(&config).await);
    }
    let last = producer.end().await;
    let followed = all_have_the_chain(clients, last).await;
    let connections: usize = followed.iter().map(|client| client.connected_at.len()).sum();
    println!("{CLIENTS} clients, {last} blocks, {KILLS} kills, {connections} connections");
    assert!(connections > CLIENTS + KILLS, "{connections}: nobody was cut");
    for replica in replicas.into_iter().flatten() {
        replica.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_balancer_that_only_passes_bytes_on_says_for_whom() {
    let mut config = config(Broker::shared());
    config.server.trusted_proxies = vec!["127.0.0.1".parse().expect("a network")];
    config.admin.listen = Some("127.0.0.1:0".parse().expect("a place"));
    let replica = Replica::start(&config).await;
    let admin = replica.admin.expect("an admin address");
    let ask = async |path: &str| {
        let head = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        request(admin, &head).await
    };
    eventually("the replica is ready", async || ask("/health/ready").await.status == 200).await;
    let client = Ipv4Addr::new(127, 0, 0, 9);
    for option in ["send-proxy", "send-proxy-v2", "send-proxy-v2-ssl"] {
        // Its checks are connections of its own, which it says in version 2 alone.
        let checks = "check inter 200ms fall 1 rise 1 check-send-proxy";
        let backend = format!(
            "    option httpchk GET /health/ready\n    server r {} {option} {checks}\n",
            replica.address
        );
        let balancer = Balancer::of("tcp", &backend).await;
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind((client, 0).into()).expect("an address of loopback");
        let stream = socket.connect(balancer.address).await.expect("connected");
        let url = format!("ws://{}/api/v1/streams/valid_blocks", balancer.address);
        let _session = client_async(url, stream).await.expect("a session");
        let sessions: serde_json::Value =
            serde_json::from_str(&ask("/sessions").await.body).expect("JSON");
        let listed = sessions.as_array().expect("a list");
        let last = listed.last().expect("a session");
        assert_eq!(last["address"], client.to_string(), "{option}");
    }
    let refused = "blockcast_handshakes_refused_total{reason=\"bad_request\"} 0";
    assert!(ask("/metrics").await.body.contains(refused), "no check was refused");
    replica.stop().await.expect("drained");
}
