//! `tail`: a stream's messages, one a line. Goes on where it was after a cut and, with a state file,
//! after its own end.
//!
//! What the state file says was printed has been taken by whoever reads stdout. The converse does not
//! hold when the process is killed: the last second may be printed again.

mod output;

use std::path::PathBuf;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::time::{Instant, sleep_until, timeout};

use super::arguments::Tail;
use super::outcome::{Failure, Outcome, say};
use super::signals::Signals;
use crate::client::{Builder, Error, FilterError, Position, Start, StreamMessage, Subscriber};
use output::{Form, Output};

/// The state file is written at block ends, but not for every one of a thousand a second.
const SAVE_INTERVAL: Duration = Duration::from_secs(1);
/// For what is printed but not yet taken, when a signal asks for the end.
const LAST_FLUSH: Duration = Duration::from_secs(1);

/// How printing ended without a fault.
enum Printed {
    /// All that was asked for.
    All,
    /// Nobody reads stdout any more.
    Closed,
}

/// Prints until the end that was asked for, until nobody reads stdout, or SIGTERM or SIGINT.
///
/// # Errors
/// The options do not go together, the server refuses in a way that asking again cannot change, or
/// stdout or the state file cannot be written.
pub async fn run(options: Tail) -> Outcome {
    let mut signals = Signals::new()?;
    let form = if options.json { Form::Json } else { Form::Raw };
    let state = options.state.clone();
    let builder = asked(options).map_err(|error| Failure::Usage(error.into()))?;
    let address = builder.address();
    let stream = builder.build().map_err(|error| Failure::Usage(error.into()))?;
    let mut tailing = Tailing {
        stream,
        output: Output::new(form),
        address,
        queued: None,
        printed: None,
        saved: None,
        save_at: Instant::now(),
        unremembered: state,
        has_lost: false,
    };
    let outcome = tokio::select! {
        outcome = tailing.print_all() => outcome,
        _ = signals.next() => timeout(LAST_FLUSH, tailing.flush())
            .await
            .unwrap_or(Ok(()))
            .map(|()| Printed::All),
    };
    let saved = tailing.save();
    match outcome {
        Ok(Printed::All | Printed::Closed) => Ok(saved?),
        Err(error) => {
            if let Err(unsaved) = saved {
                say(&format!("blockcast: {unsaved}"));
            }
            Err(Failure::Runtime(error))
        }
    }
}

fn asked(options: Tail) -> Result<Builder, FilterError> {
    let Tail { url, from, after, state, ca, until_height, limit, batch, json: _, filters } =
        options;
    let mut builder = url;
    if let Some(path) = ca {
        builder = builder.ca_file(path);
    }
    for filter in filters.into_filters()? {
        builder = builder.filter(filter);
    }
    if let Some(start) = after.map(Start::After).or(from) {
        builder = builder.start(start);
    }
    if let Some(height) = until_height {
        builder = builder.until_height(height);
    }
    if let Some(limit) = limit {
        builder = builder.limit(limit);
    }
    if batch {
        builder = builder.batch();
    }
    Ok(match state {
        Some(path) => builder.state_file(path),
        None => builder,
    })
}

struct Tailing {
    stream: Subscriber,
    output: Output,
    /// Of the stream, as it may be shown.
    address: String,
    /// Behind what is in the output, whole lines.
    queued: Option<Position>,
    /// Behind what stdout has taken.
    printed: Option<Position>,
    /// What the state file says.
    saved: Option<Position>,
    /// The state file is not written before.
    save_at: Instant,
    /// The state file, until it is clear whether there is anything to remember.
    unremembered: Option<PathBuf>,
    /// Whether something may be missing since the last connection.
    has_lost: bool,
}

impl Tailing {
    /// # Cancel safety
    /// What is not flushed stays in the output; lines are put there whole.
    async fn print_all(&mut self) -> anyhow::Result<Printed> {
        loop {
            let message = match self.stream.next().now_or_never() {
                Some(message) => message,
                // Nothing is due: what is printed goes out, and is remembered at a block's end.
                None => {
                    if !self.flush_open().await? {
                        return Ok(Printed::Closed);
                    }
                    let is_unsaved = self.is_unsaved();
                    tokio::select! {
                        message = self.stream.next() => message,
                        () = sleep_until(self.save_at), if is_unsaved => {
                            self.save()?;
                            continue;
                        }
                    }
                }
            };
            let message = match message {
                Ok(Some(message)) => message,
                ended => {
                    // Behind the last message the position may still have come to the block's end.
                    self.queued = self.stream.position();
                    let is_open = self.flush_open().await?;
                    return match ended {
                        Err(error) => Err(explained(error)),
                        Ok(_) if is_open => Ok(Printed::All),
                        Ok(_) => Ok(Printed::Closed),
                    };
                }
            };
            self.tell(&message);
            self.queued = self.stream.position();
            self.output.print(&message, self.queued.as_ref(), &self.address);
            let is_save_due = self.is_unsaved() && Instant::now() >= self.save_at;
            if self.output.is_full() || is_save_due {
                if !self.flush_open().await? {
                    return Ok(Printed::Closed);
                }
                if is_save_due {
                    self.save()?;
                }
            }
        }
    }

    /// Tells the person at the terminal what is no line of the output.
    fn tell(&mut self, message: &StreamMessage) {
        let is_data = matches!(message, StreamMessage::Event(_) | StreamMessage::Summary(_));
        if is_data
            && !self.stream.resumes()
            && let Some(path) = self.unremembered.take()
        {
            say(&format!(
                "{} is not written: this server cannot go on from a position",
                path.display()
            ));
        }
        if self.output.form() == Form::Json {
            return;
        }
        match message {
            _ if is_data => self.has_lost = !self.stream.resumes(),
            StreamMessage::Connected if std::mem::take(&mut self.has_lost) => say(&format!(
                "connected to {}; what was committed in between is missing, since this server cannot go on from a position",
                self.address
            )),
            StreamMessage::Connected => say(&format!("connected to {}", self.address)),
            StreamMessage::Disconnected { why, again_in } => {
                say(&format!("{why}; again in {:.1} s", again_in.as_secs_f64()));
            }
            StreamMessage::Gap { from_height, to_height } if from_height == to_height => {
                say(&format!("block {from_height} never came"));
            }
            StreamMessage::Gap { from_height, to_height } => {
                say(&format!("blocks {from_height} to {to_height} never came"));
            }
            StreamMessage::Filled { height } => say(&format!(
                "block {height}, told missing, has come since; start from it to have it"
            )),
            _ => {}
        }
    }

    /// Whether the state file lags behind a block's end.
    fn is_unsaved(&self) -> bool {
        let is_block_end = self.queued.as_ref().is_some_and(Position::is_block_end);
        is_block_end && self.queued != self.saved
    }

    /// Flushes; `false` when nobody reads stdout any more.
    async fn flush_open(&mut self) -> anyhow::Result<bool> {
        match self.flush().await {
            Ok(()) => Ok(true),
            Err(error) if is_closed(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn flush(&mut self) -> anyhow::Result<()> {
        self.output.flush().await?;
        self.printed.clone_from(&self.queued);
        Ok(())
    }

    /// Writes the state file: what stdout has taken, whatever is queued.
    fn save(&mut self) -> anyhow::Result<()> {
        if let Some(position) = &self.printed {
            self.stream.save_at(position)?;
            self.saved = Some(position.clone());
            self.save_at = Instant::now() + SAVE_INTERVAL;
        }
        Ok(())
    }
}

fn is_closed(error: &anyhow::Error) -> bool {
    let io = error.downcast_ref::<std::io::Error>();
    io.is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}

/// A stream's error, with the options that mend it.
fn explained(error: Error) -> anyhow::Error {
    let way_out = match &error {
        Error::Gone { first_height: Some(height) } => format!(
            "; what lies before is lost here: go on with --from {height}, without the state file if there is one"
        ),
        Error::Gone { first_height: None } => {
            "; go on with --from oldest, without the state file if there is one".to_owned()
        }
        Error::AnotherChain | Error::Ahead { .. } => {
            "; to follow it from its start: --from oldest, without the state file if there is one"
                .to_owned()
        }
        Error::Untrusted { .. } => {
            "; a private authority is named with --ca, as a PEM file".to_owned()
        }
        _ => return error.into(),
    };
    anyhow::anyhow!("{error}{way_out}")
}
