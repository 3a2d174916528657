//! Who may have a stream, where that is asked: a token of a file, or a signed one of somebody else's.
//!
//! No credential is kept, and none is in a message, a log line or a metric: what stays is a name or
//! an expiry. The files are read again when they change; what is wrong with a new one leaves the old
//! one in force.

mod error;
mod jwt;
mod signature;
mod tokens;
mod watch;

use std::io;
use std::path::Path;
use std::sync::Arc;

use tracing::warn;

use crate::config;
use crate::file_name::UnreadableFile;
use crate::session::Pass;
use crate::watched::{FileSet, Watched};
pub use error::{AuthError, NotAuthorized};
use jwt::JwtKeys;
use tokens::Tokens;
pub use watch::watch;

/// What credentials are compared with.
pub struct Guard {
    files: Arc<Watched<config::Auth>>,
    is_off: bool,
}

/// What the files say.
pub struct KnownCredentials {
    tokens: Tokens,
    keys: Option<JwtKeys>,
    /// How many tokens of the files before these are gone. The sessions that they let in must go.
    revoked: usize,
}

impl Guard {
    /// Reads the files that `files` names.
    ///
    /// # Errors
    /// One of them cannot be used.
    pub fn load(files: &config::Auth) -> Result<Self, AuthError> {
        let is_off = files.is_off();
        Ok(Self { files: Arc::new(Watched::load(files.clone())?), is_off })
    }

    /// Whether everybody may come in.
    pub fn is_off(&self) -> bool {
        self.is_off
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
        let known = self.files.current();
        if let Some(token) = known.tokens.find(credential) {
            return Ok(Some(Pass { until: None, revoked: Some(token.revoked()) }));
        }
        let keys = known.keys.as_ref().ok_or(NotAuthorized::Unknown)?;
        keys.verify(credential).map(|until| Some(Pass { until: Some(until), revoked: None }))
    }
}

impl FileSet for config::Auth {
    type Value = KnownCredentials;
    type Error = AuthError;

    const FILE_BYTES_MAX: u64 = 4 << 20;
    const ARE_REPLACED_IN_TURN: bool = false;
    const DEPEND_ON_TIME: bool = false;

    fn paths(&self) -> Vec<&Path> {
        let tokens = self.tokens_file.as_deref();
        tokens.into_iter().chain(key_file(self).map(|(_, path)| path)).collect()
    }

    fn parse(
        &self,
        read: Vec<io::Result<Vec<u8>>>,
        in_force: Option<&KnownCredentials>,
    ) -> Result<KnownCredentials, AuthError> {
        let mut read = read.into_iter();
        let mut bytes = |key, path: &Path| {
            let bytes = read.next().expect("bug: each path was read");
            bytes.map_err(|error| {
                let source = UnreadableFile::new(path, error.kind().into());
                AuthError::Unreadable { key, source }
            })
        };
        let mut tokens = match &self.tokens_file {
            Some(path) => Tokens::parse(&bytes("server.auth.tokens_file", path)?, path)?,
            None => Tokens::default(),
        };
        let keys = match key_file(self) {
            Some((key, path)) => Some(keys(&bytes(key, path)?, path, &self.jwt)?),
            None => None,
        };
        let revoked = in_force.map_or(0, |old| tokens.take_over(&old.tokens));
        Ok(KnownCredentials { tokens, keys, revoked })
    }
}

/// The file of keys, and the configuration's name for it.
fn key_file(files: &config::Auth) -> Option<(&'static str, &Path)> {
    let set = files.jwt.jwks.as_deref().map(|path| ("server.auth.jwt.jwks", path));
    set.or_else(|| files.jwt.key.as_deref().map(|path| ("server.auth.jwt.key", path)))
}

fn keys(bytes: &[u8], path: &Path, jwt: &config::Jwt) -> Result<JwtKeys, AuthError> {
    let keys = JwtKeys::parse(bytes, jwt)
        .map_err(|fault| AuthError::BadFile { path: path.to_owned(), fault })?;
    if !keys.faulty().is_empty() {
        let (file, faults) = (path.display(), keys.faulty().join("; "));
        warn!(%file, %faults, "keys of the set cannot be used; the others count");
    }
    Ok(keys)
}

/// Judges the files that `files` names, and keeps nothing of them.
///
/// # Errors
/// One of them cannot be used.
pub fn check(files: &config::Auth) -> Result<(), AuthError> {
    Guard::load(files).map(drop)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use tokio::time::Instant;

    use super::*;
    use crate::config::JwtAlgorithm;
    use crate::session::Over;
    use crate::watched::Occasion;

    /// `printf %s secret | sha256sum`.
    const SECRET: &str = "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b";

    #[test]
    fn a_new_file_is_taken_a_bad_one_is_told_once_and_leaves_the_old() {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        let write = |text: &str| std::fs::write(file.path(), text).expect("written");
        write(&format!("\u{feff}wallet {SECRET}\n"));
        let files = config::Auth { tokens_file: Some(file.path().into()), ..Default::default() };
        let guard = Guard::load(&files).expect("loads");
        let reread = || guard.files.look(Occasion::Time);
        let revoked = || reread().expect("changed").expect("good").revoked;
        let pass = guard.admit(Some("secret")).expect("known").expect("asked for");
        assert_eq!(guard.admit(Some("Secret")).map(drop), Err(NotAuthorized::Unknown));
        assert_eq!(guard.admit(None).map(drop), Err(NotAuthorized::Missing));
        assert!(reread().is_none());

        for bad in ["", "wallet 12", "wallet", &format!("a {SECRET}\na {SECRET}"), "# nothing\n"] {
            write(bad);
            assert!(matches!(reread(), Some(Err(_))), "{bad:?}");
            assert!(reread().is_none(), "{bad:?} is told once");
            assert!(guard.admit(Some("secret")).is_ok());
        }
        assert_eq!(pass.is_over(Instant::now()), None);

        // Its name may change: the token is what lets in.
        write(&format!("other {}\nrenamed {SECRET}\n", "ab".repeat(32)));
        assert_eq!(revoked(), 0);
        assert_eq!(pass.is_over(Instant::now()), None);
        write(&format!("other {}\n", "ab".repeat(32)));
        assert_eq!(revoked(), 1);
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
