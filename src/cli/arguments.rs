//! What may be typed: commands, options and their help. Reads the environment and one file, when
//! the configuration is loaded; runs nothing.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use anyhow::anyhow;
use clap::{Args, Parser, Subcommand};

use super::outcome::Failure;
use super::publish::heights::{FirstHeight, HeightRange};
use super::publish::node::NodeText;
use crate::client::{Builder, FilterError, FilterName, FilterParameter, Position, Start};
use crate::config::{Config, Layers, Listen};
use crate::secret;

/// The default for `--config`. Without `__`, so it is no configuration key.
const CONFIG_VARIABLE: &str = "BLOCKCAST_CONFIG";

const EXAMPLES: &str = "\
Examples:
  blockcast                                             serve with the defaults
  blockcast --config blockcast.toml --set log.level=debug
  BLOCKCAST_AMQP__URIS=amqp://node:secret@broker:5672/chain blockcast serve
  blockcast check --config blockcast.toml               say what would be used, connect to nothing
  blockcast publish --loop --rate 1 chain.ndjson        feed a demo
  blockcast publish --node http://127.0.0.1:9984 --state blockcast.state
  blockcast tail ws://127.0.0.1:9985/api/v1/streams/valid_blocks
  blockcast tail --from oldest --state mine.state --public-key KEY ws://127.0.0.1:9985/api/v1/streams/valid_transactions

Configuration is laid in layers: defaults, the file, the environment (BLOCKCAST_SECTION__KEY),
then options. `blockcast check` prints every key.

Exit codes: 0 done or drained, 1 failed, 64 bad usage or configuration.";

/// Carries committed blocks from RabbitMQ to WebSocket clients, as BigchainDB's event stream.
#[derive(Debug, Parser)]
#[command(name = "blockcast", version, after_help = EXAMPLES)]
pub struct Arguments {
    #[command(flatten)]
    pub settings: Settings,
    #[command(subcommand)]
    pub command: Option<Command>,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve the streams until SIGTERM or Ctrl-C, then drain (the default command)
    Serve(Settings),
    /// Print the configuration as TOML, secrets masked, or judge a message; connects to nothing
    Check(Check),
    /// Publish block messages, from lines or a node, into the exchange, each confirmed
    Publish(Publish),
    /// Print the events of a stream, one a line; goes on after a cut, and after its own end
    Tail(Box<Tail>),
}

/// Options that lie over the configuration file and the environment. Printed without what was typed.
#[derive(Default, Args)]
pub struct Settings {
    /// The configuration file, TOML [env: BLOCKCAST_CONFIG]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Set one key; may repeat; lists are separated by commas
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE", value_parser = assignment)]
    pub set: Vec<(String, String)>,
    /// Where to listen; short for --set server.listen=ADDRESS
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<Listen>,
    /// The broker; short for --set amqp.uris=URI. A URI with a password is safer in the environment
    #[arg(long, value_name = "URI")]
    pub amqp_uri: Option<String>,
}

#[derive(Debug, Args)]
pub struct Check {
    #[command(flatten)]
    pub settings: Settings,
    /// Say what the decoder makes of a message's body ("-" for stdin); exit 1 if it is bad input
    #[arg(long, value_name = "FILE")]
    pub message: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct Publish {
    #[command(flatten)]
    pub settings: Settings,
    #[command(flatten)]
    pub options: PublishOptions,
}

#[derive(Debug, Clone, Args)]
pub struct PublishOptions {
    /// Block messages as NDJSON; "-" reads stdin. Blank lines are skipped
    #[arg(value_name = "FILE", required_unless_present = "node")]
    pub file: Option<PathBuf>,
    #[command(flatten)]
    pub node: NodeOptions,
    /// At most this many blocks per second, such as 0.5; without it, as fast as they are confirmed
    #[arg(long, value_name = "BLOCKS", value_parser = period)]
    pub rate: Option<Period>,
    /// Go on for ever: after the end again from the start, with heights above the newest in the
    /// RabbitMQ stream and above all that was sent
    #[arg(long = "loop", conflicts_with = "node")]
    pub repeat: bool,
    /// Fail when the connection is lost or the node fails, instead of trying again and publishing the
    /// unconfirmed again
    #[arg(long)]
    pub no_retry: bool,
}

// Each says itself that it goes with no file: what an option requires is not asked for when that
// conflicts with what was given.
#[derive(Debug, Clone, Args)]
pub struct NodeOptions {
    /// Follow a BigchainDB or Planetmint node instead: publish each block that it has at
    /// URL/api/v1/blocks/HEIGHT, empty ones too. URL may hold a user and a password
    #[arg(long, value_name = "URL", conflicts_with = "file")]
    pub node: Option<NodeText>,
    /// Remember the last confirmed height in this file, and go on above it
    #[arg(long, value_name = "FILE", requires = "node", conflicts_with = "file")]
    pub state: Option<PathBuf>,
    /// Begin with this height, or with the node's tip. Else above the state's, else above the newest
    /// height in the RabbitMQ stream, else with the node's tip
    #[arg(long, value_name = "HEIGHT|latest", requires = "node", conflicts_with = "file")]
    pub from_height: Option<FirstHeight>,
    /// Publish these heights (again) and end, such as 50 or 50..51 (both ends are meant): repairs a gap
    #[arg(
        long,
        value_name = "FIRST..LAST",
        requires = "node",
        conflicts_with_all = ["file", "state", "from_height"]
    )]
    pub heights: Option<HeightRange>,
    /// Go on without heights that the node does not have below one that it has (it was pruned, or
    /// has lost some); each such range is told. Clients are told of a gap, unless blocks.heights is
    /// "sparse"
    #[arg(long, requires = "node", conflicts_with = "file")]
    pub skip_missing: bool,
    /// Trust the authorities in this PEM file, for https:// and the node's wss:// stream, instead of
    /// the system's
    #[arg(long, value_name = "FILE", requires = "node", conflicts_with = "file")]
    pub ca: Option<PathBuf>,
    /// How often to ask for a block that is not there yet, beside listening to the node's event stream
    #[arg(
        long,
        value_name = "DURATION",
        default_value = "1s",
        value_parser = wait,
        conflicts_with = "file"
    )]
    pub poll: Duration,
    /// How long the node may take to answer, or fall silent in its answer, before it is asked again
    #[arg(
        long,
        value_name = "DURATION",
        default_value = "30s",
        value_parser = wait,
        conflicts_with = "file"
    )]
    pub timeout: Duration,
}

/// The time between two blocks.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Period(pub Duration);

#[derive(Debug, Args)]
pub struct Tail {
    /// A stream's address, ws:// or wss://. It may have the stream's parameters in its query; one
    /// that is also an option here is refused
    #[arg(
        value_name = "URL",
        default_value = "ws://127.0.0.1:9985/api/v1/streams/valid_transactions",
        value_parser = Builder::from_str
    )]
    pub url: Builder,
    /// Where to begin: oldest, latest (the newest block), a height, or -N for N blocks before the
    /// newest; without it, with what is committed from now on
    #[arg(
        long,
        value_name = "HEIGHT",
        value_parser = Start::from_str,
        allow_hyphen_values = true,
        conflicts_with = "after"
    )]
    pub from: Option<Start>,
    /// Begin behind this place: a height (42), an event (42.7) or a transaction (42.<64 hex>)
    #[arg(long, value_name = "CURSOR", value_parser = Position::from_str)]
    pub after: Option<Position>,
    /// Remember the place in this file, and begin there if it exists, whatever --from and --after
    /// say. One line of JSON; written at block ends, at most once a second, and at the end
    #[arg(long, value_name = "FILE")]
    pub state: Option<PathBuf>,
    /// Trust the authorities in this PEM file, for wss://, instead of the system's
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// End behind this height, with 0
    #[arg(long, value_name = "HEIGHT")]
    pub until_height: Option<u64>,
    /// End behind so many messages, with 0
    #[arg(long, value_name = "MESSAGES")]
    pub limit: Option<u64>,
    /// One message per block, with its events
    #[arg(long)]
    pub batch: bool,
    /// Print everything as objects with a `type` and the `cursor` behind it: gaps, block ends and
    /// connections too, which are else told on stderr or not at all
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub filters: Filters,
}

/// What events are to have. Values of one option are alternatives; different options must agree.
#[derive(Debug, Args)]
#[command(next_help_heading = "Filters (each may repeat; values of one are alternatives)")]
pub struct Filters {
    /// Owner of an output
    #[arg(long, value_name = "KEY")]
    pub public_key: Vec<String>,
    /// Owner that an input spends from
    #[arg(long, value_name = "KEY")]
    pub owner_before: Vec<String>,
    /// The asset's id
    #[arg(long, value_name = "ID")]
    pub asset_id: Vec<String>,
    /// The transaction itself
    #[arg(long, value_name = "ID")]
    pub transaction_id: Vec<String>,
    /// CREATE, TRANSFER, or what else the chain has
    #[arg(long, value_name = "NAME")]
    pub operation: Vec<String>,
}

impl Filters {
    /// # Errors
    /// A value that no transaction could have.
    pub fn into_filters(self) -> Result<Vec<FilterParameter>, FilterError> {
        let Self { public_key, owner_before, asset_id, transaction_id, operation } = self;
        let values = [public_key, owner_before, asset_id, transaction_id, operation];
        let named = FilterName::ALL.into_iter().zip(values);
        let each = named.flat_map(|(name, values)| values.into_iter().map(move |it| (name, it)));
        each.map(|(name, value)| FilterParameter::new(name, &value)).collect()
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Settings(..)")
    }
}

impl Settings {
    /// These, with those given behind the command's name laid over them.
    pub fn joined(mut self, later: Self) -> Self {
        self.set.extend(later.set);
        Self {
            config: later.config.or(self.config),
            set: self.set,
            listen: later.listen.or(self.listen),
            amqp_uri: later.amqp_uri.or(self.amqp_uri),
        }
    }

    /// Reads the layers and checks the outcome, the log's directives too.
    ///
    /// # Errors
    /// Always `Usage`: the message names the key, the value and where it came from.
    pub fn load(self) -> Result<Config, Failure> {
        let file = self.config.or_else(|| {
            std::env::var_os(CONFIG_VARIABLE).filter(|path| !path.is_empty()).map(PathBuf::from)
        });
        let environment = std::env::vars_os()
            .map(|(name, value)| {
                (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned())
            })
            .collect();
        let mut flags = self.set;
        flags.extend(self.listen.map(|address| ("server.listen".into(), address.to_string())));
        flags.extend(self.amqp_uri.map(|uri| ("amqp.uris".into(), uri)));
        let usage = |error: anyhow::Error| Failure::Usage(error);
        let config = Config::load(&Layers { file, environment, flags })
            .map_err(|error| usage(error.into()))?;
        crate::telemetry::directives(&config.log.level).map_err(|error| {
            let level = &config.log.level;
            let shown = secret::masked(level);
            // Else the error quotes a part of it.
            usage(match shown == *level {
                true => error.into(),
                false => anyhow!("`log.level` is {shown:?}: write a level or directives"),
            })
        })?;
        Ok(config)
    }
}

fn assignment(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("write SECTION.KEY=VALUE")?;
    if !key.contains('.') {
        let key = secret::masked(key);
        return Err(format!("{key:?} names no section; write SECTION.KEY=VALUE"));
    }
    Ok((key.trim().to_owned(), value.to_owned()))
}

/// The bounds keep a node from being asked without a pause, and a typing error from being forever.
fn wait(text: &str) -> Result<Duration, String> {
    let wait = humantime::parse_duration(text)
        .map_err(|error| format!("not a duration such as 10s or 500ms: {error}"))?;
    if !(Duration::from_millis(10)..=Duration::from_secs(3_600)).contains(&wait) {
        return Err("must be from 10ms to 1h".into());
    }
    Ok(wait)
}

fn period(text: &str) -> Result<Period, String> {
    let rate: f64 = text.parse().map_err(|_| "write a number of blocks per second")?;
    // A block a day to one a microsecond: the bounds keep the period a sensible `Duration`.
    if !(1.0 / 86_400.0..=1_000_000.0).contains(&rate) {
        return Err("must be from 0.00002 (about one a day) to 1000000".into());
    }
    Ok(Period(Duration::from_secs_f64(1.0 / rate)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Result<Arguments, clap::Error> {
        Arguments::try_parse_from(std::iter::once(&"blockcast").chain(words))
    }

    #[test]
    fn the_arguments_are_consistent() {
        use clap::CommandFactory;
        Arguments::command().debug_assert();
    }

    #[test]
    fn settings_may_stand_before_and_behind_the_command() {
        let words =
            ["--set", "log.level=warn", "serve", "--set", "log.level=debug", "--listen", "[::1]:0"];
        let arguments = parse(&words).expect("parses");
        let Some(Command::Serve(later)) = arguments.command else { panic!("not serve") };
        let config = arguments.settings.joined(later).load().expect("loads");
        assert_eq!(config.log.level, "debug");
        assert_eq!(config.server.listen.to_string(), "[::1]:0");
    }

    #[test]
    fn bad_values_are_refused_with_the_way_out() {
        for (words, told) in [
            (&["--set", "log"][..], "SECTION.KEY=VALUE"),
            (&["--set", "level=info"], "names no section"),
            (&["publish", "-", "--rate", "0"], "must be from"),
            (&["publish", "-", "--rate", "nan"], "must be from"),
            (&["publish"], "FILE"),
            (&["publish", "-", "--node", "http://node"], "cannot be used with"),
            (&["publish", "--node", "http://node", "--loop"], "cannot be used with"),
            (&["publish", "-", "--state", "s"], "cannot be used with"),
            (&["publish", "-", "--poll", "2s"], "cannot be used with"),
            (&["publish", "-", "--skip-missing"], "cannot be used with"),
            (&["publish", "-", "--ca", "ca.pem"], "cannot be used with"),
            (&["publish", "--state", "s"], "--node"),
            (&["publish", "--node", "http://node", "--heights", "3..2"], "write 2..3"),
            (&["publish", "--node", "http://n", "--heights", "3", "--state", "s"], "cannot be"),
            (&["publish", "--node", "http://node", "--poll", "1"], "not a duration"),
            (&["publish", "--node", "http://node", "--poll", "0s"], "must be from"),
            (&["tail", "http://node:9985/x"], "write ws://node:9985/x"),
            (&["tail", "node:9985"], "ws://"),
            (&["tail", "ws://x/y?limit=few"], "limit=few cannot be"),
            (&["tail", "--from", "soon"], "oldest, latest"),
            (&["tail", "--after", "42.x"], "no cursor"),
            (&["tail", "--from", "-5", "--after", "42"], "cannot be used with"),
            (&["serf"], "serve"),
        ] {
            let message = parse(words).expect_err("refused").to_string();
            assert!(message.contains(told), "{words:?}: {message}");
        }
    }

    #[test]
    fn an_unknown_level_is_refused_when_the_configuration_is_loaded() {
        let settings = parse(&["--set", "log.level=inof"]).expect("parses").settings;
        let Err(Failure::Usage(error)) = settings.load() else { panic!("not refused as usage") };
        assert!(error.to_string().contains("inof"), "{error}");
    }
}
