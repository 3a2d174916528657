//! The composition root: every task and channel is made here, joined here and ended here.
//!
//! `bind` takes the addresses. `run` does the work until it is told to stop. No task outlives `run`.

#![deny(missing_docs, reason = "programs of others may run a replica by this")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytesize::ByteSize;
use thiserror::Error;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use crate::amqp::{self, DeadLetters, Dialer, Reader, Signs, Source, SourceError};
use crate::backfill::{self, Backfill};
use crate::config::{Config, HistoryConfig, QueueMode};
use crate::encoder;
use crate::history::{EncodingCounts, Encodings, History};
use crate::metrics::Metrics;
use crate::operator_status::OperatorStatus;
use crate::pipeline::{Pipeline, PipelineContext};
use crate::readiness::Readiness;
use crate::reload::Reload;
use crate::server::{self, Server, ServerParts};
use crate::shutdown::Drain;
use crate::telemetry;
use crate::tickets::Tickets;

/// From the source (sender) to the pipeline (receiver). When it is full the source waits, the broker
/// is not given credit, and deliveries stop at `amqp.prefetch`: that is the bound.
const INPUTS_MAX: usize = 1;
/// Descriptors beside the connections: listeners, broker, log, the runtime's own.
const DESCRIPTORS_BESIDE: u64 = 64;
/// After the drain: a dead letter under way, and the broker's goodbye.
const FEED_END: Duration = Duration::from_secs(3);

/// A replica with its addresses bound.
pub struct Bridge {
    server: Server,
    addresses: Addresses,
    reload: Arc<Reload>,
    source: Source,
    pipeline: Pipeline,
    history: Arc<History>,
    /// None in `queue` mode, where nothing can be read back.
    read_back: Option<ReadBack>,
}

/// What reads back what has left the history, before it runs.
struct ReadBack {
    parts: backfill::BackfillParts,
    reader: Reader,
    dialer: Dialer,
}

/// Where a replica listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Addresses {
    /// The address of `server.listen`.
    pub server: SocketAddr,
    /// The same in IPv6, for `localhost`.
    pub server_ipv6: Option<SocketAddr>,
    /// The address of `admin.listen`.
    pub admin: Option<SocketAddr>,
    /// The same in IPv6, for `localhost`.
    pub admin_ipv6: Option<SocketAddr>,
}

/// Why a replica could not be set up.
#[derive(Debug, Error)]
pub enum SetupError {
    /// An address cannot be had: choose another.
    #[error(transparent)]
    Listen(#[from] server::BindError),
    /// A file of `server` is of no use: mend it.
    #[error(transparent)]
    Tls(#[from] server::TlsError),
    /// A file of `amqp.tls` is of no use: mend it.
    #[error(transparent)]
    BrokerTls(#[from] amqp::BrokerTlsError),
    /// The system does not say which address it bound.
    #[error("cannot tell the bound address: {0}")]
    Address(#[from] std::io::Error),
}

/// Why a replica ended by itself.
#[derive(Debug, Error)]
pub enum BridgeError {
    /// The broker has no queue that this replica could ever read.
    #[error(transparent)]
    Source(#[from] SourceError),
}

impl Bridge {
    /// Binds the listeners; connects to nothing yet.
    ///
    /// # Errors
    /// An address that cannot be had: choose another in `server.listen` or `admin.listen`. A
    /// certificate that is of no use: mend `server.tls` or `amqp.tls`.
    pub async fn bind(config: Config) -> Result<Self, SetupError> {
        amqp::check_certificates(&config.amqp)?;
        raise_descriptor_limit(config.server.max_connections);
        let metrics = Arc::new(Metrics::new());
        telemetry::count_lost(&metrics.log_lines_lost);
        let readiness = Arc::new(Readiness::new(config.amqp.unready_after));
        let operator_status = Arc::new(OperatorStatus::default());
        let history = Arc::new(empty_history(&config.history, &metrics));
        let (tickets, queue) = match (config.amqp.queue.mode, config.history.deep_reads) {
            (QueueMode::Stream, 1..) => {
                let (mut tickets, queue) = Tickets::new();
                tickets.set_encodings(Arc::clone(history.encodings()));
                (Arc::new(tickets), Some(queue))
            }
            (QueueMode::Stream, 0) | (QueueMode::Queue, _) => (Arc::new(Tickets::none()), None),
        };

        let reload = Arc::new(Reload::default());
        let sources = ServerParts {
            history: Arc::clone(&history),
            tickets: Arc::clone(&tickets),
            metrics: Arc::clone(&metrics),
            readiness: Arc::clone(&readiness),
            operator_status: Arc::clone(&operator_status),
            drain: Arc::new(Drain::default()),
            tls: server::Tls::load(&config.server.tls)?,
            reload: Arc::clone(&reload),
        };
        let server = Server::bind(&config.server, &config.admin, sources)?;
        let (bound, admin) = (server.bound()?, server.admin_bound()?);
        let addresses = Addresses {
            server: bound.first,
            server_ipv6: bound.second,
            admin: admin.map(|admin| admin.first),
            admin_ipv6: admin.and_then(|admin| admin.second),
        };

        let amqp = Arc::new(config.amqp);
        let signs = Signs {
            metrics: Arc::clone(&metrics),
            readiness: Arc::clone(&readiness),
            operator_status: Arc::clone(&operator_status),
        };
        let (source, link) = Source::new(Arc::clone(&amqp), signs);
        let dead_letters = Arc::new(DeadLetters::beside(Arc::clone(&amqp), &link));
        let read_back = queue.and_then(|queue| {
            // What is wrong with the configuration, the source says.
            let (reader, dialer) = Reader::beside(Arc::clone(&amqp), &link).ok()?;
            let parts = backfill::BackfillParts {
                blocks: config.blocks.clone(),
                encoded_bytes_max: config.history.block_bytes_max(),
                turns_max: config.history.deep_reads,
                tickets,
                queue,
                metrics: Arc::clone(&metrics),
            };
            Some(ReadBack { parts, reader, dialer })
        });
        let pipeline = Pipeline::new(PipelineContext {
            blocks: config.blocks,
            queue_mode: amqp.queue.mode,
            queue_name: amqp.queue.resolved_name(),
            encoded_bytes_max: config.history.block_bytes_max(),
            link,
            dead_letters,
            history: Arc::clone(&history),
            metrics,
            readiness,
            operator_status,
        });
        Ok(Self { server, addresses, reload, source, pipeline, history, read_back })
    }

    /// Where it listens.
    pub fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// Where to ask for the files that are read again while it runs: the certificate's.
    pub fn reload(&self) -> Arc<Reload> {
        Arc::clone(&self.reload)
    }

    /// Carries blocks until `shutdown`, then drains (see [`Server::run`]).
    ///
    /// # Errors
    /// What no waiting can heal, such as a queue of another type; the sessions are drained all the same.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), BridgeError> {
        let Self { server, addresses, reload: _, source, pipeline, history, read_back } = self;
        let told = |address: Option<SocketAddr>| address.map(tracing::field::display);
        info!(
            server = %addresses.server,
            server_ipv6 = told(addresses.server_ipv6),
            admin = told(addresses.admin),
            admin_ipv6 = told(addresses.admin_ipv6),
            "listening"
        );
        let (inputs, taken) = mpsc::channel(INPUTS_MAX);
        // Blocks are still delivered while the sessions drain: the feed ends after the server.
        let feed_ends = CancellationToken::new();
        let drain = shutdown.child_token();

        let tasks = TaskTracker::new();
        let source = tasks.spawn({
            let (feed_ends, drain) = (feed_ends.clone(), drain.clone());
            async move {
                let ended = source.run(inputs, feed_ends).await;
                drain.cancel();
                ended
            }
        });
        let mut pipeline = tasks.spawn(pipeline.run(taken, feed_ends.clone()));
        let encoder = tasks.spawn({
            let (feed_ends, drain) = (feed_ends.clone(), drain.clone());
            async move {
                // Should it panic, sessions would wait for it for ever: it is the end of all.
                let _ends_all = drain.drop_guard();
                encoder::run(history, feed_ends).await;
            }
        });
        let backfill = tasks.spawn(serve_deep_reads(read_back, feed_ends.clone()));
        server.run(drain).await;
        feed_ends.cancel();
        match timeout(FEED_END, &mut pipeline).await {
            Ok(ended) => ended.expect("bug: the pipeline panicked"),
            Err(_) => {
                warn!("a dead letter was under way for too long; it may be missing");
                pipeline.abort();
                let _cancelled = pipeline.await;
            }
        }
        encoder.await.expect("bug: the encoder panicked");
        backfill.await.expect("bug: the backfill panicked");
        source.await.expect("bug: the source panicked")?;
        tasks.close();
        tasks.wait().await;
        Ok(())
    }
}

/// An empty history, and the budget of its encodings.
fn empty_history(config: &HistoryConfig, metrics: &Metrics) -> History {
    let bytes = |size: ByteSize| usize::try_from(size.as_u64()).unwrap_or(usize::MAX);
    let counts = EncodingCounts {
        kept: metrics.encodings_bytes.clone(),
        made: metrics.encodings_made_bytes.clone(),
        made_again: metrics.encodings_made_again_bytes.clone(),
        let_go: metrics.encodings_let_go_bytes.clone(),
    };
    let encodings = Encodings::new(bytes(config.encodings_max_bytes), counts);
    History::with(bytes(config.max_bytes), encodings)
}

/// Serves deep reads until `shutdown`.
async fn serve_deep_reads(read_back: Option<ReadBack>, shutdown: CancellationToken) {
    let Some(ReadBack { parts, reader, dialer }) = read_back else { return };
    tokio::select! {
        () = Backfill::new(parts, reader).run(shutdown) => {}
        () = dialer.run() => {}
    }
}

/// The soft limit is often 1,024 where the hard one is enough for every connection.
fn raise_descriptor_limit(connections_max: usize) {
    // Each listener takes plain connections beside the sessions.
    let plain = 2 * server::PLAIN_CONNECTIONS_MAX;
    let wanted = (connections_max.saturating_add(plain) as u64).saturating_add(DESCRIPTORS_BESIDE);
    match rlimit::increase_nofile_limit(u64::MAX) {
        Ok(limit) if limit < wanted => {
            warn!(
                limit,
                wanted,
                "fewer descriptors than server.max_connections needs; raise the hard limit (ulimit -Hn)"
            );
        }
        Ok(_) => {}
        Err(error) => warn!(%error, "cannot raise the limit of open descriptors"),
    }
}
