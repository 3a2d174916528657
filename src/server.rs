//! The HTTP and WebSocket edge: who comes in, what they are told, and their sessions.
//!
//! Nothing here knows where blocks come from: a session reads the [`History`], and that is all.

mod admission;
mod answer;
mod api;
mod close;
mod extensions;
mod feed;
mod form;
mod handshake;
mod inbound;
mod listener;
mod notice;
mod outbound;
mod plan;
mod query;
mod route;
mod session;
mod start;
mod status;
mod visit;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::info;

use crate::archive::Archive;
use crate::config;
use crate::history::History;
use crate::metrics::Metrics;
use crate::notices::Notices;
use crate::readiness::Readiness;
use crate::shutdown::Drain;
use admission::Admission;
pub use listener::PLAIN_CONNECTIONS_MAX;
use session::Surroundings;

/// Plain connections that scrape or probe during the drain end within this after it.
const LAST_GRACE: Duration = Duration::from_secs(1);

/// What the server reads and tells; all of it shared.
pub struct Sources {
    pub history: Arc<History>,
    pub archive: Arc<Archive>,
    pub metrics: Arc<Metrics>,
    pub readiness: Arc<Readiness>,
    pub notices: Arc<Notices>,
    pub drain: Arc<Drain>,
}

/// A bound server. It accepts from [`Server::run`] on.
pub struct Server {
    listener: TcpListener,
    admin: Option<TcpListener>,
    door: Arc<Door>,
}

/// What every connection needs: limits, sources, and where its tasks are kept.
pub struct Door {
    around: Arc<Surroundings>,
    readiness: Arc<Readiness>,
    notices: Arc<Notices>,
    admission: Arc<Admission>,
    has_admin: bool,
    /// Cancelled when plain HTTP connections should end.
    closing: CancellationToken,
    /// Cancelled when everything must end at once.
    ending: CancellationToken,
    tasks: TaskTracker,
}

impl Server {
    /// Binds both listeners. Nothing is accepted yet.
    ///
    /// # Errors
    /// The address and why: in use, not ours, not allowed.
    pub fn bind(
        limits: &config::Server,
        admin: &config::Admin,
        sources: Sources,
    ) -> Result<Self, BindError> {
        let bind = |address, bytes| {
            listener::bind(address, bytes).map_err(|source| BindError { address, source })
        };
        let send_buffer_bytes =
            usize::try_from(limits.send_buffer_bytes.as_u64()).unwrap_or(usize::MAX);
        let listener = bind(limits.listen, send_buffer_bytes)?;
        let admin = admin.listen.map(|address| bind(address, 0)).transpose()?;
        let around = Surroundings {
            limits: limits.clone(),
            history: sources.history,
            archive: sources.archive,
            metrics: sources.metrics,
            drain: sources.drain,
        };
        let door = Door {
            admission: Arc::new(Admission::new(
                limits.max_connections,
                limits.max_connections_per_address,
            )),
            around: Arc::new(around),
            readiness: sources.readiness,
            notices: sources.notices,
            has_admin: admin.is_some(),
            closing: CancellationToken::new(),
            ending: CancellationToken::new(),
            tasks: TaskTracker::new(),
        };
        Ok(Self { listener, admin, door: Arc::new(door) })
    }

    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    pub fn admin_address(&self) -> io::Result<Option<SocketAddr>> {
        self.admin.as_ref().map(TcpListener::local_addr).transpose()
    }

    /// Serves until `shutdown`, then drains: unready at once, still open for `server.drain_delay`,
    /// then closed to new sessions while the old ones are closed over `server.drain`.
    ///
    /// When it returns, no task of a connection is left.
    pub async fn run(self, shutdown: CancellationToken) {
        let Self { listener, admin, door } = self;
        let accepting = {
            let (public, private) = (Arc::clone(&door), Arc::clone(&door));
            async move {
                let admin = async move {
                    match admin {
                        Some(listener) => listener::accept(listener, private, true).await,
                        None => std::future::pending().await,
                    }
                };
                tokio::join!(listener::accept(listener, public, false), admin);
            }
        };
        tokio::select! {
            () = accepting => {}
            () = drain(&door, &shutdown) => {}
        }
        // Only now: a connection told to close before its first byte gets no answer, and until
        // here probes and refused clients must get theirs.
        door.closing.cancel();
        door.tasks.close();
        if timeout(LAST_GRACE, door.tasks.wait()).await.is_err() {
            door.ending.cancel();
            door.tasks.wait().await;
        }
    }
}

/// Returns when no session is left, or when the time for that is over.
async fn drain(door: &Door, shutdown: &CancellationToken) {
    shutdown.cancelled().await;
    let limits = &door.around.limits;
    door.readiness.set_draining();
    info!(sessions = door.admission.sessions(), "draining: unready, still accepting");
    tokio::time::sleep(limits.drain_delay).await;
    door.readiness.set_refusing();
    // A client that does not answer its close takes so long. A short drain is spread all the same.
    let spread = limits.drain.saturating_sub(session::CLOSE_TIMEOUT).max(limits.drain / 2);
    door.around.drain.begin(spread);
    door.around.history.wake_readers();
    info!(sessions = door.admission.sessions(), "draining: closing the sessions");
    let emptied = async {
        while door.admission.sessions() > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let _ = timeout(limits.drain.max(session::CLOSE_TIMEOUT), emptied).await;
}

impl Door {
    /// Runs a connection's task until it ends, or until everything must.
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let ending = self.ending.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                () = task => {}
                () = ending.cancelled() => {}
            }
        });
    }
}

/// A listener could not be had.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {source}")]
pub struct BindError {
    pub address: SocketAddr,
    pub source: io::Error,
}
