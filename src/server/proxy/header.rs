//! The PROXY protocol's header, versions 1 and 2: what a balancer that only passes bytes on says of its
//! client before the first of them.
//!
//! Neither can be the beginning of a request or of a TLS handshake, so nobody says beforehand whether one
//! is sent. The specification is HAProxy's `proxy-protocol.txt`.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use proxy_header::{ParseConfig, ProxyHeader};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::sleep;

const SIGNATURE_V1: &[u8] = b"PROXY ";
const SIGNATURE_V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// Section 2.1: with its end of line.
const V1_BYTES_MAX: usize = 107;
/// Section 2.2: signature, version and command, family, length.
const V2_START_BYTES: usize = 16;
/// A header whole. Section 2.2 expects 536 bytes to be enough; a client's certificate takes some more.
pub const HEADER_BYTES_MAX: usize = 8 << 10;
/// How much is looked at as long as that may be enough.
const LOOKED_AT_BYTES: usize = 1 << 10;
/// Until a header that came in parts is looked at again.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// Version 2, a connection of the balancer's own, such as a health check.
const V2_LOCAL: u8 = 0x20;

/// Answers to a connection that begins like a header and is not taken.
pub const MALFORMED: &str = "this PROXY protocol header cannot be read";
pub const NOT_TRUSTED: &str = "a PROXY protocol header is taken once, from the addresses in \
    server.trusted_proxies only";

/// What bytes at a connection's beginning are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HeaderFound {
    /// Something else, which is left alone.
    NoHeader,
    /// As much of a header as there is.
    Unfinished,
    Header {
        bytes: usize,
        /// None: the connection is the balancer's own, or it does not know.
        told: Option<HeaderTold>,
    },
    /// It begins like one, and is none.
    Bad,
}

/// What a header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeaderTold {
    pub client: SocketAddr,
    /// Where the client connected to.
    pub arrived_at: SocketAddr,
    /// The client speaks TLS with the balancer.
    pub is_tls: bool,
}

/// Why there is no telling what a connection is.
#[derive(Debug, thiserror::Error)]
pub enum NotTaken {
    #[error("a malformed PROXY header")]
    Bad,
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Whether `bytes` begin like a header, for one who is not believed.
pub fn is_begun(bytes: &[u8]) -> bool {
    // HTTP passes over empty lines before a request.
    let rest = SIGNATURE_V2.strip_prefix(b"\r\n\r\n").unwrap_or(SIGNATURE_V2);
    bytes.starts_with(SIGNATURE_V1) || bytes.starts_with(SIGNATURE_V2) || bytes.starts_with(rest)
}

/// What `bytes` are. Once it is anything but [`HeaderFound::Unfinished`], further bytes change nothing.
pub fn find(bytes: &[u8]) -> HeaderFound {
    let is_either = |signature: &[u8]| signature.starts_with(bytes) || bytes.starts_with(signature);
    let len = match () {
        () if bytes.is_empty() => return HeaderFound::Unfinished,
        () if is_either(SIGNATURE_V1) => v1_len(bytes),
        () if is_either(SIGNATURE_V2) => v2_len(bytes),
        () => return HeaderFound::NoHeader,
    };
    match len {
        Ok(len) if len > HEADER_BYTES_MAX => HeaderFound::Bad,
        Ok(len) if len <= bytes.len() => whole(&bytes[..len]),
        Ok(_) => HeaderFound::Unfinished,
        Err(found) => found,
    }
}

/// Takes the header off a connection, if there is one, and nothing behind it.
///
/// # Errors
/// It begins like a header and is none, or the connection is broken: it is of no use.
///
/// # Cancel safety
/// It may have taken a part of the header: the connection is of no use afterwards.
pub async fn take(stream: &mut TcpStream) -> Result<Option<HeaderTold>, NotTaken> {
    let mut bytes = vec![0; LOOKED_AT_BYTES];
    let mut seen = 0;
    loop {
        // Until all of it is there nothing is taken: of what is no header, nothing may be.
        let len = stream.peek(&mut bytes).await?;
        match find(&bytes[..len]) {
            HeaderFound::NoHeader => return Ok(None),
            HeaderFound::Bad => return Err(NotTaken::Bad),
            HeaderFound::Header { bytes: len, told } => {
                stream.read_exact(&mut bytes[..len]).await?;
                return Ok(told);
            }
            HeaderFound::Unfinished if len == 0 => return Ok(None),
            HeaderFound::Unfinished if len == bytes.len() => bytes.resize(HEADER_BYTES_MAX, 0),
            // The kernel does not tell of new bytes behind those that nobody took.
            HeaderFound::Unfinished if len == seen => sleep(LOOK_AGAIN).await,
            HeaderFound::Unfinished => seen = len,
        }
    }
}

fn v1_len(bytes: &[u8]) -> Result<usize, HeaderFound> {
    let line = &bytes[..bytes.len().min(V1_BYTES_MAX)];
    match line.iter().position(|byte| *byte == b'\n') {
        Some(end) => Ok(end + 1),
        None if line.len() == V1_BYTES_MAX => Err(HeaderFound::Bad),
        None => Err(HeaderFound::Unfinished),
    }
}

fn v2_len(bytes: &[u8]) -> Result<usize, HeaderFound> {
    let Some(start) = bytes.first_chunk::<V2_START_BYTES>() else {
        return Err(HeaderFound::Unfinished);
    };
    let rest = u16::from_be_bytes([start[14], start[15]]);
    Ok(V2_START_BYTES + usize::from(rest))
}

/// What these bytes say, which are a header if they are anything.
fn whole(bytes: &[u8]) -> HeaderFound {
    // Whatever stands behind it, the specification wants it passed over.
    if bytes.get(12) == Some(&V2_LOCAL) && bytes.starts_with(SIGNATURE_V2) {
        return HeaderFound::Header { bytes: bytes.len(), told: None };
    }
    match ProxyHeader::parse(bytes, ParseConfig::default()) {
        Ok((header, len)) if len == bytes.len() => {
            let is_tls = header.ssl().is_some_and(|tls| tls.client_ssl());
            let told = header.proxied_address().map(|addresses| HeaderTold {
                client: canonical(addresses.source),
                arrived_at: canonical(addresses.destination),
                is_tls,
            });
            HeaderFound::Header { bytes: len, told }
        }
        _ => HeaderFound::Bad,
    }
}

/// An IPv4 address in IPv6's clothes as what it is.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    const REQUEST: &[u8] = b"GET / HTTP/1.1\r\n\r\n";

    fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let len = u16::try_from(rest.len()).expect("short").to_be_bytes();
        [SIGNATURE_V2, &[command, family], &len, rest].concat()
    }

    fn told(client: &str, arrived_at: &str, is_tls: bool) -> Option<HeaderTold> {
        let address = |text: &str| text.parse().expect("an address");
        Some(HeaderTold { client: address(client), arrived_at: address(arrived_at), is_tls })
    }

    /// Cut anywhere, with anything behind it, it is found alike.
    fn check(header: &[u8], expected: Option<HeaderTold>) {
        let expected = HeaderFound::Header { bytes: header.len(), told: expected };
        for cut in 0..header.len() {
            assert_eq!(find(&header[..cut]), HeaderFound::Unfinished, "{header:?} to {cut}");
        }
        assert_eq!(find(header), expected, "{header:?}");
        for behind in [REQUEST, &[0x16, 3, 1], b"PROXY UNKNOWN\r\n", b"\r\n"] {
            assert_eq!(find(&[header, behind].concat()), expected, "{header:?} {behind:?}");
        }
    }

    #[test]
    fn headers_of_both_versions_are_found_however_they_are_cut() {
        let client = told("192.0.2.1:4711", "198.51.100.1:443", false);
        check(b"PROXY TCP4 192.0.2.1 198.51.100.1 4711 443\r\n", client);
        let client = told("[2001:db8::1]:4711", "[2001:db8::2]:443", false);
        check(b"PROXY TCP6 2001:db8::1 2001:db8::2 4711 443\r\n", client);
        check(b"PROXY UNKNOWN\r\n", None);
        check(b"PROXY UNKNOWN ffff::1 ffff::2 65535 65535\r\n", None);

        let addresses = [192, 0, 2, 1, 198, 51, 100, 1, 0x12, 0x67, 1, 0xbb];
        let client = told("192.0.2.1:4711", "198.51.100.1:443", false);
        check(&v2(0x21, 0x11, &addresses), client);
        // PP2_TYPE_SSL with PP2_CLIENT_SSL, a subtype of version and verify behind it.
        let tls = [0x20, 0, 5, 1, 0, 0, 0, 0];
        let client = told("192.0.2.1:4711", "198.51.100.1:443", true);
        check(&v2(0x21, 0x11, &[&addresses[..], &tls].concat()), client);
        let without = [0x20, 0, 5, 0, 0, 0, 0, 0];
        let client = told("192.0.2.1:4711", "198.51.100.1:443", false);
        check(&v2(0x21, 0x11, &[&addresses[..], &without].concat()), client);
        // As a balancer with an IPv6 listener says it of an IPv4 client.
        let mapped = [&[0; 10][..], &[0xff, 0xff, 192, 0, 2, 1], &[0; 16], &[0x12, 0x67, 1, 0xbb]];
        check(&v2(0x21, 0x21, &mapped.concat()), told("192.0.2.1:4711", "[::]:443", false));
        for local in [v2(0x20, 0, &[]), v2(0x20, 0x11, &addresses), v2(0x20, 0x11, &[1, 2])] {
            check(&local, None);
        }
        check(&v2(0x21, 0, &[]), None);
        check(&v2(0x21, 0x31, &[0; 216]), None);
        check(&v2(0x20, 0, &vec![0; HEADER_BYTES_MAX - V2_START_BYTES]), None);
    }

    #[test]
    fn what_is_no_header_is_left_alone_or_bad() {
        for bytes in [REQUEST, b"POST / HTTP/1.1\r\n", b"PRI * HTTP/2.0", b"\r\nGET /", &[0x16, 3]]
        {
            assert_eq!(find(bytes), HeaderFound::NoHeader, "{bytes:?}");
            assert!(!is_begun(bytes));
        }
        for bytes in [
            &b"PROXY TCP4 192.0.2.1 198.51.100.1 4711\r\n"[..],
            b"PROXY TCP4 192.0.2.256 198.51.100.1 4711 443\r\n",
            b"PROXY TCP4 2001:db8::1 2001:db8::2 4711 443\r\n",
            b"PROXY TCP4 192.0.2.1 198.51.100.1 4711 70000\r\n",
            b"PROXY TCP4 192.0.2.1 198.51.100.1 4711 443\n",
            b"PROXY UDP4 192.0.2.1 198.51.100.1 4711 443\r\n",
            b"PROXY \r\n",
            &[b"PROXY TCP4 ", &[b'1'; 200][..]].concat(),
            &v2(0x11, 0x11, &[0; 12]),
            &v2(0x22, 0x11, &[0; 12]),
            &v2(0x21, 0x11, &[0; 11]),
            &v2(0x21, 0x41, &[0; 12]),
            &v2(0x21, 0x11, &[0; HEADER_BYTES_MAX]),
        ] {
            assert_eq!(find(bytes), HeaderFound::Bad, "{bytes:?}");
            assert!(is_begun(bytes));
        }
    }
}
