//! One replica: pipeline, history and sessions as they are, without a broker and without a network.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use fastrand::Rng;
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, yield_now};
use tokio_util::sync::CancellationToken;

use crate::amqp::{DeadLetters, Input, Signs, Source};
use crate::config::{self, Blocks, Config};
use crate::history::{EncodingCounts, Encodings, History};
use crate::metrics::Metrics;
use crate::operator_status::OperatorStatus;
use crate::pipeline::{Pipeline, PipelineContext};
use crate::readiness::Readiness;
use crate::server::testing::SessionContext;
use crate::shutdown::Drain;
use crate::tickets::Tickets;

/// What all replicas of a world are made with.
#[derive(Debug, Clone)]
pub struct Settings {
    pub blocks: Blocks,
    pub history_bytes_max: usize,
    pub encodings_bytes_max: usize,
}

pub struct Replica {
    pub history: Arc<History>,
    pub context: Arc<SessionContext>,
    /// Sender: the world. Receiver: the pipeline. Bound: 1; the world waits in its queue.
    pub inputs: mpsc::Sender<Input>,
    pipeline: JoinHandle<()>,
    encoder: JoinHandle<()>,
    /// Encodings made so far.
    encodings: Arc<AtomicU64>,
    shutdown: CancellationToken,
    _source: Source,
}

impl Replica {
    /// Begins to run it.
    pub fn start(settings: &Settings, random: Rng) -> Self {
        let Settings { blocks, history_bytes_max, encodings_bytes_max } = settings.clone();
        let mut amqp = Config::default().amqp;
        amqp.dead_letter.exchange = None;
        let encodings = Encodings::new(encodings_bytes_max, EncodingCounts::default());
        let history = Arc::new(History::with(history_bytes_max, encodings));
        let metrics = Arc::new(Metrics::new());
        let context = Arc::new(SessionContext {
            limits: config::ServerConfig::default(),
            history: Arc::clone(&history),
            tickets: Arc::new(Tickets::none()),
            metrics: Arc::clone(&metrics),
            drain: Arc::new(Drain::default()),
        });
        let amqp = Arc::new(amqp);
        let readiness = Arc::new(Readiness::new(Duration::MAX));
        let signs = Signs {
            metrics: Arc::clone(&metrics),
            readiness: Arc::clone(&readiness),
            operator_status: Arc::default(),
        };
        let (source, link) = Source::new(Arc::clone(&amqp), signs);
        let pipeline = Pipeline::new(PipelineContext {
            blocks,
            queue_mode: amqp.queue.mode,
            queue_name: "simulated".to_owned(),
            encoded_bytes_max: 1 << 30,
            link,
            dead_letters: Arc::new(DeadLetters::new(amqp)),
            history: Arc::clone(&history),
            metrics,
            readiness,
            operator_status: Arc::new(OperatorStatus::default()),
        });
        let shutdown = CancellationToken::new();
        let (inputs, taken) = mpsc::channel(1);
        let pipeline = tokio::spawn(pipeline.run(taken, shutdown.clone()));
        let encodings = Arc::default();
        let encoder = tokio::spawn(encode(Arc::clone(&history), random, Arc::clone(&encodings)));
        Self { history, context, inputs, pipeline, encoder, encodings, shutdown, _source: source }
    }

    pub fn check_runs(&self) {
        assert!(!self.pipeline.is_finished(), "the pipeline has ended");
        assert!(!self.encoder.is_finished(), "the encoder has ended");
    }

    /// Whether everything that was handed over is taken.
    pub fn has_taken(&self) -> bool {
        self.inputs.capacity() == self.inputs.max_capacity()
    }

    /// How many encodings it has made.
    pub fn encodings_made(&self) -> u64 {
        self.encodings.load(Ordering::Relaxed)
    }

    pub async fn end(&mut self) {
        self.encoder.abort();
        self.shutdown.cancel();
        (&mut self.pipeline).await.expect("the pipeline did not panic");
    }
}

/// What [`crate::encoder`] does, here and now: another thread would come at another time with every
/// run.
async fn encode(history: Arc<History>, mut random: Rng, encodings: Arc<AtomicU64>) {
    loop {
        let mut job = history.encodings().next_job().await;
        for _ in 0..random.u8(0..3) {
            yield_now().await;
        }
        job.make();
        job.finish();
        encodings.fetch_add(1, Ordering::Relaxed);
    }
}
