//! `publish --node` of a node whose blocks only list their transactions, and of blocks that no replica
//! could read.

use crate::support::broker::Broker;
use crate::support::chain::body;
use crate::support::client::Client;
use crate::support::eventually::eventually;
use crate::support::node::{Fault, Node};
use crate::support::publishing::{
    FIRST, SECOND, TRANSACTION, heights, interrupted, is_published, listing, node_of_five,
    node_of_three, publish, published, second,
};
use crate::support::replica::{Replica, config};

#[tokio::test]
async fn a_listed_block_is_published_whole_and_byte_for_byte() {
    let config = config(Broker::shared());
    let replica = Replica::start_ready(&config).await;
    let mut events = Client::connect(&replica.url("valid_transactions")).await;
    let mut blocks = Client::connect(&replica.url("valid_blocks")).await;
    let node = node_of_five().await;
    node.put_transaction(SECOND, second().as_bytes());
    publish(&config, &node.url(), &["--heights", "5"]).run().await.with_code(0);
    let hash = "9f2c".repeat(16);
    let whole = format!(
        "{{\"height\": 5, \"hash\": \"{hash}\", \"transactions\": [{}, {}]}}",
        TRANSACTION.trim(),
        second().trim()
    );
    assert_eq!(published(&config).await, [whole]);
    assert_eq!(
        blocks.text().await,
        format!(
            "{{\"height\": 5, \"hash\": \"{hash}\", \"transaction_ids\": [\"{FIRST}\", \"{SECOND}\"]}}"
        )
    );
    for id in [FIRST, SECOND] {
        assert_eq!(
            events.text().await,
            format!("{{\"height\": 5, \"asset_id\": \"{id}\", \"transaction_id\": \"{id}\"}}")
        );
    }
    replica.stop().await.expect("stopped");
}

#[tokio::test]
async fn many_listed_transactions_keep_their_order_and_repeats() {
    let config = config(Broker::shared());
    let node = Node::start([]).await;
    let ids: Vec<String> = (0..300).map(|number| format!("{:064x}", number % 200)).collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    for id in &ids {
        node.put_transaction(id, format!("{{\"id\": \"{id}\"}}").as_bytes());
    }
    node.put(1, listing(1, &ids));
    node.put(2, listing(2, &[]));
    node.set_tip(2);
    let transactions: Vec<_> = ids.iter().map(|id| format!("{{\"id\": \"{id}\"}}")).collect();
    for (height, transactions) in [("1", transactions.join(", ")), ("2", String::new())] {
        publish(&config, &node.url(), &["--heights", height]).run().await.with_code(0);
        let whole =
            format!("{{\"height\": {height}, \"hash\": \"\", \"transactions\": [{transactions}]}}");
        assert_eq!(published(&config).await.last(), Some(&whole));
    }
}

#[tokio::test]
async fn a_transaction_that_comes_behind_its_block_is_waited_for() {
    let config = config(Broker::shared());
    let node = node_of_five().await;
    let mut running = publish(&config, &node.url(), &["--from-height", "5"]).start();
    running.says("following").await;
    eventually("the transaction is asked for", async || node.asked_for(SECOND) > 3).await;
    node.put_transaction(SECOND, b"{\"id\": \"of another\"}");
    running.says(&format!("{}/api/v1/blocks/5: the transactions are not those", node.url())).await;
    node.put_transaction(SECOND, b"<html>");
    let told = format!("{}/api/v1/transactions/{SECOND}: the transactions are not", node.url());
    running.says(&told).await;
    assert_eq!(published(&config).await, [""; 0]);
    node.put_transaction(SECOND, second().as_bytes());
    running.says(&format!("{} answers again", node.url())).await;
    running.says("up to the tip; waiting for height 6").await;
    interrupted(running).await.telling(&["1 blocks (heights 5 to 5)"]);
}

#[tokio::test]
async fn what_no_replica_could_read_is_told_and_never_published() {
    let mut config = config(Broker::shared());
    config.blocks.max_bytes = bytesize::ByteSize::b(400);
    let long = |id: &str| format!("{{\"id\": \"{id}\", \"p\": \"{}\"}}", "p".repeat(180));
    let unreadable: [(&[u8], &[&str]); 4] = [
        (br#"{"height": 2, "transactions": [{"asset": null}]}"#, &["missing field `id`"]),
        (br#"{"height": 2}"#, &["an object without `transactions`"]),
        (&[b' '; 401], &["the block has 401 bytes, more than 400", "blocks.max_bytes"]),
        (&listing(2, &["a", "b"]), &["more than 400", "blocks.max_bytes"]),
    ];
    for (block, reason) in unreadable {
        let replica = Replica::start_ready(&config).await;
        let node = node_of_three().await;
        for id in ["a", "b"] {
            node.put_transaction(id, long(id).as_bytes());
        }
        node.put(2, block.to_vec());
        let directory = tempfile::tempdir().expect("a directory");
        let state = directory.path().join("state");
        let state = ["--state", state.to_str().expect("UTF-8")];
        let from_first = [&state[..], &["--from-height", "1"]].concat();
        let ended = publish(&config, &node.url(), &from_first).run().await.with_code(1);
        let told = [
            &["height 2 is not published: ", "--from-height 3 goes on without it"][..],
            &["published and confirmed: 1 blocks (heights 1 to 1)"],
            reason,
        ];
        ended.telling(&told.concat());
        let again = publish(&config, &node.url(), &state).run().await.with_code(1);
        again.telling(&["--from-height 3 goes on without it", "from height 2 (above the state's)"]);
        let behind = [&state[..], &["--from-height", "3"]].concat();
        let mut running = publish(&config, &node.url(), &behind).start();
        running.says("up to the tip; waiting for height 4").await;
        interrupted(running).await;
        let mut blocks = Client::connect(&replica.url("valid_blocks?from_height=oldest")).await;
        assert_eq!(heights(&mut blocks, 2).await, [1, 3]);
        assert_eq!(
            replica.metric("blockcast_decode_errors_total{kind=\"wrong_shape\"}").await,
            0.0
        );
        replica.stop().await.expect("stopped");
        config.amqp.queue.name = Some(crate::support::broker::unique("blocks"));
        config.amqp.exchange = crate::support::broker::unique("blocks");
    }
}

#[tokio::test]
async fn an_answer_that_only_looks_like_a_block_is_asked_for_again() {
    let config = config(Broker::shared());
    let node = node_of_three().await;
    node.fail(2, [Fault::Body(b"{\"id\": \"of BigchainDB 1\", \"block\": {}}".to_vec())]);
    let mut running = publish(&config, &node.url(), &["--from-height", "1"]).start();
    running.says(&format!("{}/api/v1/blocks/2: the answer is no block: neither", node.url())).await;
    running.says("up to the tip; waiting for height 4").await;
    node.commit(4);
    node.put(5, body(5, "noded"));
    node.commit(5);
    is_published(&config, 5).await;
    interrupted(running).await.telling(&["5 blocks (heights 1 to 5)"]);
}
