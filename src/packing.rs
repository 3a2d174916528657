//! How a message's body is packed, and its bytes unpacked within a bound.
//!
//! Two ways, one around the other: AMQP 1.0's sections, which RabbitMQ hands over as they are when they
//! are no plain data, and around what is in them a `content_encoding`. Pure; knows no JSON.

mod error;
mod inflate;
mod sections;

use std::borrow::Cow;

pub use error::UnpackError;
use inflate::Format;
pub use sections::SectionsError;

/// The `type` that RabbitMQ gives to a message whose body is sections of AMQP 1.0.
const SECTIONS: &str = "amqp-1.0";
/// Told of an encoding that is not known; it comes from outside.
const NAME_CHARS_MAX: usize = 40;

/// What a message's properties say of its body.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Packing {
    pub content_encoding: Option<Box<str>>,
    /// The property `type`.
    pub message_type: Option<Box<str>>,
}

impl Packing {
    /// The body's own bytes, at most `bytes_max`; as they are when nothing is packed. Takes no more
    /// memory than that, and no time for what would be beyond it.
    ///
    /// # Errors
    /// The body is not what the properties say, or too large, or says something that is not known.
    pub fn unpack<'a>(
        &self,
        body: &'a [u8],
        bytes_max: usize,
    ) -> Result<Cow<'a, [u8]>, UnpackError> {
        let body = match &self.message_type {
            // A body that a producer of AMQP 0-9-1 calls so itself is text, and no text begins so.
            Some(name) if **name == *SECTIONS && body.first() == Some(&sections::DESCRIBED) => {
                sections::content_of(body)?
            }
            _ => Cow::Borrowed(body),
        };
        match self.format()? {
            None => Ok(body),
            Some(format) => inflate::inflate(&body, format, bytes_max).map(Cow::Owned),
        }
    }

    fn format(&self) -> Result<Option<Format>, UnpackError> {
        let Some(name) = &self.content_encoding else { return Ok(None) };
        match name.trim().to_ascii_lowercase().as_str() {
            "" | "identity" => Ok(None),
            // Clients for Python and Java name the text's encoding here: kombu, Spring AMQP.
            "utf-8" | "utf8" | "us-ascii" | "ascii" | "binary" => Ok(None),
            "gzip" | "x-gzip" => Ok(Some(Format::Gzip)),
            "deflate" => Ok(Some(Format::Deflate)),
            _ => Err(UnpackError::UnknownEncoding(name.chars().take(NAME_CHARS_MAX).collect())),
        }
    }
}

#[cfg(test)]
mod tests;
