//! Who may have a stream, where that is asked: a token of a file, or a signed one of somebody else's.
//!
//! No credential is kept, and none is in a message, a log line or a metric: what stays is a name or
//! an expiry. The files are read again when they change; what is wrong with a new one leaves the old
//! one in force.

mod jwt;
mod signature;
mod tokens;
mod watch;

use std::io;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, RwLock};

use tracing::warn;

use crate::byte_order_mark;
use crate::config;
use crate::file_name::Unreadable;
use crate::session::Pass;
use jwt::Keys;
use tokens::Tokens;
pub use watch::watch;

/// More is not read: no such file is meant.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// What credentials are compared with.
pub struct Guard {
    files: config::Auth,
    known: RwLock<Known>,
    /// What was read last, whether it could be used or not.
    read: Mutex<Contents>,
}

/// What is wrong with a request's credential, in words that hold nothing of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotAuthorized {
    #[error(
        "a token is needed: `Authorization: Bearer TOKEN`, the subprotocols `blockcast` and \
         `bearer.TOKEN` (or `bearer64.` and the token in base64url), or `?access_token=TOKEN`"
    )]
    Missing,
    #[error("what follows `bearer64.` is no text in base64url")]
    NotBase64,
    #[error("this token is not known here")]
    Unknown,
    #[error("this token has expired")]
    Expired,
    #[error("this token is not valid yet")]
    NotYet,
    #[error("this token is meant for others (`aud`)")]
    Audience,
    #[error("this token has no `exp`, or another of its claims is not what it must be")]
    Claims,
}

/// A file of credentials that cannot be used: mend it.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    #[error("{key}: {source}")]
    Unreadable { key: &'static str, source: Unreadable },
    #[error("{path}, line {line}: {fault}")]
    BadLine { path: PathBuf, line: usize, fault: &'static str },
    #[error("{path}: {fault}")]
    BadFile { path: PathBuf, fault: String },
}

/// What became of reading the files again.
#[derive(Debug)]
pub enum Reread {
    Unchanged,
    /// So many tokens are gone, and the sessions that they let in must go.
    Loaded {
        revoked: usize,
    },
    /// The old ones stay.
    Failed(AuthError),
}

#[derive(Default)]
struct Known {
    tokens: Tokens,
    keys: Option<Arc<Keys>>,
}

/// The files as they were read; an error by its kind, so that it is told once.
#[derive(Default, PartialEq)]
struct Contents {
    tokens: Option<Result<Vec<u8>, io::ErrorKind>>,
    key: Option<Result<Vec<u8>, io::ErrorKind>>,
}

impl Guard {
    /// Reads the files that `files` names.
    ///
    /// # Errors
    /// One of them cannot be used.
    pub fn load(files: &config::Auth) -> Result<Self, AuthError> {
        let contents = Contents::read(files);
        let known = contents.parse(files)?;
        Ok(Self { files: files.clone(), known: RwLock::new(known), read: Mutex::new(contents) })
    }

    /// Whether everybody may come in.
    pub fn is_off(&self) -> bool {
        self.files.is_off()
    }

    /// Looks at a request's credential. None where nobody is asked.
    ///
    /// # Errors
    /// It lets nobody in.
    pub fn admit(&self, credential: Option<&str>) -> Result<Option<Pass>, NotAuthorized> {
        if self.is_off() {
            return Ok(None);
        }
        let credential = credential.ok_or(NotAuthorized::Missing)?;
        let keys = {
            let known = self.known.read().expect("bug: nothing panics while it holds this lock");
            if let Some(token) = known.tokens.find(credential) {
                return Ok(Some(Pass { until: None, revoked: Some(token.revoked()) }));
            }
            known.keys.clone()
        };
        let keys = keys.ok_or(NotAuthorized::Unknown)?;
        keys.verify(credential).map(|until| Some(Pass { until: Some(until), revoked: None }))
    }

    /// Reads the files again, and puts them in force if they are others and can be used. Blocks.
    pub fn reread(&self) -> Reread {
        let contents = Contents::read(&self.files);
        let mut read = self.read.lock().expect("bug: nothing panics while it holds this lock");
        if *read == contents {
            return Reread::Unchanged;
        }
        let parsed = contents.parse(&self.files);
        *read = contents;
        match parsed {
            Ok(mut new) => {
                let mut known =
                    self.known.write().expect("bug: nothing panics while it holds this lock");
                let revoked = new.tokens.take_over(&known.tokens);
                *known = new;
                Reread::Loaded { revoked }
            }
            Err(error) => Reread::Failed(error),
        }
    }
}

impl Contents {
    fn read(files: &config::Auth) -> Self {
        let read = |path: &PathBuf| read_file(path).map_err(|error| error.kind());
        let key = files.jwt.jwks.as_ref().or(files.jwt.key.as_ref());
        Self { tokens: files.tokens_file.as_ref().map(read), key: key.map(read) }
    }

    fn parse(&self, files: &config::Auth) -> Result<Known, AuthError> {
        let unreadable = |key, path: &Path, kind: io::ErrorKind| AuthError::Unreadable {
            key,
            source: Unreadable::new(path, kind.into()),
        };
        let tokens = match (&files.tokens_file, &self.tokens) {
            (Some(path), Some(Ok(bytes))) => Tokens::parse(bytes, path)?,
            (Some(path), Some(Err(kind))) => {
                return Err(unreadable("server.auth.tokens_file", path, *kind));
            }
            _ => Tokens::default(),
        };
        let path = files.jwt.jwks.as_ref().or(files.jwt.key.as_ref());
        let keys = match (path, &self.key) {
            (Some(path), Some(Ok(bytes))) => {
                let keys = Keys::parse(bytes, &files.jwt)
                    .map_err(|fault| AuthError::BadFile { path: path.clone(), fault })?;
                if !keys.faulty().is_empty() {
                    let (file, faults) = (path.display(), keys.faulty().join("; "));
                    warn!(%file, %faults, "keys of the set cannot be used; the others count");
                }
                Some(keys)
            }
            (Some(path), Some(Err(kind))) => {
                let key = match files.jwt.jwks {
                    Some(_) => "server.auth.jwt.jwks",
                    None => "server.auth.jwt.key",
                };
                return Err(unreadable(key, path, *kind));
            }
            _ => None,
        };
        Ok(Known { tokens, keys: keys.map(Arc::new) })
    }
}

/// Judges the files that `files` names, and keeps nothing of them.
///
/// # Errors
/// One of them cannot be used.
pub fn check(files: &config::Auth) -> Result<(), AuthError> {
    Guard::load(files).map(drop)
}

fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    match bytes.len() as u64 > FILE_BYTES_MAX {
        true => Err(io::ErrorKind::FileTooLarge.into()),
        false => Ok(byte_order_mark::skipped(&bytes).to_vec()),
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;
    use crate::config::JwtAlgorithm;
    use crate::session::Over;

    /// `printf %s secret | sha256sum`.
    const SECRET: &str = "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b";

    #[test]
    fn a_new_file_is_taken_a_bad_one_is_told_once_and_leaves_the_old() {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        let write = |text: &str| std::fs::write(file.path(), text).expect("written");
        write(&format!("\u{feff}wallet {SECRET}\n"));
        let files = config::Auth { tokens_file: Some(file.path().into()), ..Default::default() };
        let guard = Guard::load(&files).expect("loads");
        let pass = guard.admit(Some("secret")).expect("known").expect("asked for");
        assert_eq!(guard.admit(Some("Secret")).map(drop), Err(NotAuthorized::Unknown));
        assert_eq!(guard.admit(None).map(drop), Err(NotAuthorized::Missing));
        assert!(matches!(guard.reread(), Reread::Unchanged));

        for bad in ["", "wallet 12", "wallet", &format!("a {SECRET}\na {SECRET}"), "# nothing\n"] {
            write(bad);
            assert!(matches!(guard.reread(), Reread::Failed(_)), "{bad:?}");
            assert!(matches!(guard.reread(), Reread::Unchanged), "{bad:?} is told once");
            assert!(guard.admit(Some("secret")).is_ok());
        }
        assert_eq!(pass.is_over(Instant::now()), None);

        // Its name may change: the token is what lets in.
        write(&format!("other {}\nrenamed {SECRET}\n", "ab".repeat(32)));
        assert!(matches!(guard.reread(), Reread::Loaded { revoked: 0 }));
        assert_eq!(pass.is_over(Instant::now()), None);
        write(&format!("other {}\n", "ab".repeat(32)));
        assert!(matches!(guard.reread(), Reread::Loaded { revoked: 1 }));
        assert_eq!(pass.is_over(Instant::now()), Some(Over::Revoked));
        assert_eq!(guard.admit(Some("secret")).map(drop), Err(NotAuthorized::Unknown));
    }

    #[test]
    fn a_secret_in_the_place_of_its_file_is_not_shown_and_its_key_is_named() {
        for secret in ["hunter/hunter+hunter/hunter=", "wallet hunter", "u:hunter@host"] {
            let path = Some(PathBuf::from(secret));
            let jwt = |algorithm| config::Jwt { algorithm, ..Default::default() };
            let with = |jwt| config::Auth { jwt, ..Default::default() };
            for algorithm in [JwtAlgorithm::HS256, JwtAlgorithm::EdDSA] {
                for (files, key) in [
                    (
                        config::Auth { tokens_file: path.clone(), ..Default::default() },
                        "server.auth.tokens_file",
                    ),
                    (
                        with(config::Jwt { key: path.clone(), ..jwt(algorithm) }),
                        "server.auth.jwt.key",
                    ),
                    (
                        with(config::Jwt { jwks: path.clone(), ..jwt(algorithm) }),
                        "server.auth.jwt.jwks",
                    ),
                ] {
                    let error = Guard::load(&files).map(drop).expect_err("refused").to_string();
                    assert!(error.contains(key) && !error.contains("hunter"), "{error}");
                }
            }
        }
    }

    #[test]
    fn a_file_that_is_not_there_is_named_where_its_directory_is() {
        let directory = tempfile::tempdir().expect("a directory");
        let tokens_file = Some(directory.path().join("tokens"));
        let files = config::Auth { tokens_file, ..Default::default() };
        let error = Guard::load(&files).map(drop).expect_err("refused").to_string();
        assert!(error.contains("server.auth.tokens_file: /"), "{error}");
        assert!(error.contains("/tokens cannot be read"), "{error}");
    }
}
