//! What comes out of a connection that speaks Server-Sent Events: an answer's head, then events.

use std::io::Write;

use flate2::write::GzDecoder;

use crate::protocol::RefusalBody;
use crate::simulation::pipe::Stamp;

use super::Closed;

/// The body of one answer.
pub struct EventStream {
    /// Until it is whole.
    head: Option<Vec<u8>>,
    /// The answer is a refusal, and this what it says so far.
    refusal: Option<Vec<u8>>,
    /// Where the head says so.
    gunzip: Option<GzDecoder<Vec<u8>>>,
    text: Vec<u8>,
}

/// One event, or what has no more than an id, or nothing.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Event {
    pub id: Option<String>,
    pub kind: Option<String>,
    pub data: Option<String>,
}

impl EventStream {
    pub fn new() -> Self {
        Self { head: Some(Vec::new()), refusal: None, gunzip: None, text: Vec::new() }
    }

    pub fn take(&mut self, mut bytes: Vec<u8>) {
        if let Some(head) = &mut self.head {
            head.append(&mut bytes);
            let Some(end) = head.windows(4).position(|it| it == b"\r\n\r\n") else { return };
            bytes = head.split_off(end + 4);
            self.refusal = (!head.starts_with(b"HTTP/1.1 200 OK\r\n")).then(Vec::new);
            let gzip = b"\r\nContent-Encoding: gzip\r\n";
            let is_gzip = head.windows(gzip.len()).any(|line| line == gzip);
            self.gunzip = is_gzip.then(|| GzDecoder::new(Vec::new()));
            self.head = None;
        }
        match (&mut self.refusal, &mut self.gunzip) {
            (Some(refusal), _) => refusal.append(&mut bytes),
            (None, None) => self.text.append(&mut bytes),
            (None, Some(gunzip)) => {
                gunzip.write_all(&bytes).expect("a gzip stream");
                gunzip.flush().expect("a gzip stream");
                self.text.append(gunzip.get_mut());
            }
        }
    }

    /// The next whole event.
    pub fn next(&mut self) -> Option<Event> {
        let end = self.text.windows(2).position(|it| it == b"\n\n")?;
        let text: Vec<u8> = self.text.drain(..end + 2).collect();
        let text = String::from_utf8(text).expect("text");
        let mut event = Event::default();
        for line in text.lines().filter(|line| !line.is_empty()) {
            let (name, value) = line.split_once(':').expect("a field, or a comment");
            let value = value.strip_prefix(' ').unwrap_or(value).to_owned();
            let twice = match name {
                "id" => event.id.replace(value),
                "event" => event.kind.replace(value),
                "data" => event.data.replace(value),
                "retry" | "" => None,
                _ => panic!("no such field: {line}"),
            };
            assert_eq!(twice, None, "twice in {text}");
        }
        Some(event)
    }

    /// What a refusal says, as the close of a WebSocket would.
    pub fn refused(&self, stamp: Stamp) -> Option<Closed> {
        let body = self.refusal.as_ref()?.strip_suffix(b"\n")?;
        let message = RefusalBody::message_in(body).expect("a message");
        let (code, reason) = match message.split_once(": ") {
            Some((_, reason)) => (4009, reason.rsplit(": ").next().unwrap_or(reason)),
            None if message.ends_with(" done") => (1000, &*message),
            None if message.ends_with(" draining") => (1001, &*message),
            None => (4010, &*message),
        };
        Some(Closed { code, reason: reason.to_owned(), stamp })
    }
}
