//! A value that files hold: read at start, and read again when they change or when it is asked for.
//!
//! Files that cannot be used change nothing: the value before them stays in force. Absent here: what
//! the files hold, and what is logged and counted.

use std::convert::Infallible;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::reload::Requests;
use crate::small_file;

/// Between two looks at the files. Kubernetes itself takes up to a minute to bring a new secret.
pub const LOOK_INTERVAL: Duration = Duration::from_secs(2);

/// Files that are watched, and what they say together.
pub trait FileSet: Send + Sync + 'static {
    type Value: Send + Sync;
    type Error: Send;

    /// More of a file is not read: no such file is meant.
    const FILE_BYTES_MAX: u64;
    /// Whether the files belong together and are replaced one after the other. Then bad ones count
    /// once they stay so until the next look.
    const ARE_REPLACED_IN_TURN: bool;
    /// Whether the same files may be good today and bad tomorrow. Then a request has them judged again
    /// although they are the same.
    const DEPEND_ON_TIME: bool;

    /// The files to read, in an order that stays the same.
    fn paths(&self) -> Vec<&Path>;

    /// The value of the files; `read` has their bytes in the order of [`Self::paths`]. `in_force` is
    /// the value that the new one takes the place of, none at start.
    ///
    /// # Errors
    /// The files cannot be used.
    fn parse(
        &self,
        read: Vec<io::Result<Vec<u8>>>,
        in_force: Option<&Self::Value>,
    ) -> Result<Self::Value, Self::Error>;
}

/// A value and the files that it comes from.
pub struct Watched<S: FileSet> {
    files: S,
    in_force: RwLock<Arc<S::Value>>,
    looked: Mutex<Looked>,
}

/// A new value that is in force now, or why there is none.
pub type Change<S> = Result<Arc<<S as FileSet>::Value>, <S as FileSet>::Error>;

/// Why the files are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Occasion {
    Asked,
    Time,
}

/// SHA-256 of what was read, so that no secret is kept to be compared.
type Digests = Vec<Result<[u8; 32], io::ErrorKind>>;

/// What the looks so far have found.
struct Looked {
    in_force: Digests,
    refused: Option<BadFiles>,
}

struct BadFiles {
    digests: Digests,
    is_told: bool,
}

impl<S: FileSet> Watched<S> {
    /// Reads the files, and blocks for as long as that takes.
    ///
    /// # Errors
    /// They cannot be used.
    pub fn load(files: S) -> Result<Self, S::Error> {
        let read = read(&files);
        let looked = Mutex::new(Looked { in_force: digests(&read), refused: None });
        let in_force = RwLock::new(Arc::new(files.parse(read, None)?));
        Ok(Self { files, in_force, looked })
    }

    /// The value in force.
    pub fn current(&self) -> Arc<S::Value> {
        Arc::clone(&self.in_force.read().expect("bug: nothing panics while it holds this lock"))
    }

    /// Keeps the value as its files are, and tells each change.
    ///
    /// # Cancel safety
    /// A new value is put in force as a whole or not at all.
    pub async fn keep(
        self: &Arc<Self>,
        mut requests: Requests,
        mut tell: impl FnMut(Change<S>),
    ) -> Infallible {
        loop {
            let occasion = tokio::select! {
                () = requests.next() => Occasion::Asked,
                () = tokio::time::sleep(LOOK_INTERVAL) => Occasion::Time,
            };
            let watched = Arc::clone(self);
            match tokio::task::spawn_blocking(move || watched.look(occasion)).await {
                Ok(change) => change.into_iter().for_each(&mut tell),
                Err(error) if error.is_panic() => panic!("bug: reading the files panicked"),
                // The runtime ends.
                Err(_) => std::future::pending().await,
            }
        }
    }

    /// Reads the files, and puts in force what is new. None: there is nothing to tell. Blocks for as
    /// long as reading takes.
    pub fn look(&self, occasion: Occasion) -> Option<Change<S>> {
        let read = read(&self.files);
        let digests = digests(&read);
        let mut looked = self.looked.lock().expect("bug: nothing panics while it holds this lock");
        let is_known = looked.is_known::<S>(&digests);
        if is_known && !(S::DEPEND_ON_TIME && occasion == Occasion::Asked) {
            return None;
        }
        match self.files.parse(read, Some(&self.current())) {
            Ok(value) => {
                let value = Arc::new(value);
                *self.in_force.write().expect("bug: nothing panics while it holds this lock") =
                    Arc::clone(&value);
                *looked = Looked { in_force: digests, refused: None };
                Some(Ok(value))
            }
            Err(error) => {
                let stayed = looked.refused.as_ref().is_some_and(|old| old.digests == digests);
                let is_told = !S::ARE_REPLACED_IN_TURN || occasion == Occasion::Asked || stayed;
                looked.refused = Some(BadFiles { digests, is_told });
                is_told.then_some(Err(error))
            }
        }
    }
}

impl Looked {
    /// Whether what was read has been judged, and what there was to tell has been told.
    fn is_known<S: FileSet>(&mut self, digests: &Digests) -> bool {
        match &self.refused {
            Some(refused) if refused.digests == *digests => refused.is_told,
            // One of the files was new for a while.
            Some(_) if S::ARE_REPLACED_IN_TURN && self.in_force == *digests => {
                self.refused = None;
                true
            }
            Some(_) => false,
            None => self.in_force == *digests,
        }
    }
}

fn read<S: FileSet>(files: &S) -> Vec<io::Result<Vec<u8>>> {
    let paths = files.paths().into_iter();
    paths.map(|path| small_file::read(path, S::FILE_BYTES_MAX)).collect()
}

fn digests(read: &[io::Result<Vec<u8>>]) -> Digests {
    let digest = |bytes: &Vec<u8>| Sha256::digest(bytes).into();
    read.iter().map(|read| read.as_ref().map(digest).map_err(io::Error::kind)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    /// Files of one number each, which must be the same.
    struct Numbers<const IS_STRICT: bool>(Vec<PathBuf>);

    impl<const IS_STRICT: bool> FileSet for Numbers<IS_STRICT> {
        type Value = u8;
        type Error = String;

        const FILE_BYTES_MAX: u64 = 3;
        const ARE_REPLACED_IN_TURN: bool = IS_STRICT;
        const DEPEND_ON_TIME: bool = IS_STRICT;

        fn paths(&self) -> Vec<&Path> {
            self.0.iter().map(PathBuf::as_path).collect()
        }

        fn parse(
            &self,
            read: Vec<io::Result<Vec<u8>>>,
            _in_force: Option<&u8>,
        ) -> Result<u8, String> {
            let mut numbers = read.into_iter().map(|read| {
                let text = read.map_err(|error| error.kind().to_string())?;
                String::from_utf8_lossy(&text).parse().map_err(|_| "no number".to_owned())
            });
            let first = numbers.next().expect("a file")?;
            match numbers.all(|other| other == Ok(first)) {
                true => Ok(first),
                false => Err("they differ".to_owned()),
            }
        }
    }

    /// Which file is changed, what is written to it (none: it is removed), why the files are looked
    /// at, and what is told.
    type Step = (usize, Option<&'static str>, Occasion, Option<Result<u8, &'static str>>);

    #[track_caller]
    fn check<const IS_STRICT: bool>(steps: &[Step]) {
        let directory = tempfile::tempdir().expect("a directory");
        let paths = ["one", "other"].map(|name| directory.path().join(name));
        paths.iter().for_each(|path| std::fs::write(path, "1").expect("written"));
        let watched = Watched::load(Numbers::<IS_STRICT>(paths.to_vec())).expect("good");
        let mut in_force = 1;
        for (at, (file, text, occasion, expected)) in steps.iter().enumerate() {
            match text {
                Some(text) => std::fs::write(&paths[*file], text).expect("written"),
                None => drop(std::fs::remove_file(&paths[*file])),
            }
            let told = watched.look(*occasion).map(|told| told.map(|value| *value));
            assert_eq!(told, expected.map(|told| told.map_err(str::to_owned)), "step {at}");
            in_force = told.and_then(Result::ok).unwrap_or(in_force);
            assert_eq!(*watched.current(), in_force, "step {at}");
        }
    }

    #[test]
    fn a_change_is_told_once_and_a_bad_one_leaves_the_old_in_force() {
        use Occasion::{Asked, Time};
        check::<false>(&[
            (0, Some("1"), Time, None),
            (0, Some("1"), Asked, None),
            (0, Some("2"), Time, Some(Err("they differ"))),
            (0, Some("2"), Time, None),
            (0, Some("2"), Asked, None),
            (1, Some("2"), Time, Some(Ok(2))),
            (1, None, Time, Some(Err("they differ"))),
            (1, Some("2"), Time, Some(Ok(2))),
            (0, Some("2000"), Time, Some(Err("file too large"))),
        ]);
    }

    #[test]
    fn files_replaced_in_turn_are_bad_once_they_stay_so_or_somebody_asks() {
        use Occasion::{Asked, Time};
        check::<true>(&[
            (0, Some("1"), Time, None),
            (0, Some("1"), Asked, Some(Ok(1))),
            (0, Some("2"), Time, None),
            (1, Some("2"), Time, Some(Ok(2))),
            (0, Some("3"), Time, None),
            (0, Some("2"), Time, None),
            (0, Some("3"), Time, None),
            (0, Some("3"), Time, Some(Err("they differ"))),
            (0, Some("3"), Time, None),
            (0, Some("3"), Asked, Some(Err("they differ"))),
            (0, None, Asked, Some(Err("entity not found"))),
            (0, Some("2"), Time, None),
        ]);
    }
}
