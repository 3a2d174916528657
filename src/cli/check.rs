//! `check`: what would be used, and what the decoder makes of a message. Connects to nothing.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};

use super::outcome::{Failure, Outcome, say, say_warnings};
use crate::amqp;
use crate::block::{self, DecodeError, DecodeRules, Decoded, Near, SMALLEST};
use crate::config::{Config, Dialect};
use crate::frame;
use crate::metrics::DecodeErrorKind;
use crate::server;

/// Enough events to see their shape.
const EVENTS_SHOWN: usize = 3;

/// Prints the configuration, or judges one message's body.
///
/// # Errors
/// A certificate, a key or a file of tokens that the configuration names is of no use, or the message cannot be read or is bad input.
pub fn run(config: &Config, message: Option<PathBuf>) -> Outcome {
    let print = match message {
        None => {
            let judged = server::check_certificate(&config.server.tls);
            judged.map_err(|error| Failure::Usage(error.into()))?;
            let judged = server::check_credentials(&config.server.auth);
            judged.map_err(|error| Failure::Usage(anyhow!("{error}; see server.auth")))?;
            let judged = amqp::check_certificates(&config.amqp);
            judged.map_err(|error| Failure::Usage(error.into()))?;
            say_warnings(config);
            if let Some(warning) = server::unreachable_host(&config.server) {
                say(&format!("blockcast: {warning}"));
            }
            config.to_toml()
        }
        Some(path) => {
            let rules = DecodeRules::of(&config.blocks, config.history.block_bytes_max());
            let body = read(&path, config.blocks.max_bytes.as_u64())?;
            judge(&body, &rules).with_context(|| format!("{} is bad input", path.display()))?
        }
    };
    match std::io::stdout().write_all(print.as_bytes()) {
        // Whoever reads has seen enough.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        outcome => Ok(outcome.context("cannot write to stdout")?),
    }
}

/// What the decoder makes of a body, as lines. Pure.
fn judge(body: &[u8], rules: &DecodeRules) -> Result<String> {
    let block = match block::decode(body, rules).map_err(|error| with_hint(&error, body))? {
        Decoded::MarkedInvalid => {
            return Ok("a block marked invalid: acked and counted, not streamed\n".into());
        }
        Decoded::Block(block) => block,
    };
    Ok(describe(block, rules.dialect))
}

/// What is wrong, what the message looks like instead, and what would pass.
fn with_hint(error: &DecodeError, body: &[u8]) -> anyhow::Error {
    let near = match error.kind {
        DecodeErrorKind::TooLarge => None,
        _ => Near::of(body),
    };
    let near = near.map(|near| format!("\n{}", near.told())).unwrap_or_default();
    anyhow!("{error}{near}\nthe smallest message that passes: {SMALLEST}")
}

fn describe(block: block::Block, dialect: Dialect) -> String {
    let hash = block.hash.as_deref().unwrap_or("none").to_owned();
    let (height, transactions) = (block.height, block.fields.len());
    let mut lines =
        format!("height       {height}\nhash         {hash}\ntransactions {transactions}\n");
    let encoded = frame::encode(block, dialect);
    for index in 0..transactions.min(EVENTS_SHOWN) {
        let event = String::from_utf8_lossy(encoded.payload(index));
        lines.push_str(&format!("event {index}      {event}\n"));
    }
    if transactions > EVENTS_SHOWN {
        lines.push_str(&format!("             and {} more\n", transactions - EVENTS_SHOWN));
    }
    lines
}

/// The body, or as much of one that is too large as the decoder needs to say so.
fn read(path: &Path, bytes_max: u64) -> Result<Vec<u8>> {
    let source: Box<dyn Read> = if path == Path::new("-") {
        Box::new(std::io::stdin())
    } else {
        let file = std::fs::File::open(path);
        Box::new(file.with_context(|| format!("cannot open {}", path.display()))?)
    };
    let mut body = Vec::new();
    let read = source.take(bytes_max + 1).read_to_end(&mut body);
    read.with_context(|| format!("cannot read {}", path.display()))?;
    Ok(body)
}
