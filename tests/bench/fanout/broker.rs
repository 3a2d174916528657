//! A private broker for the bench: the one that `make run` starts, in a directory of its own.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use super::eventually::eventually;

pub struct Broker {
    pub uri: String,
    child: Child,
}

impl Broker {
    /// Starts it with no data of an earlier run, and waits until it answers.
    pub async fn start() -> Self {
        let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
        let directory = root.join("target/bench/broker");
        let _ = std::fs::remove_dir_all(&directory);
        std::fs::create_dir_all(&directory).expect("a directory");
        let child = Command::new(root.join("deploy/rabbitmq.sh"))
            .arg("run")
            .arg(&directory)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .expect("started");
        let mut uri = String::new();
        eventually("the broker answers", async || {
            uri = std::fs::read_to_string(directory.join("uri")).unwrap_or_default();
            !uri.is_empty()
        })
        .await;
        Self { uri: uri.trim().to_owned(), child }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // Its script ends the broker and what came with it.
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let _ = self.child.wait();
    }
}
