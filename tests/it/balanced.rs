//! Replicas as processes behind HAProxy, killed in turn under load: whoever follows the stream with
//! our own client misses nothing and gets nothing twice.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use blockcast::amqp::Publisher;
use blockcast::client::{Builder, Message, Start};
use blockcast::config::Config;
use tokio::process::{Child, Command};
use tokio_util::sync::CancellationToken;

use crate::broker::Broker;
use crate::chain::{body, publish};
use crate::eventually::eventually;
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

/// Follows the stream from its first block until the one whose transaction is `end`; what came, by
/// height and id, and how often it was connected.
async fn follow(url: String) -> (Vec<(u64, String)>, usize) {
    let (mut received, mut connections) = (Vec::new(), 0);
    let mut stream =
        Builder::new(&url).expect("a URL").start(Start::Height(1)).build().expect("built");
    loop {
        match stream.next().await.expect("nothing that waiting does not mend") {
            Some(Message::Event(event)) => {
                let is_last = event.transaction_id.starts_with("end");
                received.push((event.height, event.transaction_id));
                if is_last {
                    stream.close().await;
                    return (received, connections);
                }
            }
            Some(Message::Connected) => connections += 1,
            Some(Message::Gap { from_height, to_height }) => {
                panic!("a gap where there is none: {from_height} to {to_height}")
            }
            Some(_) => {}
            None => panic!("nobody ended the stream"),
        }
    }
}

/// Publishes a block every so often until told to stop, then the last. Returns its height.
async fn produce(config: Config, stop: CancellationToken) -> u64 {
    let publisher = Publisher::connect(&config.amqp).await.expect("connected");
    let mut due = tokio::time::interval(EVERY);
    let mut height = 0;
    while !stop.is_cancelled() {
        due.tick().await;
        height += 1;
        publisher.publish(body(height, "x")).await.expect("sent").wait().await.expect("confirmed");
    }
    publisher.close().await;
    publish(&config, [body(height + 1, "end")]).await;
    height + 1
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
    let stop = CancellationToken::new();
    let producing = tokio::spawn(produce(config.clone(), stop.clone()));
    let clients: Vec<_> = (0..CLIENTS).map(|_| tokio::spawn(follow(url.clone()))).collect();

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
    stop.cancel();
    let last = producing.await.expect("published");
    let expected: Vec<_> = (1..=last)
        .map(|height| (height, crate::chain::id(height, if height == last { "end" } else { "x" })))
        .collect();
    let mut connections = 0;
    for client in clients {
        let received = tokio::time::timeout(Duration::from_secs(120), client).await;
        let (received, of_client) = received.expect("it gets to the end").expect("it did not fail");
        assert_eq!(received, expected, "every block once, in order");
        connections += of_client;
    }
    println!("{CLIENTS} clients, {last} blocks, {KILLS} kills, {connections} connections");
    assert!(connections > CLIENTS + KILLS, "{connections}: nobody was cut");
    for replica in replicas.into_iter().flatten() {
        replica.stop().await;
    }
}
