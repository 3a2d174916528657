//! What the rooms of the server share: limits and sources, and where the tasks of connections are kept.

use std::sync::{Arc, Once};

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use super::admission::Admission;
use super::auth::Guard;
use super::peer::Peer;
use super::rate::Rate;
use crate::operator_status::OperatorStatus;
use crate::readiness::Readiness;
use crate::session::{SessionContext, Sessions};

/// What every connection needs: limits, sources, and where its tasks are kept.
pub struct ServerContext {
    pub session: Arc<SessionContext>,
    pub readiness: Arc<Readiness>,
    pub operator_status: Arc<OperatorStatus>,
    pub admission: Arc<Admission>,
    pub guard: Arc<Guard>,
    pub sessions: Arc<Sessions>,
    pub rate: Rate,
    /// Done when it was told that a stranger says for whom it comes.
    pub told_of_stranger: Once,
    /// The same in a PROXY header.
    pub told_of_header: Once,
    pub has_admin: bool,
    /// Cancelled when plain HTTP connections should end.
    pub closing: CancellationToken,
    /// Cancelled when everything must end at once.
    pub ending: CancellationToken,
    pub tasks: TaskTracker,
}

impl ServerContext {
    /// Runs a session's task, which sees for itself when everything must end.
    pub fn spawn_session(&self, session: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(session);
    }

    /// Says once that a connection was refused for its PROXY header: mostly a list that lacks a balancer.
    pub fn tell_of_header(&self, peer: &Peer) {
        self.told_of_header.call_once(|| {
            warn!(
                peer = %peer.address.ip(),
                "a PROXY header is refused: the peer is not among server.trusted_proxies"
            );
        });
    }

    /// Takes note of a connection that gives its place to a newcomer.
    pub fn put_out(&self, peer: &Peer) {
        self.session.metrics.connections_put_out.inc();
        debug!(peer = %peer.address, "connection ended: a newcomer needs its place");
    }

    /// Runs a connection's task until it ends, or until everything must.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let ending = self.ending.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                () = task => {}
                () = ending.cancelled() => {}
            }
        });
    }
}
