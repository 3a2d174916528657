//! The commands: arguments in, an exit code out. Knows nothing of blocks beyond what it hands on.

mod arguments;
mod check;
mod outcome;
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

use crate::{secret, telemetry};
use arguments::{Arguments, Command};
use outcome::{Failure, Outcome, say, told};

/// Bad usage or configuration: `EX_USAGE` of BSD's sysexits.h.
const EXIT_USAGE: u8 = 64;
/// A failure at run time.
const EXIT_FAILURE: u8 = 1;

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
