//! The commands: arguments in, an exit code out. Knows nothing of blocks beyond what it hands on.

mod arguments;
mod check;
mod publish;
mod serve;
mod signals;
mod tail;

use std::ffi::OsString;
use std::future::Future;
use std::io::Write;
use std::process::ExitCode;

use anyhow::Context;
use clap::{CommandFactory, Parser};
use tracing::error;

use crate::config::Config;
use crate::{secret, telemetry};
use arguments::{Arguments, Command};

/// Bad usage or configuration: `EX_USAGE` of BSD's sysexits.h.
const EXIT_USAGE: u8 = 64;
/// A failure at run time.
const EXIT_FAILURE: u8 = 1;

/// Why a command ends other than with 0, by the exit code it ends with.
#[derive(Debug)]
enum Failure {
    /// The arguments or the configuration: starting again as it is cannot help.
    Usage(anyhow::Error),
    Runtime(anyhow::Error),
}

type Outcome = Result<(), Failure>;

/// Runs the command that the arguments name, the program's own name first, and yields the code to
/// exit with: 0 done or drained, 1 failed, 64 bad usage or configuration.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let typed: Vec<OsString> = arguments.into_iter().collect();
    let arguments = match Arguments::try_parse_from(&typed) {
        Ok(arguments) => arguments,
        Err(error) => {
            let code = if error.use_stderr() { EXIT_USAGE } else { 0 };
            print(&error, &typed);
            return ExitCode::from(code);
        }
    };
    let (code, error) = match run(arguments) {
        Ok(()) => {
            telemetry::flush();
            return ExitCode::SUCCESS;
        }
        Err(Failure::Usage(error)) => (EXIT_USAGE, error),
        Err(Failure::Runtime(error)) => (EXIT_FAILURE, error),
    };
    let error = concealed(told(&error), &typed);
    if telemetry::is_set() {
        error!(error, "ended by a failure");
        telemetry::flush();
    } else {
        say(&format!("blockcast: {error}"));
    }
    ExitCode::from(code)
}

/// The commands and their options, as they are parsed.
pub fn command() -> clap::Command {
    Arguments::command()
}

fn run(arguments: Arguments) -> Outcome {
    let settings = arguments.settings;
    match arguments.command {
        None => block_on(serve::run(settings.load()?)),
        Some(Command::Serve(serve)) => block_on(serve::run(settings.joined(serve).load()?)),
        Some(Command::Check(check)) => {
            check::run(&settings.joined(check.settings).load()?, check.message)
        }
        Some(Command::Publish(publish)) => {
            let config = settings.joined(publish.settings).load()?;
            block_on(publish::run(config, publish.options))
        }
        Some(Command::Tail(tail)) => block_on(tail::run(*tail)),
    }
}

/// Runs a command to its end. Whatever a library left running is dropped, not waited for: a thread
/// that reads stdin would otherwise keep the process until the next line.
fn block_on(command: impl Future<Output = Outcome>) -> Outcome {
    let runtime = tokio::runtime::Runtime::new().context("cannot start the async runtime")?;
    let outcome = runtime.block_on(command);
    runtime.shutdown_background();
    outcome
}

/// An error with its causes, outermost first. A cause that an error quotes is not said again.
fn told(error: &anyhow::Error) -> String {
    let mut told = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !told.contains(&cause) {
            told.push_str(": ");
            told.push_str(&cause);
        }
    }
    told
}

/// Prints what is wrong with the arguments, or the help that they ask for. An argument may hold a
/// password, and is quoted in many places.
fn print(error: &clap::Error, typed: &[OsString]) {
    let plain = error.render().to_string();
    let concealed = concealed(plain.clone(), typed);
    // A closed stdout or stderr leaves the exit code to say it.
    let _ = match plain == concealed {
        true => error.print(),
        false => write!(std::io::stderr(), "{concealed}"),
    };
}

/// A message that may quote an argument, the value in one, or a variable, with what may be a secret
/// masked: a URI may stand where a file's name belongs.
fn concealed(message: String, typed: &[OsString]) -> String {
    let variables = std::env::vars_os().filter_map(|(name, value)| {
        name.to_string_lossy().starts_with("BLOCKCAST_").then_some(value)
    });
    let typed = typed.iter().cloned().chain(variables);
    let typed: Vec<_> = typed.map(|text| text.to_string_lossy().into_owned()).collect();
    let values = typed.iter().filter_map(|argument| Some(argument.split_once('=')?.1));
    secret::concealed(message, typed.iter().map(String::as_str).chain(values))
}

/// What may not be meant, a line each on stderr.
fn say_warnings(config: &Config) {
    for warning in config.warnings() {
        say(&format!("blockcast: warning: {warning}"));
    }
}

/// A line on stderr for the person at the terminal; lost if stderr is closed.
fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::Runtime(error)
    }
}

/// Chance for a wait of a command: half of it to all. A person is watching, so never none.
fn half_jitter() -> f64 {
    1.0 - fastrand::f64() / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backoff::Backoff;
    use std::time::Duration;

    #[test]
    fn a_commands_waits_grow_to_a_bound_and_are_never_none() {
        const FIRST: Duration = Duration::from_millis(250);
        const LONGEST: Duration = Duration::from_secs(15);
        let mut backoff = Backoff::default();
        let mut next_wait = || backoff.next(half_jitter());
        assert!(next_wait() <= FIRST);
        for _ in 0..100 {
            let wait = next_wait();
            assert!(FIRST <= wait && wait <= LONGEST, "{wait:?}");
        }
        assert!(next_wait() >= LONGEST / 2);
        backoff.reset();
        assert!(backoff.next(half_jitter()) <= FIRST);
    }

    #[test]
    fn a_cause_is_told_once_whether_or_not_it_is_quoted() {
        let error = anyhow::anyhow!("no route").context("cannot connect").context("cannot start");
        assert_eq!(told(&error), "cannot start: cannot connect: no route");
        let error = anyhow::anyhow!("no route").context("cannot connect: no route");
        assert_eq!(told(&error), "cannot connect: no route");
    }
}
