//! Replicas as processes behind HAProxy, killed in turn under load: whoever follows the stream with
//! our own client misses nothing and gets nothing twice.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::{Child, Command};

use crate::broker::Broker;
use crate::eventually::eventually;
use crate::load::{Pace, Producer, all_have_the_chain, followers};
use crate::ports;
use crate::process::Process;
use crate::replica::{config, request};

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
        assert!(Path::new(HAPROXY).exists(), "HAProxy is not installed; `make test` installs it");
        let directory = tempfile::tempdir().expect("a directory");
        let [port] = ports::free();
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let servers: String = replicas
            .iter()
            .map(|replica| {
                let port = replica.port();
                format!("    server r{port} {replica} check inter 200ms fall 1 rise 1\n")
            })
            .collect();
        let file = directory.path().join("haproxy.cfg");
        let text = format!(
            "global\n    maxconn 2000\n    stats socket {socket}\n\
             defaults\n    mode http\n    timeout connect 2s\n    timeout client 60s\n    timeout server 60s\n    \
             timeout tunnel 1h\n    timeout check 2s\n    option redispatch\n    retries 3\n\
             frontend streams\n    bind {address}\n    default_backend replicas\n\
             backend replicas\n    balance leastconn\n    option httpchk GET /health/ready\n{servers}",
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
    config.server.listen = addresses[0];
    let first = Process::start_ready(&config).await;
    config.server.listen = addresses[1];
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
        config.server.listen = addresses[place];
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
