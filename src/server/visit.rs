//! Where a request comes from, and its connection's place among the open ones.

use std::net::SocketAddr;
use std::sync::Arc;

use super::admission::Admitted;

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
    pub place: Arc<Admitted>,
}
