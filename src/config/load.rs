//! Lays the sources over one another: defaults, file, environment, flags.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use config::{File, FileFormat, Value, ValueKind};
use thiserror::Error;

use super::{Config, Hold, JwtAlgorithm, QueueMode};

/// Only names with this prefix and a `__` further on are ours: Kubernetes injects others.
const PREFIX: &str = "BLOCKCAST_";
/// BigchainDB's own names for what our `server.advertised_*` say.
const BIGCHAINDB_NAMES: [(&str, &str); 3] = [
    ("BIGCHAINDB_WSSERVER_ADVERTISED_SCHEME", "server.advertised_scheme"),
    ("BIGCHAINDB_WSSERVER_ADVERTISED_HOST", "server.advertised_host"),
    ("BIGCHAINDB_WSSERVER_ADVERTISED_PORT", "server.advertised_port"),
];
/// Blocks of doubtful height that the sequencer keeps, hence unacked deliveries of a queue.
const CANDIDATES_MAX: u16 = 16;
/// A request's head: hyper's least, and what 1,024 connections may keep of it.
const HEAD_BYTES: std::ops::RangeInclusive<u64> = 8 << 10..=1 << 20;
/// The one table whose keys are the broker's, not ours.
const ARGUMENTS: &str = "amqp.queue.arguments";

/// What to read, lowest first; the defaults lie under all of it.
#[derive(Debug, Default)]
pub struct Layers {
    pub file: Option<PathBuf>,
    /// Names and values, such as [`std::env::vars`] yields.
    pub environment: Vec<(String, String)>,
    /// `section.key` and value.
    pub flags: Vec<(String, String)>,
}

#[derive(Debug, Error)]
pub enum ConfigError {
    #[error("cannot read the configuration file {path}: {source}")]
    Unreadable { path: PathBuf, source: std::io::Error },
    #[error("{path} is not TOML: {source}")]
    NotToml { path: PathBuf, source: Box<toml::de::Error> },
    #[error("unknown key `{key}` in {place}{}", nearest.as_ref().map(|key| format!("; did you mean `{key}`?")).unwrap_or_default())]
    UnknownKey { key: String, place: String, nearest: Option<String> },
    #[error("bad value: {0}")]
    BadValue(#[from] config::ConfigError),
    #[error("`{key}` is {value}: {way_out}")]
    OutOfBounds { key: &'static str, value: String, way_out: &'static str },
}

impl Config {
    /// Reads all layers and checks the outcome. Reads one file at most, connects to nothing.
    ///
    /// # Errors
    /// Each names the key, the value and the place it came from; the process should end with 64.
    pub fn load(layers: &Layers) -> Result<Self, ConfigError> {
        let known = known_keys();
        let mut builder = config::Config::builder();
        if let Some(path) = &layers.file {
            let text = read(path)?;
            let table = text.parse::<toml::Table>().map_err(|source| ConfigError::NotToml {
                path: path.clone(),
                source: Box::new(source),
            })?;
            let mut keys = BTreeMap::new();
            flatten("", &toml::Value::Table(table), &mut keys);
            for key in keys.keys() {
                check_known(key, &known, &path.display().to_string())?;
            }
            builder = builder.add_source(File::from_str(&text, FileFormat::Toml));
        }
        for (key, value, place) in overrides(layers) {
            check_known(&key, &known, &place)?;
            let value = match known.get(&key) {
                Some(KeyKind::List) => list(&value, &place),
                _ => Value::new(Some(&place), ValueKind::String(value)),
            };
            builder = builder.set_override(key, value)?;
        }
        let config: Self = builder.build()?.try_deserialize()?;
        config.check()?;
        Ok(config)
    }

    /// The whole configuration as TOML, secrets masked.
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("bug: every configuration value has a TOML form")
    }

    fn check(&self) -> Result<(), ConfigError> {
        let refuse = |key, value: &dyn std::fmt::Display, way_out| {
            Err(ConfigError::OutOfBounds { key, value: value.to_string(), way_out })
        };
        let (amqp, blocks, server) = (&self.amqp, &self.blocks, &self.server);
        if amqp.uris.is_empty() {
            return refuse("amqp.uris", &"empty", "name at least one broker");
        }
        if amqp.prefetch == 0 {
            return refuse("amqp.prefetch", &0, "a RabbitMQ stream needs a bound: 1 to 65535");
        }
        if amqp.queue.mode == QueueMode::Queue && amqp.prefetch <= CANDIDATES_MAX {
            return refuse(
                "amqp.prefetch",
                &amqp.prefetch,
                "in queue mode up to 16 blocks of doubtful height stay unacked: at least 17",
            );
        }
        if amqp.binding_keys.is_empty() && amqp.declare {
            return refuse(
                "amqp.binding_keys",
                &"empty",
                "nothing would arrive; name one, such as block.#",
            );
        }
        if amqp.tls.certificate.is_some() != amqp.tls.key.is_some() {
            return refuse(
                "amqp.tls.certificate",
                &"without amqp.tls.key, or the reverse",
                "set both or neither",
            );
        }
        if server.tls.certificate.is_some() != server.tls.key.is_some() {
            return refuse(
                "server.tls.certificate",
                &"without server.tls.key, or the reverse",
                "set both or neither",
            );
        }
        if !is_max_age(&amqp.queue.max_age) {
            return refuse(
                "amqp.queue.max_age",
                &amqp.queue.max_age,
                "write a number and one of Y, M, D, h, m, s, such as 7D",
            );
        }
        if !(1..1 << 32).contains(&amqp.queue.expires.as_millis()) {
            return refuse(
                "amqp.queue.expires",
                &humantime::format_duration(amqp.queue.expires),
                "RabbitMQ's x-expires is at least 1ms and below 2^32 ms: at most 49d",
            );
        }
        if blocks.hold == Hold::Forever && amqp.queue.mode == QueueMode::Queue {
            return refuse(
                "blocks.hold",
                &"\"forever\" with amqp.queue.mode = \"queue\"",
                "a queue hands over amqp.prefetch messages and then waits for acks, which held blocks \
                 do not get: the missing one would never come. Set a time, or use a stream",
            );
        }
        if blocks.max_bytes.as_u64() == 0 {
            return refuse("blocks.max_bytes", &blocks.max_bytes, "no message would fit");
        }
        if blocks.max_bytes.as_u64() >= 1 << 29 {
            return refuse(
                "blocks.max_bytes",
                &blocks.max_bytes,
                "below 512 MiB, so that offsets within a block fit 32 bits",
            );
        }
        if self.history.max_bytes < blocks.max_bytes {
            return refuse(
                "history.max_bytes",
                &self.history.max_bytes,
                "must hold at least one message of blocks.max_bytes",
            );
        }
        if self.history.deep_reads == 0 {
            return refuse("history.deep_reads", &0, "who waits for a turn would wait for ever");
        }
        if blocks.jump_max == 0 {
            return refuse(
                "blocks.jump_max",
                &0,
                "the next height is 1 above the tip; leave at least 1",
            );
        }
        if let Hold::For(time) = blocks.hold
            && time > Duration::from_secs(24 * 60 * 60)
        {
            return refuse(
                "blocks.hold",
                &humantime::format_duration(time),
                "at most 1d, or \"forever\"",
            );
        }
        if server.max_connections == 0 {
            return refuse("server.max_connections", &0, "no client could connect");
        }
        if !HEAD_BYTES.contains(&server.head_max_bytes.as_u64()) {
            return refuse("server.head_max_bytes", &server.head_max_bytes, "8 KiB to 1 MiB");
        }
        for (key, time) in [
            ("server.handshake_timeout", server.handshake_timeout),
            ("server.ping_interval", server.ping_interval),
            ("server.pong_timeout", server.pong_timeout),
            ("server.heartbeat_interval", server.heartbeat_interval),
            ("server.write_stall_timeout", server.write_stall_timeout),
            ("amqp.heartbeat", amqp.heartbeat),
        ] {
            if time.is_zero() {
                return refuse(key, &"0s", "must be longer than nothing");
            }
        }
        if server.auth.jwt.key.is_some() && server.auth.jwt.jwks.is_some() {
            return refuse(
                "server.auth.jwt.jwks",
                &"with server.auth.jwt.key",
                "set one: a key, or a set of keys",
            );
        }
        let jwt = &server.auth.jwt;
        if jwt.key.is_none() && jwt.jwks.is_none() {
            const WAY_OUT: &str = "without server.auth.jwt.key or server.auth.jwt.jwks no token \
                is looked at; set one of them";
            if let Some(audience) = &jwt.audience {
                return refuse("server.auth.jwt.audience", audience, WAY_OUT);
            }
            if jwt.algorithm != JwtAlgorithm::default() {
                let name = format!("{:?}", jwt.algorithm);
                return refuse("server.auth.jwt.algorithm", &name, WAY_OUT);
            }
        }
        if let Some(scheme) = &server.advertised_scheme
            && !["ws", "wss"].contains(&scheme.as_str())
        {
            return refuse("server.advertised_scheme", scheme, "ws or wss");
        }
        Ok(())
    }
}

/// What form a key's value has, as far as the environment must know.
#[derive(Debug, Clone, Copy, PartialEq)]
enum KeyKind {
    Single,
    List,
}

fn known_keys() -> BTreeMap<String, KeyKind> {
    let defaults = toml::Value::try_from(Config::default())
        .expect("bug: every configuration value has a TOML form");
    let mut keys = BTreeMap::new();
    flatten("", &defaults, &mut keys);
    keys
}

fn flatten(prefix: &str, value: &toml::Value, keys: &mut BTreeMap<String, KeyKind>) {
    match value {
        toml::Value::Table(table) if !table.is_empty() => {
            for (name, value) in table {
                let key = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
                flatten(&key, value, keys);
            }
        }
        toml::Value::Array(_) => drop(keys.insert(prefix.to_owned(), KeyKind::List)),
        _ => drop(keys.insert(prefix.to_owned(), KeyKind::Single)),
    }
}

fn check_known(
    key: &str,
    known: &BTreeMap<String, KeyKind>,
    place: &str,
) -> Result<(), ConfigError> {
    let is_argument =
        key.strip_prefix(ARGUMENTS).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
    let is_section =
        known.keys().any(|name| name.strip_prefix(key).is_some_and(|rest| rest.starts_with('.')));
    if known.contains_key(key) || is_argument || is_section {
        return Ok(());
    }
    let nearest = known
        .keys()
        .map(|name| (strsim::normalized_damerau_levenshtein(key, name), name))
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .filter(|(likeness, _)| *likeness > 0.5)
        .map(|(_, name)| name.clone());
    Err(ConfigError::UnknownKey { key: key.to_owned(), place: place.to_owned(), nearest })
}

fn overrides(layers: &Layers) -> Vec<(String, String, String)> {
    let environment = |name: &str| layers.environment.iter().find(|(key, _)| key == name);
    let mut found = Vec::new();
    for (name, key) in BIGCHAINDB_NAMES {
        if let Some((_, value)) = environment(name) {
            found.push((key.to_owned(), value.clone(), format!("the environment ({name})")));
        }
    }
    for (name, value) in &layers.environment {
        if let Some(rest) = name.strip_prefix(PREFIX).filter(|rest| rest.contains("__")) {
            let key = rest.to_ascii_lowercase().replace("__", ".");
            found.push((key, value.clone(), format!("the environment ({name})")));
        }
    }
    for (key, value) in &layers.flags {
        found.push((key.clone(), value.clone(), "the command line".to_owned()));
    }
    found
}

fn list(text: &str, place: &String) -> Value {
    let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
    let items = items.map(|item| Value::new(Some(place), ValueKind::String(item.to_owned())));
    Value::new(Some(place), ValueKind::Array(items.collect()))
}

fn is_max_age(text: &str) -> bool {
    let digits = text.trim_end_matches(['Y', 'M', 'D', 'h', 'm', 's']);
    text.len() == digits.len() + 1 && digits.parse::<u32>().is_ok_and(|number| number > 0)
}

fn read(path: &Path) -> Result<String, ConfigError> {
    std::fs::read_to_string(path)
        .map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(environment: &[(&str, &str)], flags: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let owned = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect()
        };
        Config::load(&Layers { file: None, environment: owned(environment), flags: owned(flags) })
    }

    fn load_file(text: &str, environment: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        std::fs::write(file.path(), text).expect("written");
        let environment = environment.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        Config::load(&Layers { file: Some(file.path().into()), environment, flags: vec![] })
    }

    #[test]
    fn nothing_set_yields_the_defaults() {
        assert_eq!(load(&[], &[]).expect("loads"), Config::default());
    }

    #[test]
    fn later_layers_win() {
        let file = "[server]\nlisten = \"127.0.0.1:1\"\nmax_connections = 5\n";
        let config = load_file(file, &[("BLOCKCAST_SERVER__MAX_CONNECTIONS", "7")]).expect("loads");
        assert_eq!(config.server.listen.port(), 1);
        assert_eq!(config.server.max_connections, 7);
        let env = [("BLOCKCAST_BLOCKS__HOLD", "2s")];
        let config = load(&env, &[("blocks.hold", "forever")]).expect("loads");
        assert_eq!(config.blocks.hold, Hold::Forever);
    }

    #[test]
    fn lists_are_separated_by_commas() {
        let config = load(&[("BLOCKCAST_AMQP__URIS", "amqp://a, amqps://b")], &[]).expect("loads");
        assert_eq!(config.amqp.uris.len(), 2);
        assert_eq!(config.amqp.uris[1].expose(), "amqps://b");
    }

    #[test]
    fn names_of_others_in_the_environment_are_passed_over() {
        let kubernetes = [("BLOCKCAST_PORT_9985_TCP", "tcp://10.0.0.1:9985"), ("PATH", "/bin")];
        assert_eq!(load(&kubernetes, &[]).expect("loads"), Config::default());
    }

    #[test]
    fn bigchaindb_names_are_understood_and_ours_win() {
        let mut env = vec![("BIGCHAINDB_WSSERVER_ADVERTISED_PORT", "443")];
        assert_eq!(load(&env, &[]).expect("loads").server.advertised_port, Some(443));
        env.push(("BLOCKCAST_SERVER__ADVERTISED_PORT", "444"));
        assert_eq!(load(&env, &[]).expect("loads").server.advertised_port, Some(444));
    }

    #[test]
    fn an_unknown_key_is_refused_with_the_nearest_known_one() {
        let refused =
            |result: Result<Config, ConfigError>| result.expect_err("refused").to_string();
        let file = refused(load_file("[server]\nlisen = \"x\"\n", &[]));
        assert!(file.contains("`server.lisen`") && file.contains("`server.listen`"), "{file}");
        let env = refused(load(&[("BLOCKCAST_AMQP__QUEUE__MOD", "queue")], &[]));
        assert!(
            env.contains("`amqp.queue.mode`") && env.contains("BLOCKCAST_AMQP__QUEUE__MOD"),
            "{env}"
        );
    }

    #[test]
    fn a_bad_value_is_refused_and_named() {
        for (key, value, told) in [
            ("server.max_connections", "many", "max_connections"),
            ("server.max_connections", "0", "max_connections"),
            ("amqp.prefetch", "70000", "prefetch"),
            ("amqp.uris", "", "amqp.uris"),
            ("amqp.uris", "http://x", "amqp://"),
            ("blocks.hold", "soon", "hold"),
            ("blocks.max_bytes", "2 GiB", "blocks.max_bytes"),
            ("blocks.max_bytes", "512 MiB", "below 512 MiB"),
            ("blocks.max_bytes", "300 MiB", "history.max_bytes"),
            ("amqp.queue.expires", "0s", "x-expires"),
            ("amqp.queue.expires", "50d", "x-expires"),
            ("history.deep_reads", "0", "history.deep_reads"),
            ("amqp.queue.max_age", "7 days", "max_age"),
            ("server.advertised_scheme", "http", "ws or wss"),
            ("server.tls.certificate", "server.pem", "server.tls.key"),
            ("server.tls.key", "server.key", "server.tls.key"),
            ("amqp.queue.mode", "steam", "mode"),
            ("server.listen", "node:9985", "localhost:PORT"),
            ("admin.listen", "9986", "localhost:PORT"),
            ("server.head_max_bytes", "4 KiB", "8 KiB to 1 MiB"),
            ("server.head_max_bytes", "2 MiB", "8 KiB to 1 MiB"),
            ("server.auth.jwt.algorithm", "HS256", "`server.auth.jwt.algorithm`"),
            ("server.auth.jwt.audience", "chain", "`server.auth.jwt.audience`"),
        ] {
            let message = load(&[], &[(key, value)]).expect_err(value).to_string();
            assert!(message.contains(told), "{key} = {value}: {message}");
        }
    }

    #[test]
    fn a_queue_that_could_jam_is_refused() {
        let flags = [("blocks.hold", "forever"), ("amqp.queue.mode", "queue")];
        let message = load(&[], &flags).expect_err("refused").to_string();
        assert!(message.contains("`blocks.hold`") && message.contains("use a stream"), "{message}");
        assert!(load(&[], &flags[..1]).is_ok());
        let flags = [("amqp.prefetch", "16"), ("amqp.queue.mode", "queue")];
        let message = load(&[], &flags).expect_err("refused").to_string();
        assert!(message.contains("`amqp.prefetch`"), "{message}");
    }

    #[test]
    fn the_brokers_own_arguments_may_have_any_key() {
        let file = "[amqp.queue.arguments]\nx-initial-cluster-size = 3\nx-queue-leader-locator = \"least-leaders\"\n";
        let arguments = load_file(file, &[]).expect("loads").amqp.queue.arguments;
        assert_eq!(arguments["x-initial-cluster-size"], super::super::Argument::Integer(3));
    }

    #[test]
    fn what_is_printed_loads_again() {
        let printed = Config::default().to_toml().replace("guest:***", "guest:guest");
        assert_eq!(load_file(&printed, &[]).expect("loads"), Config::default());
    }
}
