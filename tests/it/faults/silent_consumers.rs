//! Consumers to whom nothing is delivered any more, while their connection and its heartbeats go on.

use std::time::Duration;

use blockcast::config::{AmqpUri, Config, QueueMode};
use serde_json::Value;
use tokio::task::block_in_place;

use crate::support::amqp_client::{Client as Operator, Running, bodies};
use crate::support::broker::Broker;
use crate::support::chain::{body, event, publish};
use crate::support::client::Client;
use crate::support::client::texts_but_blocks;
use crate::support::eventually::eventually;
use crate::support::process::Process;
use crate::support::proxy::{Harm, Proxy};
use crate::support::replica::config;

const SILENCES: &str = "blockcast_amqp_silences_total";
const RECONNECTS: &str = "blockcast_amqp_reconnects_total";
const TOLD: &str = "nothing comes";
/// Far above what a feed has at a time, with a look and with the dead letters' declaration.
const CHANNELS_MAX: u64 = 8;

/// Two addresses of one broker, and a configuration that names both.
struct Addresses {
    first: Proxy,
    second: Proxy,
    config: Config,
}

impl Addresses {
    async fn of(broker: &Broker) -> Self {
        let (first, second) = (proxy(broker).await, proxy(broker).await);
        let mut config = config(broker);
        config.amqp.heartbeat = Duration::from_secs(1);
        config.amqp.quiet_after = Duration::from_secs(1);
        config.amqp.uris = [&first, &second].map(uri).into();
        Self { first, second, config }
    }
}

async fn proxy(broker: &Broker) -> Proxy {
    Proxy::to_broker(broker.port()).await
}

fn uri(proxy: &Proxy) -> AmqpUri {
    AmqpUri::new(format!("amqp://guest:guest@127.0.0.1:{}/%2f", proxy.address.port()))
}

/// What the replica's status says of the last silence.
async fn last_silence(replica: &Process) -> Value {
    let status: Value =
        serde_json::from_str(&replica.get("/api/v1/status").await.body).expect("JSON");
    status["last_silence"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_consumer_of_a_stream_is_found_out_and_goes_on_at_the_next_broker() {
    silent_consumer_is_found_out(QueueMode::Stream, [Value::from(9), Value::from(59)]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_consumer_of_a_queue_is_found_out_and_goes_on_at_the_next_broker() {
    silent_consumer_is_found_out(QueueMode::Queue, [Value::Null, Value::Null]).await;
}

async fn silent_consumer_is_found_out(mode: QueueMode, offsets: [Value; 2]) {
    let broker = Broker::shared();
    let Addresses { first, second, mut config } = Addresses::of(broker).await;
    config.amqp.queue.mode = mode;
    if mode == QueueMode::Queue {
        // So that some wait behind those that the broker believes delivered.
        config.amqp.prefetch = 17;
    }
    let replica = Process::start_ready(&config).await;
    assert_eq!(last_silence(&replica).await, Value::Null);
    let url = format!("{}?control=true", replica.url("valid_transactions"));
    let mut client = Client::connect(&url).await;
    publish(&config, (1..=10).map(|height| body(height, "x"))).await;
    let events = |heights: std::ops::RangeInclusive<u64>| {
        Vec::from_iter(heights.map(|height| event(height, "x")))
    };
    assert_eq!(texts_but_blocks(&mut client, 10).await, events(1..=10));

    let at_second = second.looks();
    first.harm_each(Harm::Whole, Harm::Silent);
    publish(&config, (11..=60).map(|height| body(height, "x"))).await;
    assert_eq!(texts_but_blocks(&mut client, 50).await, events(11..=60), "each once, in order");
    assert!(first.withheld() > 0, "they were on their way");
    assert!(second.looks() > at_second, "they came by the next address");
    is_consuming_by(&replica, &second);

    one_silence_is_told(&replica, &offsets).await;
    publish(&config, (61..=70).map(|height| body(height, "x"))).await;
    assert_eq!(texts_but_blocks(&mut client, 10).await, events(61..=70));
    replica.stop().await;
}

fn is_consuming_by(replica: &Process, proxy: &Proxy) {
    let consuming = replica.logged("\"consuming\"");
    let port = proxy.address.port().to_string();
    assert!(consuming.last().is_some_and(|line| line.contains(&port)), "{consuming:?}");
}

/// In metrics, status and log; and that nothing was lost by it.
async fn one_silence_is_told(replica: &Process, offsets: &[Value; 2]) {
    assert_eq!(replica.metric(SILENCES).await, 1.0);
    assert_eq!(replica.metric(RECONNECTS).await, 1.0);
    assert_eq!(replica.metric("blockcast_missing_blocks_total").await, 0.0);
    assert_eq!(replica.metric("blockcast_stream_resets_total").await, 0.0);
    let told = last_silence(replica).await;
    assert_eq!([&told["after_offset"], &told["end_offset"]], [&offsets[0], &offsets[1]]);
    assert!(told["at"].is_string(), "{told}");
    let logged = replica.logged(TOLD);
    let [line] = &logged[..] else { panic!("once: {logged:?}") };
    let line: Value = serde_json::from_str(line).expect("JSON");
    assert_eq!(line["level"], "WARN", "{line}");
    assert_eq!([&line["after_offset"], &line["end_offset"]], [&offsets[0], &offsets[1]], "{line}");
}

/// RabbitMQ 3.10 says nothing to who consumes from a replica that is deleted; 4.0 ends the consumer.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_whose_local_replica_is_deleted_is_read_on_at_the_next_node() {
    let mut nodes = block_in_place(Broker::start_cluster);
    let mut config = config(&nodes[0]);
    // Declared over the second node, which then leads; consumed from the first.
    config.amqp.uris = vec![AmqpUri::new(nodes[1].uri())];
    publish(&config, (1..=10).map(|height| body(height, "x"))).await;
    let producer = config.clone();
    config.amqp.uris = nodes.iter().map(|node| AmqpUri::new(node.uri())).collect();
    config.amqp.quiet_after = Duration::from_secs(1);
    let replica = Process::start_ready(&config).await;
    let url = format!("{}?from_height=1", replica.url("valid_transactions"));
    let mut client = Client::connect(&url).await;
    client.texts(10).await;
    let queue = config.amqp.queue.resolved_name();
    block_in_place(|| nodes[0].delete_stream_replica(&queue));
    publish(&producer, (11..=20).map(|height| body(height, "x"))).await;
    let events = Vec::from_iter((11..=20).map(|height| event(height, "x")));
    assert_eq!(client.texts(10).await, events);
    let consuming = replica.logged("\"consuming\"");
    let first = nodes[0].port().to_string();
    assert!(consuming.last().is_some_and(|line| !line.contains(&first)), "{consuming:?}");
    assert_eq!(replica.metric("blockcast_stream_resets_total").await, 0.0);
    let silences = replica.metric(SILENCES).await;
    let cancelled = replica.logged("the broker cancelled the consumer").len();
    assert!(silences == 1.0 || cancelled == 1, "{silences} silences, {cancelled} cancelled");
    replica.stop().await;
    // The first one's end takes the files of all.
    nodes.reverse();
}

/// What does not come back from a mute broker says nothing of the stream.
#[tokio::test(flavor = "multi_thread")]
async fn a_mute_broker_is_not_taken_for_a_stream_made_anew() {
    let broker = Broker::shared();
    let Addresses { first, second, config } = Addresses::of(broker).await;
    let client = Operator::connect(&broker.uri()).await;
    client.declare_stream(&config.amqp).await;
    client.publish(&config.amqp.exchange, bodies(0..10)).await;
    let mut source = Running::start(&config.amqp);
    source.begin().await;
    source.takes(bodies(0..10)).await;
    source.caught_up().await;
    for proxy in [&first, &second] {
        proxy.harm_each(Harm::Whole, Harm::Mute);
    }
    client.publish(&config.amqp.exchange, bodies(10..20)).await;
    // The consumer's, found out by a look; then that of a broker that does not give the last one back.
    eventually("both are found out", async || source.metrics.amqp_silences.get() >= 2).await;
    first.harm(Harm::Whole);
    source.echo(9).await;
    source.takes(bodies(10..20)).await;
    assert_eq!(source.metrics.stream_resets.get(), 0);
    source.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_or_queue_on_which_nothing_comes_is_looked_at_and_left_alone() {
    const LOOKS: u64 = 3;
    let broker = Broker::shared();
    let left_alone = async |mode, blocks| {
        let Addresses { first, second, mut config } = Addresses::of(broker).await;
        config.amqp.queue.mode = mode;
        let client = Operator::connect(&broker.uri()).await;
        let mut source = Running::start(&config.amqp);
        source.begin().await;
        source.caught_up().await;
        client.publish(&config.amqp.exchange, bodies(0..blocks)).await;
        source.takes(bodies(0..blocks)).await;
        let looks = first.looks();
        eventually("it is looked at", async || first.looks() >= looks + LOOKS).await;
        client.publish(&config.amqp.exchange, bodies(blocks..blocks + 1)).await;
        source.takes(bodies(blocks..blocks + 1)).await;
        assert_eq!(source.metrics.amqp_silences.get(), 0);
        assert_eq!(source.metrics.amqp_reconnects.get(), 0);
        assert_eq!(second.looks(), 0);
        source.stop().await;
    };
    tokio::join!(
        left_alone(QueueMode::Stream, 0),
        left_alone(QueueMode::Stream, 10),
        left_alone(QueueMode::Queue, 0),
        left_alone(QueueMode::Queue, 10)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_block_that_comes_while_it_is_looked_for_ends_the_look_and_its_channel() {
    const BLOCKS: u64 = 100;
    let broker = Broker::start_own();
    let Addresses { first, mut config, .. } = Addresses::of(&broker).await;
    config.amqp.quiet_after = Duration::from_millis(1);
    let client = Operator::connect(&broker.uri()).await;
    client.declare_stream(&config.amqp).await;
    let mut source = Running::start(&config.amqp);
    source.begin().await;
    source.caught_up().await;
    for height in 0..BLOCKS {
        // From before the look's channel is open to long after it consumes.
        tokio::time::sleep(Duration::from_micros(200 * height)).await;
        client.publish(&config.amqp.exchange, bodies(height..height + 1)).await;
        source.takes(bodies(height..height + 1)).await;
    }
    let looks = first.looks();
    assert!(looks > BLOCKS / 4, "only {looks} looks came to consume");
    assert_eq!(source.metrics.amqp_silences.get(), 0);
    assert_eq!(source.metrics.amqp_reconnects.get(), 0);
    eventually("no channels are left over", async || {
        let channels = block_in_place(|| broker.rabbitmqctl(&["list_connections", "channels"]));
        let most = channels.lines().filter_map(|line| line.trim().parse::<u64>().ok()).max();
        most.is_some_and(|most| most <= CHANNELS_MAX)
    })
    .await;
    source.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_block_that_is_long_on_its_way_is_no_silence() {
    const BYTES_PER_SECOND: u32 = 8_000;
    let broker = Broker::shared();
    let mut config = Addresses::of(broker).await.config;
    // One that passes on what it has, and not only whole frames.
    let slow = Proxy::to(([127, 0, 0, 1], broker.port()).into()).await;
    config.amqp.uris = vec![uri(&slow)];
    let client = Operator::connect(&broker.uri()).await;
    client.declare_stream(&config.amqp).await;
    let mut source = Running::start(&config.amqp);
    source.begin().await;
    source.caught_up().await;
    slow.harm_each(Harm::Whole, Harm::Slow { bytes_per_second: BYTES_PER_SECOND });
    // Longer than a look and what it waits for afterwards.
    let large = "x".repeat(25 * BYTES_PER_SECOND as usize);
    client.publish(&config.amqp.exchange, [large.clone(), "small".into()]).await;
    source.takes([large, "small".into()]).await;
    assert_eq!(source.metrics.amqp_silences.get(), 0);
    assert_eq!(source.metrics.amqp_reconnects.get(), 0);
    source.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_that_waits_for_acks_is_not_silent() {
    const PREFETCH: u64 = 17;
    let broker = Broker::shared();
    // Another one, quiet, whose looks tell how long it was waited.
    let clock = Addresses::of(broker).await;
    let mut quiet = Running::start(&clock.config.amqp);
    quiet.begin().await;
    for mode in [QueueMode::Queue, QueueMode::Stream] {
        let Addresses { first, mut config, .. } = Addresses::of(broker).await;
        config.amqp.queue.mode = mode;
        config.amqp.prefetch = PREFETCH as u16;
        let mut source = Running::start(&config.amqp);
        source.begin().await;
        source.caught_up().await;
        let client = Operator::connect(&broker.uri()).await;
        for height in 0..2 * PREFETCH {
            client.publish(&config.amqp.exchange, bodies(height..height + 1)).await;
        }
        let mut unsettled = Vec::new();
        for _ in 0..PREFETCH {
            unsettled.push(source.delivery().await);
        }
        let time_passes = async || {
            let looks = clock.first.looks();
            eventually("time has passed", async || clock.first.looks() >= looks + 3).await;
        };
        // A look may have begun before the window was full.
        time_passes().await;
        let before = first.looks();
        time_passes().await;
        assert_eq!(first.looks(), before, "{mode:?}: there is nothing to look for");
        for delivery in &mut unsettled {
            delivery.settle().await;
        }
        source.takes(bodies(PREFETCH..2 * PREFETCH)).await;
        assert_eq!(source.metrics.amqp_silences.get(), 0);
        assert_eq!(source.metrics.amqp_reconnects.get(), 0);
        source.stop().await;
    }
    quiet.stop().await;
}
