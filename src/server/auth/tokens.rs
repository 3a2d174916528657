//! The file of tokens: a name and a SHA-256 per line. The tokens themselves are nowhere.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use data_encoding::HEXLOWER_PERMISSIVE;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::error::AuthError;

/// All are compared with for every handshake: some 300 kB of hashes.
const TOKENS_MAX: usize = 10_000;
const NAME_BYTES_MAX: usize = 64;

/// One line; its name is for those who read the file.
#[derive(Debug)]
pub struct Token {
    hash: [u8; 32],
    revoked: Arc<AtomicBool>,
}

#[derive(Debug, Default)]
pub struct Tokens(Vec<Arc<Token>>);

impl Tokens {
    /// Reads the file's text; `path` is only for the message.
    ///
    /// # Errors
    /// A line that is none of ours, a name or a hash that stands twice, too many lines, or none: a
    /// file that is just being written must not throw everybody out.
    pub fn parse(bytes: &[u8], path: &Path) -> Result<Self, AuthError> {
        let bad_file =
            |fault: &str| AuthError::BadFile { path: path.into(), fault: String::from(fault) };
        let text = std::str::from_utf8(bytes).map_err(|_| bad_file("it is not UTF-8"))?;
        let mut tokens: Vec<Arc<Token>> = Vec::new();
        let (mut names, mut hashes) = (HashSet::new(), HashSet::new());
        for (at, line) in text.lines().enumerate() {
            let line_text = line.trim();
            if line_text.is_empty() || line_text.starts_with('#') {
                continue;
            }
            let bad = |fault| AuthError::BadLine { path: path.into(), line: at + 1, fault };
            let (name, hash) = parse_line(line_text).map_err(bad)?;
            if !names.insert(name) {
                return Err(bad("this name stands twice"));
            }
            if !hashes.insert(hash) {
                return Err(bad("this hash stands twice"));
            }
            tokens.push(Arc::new(Token { hash, revoked: Arc::default() }));
        }
        match tokens.len() {
            0 => Err(bad_file("it holds no token")),
            1..=TOKENS_MAX => Ok(Self(tokens)),
            _ => Err(bad_file("it holds more than 10,000 tokens")),
        }
    }

    /// The line of `token`. Takes as long whether there is one or not, and wherever it stands.
    pub fn find(&self, token: &str) -> Option<Arc<Token>> {
        let hash: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        let mut found = None;
        for known in &self.0 {
            if bool::from(known.hash.ct_eq(&hash)) {
                found = Some(known);
            }
        }
        found.cloned()
    }

    /// Keeps those of `old` that are still there, so that their sessions go on, and revokes the
    /// others. Returns how many that were.
    pub fn take_over(&mut self, old: &Self) -> usize {
        let mut places: HashMap<[u8; 32], usize> =
            self.0.iter().enumerate().map(|(slot, token)| (token.hash, slot)).collect();
        let mut revoked = 0;
        for token in &old.0 {
            match places.remove(&token.hash) {
                Some(slot) => self.0[slot] = Arc::clone(token),
                None => {
                    token.revoked.store(true, Ordering::Release);
                    revoked += 1;
                }
            }
        }
        revoked
    }
}

impl Token {
    /// Set when its line is gone.
    pub fn revoked(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.revoked)
    }
}

/// A name of `A-Z a-z 0-9 . _ -`, white space, 64 hex digits.
fn parse_line(line: &str) -> Result<(&str, [u8; 32]), &'static str> {
    let mut words = line.split_whitespace();
    let (Some(name), Some(hash), None) = (words.next(), words.next(), words.next()) else {
        return Err("write a name and the token's SHA-256, such as `wallet 9f86d0...`");
    };
    let is_name = name.len() <= NAME_BYTES_MAX
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
    if !is_name {
        return Err("a name has at most 64 letters, digits, dots, underscores and hyphens");
    }
    let hash = HEXLOWER_PERMISSIVE.decode(hash.as_bytes()).ok();
    let hash = hash.and_then(|hash| hash.try_into().ok());
    hash.map(|hash| (name, hash)).ok_or("a SHA-256 has 64 hex digits: printf %s TOKEN | sha256sum")
}
