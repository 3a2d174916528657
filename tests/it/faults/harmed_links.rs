//! Links between a replica and its broker that are not what they seem.

use std::net::SocketAddr;
use std::time::Duration;

use blockcast::config::{AmqpUri, Config};
use bytesize::ByteSize;
use serde_json::Value;

use crate::support::broker::Broker;
use crate::support::chain::{body, event, id, publish};
use crate::support::client::{Client, texts_but_blocks};
use crate::support::eventually::eventually;
use crate::support::letters::Letters;
use crate::support::load::{Pace, Producer, all_have_the_chain, followers};
use crate::support::process::Process;
use crate::support::proxy::{Harm, NOWHERE, Proxy, behind_proxy};
use crate::support::replica::config;

const PACE: Pace = Pace { blocks: 5, every: Duration::from_millis(20) };

/// A replica whose broker is behind a proxy, beside one with a whole link.
struct Fixture {
    proxy: Proxy,
    /// For who publishes, past the proxy.
    config: Config,
    replica: Process,
    other: Process,
}

impl Fixture {
    async fn start(broker: &Broker) -> Self {
        let mut config = config(broker);
        // Short, and longer than a busy machine holds anybody up.
        config.amqp.heartbeat = Duration::from_secs(2);
        let (proxy, through) = behind_proxy(broker, &config).await;
        let replica = Process::start_ready(&through).await;
        let other = Process::start_ready(&config).await;
        Self { proxy, config, replica, other }
    }

    async fn connected_is(&self, connected: f64) {
        eventually("the broker is lost or found", async || {
            self.replica.metric("blockcast_amqp_connected").await == connected
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_harmed_link_to_the_broker_is_noticed_and_costs_no_block() {
    let fixture = Fixture::start(Broker::shared()).await;
    let urls = [&fixture.replica, &fixture.other].map(|replica| replica.url("valid_transactions"));
    let mut producer = Producer::start(&fixture.config, PACE);
    let clients = followers(&urls, 10);
    producer.confirms(50).await;

    fixture.proxy.harm(Harm::Slow { bytes_per_second: 20_000 });
    fixture.replica.reaches(producer.confirms(50).await).await;
    assert_eq!(fixture.replica.metric("blockcast_amqp_reconnects_total").await, 0.0, "only slow");

    let harms = [
        ("half-open, both ways", Harm::Swallowed, Harm::Swallowed),
        ("half-open, nothing comes", Harm::Whole, Harm::Swallowed),
        ("partitioned", Harm::Stalled, Harm::Stalled),
        ("corrupted, what comes", Harm::Whole, Harm::Misframed),
        ("corrupted, what is sent", Harm::Misframed, Harm::Whole),
    ];
    for (name, there, back) in harms {
        println!("{name}");
        fixture.proxy.harm_each(there, back);
        fixture.connected_is(0.0).await;
        producer.confirms(50).await;
        fixture.proxy.harm(Harm::Whole);
        fixture.connected_is(1.0).await;
        producer.confirms(50).await;
    }
    let reconnects = fixture.replica.metric("blockcast_amqp_reconnects_total").await;
    assert!(reconnects >= harms.len() as f64, "{reconnects} reconnects");
    assert!(fixture.proxy.harmed() > 0);

    let last = producer.end().await;
    all_have_the_chain(clients, last).await;
    assert_eq!(fixture.replica.metric("blockcast_missing_blocks_total").await, 0.0);
    for replica in [fixture.replica, fixture.other] {
        replica.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bits_flipped_under_tls_cut_the_link_and_harm_no_block() {
    let seed = fastrand::get_seed();
    println!("seed {seed}");
    let broker = Broker::shared();
    let config = config(broker);
    let target = SocketAddr::from(([127, 0, 0, 1], broker.tls_port()));
    let proxy = Proxy::to(target).await;
    let mut through = config.clone();
    let port = proxy.address.port();
    through.amqp.uris = vec![AmqpUri::new(format!("amqps://guest:guest@localhost:{port}/%2f"))];
    through.amqp.tls.ca = Some(broker.file("ca.pem"));
    through.amqp.tls.certificate = Some(broker.file("client.pem"));
    through.amqp.tls.key = Some(broker.file("client.key"));
    let replica = Process::start_ready(&through).await;
    let mut producer = Producer::start(&config, PACE);
    let clients = followers(&[replica.url("valid_transactions")], 5);
    for round in 1..=5 {
        producer.confirms(20).await;
        proxy.harm_each(Harm::Whole, Harm::Flipped);
        eventually("the flip is met", async || proxy.harmed() >= round).await;
        proxy.harm(Harm::Whole);
        replica.reaches(producer.confirms(20).await).await;
    }
    assert!(replica.metric("blockcast_amqp_reconnects_total").await >= 1.0);
    all_have_the_chain(clients, producer.end().await).await;
    replica.stop().await;
}

/// What retention has taken while nobody was looking cannot be had again, but is told.
#[tokio::test(flavor = "multi_thread")]
async fn what_retention_trims_while_a_replica_is_cut_off_is_told_as_a_gap() {
    const LAST: u64 = 600;
    let broker = Broker::shared();
    let mut config = config(broker);
    config.amqp.queue.segment_bytes = ByteSize::kb(100);
    config.amqp.queue.max_length_bytes = ByteSize::kb(300);
    let (proxy, through) = behind_proxy(broker, &config).await;
    let replica = Process::start_ready(&through).await;
    let url = format!("{}?control=true", replica.url("valid_transactions"));
    let mut client = Client::connect(&url).await;
    publish(&config, (1..=10).map(|height| body(height, "x"))).await;
    replica.reaches(10).await;

    proxy.lead_to(NOWHERE);
    proxy.cut();
    let padding = "x".repeat(5_000);
    for heights in Vec::from_iter(11..=LAST).chunks(50) {
        let large = |height: &u64| {
            let id = id(*height, "x");
            format!(
                r#"{{"height": {height}, "transactions": [{{"id": "{id}", "pad": "{padding}"}}]}}"#
            )
        };
        publish(&config, heights.iter().map(|height| large(height).into_bytes())).await;
    }
    proxy.lead_to(SocketAddr::from(([127, 0, 0, 1], broker.port())));
    replica.reaches(LAST).await;

    let (mut events, mut gaps) = (Vec::new(), Vec::new());
    while events.last() != Some(&LAST) {
        let message: Value = serde_json::from_str(&client.text().await).expect("JSON");
        let height = |key: &str| message[key].as_u64().expect("a height");
        match message["type"].as_str() {
            None => events.push(height("height")),
            Some("gap") => gaps.push((height("from_height"), height("to_height"))),
            Some(_) => {}
        }
    }
    let [(11, trimmed)] = gaps[..] else { panic!("one gap was due: {gaps:?}") };
    assert_eq!(events, Vec::from_iter((1..=10).chain(trimmed + 1..=LAST)), "all but the gap");
    let missing = replica.metric("blockcast_missing_blocks_total").await;
    assert_eq!(missing, (trimmed - 10) as f64);
    replica.logs("heights given up").await;
    replica.stop().await;
}

/// AMQP itself knows nothing of it: no checksum is in its frames.
#[tokio::test(flavor = "multi_thread")]
async fn a_body_corrupted_on_the_way_is_dead_lettered_and_its_height_told_as_a_gap_until_it_comes_again()
 {
    const STRUCK: u64 = 4;
    let broker = Broker::shared();
    let fixture = Fixture::start(broker).await;
    let letters = Letters::of(broker, fixture.config.amqp.dead_letter.exchange.as_deref()).await;
    let (replica, other) = (&fixture.replica, &fixture.other);
    let url = format!("{}?control=true", replica.url("valid_transactions"));
    let mut client = Client::connect(&url).await;
    let mut far = Client::connect(&other.url("valid_transactions")).await;
    let published = body(STRUCK, "x");
    fixture.proxy.harm_each(Harm::Whole, Harm::Struck("{\"height\":4,"));
    publish(&fixture.config, (1..STRUCK).map(|height| body(height, "x"))).await;
    publish(&fixture.config, [published.clone()]).await;
    eventually("it is struck", async || fixture.proxy.harmed() > 0).await;
    publish(&fixture.config, (STRUCK + 1..=10).map(|height| body(height, "x"))).await;

    let expected: Vec<_> = (1..=10).map(|height| event(height, "x")).collect();
    assert_eq!(far.texts(10).await, expected, "elsewhere the link is whole");
    let gap = format!("{{\"type\": \"gap\", \"from_height\": {STRUCK}, \"to_height\": {STRUCK}}}");
    let mut due = expected.clone();
    due[STRUCK as usize - 1] = gap;
    assert_eq!(texts_but_blocks(&mut client, 10).await, due, "the next ones stream on");
    assert_eq!(replica.metric("blockcast_missing_blocks_total").await, 1.0);
    assert_eq!(replica.metric("blockcast_dead_letters_total{reason=\"not_json\"}").await, 1.0);
    assert_eq!(replica.metric("blockcast_amqp_reconnects_total").await, 0.0, "its frame was whole");
    for told in ["bad message dead-lettered", "heights given up"] {
        replica.logs(told).await;
    }
    let given_up = replica.logged("heights given up").concat();
    assert!(given_up.contains(&format!("\"from_height\":{STRUCK}")), "{given_up}");
    let letter = letters.take().await;
    assert_eq!(letter.header("x-blockcast-reason").as_deref(), Some("not_json"));
    assert_eq!(letter.body[1..], published[1..], "as it came");
    assert_ne!(letter.body[0], published[0]);
    assert_eq!(letters.count().await, 0, "nobody else writes one");

    fixture.proxy.harm(Harm::Whole);
    publish(&fixture.config, [published]).await;
    let filled = format!("{{\"type\": \"filled\", \"height\": {STRUCK}}}");
    assert_eq!(texts_but_blocks(&mut client, 1).await, [filled]);
    publish(&fixture.config, [body(11, "x")]).await;
    assert_eq!(texts_but_blocks(&mut client, 1).await, [event(11, "x")]);
    assert_eq!(far.text().await, event(11, "x"));
    let mut newcomer =
        Client::connect(&format!("{}?from_height=1", replica.url("valid_transactions"))).await;
    assert_eq!(newcomer.texts(10).await, expected, "nothing is missing any more");
    for replica in [fixture.replica, fixture.other] {
        replica.stop().await;
    }
}
