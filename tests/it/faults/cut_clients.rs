//! Clients whose links are cut wherever they are.

use std::time::Duration;

use super::proxy::{Harm, Proxy};
use crate::broker::Broker;
use crate::load::{Pace, Producer, all_have_the_chain, followers};
use crate::process::Process;
use crate::replica::config;

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
