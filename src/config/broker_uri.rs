//! A broker's URI: what it says, what of it may be shown, and what is wrong with it. Pure.
//!
//! The grammar is RFC 3986 with RabbitMQ's URI specification on top. Where the two leave room, a URI
//! that can be read in two ways is refused: a password with a raw `/` would else be cut in two, and
//! its second half taken for a host's.

mod parameter;

use std::borrow::Cow;
use std::fmt;
use std::net::Ipv6Addr;

use percent_encoding::percent_decode_str;
use serde::{Deserialize, Serialize, Serializer};

pub use parameter::Mechanism;
use parameter::Parameters;

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

/// Why a text is no URI of a broker. Holds nothing of the text but a parameter's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UriError {
    #[error("a broker's URI begins with amqp:// or amqps://")]
    Scheme,
    #[error(
        "a user or a password with one of / ? # @ must be percent-encoded: / is %2F, ? is %3F, # is %23, @ is %40"
    )]
    Raw,
    #[error("a # must be written %23")]
    Fragment,
    #[error("a % that means itself must be written %25")]
    Percent,
    #[error("white space must be written %20")]
    Space,
    #[error("it is not UTF-8 with its percent-encoded bytes decoded")]
    NotUtf8,
    #[error("%00 cannot be sent to a broker")]
    Nul,
    #[error("it names no host: amqp://USER:PASSWORD@HOST:PORT/VHOST")]
    NoHost,
    #[error(
        "its host is no name and no address (commas separate whole URIs, each with its amqp:// or amqps://)"
    )]
    Host,
    #[error("an IPv6 address stands in brackets: amqp://[::1]:5672")]
    Brackets,
    #[error("its port is no number from 1 to 65535")]
    Port,
    #[error("its vhost is longer than 255 bytes")]
    LongVhost,
    #[error("its parameter {name} is not {wanted}")]
    Parameter { name: &'static str, wanted: &'static str },
    #[error("its parameter {name} stands there twice")]
    Repeated { name: &'static str },
}

/// What a URI says that is probably not meant, although it can be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UriDoubt {
    #[error(
        "it ends with a slash, which names the vhost with the empty name; the vhost \"/\" is used: leave the slash out or write /%2f"
    )]
    EmptyVhost,
    #[error("port 5671 is that of AMQP over TLS: write amqps://")]
    TlsPort,
    #[error("port 5672 is that of AMQP without TLS: write amqp://, or port 5671")]
    PlainPort,
    #[error(
        "port {0} is that of RabbitMQ's management, which is no AMQP port: 5672, or 5671 with amqps://"
    )]
    HttpPort(u16),
    #[error("its parameter {name} has no effect: {way_out}")]
    Parameter { name: String, way_out: &'static str },
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

/// Every `%` begins two hex digits, unlike what the decoder itself takes.
fn decoded(text: &str) -> Result<Cow<'_, str>, UriError> {
    let is_escape = |rest: &str| {
        let digits = rest.as_bytes().get(..2);
        digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    };
    if text.split('%').skip(1).any(|rest| !is_escape(rest)) {
        return Err(UriError::Percent);
    }
    let decoded = percent_decode_str(text).decode_utf8().map_err(|_| UriError::NotUtf8)?;
    match decoded.contains('\0') {
        true => Err(UriError::Nul),
        // What a source that is not UTF-8 leaves in a text.
        false if decoded.contains(char::REPLACEMENT_CHARACTER) => Err(UriError::NotUtf8),
        false => Ok(decoded),
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
