//! gzip and deflate, unpacked within a bound: a body of a kilobyte can say a megabyte.

use flate2::{Decompress, FlushDecompress, Status};

use super::error::UnpackError;

/// The largest window that there is; see RFC 1950.
const WINDOW_BITS: u8 = 15;
/// Unpacked at first; then twice as much each time.
const BYTES_MIN: usize = 16 << 10;
/// A member takes a microsecond to begin and 20 bytes; programs that write several make them large.
const MEMBERS_MAX: usize = 1_024;

/// A `content_encoding` that is unpacked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// RFC 1952: one member or several, one after the other.
    Gzip,
    /// RFC 1950, as RFC 9110 wants it, or RFC 1951 without a head, as some send it.
    Deflate,
}

/// What is packed in the body.
///
/// # Errors
/// The body is cut off, damaged, followed by something else, or unpacks to more than `bytes_max`.
pub fn inflate(body: &[u8], format: Format, bytes_max: usize) -> Result<Vec<u8>, UnpackError> {
    let mut unpacked = Vec::new();
    let mut rest = body;
    for _member in 0..MEMBERS_MAX {
        rest = one(rest, format, bytes_max, &mut unpacked)?;
        match format {
            _ if rest.is_empty() => return Ok(unpacked),
            Format::Gzip if rest.starts_with(&[0x1f, 0x8b]) => {}
            Format::Gzip | Format::Deflate => {
                return Err(format.corrupt("has bytes behind its end"));
            }
        }
    }
    Err(format.corrupt("has more than 1,024 members"))
}

/// Unpacks one stream; what is behind it is left.
fn one<'a>(
    body: &'a [u8],
    format: Format,
    bytes_max: usize,
    unpacked: &mut Vec<u8>,
) -> Result<&'a [u8], UnpackError> {
    let mut inflater = format.inflater(body);
    let mut rest = body;
    loop {
        if unpacked.len() > bytes_max {
            return Err(UnpackError::TooLarge { bytes_max });
        }
        if unpacked.len() == unpacked.capacity() {
            // One more than may be: by that it shows that there is more.
            let room = bytes_max.saturating_add(1) - unpacked.len();
            unpacked.reserve_exact(unpacked.len().max(BYTES_MIN).min(room));
        }
        let (before_in, before_out) = (inflater.total_in(), unpacked.len());
        let status = inflater
            .decompress_vec(rest, unpacked, FlushDecompress::None)
            .map_err(|_| format.corrupt("is damaged"))?;
        let taken = inflater.total_in() - before_in;
        rest = &rest[usize::try_from(taken).expect("bug: more was taken than there is")..];
        match status {
            Status::StreamEnd if unpacked.len() > bytes_max => {
                return Err(UnpackError::TooLarge { bytes_max });
            }
            Status::StreamEnd => return Ok(rest),
            Status::Ok | Status::BufError => {
                let is_stuck = taken == 0 && unpacked.len() == before_out;
                if is_stuck && unpacked.len() < unpacked.capacity() {
                    return Err(format.corrupt("is cut off"));
                }
            }
        }
    }
}

impl Format {
    fn inflater(self, body: &[u8]) -> Decompress {
        match self {
            Format::Gzip => Decompress::new_gzip(WINDOW_BITS),
            Format::Deflate => Decompress::new(has_zlib_head(body)),
        }
    }

    fn corrupt(self, fault: &'static str) -> UnpackError {
        let encoding = match self {
            Format::Gzip => "gzip",
            Format::Deflate => "deflate",
        };
        UnpackError::Corrupt { encoding, fault }
    }
}

/// RFC 1950 section 2.2. Where a raw stream begins, these four bits say a stored block with padding
/// that is not zero, which no program writes.
fn has_zlib_head(body: &[u8]) -> bool {
    match body {
        [method, flags, ..] => {
            method & 0x0f == 8 && u16::from_be_bytes([*method, *flags]).is_multiple_of(31)
        }
        _ => false,
    }
}
