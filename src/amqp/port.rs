//! What a port speaks that is no broker's: asked once there, so that an error names what to write.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// A port that speaks something answers this at once.
const ANSWER: Duration = Duration::from_secs(1);
/// An HTTP server answers it, a broker says its own protocol's name, one with TLS an alert.
const QUESTION: &[u8] = b"GET / HTTP/1.0\r\n\r\n";
/// RFC 8446 section 5.1: an alert, or a handshake message, of any version.
const TLS_RECORDS: [u8; 2] = [21, 22];

/// What answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpokenProtocol {
    Amqp,
    Tls,
    Http,
}

impl SpokenProtocol {
    /// What to write instead in the URI; none where that is not at fault.
    pub fn hint(self, is_tls: bool) -> Option<&'static str> {
        match (self, is_tls) {
            (Self::Tls, false) => Some("this port speaks TLS: write amqps:// in amqp.uris"),
            (Self::Amqp, true) => {
                Some("this port speaks AMQP without TLS: write amqp:// in amqp.uris")
            }
            (Self::Http, _) => Some(
                "this port speaks HTTP and is no AMQP port: RabbitMQ's is 5672, with TLS 5671; 15672 is its management",
            ),
            (Self::Tls, true) | (Self::Amqp, false) => None,
        }
    }

    fn of(answer: &[u8]) -> Option<Self> {
        match answer {
            [b'H', b'T', b'T', b'P', ..] => Some(Self::Http),
            [b'A', b'M', b'Q', b'P', ..] => Some(Self::Amqp),
            [record, 3, _, _, ..] if TLS_RECORDS.contains(record) => Some(Self::Tls),
            _ => None,
        }
    }
}

/// Whether a failure to connect may come of a port that is no broker's: somebody was there, and gave
/// no reason of AMQP's.
pub fn may_be_another(error: &lapin::Error) -> bool {
    let nobody_there = [
        io::ErrorKind::ConnectionRefused,
        io::ErrorKind::HostUnreachable,
        io::ErrorKind::NetworkUnreachable,
        io::ErrorKind::AddrNotAvailable,
        io::ErrorKind::TimedOut,
    ];
    match error.kind() {
        lapin::ErrorKind::ProtocolError(_) => false,
        lapin::ErrorKind::IOError(error) => !nobody_there.contains(&error.kind()),
        _ => true,
    }
}

/// Asks on a connection of its own, within a second. None: nothing that is known.
///
/// # Cancel safety
/// Dropped, the connection is closed.
pub async fn spoken(address: SocketAddr) -> Option<SpokenProtocol> {
    let asking = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(QUESTION).await?;
        let mut answer = [0; 4];
        stream.read_exact(&mut answer).await?;
        Ok::<_, io::Error>(answer)
    };
    SpokenProtocol::of(&timeout(ANSWER, asking).await.ok()?.ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_spoken_is_known_by_its_first_bytes() {
        for (answer, spoken) in [
            (&b"HTTP/1.1 400"[..], Some(SpokenProtocol::Http)),
            (b"AMQP\0\0\x09\x01", Some(SpokenProtocol::Amqp)),
            (b"\x15\x03\x03\0\x02", Some(SpokenProtocol::Tls)),
            (b"\x16\x03\x01\0", Some(SpokenProtocol::Tls)),
            (b"\x17\x03\x01\0", None),
            (b"+OK\r", None),
            (b"", None),
        ] {
            assert_eq!(SpokenProtocol::of(answer), spoken, "{answer:?}");
        }
    }

    #[tokio::test]
    async fn nobody_there_is_nothing_known() {
        let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
        socket.bind("127.0.0.1:0".parse().expect("an address")).expect("a free port");
        assert_eq!(spoken(socket.local_addr().expect("its address")).await, None);
    }
}
