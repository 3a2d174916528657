//! A stream in memory, for the tests of this room and of others.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;

use super::stream::{ReadableStream, StreamMessages};
use crate::amqp::{Bounds, Message, ReadError};
use crate::packing::Packing;

/// As many as RabbitMQ's reader yields for a look.
const PEEKED: usize = 32;
/// As long as one takes there.
const LOOK: Duration = Duration::from_millis(14);

#[derive(Clone, Default)]
pub struct Tape {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    messages: Mutex<Vec<Message>>,
    /// Told when messages are added or lost.
    changed: watch::Sender<()>,
    looks: Mutex<u64>,
    /// How often it was asked where it begins and ends.
    askings: Mutex<u64>,
    /// Readings at a time, if there is a bound.
    readings_max: Mutex<Option<usize>>,
    /// Shared with each reading under way.
    reading: Arc<()>,
    /// Messages handed over by readings, scans included.
    played: Mutex<u64>,
    /// Whether readings are given nothing until somebody gives up.
    is_mute: Mutex<bool>,
    /// Reads that fail before they succeed again.
    failures: Mutex<u32>,
}

pub struct Playing {
    tape: Tape,
    /// One of those that there are at a time.
    _reading: Arc<()>,
    next_offset: u64,
}

impl Tape {
    /// Bodies of blocks at these heights, offsets `apart` from one to the next.
    pub fn of(heights: impl IntoIterator<Item = u64>, apart: u64) -> Self {
        let tape = Self::default();
        for (at, height) in heights.into_iter().enumerate() {
            tape.push(at as u64 * apart, body(height));
        }
        tape
    }

    pub fn push(&self, offset: u64, body: Vec<u8>) {
        self.messages().push(Message { offset, body, packing: Packing::default() });
        self.inner.changed.send_replace(());
    }

    /// Another stream takes this one's place: other blocks at the same heights and offsets.
    pub fn make_anew(&self) {
        for message in self.messages().iter_mut() {
            message.body.insert(0, b' ');
        }
    }

    /// Loses everything before the message at this index.
    pub fn trim(&self, index: usize) {
        self.messages().drain(..index);
    }

    /// Loses everything from the message at this index on.
    pub fn keep_first(&self, index: usize) {
        self.messages().truncate(index);
    }

    pub fn looks(&self) -> u64 {
        *self.inner.looks.lock().expect("no test panicked with it")
    }

    pub fn askings(&self) -> u64 {
        *self.inner.askings.lock().expect("no test panicked with it")
    }

    /// Has no room for more readings than this at a time.
    pub fn limit_readings(&self, count: usize) {
        *self.inner.readings_max.lock().expect("no test panicked with it") = Some(count);
    }

    pub fn played(&self) -> u64 {
        *self.inner.played.lock().expect("no test panicked with it")
    }

    /// Gives readings nothing any more, without ending them, until somebody gives up.
    pub fn mute(&self) {
        *self.is_mute() = true;
    }

    /// Whether readings are given nothing.
    pub fn is_mute(&self) -> std::sync::MutexGuard<'_, bool> {
        self.inner.is_mute.lock().expect("no test panicked with it")
    }

    /// Ends every reading under way, and fails the next `count` calls.
    pub fn fail(&self, count: u32) {
        *self.failures() = count;
        self.inner.changed.send_replace(());
    }

    fn messages(&self) -> std::sync::MutexGuard<'_, Vec<Message>> {
        self.inner.messages.lock().expect("no test panicked with it")
    }

    fn failures(&self) -> std::sync::MutexGuard<'_, u32> {
        self.inner.failures.lock().expect("no test panicked with it")
    }

    fn from(&self, offset: u64, max: usize) -> Vec<Message> {
        let messages = self.messages();
        let at = messages.partition_point(|message| message.offset < offset);
        messages[at..].iter().take(max).cloned().collect()
    }

    fn call(&self) -> Result<(), ReadError> {
        let mut failures = self.failures();
        match failures.checked_sub(1) {
            Some(left) => {
                *failures = left;
                Err(ReadError::Lost("as the test wants".into()))
            }
            None => Ok(()),
        }
    }
}

impl ReadableStream for Tape {
    type Messages = Playing;

    async fn bounds(&self) -> Result<Option<Bounds>, ReadError> {
        self.call()?;
        *self.inner.askings.lock().expect("no test panicked with it") += 1;
        let messages = self.messages();
        let ends = messages.first().zip(messages.last());
        Ok(ends.map(|(first, last)| Bounds { first: first.offset, last: last.offset }))
    }

    async fn peek(&self, offset: u64) -> Result<Vec<Message>, ReadError> {
        self.call()?;
        *self.inner.looks.lock().expect("no test panicked with it") += 1;
        sleep(LOOK).await;
        Ok(self.from(offset, PEEKED))
    }

    async fn read_from(&self, offset: u64) -> Result<Playing, ReadError> {
        self.call()?;
        let readings_max = *self.inner.readings_max.lock().expect("no test panicked with it");
        let readings = Arc::strong_count(&self.inner.reading) - 1;
        if readings_max.is_some_and(|max| readings >= max) {
            return Err(ReadError::Busy("as the test wants".into()));
        }
        let reading = Arc::clone(&self.inner.reading);
        Ok(Playing { tape: self.clone(), _reading: reading, next_offset: offset })
    }

    fn give_up(&self) {
        *self.is_mute() = false;
        self.fail(1);
    }

    async fn close(&self) {}
}

impl StreamMessages for Playing {
    async fn next(&mut self) -> Result<Message, ReadError> {
        let mut changed = self.tape.inner.changed.subscribe();
        loop {
            if *self.tape.failures() > 0 {
                return self.tape.call().map(|()| unreachable!("a failure is due"));
            }
            if *self.tape.is_mute() {
                changed.changed().await.expect("the tape is there");
                continue;
            }
            if let Some(message) = self.tape.from(self.next_offset, 1).pop() {
                self.next_offset = message.offset + 1;
                *self.tape.inner.played.lock().expect("no test panicked with it") += 1;
                return Ok(message);
            }
            changed.changed().await.expect("the tape is there");
        }
    }
}

/// A block with one transaction, its height a string in every third.
pub fn body(height: u64) -> Vec<u8> {
    let transactions = format!("[{{\"id\": \"t{height}\"}}]");
    match height % 3 {
        0 => format!("{{\"height\": \"{height}\", \"transactions\": {transactions}}}"),
        _ => format!("{{\"height\": {height}, \"transactions\": {transactions}}}"),
    }
    .into_bytes()
}
