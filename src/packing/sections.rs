//! A message body of AMQP 1.0, section by section, as far as it holds bytes or text.
//!
//! RabbitMQ hands a 0-9-1 consumer a single data section as its plain bytes. Any other body comes as it
//! was encoded: a value, a sequence, and before 4.0 several data sections. See the AMQP 1.0
//! specification, part 1 section 1.6 for the types and part 3 section 3.2 for the sections.

use std::borrow::Cow;

/// A described value begins; so does every section.
pub const DESCRIBED: u8 = 0x00;

const SMALL_ULONG: u8 = 0x53;
const ULONG: u8 = 0x80;
const SYMBOL_8: u8 = 0xa3;

/// What a section is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Section {
    Data,
    Sequence,
    Value,
    Footer,
}

/// Why there are no bytes to be had from the sections.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SectionsError {
    #[error(
        "an AMQP 1.0 value that is no text and no bytes (type 0x{kind:02x}); send the JSON as a data section"
    )]
    Value { kind: u8 },
    #[error("an AMQP 1.0 sequence; send the JSON as a data section")]
    Sequence,
    #[error("the AMQP 1.0 sections of the body are malformed at byte {byte}")]
    Malformed { byte: usize },
}

/// The bytes of a value section that holds text or bytes, or of the data sections, joined.
///
/// # Errors
/// The body holds something else, or is malformed.
pub fn content_of(body: &[u8]) -> Result<Cow<'_, [u8]>, SectionsError> {
    let mut reader = SectionReader { body, at: 0 };
    let mut content: Option<Cow<'_, [u8]>> = None;
    while reader.at < body.len() {
        let at = reader.at;
        match (reader.section()?, &mut content) {
            (Section::Data | Section::Value, None) => content = Some(reader.bytes()?.into()),
            (Section::Data, Some(content)) => content.to_mut().extend_from_slice(reader.bytes()?),
            // Checksums and the like: nothing comes behind it.
            (Section::Footer, Some(_)) => break,
            (Section::Sequence, _) => return Err(SectionsError::Sequence),
            (Section::Value, Some(_)) | (Section::Footer, None) => {
                return Err(SectionsError::Malformed { byte: at });
            }
        }
    }
    content.ok_or(SectionsError::Malformed { byte: 0 })
}

struct SectionReader<'a> {
    body: &'a [u8],
    at: usize,
}

impl<'a> SectionReader<'a> {
    fn section(&mut self) -> Result<Section, SectionsError> {
        let malformed = SectionsError::Malformed { byte: self.at };
        if self.byte()? != DESCRIBED {
            return Err(malformed);
        }
        let code = match self.byte()? {
            SMALL_ULONG => u64::from(self.byte()?),
            ULONG => {
                let bytes = self.take(8)?;
                u64::from_be_bytes(bytes.try_into().expect("bug: eight bytes were taken"))
            }
            SYMBOL_8 => {
                let len = self.byte()?;
                return match self.take(usize::from(len))? {
                    b"amqp:data:binary" => Ok(Section::Data),
                    b"amqp:amqp-sequence:list" => Ok(Section::Sequence),
                    b"amqp:amqp-value:*" => Ok(Section::Value),
                    b"amqp:footer:map" => Ok(Section::Footer),
                    _ => Err(malformed),
                };
            }
            _ => return Err(malformed),
        };
        match code {
            0x75 => Ok(Section::Data),
            0x76 => Ok(Section::Sequence),
            0x77 => Ok(Section::Value),
            0x78 => Ok(Section::Footer),
            _ => Err(malformed),
        }
    }

    /// A binary, a string or a symbol, with a length of one byte or four.
    fn bytes(&mut self) -> Result<&'a [u8], SectionsError> {
        let len = match self.byte()? {
            0xa0 | 0xa1 | 0xa3 => usize::from(self.byte()?),
            0xb0 | 0xb1 | 0xb3 => {
                let bytes = self.take(4)?.try_into().expect("bug: four bytes were taken");
                usize::try_from(u32::from_be_bytes(bytes)).unwrap_or(usize::MAX)
            }
            kind => return Err(SectionsError::Value { kind }),
        };
        self.take(len)
    }

    fn byte(&mut self) -> Result<u8, SectionsError> {
        Ok(self.take(1)?[0])
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], SectionsError> {
        let rest = &self.body[self.at..];
        let taken = rest.get(..len).ok_or(SectionsError::Malformed { byte: self.at })?;
        self.at += len;
        Ok(taken)
    }
}
