//! `publish --node` against BigchainDB's and Planetmint's own web applications, over the real chain.
//!
//! `make test-nodes` runs them. Otherwise their recorded answers stand in for them, and the chain
//! begins with the first block that was recorded.

mod application;

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::path::Path;

use blockcast::config::{Config, Dialect};

use crate::support::broker::Broker;
use crate::support::chain::{height_of, real_events};
use crate::support::client::Client;
use crate::support::publishing::{interrupted, publish};
use crate::support::replica::{Replica, config};
use application::{Application, Kind};

/// The height that is committed first while the follower listens.
const WOKEN_AT: u64 = 120;
/// In version 3.0, which has a list of assets.
const CREATE: &str = "672d3316b9a2f2169c52422da40a71bea51d72eef6fd27f78fd47673ce70df0a";
const TRANSFER: &str = "da828638a4c4fa226e23f6bd2b13f110dd83ec9417ecdb867eb517d34e69435f";

#[tokio::test]
async fn bigchaindb_is_followed_byte_for_byte() {
    let config = config(Broker::shared());
    let kind = Kind { name: "bigchaindb", version: "2.2.2", tip: WOKEN_AT, added: None };
    // Its own stream says every event of it in the same bytes.
    is_followed(&config, kind, as_stored(&real_events()), WOKEN_AT).await;
}

#[tokio::test]
async fn planetmint_is_followed_byte_for_byte() {
    let mut config = config(Broker::shared());
    config.blocks.dialect = Dialect::Planetmint;
    let transactions = ["create_v3.json", "transfer_v3.json"].map(|name| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/transactions").join(name);
        std::fs::read_to_string(path).expect("read").replace('\n', " ")
    });
    let tip = WOKEN_AT + 1;
    let added = format!("{{\"height\": {tip}, \"transactions\": [{}]}}", transactions.join(", "));
    let kind = Kind { name: "planetmint", version: "2.5.3", tip, added: Some(added) };
    let listed = |event: &String| {
        let (start, end) = event.split_once(", \"transaction_id\"").expect("an event");
        let start = start.replace("\"asset_id\": ", "\"asset_ids\": [");
        format!("{start}], \"transaction_id\"{end}")
    };
    let of_lists = [CREATE, TRANSFER].map(|id| {
        format!(
            "{{\"height\": {tip}, \"asset_ids\": [\"{CREATE}\"], \"transaction_id\": \"{id}\"}}"
        )
    });
    let events = real_events().iter().map(listed).chain(of_lists).collect();
    // Its own stream says assets in the place of their ids for the version that BigchainDB had.
    is_followed(&config, kind, events, tip).await;
}

/// A block's transactions as BigchainDB's database has them: what it had before comes first. The
/// recorded chain has one transaction in three blocks, which a real node never has.
fn as_stored(events: &[String]) -> Vec<String> {
    let (mut stored, mut seen) = (Vec::new(), BTreeSet::new());
    for block in events.chunk_by(|one, next| height_of(one) == height_of(next)) {
        let id = |event: &str| event.rsplit('"').nth(1).expect("its last value").to_owned();
        let (again, new): (Vec<_>, Vec<_>) =
            block.iter().cloned().partition(|event| seen.contains(&id(event)));
        seen.extend(new.iter().map(|event| id(event)));
        stored.extend(again.into_iter().chain(new));
    }
    stored
}

/// `same_from`: from here on the application's own stream of events is compared, too.
async fn is_followed(config: &Config, kind: Kind, events: Vec<String>, same_from: u64) {
    let replica = Replica::start_ready(config).await;
    let mut streamed = Client::connect(&replica.url("valid_transactions")).await;
    let mut blocks = Client::connect(&replica.url("valid_blocks")).await;
    let (tip, listed) = (kind.tip, kind.listed_blocks(WOKEN_AT));
    let mut application = Application::start(kind, WOKEN_AT - 1).await;
    let first = application.first_height;
    let (before, woken): (Vec<_>, Vec<_>) = events
        .into_iter()
        .filter(|event| height_of(event) >= first)
        .partition(|event| height_of(event) < WOKEN_AT);

    let first_argument = first.to_string();
    let seldom = ["--poll", "1h", "--from-height", &first_argument];
    let mut running = publish(config, &application.url, &seldom).start();
    let listening = format!("listening to {}", application.stream);
    let at_tip = match first == WOKEN_AT {
        true => format!("following {} from height {first} ", application.url),
        false => format!("up to the tip; waiting for height {WOKEN_AT}"),
    };
    assert_eq!(streamed.texts(before.len()).await, before);
    running.says_each(&[&listening, &at_tip]).await;
    let own = application.own_stream("streams").await;
    let own_blocks = application.own_stream("streamedblocks").await;
    application.commit(tip).await;

    assert_eq!(streamed.texts(woken.len()).await, woken);
    end_with(&mut blocks, first..=tip, &listed).await;
    interrupted(running).await.telling(&[&format!("(heights {first} to {tip})")]);
    replica.stop().await.expect("stopped");

    own_streams_say_the_same([own, own_blocks], (&woken, same_from), &listed).await;
    application.answers_as_recorded().await;
}

/// The next blocks have these heights; the last of them are these.
async fn end_with(blocks: &mut Client, heights: RangeInclusive<u64>, last: &[String]) {
    let heights: Vec<u64> = heights.collect();
    let blocks = blocks.texts(heights.len()).await;
    assert!(blocks.iter().map(|block| height_of(block)).eq(heights));
    assert_eq!(&blocks[blocks.len() - last.len()..], last);
}

/// The application's own streams say these events, from a height on, and these blocks. A node may lack either.
async fn own_streams_say_the_same(
    [events, blocks]: [Option<Client>; 2],
    (woken, same_from): (&[String], u64),
    last: &[String],
) {
    if let Some(mut events) = events {
        let own = events.texts(woken.len()).await;
        let is_same = |event: &&String| height_of(event) >= same_from;
        assert!(own.iter().filter(is_same).eq(woken.iter().filter(is_same)), "{own:?}");
    }
    if let Some(mut blocks) = blocks {
        assert_eq!(blocks.texts(last.len()).await, last);
    }
}
