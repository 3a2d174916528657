//! What this replica says of itself: status, readiness, metrics. Never URIs, never addresses.

use std::time::{SystemTime, UNIX_EPOCH};

use hyper::StatusCode;
use hyper::header::{self, HeaderValue};
use serde_json::{Value, json};

use super::answer::{Answer, json_answer};
use super::context::ServerContext;
use crate::history::HistorySummary;
use crate::metrics::{Label, Metrics};
use crate::protocol::RefusalBody;
use crate::readiness::State;

/// Gaps named one by one; beyond that only their number in `blockcast_missing_blocks_total`.
const GAPS_MAX: usize = 100;
/// Seconds after which a refused client may try again.
pub const RETRY_AFTER: HeaderValue = HeaderValue::from_static("5");

pub fn status(context: &ServerContext) -> Value {
    let summary = context.session.history.summary();
    let recorded = context.operator_status.snapshot();
    let rejected = recorded
        .last_rejected
        .map(|(reason, at)| json!({ "reason": reason.name(), "at": rfc3339(at) }));
    let unreadable = recorded
        .last_unreadable
        .map(|(from, to, at)| json!({ "from_offset": from, "to_offset": to, "at": rfc3339(at) }));
    let silence = recorded.last_silence.map(
        |(after, end, at)| json!({ "after_offset": after, "end_offset": end, "at": rfc3339(at) }),
    );
    let gaps = context.session.history.gaps(GAPS_MAX);
    let gaps: Vec<_> = gaps
        .into_iter()
        .map(|(from, to)| json!({ "from_height": from, "to_height": to }))
        .collect();
    json!({
        "software": "Blockcast",
        "version": env!("CARGO_PKG_VERSION"),
        "state": name(context.readiness.state()),
        "broker": if context.readiness.is_connected() { "connected" } else { "lost" },
        "tip_height": summary.tip,
        "tip_at": summary.tip_time.map(rfc3339),
        "first_height": summary.first_height,
        "broker_first_height": context.session.tickets.first_height(),
        "gaps": gaps,
        "history": { "blocks": summary.blocks, "bytes": summary.bytes },
        "sessions": context.admission.inside(),
        "last_rejected": rejected,
        "last_unreadable": unreadable,
        "last_silence": silence,
        "another_chain_published": recorded.another_chain_published,
    })
}

pub fn ready(context: &ServerContext) -> Answer {
    let state = context.readiness.state();
    let status = match state {
        State::Ready => StatusCode::OK,
        State::Warming | State::BrokerLost | State::Unreadable | State::Draining => {
            StatusCode::SERVICE_UNAVAILABLE
        }
    };
    let mut answer = json_answer(
        status,
        &RefusalBody { status: status.as_u16(), message: name(state) }.to_json(),
    );
    if status != StatusCode::OK {
        answer.headers_mut().insert(header::RETRY_AFTER, RETRY_AFTER);
    }
    answer
}

/// The metrics as text; those that are read off the history are read now.
pub fn metrics(context: &ServerContext) -> String {
    let metrics = &context.session.metrics;
    set_history(metrics, context.session.history.summary());
    metrics.sessions.set(context.admission.inside() as i64);
    metrics.to_text()
}

/// What an empty history has no value for is absent.
fn set_history(metrics: &Metrics, summary: HistorySummary) {
    let seconds = |time: SystemTime| {
        let since = time.duration_since(UNIX_EPOCH).ok()?;
        Some(since.as_secs() as i64)
    };
    metrics.block_height.set(summary.tip.map(|tip| tip as i64));
    metrics.first_height.set(summary.first_height.map(|height| height as i64));
    metrics.last_block_timestamp.set(summary.tip_time.and_then(seconds));
    metrics.history_oldest_timestamp.set(summary.oldest_time.and_then(seconds));
    metrics.history_bytes.set(summary.bytes as i64);
    metrics.history_blocks.set(summary.blocks as i64);
}

pub fn name(state: State) -> &'static str {
    match state {
        State::Ready => "ready",
        State::Warming => "warming",
        State::BrokerLost => "broker lost",
        State::Unreadable => "unreadable entry",
        State::Draining => "draining",
    }
}

fn rfc3339(time: SystemTime) -> String {
    humantime::format_rfc3339_millis(time).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::testing::block;
    use crate::history::History;

    #[test]
    fn an_empty_history_has_no_heights_and_no_times() {
        let (metrics, history) = (Metrics::new(), History::new(1 << 20));
        let names = [
            "block_height",
            "first_height",
            "last_block_timestamp_seconds",
            "history_oldest_timestamp_seconds",
        ];
        let check = |are_there: bool| {
            set_history(&metrics, history.summary());
            let text = metrics.to_text();
            for name in names {
                assert_eq!(text.contains(&format!("blockcast_{name} ")), are_there, "{name}");
            }
        };
        check(false);
        history.append(block(0, 1));
        check(true);
        assert!(metrics.to_text().contains("blockcast_block_height 0\n"), "a real height");
        history.start_over();
        check(false);
        history.append_gap(1, 9);
        history.append(block(10, 1));
        check(true);
    }
}
