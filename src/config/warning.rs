//! What of a configuration is probably not meant, although it can be used. Told by `check` and at start.

use bytesize::ByteSize;

use super::{Config, UriDoubt};

/// Bytes that a block of the shortest ids keeps for each byte of its body: 88 for the 11 of `{"id":"a"},`. A
/// body can be made to keep more (escapes, lists of assets without ids), but not by a chain's own ids.
const KEPT_FOR_BODY: u64 = 8;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Warning {
    /// The URI's number, from 1: it is not printed, since it holds a password.
    #[error("amqp.uris: number {number}: {doubt}")]
    Uri { number: usize, doubt: UriDoubt },
    #[error("`{key}` has no effect: no URI of amqp.uris begins with amqps://")]
    NoTls { key: &'static str },
    #[error(
        "`blocks.max_bytes`, {body_bytes_max}, allows blocks that keep more than half of `history.max_bytes`: \
         up to {KEPT_FOR_BODY} bytes for each of their own, if their ids are short. Such a block is bad input \
         (too_large). Set history.max_bytes to {history_bytes} or more, or blocks.max_bytes to \
         {body_bytes} or less, on all replicas"
    )]
    LargeBlocks { body_bytes_max: ByteSize, history_bytes: ByteSize, body_bytes: ByteSize },
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
        let unused = unused.map(|(key, _)| Warning::NoTls { key });
        doubts.chain(unused).chain(self.large_blocks()).collect()
    }

    fn large_blocks(&self) -> Option<Warning> {
        let (body_bytes_max, bytes_max) = (self.blocks.max_bytes, self.history.block_bytes_max());
        let body_bytes = bytes_max / KEPT_FOR_BODY;
        (body_bytes_max.as_u64() > body_bytes).then(|| Warning::LargeBlocks {
            body_bytes_max,
            history_bytes: body_bytes_max * (2 * KEPT_FOR_BODY),
            body_bytes: ByteSize::b(body_bytes),
        })
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

    #[test]
    fn blocks_that_may_keep_more_than_their_half_of_the_history_are_told_with_both_ways_out() {
        let mut config = Config::default();
        let told = |config: &Config| {
            config.warnings().iter().map(ToString::to_string).collect::<Vec<_>>().concat()
        };
        assert_eq!(told(&config), "", "the defaults are at the limit");
        config.history.max_bytes = ByteSize::mib(64);
        let (before, after) = (told(&config), "or blocks.max_bytes to 4.0 MiB or less");
        assert!(before.contains("history.max_bytes to 256.0 MiB or more"), "{before}");
        assert!(before.contains(after) && before.contains("on all replicas"), "{before}");
        config.blocks.max_bytes = ByteSize::mib(4);
        assert_eq!(told(&config), "");
        config.blocks.max_bytes = ByteSize::b((4 << 20) + 1);
        assert_ne!(told(&config), "");
    }
}
