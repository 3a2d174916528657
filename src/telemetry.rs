//! What the process says about itself: `tracing` events as text or JSON lines on stderr.
//!
//! A line that stderr refuses (closed, or its disk full) or that nobody reads is lost and nothing
//! else: no task waits for the log. No remote exporter is here.

mod lines;

use std::io::IsTerminal;
use std::sync::OnceLock;
use std::time::Duration;

use prometheus::IntCounter;
use thiserror::Error;
use tracing::Level;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::{FilterFn, ParseError};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use self::lines::Lines;
use crate::config::{Log, LogFormat};

/// Lies under what the operator says; the later directive for a name wins.
const QUIET: &str = "lapin=off,";
/// For the last lines, when the process ends.
const LAST_LINES_TIME: Duration = Duration::from_secs(1);

static LINES: OnceLock<Lines> = OnceLock::new();

#[derive(Debug, Error)]
pub enum TelemetryError {
    #[error(
        "`log.level` is {level:?}: {source}; write a level (error, warn, info, debug, trace, off) or directives such as info,blockcast=debug"
    )]
    BadDirectives { level: String, source: Box<ParseError> },
    #[error(
        "`log.level` is {level:?}: {directive:?} is not a level; for everything of a crate of that name write {directive}=trace"
    )]
    NotALevel { level: String, directive: String },
    #[error("something in this process has set up logging before")]
    AlreadySet,
    #[error("no thread for the log: {0}")]
    NoThread(std::io::Error),
}

/// Sends the whole process's events to stderr, from now on.
///
/// # Errors
/// As [`directives`]; `AlreadySet` when called twice in a process; `NoThread` is the system's.
pub fn init(log: &Log) -> Result<(), TelemetryError> {
    let filter = directives(&log.level)?;
    let terminal = std::io::stderr().is_terminal();
    let to = LINES.get_or_init(Lines::default).clone();
    to.write_to(std::io::stderr()).map_err(TelemetryError::NoThread)?;
    // With `log_internal_errors`, a line that cannot be written would be told with `eprintln!`,
    // which panics on the same stderr.
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(to)
        .with_ansi(terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()))
        .log_internal_errors(false);
    let text = match log.format {
        LogFormat::Auto => terminal,
        LogFormat::Text => true,
        LogFormat::Json => false,
    };
    let safe = FilterFn::new(|metadata| is_safe(metadata.target(), *metadata.level()));
    let outcome = if text {
        lines.finish().with(safe).try_init()
    } else {
        lines.json().flatten_event(true).with_current_span(false).finish().with(safe).try_init()
    };
    outcome.map_err(|_| TelemetryError::AlreadySet)
}

/// Counts the lines that are lost from now on in `counter`. Nothing without [`init`] before.
pub fn count_lost(counter: &IntCounter) {
    if let Some(lines) = LINES.get() {
        lines.count_lost(counter.clone());
    }
}

/// Waits a moment for the lines that are not written yet; the process is about to end.
pub fn flush() {
    if let Some(lines) = LINES.get() {
        lines.flush(LAST_LINES_TIME);
    }
}

/// Whether `init` has been called: what ends the process is logged then, and printed otherwise.
pub fn is_set() -> bool {
    tracing::dispatcher::has_been_set()
}

/// Whether a line can hold no password, whatever `log.level` says: the AMQP library's finest lines
/// print every frame that it sends, and one of them logs in.
fn is_safe(target: &str, level: Level) -> bool {
    level < Level::TRACE || !["lapin", "amq_protocol"].iter().any(|name| target.starts_with(name))
}

/// The filter that `log.level` describes. Pure.
///
/// The AMQP library's own lines are left out unless the level names it (`info,lapin=debug`): it calls
/// an error what the connection's owner recovers from, and logs.
///
/// # Errors
/// `BadDirectives` and `NotALevel` are the operator's to mend. The latter is a word that `tracing`
/// would take for the name of a crate, which is what a misspelt level looks like.
pub fn directives(level: &str) -> Result<EnvFilter, TelemetryError> {
    for directive in level.split(',').map(str::trim) {
        let bare = !directive.contains(['=', '[']);
        if bare && !directive.is_empty() && directive.parse::<LevelFilter>().is_err() {
            let (level, directive) = (level.to_owned(), directive.to_owned());
            return Err(TelemetryError::NotALevel { level, directive });
        }
    }
    EnvFilter::builder()
        .with_default_directive(LevelFilter::INFO.into())
        .parse(format!("{QUIET}{level}"))
        .map_err(|source| TelemetryError::BadDirectives {
            level: level.to_owned(),
            source: Box::new(source),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_and_directives_are_taken() {
        for level in ["", "info", "WARN", "off", "info,blockcast=debug", "blockcast::amqp=trace"] {
            assert!(directives(level).is_ok(), "{level}");
        }
    }

    #[test]
    fn the_amqp_library_is_heard_only_when_it_is_named() {
        let filter = |level| directives(level).expect("good directives").to_string();
        assert!(filter("info").contains("lapin=off"));
        let named = filter("info,lapin=debug");
        assert!(named.contains("lapin=debug") && !named.contains("lapin=off"), "{named}");
    }

    #[test]
    fn the_amqp_librarys_finest_lines_are_never_written() {
        for (target, level, expected) in [
            ("lapin::io_loop", Level::TRACE, false),
            ("amq_protocol_tcp", Level::TRACE, false),
            ("lapin::io_loop", Level::DEBUG, true),
            ("blockcast::amqp", Level::TRACE, true),
        ] {
            assert_eq!(is_safe(target, level), expected, "{target} {level}");
        }
    }

    #[test]
    fn a_misspelt_level_is_refused_and_named() {
        for (level, told) in
            [("inof", "inof"), ("info,debgu", "debgu"), ("blockcast=verbose", "blockcast=verbose")]
        {
            let message = directives(level).expect_err(level).to_string();
            assert!(message.contains("log.level") && message.contains(told), "{message}");
        }
    }
}
