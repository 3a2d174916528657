//! A wall clock that is set while the service runs: what it says is told, and decides nothing.

use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::support::broker::Broker;
use crate::support::eventually::eventually;
use crate::support::load::{Pace, Producer, all_have_the_chain, followers};
use crate::support::process::Process;
use crate::support::replica::config;

const HOUR_SECONDS: i64 = 3_600;
/// What a scrape and the block before it may lie apart, and far less than the clock is set by.
const SLACK_SECONDS: f64 = 600.0;

/// The wall clock of one process, that of this machine moved by what a file says. Others are as they
/// were: deadlines must not follow it.
struct Clock(tempfile::TempDir);

impl Clock {
    fn new() -> Self {
        let clock = Self(tempfile::tempdir().expect("a directory"));
        clock.set(0);
        clock
    }

    fn set(&self, offset_seconds: i64) {
        let new = self.0.path().join("new");
        std::fs::write(&new, format!("{offset_seconds:+}\n")).expect("written");
        // By rename: it is read at every look at the clock.
        std::fs::rename(new, self.file()).expect("renamed");
    }

    fn file(&self) -> PathBuf {
        self.0.path().join("offset")
    }

    /// Starts a command under this clock.
    fn wrapper(&self) -> [String; 5] {
        let file = self.file();
        [
            "env".to_owned(),
            format!("LD_PRELOAD={}", library().display()),
            format!("FAKETIME_TIMESTAMP_FILE={}", file.display()),
            "FAKETIME_NO_CACHE=1".to_owned(),
            "FAKETIME_DONT_FAKE_MONOTONIC=1".to_owned(),
        ]
    }
}

/// In a directory that is named for the machine's kind.
fn library() -> PathBuf {
    let kinds = std::fs::read_dir("/usr/lib").expect("readable").filter_map(Result::ok);
    let paths = kinds.map(|kind| kind.path().join("faketime/libfaketimeMT.so.1"));
    paths
        .into_iter()
        .find(|path| path.exists())
        .expect("libfaketime is not installed; `make test` installs it")
}

/// This machine's own clock.
fn now_seconds() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs_f64()
}

/// How far the replica's clock was off when it took its newest block.
async fn offset_seconds(replica: &Process) -> f64 {
    replica.metric("blockcast_last_block_timestamp_seconds").await - now_seconds()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_set_back_an_hour_and_forth_again_costs_no_block_and_no_client() {
    let clock = Clock::new();
    let config = config(Broker::shared());
    let wrapper = clock.wrapper();
    let replica = Process::start_under(&config, &wrapper.each_ref().map(String::as_str)).await;
    let mut producer =
        Producer::start(&config, Pace { blocks: 5, every: Duration::from_millis(20) });
    let clients = followers(&[replica.url("valid_transactions")], 10);
    replica.reaches(producer.confirms(100).await).await;
    for hours in [0, -1, 1, -1] {
        let set_to = hours * HOUR_SECONDS;
        clock.set(set_to);
        eventually("the clock is seen", async || {
            (offset_seconds(&replica).await - set_to as f64).abs() < SLACK_SECONDS
        })
        .await;
        replica.reaches(producer.confirms(100).await).await;
        nothing_is_negative(&replica.metrics().await);
    }
    for name in ["blockcast_amqp_reconnects_total", "blockcast_missing_blocks_total"] {
        assert_eq!(replica.metric(name).await, 0.0, "{name}");
    }
    let followed = all_have_the_chain(clients, producer.end().await).await;
    assert!(followed.iter().all(|client| client.connected_at.len() == 1), "no client was cut");
    replica.stop().await;
}

/// Least of all what a histogram of durations has summed up.
fn nothing_is_negative(metrics: &str) {
    let samples = metrics.lines().filter(|line| !line.starts_with('#'));
    let negative: Vec<_> = samples.filter(|line| line.contains(" -")).collect();
    assert_eq!(negative, [""; 0]);
}
