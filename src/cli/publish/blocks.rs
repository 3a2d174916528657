//! Block messages, read line by line, and the heights they get when a file goes round.

use std::io::SeekFrom;
use std::path::Path;
use std::pin::Pin;

use anyhow::{Context, Result, anyhow, bail};
use tokio::fs::File;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncSeekExt, BufReader};

use crate::{block, byte_order_mark};

/// A line's bound. RabbitMQ's own, `max_message_size`, is 128 MiB by default, and 16 MiB from 4.0 on.
pub const BODY_BYTES_MAX: usize = 128 << 20;
/// Blocks of the real chain are around 20 KiB.
const READ_BYTES: usize = 64 << 10;

/// One message, as it is to be published.
#[derive(Debug)]
pub struct BlockMessage {
    pub body: Vec<u8>,
    /// Looked at only when the file repeats, or a node gave it.
    pub height: Option<u64>,
    /// Where it stands in a file, from 1.
    pub line: Option<u64>,
    /// What it took up where it came from: in a file its line's end included.
    pub read_bytes: u64,
}

/// The messages of a file or of stdin, in order; blank lines are skipped.
pub struct BlockReader {
    name: String,
    source: LineSource,
    bytes_total: Option<u64>,
    repeats: bool,
    /// The part of a line read so far.
    line: Vec<u8>,
    line_number: u64,
    blocks_in_pass: u64,
    heights: HeightShift,
}

enum LineSource {
    File(BufReader<File>),
    Stdin(Pin<Box<dyn AsyncBufRead + Send>>),
}

impl BlockReader {
    /// # Errors
    /// The file cannot be opened, or stdin is to be read twice: the person mends the arguments.
    pub async fn open(path: &Path, repeats: bool) -> Result<Self> {
        let is_stdin = path == Path::new("-");
        let (source, bytes_total) = if is_stdin {
            if repeats {
                bail!("--loop reads again from the start, which stdin cannot: name a file");
            }
            (LineSource::Stdin(Box::pin(BufReader::new(tokio::io::stdin()))), None)
        } else {
            let opened = async {
                let file = File::open(path).await?;
                let metadata = file.metadata().await?;
                Ok::<_, std::io::Error>((file, metadata))
            };
            let (file, metadata) =
                opened.await.with_context(|| format!("cannot open {}", path.display()))?;
            if metadata.is_dir() {
                bail!("{} is a directory; name a file of block messages", path.display());
            }
            let bytes_total = Some(metadata.len()).filter(|_| metadata.is_file() && !repeats);
            (LineSource::File(BufReader::with_capacity(READ_BYTES, file)), bytes_total)
        };
        Ok(Self {
            name: if is_stdin { "stdin".into() } else { path.display().to_string() },
            source,
            bytes_total,
            repeats,
            line: Vec::new(),
            line_number: 0,
            blocks_in_pass: 0,
            heights: HeightShift::default(),
        })
    }

    /// How much there is to read, where that is known.
    pub fn bytes_total(&self) -> Option<u64> {
        self.bytes_total
    }

    pub fn repeats(&self) -> bool {
        self.repeats
    }

    /// Takes note of a height that is in the RabbitMQ stream already.
    pub fn know(&mut self, height: u64) {
        self.heights.know(height);
    }

    /// The next message; `None` at the end, which a file that repeats does not have.
    ///
    /// # Errors
    /// The source cannot be read, a line is longer than any broker takes, or nothing is in it.
    ///
    /// # Cancel safety
    /// What was read of a line is kept for the next call.
    pub async fn next(&mut self) -> Result<Option<BlockMessage>> {
        loop {
            let ended = !self.read_line().await?;
            let line = std::mem::take(&mut self.line);
            self.line_number += 1;
            let read_bytes = line.len() as u64;
            let body = byte_order_mark::skipped(&line).trim_ascii();
            if !body.is_empty() {
                self.blocks_in_pass += 1;
                let (body, height) = self.placed(body.to_vec())?;
                let line = Some(self.line_number);
                return Ok(Some(BlockMessage { body, height, line, read_bytes }));
            }
            if ended {
                if !self.repeats {
                    return Ok(None);
                }
                if self.blocks_in_pass == 0 {
                    bail!("{} holds no block message", self.name);
                }
                self.rewind().await?;
            }
        }
    }

    /// Reads on to a line's end, or to the end of all: then `false`, and `line` may hold a last one.
    async fn read_line(&mut self) -> Result<bool> {
        loop {
            let chunk = match &mut self.source {
                LineSource::File(file) => file.fill_buf().await,
                LineSource::Stdin(stdin) => stdin.fill_buf().await,
            };
            let chunk = chunk.with_context(|| format!("cannot read {}", self.name))?;
            if chunk.is_empty() {
                return Ok(false);
            }
            let end = chunk.iter().position(|&byte| byte == b'\n');
            let taken = end.map_or(chunk.len(), |at| at + 1);
            if self.line.len() + taken > BODY_BYTES_MAX {
                let (name, number) = (&self.name, self.line_number + 1);
                return Err(anyhow!("{name}, line {number}: longer than 128 MiB"));
            }
            self.line.extend_from_slice(&chunk[..taken]);
            match &mut self.source {
                LineSource::File(file) => file.consume(taken),
                LineSource::Stdin(stdin) => stdin.as_mut().consume(taken),
            }
            if end.is_some() {
                return Ok(true);
            }
        }
    }

    /// The message with the height it gets; untouched where nothing repeats or it has none.
    fn placed(&mut self, body: Vec<u8>) -> Result<(Vec<u8>, Option<u64>)> {
        let own = if self.repeats { block::height_of(&body) } else { None };
        let Some(own) = own else { return Ok((body, None)) };
        let height = self.heights.place(own).with_context(|| {
            format!("{}, line {}: no height is left", self.name, self.line_number)
        })?;
        if height == own {
            return Ok((body, Some(own)));
        }
        let moved = block::with_height(&body, height).map_err(|error| {
            anyhow!("{}, line {}: cannot change the height: {error}", self.name, self.line_number)
        })?;
        Ok((moved, Some(height)))
    }

    async fn rewind(&mut self) -> Result<()> {
        let LineSource::File(file) = &mut self.source else {
            unreachable!("bug: `open` refuses to repeat stdin")
        };
        file.seek(SeekFrom::Start(0))
            .await
            .with_context(|| format!("--loop cannot read {} again from its start", self.name))?;
        self.line_number = 0;
        self.blocks_in_pass = 0;
        self.heights.begin_pass();
        Ok(())
    }
}

/// Heights that go on above all that is known, pass by pass; within a pass they differ from the
/// file's own by a constant, so that a gap in the file stays a gap.
#[derive(Debug, Default)]
struct HeightShift {
    newest: Option<u64>,
    /// What this pass adds; set by its first height.
    shift: Option<u64>,
}

impl HeightShift {
    fn know(&mut self, height: u64) {
        self.newest = self.newest.max(Some(height));
    }

    fn begin_pass(&mut self) {
        self.shift = None;
    }

    /// The height to publish for the file's own; `None` when heights have run out.
    fn place(&mut self, own: u64) -> Option<u64> {
        let shift = match (self.shift, self.newest) {
            (Some(shift), _) => shift,
            (None, Some(newest)) if own <= newest => (newest - own).checked_add(1)?,
            (None, _) => 0,
        };
        self.shift = Some(shift);
        let height = own.checked_add(shift)?;
        self.know(height);
        Some(height)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn placed(heights: &mut HeightShift, own: &[u64]) -> Vec<u64> {
        own.iter().map(|&own| heights.place(own).expect("a height is left")).collect()
    }

    #[test]
    fn the_first_pass_keeps_its_heights_when_they_are_new() {
        let mut heights = HeightShift::default();
        assert_eq!(placed(&mut heights, &[1, 2, 4]), [1, 2, 4]);
        let mut heights = HeightShift::default();
        heights.know(6);
        assert_eq!(placed(&mut heights, &[7, 8]), [7, 8]);
    }

    #[test]
    fn every_pass_goes_on_above_the_newest_height() {
        let mut heights = HeightShift::default();
        heights.know(40);
        heights.know(42);
        assert_eq!(placed(&mut heights, &[1, 2, 4]), [43, 44, 46]);
        heights.begin_pass();
        assert_eq!(placed(&mut heights, &[1, 2, 4]), [47, 48, 50]);
    }

    #[test]
    fn heights_that_have_run_out_are_told() {
        let mut heights = HeightShift::default();
        heights.know(u64::MAX);
        assert_eq!(heights.place(1), None);
    }

    async fn bodies(text: &str) -> Vec<String> {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        std::fs::write(file.path(), text).expect("written");
        let mut blocks = BlockReader::open(file.path(), false).await.expect("opens");
        let mut bodies = Vec::new();
        while let Some(block) = blocks.next().await.expect("reads") {
            bodies.push(String::from_utf8(block.body).expect("UTF-8"));
        }
        bodies
    }

    #[tokio::test]
    async fn blank_lines_are_skipped_and_a_last_line_needs_no_end() {
        assert_eq!(bodies("{}\n\n  \n[1]\r\n not JSON ").await, ["{}", "[1]", "not JSON"]);
        assert!(bodies("\n\n").await.is_empty());
    }

    #[tokio::test]
    async fn a_byte_order_mark_is_no_part_of_a_message() {
        assert_eq!(bodies("\u{feff}{}\n\u{feff}[1]\n").await, ["{}", "[1]"]);
        assert!(bodies("\u{feff}\n").await.is_empty());
    }

    #[tokio::test]
    async fn what_cannot_repeat_is_refused() {
        assert!(BlockReader::open(Path::new("-"), true).await.is_err());
        assert!(BlockReader::open(Path::new("/nonexistent"), false).await.is_err());
        let empty = tempfile::NamedTempFile::new().expect("a temporary file");
        let mut blocks = BlockReader::open(empty.path(), true).await.expect("opens");
        let error = blocks.next().await.expect_err("nothing to repeat").to_string();
        assert!(error.contains("holds no block"), "{error}");
    }
}
