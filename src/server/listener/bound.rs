//! The sockets of one place to listen: one, or one for each family, accepted from as one.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::task::{Context, Poll};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tracing::info;

use crate::config::Listen;

/// Waiting to be accepted; the kernel caps it at `net.core.somaxconn`.
const BACKLOG: i32 = 4_096;
/// The kernel's buffer for what a client sends, which it doubles: without a bound it takes megabytes of
/// requests from one that reads no answers. Enough for some 5 Mbit/s at 100 ms.
const RECEIVE_BUFFER_BYTES: usize = 64 << 10;
/// errno(3) on Linux: the kernel has no such family.
const EAFNOSUPPORT: i32 = 97;

/// One or two bound sockets.
pub struct Listeners {
    first: TcpListener,
    second: Option<TcpListener>,
    is_second_next: bool,
}

/// Where [`Listeners`] listen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bound {
    pub first: SocketAddr,
    /// The other family's, where they are two.
    pub second: Option<SocketAddr>,
}

/// An address that cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {source}")]
pub struct CannotListen {
    pub address: SocketAddr,
    pub source: io::Error,
}

impl Listeners {
    /// Binds all of `listen`, each connection with a kernel send buffer of `send_buffer_bytes` (0: the
    /// system's own, which grows to megabytes). A family that this machine lacks is left out.
    pub fn bind(listen: Listen, send_buffer_bytes: usize) -> Result<Self, CannotListen> {
        let bind = |address| socket(address, send_buffer_bytes);
        let port = |listener: &TcpListener| listener.local_addr().map_or(0, |bound| bound.port());
        let (first, second) = bind_all(listen, bind, port)?;
        Ok(Self { first, second, is_second_next: false })
    }

    pub fn bound(&self) -> io::Result<Bound> {
        let second = self.second.as_ref().map(TcpListener::local_addr).transpose()?;
        Ok(Bound { first: self.first.local_addr()?, second })
    }

    /// The next connection of either, each in its turn: neither can keep the other waiting.
    pub fn poll_accept(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<(TcpStream, SocketAddr)>> {
        let Some(second) = &self.second else { return self.first.poll_accept(cx) };
        self.is_second_next = !self.is_second_next;
        let (one, other) = match self.is_second_next {
            true => (&self.first, second),
            false => (second, &self.first),
        };
        match one.poll_accept(cx) {
            Poll::Pending => other.poll_accept(cx),
            accepted => accepted,
        }
    }
}

/// One address, or both of `localhost`. What `bind` makes is bound; `port` tells which port it was given.
fn bind_all<T>(
    listen: Listen,
    mut bind: impl FnMut(SocketAddr) -> io::Result<T>,
    port: impl Fn(&T) -> u16,
) -> Result<(T, Option<T>), CannotListen> {
    let mut bound: Vec<T> = Vec::new();
    let mut missing = None;
    for mut address in listen.addresses() {
        // Port 0 is one port, too.
        if let Some(before) = bound.first() {
            address.set_port(port(before));
        }
        let mut outcome = bind(address);
        if let Err(error) = &outcome
            && is_missing(error)
            && address.is_ipv6()
            && address.ip().is_unspecified()
        {
            info!("this machine has no IPv6: listening on IPv4 alone");
            address.set_ip(Ipv4Addr::UNSPECIFIED.into());
            outcome = bind(address);
        }
        match outcome {
            Ok(one) => bound.push(one),
            Err(source) if is_missing(&source) => missing = Some(CannotListen { address, source }),
            Err(source) => return Err(CannotListen { address, source }),
        }
    }
    let mut bound = bound.into_iter();
    match (bound.next(), missing) {
        (Some(first), _) => Ok((first, bound.next())),
        (None, Some(missing)) => Err(missing),
        (None, None) => unreachable!("bug: a place to listen has an address"),
    }
}

/// Whether the kernel lacks the address or all of its family.
fn is_missing(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::AddrNotAvailable || error.raw_os_error() == Some(EAFNOSUPPORT)
}

fn socket(address: SocketAddr, send_buffer_bytes: usize) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        // `net.ipv6.bindv6only` may say otherwise.
        socket.set_only_v6(false)?;
    }
    socket.set_nonblocking(true)?;
    socket.set_recv_buffer_size(RECEIVE_BUFFER_BYTES)?;
    if send_buffer_bytes > 0 {
        socket.set_send_buffer_size(send_buffer_bytes)?;
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is bound for `listen` on a machine on which `fails` says what cannot be.
    fn bound(
        listen: &str,
        fails: impl Fn(SocketAddr) -> Option<i32>,
    ) -> Result<Vec<String>, String> {
        let bind = |mut address: SocketAddr| match fails(address) {
            Some(code) => Err(io::Error::from_raw_os_error(code)),
            None => {
                let port = if address.port() == 0 { 4711 } else { address.port() };
                address.set_port(port);
                Ok(address)
            }
        };
        let listen = listen.parse().expect("a place");
        let (first, second) =
            bind_all(listen, bind, SocketAddr::port).map_err(|error| error.address.to_string())?;
        Ok([Some(first), second].into_iter().flatten().map(|one| one.to_string()).collect())
    }

    #[test]
    fn a_family_that_is_missing_is_left_out_and_an_address_in_use_is_not() {
        const EADDRINUSE: i32 = 98;
        const EADDRNOTAVAIL: i32 = 99;
        let nothing = |_: SocketAddr| None;
        let no_ipv6 = |code| move |address: SocketAddr| address.is_ipv6().then_some(code);
        let told = |addresses: &[&str]| Ok(addresses.iter().map(ToString::to_string).collect());
        assert_eq!(bound(":9985", nothing), told(&["[::]:9985"]));
        assert_eq!(bound("localhost:0", nothing), told(&["127.0.0.1:4711", "[::1]:4711"]));
        for code in [EAFNOSUPPORT, EADDRNOTAVAIL] {
            assert_eq!(bound("[::]:9985", no_ipv6(code)), told(&["0.0.0.0:9985"]));
            assert_eq!(bound("localhost:9985", no_ipv6(code)), told(&["127.0.0.1:9985"]));
            assert_eq!(bound("[::1]:9985", no_ipv6(code)), Err("[::1]:9985".into()));
        }
        let no_ipv4 = |address: SocketAddr| address.is_ipv4().then_some(EAFNOSUPPORT);
        assert_eq!(bound("localhost:9985", no_ipv4), told(&["[::1]:9985"]));
        for listen in ["[::]:9985", "[::1]:9985"] {
            assert_eq!(bound(listen, no_ipv6(EADDRINUSE)), Err(listen.into()));
        }
        assert_eq!(bound("localhost:9985", no_ipv6(EADDRINUSE)), Err("[::1]:9985".into()));
        let neither = |_: SocketAddr| Some(EADDRNOTAVAIL);
        assert_eq!(bound(":9985", neither), Err("0.0.0.0:9985".into()));
    }
}
