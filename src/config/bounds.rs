//! Values that parse and cannot be meant: outside their bounds, or against one another.

use std::time::Duration;

use rustls_pki_types::ServerName;

use super::error::ConfigError;
use super::{Config, Hold, Jwt, JwtAlgorithm, QUEUE_UNACKED_MAX, QueueMode, names};
use crate::secret;

/// Blocks of doubtful height that the sequencer keeps, hence unacked deliveries of a queue.
const CANDIDATES_MAX: u16 = 16;
/// RFC 7519 section 4.1.4: usually no more than a few minutes.
const JWT_LEEWAY_MAX: Duration = Duration::from_secs(10 * 60);
/// Of a stream's segment, RabbitMQ's own bound.
const SEGMENT_BYTES_MAX: u64 = 3_000_000_000;
/// A request's head: hyper's least, and what 1,024 connections may keep of it.
const HEAD_BYTES: std::ops::RangeInclusive<u64> = 8 << 10..=1 << 20;

impl Config {
    /// In the order in which faults are told: the first ends it.
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        self.check_amqp()?;
        self.check_queue()?;
        self.check_blocks()?;
        self.check_server()?;
        self.check_jwt()?;
        self.check_advertised()
    }

    fn check_amqp(&self) -> Result<(), ConfigError> {
        let (amqp, server) = (&self.amqp, &self.server);
        if amqp.uris.is_empty() {
            return refuse("amqp.uris", &"empty", "name at least one broker");
        }
        for (index, uri) in amqp.uris.iter().enumerate() {
            let place = || format!("`amqp.uris`, number {}", index + 1);
            uri.parse().map_err(|source| ConfigError::Uri { place: place(), source })?;
        }
        names::check(self)?;
        if let Some(name) = &amqp.tls.server_name
            && ServerName::try_from(name.as_str()).is_err()
        {
            return refuse(
                "amqp.tls.server_name",
                &format_args!("{name:?}"),
                "no name that a certificate can have: write a host's name, such as broker.example, or an address",
            );
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
        Ok(())
    }

    fn check_queue(&self) -> Result<(), ConfigError> {
        let (amqp, blocks) = (&self.amqp, &self.blocks);
        if !is_max_age(&amqp.queue.max_age) {
            return refuse(
                "amqp.queue.max_age",
                &amqp.queue.max_age,
                "write a number and one of Y, M, D, h, m, s, such as 7D",
            );
        }
        if amqp.queue.mode == QueueMode::Stream
            && amqp.declare
            && amqp.queue.segment_bytes.as_u64() > SEGMENT_BYTES_MAX
        {
            return refuse(
                "amqp.queue.segment_bytes",
                &amqp.queue.segment_bytes,
                "RabbitMQ takes at most 3 GB",
            );
        }
        if !(1..1 << 32).contains(&amqp.queue.expires.as_millis()) {
            return refuse(
                "amqp.queue.expires",
                &humantime::format_duration(amqp.queue.expires),
                "RabbitMQ's x-expires is at least 1ms and below 2^32 ms: at most 49d",
            );
        }
        if amqp.queue.mode == QueueMode::Queue
            && !matches!(blocks.hold, Hold::For(time) if time <= QUEUE_UNACKED_MAX)
        {
            return refuse(
                "blocks.hold",
                &format_args!("{} with amqp.queue.mode = \"queue\"", blocks.hold),
                "a held block is not acked, and RabbitMQ closes the channel of an unacked delivery \
                 after its consumer_timeout, 30 minutes. Set at most 10m, or use a stream",
            );
        }
        Ok(())
    }

    fn check_blocks(&self) -> Result<(), ConfigError> {
        let blocks = &self.blocks;
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
        if self.history.encodings_max_bytes.as_u64() == 0 {
            return refuse(
                "history.encodings_max_bytes",
                &self.history.encodings_max_bytes,
                "encodings would be made for one block at a time, and again for each client",
            );
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
        Ok(())
    }

    fn check_server(&self) -> Result<(), ConfigError> {
        let (amqp, server) = (&self.amqp, &self.server);
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
            ("amqp.quiet_after", amqp.quiet_after),
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
        Ok(())
    }

    fn check_jwt(&self) -> Result<(), ConfigError> {
        let jwt = &self.server.auth.jwt;
        if jwt.leeway > JWT_LEEWAY_MAX {
            return refuse(
                "server.auth.jwt.leeway",
                &humantime::format_duration(jwt.leeway),
                "at most 10m: for so long a token lets in behind its end",
            );
        }
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
            if jwt.leeway != Jwt::default().leeway {
                let leeway = humantime::format_duration(jwt.leeway);
                return refuse("server.auth.jwt.leeway", &leeway, WAY_OUT);
            }
        }
        Ok(())
    }

    fn check_advertised(&self) -> Result<(), ConfigError> {
        if let Some(scheme) = &self.server.advertised_scheme
            && !["ws", "wss"].contains(&scheme.as_str())
        {
            return refuse("server.advertised_scheme", scheme, "ws or wss");
        }
        Ok(())
    }
}

fn refuse(
    key: &'static str,
    value: &dyn std::fmt::Display,
    way_out: &'static str,
) -> Result<(), ConfigError> {
    let value = secret::masked(&value.to_string());
    Err(ConfigError::OutOfBounds { key, value, way_out })
}

fn is_max_age(text: &str) -> bool {
    let digits = text.trim_end_matches(['Y', 'M', 'D', 'h', 'm', 's']);
    text.len() == digits.len() + 1 && digits.parse::<u32>().is_ok_and(|number| number > 0)
}
