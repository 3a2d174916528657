//! Entries that the broker cannot hand over, in the stream of a whole replica: what clients, balancers and
//! operators see.

use std::time::Duration;

use serde_json::Value;
use tokio::time::timeout;

use crate::support::chain::{body, event, publish};
use crate::support::client::Client;
use crate::support::eventually::eventually;
use crate::support::process::Process;
use crate::support::unreadable::{garbage, stands_before_it, stream};

const PASSED_OVER: &str = "blockcast_unreadable_entries_total";
const TOLD: &str = "the broker cannot hand over these entries";
/// What is published behind such an entry streams within this time.
const STREAMS_WITHIN: Duration = Duration::from_secs(10);

async fn status(replica: &Process) -> Value {
    serde_json::from_str(&replica.get("/api/v1/status").await.body).expect("JSON")
}

/// Checks everything that tells of a run.
async fn tells(replica: &Process, from_offset: u64, to_offset: u64, entries: f64) {
    assert_eq!(replica.metric(PASSED_OVER).await, entries);
    let told = &status(replica).await["last_unreadable"];
    assert_eq!(
        (&told["from_offset"], &told["to_offset"]),
        (&from_offset.into(), &to_offset.into())
    );
    assert!(told["at"].is_string(), "{told}");
    let parts =
        ["ERROR".to_owned(), format!("\"from_offset\":{from_offset},\"to_offset\":{to_offset}")];
    let logged = replica.logged(TOLD);
    let line = logged.last().expect("it is logged");
    assert!(parts.iter().all(|part| line.contains(part)), "{line}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_replica_stands_before_it_and_streams_what_is_published_behind_it() {
    let (config, mut writer) = stream(3).await;
    let replica = Process::start_ready(&config).await;
    let url = replica.url("valid_transactions");
    let mut client = Client::connect(&url).await;
    garbage(&mut writer, 2);
    stands_before_it(&replica).await;
    // The history serves, meanwhile.
    let mut other = Client::connect(&format!("{url}?from_height=1")).await;
    assert_eq!(other.texts(3).await, [1, 2, 3].map(|height| event(height, "x")));
    assert_eq!(replica.metric(PASSED_OVER).await, 0.0);

    publish(&config, [body(4, "x")]).await;
    for client in [&mut client, &mut other] {
        let text = timeout(STREAMS_WITHIN, client.text()).await;
        assert_eq!(text.expect("in time"), event(4, "x"));
    }
    eventually("it is ready", async || replica.get("/health/ready").await.status == 200).await;
    tells(&replica, 3, 4, 2.0).await;
    assert_eq!(replica.metric("blockcast_missing_blocks_total").await, 0.0);
    assert_eq!(replica.metric("blockcast_stream_resets_total").await, 0.0);

    // A block that was in such an entry is a gap until it is published again.
    garbage(&mut writer, 1);
    publish(&config, [body(6, "x")]).await;
    assert_eq!(client.text().await, event(6, "x"));
    tells(&replica, 6, 6, 3.0).await;
    assert_eq!(replica.metric("blockcast_missing_blocks_total").await, 1.0);
    publish(&config, [body(5, "x")]).await;
    eventually("it is filled", async || {
        replica.metric("blockcast_deliveries_total{outcome=\"filled\"}").await == 1.0
    })
    .await;
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fresh_replica_warms_up_over_it() {
    let (config, mut writer) = stream(3).await;
    garbage(&mut writer, 1);
    publish(&config, (4..=9).map(|height| body(height, "x"))).await;
    let replica = Process::start_ready(&config).await;
    let url = format!("{}?from_height=1", replica.url("valid_transactions"));
    let expected = Vec::from_iter((1..=9).map(|height| event(height, "x")));
    assert_eq!(Client::connect(&url).await.texts(9).await, expected);
    tells(&replica, 3, 3, 1.0).await;

    // One that comes when it is the very last waits for what is behind it.
    garbage(&mut writer, 1);
    let warming = Process::start(&config).await;
    publish(&config, [body(10, "x")]).await;
    warming.reaches(10).await;
    eventually("it is ready", async || warming.get("/health/ready").await.status == 200).await;
    tells(&warming, 10, 10, 2.0).await;
    for replica in [replica, warming] {
        replica.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_read_back_come_over_it_and_it_is_told_once() {
    let (mut config, mut writer) = stream(0).await;
    garbage(&mut writer, 3);
    publish(&config, (1..=1_500).map(|height| body(height, "x"))).await;
    garbage(&mut writer, 2);
    publish(&config, (1_501..=3_000).map(|height| body(height, "x"))).await;
    config.amqp.queue.warm_up = 100;
    let replica = Process::start_ready(&config).await;
    assert_eq!(replica.metric(PASSED_OVER).await, 3.0, "of the others it knows nothing");
    let url = format!("{}?from_height=oldest", replica.url("valid_transactions"));
    eventually("it is known where the stream begins", async || {
        status(&replica).await["broker_first_height"] == 1
    })
    .await;
    let expected = Vec::from_iter((1..=3_000).map(|height| event(height, "x")));
    for _ in 0..2 {
        assert_eq!(Client::connect(&url).await.texts(3_000).await, expected);
        assert_eq!(replica.metric(PASSED_OVER).await, 5.0);
    }
    let told = replica.logged(TOLD);
    assert_eq!(told.len(), 2, "{told:?}");
    for run in ["\"from_offset\":0,\"to_offset\":2", "\"from_offset\":1503,\"to_offset\":1504"] {
        assert_eq!(told.iter().filter(|line| line.contains(run)).count(), 1, "{told:?}");
    }
    replica.stop().await;
}
