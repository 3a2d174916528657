//! A small text file that is replaced as a whole, or written in place where replacing it is refused.
//!
//! A file that is a mount point of its own (Docker's `-v FILE:FILE`, Kubernetes' `subPath`) cannot be
//! renamed over, and a directory may be closed to this program while the file is not. There the bytes
//! that change are written with one call: a killed program leaves the old text or the new one, as long
//! as that range lies within one page of the file. Absent here: what the text says.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::{byte_order_mark, small_file};

/// Far above any record; a longer file was named by mistake.
const FILE_BYTES_MAX: u64 = 64 << 10;

/// What a person does about a file that can neither be replaced nor written.
pub const WAY_OUT: &str = "name a file in a directory that this program may write, or one that is there and that it may write";

/// A file that remembers something from one run to the next.
#[derive(Debug)]
pub struct RecordFile {
    path: PathBuf,
    /// Set once replacing was refused and writing in place was not.
    is_in_place: bool,
}

impl RecordFile {
    /// Touches nothing yet.
    pub fn new(path: PathBuf) -> Self {
        Self { path, is_in_place: false }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The text, without a byte order mark; `None` when there is no file, or an empty one: a container's
    /// single file is made empty before it is mounted.
    ///
    /// # Errors
    /// The file cannot be read, is too long, or is not text.
    pub fn read(&self) -> io::Result<Option<String>> {
        let bytes = match File::open(&self.path) {
            Ok(file) => bytes_of(&file)?,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let bytes = byte_order_mark::skipped(&bytes);
        // A machine that lost its power may leave zeros where a first text was on its way.
        if bytes.iter().all(|byte| *byte == 0 || byte.is_ascii_whitespace()) {
            return Ok(None);
        }
        let text = str::from_utf8(bytes).map_err(|_| ErrorKind::InvalidData)?;
        Ok(Some(text.to_owned()))
    }

    /// Proves that the file can be written, and leaves it as it is.
    ///
    /// # Errors
    /// As for [`Self::write`].
    pub fn prove(&mut self) -> io::Result<()> {
        match File::open(&self.path) {
            Ok(file) => self.write_bytes(&bytes_of(&file)?),
            Err(error) if error.kind() == ErrorKind::NotFound => new_beside(&self.path)?.close(),
            Err(error) => Err(error),
        }
    }

    /// Writes the text; it is on the disk when this returns. Blocks for as long as a small file
    /// takes. In place, spaces fill up what was longer before.
    ///
    /// # Errors
    /// The file can neither be replaced nor written; it holds the old text.
    pub fn write(&mut self, text: &str) -> io::Result<()> {
        self.write_bytes(text.as_bytes())
    }

    fn write_bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.is_in_place {
            return write_in_place(&self.path, bytes);
        }
        match replace(&self.path, bytes) {
            Err(error) if refuses_replacing(&error) => {
                // Why it cannot be replaced says more than why it cannot be opened.
                write_in_place(&self.path, bytes).map_err(|_| error)?;
                self.is_in_place = true;
                Ok(())
            }
            replaced => replaced,
        }
    }
}

/// A mount point, another filesystem, a directory that is not ours to write, or read-only.
fn refuses_replacing(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ResourceBusy
            | ErrorKind::CrossesDevices
            | ErrorKind::PermissionDenied
            | ErrorKind::ReadOnlyFilesystem
    )
}

/// A new file beside it, on the disk before it takes the name; then the name.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    // What a link leads to is replaced, not the link.
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let mut new = new_beside(&path)?;
    new.write_all(bytes)?;
    new.as_file().sync_all()?;
    new.persist(&path)?;
    // The new text has the name; a directory that cannot be read may lose that in a power cut.
    let _ = File::open(directory(&path)).and_then(|file| file.sync_all());
    Ok(())
}

fn write_in_place(path: &Path, bytes: &[u8]) -> io::Result<()> {
    patch(path, bytes, |file, bytes, at| file.write_all_at(bytes, at))
}

/// One call of `write` for the bytes that differ, from the first to the last, at their place. The file
/// never becomes shorter: a kill between two calls would leave a mixture.
fn patch(
    path: &Path,
    bytes: &[u8],
    write: impl FnOnce(&File, &[u8], u64) -> io::Result<()>,
) -> io::Result<()> {
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    let old = bytes_of(&file)?;
    let mut new = bytes.to_owned();
    new.resize(new.len().max(old.len()), b' ');
    let same_bytes = old.iter().zip(&new).take_while(|(old, new)| old == new).count();
    let end = match new.len() > old.len() {
        true => new.len(),
        false => (same_bytes..new.len()).rfind(|at| old[*at] != new[*at]).map_or(0, |at| at + 1),
    };
    if same_bytes < end {
        write(&file, &new[same_bytes..end], same_bytes as u64)?;
    }
    file.sync_all()
}

fn bytes_of(file: &File) -> io::Result<Vec<u8>> {
    match file.metadata()?.is_file() {
        true => small_file::read_open(file, FILE_BYTES_MAX),
        false => Err(io::Error::new(ErrorKind::InvalidInput, "it is no regular file")),
    }
}

/// An empty file beside it, which goes when this is dropped. It always has the same name, so that a
/// killed program leaves one such file at most, and the next write takes its place.
fn new_beside(path: &Path) -> io::Result<NamedTempFile> {
    let name = path.file_name().unwrap_or_default();
    let mut builder = tempfile::Builder::new();
    builder.prefix(name).suffix(".new").rand_bytes(0);
    builder.make_in(directory(path), |path| File::create(path))
}

fn directory(path: &Path) -> &Path {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    directory.unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn record(path: &Path) -> RecordFile {
        RecordFile::new(path.to_owned())
    }

    #[test]
    fn a_text_is_found_again_and_no_other_file_stays() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("state");
        let mut file = record(&path);
        file.prove().expect("it can be written");
        assert!(!path.exists(), "nothing is written yet");
        assert_eq!(file.read().expect("read"), None);
        for text in ["one\n", "another\n", "x"] {
            file.write(text).expect("written");
            file.prove().expect("it can be written");
            assert_eq!(file.read().expect("read").as_deref(), Some(text));
        }
        assert_eq!(fs::read_dir(directory.path()).expect("listed").count(), 1);
    }

    #[test]
    fn what_a_killed_program_left_beside_it_is_taken_over_and_the_rights_are_the_usual_ones() {
        let directory = tempfile::tempdir().expect("a directory");
        let (path, usual) = (directory.path().join("state"), directory.path().join("usual"));
        fs::write(directory.path().join("state.new"), "half a te").expect("written");
        fs::write(&usual, "").expect("written");
        record(&path).write("text").expect("written");
        let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode();
        assert_eq!(mode(&path), mode(&usual));
        assert_eq!(fs::read_to_string(&path).expect("read"), "text");
        assert_eq!(fs::read_dir(directory.path()).expect("listed").count(), 2);
    }

    #[test]
    fn a_link_stays_and_what_it_leads_to_is_replaced() {
        let directory = tempfile::tempdir().expect("a directory");
        let (target, link) = (directory.path().join("target"), directory.path().join("link"));
        fs::write(&target, "old").expect("written");
        std::os::unix::fs::symlink(&target, &link).expect("linked");
        record(&link).write("new").expect("written");
        assert!(fs::symlink_metadata(&link).expect("there").is_symlink());
        assert_eq!(fs::read_to_string(&target).expect("read"), "new");
    }

    #[test]
    fn an_empty_file_is_no_text() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("state");
        for empty in ["", "\n", "  \n", "\0\0\0", "\u{feff}", "\u{feff}\n"] {
            fs::write(&path, empty).expect("written");
            assert_eq!(record(&path).read().expect("read"), None, "{empty:?}");
        }
    }

    #[test]
    fn in_place_only_what_differs_is_written_and_a_longer_text_is_filled_up() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("state");
        fs::write(&path, "").expect("written");
        for (text, expected) in [
            ("height = 9\n", "height = 9\n"),
            ("height = 10\n", "height = 10\n"),
            ("height = 10\n", "height = 10\n"),
            ("height = 7\n", "height = 7\n "),
            ("height = 1000\n", "height = 1000\n"),
            ("", "              "),
        ] {
            write_in_place(&path, text.as_bytes()).expect("written");
            assert_eq!(fs::read_to_string(&path).expect("read"), expected);
        }
        let missing = write_in_place(&directory.path().join("none"), b"x");
        assert_eq!(missing.expect_err("there is none").kind(), ErrorKind::NotFound);
    }

    #[test]
    fn a_byte_order_mark_is_no_part_of_a_text() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        fs::write(file.path(), "\u{feff}height = 9\n").expect("written");
        let text = record(file.path()).read().expect("read");
        assert_eq!(text.as_deref(), Some("height = 9\n"));
    }

    /// A kill comes before the one call, or behind it: whoever opens the file then finds the old text
    /// or the new one.
    #[test]
    fn in_place_the_old_text_is_whole_until_the_one_call_that_makes_it_the_new_one() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let found = || fs::read_to_string(file.path()).expect("read");
        for (old, new, found_then) in [
            ("", "height = 9\n", "height = 9\n"),
            ("height = 9\n", "height = 10\n", "height = 10\n"),
            ("height = 1234\n", "height = 1299\n", "height = 1299\n"),
            ("height = 1000\n", "height = 7\n", "height = 7\n   "),
            ("node = \"a\"\n", "height = 7\n", "height = 7\n"),
        ] {
            fs::write(file.path(), old).expect("written");
            let killed = |_: &File, _: &[u8], _| {
                assert_eq!(found(), old, "before the call");
                Err(ErrorKind::Interrupted.into())
            };
            patch(file.path(), new.as_bytes(), killed).expect_err("killed");
            assert_eq!(found(), old, "nothing is undone or finished");
            let carried_out = |file: &File, bytes: &[u8], at| {
                assert_eq!(found(), old, "before the call");
                file.write_all_at(bytes, at)?;
                assert_eq!(found(), found_then, "behind the call");
                Ok(())
            };
            patch(file.path(), new.as_bytes(), carried_out).expect("written");
            assert_eq!(found(), found_then);
        }
    }

    #[test]
    fn what_is_no_small_file_is_refused() {
        let directory = tempfile::tempdir().expect("a directory");
        assert!(record(directory.path()).read().is_err());
        assert!(record(directory.path()).prove().is_err());
        assert!(record(Path::new("/dev/null")).prove().is_err(), "it would be replaced by a file");
        let path = directory.path().join("long");
        fs::write(&path, vec![b'x'; FILE_BYTES_MAX as usize + 1]).expect("written");
        let error = record(&path).read().expect_err("too long");
        assert_eq!(error.kind(), ErrorKind::FileTooLarge);
        assert!(record(&directory.path().join("none").join("state")).prove().is_err());
    }
}
