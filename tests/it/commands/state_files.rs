//! State files that cannot be replaced: mounted by themselves, or in a directory that is closed.

use std::path::Path;
use std::process::Command;

use crate::support::broker::Broker;
use crate::support::eventually::eventually;
use crate::support::left_out;
use crate::support::node::Node;
use crate::support::program::Program;
use crate::support::publishing::{interrupted, node_of_three, publish};
use crate::support::replica::{Replica, config};

/// Mounts its first word over its second, for what it runs then and nobody else.
const MOUNTED: &str = r#"mount --bind "$1" "$2" && shift 2 && exec "$@""#;
/// The same for a directory, read-only, and within it the file itself as it is.
const CLOSED: &str = r#"mount --bind "$1" "$2" && shift 2 && mount --bind "$1" "$1" &&
    mount -o remount,bind,ro "$1" && mount --bind "$2" "$3" && shift 3 && exec "$@""#;

/// Where nobody is asked for anything.
const UNANSWERED: &str = "ws://127.0.0.1:9/api/v1/streams/valid_transactions";

/// Whether this process may mount in a namespace of its own. Where it may not, the test says by name
/// that it was left out.
fn may_mount() -> bool {
    let script = "mount --bind /tmp /tmp";
    let tried = Command::new("unshare").args(["-m", "sh", "-c", script]).output();
    let may = tried.is_ok_and(|output| output.status.success());
    if !may {
        left_out::say("`unshare -m` is not permitted here");
    }
    may
}

fn shown(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

/// Of the file outside the namespace: what another container would find.
fn remembered(path: &Path) -> Option<u64> {
    let text = std::fs::read_to_string(path).expect("it is there");
    text.lines().find_map(|line| line.strip_prefix("height = "))?.trim().parse().ok()
}

#[tokio::test]
async fn a_mounted_state_file_is_written_in_place_and_whole_after_every_kill() {
    if !may_mount() {
        return;
    }
    let config = config(Broker::shared());
    let node = Node::start([]).await;
    node.set_tip(100_000);
    let directory = tempfile::tempdir().expect("a directory");
    let (kept, mounted) = (directory.path().join("kept"), directory.path().join("mounted"));
    std::fs::write(&kept, "").expect("written");
    std::fs::write(&mounted, "").expect("written");
    let behind = ["unshare", "-m", "sh", "-c", MOUNTED, "sh", shown(&kept), shown(&mounted)];
    let arguments = ["--state", shown(&mounted)];
    for kill in 0..4 {
        let from: &[&str] = if kill == 0 { &["--from-height", "95"] } else { &[] };
        let before = remembered(&kept);
        assert_eq!(before.is_some(), kill > 0, "an empty file is no state");
        let arguments = [&arguments[..], from].concat();
        let mut running = publish(&config, &node.url(), &arguments).behind(&behind).start();
        let from = before.map_or(95, |height| height + 1);
        running.says(&format!("following {} from height {from} ", node.url())).await;
        eventually("it remembers more", async || remembered(&kept) > before).await;
        running.signal("KILL").await;
        running.ended().await;
    }
    assert_eq!(std::fs::read_to_string(&mounted).expect("read"), "", "only the mount was written");
    let files = std::fs::read_dir(directory.path()).expect("listed").count();
    assert_eq!(files, 2, "nothing is left beside it");
    // A version that only replaces reads it, too.
    let text = std::fs::read_to_string(&kept).expect("read");
    let table: toml::Table = text.parse().expect("TOML");
    assert_eq!(table["node"].as_str(), Some(node.url().as_str()));
}

#[tokio::test]
async fn in_a_directory_that_is_read_only_the_file_is_written_and_a_new_one_refused() {
    if !may_mount() {
        return;
    }
    let config = config(Broker::shared());
    let node = node_of_three().await;
    let directory = tempfile::tempdir().expect("a directory");
    let (kept, closed) = (directory.path().join("kept"), directory.path().join("closed"));
    let state = closed.join("state");
    std::fs::create_dir(&closed).expect("made");
    for file in [&kept, &state] {
        std::fs::write(file, "").expect("written");
    }
    let words = [shown(&closed), shown(&closed), shown(&closed), shown(&kept), shown(&state)];
    let behind = [&["unshare", "-m", "sh", "-c", CLOSED, "sh"][..], &words].concat();
    let arguments = ["--from-height", "1", "--state", shown(&state)];
    let mut running = publish(&config, &node.url(), &arguments).behind(&behind).start();
    running.says("up to the tip").await;
    interrupted(running).await;
    assert_eq!(remembered(&kept), Some(3));

    let other = closed.join("other");
    let arguments = ["--from-height", "1", "--state", shown(&other)];
    let ended = publish(&config, &node.url(), &arguments).behind(&behind).run().await.with_code(64);
    ended.telling(&[shown(&other), "cannot write", "name a file in a directory"]);
    let tail = Program::new(["tail", "--state", shown(&other), UNANSWERED]).behind(&behind);
    let ended = tail.run().await.with_code(64);
    ended.telling(&[shown(&other), "cannot write", "name a file in a directory"]);
}

#[tokio::test]
async fn a_state_file_that_can_never_be_written_is_refused_at_the_start() {
    let path = "/nonexistent/directory/state";
    for arguments in [
        &["tail", "--state", path, UNANSWERED][..],
        &["publish", "--node", "http://127.0.0.1:9", "--state", path],
    ] {
        let ended = Program::new(arguments.iter().copied()).run().await.with_code(64);
        ended.telling(&[path, "cannot write", "name a file in a directory that this program may"]);
    }
}

#[tokio::test]
async fn a_byte_order_mark_before_a_state_is_no_part_of_it() {
    let config = config(Broker::shared());
    let node = node_of_three().await;
    let directory = tempfile::tempdir().expect("a directory");
    let state = directory.path().join("state");
    let text = format!("\u{feff}node = \"{}\"\nheight = 1\n", node.url());
    std::fs::write(&state, text).expect("written");
    let mut running = publish(&config, &node.url(), &["--state", shown(&state)]).start();
    running.says(&format!("following {} from height 2 (above the state's)", node.url())).await;
    running.says("up to the tip").await;
    interrupted(running).await;

    let replica = Replica::start_ready(&config).await;
    eventually("all are there", async || replica.status().await["tip_height"] == 3).await;
    let text = "\u{feff}{\"stream\":\"/api/v1/streams/valid_transactions\",\"cursor\":\"2\"}\n";
    std::fs::write(&state, text).expect("written");
    let url = replica.url("valid_transactions");
    let arguments = ["tail", "--state", shown(&state), "--until-height", "3", &url];
    let ended = Program::new(arguments).run().await.with_code(0);
    assert_eq!(ended.stdout.lines().count(), 1, "{ended:?}");
    replica.stop().await.expect("stopped");
}

#[tokio::test]
async fn the_tails_mounted_state_file_is_written_in_place() {
    if !may_mount() {
        return;
    }
    let config = config(Broker::shared());
    let replica = Replica::start_ready(&config).await;
    let blocks = (1..=12).map(|height| crate::support::chain::body(height, "t"));
    crate::support::chain::publish(&config, blocks).await;
    eventually("all are there", async || replica.status().await["tip_height"] == 12).await;
    let directory = tempfile::tempdir().expect("a directory");
    let (kept, mounted) = (directory.path().join("kept"), directory.path().join("mounted"));
    std::fs::write(&kept, "").expect("written");
    std::fs::write(&mounted, "").expect("written");
    let behind = ["unshare", "-m", "sh", "-c", MOUNTED, "sh", shown(&kept), shown(&mounted)];
    let url = replica.url("valid_transactions");
    for until in ["9", "12"] {
        let arguments =
            ["tail", "--state", shown(&mounted), "--from", "oldest", "--until-height", until, &url];
        let ended = Program::new(arguments).behind(&behind).run().await.with_code(0);
        let lines = if until == "9" { 9 } else { 3 };
        let status = replica.status().await;
        assert_eq!(ended.stdout.lines().count(), lines, "{ended:?} of {status}");
        let state: serde_json::Value =
            serde_json::from_slice(&std::fs::read(&kept).expect("read")).expect("JSON");
        assert_eq!(state["cursor"], until);
    }
    replica.stop().await.expect("stopped");
}
