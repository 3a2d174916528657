//! A case as a table's line: what is sent, in which pieces, and what must come back.

/// FIN and the opcodes of RFC 6455 section 5.2.
pub const FIN: u8 = 0x80;
pub const CONTINUATION: u8 = 0x0;
pub const TEXT: u8 = 0x1;
pub const BINARY: u8 = 0x2;
pub const CLOSE: u8 = 0x8;
pub const PING: u8 = 0x9;
pub const PONG: u8 = 0xa;

const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// One case: a connection of its own.
#[derive(Debug)]
pub struct Case {
    /// Autobahn's number; with a letter where one of its cases is several here.
    pub number: String,
    /// The request's `Sec-WebSocket-Extensions`, and what the answer says.
    pub offer: Option<(&'static str, Option<&'static str>)>,
    pub steps: Vec<Step>,
}

#[derive(Debug)]
pub enum Step {
    Send(Vec<u8>),
    /// Exactly these bytes are next.
    Due(Vec<u8>),
}

/// How a case's frames go out.
#[derive(Debug, Clone, Copy)]
pub enum Chop {
    /// In one write.
    Whole,
    /// A write per frame.
    Frames,
    /// Writes of so many octets.
    Octets(usize),
}

impl Case {
    pub fn new(number: impl Into<String>) -> Self {
        Self { number: number.into(), offer: None, steps: Vec::new() }
    }

    pub fn offering(mut self, offer: &'static str, agreed: Option<&'static str>) -> Self {
        self.offer = Some((offer, agreed));
        self
    }

    pub fn send(mut self, frames: &[Vec<u8>], chop: Chop) -> Self {
        match chop {
            Chop::Whole => self.steps.push(Step::Send(frames.concat())),
            Chop::Frames => self.steps.extend(frames.iter().cloned().map(Step::Send)),
            Chop::Octets(octets) => {
                let bytes = frames.concat();
                self.steps.extend(bytes.chunks(octets).map(|piece| Step::Send(piece.to_vec())));
            }
        }
        self
    }

    pub fn then_pong(mut self, payload: &[u8]) -> Self {
        self.steps.push(Step::Due(unmasked(FIN | PONG, payload)));
        self
    }

    /// A pong to each of these pings, in order, though RFC 6455 section 5.5.3 asks for the last one only.
    pub fn then_pongs(self, payloads: &[Vec<u8>]) -> Self {
        payloads.iter().fold(self, |case, payload| case.then_pong(payload))
    }

    /// Nothing more comes back for what was sent: the connection lives, and ends as it should.
    pub fn then_taken(self) -> Self {
        let goodbye = 1000_u16.to_be_bytes();
        let still_here = frame(FIN | PING, b"still here");
        self.send(&[still_here], Chop::Whole)
            .then_pong(b"still here")
            .send(&[frame(FIN | CLOSE, &goodbye)], Chop::Whole)
            .then_closed_with(&goodbye)
    }

    /// The close frame has this payload, and is the last.
    pub fn then_closed_with(mut self, payload: &[u8]) -> Self {
        self.steps.push(Step::Due(unmasked(FIN | CLOSE, payload)));
        self
    }

    pub fn then_refused(self, code: u16, why: &str) -> Self {
        // The history is empty: that is where this client would go on.
        let reason = format!("from_height=oldest {why}");
        self.then_closed_with(&[&code.to_be_bytes(), reason.as_bytes()].concat())
    }
}

/// A client's frame: masked.
pub fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = header(first, 0x80, payload.len());
    bytes.extend(MASK);
    bytes.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}

/// One message in frames of so many octets.
pub fn fragments(opcode: u8, payload: &[u8], octets: usize) -> Vec<Vec<u8>> {
    let mut pieces: Vec<&[u8]> = payload.chunks(octets).collect();
    if pieces.is_empty() {
        pieces.push(&[]);
    }
    let last = pieces.len() - 1;
    let frames = pieces.into_iter().enumerate().map(|(place, piece)| {
        let fin = if place == last { FIN } else { 0 };
        frame(fin | if place == 0 { opcode } else { CONTINUATION }, piece)
    });
    frames.collect()
}

/// A server's frame.
fn unmasked(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = header(first, 0, payload.len());
    bytes.extend(payload);
    bytes
}

fn header(first: u8, mask: u8, length: usize) -> Vec<u8> {
    let mut bytes = vec![first];
    match length {
        0..126 => bytes.push(mask | length as u8),
        126..65_536 => {
            bytes.push(mask | 126);
            bytes.extend((length as u16).to_be_bytes());
        }
        _ => {
            bytes.push(mask | 127);
            bytes.extend((length as u64).to_be_bytes());
        }
    }
    bytes
}
