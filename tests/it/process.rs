//! A replica as a process of its own: the real binary, for what only a process shows.

use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use blockcast::config::Config;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::eventually::eventually;
use crate::replica::{metric_in, request};

pub struct Process {
    pub address: SocketAddr,
    /// Where it is asked about itself.
    asked_at: SocketAddr,
    /// What it has logged since it listens.
    pub log: Arc<Mutex<String>>,
    child: Child,
    /// The configuration file, as long as the process may read it.
    _file: tempfile::NamedTempFile,
}

impl Process {
    /// Starts `blockcast serve` and waits until it takes clients.
    pub async fn start_ready(config: &Config) -> Self {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        let uris: Vec<_> = config.amqp.uris.iter().map(|uri| uri.expose().to_owned()).collect();
        std::fs::write(file.path(), config.to_toml()).expect("written");
        let mut child = Command::new(env!("CARGO_BIN_EXE_blockcast"))
            .args(["--config", &file.path().display().to_string(), "serve"])
            .env("BLOCKCAST_AMQP__URIS", uris.join(","))
            .env("BLOCKCAST_LOG__FORMAT", "json")
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("started");
        let mut lines = BufReader::new(child.stderr.take().expect("its log")).lines();
        let (address, admin) = loop {
            let line = lines.next_line().await.expect("read").expect("it says where it listens");
            let line: serde_json::Value = serde_json::from_str(&line).expect("a JSON line");
            if let Some(address) = line["server"].as_str() {
                let admin = line["admin"].as_str().map(|admin| admin.parse().expect("an address"));
                break (address.parse().expect("an address"), admin);
            }
        };
        // The log is read to its end, so that it never fills up.
        let log = Arc::new(Mutex::new(String::new()));
        let kept = Arc::clone(&log);
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                kept.lock().expect("whole").push_str(&format!("{line}\n"));
            }
        });
        let asked_at = admin.unwrap_or(address);
        let process = Self { address, asked_at, log, child, _file: file };
        eventually("the process is ready", async || process.get("/health/ready").await.0 == 200)
            .await;
        process
    }

    pub fn url(&self, stream: &str) -> String {
        format!("ws://{}/api/v1/streams/{stream}", self.address)
    }

    pub async fn metric(&self, name: &str) -> f64 {
        metric_in(&self.metrics().await, name)
    }

    pub async fn metrics(&self) -> String {
        self.get("/metrics").await.1
    }

    /// SIGKILL: nobody is told.
    pub async fn kill(mut self) {
        self.child.kill().await.expect("killed");
    }

    /// SIGTERM, and the exit code 0 of a drained replica.
    pub async fn stop(mut self) {
        self.signal("TERM").await;
        let ended = tokio::time::timeout(Duration::from_secs(30), self.child.wait()).await;
        assert_eq!(ended.expect("it ends in time").expect("waited").code(), Some(0), "drained");
    }

    /// Sends a signal, such as `HUP`.
    pub async fn signal(&self, name: &str) {
        let pid = self.child.id().expect("it runs").to_string();
        let sent = Command::new("kill").args(["-s", name, &pid]).status().await.expect("kill");
        assert!(sent.success());
    }

    async fn get(&self, path: &str) -> (u16, String) {
        let head = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        let answer = request(self.asked_at, &head).await;
        (answer.status, answer.body)
    }
}
