//! The read side of a WebSocket, as RFC 6455 has it, for a server that only listens for control
//! frames: data is checked and skipped, and never kept. No sockets here; bytes in, [`Heard`] out.
//!
//! tungstenite reads the frame header; the rest is ours. An adapter around the library would have to
//! hide RSV1, which it takes for an error, from a message that it would then check and collect as if it
//! were plain; and it would bring message buffers that nobody reads and a write side that has to keep
//! out of the way of the data. What is needed here is to find the frames' ends.
//!
//! A compressed message (RFC 7692) is skipped as it came: it is bounded by its compressed size, and
//! whether it inflates, and to UTF-8, is not looked at.

use std::io::Cursor;

use thiserror::Error;
use tokio_tungstenite::tungstenite::protocol::frame::FrameHeader;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Control, Data, OpCode};

/// RFC 6455 section 5.2: 2 bytes, 8 of extended length, 4 of mask.
const HEADER_BYTES_MAX: usize = 14;
/// RFC 6455 section 5.5.
const CONTROL_PAYLOAD_BYTES_MAX: u64 = 125;
/// How much is unmasked at a time while text is checked.
const UNMASK_BYTES: usize = 256;

/// What a client said that matters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    Ping(Vec<u8>),
    Pong,
    /// None when the frame gave no code.
    Close(Option<u16>),
}

/// What a client did that the protocol forbids: each is a close code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Fault {
    #[error("{0}")]
    Protocol(&'static str),
    #[error("text that is not UTF-8")]
    NotUtf8,
    #[error("message too big")]
    TooBig,
}

/// Where in a client's byte stream we are.
#[derive(Debug)]
pub struct Inbound {
    message_bytes_max: u64,
    /// Whether messages may be compressed: permessage-deflate is agreed on.
    is_deflated: bool,
    /// A header that is not whole yet.
    header: [u8; HEADER_BYTES_MAX],
    header_bytes: u8,
    frame: Option<Frame>,
    /// A data message whose final frame has not come.
    message: Option<DataMessage>,
}

#[derive(Debug)]
struct Frame {
    opcode: OpCode,
    is_final: bool,
    mask: [u8; 4],
    done: u64,
    left: u64,
    /// A control frame's payload so far; empty for data.
    payload: Vec<u8>,
}

#[derive(Debug)]
struct DataMessage {
    /// Plain text: it must be UTF-8.
    is_text: bool,
    bytes: u64,
    text: Utf8,
}

/// The end of a text that may stop in the middle of a character.
#[derive(Debug, Default)]
struct Utf8 {
    pending: [u8; 4],
    pending_bytes: usize,
}

impl Inbound {
    pub fn new(message_bytes_max: u64, is_deflated: bool) -> Self {
        Self {
            message_bytes_max,
            is_deflated,
            header: [0; HEADER_BYTES_MAX],
            header_bytes: 0,
            frame: None,
            message: None,
        }
    }

    /// Consumes from the front of `input` until something was heard or nothing is left.
    ///
    /// # Errors
    /// [`Fault`]: the session must be closed with its code; this must not be called again.
    pub fn next(&mut self, input: &mut &[u8]) -> Result<Option<Heard>, Fault> {
        loop {
            if self.frame.is_none() && !self.read_header(input)? {
                return Ok(None);
            }
            if let Some(heard) = self.read_payload(input)? {
                return Ok(Some(heard));
            }
            if self.frame.is_some() {
                return Ok(None);
            }
        }
    }

    /// Returns whether a frame has begun.
    fn read_header(&mut self, input: &mut &[u8]) -> Result<bool, Fault> {
        while let Some((first, rest)) = input.split_first() {
            self.header[usize::from(self.header_bytes)] = *first;
            self.header_bytes += 1;
            *input = rest;
            let mut cursor = Cursor::new(&self.header[..usize::from(self.header_bytes)]);
            let parsed =
                FrameHeader::parse(&mut cursor).map_err(|_| Fault::Protocol("reserved opcode"))?;
            if let Some((header, length)) = parsed {
                self.header_bytes = 0;
                if !is_shortest(self.header[1], length) {
                    return Err(Fault::Protocol("length not in its shortest form"));
                }
                self.frame = Some(self.begin(&header, length)?);
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn begin(&mut self, header: &FrameHeader, length: u64) -> Result<Frame, Fault> {
        // RFC 7692 section 6: RSV1 stands on the first frame of a data message, and nowhere else.
        let may_be_deflated =
            self.is_deflated && matches!(header.opcode, OpCode::Data(Data::Text | Data::Binary));
        if header.rsv1 && !may_be_deflated || header.rsv2 || header.rsv3 {
            return Err(Fault::Protocol("reserved bit set"));
        }
        let mask = header.mask.ok_or(Fault::Protocol("client frames must be masked"))?;
        match header.opcode {
            OpCode::Control(_) if !header.is_final => {
                return Err(Fault::Protocol("fragmented control frame"));
            }
            OpCode::Control(_) if length > CONTROL_PAYLOAD_BYTES_MAX => {
                return Err(Fault::Protocol("control frame above 125 bytes"));
            }
            OpCode::Control(_) => {}
            OpCode::Data(Data::Continue) if self.message.is_none() => {
                return Err(Fault::Protocol("continuation of nothing"));
            }
            OpCode::Data(Data::Continue) => {}
            OpCode::Data(_) if self.message.is_some() => {
                return Err(Fault::Protocol("new message before the last one's end"));
            }
            OpCode::Data(data) => {
                let is_text = data == Data::Text && !header.rsv1;
                self.message = Some(DataMessage { is_text, bytes: 0, text: Utf8::default() });
            }
        }
        if let (OpCode::Data(_), Some(message)) = (header.opcode, &mut self.message) {
            // Nothing counts for something in the middle of a message, or it would go on for ever.
            let is_middle = header.opcode == OpCode::Data(Data::Continue) && !header.is_final;
            message.bytes = message.bytes.saturating_add(length.max(u64::from(is_middle)));
            if message.bytes > self.message_bytes_max {
                return Err(Fault::TooBig);
            }
        }
        let (opcode, is_final) = (header.opcode, header.is_final);
        Ok(Frame { opcode, is_final, mask, done: 0, left: length, payload: Vec::new() })
    }

    /// Takes what is there of the current frame; at its end says what it was.
    fn read_payload(&mut self, input: &mut &[u8]) -> Result<Option<Heard>, Fault> {
        let Some(frame) = &mut self.frame else { return Ok(None) };
        let here = input.len().min(usize::try_from(frame.left).unwrap_or(usize::MAX));
        let (payload, rest) = input.split_at(here);
        *input = rest;
        for chunk in payload.chunks(UNMASK_BYTES) {
            let mut clear = [0; UNMASK_BYTES];
            let clear = &mut clear[..chunk.len()];
            for (at, (clear, masked)) in clear.iter_mut().zip(chunk).enumerate() {
                *clear = masked ^ frame.mask[(frame.done as usize + at) % 4];
            }
            frame.done += chunk.len() as u64;
            frame.left -= chunk.len() as u64;
            match (frame.opcode, &mut self.message) {
                (OpCode::Control(_), _) => frame.payload.extend_from_slice(clear),
                (_, Some(message)) if message.is_text => message.text.take(clear)?,
                _ => {}
            }
        }
        if frame.left > 0 {
            return Ok(None);
        }
        let Some(frame) = self.frame.take() else { return Ok(None) };
        match frame.opcode {
            OpCode::Control(Control::Ping) => Ok(Some(Heard::Ping(frame.payload))),
            OpCode::Control(Control::Pong) => Ok(Some(Heard::Pong)),
            OpCode::Control(_) => close_code(&frame.payload).map(|code| Some(Heard::Close(code))),
            OpCode::Data(_) if !frame.is_final => Ok(None),
            OpCode::Data(_) => match self.message.take() {
                Some(message) if message.is_text && !message.text.is_whole() => Err(Fault::NotUtf8),
                _ => Ok(None),
            },
        }
    }
}

/// RFC 6455 section 5.2: `second` says how many bytes the length takes, which must be the least.
fn is_shortest(second: u8, length: u64) -> bool {
    match second & 0x7f {
        126 => length > 125,
        127 => length > 65_535,
        _ => true,
    }
}

/// RFC 6455 sections 5.5.1 and 7.4: nothing, or a code that may be sent and UTF-8.
fn close_code(payload: &[u8]) -> Result<Option<u16>, Fault> {
    match payload {
        [] => Ok(None),
        [_] => Err(Fault::Protocol("close frame of one byte")),
        [high, low, reason @ ..] => {
            let code = u16::from_be_bytes([*high, *low]);
            if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
                return Err(Fault::Protocol("close code that must not be sent"));
            }
            std::str::from_utf8(reason).map_err(|_| Fault::NotUtf8)?;
            Ok(Some(code))
        }
    }
}

impl Utf8 {
    /// Goes on with the text; it may end in the middle of a character.
    fn take(&mut self, mut bytes: &[u8]) -> Result<(), Fault> {
        while self.pending_bytes > 0 {
            let Some((first, rest)) = bytes.split_first() else { return Ok(()) };
            self.pending[self.pending_bytes] = *first;
            self.pending_bytes += 1;
            bytes = rest;
            match std::str::from_utf8(&self.pending[..self.pending_bytes]) {
                Ok(_) => self.pending_bytes = 0,
                Err(error) if error.error_len().is_some() => return Err(Fault::NotUtf8),
                Err(_) => {}
            }
        }
        match std::str::from_utf8(bytes) {
            Ok(_) => Ok(()),
            Err(error) if error.error_len().is_some() => Err(Fault::NotUtf8),
            Err(error) => {
                let tail = &bytes[error.valid_up_to()..];
                self.pending[..tail.len()].copy_from_slice(tail);
                self.pending_bytes = tail.len();
                Ok(())
            }
        }
    }

    fn is_whole(&self) -> bool {
        self.pending_bytes == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A masked client frame: first byte (FIN, reserved bits, opcode) and payload.
    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mask = [0x12, 0x34, 0x56, 0x78];
        let mut bytes = vec![first];
        match payload.len() {
            length @ 0..126 => bytes.push(0x80 | length as u8),
            length @ 126..65_536 => {
                bytes.push(0x80 | 126);
                bytes.extend((length as u16).to_be_bytes());
            }
            length => {
                bytes.push(0x80 | 127);
                bytes.extend((length as u64).to_be_bytes());
            }
        }
        bytes.extend(mask);
        bytes.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        bytes
    }

    /// A binary frame's header with its length in the form that `second` says, whatever it is.
    fn long_form(second: u8, length: u64) -> Vec<u8> {
        let length = length.to_be_bytes();
        let length = if second == 126 { &length[6..] } else { &length };
        [&[0x82, 0x80 | second], length, &[0; 4]].concat()
    }

    /// What is heard when the bytes arrive in pieces of `step`.
    fn hear(bytes: &[u8], is_deflated: bool, step: usize) -> Result<Vec<Heard>, Fault> {
        let mut inbound = Inbound::new(1_000, is_deflated);
        let mut heard = Vec::new();
        for mut piece in bytes.chunks(step) {
            while let Some(one) = inbound.next(&mut piece)? {
                heard.push(one);
            }
            assert!(piece.is_empty(), "all is consumed");
        }
        Ok(heard)
    }

    #[test]
    #[expect(clippy::too_many_lines, reason = "a table of cases")]
    fn rfc_6455_case_by_case_and_byte_by_byte() {
        let ping = || Heard::Ping(b"hi".to_vec());
        let not_shortest = || Err(Fault::Protocol("length not in its shortest form"));
        let long_text = "ü€😀".repeat(100).into_bytes();
        type Case = (&'static str, Vec<u8>, Result<Vec<Heard>, Fault>);
        let cases: Vec<Case> = vec![
            ("text is skipped", frame(0x81, b"hello"), Ok(vec![])),
            ("long text is skipped", frame(0x81, &long_text), Ok(vec![])),
            ("binary may hold anything", frame(0x82, &[0xff, 0xfe]), Ok(vec![])),
            ("empty text", frame(0x81, b""), Ok(vec![])),
            ("ping", frame(0x89, b"hi"), Ok(vec![ping()])),
            ("ping of 125", frame(0x89, &[7; 125]), Ok(vec![Heard::Ping(vec![7; 125])])),
            ("pong", frame(0x8a, b"hi"), Ok(vec![Heard::Pong])),
            (
                "ping between fragments",
                [frame(0x01, "ü".as_bytes()), frame(0x89, b"hi"), frame(0x80, b"x")].concat(),
                Ok(vec![ping()]),
            ),
            (
                "a character across fragments",
                [
                    frame(0x01, &"😀".as_bytes()[..1]),
                    frame(0x00, &"😀".as_bytes()[1..3]),
                    frame(0x80, &"😀".as_bytes()[3..]),
                ]
                .concat(),
                Ok(vec![]),
            ),
            ("close", frame(0x88, b""), Ok(vec![Heard::Close(None)])),
            ("close with code", frame(0x88, b"\x03\xe8bye"), Ok(vec![Heard::Close(Some(1000))])),
            ("close 3000", frame(0x88, b"\x0b\xb8"), Ok(vec![Heard::Close(Some(3000))])),
            (
                "close of one byte",
                frame(0x88, b"\x03"),
                Err(Fault::Protocol("close frame of one byte")),
            ),
            (
                "close 1005",
                frame(0x88, b"\x03\xed"),
                Err(Fault::Protocol("close code that must not be sent")),
            ),
            (
                "close 999",
                frame(0x88, b"\x03\xe7"),
                Err(Fault::Protocol("close code that must not be sent")),
            ),
            (
                "close 5000",
                frame(0x88, b"\x13\x88"),
                Err(Fault::Protocol("close code that must not be sent")),
            ),
            ("close reason not UTF-8", frame(0x88, b"\x03\xe8\xff"), Err(Fault::NotUtf8)),
            ("text not UTF-8", frame(0x81, b"\xce\xba\xe1\xff"), Err(Fault::NotUtf8)),
            ("text ends in mid-character", frame(0x81, b"\xce"), Err(Fault::NotUtf8)),
            ("surrogate in text", frame(0x81, b"\xed\xa0\x80"), Err(Fault::NotUtf8)),
            ("opcode 3", frame(0x83, b""), Err(Fault::Protocol("reserved opcode"))),
            ("opcode 11", frame(0x8b, b""), Err(Fault::Protocol("reserved opcode"))),
            ("fragmented ping", frame(0x09, b""), Err(Fault::Protocol("fragmented control frame"))),
            (
                "ping of 126",
                frame(0x89, &[0; 126]),
                Err(Fault::Protocol("control frame above 125 bytes")),
            ),
            (
                "continuation of nothing",
                frame(0x80, b""),
                Err(Fault::Protocol("continuation of nothing")),
            ),
            (
                "text inside a message",
                [frame(0x01, b""), frame(0x81, b"")].concat(),
                Err(Fault::Protocol("new message before the last one's end")),
            ),
            ("16 bits of length for 125", long_form(126, 125), not_shortest()),
            ("16 bits of length for 126", frame(0x82, &[0; 126]), Ok(vec![])),
            ("64 bits of length for 65,535", long_form(127, 65_535), not_shortest()),
            ("64 bits of length for 65,536", long_form(127, 65_536), Err(Fault::TooBig)),
            ("not masked", vec![0x81, 0x00], Err(Fault::Protocol("client frames must be masked"))),
            ("1,000 bytes", frame(0x82, &[0; 1_000]), Ok(vec![])),
            ("1,001 bytes", frame(0x82, &[0; 1_001]), Err(Fault::TooBig)),
            (
                "1,001 bytes in fragments",
                [frame(0x02, &[0; 1_000]), frame(0x80, &[0; 1])].concat(),
                Err(Fault::TooBig),
            ),
            (
                "1,000 bytes with an empty frame at either end",
                [frame(0x02, b""), frame(0x00, &[0; 1_000]), frame(0x80, b"")].concat(),
                Ok(vec![]),
            ),
            (
                "1,000 empty fragments in the middle",
                [frame(0x01, b""), frame(0x00, b"").repeat(1_000), frame(0x80, b"")].concat(),
                Ok(vec![]),
            ),
            (
                "1,001 empty fragments in the middle",
                [frame(0x01, b""), frame(0x00, b"").repeat(1_001)].concat(),
                Err(Fault::TooBig),
            ),
            (
                "2^63 bytes announced",
                vec![0x82, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4],
                Err(Fault::TooBig),
            ),
        ];
        for (name, bytes, expected) in cases {
            for step in [1, 2, 3, 7, 4_096] {
                for is_deflated in [false, true] {
                    let heard = hear(&bytes, is_deflated, step);
                    assert_eq!(heard, expected, "{name}, {step} bytes at a time, {is_deflated}");
                }
            }
        }
    }

    #[test]
    fn reserved_bits_are_for_compressed_messages_that_were_agreed_on() {
        let reserved = || Err(Fault::Protocol("reserved bit set"));
        let ping = || Heard::Ping(b"hi".to_vec());
        // "Hello" of RFC 7692 section 7.2.3.1: no UTF-8.
        let hello = [0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
        type Case = (&'static str, Vec<u8>, Result<Vec<Heard>, Fault>);
        let cases: Vec<Case> = vec![
            ("text", frame(0xc1, &hello), Ok(vec![])),
            ("binary", frame(0xc2, &hello), Ok(vec![])),
            ("what does not inflate", frame(0xc1, &[0xff; 9]), Ok(vec![])),
            (
                "fragments of RFC 7692 section 7.2.3.1, a ping between",
                [frame(0x41, &hello[..3]), frame(0x89, b"hi"), frame(0x80, &hello[3..])].concat(),
                Ok(vec![ping()]),
            ),
            (
                "a plain text behind it is checked again",
                [frame(0xc1, &hello), frame(0x81, &hello)].concat(),
                Err(Fault::NotUtf8),
            ),
            ("a plain text", frame(0x81, "ü".as_bytes()), Ok(vec![])),
            ("1,000 bytes", frame(0xc2, &[0; 1_000]), Ok(vec![])),
            ("1,001 bytes", frame(0xc2, &[0; 1_001]), Err(Fault::TooBig)),
            (
                "1,001 bytes in fragments",
                [frame(0x41, &[0; 600]), frame(0x80, &[0; 401])].concat(),
                Err(Fault::TooBig),
            ),
            ("continuation", [frame(0x41, &hello), frame(0xc0, b"")].concat(), reserved()),
            ("continuation of plain", [frame(0x01, b"x"), frame(0xc0, b"")].concat(), reserved()),
            ("ping", frame(0xc9, b"hi"), reserved()),
            ("pong", frame(0xca, b""), reserved()),
            ("close", frame(0xc8, b""), reserved()),
            ("rsv2", frame(0xa1, b""), reserved()),
            ("rsv3", frame(0x91, b""), reserved()),
            ("rsv1 and rsv2", frame(0xe1, &hello), reserved()),
        ];
        for (name, bytes, expected) in cases {
            for step in [1, 2, 3, 7, 4_096] {
                assert_eq!(hear(&bytes, true, step), expected, "{name}, {step} bytes at a time");
                if bytes[0] & 0x40 != 0 {
                    assert_eq!(hear(&bytes, false, step), reserved(), "{name}, not agreed on");
                }
            }
        }
    }
}
