//! What of a configuration is probably not meant, although it can be used. Told by `check` and at start.

use super::{Config, UriDoubt};

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Warning {
    /// The URI's number, from 1: it is not printed, since it holds a password.
    #[error("amqp.uris: number {number}: {doubt}")]
    Uri { number: usize, doubt: UriDoubt },
    #[error("`{key}` has no effect: no URI of amqp.uris begins with amqps://")]
    NoTls { key: &'static str },
}

impl Config {
    /// In the order of the keys; none is a reason not to start.
    pub fn warnings(&self) -> Vec<Warning> {
        let amqp = &self.amqp;
        let uris: Vec<_> = amqp.uris.iter().map(|uri| uri.parse().ok()).collect();
        let doubts = uris.iter().enumerate().flat_map(|(index, uri)| {
            let doubts = uri.iter().flat_map(|uri| uri.doubts.iter().cloned());
            doubts.map(move |doubt| Warning::Uri { number: index + 1, doubt })
        });
        let has_tls = uris.iter().flatten().any(|uri| uri.is_tls);
        let unused = [
            ("amqp.tls.ca", amqp.tls.ca.is_some()),
            ("amqp.tls.certificate", amqp.tls.certificate.is_some()),
            ("amqp.tls.server_name", amqp.tls.server_name.is_some()),
        ];
        let unused = unused.into_iter().filter(|(_, is_set)| *is_set && !has_tls);
        doubts.chain(unused.map(|(key, _)| Warning::NoTls { key })).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::AmqpUri;
    use super::*;

    #[test]
    fn what_is_not_meant_is_told_by_its_number_or_key() {
        assert_eq!(Config::default().warnings(), []);
        let mut config = Config::default();
        config.amqp.uris = ["amqp://a", "amqp://u:hunter@b/?depth=3"].map(AmqpUri::new).into();
        config.amqp.tls.server_name = Some("broker".into());
        let told: Vec<String> = config.warnings().iter().map(ToString::to_string).collect();
        assert_eq!(told.len(), 3, "{told:?}");
        assert!(told[0].starts_with("amqp.uris: number 2: it ends with a slash"), "{told:?}");
        assert!(
            told[1].contains("depth") && told[2].contains("`amqp.tls.server_name`"),
            "{told:?}"
        );
        assert!(!told.concat().contains("hunter"), "{told:?}");
    }
}
