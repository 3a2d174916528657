//! Names that go to the broker, and from there into its answers, the log and metrics' readers. Pure.

use super::Config;
use super::error::ConfigError;
use crate::secret;

/// A short string of AMQP 0-9-1 (section 4.2.5.3): what names of exchanges, queues, bindings and arguments
/// are sent as.
const NAME_BYTES_MAX: usize = 255;
/// AMQP 0-9-1 keeps it for the broker's own names.
const RESERVED: &str = "amq.";

const ARGUMENTS: &str = "amqp.queue.arguments";
const QUEUE: &str = "amqp.queue.name";
const DEAD_LETTERS: &str = "amqp.dead_letter.exchange";

/// # Errors
/// A name that no broker takes, or one that is no name but an address with a password: it would be shown
/// wherever the name is.
pub(super) fn check(config: &Config) -> Result<(), ConfigError> {
    let (amqp, queue) = (&config.amqp, config.amqp.queue.resolved_name());
    let bindings = amqp.binding_keys.iter().map(|key| ("amqp.binding_keys", key.as_str()));
    let arguments = amqp.queue.arguments.keys().map(|name| (ARGUMENTS, name.as_str()));
    let dead_letters = amqp.dead_letter.exchange.as_deref().map(|name| (DEAD_LETTERS, name));
    let names: Vec<(&str, &str)> = [("amqp.exchange", amqp.exchange.as_str()), (QUEUE, &queue)]
        .into_iter()
        .chain(bindings)
        .chain(dead_letters)
        .chain(arguments)
        .collect();
    let values = amqp.queue.arguments.values().filter_map(|value| Some((ARGUMENTS, value.text()?)));
    let host = config.server.advertised_host.as_deref();
    let host = host.map(|host| ("server.advertised_host", host));
    for (key, text) in names.iter().copied().chain(values).chain(host) {
        if secret::is_likely(text) {
            let value = "what looks like an address with a password".to_owned();
            let way_out = "a name belongs there, which is shown in many places; brokers' addresses go into amqp.uris";
            return Err(ConfigError::OutOfBounds { key, value, way_out });
        }
    }
    for (key, name) in names {
        let refuse = |value, way_out| Err(ConfigError::OutOfBounds { key, value, way_out });
        if name.len() > NAME_BYTES_MAX {
            let value = format!("{} bytes long", name.len());
            return refuse(value, "a name that is sent to a broker has at most 255");
        }
        if !amqp.declare {
            continue;
        }
        if key == "amqp.exchange" && name.is_empty() {
            return refuse("empty".to_owned(), "nothing can be bound to the default exchange");
        }
        if [QUEUE, DEAD_LETTERS].contains(&key) && name.starts_with(RESERVED) {
            let way_out = "names of queues that begin with amq. are the broker's own";
            return refuse(format!("{name:?}"), way_out);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::Argument;
    use super::*;

    type Put = fn(&mut Config, String);

    /// A configuration with `text` in the place of each name.
    fn misplaced(text: &str) -> Vec<(&'static str, Config)> {
        let places: [(&'static str, Put); 5] = [
            ("`amqp.exchange`", |config, text| config.amqp.exchange = text),
            ("`amqp.queue.name`", |config, text| config.amqp.queue.name = Some(text)),
            ("`amqp.binding_keys`", |config, text| config.amqp.binding_keys.push(text)),
            ("`amqp.dead_letter.exchange`", |config, text| {
                config.amqp.dead_letter.exchange = Some(text);
            }),
            ("`amqp.queue.arguments`", |config, text| {
                config.amqp.queue.arguments.insert(text, Argument::Integer(1));
            }),
        ];
        let with = |(key, put): (&'static str, Put)| {
            let mut config = Config::default();
            put(&mut config, text.to_owned());
            (key, config)
        };
        places.map(with).into()
    }

    #[test]
    fn an_address_with_a_password_is_no_name() {
        for text in ["amqp://u:hunter@host", "u:hunter@host", "http://h/?access_token=hunter"] {
            let mut all = misplaced(text);
            let mut config = Config::default();
            config.server.advertised_host = Some(text.to_owned());
            all.push(("`server.advertised_host`", config));
            let mut config = Config::default();
            let argument = Argument::Text(text.to_owned());
            config.amqp.queue.arguments.insert("x-other".to_owned(), argument);
            all.push(("`amqp.queue.arguments`", config));
            for (key, config) in all {
                let error = check(&config).expect_err(key).to_string();
                assert!(error.contains(key) && !error.contains("hunter"), "{error}");
            }
        }
    }

    #[test]
    fn a_name_is_as_long_as_a_broker_takes_it() {
        let longest = "ü".repeat(127) + "x";
        for (_, config) in misplaced(&longest) {
            check(&config).expect("taken");
        }
        for (key, config) in misplaced(&format!("{longest}x")) {
            let error = check(&config).expect_err(key).to_string();
            assert!(error.contains(key) && error.contains("256 bytes long"), "{error}");
        }
    }

    #[test]
    fn names_of_others_are_taken_and_the_brokers_own_are_not() {
        for name in ["urn:chain/blocks", "blocks@prod", "http://chain.example/blocks", "block.#"] {
            for (key, config) in misplaced(name) {
                check(&config).unwrap_or_else(|error| panic!("{key}: {error}"));
            }
        }
        for (set, told) in [
            ((|config| config.amqp.exchange.clear()) as fn(&mut Config), "default exchange"),
            (|config| config.amqp.queue.name = Some("amq.blocks".into()), "the broker's own"),
            (|config| config.amqp.dead_letter.exchange = Some("amq.x".into()), "broker's own"),
        ] {
            let mut config = Config::default();
            set(&mut config);
            let error = check(&config).expect_err(told).to_string();
            assert!(error.contains(told), "{error}");
            config.amqp.declare = false;
            check(&config).expect("nothing is declared");
        }
    }
}
