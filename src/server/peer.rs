//! The peer of a connection: where its requests come from, and the slot and the place that the connection takes.

use std::net::SocketAddr;
use std::sync::Arc;

use super::admission::Admitted;
use super::places::Place;

/// Where a request came from and arrived.
#[derive(Clone)]
pub struct Peer {
    /// The client, as far as is known; behind a trusted proxy its port is not, and 0.
    pub address: SocketAddr,
    /// Whether a trusted proxy asks for it.
    pub is_proxied: bool,
    /// Where the client connected to, as far as is known.
    pub local: Option<SocketAddr>,
    pub is_admin: bool,
    /// The connection speaks TLS here, or with the balancer whose PROXY header says so.
    pub is_tls: bool,
    /// Its connection's slot among its address's: kept by whatever outlives the request on it.
    pub slot: Arc<Admitted>,
    /// Its connection's place among those that are no sessions: kept until it is one.
    pub place: Arc<Place>,
}
