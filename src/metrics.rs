//! Every metric of this service, by name, with closed label sets: no label comes from input.
//!
//! One [`Metrics`] per [`crate::bridge::Bridge`], shared. Writers never wait.

mod label;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{
    Encoder, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry,
    TextEncoder,
};

pub use label::{
    AuthReload, DeadLetterReason, DecodeErrorKind, DeliveryOutcome, Disconnect, HandshakeRefusal,
    Label, ResumeOutcome, TlsReload,
};

/// Seconds, from a tenth of a millisecond (a loopback write) to a hold's end and a stall.
const SECONDS_BUCKETS: [f64; 15] = [
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0,
    30.0,
];
/// Blocks a session is behind when it begins a write.
const LAG_BUCKETS: [f64; 9] = [0.0, 1.0, 2.0, 5.0, 10.0, 50.0, 100.0, 1_000.0, 10_000.0];

/// One counter per value of a closed label.
pub struct CounterPer<L> {
    counters: Vec<IntCounter>,
    label: std::marker::PhantomData<L>,
}

/// A gauge that is absent until it has a value: a 0 would be taken for one, by an alert too.
#[derive(Clone)]
pub struct KnownGauge {
    gauge: IntGauge,
    is_known: Arc<AtomicBool>,
}

/// Declares [`Metrics`]. Each metric stands here once: its type, its name, its help, and its label or buckets.
macro_rules! metrics {
    ($($field:ident: $kind:ty = $make:ident($name:literal, $help:literal $(, $more:expr)? $(,)?);)*) => {
        /// The registry and every metric in it.
        pub struct Metrics {
            registry: Registry,
            $(#[doc = concat!($help, ".")] pub $field: $kind,)*
        }

        impl Metrics {
            #[expect(clippy::new_without_default, reason = "it registers; it is not a plain value")]
            pub fn new() -> Self {
                let registry = registry();
                Self { $($field: $make(&registry, $name, $help $(, $more)?),)* registry }
            }
        }
    };
}

metrics! {
    amqp_connected: IntGauge = gauge("amqp_connected", "1 while consuming from the broker");
    amqp_reconnects: IntCounter = counter(
        "amqp_reconnects_total",
        "Connections made to the broker after the first",
    );
    amqp_mended_frames: IntCounter = counter(
        "amqp_mended_frames_total",
        "Frames with a producer's bytes that AMQP does not allow, replaced and read",
    );
    amqp_silences: IntCounter = counter(
        "amqp_silences_total",
        "Times that nothing came from a broker that had something and sent heartbeats",
    );
    stream_resets: IntCounter = counter(
        "stream_resets_total",
        "Times the RabbitMQ stream was found made anew or shortened",
    );
    unreadable_entries: IntCounter = counter(
        "unreadable_entries_total",
        "Entries of the RabbitMQ stream passed over, since the broker cannot hand them over",
    );
    deliveries: CounterPer<DeliveryOutcome> = per(
        "deliveries_total",
        "Messages taken from the broker, by what became of them",
        "outcome",
    );
    dead_letters: CounterPer<DeadLetterReason> = per(
        "dead_letters_total",
        "Bad messages, by why: dead-lettered, or in warm-up only summed up",
        "reason",
    );
    dead_letters_failed: IntCounter = counter(
        "dead_letters_failed_total",
        "Dead letters that the broker did not take; each is in the log",
    );
    decode_errors: CounterPer<DecodeErrorKind> = per(
        "decode_errors_total",
        "Message bodies that are not a block",
        "kind",
    );
    block_height: KnownGauge = known("block_height", "Newest height in the history");
    first_height: KnownGauge = known("first_height", "Oldest height in the history");
    last_block_timestamp: KnownGauge = known(
        "last_block_timestamp_seconds",
        "When this replica appended its newest block",
    );
    history_oldest_timestamp: KnownGauge = known(
        "history_oldest_timestamp_seconds",
        "When this replica appended the oldest block in its history",
    );
    blocks: IntCounter = counter("blocks_total", "Blocks taken into the history");
    events: IntCounter = counter("events_total", "Transaction events of those blocks");
    missing_blocks: IntCounter = counter("missing_blocks_total", "Heights given up as gaps");
    history_bytes: IntGauge = gauge("history_bytes", "What the history keeps");
    history_blocks: IntGauge = gauge("history_blocks", "Blocks in the history");
    encodings_bytes: IntGauge = gauge(
        "encodings_bytes",
        "What encodings made on demand keep, and what is set aside for those under way",
    );
    encodings_made_bytes: IntCounter = counter(
        "encodings_made_bytes_total",
        "Encodings made on demand",
    );
    encodings_made_again_bytes: IntCounter = counter(
        "encodings_made_again_bytes_total",
        "Those of them that had been made before, and let go",
    );
    encodings_let_go_bytes: IntCounter = counter(
        "encodings_let_go_bytes_total",
        "Encodings let go to make room for others",
    );
    deep_reads: IntGauge = gauge("deep_reads", "Clients being served from the RabbitMQ stream");
    deep_reads_waiting: IntGauge = gauge(
        "deep_reads_waiting",
        "Clients that wait for a turn to be served from the RabbitMQ stream",
    );
    falls: IntCounter = counter(
        "falls_total",
        "Times that a client's next block had left the memory and it went on from the RabbitMQ stream",
    );
    deep_read_blocks: IntCounter = counter(
        "deep_read_blocks_total",
        "Blocks read back from the RabbitMQ stream for one client each",
    );
    deep_read_turns: IntCounter = counter(
        "deep_read_turns_total",
        "Turns of clients to be served from the RabbitMQ stream, begun",
    );
    deep_read_wait_seconds: Histogram = histogram(
        "deep_read_wait_seconds",
        "From a client's wish to be served from the RabbitMQ stream to the beginning of its turn",
        &SECONDS_BUCKETS,
    );
    deep_read_connections: IntCounter = counter(
        "deep_read_connections_total",
        "Connections made to the broker for readings that share one",
    );
    deep_read_channels: IntCounter = counter(
        "deep_read_channels_total",
        "Channels asked for on those connections",
    );
    deep_reads_busy: IntCounter = counter(
        "deep_reads_busy_total",
        "Times that such a connection had no further channel for a reading",
    );
    sessions: IntGauge = gauge("sessions", "Clients connected to a stream");
    sessions_opened: IntCounter = counter("sessions_total", "Clients ever connected to a stream");
    handshakes_refused: CounterPer<HandshakeRefusal> = per(
        "handshakes_refused_total",
        "Stream requests refused",
        "reason",
    );
    connections_put_out: IntCounter = counter(
        "connections_put_out_total",
        "Connections without a session that gave their place to a newcomer",
    );
    auth_reloads: CounterPer<AuthReload> = per(
        "auth_reloads_total",
        "Changed files of tokens and keys, by what became of them",
        "outcome",
    );
    disconnects: CounterPer<Disconnect> = per(
        "disconnects_total",
        "Sessions ended, by why",
        "reason",
    );
    sent_messages: IntCounter = counter(
        "sent_messages_total",
        "WebSocket messages written in full",
    );
    sent_bytes: IntCounter = counter("sent_bytes_total", "Bytes written to sessions");
    resumes: CounterPer<ResumeOutcome> = per(
        "resumes_total",
        "Starts at a position that a client named",
        "outcome",
    );
    tls_certificate_expiry: KnownGauge = known(
        "tls_certificate_expiry_timestamp_seconds",
        "When the certificate of server.listen expires; absent without TLS",
    );
    tls_reloads: CounterPer<TlsReload> = per(
        "tls_reloads_total",
        "Times that the TLS certificate was read again",
        "outcome",
    );
    log_lines_lost: IntCounter = counter(
        "log_lines_lost_total",
        "Log lines that nobody read in time",
    );
    session_lag_blocks: Histogram = histogram(
        "session_lag_blocks",
        "Blocks behind the tip at the beginning of a write",
        &LAG_BUCKETS,
    );
    delivery_to_append_seconds: Histogram = histogram(
        "delivery_to_append_seconds",
        "From a message's arrival to its block in the history",
        &SECONDS_BUCKETS,
    );
    append_to_write_seconds: Histogram = histogram(
        "append_to_write_seconds",
        "From a block in the history to its last byte handed to a session's socket",
        &SECONDS_BUCKETS,
    );
}

impl<L: Label> CounterPer<L> {
    pub fn add(&self, label: L) {
        self.counters[label.index()].inc();
    }

    pub fn get(&self, label: L) -> u64 {
        self.counters[label.index()].get()
    }
}

impl KnownGauge {
    /// None: it is absent from now on.
    pub fn set(&self, value: Option<i64>) {
        if let Some(value) = value {
            self.gauge.set(value);
        }
        self.is_known.store(value.is_some(), Ordering::Release);
    }
}

impl Collector for KnownGauge {
    fn desc(&self) -> Vec<&Desc> {
        self.gauge.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        match self.is_known.load(Ordering::Acquire) {
            true => self.gauge.collect(),
            false => Vec::new(),
        }
    }
}

impl Metrics {
    /// All metrics in Prometheus' text format, version 0.0.4.
    pub fn to_text(&self) -> String {
        let mut text = Vec::new();
        TextEncoder::new()
            .encode(&self.registry.gather(), &mut text)
            .expect("bug: writing to memory failed");
        String::from_utf8(text).expect("bug: the exposition format is UTF-8")
    }
}

/// With what the program and its process say of themselves.
fn registry() -> Registry {
    let registry = Registry::new();
    let build = Opts::new("blockcast_build_info", "1, with this program's version")
        .const_label("version", env!("CARGO_PKG_VERSION"));
    register(&registry, IntGauge::with_opts(build)).set(1);
    let process = prometheus::process_collector::ProcessCollector::for_self();
    registry.register(Box::new(process)).expect("bug: a metric is registered twice");
    registry
}

fn named(name: &str) -> String {
    format!("blockcast_{name}")
}

fn made<C>(metric: prometheus::Result<C>) -> C {
    metric.expect("bug: a metric's name or buckets are malformed")
}

fn register<C: Collector + Clone + 'static>(
    registry: &Registry,
    metric: prometheus::Result<C>,
) -> C {
    let metric = made(metric);
    registry.register(Box::new(metric.clone())).expect("bug: a metric is registered twice");
    metric
}

fn counter(registry: &Registry, name: &str, help: &str) -> IntCounter {
    register(registry, IntCounter::new(named(name), help))
}

fn gauge(registry: &Registry, name: &str, help: &str) -> IntGauge {
    register(registry, IntGauge::new(named(name), help))
}

fn known(registry: &Registry, name: &str, help: &str) -> KnownGauge {
    let gauge = IntGauge::new(named(name), help);
    let gauge = gauge.map(|gauge| KnownGauge { gauge, is_known: Arc::default() });
    register(registry, gauge)
}

fn per<L: Label>(registry: &Registry, name: &str, help: &str, label: &str) -> CounterPer<L> {
    let family = register(registry, IntCounterVec::new(Opts::new(named(name), help), &[label]));
    let counters = L::ALL.iter().map(|value| family.with_label_values(&[value.name()]));
    CounterPer { counters: counters.collect(), label: std::marker::PhantomData }
}

fn histogram(registry: &Registry, name: &str, help: &str, buckets: &[f64]) -> Histogram {
    let options = HistogramOpts::new(named(name), help).buckets(buckets.to_vec());
    register(registry, Histogram::with_opts(options))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_label_value_is_there_from_the_start() {
        let metrics = Metrics::new();
        metrics.deliveries.add(DeliveryOutcome::MarkedInvalid);
        let text = metrics.to_text();
        for line in [
            "blockcast_deliveries_total{outcome=\"marked_invalid\"} 1",
            "blockcast_deliveries_total{outcome=\"published\"} 0",
            "blockcast_disconnects_total{reason=\"no_pong\"} 0",
            "blockcast_amqp_connected 0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} not in\n{text}");
        }
        assert!(text.contains("blockcast_build_info{version="), "{text}");
    }

    #[test]
    fn a_gauge_without_a_value_is_absent() {
        let metrics = Metrics::new();
        let names = [
            ("blockcast_block_height", &metrics.block_height),
            ("blockcast_first_height", &metrics.first_height),
            ("blockcast_last_block_timestamp_seconds", &metrics.last_block_timestamp),
            ("blockcast_history_oldest_timestamp_seconds", &metrics.history_oldest_timestamp),
            ("blockcast_tls_certificate_expiry_timestamp_seconds", &metrics.tls_certificate_expiry),
        ];
        for (name, gauge) in names {
            assert!(!metrics.to_text().contains(name), "{name} is there before its value");
            for value in [7, 0] {
                gauge.set(Some(value));
                let line = format!("{name} {value}");
                assert!(metrics.to_text().lines().any(|found| found == line), "no {line}");
            }
            gauge.set(None);
            assert!(!metrics.to_text().contains(name), "{name} is there without a value");
        }
    }
}
