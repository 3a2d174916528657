//! A replica that is stopped, out of descriptors, or whose log has nowhere to go.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::support::broker::Broker;
use crate::support::chain::{body, event, publish};
use crate::support::client::Client;
use crate::support::eventually::eventually;
use crate::support::load::{Pace, Producer, all_have_the_chain, followers};
use crate::support::ports;
use crate::support::process::Process;
use crate::support::replica::config;

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_stood_still_beyond_every_timeout_loses_no_block() {
    let mut config = config(Broker::shared());
    config.amqp.heartbeat = Duration::from_secs(1);
    config.server.ping_interval = Duration::from_secs(1);
    // Longer than a busy machine lets a client wait for its turn.
    config.server.pong_timeout = Duration::from_secs(10);
    let replica = Process::start_ready(&config).await;
    let mut producer =
        Producer::start(&config, Pace { blocks: 1, every: Duration::from_millis(100) });
    let clients = followers(&[replica.url("valid_transactions")], 20);
    producer.confirms(20).await;
    replica.signal("STOP").await;
    // As a clock: thirty seconds, beyond all that was set above.
    producer.confirms(300).await;
    replica.signal("CONT").await;
    replica.reaches(producer.confirms(20).await).await;
    let followed = all_have_the_chain(clients, producer.end().await).await;
    assert!(followed.iter().all(|client| client.connected_at.len() == 1), "no client was cut");
    let reconnects = replica.metric("blockcast_amqp_reconnects_total").await;
    assert!(reconnects >= 1.0, "the broker gave it up");
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_descriptors_it_serves_who_is_there_and_takes_newcomers_when_it_can() {
    const DESCRIPTORS: usize = 80;
    let mut config = config(Broker::shared());
    // So that idle connections hold their descriptors.
    config.server.handshake_timeout = Duration::from_secs(60);
    let limit = format!("--nofile={DESCRIPTORS}:{DESCRIPTORS}");
    let replica = Process::start_under(&config, &["prlimit", &limit]).await;
    let url = replica.url("valid_transactions");
    let mut client = Client::connect(&url).await;
    let mut idle = Vec::new();
    for _ in 0..2 * DESCRIPTORS {
        idle.push(TcpStream::connect(replica.address).await.expect("the kernel takes it"));
    }
    replica.logs("cannot accept").await;
    publish(&config, (1..=100).map(|height| body(height, "x"))).await;
    let expected: Vec<_> = (1..=100).map(|height| event(height, "x")).collect();
    assert_eq!(client.texts(100).await, expected, "who is there is served");
    assert_eq!(replica.logged("cannot accept").len(), 1, "told once, not at each attempt");
    drop(idle);
    let mut newcomer = Client::connect(&url).await;
    publish(&config, [body(101, "x")]).await;
    for client in [&mut client, &mut newcomer] {
        assert_eq!(client.text().await, event(101, "x"));
    }
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_is_closed_full_or_unread_stops_nothing() {
    let check = async |name: &str, wrapper: &[&str]| {
        println!("{name}");
        let mut config = config(Broker::shared());
        let [port] = ports::free();
        config.server.listen = SocketAddr::from(([127, 0, 0, 1], port)).into();
        // Far more than the 64 KiB that a pipe takes.
        config.log.level = "trace".into();
        let replica = Process::start_unread(&config, wrapper).await;
        let pace = Pace { blocks: 20, every: Duration::from_millis(10) };
        let mut producer = Producer::start(&config, pace);
        let clients = followers(&[replica.url("valid_transactions")], 5);
        producer.confirms(400).await;
        all_have_the_chain(clients, producer.end().await).await;
        replica.stop().await;
    };
    check("closed", &["sh", "-c", "exec \"$@\" 2>&-", "sh"]).await;
    check("full", &["sh", "-c", "exec \"$@\" 2>/dev/full", "sh"]).await;
    check("unread", &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_lost_of_a_log_that_nobody_reads_is_counted_when_somebody_does() {
    /// Twice what may wait and a pipe takes, at the least that such a line has.
    const REQUESTS: usize = 10_000;
    let mut config = config(Broker::shared());
    let [port] = ports::free();
    config.server.listen = SocketAddr::from(([127, 0, 0, 1], port)).into();
    // One line per request, and what is told of the log itself.
    config.log.level = "off,blockcast::server::handshake=debug,blockcast::telemetry=warn".into();
    let mut replica = Process::start_unread(&config, &[]).await;
    let refused = "blockcast_handshakes_refused_total{reason=\"bad_request\"}";
    let request =
        format!("GET /api/v1/streams/valid_blocks?{} HTTP/1.1\r\nHost: x\r\n\r\n", "x".repeat(100));
    let mut stream = TcpStream::connect(replica.address).await.expect("connected");
    let (mut answers, mut requests) = stream.split();
    let reading = async { tokio::io::copy(&mut answers, &mut tokio::io::sink()).await };
    let writing = async {
        for _ in 0..REQUESTS {
            requests.write_all(request.as_bytes()).await.expect("taken");
        }
        eventually("all are answered", async || replica.metric(refused).await == REQUESTS as f64)
            .await;
        requests.shutdown().await.expect("shut");
    };
    let (read, ()) = tokio::join!(reading, writing);
    read.expect("answers");
    replica.read_log();
    replica.logs("log lines lost").await;
    let told = replica.logged("log lines lost");
    let [line] = told.as_slice() else { panic!("one line was due: {told:?}") };
    let line: serde_json::Value = serde_json::from_str(line).expect("JSON");
    let lost = line["lines"].as_u64().expect("a number") as usize;
    assert!(lost > 0);
    assert_eq!(replica.metric("blockcast_log_lines_lost_total").await, lost as f64);
    eventually("the rest is there", async || {
        replica.logged("stream refused").len() + lost == REQUESTS
    })
    .await;
    replica.stop().await;
}
