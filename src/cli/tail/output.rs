//! Lines on their way to stdout.

use bytes::{Buf, BytesMut};
use serde_json::json;
use tokio::io::{AsyncWriteExt, Stdout};

use crate::client::{Position, StreamMessage};

/// What is collected before it is written while more messages are there already.
const FULL_BYTES: usize = 64 << 10;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// The stream's messages as they came.
    Raw,
    /// Everything that a stream has to say: objects with a `type` and the `cursor` behind it.
    Json,
}

pub struct Output {
    form: Form,
    lines: BytesMut,
    stdout: Stdout,
}

impl Output {
    pub fn new(form: Form) -> Self {
        Self { form, lines: BytesMut::new(), stdout: tokio::io::stdout() }
    }

    pub fn form(&self) -> Form {
        self.form
    }

    /// Adds what the form has for a message: a whole line, or nothing.
    pub fn print(&mut self, message: &StreamMessage, cursor: Option<&Position>, address: &str) {
        match self.form {
            Form::Raw => {
                if let Some((_, text)) = raw(message) {
                    self.push(text);
                }
            }
            Form::Json => self.push(&object(message, cursor, address)),
        }
    }

    /// Whether it is time to flush although more is to come.
    pub fn is_full(&self) -> bool {
        self.lines.len() >= FULL_BYTES
    }

    /// Writes all lines and waits until stdout has taken them.
    ///
    /// # Cancel safety
    /// What was not written stays.
    pub async fn flush(&mut self) -> std::io::Result<()> {
        while self.lines.has_remaining() {
            self.stdout.write_buf(&mut self.lines).await?;
        }
        self.stdout.flush().await
    }

    /// JSON may stand on several lines, between its tokens; here it is one.
    fn push(&mut self, text: &str) {
        let start = self.lines.len();
        self.lines.extend_from_slice(text.as_bytes());
        for byte in &mut self.lines[start..] {
            if matches!(byte, b'\n' | b'\r') {
                *byte = b' ';
            }
        }
        self.lines.extend_from_slice(b"\n");
    }
}

/// What a message is called, and its text as it came.
fn raw(message: &StreamMessage) -> Option<(&'static str, &str)> {
    match message {
        StreamMessage::Event(event) => Some(("event", &event.text)),
        StreamMessage::Summary(summary) => Some(("summary", &summary.text)),
        StreamMessage::Batch(batch) => Some(("batch", &batch.text)),
        _ => None,
    }
}

fn object(message: &StreamMessage, cursor: Option<&Position>, address: &str) -> String {
    let cursor = json!(cursor.map(ToString::to_string));
    if let Some((name, text)) = raw(message) {
        return format!(r#"{{"type": "{name}", "cursor": {cursor}, "{name}": {text}}}"#);
    }
    let (name, keys) = match message {
        StreamMessage::Connected => ("connected", vec![("url", json!(address))]),
        StreamMessage::Position { first_height, tip_height } => (
            "position",
            vec![("first_height", json!(first_height)), ("tip_height", json!(tip_height))],
        ),
        StreamMessage::BlockEnd { height, events } => {
            ("block", vec![("height", json!(height)), ("events", json!(events))])
        }
        StreamMessage::Gap { from_height, to_height } => {
            ("gap", vec![("from_height", json!(from_height)), ("to_height", json!(to_height))])
        }
        StreamMessage::Filled { height } => ("filled", vec![("height", json!(height))]),
        StreamMessage::Heartbeat { height } => ("heartbeat", vec![("height", json!(height))]),
        StreamMessage::Disconnected { why, again_in } => (
            "disconnected",
            vec![("why", json!(why)), ("again_in_seconds", json!(again_in.as_secs_f64()))],
        ),
        StreamMessage::Event(_) | StreamMessage::Summary(_) | StreamMessage::Batch(_) => {
            unreachable!("bug: `raw` has texts for these")
        }
    };
    let keys: String = keys.iter().map(|(key, value)| format!(r#", "{key}": {value}"#)).collect();
    format!(r#"{{"type": "{name}", "cursor": {cursor}{keys}}}"#)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::{BlockSummary, Event};
    use std::time::Duration;

    #[test]
    fn every_line_is_one_object_with_its_type_and_cursor() {
        let event = Event {
            height: 7,
            transaction_id: "t".into(),
            asset_ids: vec![],
            text: "{\"height\": 7,\n\"transaction_id\": \"t\"}".into(),
        };
        let summary =
            BlockSummary { height: 8, hash: None, transaction_ids: vec![], text: "{}".into() };
        let cursor: Position = "7.0".parse().expect("a cursor");
        let mut output = Output::new(Form::Json);
        for message in [
            StreamMessage::Event(event),
            StreamMessage::Summary(summary),
            StreamMessage::Connected,
            StreamMessage::Position { first_height: Some(1), tip_height: None },
            StreamMessage::BlockEnd { height: 7, events: 1 },
            StreamMessage::Gap { from_height: 8, to_height: 9 },
            StreamMessage::Filled { height: 8 },
            StreamMessage::Heartbeat { height: None },
            StreamMessage::Disconnected {
                why: "a \"b\"".into(),
                again_in: Duration::from_millis(500),
            },
        ] {
            output.print(&message, Some(&cursor), "ws://x");
        }
        let lines = String::from_utf8(output.lines.to_vec()).expect("text");
        let expected = [
            r#"{"type": "event", "cursor": "7.0", "event": {"height": 7, "transaction_id": "t"}}"#,
            r#"{"type": "summary", "cursor": "7.0", "summary": {}}"#,
            r#"{"type": "connected", "cursor": "7.0", "url": "ws://x"}"#,
            r#"{"type": "position", "cursor": "7.0", "first_height": 1, "tip_height": null}"#,
            r#"{"type": "block", "cursor": "7.0", "height": 7, "events": 1}"#,
            r#"{"type": "gap", "cursor": "7.0", "from_height": 8, "to_height": 9}"#,
            r#"{"type": "filled", "cursor": "7.0", "height": 8}"#,
            r#"{"type": "heartbeat", "cursor": "7.0", "height": null}"#,
            r#"{"type": "disconnected", "cursor": "7.0", "why": "a \"b\"", "again_in_seconds": 0.5}"#,
        ];
        assert_eq!(lines.lines().collect::<Vec<_>>(), expected);
        for line in lines.lines() {
            assert!(serde_json::from_str::<serde_json::Value>(line).is_ok(), "{line}");
        }
    }

    #[test]
    fn the_raw_form_has_nothing_but_the_streams_messages() {
        let mut output = Output::new(Form::Raw);
        output.print(&StreamMessage::Gap { from_height: 8, to_height: 9 }, None, "");
        output.print(&StreamMessage::BlockEnd { height: 7, events: 1 }, None, "");
        assert!(output.lines.is_empty());
        let text = "{\"height\": 8}".to_owned();
        let summary = BlockSummary { height: 8, hash: None, transaction_ids: vec![], text };
        output.print(&StreamMessage::Summary(summary), None, "");
        assert_eq!(output.lines, "{\"height\": 8}\n");
    }
}
