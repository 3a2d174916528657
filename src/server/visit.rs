//! Where a request comes from, and its connection's places among the open ones.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::OwnedSemaphorePermit;

use super::admission::Admitted;

/// Where a request came from and arrived.
#[derive(Clone)]
pub struct Visit {
    /// The client, as far as is known; behind a trusted proxy its port is not, and 0.
    pub peer: SocketAddr,
    /// Whether a trusted proxy asks for it.
    pub is_proxied: bool,
    /// Where the client connected to, as far as is known.
    pub local: Option<SocketAddr>,
    pub is_admin: bool,
    /// The connection speaks TLS here, or with the balancer whose PROXY header says so.
    pub is_tls: bool,
    /// Its connection's place among its address's: kept by whatever outlives the request on it.
    pub place: Arc<Admitted>,
    /// Its connection's place among those that are no sessions: kept until it is one.
    pub plain_place: Arc<OwnedSemaphorePermit>,
}
