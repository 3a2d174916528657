//! What a client sends behind its handshake: cut anywhere it is heard alike, and what is heard is what
//! another implementation hears.

#![no_main]

use std::io::{self, Cursor, Read, Write};

use blockcast::session::fuzzed::{Heard, Inbound};
use libfuzzer_sys::fuzz_target;
use tungstenite::protocol::{Role, WebSocket, WebSocketConfig};
use tungstenite::{Error, Message};

const MESSAGE_BYTES_MAX: usize = 1_000;
/// Registered with IANA (bad gateway) and unknown to tungstenite, which takes it for a fault.
const UNKNOWN_CODE: u16 = 1014;
const FAULT_CODE: u16 = 1002;
/// Of a length in more bytes than it needs (RFC 6455 section 5.2), which tungstenite lets pass.
const LONG_LENGTH: &str = "length not in its shortest form";
/// Of fragments without a byte, which count here and not there.
const TOO_BIG: &str = "message too big";

/// What there was, and how it ended.
#[derive(Debug, PartialEq)]
struct Story {
    heard: Vec<Heard>,
    end: End,
}

#[derive(Debug, PartialEq)]
enum End {
    /// More may come.
    Open,
    Fault(String),
}

fuzz_target!(|bytes: &[u8]| {
    let Some((first, bytes)) = bytes.split_first() else { return };
    let is_deflated = first & 1 == 1;
    let whole = ours(bytes, is_deflated, usize::MAX);
    for step in [1, 2 + usize::from(first >> 1)] {
        assert_eq!(ours(bytes, is_deflated, step), whole, "{step} at a time");
    }
    if !is_deflated {
        compare(&whole, &theirs(bytes));
    }
});

/// Up to a close, behind which nothing counts.
fn ours(bytes: &[u8], is_deflated: bool, step: usize) -> Story {
    let mut inbound = Inbound::new(MESSAGE_BYTES_MAX as u64, is_deflated);
    let mut heard = Vec::new();
    for mut piece in bytes.chunks(step.min(bytes.len().max(1))) {
        loop {
            match inbound.next(&mut piece) {
                Ok(None) => break,
                Ok(Some(one)) => {
                    let is_close = matches!(one, Heard::Close(_));
                    heard.push(one);
                    if is_close {
                        return Story { heard, end: End::Open };
                    }
                }
                Err(fault) => return Story { heard, end: End::Fault(fault.to_string()) },
            }
        }
        assert!(piece.is_empty(), "all of it is taken");
    }
    Story { heard, end: End::Open }
}

fn theirs(bytes: &[u8]) -> Story {
    let config = WebSocketConfig::default()
        .max_message_size(Some(MESSAGE_BYTES_MAX))
        .max_frame_size(Some(MESSAGE_BYTES_MAX));
    let mut socket =
        WebSocket::from_raw_socket(Wire(Cursor::new(bytes)), Role::Server, Some(config));
    let mut heard = Vec::new();
    loop {
        match socket.read() {
            Ok(Message::Ping(payload)) => heard.push(Heard::Ping(payload.to_vec())),
            Ok(Message::Pong(_)) => heard.push(Heard::Pong),
            Ok(Message::Close(frame)) => {
                heard.push(Heard::Close(frame.map(|frame| frame.code.into())));
                return Story { heard, end: End::Open };
            }
            Ok(_) => {}
            Err(Error::Io(_)) => return Story { heard, end: End::Open },
            Err(error) => return Story { heard, end: End::Fault(error.to_string()) },
        }
    }
}

/// We may find a fault earlier, before all of its frame is there, and are stricter with close codes; what
/// we let pass, they let pass.
fn compare(ours: &Story, theirs: &Story) {
    match ours.end {
        End::Open => {
            let known = ours.heard.iter().cloned().map(|heard| match heard {
                Heard::Close(Some(UNKNOWN_CODE)) => Heard::Close(Some(FAULT_CODE)),
                known => known,
            });
            assert_eq!(known.collect::<Vec<_>>(), theirs.heard);
            assert_eq!(ours.end, theirs.end);
        }
        End::Fault(ref fault) => {
            let heard = theirs.heard.iter().take(ours.heard.len());
            assert!(heard.eq(&ours.heard), "{ours:?}, {theirs:?}");
            let beyond = &theirs.heard[ours.heard.len()..];
            let is_close = matches!(beyond, [Heard::Close(_)]);
            let is_let_pass = [LONG_LENGTH, TOO_BIG].contains(&fault.as_str());
            assert!(beyond.is_empty() || is_close || is_let_pass, "{ours:?}, {theirs:?}");
        }
    }
}

/// Bytes in, and nothing minded of what goes out.
struct Wire<'a>(Cursor<&'a [u8]>);

impl Read for Wire<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.0.read(buffer)? {
            0 => Err(io::ErrorKind::WouldBlock.into()),
            read => Ok(read),
        }
    }
}

impl Write for Wire<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
