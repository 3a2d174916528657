//! A small text file, read whole.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use crate::byte_order_mark;

/// More is not read: no such file is meant.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Its text, without a byte order mark. Blocks for as long as reading takes.
///
/// # Errors
/// It is missing, not ours to read, larger than any such file, or not UTF-8.
pub fn read(path: &Path) -> io::Result<String> {
    let mut bytes = Vec::new();
    File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    let text = byte_order_mark::skipped(&bytes).to_vec();
    String::from_utf8(text)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is not UTF-8"))
}
