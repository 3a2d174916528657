//! Names of files in messages. A secret may stand where a file's name belongs, so a name is shown only
//! where it leads somewhere.

use std::io;
use std::path::{Component, Path, PathBuf};

const MASK: &str = "***";

/// Why a file that somebody named cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum UnreadableFile {
    #[error("{} cannot be read: {source}", path.display())]
    Named { path: PathBuf, source: io::Error },
    /// Holds nothing of the name.
    #[error(
        "no file has this name, which is not shown, since it may be a secret: {source}; write a file's \
         path, not what is in it"
    )]
    Hidden { source: io::Error },
}

impl UnreadableFile {
    /// Asks the file system whether the name may be shown.
    pub fn new(path: &Path, source: io::Error) -> Self {
        match is_shown(path) {
            true => Self::Named { path: path.into(), source },
            false => Self::Hidden { source },
        }
    }
}

/// The name as it may be shown.
pub fn shown(path: &Path) -> String {
    match is_shown(path) {
        true => path.display().to_string(),
        false => MASK.to_owned(),
    }
}

/// Whether the file is there, or at least its directory. The root and the working directory say nothing:
/// any text without a slash names a file in them.
fn is_shown(path: &Path) -> bool {
    let is_there = match path.symlink_metadata() {
        Ok(_) => true,
        Err(error) => error.kind() == io::ErrorKind::PermissionDenied,
    };
    let has_directory = || {
        path.parent().is_some_and(|directory| {
            let is_named = directory.components().any(|part| matches!(part, Component::Normal(_)));
            is_named && directory.is_dir()
        })
    };
    is_there || has_directory()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_shown_where_it_leads_somewhere_and_hidden_elsewhere() {
        let directory = tempfile::tempdir().expect("a directory");
        let inside = |name: &str| directory.path().join(name).display().to_string();
        std::fs::write(inside("there"), "").expect("written");
        let long = "hunter".repeat(100);
        for (path, is_shown) in [
            (inside("there"), true),
            (inside("missing"), true),
            (inside("there/hunter"), false),
            (inside("missing/hunter"), false),
            ("Cargo.toml".to_owned(), true),
            ("src/hunter".to_owned(), true),
            ("hunter".to_owned(), false),
            ("./hunter".to_owned(), false),
            ("../hunter".to_owned(), false),
            ("/hunter".to_owned(), false),
            ("hun/ter+hun/ter=".to_owned(), false),
            ("u:hunter@host".to_owned(), false),
            ("wallet hunter".to_owned(), false),
            (long, false),
        ] {
            let told = UnreadableFile::new(Path::new(&path), io::ErrorKind::NotFound.into());
            for text in [shown(Path::new(&path)), told.to_string()] {
                assert_eq!(text.contains(&path), is_shown, "{path}: {text}");
            }
        }
    }
}
