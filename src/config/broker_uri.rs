//! A broker's URI: what it says, what of it may be shown, and what is wrong with it. Pure.
//!
//! The grammar is RFC 3986 with RabbitMQ's URI specification on top. Where the two leave room, a URI
//! that can be read in two ways is refused: a password with a raw `/` would else be cut in two, and
//! its second half taken for a host's.

mod error;
mod parameter;
mod percent;

use std::fmt;
use std::net::Ipv6Addr;

use serde::{Deserialize, Serialize, Serializer};

pub use error::{UriDoubt, UriError};
pub use parameter::Mechanism;
use parameter::Parameters;
use percent::decoded;

const PORT: u16 = 5672;
const TLS_PORT: u16 = 5671;
/// Of RabbitMQ's management, plain and with TLS.
const HTTP_PORTS: [u16; 2] = [15672, 15671];
/// A short string of AMQP 0-9-1.
const VHOST_BYTES_MAX: usize = 255;
/// The user and the password that RabbitMQ has when it is new.
const GUEST: &str = "guest";

/// A broker's URI as it was written. Printed with its password masked. Any text is taken from a file:
/// what is wrong with it is told by [`AmqpUri::parse`], which does not quote it.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct AmqpUri(String);

/// What a URI says, with the defaults for what it leaves out. Printed without its credentials.
#[derive(Clone, PartialEq, Eq)]
pub struct BrokerUri {
    pub is_tls: bool,
    pub user: String,
    pub password: String,
    /// A name, or an address without brackets.
    pub host: String,
    pub port: u16,
    pub vhost: String,
    pub parameters: Parameters,
    pub doubts: Vec<UriDoubt>,
}

impl AmqpUri {
    pub fn new(uri: impl Into<String>) -> Self {
        Self(uri.into())
    }

    /// RabbitMQ on this machine with its stock user, who may only log in from here.
    pub fn local() -> Self {
        Self::new("amqp://guest:guest@127.0.0.1:5672/%2f")
    }

    /// The URI with its credentials. Never for a log, a metric or an answer.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// # Errors
    /// It is no URI of a broker, or can be read in two ways: it must be mended.
    pub fn parse(&self) -> Result<BrokerUri, UriError> {
        let (is_tls, rest) = scheme(&self.0)?;
        if rest.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Err(UriError::Space);
        }
        let (authority, behind) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        if behind.contains('@') || authority.matches('@').count() > 1 {
            return Err(UriError::Raw);
        }
        if behind.contains('#') {
            return Err(UriError::Fragment);
        }
        let (path, query) = behind.split_once('?').unwrap_or((behind, ""));
        let (credentials, place) = match authority.split_once('@') {
            Some((credentials, place)) => (Some(credentials), place),
            None => (None, authority),
        };
        let (user, password) = user_and_password(credentials)?;
        let (host, port) = host_and_port(place)?;
        let port = port.unwrap_or(if is_tls { TLS_PORT } else { PORT });
        let mut doubts = Vec::new();
        let vhost = vhost(path, &mut doubts)?;
        doubts.extend(doubt_of_port(is_tls, port));
        let parameters = Parameters::parse(query, &mut doubts)?;
        Ok(BrokerUri { is_tls, user, password, host, port, vhost, parameters, doubts })
    }
}

/// Whether a URI of a broker begins here.
pub(super) fn begins(text: &str) -> bool {
    scheme(text).is_ok()
}

/// Whether it is `amqps`, and what stands behind `://`.
fn scheme(text: &str) -> Result<(bool, &str), UriError> {
    let (scheme, rest) = text.split_once("://").ok_or(UriError::Scheme)?;
    match scheme.to_ascii_lowercase().as_str() {
        "amqp" => Ok((false, rest)),
        "amqps" => Ok((true, rest)),
        _ => Err(UriError::Scheme),
    }
}

fn user_and_password(credentials: Option<&str>) -> Result<(String, String), UriError> {
    let (user, password) = match credentials {
        Some(text) => {
            text.split_once(':').map_or((text, GUEST), |(user, password)| (user, password))
        }
        None => (GUEST, GUEST),
    };
    let user = decoded(user)?;
    // As other clients do, and Blockcast did before: only a name that is left out is the guest's.
    let user = if user.is_empty() { GUEST.into() } else { user };
    Ok((user.into_owned(), decoded(password)?.into_owned()))
}

fn host_and_port(place: &str) -> Result<(String, Option<u16>), UriError> {
    let (host, port) = match place.strip_prefix('[') {
        Some(rest) => {
            let (address, port) = rest.split_once(']').ok_or(UriError::Host)?;
            let port = match port.strip_prefix(':') {
                Some(port) => port,
                None if port.is_empty() => port,
                None => return Err(UriError::Host),
            };
            (ipv6(address)?, port)
        }
        None => {
            let (host, port) = place.split_once(':').unwrap_or((place, ""));
            if place.parse::<Ipv6Addr>().is_ok() {
                return Err(UriError::Brackets);
            }
            (name(host)?, port)
        }
    };
    let is_number = port.bytes().all(|byte| byte.is_ascii_digit());
    match port {
        "" => Ok((host, None)),
        port if is_number => match port.parse() {
            Ok(0) | Err(_) => Err(UriError::Port),
            Ok(port) => Ok((host, Some(port))),
        },
        _ => Err(UriError::Port),
    }
}

/// An address, which may have a zone (`fe80::1%25eth0`, RFC 6874).
fn ipv6(text: &str) -> Result<String, UriError> {
    let (address, zone) = text.split_once('%').unwrap_or((text, ""));
    address.parse::<Ipv6Addr>().map_err(|_| UriError::Host)?;
    let zone = zone.strip_prefix("25").unwrap_or(zone);
    match zone {
        "" => Ok(address.to_owned()),
        zone => Ok(format!("{address}%{}", name(zone)?)),
    }
}

fn name(text: &str) -> Result<String, UriError> {
    let name = decoded(text)?;
    if name.is_empty() {
        return Err(UriError::NoHost);
    }
    let is_name = name.chars().all(|c| c.is_alphanumeric() || ['-', '.', '_'].contains(&c));
    is_name.then(|| name.into_owned()).ok_or(UriError::Host)
}

fn vhost(path: &str, doubts: &mut Vec<UriDoubt>) -> Result<String, UriError> {
    let vhost = match path.strip_prefix('/') {
        None => "/".into(),
        Some("") => {
            doubts.push(UriDoubt::EmptyVhost);
            "/".into()
        }
        Some(name) => decoded(name)?,
    };
    match vhost.len() {
        ..=VHOST_BYTES_MAX => Ok(vhost.into_owned()),
        _ => Err(UriError::LongVhost),
    }
}

fn doubt_of_port(is_tls: bool, port: u16) -> Option<UriDoubt> {
    match (is_tls, port) {
        (false, TLS_PORT) => Some(UriDoubt::TlsPort),
        (true, PORT) => Some(UriDoubt::PlainPort),
        (_, port) if HTTP_PORTS.contains(&port) => Some(UriDoubt::HttpPort(port)),
        _ => None,
    }
}

impl fmt::Display for AmqpUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Ok((_, rest)) = scheme(&self.0) else { return f.write_str("***") };
        let scheme = &self.0[..self.0.len() - rest.len()];
        // Where a password that was not encoded ends, nobody can say.
        if self.parse().is_err() {
            return write!(f, "{scheme}***");
        }
        let shown = rest.split('?').next().unwrap_or("");
        match shown.split_once('@') {
            Some((credentials, place)) => {
                // Without a password behind it, a user may be a token.
                let (user, mark) = match credentials.split_once(':') {
                    Some((user, _)) => (user, ":"),
                    None => ("", ""),
                };
                write!(f, "{scheme}{user}{mark}***@{place}")
            }
            None => write!(f, "{scheme}{shown}"),
        }
    }
}

impl fmt::Debug for AmqpUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Debug for BrokerUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { is_tls, user: _, password: _, host, port, vhost, parameters, doubts } = self;
        let scheme = if *is_tls { "amqps" } else { "amqp" };
        write!(f, "{scheme}://***@{host}:{port} {vhost:?} {parameters:?} {doubts:?}")
    }
}

impl Serialize for AmqpUri {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests;
