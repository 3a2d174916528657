//! The parameters of a broker's URI: those that are honoured, and what to use instead of the others.

use super::error::{UriDoubt, UriError};
use super::percent::decoded;
use crate::secret;

/// AMQP 0-9-1 section 4.2.3: no frame limit below it may be agreed on.
const FRAME_BYTES_MIN: u32 = 4096;
/// What other clients and RabbitMQ's own plugins know, and where that is said here.
const ELSEWHERE: [(&str, &str); 13] = [
    ("cacertfile", "use the key amqp.tls.ca"),
    ("certfile", "use the key amqp.tls.certificate"),
    ("keyfile", "use the key amqp.tls.key"),
    ("password", "the file of amqp.tls.key must not be encrypted"),
    ("server_name_indication", "use the key amqp.tls.server_name"),
    (
        "verify",
        "a broker's certificate is always verified; amqp.tls.ca says by what, amqp.tls.server_name for which name",
    ),
    ("fail_if_no_peer_cert", "it is the server's; a broker's certificate is always verified"),
    ("depth", "chains are verified up to an authority of amqp.tls.ca, or of the system"),
    ("ssl_options", "use the keys amqp.tls.ca, amqp.tls.certificate, amqp.tls.key"),
    ("connection_timeout", "connecting may take 5 s for each address"),
    ("connect_timeout", "connecting may take 5 s for each address"),
    ("socket_timeout", "connecting may take 5 s for each address; then heartbeats count"),
    ("name", "the connection is named after this program and its host"),
];
/// How other libraries write the parameters that are honoured.
const NEARLY: [(&str, &str); 6] = [
    ("heartbeat_interval", "write heartbeat"),
    ("frameMax", "write frame_max"),
    ("channelMax", "write channel_max"),
    ("max_frame", "write frame_max"),
    ("authMechanism", "write auth_mechanism"),
    ("login_method", "write auth_mechanism"),
];
const HONOURED: &str = "honoured are heartbeat, channel_max, frame_max and auth_mechanism";

/// What a URI asks of its connection. None: the default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Parameters {
    pub heartbeat_seconds: Option<u16>,
    pub channels_max: Option<u16>,
    pub frame_bytes_max: Option<u32>,
    pub mechanism: Option<Mechanism>,
}

/// How the broker is told who connects (SASL).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mechanism {
    Plain,
    Amqplain,
    External,
    Anonymous,
    /// RabbitMQ's demonstration of a challenge.
    RabbitCrDemo,
}

impl Parameters {
    /// Reads what stands behind the `?`. What has no effect becomes a doubt.
    pub(super) fn parse(query: &str, doubts: &mut Vec<UriDoubt>) -> Result<Self, UriError> {
        let mut parameters = Self::default();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (name, value) = (decoded(name)?, decoded(value)?);
            match name.as_ref() {
                "heartbeat" => {
                    set(&mut parameters.heartbeat_seconds, "heartbeat", value.parse().ok())?
                }
                "channel_max" => {
                    set(&mut parameters.channels_max, "channel_max", value.parse().ok())?
                }
                "frame_max" => {
                    let bytes = value.parse().ok();
                    let bytes = bytes.filter(|bytes| *bytes == 0 || *bytes >= FRAME_BYTES_MIN);
                    set(&mut parameters.frame_bytes_max, "frame_max", bytes)?;
                }
                "auth_mechanism" => {
                    set(&mut parameters.mechanism, "auth_mechanism", Mechanism::named(&value))?;
                }
                // That is what is done.
                "verify" if value == "verify_peer" => {}
                name => doubts.push(doubt(name, &value)),
            }
        }
        Ok(parameters)
    }
}

fn set<T>(place: &mut Option<T>, name: &'static str, value: Option<T>) -> Result<(), UriError> {
    let wanted = match name {
        "heartbeat" => "a number of seconds from 0 to 65535",
        "channel_max" => "a number from 0 to 65535",
        "frame_max" => "a number of bytes, 0 or from 4096 on",
        _ => "plain, amqplain, external or anonymous",
    };
    let value = value.ok_or(UriError::Parameter { name, wanted })?;
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(UriError::Repeated { name }),
    }
}

fn doubt(name: &str, value: &str) -> UriDoubt {
    let known = ELSEWHERE.iter().chain(&NEARLY).find(|(known, _)| *known == name);
    let shown = known.map(|(known, _)| *known).or(secret::parameter_name(name, value));
    UriDoubt::Parameter {
        name: shown.unwrap_or("***").to_owned(),
        way_out: known.map_or(HONOURED, |(_, way_out)| way_out),
    }
}

impl Mechanism {
    fn named(name: &str) -> Option<Self> {
        match name.to_ascii_lowercase().as_str() {
            "plain" => Some(Self::Plain),
            "amqplain" => Some(Self::Amqplain),
            "external" => Some(Self::External),
            "anonymous" => Some(Self::Anonymous),
            "rabbit-cr-demo" => Some(Self::RabbitCrDemo),
            _ => None,
        }
    }
}
