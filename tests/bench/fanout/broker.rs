//! Private brokers for the bench: what `make run` starts, each in a directory of its own.

use std::path::PathBuf;
use std::process::{Child, Stdio};

use anyhow::ensure;

use super::eventually::eventually;
use super::process;

pub struct Broker {
    pub uri: String,
    directory: PathBuf,
    child: Child,
}

impl Broker {
    /// One to get blocks from; it shares core 1 with the load client.
    pub async fn start() -> Self {
        Self::start_on(1, "broker", &[], "[].").await.expect("a broker")
    }

    /// Starts it with no data of an earlier run, and waits until it answers. The configuration is
    /// RabbitMQ's `advanced.config`.
    ///
    /// # Errors
    /// It ended instead, such as for want of a plugin.
    pub async fn start_on(
        core: usize,
        name: &str,
        plugins: &[&str],
        advanced: &str,
    ) -> anyhow::Result<Self> {
        let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
        let directory = root.join("target/bench").join(name);
        let _ = std::fs::remove_dir_all(&directory);
        std::fs::create_dir_all(&directory).expect("a directory");
        let config = directory.join("advanced.config");
        std::fs::write(&config, advanced).expect("written");
        let script = root.join("deploy/rabbitmq.sh");
        let mut child = process::pinned(core, &script.display().to_string())
            .arg("run")
            .arg(&directory)
            .env("RABBITMQ_ADVANCED_CONFIG_FILE", config)
            .env("RABBITMQ_ENABLED_PLUGINS", plugins.join(","))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()?;
        let mut uri = String::new();
        eventually("the broker answers, or has ended", async || {
            uri = std::fs::read_to_string(directory.join("uri")).unwrap_or_default();
            !uri.is_empty() || matches!(child.try_wait(), Ok(Some(_)))
        })
        .await;
        ensure!(!uri.is_empty(), "its broker does not start");
        Ok(Self { uri: uri.trim().to_owned(), directory, child })
    }

    /// Erlang's virtual machine.
    pub fn pid(&self) -> u32 {
        let file = self.directory.join("data/blockcast@localhost.pid");
        let pid = std::fs::read_to_string(file).expect("written at its start");
        pid.trim().parse().expect("a number")
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // Its script ends the broker and what came with it.
        process::end(&mut self.child);
    }
}
