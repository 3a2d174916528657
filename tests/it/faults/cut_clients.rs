//! Clients whose links are cut wherever they are.

use std::net::SocketAddr;
use std::time::Duration;

use bytesize::ByteSize;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;

use crate::support::broker::Broker;
use crate::support::chain::height_of;
use crate::support::client::Client;
use crate::support::client::UPGRADE;
use crate::support::eventually::eventually;
use crate::support::load::{Pace, Producer, all_have_the_chain, followers};
use crate::support::process::Process;
use crate::support::proxy::{Harm, Proxy};
use crate::support::replica::config;

const CLIENTS: usize = 10;
const CUTS: usize = 8;

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_are_cut_off_inside_a_block_go_on_inside_it() {
    let config = config(Broker::shared());
    let replica = Process::start_ready(&config).await;
    let proxy = Proxy::to(replica.address).await;
    // Each is always behind, with a piece on its way that ends anywhere.
    proxy.harm_each(Harm::Whole, Harm::Slow { bytes_per_second: 50_000 });
    let url = format!("ws://{}/api/v1/streams/valid_transactions", proxy.address);
    let mut producer =
        Producer::start(&config, Pace { blocks: 5, every: Duration::from_millis(20) });
    let clients = followers(&[url], CLIENTS);
    for _ in 0..CUTS {
        producer.confirms(200).await;
        proxy.cut();
    }
    proxy.harm(Harm::Whole);
    let followed = all_have_the_chain(clients, producer.end().await).await;
    let in_mid_block: usize = followed.iter().map(|client| client.connected_in_mid_block).sum();
    let connections: usize = followed.iter().map(|client| client.connected_at.len()).sum();
    println!("{connections} connections, {in_mid_block} in the middle of a block");
    assert!(in_mid_block >= CLIENTS, "cut inside blocks");
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_reset_in_mid_burst_are_lost_and_nobody_else_notices() {
    const RESETTING: usize = 50;
    /// So far behind, with nothing read, a session is in the middle of what it was asked for.
    const LAG_MIN: u64 = 100;
    let mut config = config(Broker::shared());
    config.admin.listen = Some(SocketAddr::from(([127, 0, 0, 1], 0)).into());
    config.server.send_buffer_bytes = ByteSize::kib(8);
    // So that a busy machine has time to look at them.
    config.server.write_stall_timeout = Duration::from_secs(240);
    config.server.ping_interval = Duration::from_secs(240);
    let replica = Process::start_ready(&config).await;
    let url = replica.url("valid_transactions");
    let mut producer =
        Producer::start(&config, Pace { blocks: 5, every: Duration::from_millis(20) });
    let clients = followers(std::slice::from_ref(&url), CLIENTS);
    producer.confirms(200).await;
    let asked = UPGRADE.replace("valid_transactions", "valid_transactions?from_height=1");
    let mut resetting = Vec::new();
    for _ in 0..RESETTING {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_recv_buffer_size(4_096).expect("set");
        let mut stream = socket.connect(replica.address).await.expect("connected");
        stream.write_all(asked.as_bytes()).await.expect("taken");
        stream.read_exact(&mut [0; 200]).await.expect("the answer and more");
        resetting.push(stream);
    }
    eventually("all are in the middle of a burst", async || {
        let sessions = replica.get("/sessions").await.body;
        let sessions: Vec<Value> = serde_json::from_str(&sessions).expect("JSON");
        let behind = |session: &&Value| session["lag_blocks"].as_u64() >= Some(LAG_MIN);
        sessions.iter().filter(behind).count() >= RESETTING
    })
    .await;
    // The rest is unread, so the system sends a reset.
    drop(resetting);
    let lost = "blockcast_disconnects_total{reason=\"lost\"}";
    eventually("they are lost", async || replica.metric(lost).await == RESETTING as f64).await;
    let mut client = Client::connect(&format!("{url}?from_height=1")).await;
    assert_eq!(height_of(&client.text().await), 1, "it goes on");
    let followed = all_have_the_chain(clients, producer.end().await).await;
    assert!(followed.iter().all(|client| client.connected_at.len() == 1), "never cut");
    replica.stop().await;
}
