//! A RabbitMQ stream that is deleted, with blocks in it that one replica had and the other had not, and
//! made anew while that one was cut off.

use std::net::SocketAddr;
use std::ops::RangeInclusive;

use blockcast::config::Config;

use crate::support::amqp_client::Client as Operator;
use crate::support::broker::Broker;
use crate::support::chain::{body, event, publish};
use crate::support::client::Client;
use crate::support::client::texts_but_blocks;
use crate::support::eventually::eventually;
use crate::support::process::Process;
use crate::support::proxy::Proxy;
use crate::support::proxy::{NOWHERE, behind_proxy};
use crate::support::replica::config;

const RESETS: &str = "blockcast_stream_resets_total";
const MADE_ANEW: &str = "the stream was made anew or lost its tail";

/// A replica that is cut off from the broker, and one that is not, each with a client that has had
/// heights 1 to 10.
struct Fixture {
    proxy: Proxy,
    config: Config,
    cut_off: Process,
    other: Process,
    client: Client,
    others_client: Client,
}

fn bodies(heights: RangeInclusive<u64>, tag: &str) -> impl Iterator<Item = Vec<u8>> {
    heights.map(move |height| body(height, tag))
}

fn events(heights: RangeInclusive<u64>, tag: &str) -> Vec<String> {
    heights.map(|height| event(height, tag)).collect()
}

impl Fixture {
    async fn start(broker: &Broker) -> Self {
        let config = config(broker);
        let (proxy, through) = behind_proxy(broker, &config).await;
        let cut_off = Process::start_ready(&through).await;
        let other = Process::start_ready(&config).await;
        let url = |replica: &Process| format!("{}?control=true", replica.url("valid_transactions"));
        let mut client = Client::connect(&url(&cut_off)).await;
        let mut others_client = Client::connect(&url(&other)).await;
        publish(&config, bodies(1..=10, "x")).await;
        for client in [&mut client, &mut others_client] {
            assert_eq!(texts_but_blocks(client, 10).await, events(1..=10, "x"));
        }
        proxy.lead_to(NOWHERE);
        proxy.cut();
        eventually("it is cut off", async || {
            cut_off.metric("blockcast_amqp_connected").await == 0.0
        })
        .await;
        Self { proxy, config, cut_off, other, client, others_client }
    }

    /// Deletes the stream; the replica that is there declares it again.
    async fn lose_stream(&self, broker: &Broker) {
        let queue = self.config.amqp.queue.resolved_name();
        Operator::connect(&broker.uri()).await.delete_queue(&queue).await;
        eventually("it is made anew", async || self.other.metric(RESETS).await == 1.0).await;
    }

    fn let_back(&self, broker: &Broker) {
        self.proxy.lead_to(SocketAddr::from(([127, 0, 0, 1], broker.port())));
    }

    async fn stop(self) {
        for replica in [self.cut_off, self.other] {
            replica.stop().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn blocks_lost_with_their_stream_are_told_as_a_gap_by_the_replica_that_never_had_them() {
    let broker = Broker::shared();
    let mut fixture = Fixture::start(broker).await;
    publish(&fixture.config, bodies(11..=20, "x")).await;
    fixture.other.reaches(20).await;
    fixture.lose_stream(broker).await;
    publish(&fixture.config, bodies(21..=30, "x")).await;
    fixture.let_back(broker);

    let gap = "{\"type\": \"gap\", \"from_height\": 11, \"to_height\": 20}".to_owned();
    let due = [vec![gap], events(21..=30, "x")].concat();
    assert_eq!(texts_but_blocks(&mut fixture.client, 11).await, due);
    assert_eq!(
        texts_but_blocks(&mut fixture.others_client, 20).await,
        events(11..=30, "x"),
        "who had them loses nothing"
    );
    for (replica, missing) in [(&fixture.cut_off, 10.0), (&fixture.other, 0.0)] {
        assert_eq!(replica.metric("blockcast_missing_blocks_total").await, missing);
        assert_eq!(replica.metric(RESETS).await, 1.0);
        replica.logs(MADE_ANEW).await;
    }
    fixture.cut_off.logs("heights given up").await;
    let given_up = fixture.cut_off.logged("heights given up").concat();
    for part in ["ERROR", "\"from_height\":11", "\"to_height\":20"] {
        assert!(given_up.contains(part), "{given_up}");
    }
    assert_eq!(fixture.other.logged("heights given up"), [""; 0]);

    // What was lost can still be had, by whoever asks for it now.
    publish(&fixture.config, bodies(11..=20, "x")).await;
    let filled = (11..=20).map(|height| format!("{{\"type\": \"filled\", \"height\": {height}}}"));
    assert_eq!(texts_but_blocks(&mut fixture.client, 10).await, Vec::from_iter(filled));
    let url = format!("{}?from_height=1", fixture.cut_off.url("valid_transactions"));
    assert_eq!(Client::connect(&url).await.texts(30).await, events(1..=30, "x"));
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_chain_in_a_stream_made_anew_while_a_replica_was_cut_off_is_told_by_both() {
    let broker = Broker::shared();
    let mut fixture = Fixture::start(broker).await;
    publish(&fixture.config, bodies(11..=20, "x")).await;
    let known = texts_but_blocks(&mut fixture.others_client, 10).await;
    assert_eq!(known, events(11..=20, "x"));
    fixture.lose_stream(broker).await;
    publish(&fixture.config, bodies(1..=5, "new")).await;
    fixture.let_back(broker);

    let replicas = [&fixture.cut_off, &fixture.other];
    for (replica, client) in replicas.iter().zip([&mut fixture.client, &mut fixture.others_client])
    {
        let frame = client.closed().await;
        let told = (u16::from(frame.code), frame.reason.as_str());
        assert_eq!(told, (4010, "from_height=oldest another chain"));
        eventually("it is counted", async || {
            replica.metric("blockcast_disconnects_total{reason=\"reset\"}").await == 1.0
        })
        .await;
        assert_eq!(replica.metric(RESETS).await, 1.0);
        for told in [MADE_ANEW, "another chain: starting over"] {
            replica.logs(told).await;
        }
        eventually("it has read the new one", async || {
            replica.get("/health/ready").await.status == 200
        })
        .await;
        let url = format!("{}?from_height=1", replica.url("valid_transactions"));
        let mut newcomer = Client::connect(&url).await;
        assert_eq!(newcomer.texts(5).await, events(1..=5, "new"), "and nothing of the old one");
        assert_eq!(replica.metric("blockcast_missing_blocks_total").await, 0.0);
    }
    fixture.stop().await;
}
