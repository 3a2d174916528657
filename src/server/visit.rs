//! Where a request comes from, and its connection's place among the open ones.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Where a request came from and arrived.
#[derive(Clone)]
pub struct Visit {
    /// The client, as far as is known; behind a trusted proxy its port is not, and 0.
    pub peer: SocketAddr,
    /// Whether a trusted proxy asks for it.
    pub is_proxied: bool,
    pub local: Option<SocketAddr>,
    pub is_admin: bool,
    /// The connection speaks TLS here, not only before a proxy.
    pub is_tls: bool,
    /// Kept by whatever outlives the request on its connection.
    pub place: Arc<Place>,
}

/// One connection's place among the open ones; given back when the last holder drops it.
#[derive(Debug)]
pub struct Place(Arc<AtomicUsize>);

impl Place {
    pub fn take(open: &Arc<AtomicUsize>) -> Self {
        open.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(open))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
