//! `tail`: what it prints and remembers, and how it ends or does not.

use std::path::Path;

use crate::support::broker::Broker;
use crate::support::chain::{self, body, publish};
use crate::support::eventually::eventually;
use crate::support::program::{Program, Running, unanswered};
use crate::support::replica::{Replica, config};
use crate::support::scripted::{Scripted, Served, block, event, position};

fn tail<'a>(url: &'a str, options: &[&'a str]) -> Running {
    Program::new(["tail", url].into_iter().chain(options.iter().copied())).start()
}

fn remembered(state: &Path) -> String {
    let text = std::fs::read_to_string(state).unwrap_or_default();
    let content: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
    content["cursor"].as_str().unwrap_or("nothing").to_owned()
}

fn state() -> (tempfile::TempDir, String) {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("state").display().to_string();
    (directory, path)
}

async fn serve(server: &Scripted, query: &str) -> Served {
    let served = server.serve().await;
    assert_eq!(served.query, query);
    served
}

#[tokio::test]
async fn every_message_is_a_line_until_sigterm() {
    let server = Scripted::new().await;
    let mut tail = tail(&server.url(), &[]);
    let mut served = serve(&server, "control=true").await;
    tail.says("connected to ").await;
    served.say(&[&position(0), &event(1, "a"), &block(1, 1), &block(2, 0), &event(3, "b")]).await;
    assert_eq!(tail.line().await, event(1, "a"));
    assert_eq!(tail.line().await, event(3, "b"));
    tail.signal("TERM").await;
    let ended = tail.ended().await.with_code(0);
    assert_eq!((ended.stdout.as_str(), ended.stderr.as_str()), ("", ""));
}

#[tokio::test]
async fn cuts_and_gaps_are_told_and_the_stream_goes_on() {
    let server = Scripted::new().await;
    let mut tail = tail(&server.url(), &[]);
    let mut served = serve(&server, "control=true").await;
    let gap = r#"{"type": "gap", "from_height": 2, "to_height": 3}"#;
    served.say(&[&position(0), &event(1, "a"), &block(1, 1), gap]).await;
    assert_eq!(tail.line().await, event(1, "a"));
    tail.says("blocks 2 to 3 never came").await;
    served.close(1001, "after=3 draining").await;
    let told = tail.says("closed by the server").await;
    assert!(told.contains(": 1001 \"after=3 draining\"; again in "), "{told}");
    let mut served = serve(&server, "after=3&control=true").await;
    tail.says("connected to ").await;
    served.say(&[&position(3), &event(4, "b"), r#"{"type": "filled", "height": 2}"#]).await;
    assert_eq!(tail.line().await, event(4, "b"));
    tail.says("block 2, told missing, has come since").await;
    tail.signal("INT").await;
    tail.ended().await.with_code(0);
}

#[tokio::test]
async fn the_place_is_remembered_over_runs_and_any_end() {
    let server = Scripted::new().await;
    let url = server.url();
    let (directory, file) = state();
    let path = directory.path().join("state");
    let options = ["--state", &file, "--from", "oldest"];

    let mut first = tail(&url, &options);
    let mut served = serve(&server, "from_height=oldest&control=true").await;
    served.say(&[&position(0), &event(1, "a"), &block(1, 1)]).await;
    assert_eq!(first.line().await, event(1, "a"));
    eventually("the block's end is saved", async || remembered(&path) == "1").await;
    served.say(&[&event(2, "b")]).await;
    assert_eq!(first.line().await, event(2, "b"));
    first.signal("TERM").await;
    first.ended().await.with_code(0);
    assert_eq!(remembered(&path), "2.0");

    let mut second = tail(&url, &options);
    let mut served = serve(&server, "after=2.0&control=true").await;
    served.say(&[&position("2, \"index\": 0"), &event(2, "c"), &block(2, 2)]).await;
    assert_eq!(second.line().await, event(2, "c"));
    served.close(4009, "from_height=9").await;
    second.ended().await.with_code(1).telling(&["first height that is: 9", "--from 9"]);
    assert_eq!(remembered(&path), "2");

    let mut third = tail(&url, &options);
    let mut served = serve(&server, "after=2&control=true").await;
    served.say(&[&position(2), &event(3, "d"), &block(3, 1)]).await;
    assert_eq!(third.line().await, event(3, "d"));
    eventually("the block's end is saved", async || remembered(&path) == "3").await;
    third.close_stdout();
    served.say(&[&event(4, "unread")]).await;
    assert_eq!(third.ended().await.with_code(0).stderr.lines().count(), 1);
    assert_eq!(remembered(&path), "3", "what nobody took is not in the state");

    let other = [&options[..], &["--operation", "CREATE"]].concat();
    let refused = tail(&url, &other).ended().await.with_code(64);
    refused.telling(&["remembers 3 of", "?operation=CREATE", "use another file"]);
}

#[tokio::test]
async fn what_stdout_has_not_taken_is_not_remembered() {
    let server = Scripted::new().await;
    let (directory, file) = state();
    let mut tail = tail(&server.url(), &["--state", &file]);
    let mut served = serve(&server, "control=true").await;
    served.say(&[&position(0)]).await;
    let path = directory.path().join("state");
    eventually("the start is saved", async || remembered(&path) == "0").await;
    // A pipe takes 64 KiB; nobody reads the rest.
    let long = event(1, &"x".repeat(200 << 10));
    served.say(&[&long, &block(1, 1), &event(2, "b"), &block(2, 1)]).await;
    tail.begins_a_line().await;
    tail.close_stdout();
    tail.ended().await.with_code(0);
    assert_eq!(remembered(&path), "0");
}

#[tokio::test]
async fn it_ends_with_0_behind_the_limit_or_the_height() {
    for (options, query, close) in [
        (["--limit", "1"], "limit=1&control=true", "after=5.0"),
        (["--until-height", "5"], "until_height=5&control=true", "after=5"),
    ] {
        let server = Scripted::new().await;
        let (directory, file) = state();
        let options = [&options[..], &["--state", &file]].concat();
        let tail = tail(&server.url(), &options);
        let mut served = serve(&server, query).await;
        served.say(&[&position(4), &event(5, "a"), &block(5, 1)]).await;
        served.close(1000, close).await;
        let ended = tail.ended().await.with_code(0);
        assert_eq!(ended.stdout.trim_end(), event(5, "a"));
        assert_eq!(remembered(&directory.path().join("state")), "5");
    }
}

#[tokio::test]
async fn options_become_the_streams_parameters() {
    let server = Scripted::new().await;
    let url = format!("{}?token=x&operation=CREATE", server.url());
    let (j, k) = ("j".repeat(43), "k".repeat(44));
    let options = ["--from", "-5", "--public-key", &k, "--public-key", &j, "--batch"];
    let tail = tail(&url, &options);
    let query = format!(
        "from_height=-5&public_key={j}&public_key={k}&operation=CREATE&batch=block&token=x&control=true"
    );
    let served = serve(&server, &query).await;
    served.close(4000, "public_key is too short").await;
    tail.ended().await.with_code(1).telling(&["refused with 4000: public_key is too short"]);
    for (option, value, told) in [
        ("--public-key", "k", "a public key, 43 or 44 base58 characters"),
        ("--limit", "0", "a number of messages, at least 1"),
    ] {
        let refused = Program::new(["tail", &server.url(), option, value]).run().await;
        refused.with_code(64).telling(&[told]);
    }
    let both = Program::new(["tail", &url, "--operation", "TRANSFER"]).run().await;
    both.with_code(64).telling(&["`operation` stands both in the URL and beside it"]);
}

#[tokio::test]
async fn json_has_the_control_facts_as_lines() {
    let server = Scripted::new().await;
    let mut tail = tail(&server.url(), &["--json"]);
    let mut served = serve(&server, "control=true").await;
    let gap = r#"{"type": "gap", "from_height": 2, "to_height": 3}"#;
    served.say(&[&position(0), &event(1, "a"), &block(1, 1), gap]).await;
    for (kind, cursor) in [
        ("connected", None),
        ("position", Some("0")),
        ("event", Some("1.0")),
        ("block", Some("1")),
        ("gap", Some("3")),
    ] {
        let line: serde_json::Value = serde_json::from_str(&tail.line().await).expect("JSON");
        assert_eq!(
            (line["type"].as_str(), line["cursor"].as_str()),
            (Some(kind), cursor),
            "{line}"
        );
    }
    served.close(4010, "from_height=oldest another chain").await;
    tail.ended().await.with_code(1).telling(&["another chain", "--from oldest"]);
}

#[tokio::test]
async fn a_node_that_cannot_resume_is_followed_and_the_loss_told() {
    let server = Scripted::new().await;
    let (directory, file) = state();
    let mut tail = tail(&server.url(), &["--state", &file]);
    let mut served = serve(&server, "control=true").await;
    served.say(&[&event(1, "a")]).await;
    assert_eq!(tail.line().await, event(1, "a"));
    let told = tail.says(&file).await;
    assert!(told.contains("is not written"), "{told}");
    served.cut();
    let mut served = serve(&server, "control=true").await;
    tail.says("connection lost").await;
    let told = tail.says("connected to ").await;
    assert!(told.contains("what was committed in between is missing"), "{told}");
    served.say(&[&event(5, "b")]).await;
    assert_eq!(tail.line().await, event(5, "b"));
    tail.signal("TERM").await;
    tail.ended().await.with_code(0);
    assert_eq!(remembered(&directory.path().join("state")), "nothing");
}

#[tokio::test]
async fn a_request_that_can_never_succeed_fails_with_the_servers_words() {
    for (status, body, told) in [
        (
            "404 Not Found",
            r#"{"status": 404, "message": "nothing at this path"}"#,
            "nothing at this",
        ),
        (
            "400 Bad Request",
            r#"{"status": 400, "message": "unknown parameter `control`"}"#,
            "too old",
        ),
    ] {
        let server = Scripted::new().await;
        let url = server.url();
        let tail = tail(&url, &[]);
        server.refuse(status, "", body).await;
        let ended = tail.ended().await.with_code(1);
        assert_eq!(ended.stdout, "");
        ended.telling(&[told]);
    }
}

#[tokio::test]
async fn it_can_be_ended_while_nobody_answers() {
    let (_reserved, address) = unanswered();
    let url = format!("ws://node:s3cret@{address}/api/v1/streams/valid_blocks");
    let mut tail = tail(&url, &[]);
    let said = tail.says("cannot connect").await;
    assert!(said.contains("; again in "), "{said}");
    tail.signal("TERM").await;
    let ended = tail.ended().await.with_code(0);
    assert!(!format!("{said}{ended:?}").contains("s3cret"), "{said}{ended:?}");
}

#[tokio::test]
async fn on_real_replicas_nothing_is_missing_over_a_replacement_and_a_restart_of_its_own() {
    let mut config = config(Broker::shared());
    let (_reserved, address) = unanswered();
    config.server.listen = address.into();
    let first = Replica::start_ready(&config).await;
    publish(&config, (1..=3).map(|height| body(height, "x"))).await;
    let (_directory, state) = state();
    let url = first.url("valid_transactions");
    let mut running = tail(&url, &["--from", "oldest", "--state", &state]);
    for height in 1..=3 {
        assert_eq!(running.line().await, chain::event(height, "x"));
    }
    first.stop().await.expect("stopped");
    let told = running.says("closed by the server").await;
    assert!(told.contains(": 1001 \"after=3 draining\""), "{told}");
    let second = Replica::start_ready(&config).await;
    publish(&config, [body(4, "x")]).await;
    assert_eq!(running.line().await, chain::event(4, "x"));
    running.signal("INT").await;
    running.ended().await.with_code(0);

    publish(&config, (5..=6).map(|height| body(height, "x"))).await;
    let ended = tail(&url, &["--state", &state, "--until-height", "6"]).ended().await.with_code(0);
    assert_eq!(ended.stdout, format!("{}\n{}\n", chain::event(5, "x"), chain::event(6, "x")));
    second.stop().await.expect("stopped");
}

#[tokio::test]
async fn on_a_real_replica_one_transaction_is_found_and_a_request_that_cannot_be_served_fails() {
    let config = config(Broker::shared());
    let replica = Replica::start_ready(&config).await;
    let id = "ab".repeat(32);
    let committed = format!("{{\"height\": 2, \"transactions\": [{{\"id\": \"{id}\"}}]}}");
    let url = replica.url("valid_transactions");
    publish(&config, [body(1, "x"), committed.into_bytes(), body(3, "x")]).await;
    let options = ["--transaction-id", &id, "--from=-100", "--limit", "1"];
    let ended = tail(&url, &options).ended().await.with_code(0);
    let event =
        format!("{{\"height\": 2, \"asset_id\": \"{id}\", \"transaction_id\": \"{id}\"}}\n");
    assert_eq!(ended.stdout, event);

    let early = tail(&url, &["--from", "0"]).ended().await.with_code(1);
    early.telling(&["not available", "go on with --from 1"]);
    let unknown = format!("{url}?nonsense=1");
    tail(&unknown, &[]).ended().await.with_code(1).telling(&["400", "nonsense"]);
    let blocks = replica.url("valid_blocks");
    let ended =
        tail(&blocks, &["--from", "oldest", "--limit", "2", "--json"]).ended().await.with_code(0);
    assert!(ended.stdout.contains("\"cursor\""), "{}", ended.stdout);
    replica.stop().await.expect("stopped");
}
