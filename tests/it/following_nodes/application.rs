//! A node's own web application, or what it once answered.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

use crate::support::client::Client;
use crate::support::node::{Node, Recorded};
use crate::support::replica::request;

/// Where `make test-nodes` has installed the applications.
const INSTALLED: &str = "BLOCKCAST_TEST_NODES";
/// Where they say that their stream is unless they are told.
const STREAM: &str = "localhost:9985";
/// It takes some seconds.
const STARTED_WITHIN: Duration = Duration::from_secs(120);

#[derive(Clone)]
pub struct Kind {
    pub name: &'static str,
    pub version: &'static str,
    pub tip: u64,
    /// A block behind the real chain's, a line of JSON.
    pub added: Option<String>,
}

pub struct Application {
    pub url: String,
    /// Where its stream of transactions is.
    pub stream: String,
    pub first_height: u64,
    kind: Kind,
    runs: Runs,
}

enum Runs {
    Really(Box<Really>),
    Recorded(Node),
}

struct Really {
    /// What its API root says.
    root: Value,
    _child: Child,
    commits: ChildStdin,
    says: Lines<BufReader<ChildStdout>>,
}

impl Kind {
    /// Its answers, as they were recorded.
    fn recorded(&self) -> Vec<Recorded> {
        let text = std::fs::read_to_string(self.recording()).expect("it was recorded");
        text.lines().map(|line| serde_json::from_str(line).expect("an answer")).collect()
    }

    fn recording(&self) -> PathBuf {
        data().join("nodes").join(format!("{}-{}.ndjson", self.name, self.version))
    }

    /// What `valid_blocks` says of the recorded blocks from `from` on.
    pub fn listed_blocks(&self, from: u64) -> Vec<String> {
        let answers: BTreeMap<_, _> =
            self.recorded().into_iter().map(|answer| (answer.path, answer.body)).collect();
        let block = |height| {
            let body = &answers[&format!("/api/v1/blocks/{height}")];
            let body: Value = serde_json::from_str(body).expect("JSON");
            let ids: Vec<&Value> = match body["transactions"].as_array() {
                Some(transactions) => transactions.iter().map(|one| &one["id"]).collect(),
                None => body["transaction_ids"].as_array().expect("a list").iter().collect(),
            };
            let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
            let (hash, ids) = (&body["app_hash"], ids.join(", "));
            format!("{{\"height\": {height}, \"hash\": {hash}, \"transaction_ids\": [{ids}]}}")
        };
        (from..=self.tip).map(block).collect()
    }
}

impl Application {
    /// With the chain up to `tip`.
    pub async fn start(kind: Kind, tip: u64) -> Self {
        match std::env::var_os(INSTALLED) {
            Some(directory) => Self::start_really(kind, tip, Path::new(&directory)).await,
            None => Self::start_recorded(kind, tip).await,
        }
    }

    async fn start_really(kind: Kind, tip: u64, directory: &Path) -> Self {
        let python = directory.join(kind.name).join("bin/python");
        let script = format!("tests/nodes/{}_node.py", kind.name);
        let added = tempfile::NamedTempFile::new().expect("a temporary file");
        std::fs::write(added.path(), kind.added.as_deref().unwrap_or_default()).expect("written");
        let log = directory.join(kind.name).join("log");
        let log = std::fs::File::create(log).expect("created");
        let mut child = Command::new(&python)
            .arg("-B")
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join(script))
            .args(["--tip", &tip.to_string()])
            .args([&data().join("chain.ndjson"), added.path()])
            .current_dir(directory.join(kind.name))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", python.display()));
        let commits = child.stdin.take().expect("it is a pipe");
        let mut says = BufReader::new(child.stdout.take().expect("it is a pipe")).lines();
        let url = line(&mut says).await;
        let root = get(&url, "/api/v1/").await;
        let root: Value = serde_json::from_str(&root.body).expect("JSON");
        let stream = root["streams"].as_str().expect("its stream").to_owned();
        let runs = Runs::Really(Box::new(Really { root, _child: child, commits, says }));
        Self { url, stream, first_height: 1, kind, runs }
    }

    async fn start_recorded(kind: Kind, tip: u64) -> Self {
        let mut node = Node::start([]).await;
        let port = node.open_stream().await;
        node.set_tip(tip);
        let own = format!("127.0.0.1:{port}");
        for mut answer in kind.recorded() {
            answer.body = answer.body.replace(STREAM, &own);
            if answer.path.ends_with("/latest") {
                let [last, now] = [kind.tip, tip].map(|height| format!("\"height\": {height}"));
                answer.body = answer.body.replace(&last, &now);
            }
            node.record(answer);
        }
        let stream = format!("ws://{own}/api/v1/streams/valid_transactions");
        Self { url: node.url(), stream, first_height: tip + 1, kind, runs: Runs::Recorded(node) }
    }

    /// Commits the blocks up to `height`, one after the other.
    pub async fn commit(&mut self, height: u64) {
        match &mut self.runs {
            Runs::Really(really) => {
                let text = format!("{height}\n");
                really.commits.write_all(text.as_bytes()).await.expect("written");
                assert_eq!(line(&mut really.says).await, height.to_string());
            }
            Runs::Recorded(node) => node.commit(height),
        }
    }

    /// The stream of its own that its API root names so, if it does.
    pub async fn own_stream(&self, name: &str) -> Option<Client> {
        let Runs::Really(really) = &self.runs else { return None };
        Some(Client::connect(really.root[name].as_str()?).await)
    }

    /// Asks it everything that was recorded, and leaves its answers below `target/`.
    pub async fn answers_as_recorded(&self) {
        if let Runs::Recorded(_) = self.runs {
            return;
        }
        let recording = self.kind.recording();
        let own = self.stream.split('/').nth(2).expect("its address");
        let (mut now, mut text) = (Vec::new(), String::new());
        for recorded in self.kind.recorded() {
            let mut answer = get(&self.url, &recorded.path).await;
            answer.body = answer.body.replace(own, STREAM);
            text += &format!("{}\n", serde_json::to_string(&answer).expect("JSON"));
            now.push(answer);
        }
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(recording.file_name().expect("one"));
        std::fs::write(&path, text).expect("written");
        assert!(now == self.kind.recorded(), "{} has what it answers now", path.display());
    }
}

async fn get(url: &str, path: &str) -> Recorded {
    let address: SocketAddr = url.trim_start_matches("http://").parse().expect("an address");
    let answer = request(address, &format!("GET {path} HTTP/1.0\r\n\r\n")).await;
    Recorded {
        path: path.to_owned(),
        status: answer.status,
        content_type: answer.headers["content-type"].clone(),
        body: answer.body,
    }
}

async fn line(says: &mut Lines<BufReader<ChildStdout>>) -> String {
    let line = timeout(STARTED_WITHIN, says.next_line()).await.expect("in time").expect("read");
    line.expect("it runs")
}

fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data")
}
