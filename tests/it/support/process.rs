//! A replica as a process of its own: the real binary, for what only a process shows.

use std::net::SocketAddr;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use blockcast::config::Config;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStderr, Command};

use super::eventually::eventually;
use super::replica::{Answer, known_metric_in, metric_in, request};

pub struct Process {
    pub address: SocketAddr,
    /// Where it is asked about itself.
    asked_at: SocketAddr,
    child: Child,
    log: Arc<Mutex<Vec<String>>>,
    /// The configuration file, as long as the process may read it.
    _file: tempfile::NamedTempFile,
}

impl Process {
    /// Starts `blockcast serve` and waits until it takes clients.
    pub async fn start_ready(config: &Config) -> Self {
        Self::start_under(config, &[]).await
    }

    /// The same, by a command that becomes what its last arguments name, such as `prlimit`.
    pub async fn start_under(config: &Config, wrapper: &[&str]) -> Self {
        let process = Self::start_listening(config, wrapper).await;
        process.ready().await;
        process
    }

    /// Starts it and waits until it listens; it may still be warming.
    pub async fn start(config: &Config) -> Self {
        Self::start_listening(config, &[]).await
    }

    async fn start_listening(config: &Config, wrapper: &[&str]) -> Self {
        let mut process = Self::spawn(config, wrapper);
        let stderr = process.child.stderr.take().expect("its log");
        let mut lines = BufReader::new(stderr).lines();
        process.address = loop {
            let line = lines.next_line().await.expect("read").expect("it says where it listens");
            let line: serde_json::Value = serde_json::from_str(&line).expect("a JSON line");
            if let Some(address) = line["server"].as_str() {
                let admin = line["admin"].as_str().unwrap_or(address);
                process.asked_at = admin.parse().expect("an address");
                break address.parse().expect("an address");
            }
        };
        process.read(lines);
        process
    }

    /// Reads the log to its end, so that it never fills up.
    fn read(&self, mut lines: Lines<BufReader<ChildStderr>>) {
        let log = Arc::clone(&self.log);
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                log.lock().expect("nothing panics while it holds this lock").push(line);
            }
        });
    }

    /// Begins to read a log that nobody read so far.
    pub fn read_log(&mut self) {
        let stderr = self.child.stderr.take().expect("nobody reads it");
        self.read(BufReader::new(stderr).lines());
    }

    /// The same at an address that is known, with a log that nobody reads.
    pub async fn start_unread(config: &Config, wrapper: &[&str]) -> Self {
        let process = Self::spawn(config, wrapper);
        eventually("it listens", async || {
            tokio::net::TcpStream::connect(process.address).await.is_ok()
        })
        .await;
        process.ready().await;
        process
    }

    fn spawn(config: &Config, wrapper: &[&str]) -> Self {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        let uris: Vec<_> = config.amqp.uris.iter().map(|uri| uri.expose().to_owned()).collect();
        std::fs::write(file.path(), config.to_toml()).expect("written");
        let mut words = wrapper.to_vec();
        words.push(env!("CARGO_BIN_EXE_blockcast"));
        let child = Command::new(words[0])
            .args(&words[1..])
            .args(["--config", &file.path().display().to_string(), "serve"])
            .env("BLOCKCAST_AMQP__URIS", uris.join(","))
            .env("BLOCKCAST_LOG__FORMAT", "json")
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("started");
        let log = Arc::default();
        let address = config.server.listen.addresses()[0];
        Self { address, asked_at: address, child, log, _file: file }
    }

    async fn ready(&self) {
        eventually("the process is ready", async || self.get("/health/ready").await.status == 200)
            .await;
    }

    pub fn url(&self, stream: &str) -> String {
        format!("ws://{}/api/v1/streams/{stream}", self.address)
    }

    pub async fn metric(&self, name: &str) -> f64 {
        metric_in(&self.metrics().await, name)
    }

    /// Waits until the block at `height` is in its history.
    pub async fn reaches(&self, height: u64) {
        eventually("the block is there", async || {
            let tip = known_metric_in(&self.metrics().await, "blockcast_block_height");
            tip.is_some_and(|tip| tip >= height as f64)
        })
        .await;
    }

    pub async fn metrics(&self) -> String {
        self.get("/metrics").await.body
    }

    /// SIGKILL: nobody is told.
    pub async fn kill(mut self) {
        self.child.kill().await.expect("killed");
    }

    /// SIGTERM, and the exit code 0 of a drained replica.
    pub async fn stop(self) {
        self.signal("TERM").await;
        assert_eq!(self.ended().await.code(), Some(0), "drained");
    }

    pub async fn signal(&self, name: &str) {
        let pid = self.child.id().expect("it runs").to_string();
        let sent = Command::new("kill").args(["-s", name, &pid]).status().await.expect("kill");
        assert!(sent.success());
    }

    /// How it ended, told to before.
    pub async fn ended(mut self) -> ExitStatus {
        let ended = tokio::time::timeout(Duration::from_secs(60), self.child.wait()).await;
        ended.expect("it ends in time").expect("waited")
    }

    /// Lines of its log, since it listens, in which this stands.
    pub fn logged(&self, text: &str) -> Vec<String> {
        let log = self.log.lock().expect("nothing panics while it holds this lock");
        log.iter().filter(|line| line.contains(text)).cloned().collect()
    }

    /// Waits until this stands in its log.
    pub async fn logs(&self, text: &str) {
        eventually(text, async || !self.logged(text).is_empty()).await;
    }

    pub async fn get(&self, path: &str) -> Answer {
        let head = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        request(self.asked_at, &head).await
    }
}
