//! The file of `--state`: the last height that the broker confirmed, and of which node.
//!
//! ```toml
//! node = "http://127.0.0.1:9984"
//! height = 42
//! ```

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::node::{NodeText, NodeUrl};
use crate::protocol::HEIGHT_MAX;
use crate::record::{RecordFile, WAY_OUT};
use crate::secret;

/// At the tip each block is remembered at once; behind it a few hundred a second go by, and those
/// since the last writing are published twice by a run that was killed, which does no harm.
const WRITE_INTERVAL: Duration = Duration::from_secs(1);
const WORDS: &str = "# Written by `blockcast publish --node`: the last block that is confirmed.\n";

/// What is remembered, and what is still to be written.
#[derive(Debug)]
pub struct PublishState {
    file: RecordFile,
    record: Record,
    /// When the file may be written again; only set while it is behind.
    due_at: Option<Instant>,
    written_at: Option<Instant>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    node: String,
    height: Option<u64>,
}

impl PublishState {
    /// Reads the file, if there is one and it is not empty, and proves that it can be written.
    ///
    /// # Errors
    /// The file is no state, of another node, or cannot be read or written: the person mends that.
    pub fn open(path: &Path, node: &str) -> Result<Self> {
        let shown = path.display();
        let mut file = RecordFile::new(path.to_owned());
        let record = match file.read().with_context(|| format!("cannot read {shown}"))? {
            Some(text) => toml::from_str(&text).map_err(|error| no_state(path, &text, &error))?,
            None => Record { node: node.to_owned(), height: None },
        };
        // The same address may have been written in another form, by hand or by an older version.
        let written = NodeText::from(record.node.clone()).parse().ok();
        let is_same = |url: NodeUrl| url.authorization().is_none() && url.to_string() == node;
        if record.node != node && !written.is_some_and(is_same) {
            bail!(
                "{shown} is the state of {}, not of {node}: name another file or, if both are of one chain, change `node` in this one",
                secret::masked(&record.node)
            );
        }
        if record.height.is_some_and(|height| height > HEIGHT_MAX) {
            bail!("{shown}: the height is above {HEIGHT_MAX}");
        }
        file.prove().with_context(|| format!("cannot write {shown}; {WAY_OUT}"))?;
        Ok(Self { file, record, due_at: None, written_at: None })
    }

    /// The last confirmed height.
    pub fn height(&self) -> Option<u64> {
        self.record.height
    }

    /// Remembers a height for the next writing.
    pub fn confirmed(&mut self, height: u64) {
        self.record.height = Some(height);
        let now = Instant::now();
        let earliest = self.written_at.map_or(now, |written| written + WRITE_INTERVAL);
        self.due_at.get_or_insert(earliest.max(now));
    }

    /// Waits until there is something to write and it is time for it.
    ///
    /// # Cancel safety
    /// Waiting changes nothing.
    pub async fn due(&self) {
        match self.due_at {
            Some(at) => tokio::time::sleep_until(at).await,
            None => std::future::pending().await,
        }
    }

    /// Writes what is not written yet, so that there is a whole record at any time. Blocks for as
    /// long as a small file takes.
    ///
    /// # Errors
    /// The file cannot be written, and will be due again.
    pub fn write(&mut self) -> Result<()> {
        if self.due_at.is_none() {
            return Ok(());
        }
        let now = Instant::now();
        self.written_at = Some(now);
        self.due_at = Some(now + WRITE_INTERVAL);
        let record = toml::to_string(&self.record).expect("bug: a record is a table");
        self.file
            .write(&format!("{WORDS}{record}"))
            .with_context(|| format!("cannot write {}", self.file.path().display()))?;
        self.due_at = None;
        Ok(())
    }
}

/// Without the library's own words, which quote values: another file that is named by mistake may hold a
/// password.
fn no_state(path: &Path, text: &str, error: &toml::de::Error) -> anyhow::Error {
    let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or("");
    let line = before.matches('\n').count() + 1;
    anyhow!(
        "{} is no state of `publish --node` (line {line}): it has two lines, node = \"http://HOST:PORT\" and height = NUMBER",
        path.display()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: &str = "http://node:9984";

    #[test]
    fn a_height_is_found_again_and_no_other_file_stays() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("state.toml");
        let mut state = PublishState::open(&path, NODE).expect("opens");
        assert_eq!(state.height(), None);
        assert!(!path.exists(), "nothing is confirmed yet");
        for height in [41, 42] {
            state.confirmed(height);
            state.write().expect("written");
        }
        state.confirmed(43); // and not written: as good as killed
        assert_eq!(PublishState::open(&path, NODE).expect("opens").height(), Some(42));
        let files = std::fs::read_dir(directory.path()).expect("listed").count();
        assert_eq!(files, 1);
    }

    #[test]
    fn an_empty_file_is_no_state() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        assert_eq!(PublishState::open(file.path(), NODE).expect("opens").height(), None);
    }

    #[test]
    fn a_node_may_be_written_in_another_form() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        for (written, node) in [("http://NODE:80/", "http://node"), (NODE, NODE)] {
            std::fs::write(file.path(), format!("node = \"{written}\"\nheight = 7\n"))
                .expect("written");
            assert_eq!(PublishState::open(file.path(), node).expect("opens").height(), Some(7));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_height_is_due_at_once_and_more_within_a_second() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut state = PublishState::open(&directory.path().join("state"), NODE).expect("opens");
        let begun = Instant::now();
        state.confirmed(1);
        state.due().await;
        assert_eq!(begun.elapsed(), Duration::ZERO);
        state.write().expect("written");
        (2..100).for_each(|height| state.confirmed(height));
        state.due().await;
        assert_eq!(begun.elapsed(), WRITE_INTERVAL);
    }

    #[test]
    fn what_is_no_state_of_this_node_is_refused() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("state");
        for (text, told) in [
            ("node = \"http://other\"\nheight = 7\n", "state of http://other, not of http://node"),
            ("node = \"http://node:9984\"\nheight = -7\n", "is no state"),
            ("node = \"http://node:9984\"\nhight = 7\n", "is no state"),
            ("{}", "is no state"),
            ("hunter", "is no state"),
            (
                "node = \"http://node:9984\"\nheight = \"hunter\"\n",
                "no state of `publish --node` (line 2)",
            ),
            ("node = \"http://node:9984\"\nhunter = 7\n", "(line 2)"),
            ("node = [\"hunter\"]\nheight = 7\n", "(line 1)"),
            ("node = \"http://u:hunter@node:9984\"\n", "state of http://***@node:9984, not of"),
            ("node = \"u:hunter@h\"\n", "state of ***@h, not of"),
        ] {
            std::fs::write(&path, text).expect("written");
            let error = PublishState::open(&path, NODE).expect_err("refused").to_string();
            assert!(error.contains(told), "{text:?}: {error}");
            assert!(!error.contains("hunter"), "{error}");
        }
        let nowhere = directory.path().join("none").join("state");
        let error = PublishState::open(&nowhere, NODE).expect_err("refused").to_string();
        assert!(error.contains("cannot write"), "{error}");
    }
}
