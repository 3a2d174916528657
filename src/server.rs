//! The HTTP edge: who comes in, and what they are told before they have a session.
//!
//! Nothing here knows where blocks come from: a session reads the [`History`], and that is all.

mod admission;
mod answer;
mod api;
mod auth;
mod connection;
mod context;
mod cors;
mod extensions;
#[cfg(fuzzing)]
pub mod fuzzed;
mod handshake;
mod listener;
mod origin;
mod path;
mod peer;
mod places;
mod proxy;
mod rate;
mod route;
mod sessions_body;
mod status;
#[cfg(test)]
pub(crate) mod testing;
mod tls;

use std::io;
use std::sync::{Arc, Once};
use std::time::Duration;

use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use crate::config;
use crate::history::History;
use crate::metrics::Metrics;
use crate::operator_status::OperatorStatus;
use crate::readiness::Readiness;
use crate::reload::Reload;
use crate::session::{self, SessionContext};
use crate::shutdown::Drain;
use crate::tickets::Tickets;
use admission::Admission;
pub use api::unreachable_host;
pub use auth::AuthError;
use auth::Guard;
pub use auth::check as check_credentials;
use context::ServerContext;
use listener::Listeners;
pub use listener::{Bound, CannotListen, PLAIN_CONNECTIONS_MAX};
use rate::Rate;
pub use tls::{Tls, TlsError, check as check_certificate};

/// Plain connections that scrape or probe during the drain end within this after it.
const LAST_GRACE: Duration = Duration::from_secs(1);

/// What the server reads and tells; all of it shared.
pub struct ServerParts {
    pub history: Arc<History>,
    pub tickets: Arc<Tickets>,
    pub metrics: Arc<Metrics>,
    pub readiness: Arc<Readiness>,
    pub operator_status: Arc<OperatorStatus>,
    pub drain: Arc<Drain>,
    /// None for plain connections.
    pub tls: Option<Tls>,
    pub reload: Arc<Reload>,
}

/// A bound server. It accepts from [`Server::run`] on.
pub struct Server {
    listeners: Listeners,
    admin: Option<Listeners>,
    tls: Option<Arc<Tls>>,
    reload: Arc<Reload>,
    context: Arc<ServerContext>,
}

impl Server {
    /// Binds both listeners. Nothing is accepted yet.
    ///
    /// # Errors
    /// The address and why: in use, not ours, not allowed. Or a file of credentials that cannot be
    /// used.
    pub fn bind(
        limits: &config::ServerConfig,
        admin: &config::Admin,
        sources: ServerParts,
    ) -> Result<Self, BindError> {
        let guard = Arc::new(Guard::load(&limits.auth)?);
        let send_buffer_bytes =
            usize::try_from(limits.send_buffer_bytes.as_u64()).unwrap_or(usize::MAX);
        let bind = |key, listen| {
            Listeners::bind(listen, send_buffer_bytes)
                .map_err(|reason| BindError::Listen { key, reason })
        };
        let listeners = bind("server.listen", limits.listen)?;
        let admin = admin.listen.map(|listen| bind("admin.listen", listen)).transpose()?;
        if let Some(warning) = unreachable_host(limits) {
            warn!("{warning}");
        }
        let session = SessionContext {
            limits: limits.clone(),
            history: sources.history,
            tickets: sources.tickets,
            metrics: sources.metrics,
            drain: sources.drain,
        };
        let context = ServerContext {
            admission: Arc::new(Admission::new(
                limits.max_connections,
                limits.max_connections_per_address,
            )),
            guard,
            sessions: Arc::default(),
            rate: Rate::new(limits.handshakes_per_second),
            told_of_stranger: Once::new(),
            told_of_header: Once::new(),
            session: Arc::new(session),
            readiness: sources.readiness,
            operator_status: sources.operator_status,
            has_admin: admin.is_some(),
            closing: CancellationToken::new(),
            ending: CancellationToken::new(),
            tasks: TaskTracker::new(),
        };
        let tls = sources.tls.map(Arc::new);
        Ok(Self { listeners, admin, tls, reload: sources.reload, context: Arc::new(context) })
    }

    pub fn bound(&self) -> io::Result<Bound> {
        self.listeners.bound()
    }

    pub fn admin_bound(&self) -> io::Result<Option<Bound>> {
        self.admin.as_ref().map(Listeners::bound).transpose()
    }

    /// Serves until `shutdown`, then drains: unready at once, still open for `server.drain_delay`,
    /// then closed to new sessions while the old ones are closed over `server.drain`.
    ///
    /// When it returns, no task of a connection is left.
    pub async fn run(self, shutdown: CancellationToken) {
        let Self { listeners, admin, tls, reload, context } = self;
        let accepting = {
            let (public, private) = (Arc::clone(&context), Arc::clone(&context));
            async move {
                let admin = async move {
                    match admin {
                        Some(listeners) => listener::accept(listeners, private, None, true).await,
                        None => std::future::pending().await,
                    }
                };
                let watching = {
                    let ServerContext { guard, session, .. } = &*public;
                    let (metrics, history) =
                        (Arc::clone(&session.metrics), Arc::clone(&session.history));
                    auth::watch(Arc::clone(guard), reload.subscribe(), metrics, history)
                };
                let renewing = renew(tls.clone(), reload, Arc::clone(&public));
                let public = listener::accept(listeners, public, tls, false);
                tokio::join!(public, admin, renewing, watching);
            }
        };
        tokio::select! {
            () = accepting => {}
            () = drain(&context, &shutdown) => {}
        }
        // Only now: a connection told to close before its first byte gets no answer, and until
        // here probes and refused clients must get theirs.
        context.closing.cancel();
        context.tasks.close();
        if timeout(LAST_GRACE, context.tasks.wait()).await.is_err() {
            context.ending.cancel();
            context.session.drain.end();
            context.session.history.wake_readers();
            context.tasks.wait().await;
        }
    }
}

/// Keeps the certificate as its files are, as long as it is polled.
async fn renew(tls: Option<Arc<Tls>>, reload: Arc<Reload>, context: Arc<ServerContext>) {
    match tls {
        Some(tls) => match tls.renew(reload.subscribe(), &context.session.metrics).await {},
        None => std::future::pending().await,
    }
}

/// Returns when no session is left, or when the time for that is over.
async fn drain(context: &ServerContext, shutdown: &CancellationToken) {
    shutdown.cancelled().await;
    let limits = &context.session.limits;
    context.readiness.set_draining();
    info!(sessions = context.admission.inside(), "draining: unready, still accepting");
    tokio::time::sleep(limits.drain_delay).await;
    context.readiness.set_refusing();
    // A client that does not answer its close takes so long. A short drain is spread all the same.
    let spread = limits.drain.saturating_sub(session::CLOSE_TIMEOUT).max(limits.drain / 2);
    context.session.drain.begin(spread);
    context.session.history.wake_readers();
    info!(sessions = context.admission.inside(), "draining: closing the sessions");
    let emptied = async {
        while context.admission.inside() > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let _ = timeout(limits.drain.max(session::CLOSE_TIMEOUT), emptied).await;
}

/// Why a server could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// With the key that names the place.
    #[error("{reason}")]
    Listen {
        key: &'static str,
        #[source]
        reason: CannotListen,
    },
    #[error("who may have a stream is not known: {0}")]
    Auth(#[from] AuthError),
}
