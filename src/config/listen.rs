//! Places to listen, in the forms that people write. Pure.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// `127.0.0.1:9985`, `[::1]:9985`, `localhost:9985`, `:9985`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listen {
    /// `[::]` is every address of both families.
    Address(SocketAddr),
    /// The loopback addresses of both families.
    Localhost(u16),
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "write :PORT for every address, localhost:PORT, or ADDRESS:PORT such as 192.0.2.7:9985 or \
     [2001:db8::7]:9985"
)]
pub struct NotAPlace;

impl Listen {
    /// Every address of this machine, IPv6 and IPv4.
    pub const fn everywhere(port: u16) -> Self {
        Self::Address(SocketAddr::new(std::net::IpAddr::V6(Ipv6Addr::UNSPECIFIED), port))
    }

    pub fn port(&self) -> u16 {
        match self {
            Self::Address(address) => address.port(),
            Self::Localhost(port) => *port,
        }
    }

    /// Where to bind, in this order. What stands behind the first may be missing on this machine.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        match self {
            Self::Address(address) => vec![*address],
            Self::Localhost(port) => vec![
                SocketAddr::from((Ipv4Addr::LOCALHOST, *port)),
                SocketAddr::from((Ipv6Addr::LOCALHOST, *port)),
            ],
        }
    }
}

impl From<SocketAddr> for Listen {
    fn from(address: SocketAddr) -> Self {
        Self::Address(address)
    }
}

impl FromStr for Listen {
    type Err = NotAPlace;

    fn from_str(text: &str) -> Result<Self, NotAPlace> {
        if let Ok(address) = text.parse() {
            return Ok(Self::Address(address));
        }
        let (host, port) = text.rsplit_once(':').ok_or(NotAPlace)?;
        let is_digits = port.bytes().all(|byte| byte.is_ascii_digit());
        let port = port.parse().ok().filter(|_| is_digits).ok_or(NotAPlace)?;
        match host.to_ascii_lowercase().as_str() {
            "" | "*" => Ok(Self::everywhere(port)),
            "localhost" => Ok(Self::Localhost(port)),
            _ => Err(NotAPlace),
        }
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Localhost(port) => write!(f, "localhost:{port}"),
        }
    }
}

impl Serialize for Listen {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Listen {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(|error: NotAPlace| D::Error::custom(format!("{text:?}: {error}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_forms_that_people_write_are_understood() {
        for (text, printed) in [
            ("127.0.0.1:9985", "127.0.0.1:9985"),
            ("0.0.0.0:9985", "0.0.0.0:9985"),
            ("[::]:9985", "[::]:9985"),
            ("[::1]:0", "[::1]:0"),
            (":9985", "[::]:9985"),
            ("*:9985", "[::]:9985"),
            ("localhost:9985", "localhost:9985"),
            ("LocalHost:0", "localhost:0"),
        ] {
            let listen: Listen = text.parse().expect(text);
            assert_eq!(listen.to_string(), printed, "{text}");
            assert_eq!(printed.parse(), Ok(listen), "what is printed is read again");
        }
    }

    #[test]
    fn what_is_no_place_is_refused_with_the_forms() {
        for text in [
            "",
            "9985",
            ":",
            ":x",
            ":+1",
            ":70000",
            "::1:9985",
            "host:9985",
            "localhost",
            "localhost:",
            "[localhost]:1",
            "127.0.0.1",
            "[::1]",
            "http://localhost:9985",
        ] {
            let error = text.parse::<Listen>().expect_err(text).to_string();
            assert!(error.contains("localhost:PORT"), "{error}");
        }
    }

    #[test]
    fn localhost_is_both_loopback_addresses() {
        let listen: Listen = "localhost:7".parse().expect("a place");
        let addresses: Vec<_> = listen.addresses().iter().map(ToString::to_string).collect();
        assert_eq!(addresses, ["127.0.0.1:7", "[::1]:7"]);
    }
}
