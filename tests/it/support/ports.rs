//! Ports for servers that are started, or started again, a moment later.

use std::net::TcpListener;

/// Below what Linux gives to outgoing connections (`ip_local_port_range`), of which other tests make
/// hundreds at a time: a port from there would be taken before its server starts.
const RANGE: std::ops::Range<u16> = 15_000..30_000;

/// Ports of loopback that were free a moment ago, all different.
pub fn free<const N: usize>() -> [u16; N] {
    let listeners = [(); N].map(|()| {
        let mut tried = std::iter::repeat_with(|| fastrand::u16(RANGE));
        tried.find_map(|port| TcpListener::bind(("127.0.0.1", port)).ok()).expect("one is free")
    });
    listeners.map(|listener| listener.local_addr().expect("its address").port())
}
