//! Small files, read whole.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use crate::byte_order_mark;

/// The bytes of a file, without a byte order mark. Blocks for as long as reading takes.
///
/// # Errors
/// It is missing, not ours to read, or has more than `bytes_max`: no such file is meant.
pub fn read(path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    let bytes = read_open(&File::open(path)?, bytes_max)?;
    Ok(byte_order_mark::skipped(&bytes).to_vec())
}

/// The text of a file, without a byte order mark. Blocks for as long as reading takes.
///
/// # Errors
/// As those of [`read`], or it is not UTF-8.
pub fn read_text(path: &Path, bytes_max: u64) -> io::Result<String> {
    String::from_utf8(read(path, bytes_max)?)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is not UTF-8"))
}

/// All bytes of an open file, from where it stands.
///
/// # Errors
/// It cannot be read, or has more than `bytes_max`.
pub fn read_open(mut file: &File, bytes_max: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.by_ref().take(bytes_max.saturating_add(1)).read_to_end(&mut bytes)?;
    match bytes.len() as u64 > bytes_max {
        true => Err(io::ErrorKind::FileTooLarge.into()),
        false => Ok(bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_up_to_its_bound_and_without_its_mark() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), b"\xef\xbb\xbftext").expect("written");
        assert_eq!(read(file.path(), 7).expect("read"), b"text");
        assert_eq!(read_text(file.path(), 7).expect("read"), "text");
        let kind = read(file.path(), 6).expect_err("too long").kind();
        assert_eq!(kind, io::ErrorKind::FileTooLarge);
        std::fs::write(file.path(), b"\xff").expect("written");
        let kind = read_text(file.path(), 7).expect_err("no text").kind();
        assert_eq!(kind, io::ErrorKind::InvalidData);
    }
}
