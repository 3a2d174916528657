//! What the environment and the command line say: which names are ours, and what form a value has that
//! arrives as text. Pure.

use config::{Value, ValueKind};

use super::broker_uri;
use super::keys::{ARGUMENTS, Keys, Kind, Layers, Rank};

/// Only names with this prefix and a `__` further on are ours: Kubernetes injects others.
const PREFIX: &str = "BLOCKCAST_";
/// BigchainDB's own names for what our `server.advertised_*` say.
const BIGCHAINDB_NAMES: [(&str, &str); 3] = [
    ("BIGCHAINDB_WSSERVER_ADVERTISED_SCHEME", "server.advertised_scheme"),
    ("BIGCHAINDB_WSSERVER_ADVERTISED_HOST", "server.advertised_host"),
    ("BIGCHAINDB_WSSERVER_ADVERTISED_PORT", "server.advertised_port"),
];
const PROTOCOLS: [&str; 3] = ["TCP", "UDP", "SCTP"];

/// One key that is set over the file's.
#[derive(PartialEq)]
pub(super) struct Override {
    pub key: String,
    pub text: String,
    /// Where it stands, for a message.
    pub place: String,
    pub rank: Rank,
}

/// All of them, the later over the earlier. Of the environment, an empty value is as none: a variable
/// that is not set is often passed on so.
pub(super) fn overrides(layers: &Layers, known: &Keys) -> Vec<Override> {
    let ours = |name: &str, key: String, value: &str| {
        let text = value.trim();
        let is_ours = !text.is_empty() && !is_kubernetes(name, text, known.contains_key(&key));
        let place = format!("the environment ({name})");
        is_ours.then(|| Override { key, text: text.to_owned(), place, rank: Rank::Environment })
    };
    let mut found = Vec::new();
    for (name, key) in BIGCHAINDB_NAMES {
        let set = layers.environment.iter().find(|(set, _)| set == name);
        found.extend(set.and_then(|(_, value)| ours(name, key.to_owned(), value)));
    }
    for (name, value) in &layers.environment {
        if let Some(rest) = name.strip_prefix(PREFIX).filter(|rest| rest.contains("__")) {
            found.extend(ours(name, key(rest), value));
        }
    }
    found.extend(layers.flags.iter().map(|(key, value)| Override {
        key: key.clone(),
        text: value.clone(),
        place: "the command line".to_owned(),
        rank: Rank::Flags,
    }));
    found
}

impl Override {
    /// Its value in the form that its key has.
    pub fn value(&self, known: &Keys) -> Value {
        let kind = match known.get(&self.key) {
            Some(Kind::List) => list(&self.key, &self.text, &self.place),
            _ if self.is_argument() => argument(&self.text),
            _ => ValueKind::String(self.text.clone()),
        };
        Value::new(Some(&self.place), kind)
    }

    fn is_argument(&self) -> bool {
        self.key.strip_prefix(ARGUMENTS).is_some_and(|rest| rest.starts_with('.'))
    }
}

/// `AMQP__QUEUE__MODE` is `amqp.queue.mode`. A shell exports no name with a dash in it, so that in
/// the names of the broker's arguments, which all have one, underscores are dashes.
fn key(rest: &str) -> String {
    let key = rest.to_ascii_lowercase().replace("__", ".");
    match key.strip_prefix(ARGUMENTS).and_then(|name| name.strip_prefix(".x_")) {
        Some(name) => format!("{ARGUMENTS}.x-{}", name.replace('_', "-")),
        None => key,
    }
}

/// Whether Kubernetes (and Docker's links) sets such a variable for a service whose name happens to
/// begin as ours do: `blockcast-amqp--uris` yields `BLOCKCAST_AMQP__URIS_PORT_5672_TCP`.
fn is_kubernetes(name: &str, value: &str, is_known: bool) -> bool {
    // All that can also be a key of ours, `server.advertised_port`; ours is a number.
    let is_address = || {
        let scheme = value.split_once("://").map(|(scheme, _)| scheme.to_ascii_uppercase());
        scheme.is_some_and(|scheme| PROTOCOLS.contains(&scheme.as_str()))
    };
    if name.ends_with("_PORT") && is_address() {
        return true;
    }
    !is_known
        && (name.ends_with("_SERVICE_HOST")
            || name.ends_with("_SERVICE_PORT")
            || name.contains("_SERVICE_PORT_")
            || is_port_variable(name))
}

/// `..._PORT_5672_TCP`, alone or with `_PROTO`, `_PORT` or `_ADDR`.
fn is_port_variable(name: &str) -> bool {
    let words: Vec<&str> = name.split('_').collect();
    let end = match words.last() {
        Some(&("PROTO" | "PORT" | "ADDR")) => words.len() - 1,
        _ => words.len(),
    };
    match &words[..end] {
        [.., "PORT", number, protocol] => {
            number.parse::<u16>().is_ok() && PROTOCOLS.contains(protocol)
        }
        _ => false,
    }
}

fn list(key: &str, text: &str, place: &String) -> ValueKind {
    let items = match key {
        "amqp.uris" => uris(text),
        _ => text.split(',').map(str::to_owned).collect(),
    };
    let items = items.iter().map(|item| item.trim()).filter(|item| !item.is_empty());
    let items = items.map(|item| Value::new(Some(place), ValueKind::String(item.to_owned())));
    ValueKind::Array(items.collect())
}

/// Splits only where another URI begins: a password may have a comma.
fn uris(text: &str) -> Vec<String> {
    let mut uris: Vec<String> = Vec::new();
    for piece in text.split(',') {
        match uris.last_mut() {
            Some(uri) if !broker_uri::begins(piece.trim_start()) => {
                uri.push(',');
                uri.push_str(piece);
            }
            _ => uris.push(piece.to_owned()),
        }
    }
    let ended = |uri: String| uri.trim_end_matches([',', ' ', '\t', '\r', '\n']).to_owned();
    uris.into_iter().map(ended).collect()
}

/// RabbitMQ takes no text for a number; in quotation marks a number stays a text.
fn argument(text: &str) -> ValueKind {
    match (text.parse::<i64>(), text) {
        (Ok(number), _) => ValueKind::I64(number),
        (_, "true") => ValueKind::Boolean(true),
        (_, "false") => ValueKind::Boolean(false),
        (_, text) => {
            let quoted = text.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
            ValueKind::String(quoted.unwrap_or(text).to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Argument, Config};
    use super::*;

    fn load(environment: &[(&str, &str)]) -> Result<Config, String> {
        let owned = |(name, value): &(&str, &str)| (name.to_string(), value.to_string());
        let environment = environment.iter().map(owned).collect();
        Config::load(&Layers { environment, ..Layers::default() })
            .map_err(|error| error.to_string())
    }

    fn uris(text: &str) -> Vec<String> {
        let config = load(&[("BLOCKCAST_AMQP__URIS", text)]).expect(text);
        config.amqp.uris.iter().map(|uri| uri.expose().to_owned()).collect()
    }

    #[test]
    fn uris_are_separated_by_commas_that_another_follows() {
        assert_eq!(uris("amqp://a, amqps://b"), ["amqp://a", "amqps://b"]);
        assert_eq!(uris("amqp://a,AMQP://b,"), ["amqp://a", "AMQP://b"]);
        assert_eq!(uris(" amqp://a\n"), ["amqp://a"]);
        let one = "amqp://u:pa,ss@host:5672/%2f";
        assert_eq!(uris(one), [one]);
        assert_eq!(uris(&format!("{one},amqp://u:,@b/,{one}")), [one, "amqp://u:,@b/", one]);
    }

    #[test]
    fn names_of_others_are_passed_over_and_typing_errors_are_not() {
        for (name, value) in [
            ("BLOCKCAST_PORT_9985_TCP", "tcp://10.0.0.1:9985"),
            ("PATH", "/bin"),
            ("BLOCKCAST__X_SERVICE_HOST", "10.0.0.1"),
            ("BLOCKCAST__X_SERVICE_PORT", "5672"),
            ("BLOCKCAST__X_SERVICE_PORT_AMQP", "5672"),
            ("BLOCKCAST__X_SERVICE_PORT_HTTP_METRICS", "5672"),
            ("BLOCKCAST__X_PORT", "tcp://10.0.0.1:5672"),
            ("BLOCKCAST_AMQP__URIS_PORT_5672_TCP", "tcp://10.0.0.1:5672"),
            ("BLOCKCAST_AMQP__URIS_PORT_5672_TCP_PROTO", "tcp"),
            ("BLOCKCAST_AMQP__URIS_PORT_5672_TCP_PORT", "5672"),
            ("BLOCKCAST_AMQP__URIS_PORT_53_UDP_ADDR", "10.0.0.1"),
            ("BLOCKCAST_AMQP__URIS_PORT_53_SCTP", "sctp://[fd00::1]:53"),
            ("BLOCKCAST_SERVER__ADVERTISED_PORT", "tcp://10.0.0.1:80"),
            ("BIGCHAINDB_WSSERVER_ADVERTISED_PORT", "tcp://10.0.0.1:80"),
        ] {
            assert_eq!(load(&[(name, value)]), Ok(Config::default()), "{name}={value}");
        }
        for (name, value) in [
            ("BLOCKCAST_SERVER__ADVERTISE_PORT", "443"),
            ("BLOCKCAST_AMQP__URIS_PORT_MANY_TCP", "5672"),
            ("BLOCKCAST_AMQP__SERVICE", "10.0.0.1"),
        ] {
            let error = load(&[(name, value)]).expect_err(name);
            assert!(error.contains("unknown key") && error.contains(name), "{error}");
        }
        let config = load(&[("BLOCKCAST_SERVER__ADVERTISED_PORT", "443")]).expect("loads");
        assert_eq!(config.server.advertised_port, Some(443));
    }

    #[test]
    fn an_empty_value_is_as_not_set() {
        let empty = [
            ("BLOCKCAST_AMQP__URIS", ""),
            ("BLOCKCAST_SERVER__MAX_CONNECTIONS", " "),
            ("BLOCKCAST_AMQP__DEAD_LETTER__EXCHANGE", ""),
            ("BLOCKCAST_SERVER__LISTEN", "\n"),
            ("BIGCHAINDB_WSSERVER_ADVERTISED_HOST", ""),
            ("BLOCKCAST_NO__KEY", ""),
        ];
        assert_eq!(load(&empty), Ok(Config::default()));
    }

    #[test]
    fn the_brokers_arguments_arrive_in_their_types() {
        let config = load(&[
            ("BLOCKCAST_AMQP__QUEUE__ARGUMENTS__X_MAX_LENGTH", "1000"),
            ("BLOCKCAST_AMQP__QUEUE__ARGUMENTS__X-INITIAL-CLUSTER-SIZE", "3"),
            ("BLOCKCAST_AMQP__QUEUE__ARGUMENTS__X_SINGLE_ACTIVE_CONSUMER", "true"),
            ("BLOCKCAST_AMQP__QUEUE__ARGUMENTS__X_QUEUE_LEADER_LOCATOR", "balanced"),
            ("BLOCKCAST_AMQP__QUEUE__ARGUMENTS__X_OVERFLOW", "\"7\""),
            ("BLOCKCAST_AMQP__QUEUE__ARGUMENTS__MY_OWN", "-1"),
        ]);
        let arguments = config.expect("loads").amqp.queue.arguments;
        let expected = [
            ("my_own", Argument::Integer(-1)),
            ("x-initial-cluster-size", Argument::Integer(3)),
            ("x-max-length", Argument::Integer(1000)),
            ("x-overflow", Argument::Text("7".into())),
            ("x-queue-leader-locator", Argument::Text("balanced".into())),
            ("x-single-active-consumer", Argument::Boolean(true)),
        ];
        let expected = expected.map(|(name, value)| (name.to_owned(), value));
        assert_eq!(arguments, expected.into_iter().collect());
    }

    #[test]
    fn a_list_that_cuts_an_address_shows_no_piece_of_it() {
        for value in ["https://u:a,hunter,b@c", "https://u:hunter,x", "https://u,hunter@c"] {
            for key in ["ALLOWED_ORIGINS", "TRUSTED_PROXIES"] {
                let name = format!("BLOCKCAST_SERVER__{key}");
                let error = load(&[(&name, value)]).expect_err(value);
                assert!(error.contains(&key.to_ascii_lowercase()), "{error}");
                assert!(!error.contains("hunter"), "{error}");
            }
        }
    }

    #[test]
    fn bigchaindb_names_are_understood_and_ours_win() {
        let mut env = vec![("BIGCHAINDB_WSSERVER_ADVERTISED_PORT", "443")];
        assert_eq!(load(&env).expect("loads").server.advertised_port, Some(443));
        env.push(("BLOCKCAST_SERVER__ADVERTISED_PORT", "444"));
        assert_eq!(load(&env).expect("loads").server.advertised_port, Some(444));
    }
}
