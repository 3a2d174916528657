//! The reasons why a body cannot be unpacked.

use super::sections::SectionsError;

/// Why a body cannot be unpacked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnpackError {
    /// By its name, made safe to print.
    #[error("the content_encoding {0:?} is not known; known are gzip, deflate and identity")]
    UnknownEncoding(String),
    #[error("the content_encoding is {encoding}, but the body {fault}")]
    Corrupt { encoding: &'static str, fault: &'static str },
    #[error("the body unpacks to more than {bytes_max} bytes")]
    TooLarge { bytes_max: usize },
    #[error(transparent)]
    Sections(#[from] SectionsError),
}
