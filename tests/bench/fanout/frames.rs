//! The load client's whole knowledge of WebSocket: where frames end, and how many were texts.

use anyhow::ensure;
use tokio::net::TcpStream;

/// RFC 6455, section 5.2: the last frame of a message, a text; and the bit that says it is compressed.
const TEXT: u8 = 0x81;
const COMPRESSED: u8 = 0x40;

/// Finds the ends of frames in a stream of bytes.
#[derive(Default)]
pub struct Frames {
    /// Bytes of the current frame's payload still to come.
    left: usize,
    header: Vec<u8>,
    /// Texts of which at least the header is here.
    begun: usize,
    /// The current frame, or the last one, is a text.
    in_text: bool,
}

impl Frames {
    /// Texts that are here to their last byte.
    pub fn texts(&self) -> usize {
        self.begun - usize::from(self.in_text && self.left > 0)
    }

    /// Reads on until so many texts are here.
    pub async fn receive(&mut self, client: &TcpStream, texts: usize) -> anyhow::Result<()> {
        while self.texts() < texts {
            client.readable().await?;
            let mut bytes = [0; 4_096];
            match client.try_read(&mut bytes) {
                Ok(count) => {
                    ensure!(count > 0, "the client was cut");
                    self.take(&bytes[..count]);
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    pub fn take(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.left > 0 {
                let here = self.left.min(bytes.len());
                self.left -= here;
                bytes = &bytes[here..];
                continue;
            }
            // The common case: a whole header of four bytes.
            if let (true, [TEXT, 126, high, low, rest @ ..]) = (self.header.is_empty(), bytes) {
                self.left = usize::from(u16::from_be_bytes([*high, *low]));
                self.begun += 1;
                self.in_text = true;
                bytes = rest;
                continue;
            }
            self.header.push(bytes[0]);
            bytes = &bytes[1..];
            self.left = match self.header[..] {
                [_, length @ 0..=125] => usize::from(length),
                [_, 126, high, low] => usize::from(u16::from_be_bytes([high, low])),
                [_, 127, ..] => panic!("no block of this bench has such a frame"),
                _ => continue,
            };
            self.in_text = self.header[0] & !COMPRESSED == TEXT;
            self.begun += usize::from(self.in_text);
            self.header.clear();
        }
    }
}
