//! Unpacking of bodies: whatever they are, nothing beyond the bound comes out, and what comes out is what
//! another reader has; what was packed comes back.

#![no_main]

use std::io::{Read, Write};

use blockcast::packing::{Packing, UnpackError};
use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
use libfuzzer_sys::fuzz_target;

const BYTES_MAX: usize = 4_096;

fuzz_target!(|bytes: &[u8]| {
    let Some((first, body)) = bytes.split_first() else { return };
    let encoding = [None, Some("gzip"), Some("deflate")][usize::from(first % 3)];
    let message_type = (first & 0x80 != 0).then(|| "amqp-1.0".into());
    let packing = Packing { content_encoding: encoding.map(Into::into), message_type };
    match packing.unpack(body, BYTES_MAX) {
        Ok(unpacked) => {
            let is_packed = encoding.is_some();
            assert!(unpacked.len() <= if is_packed { BYTES_MAX } else { body.len() });
            if encoding == Some("gzip") && packing.message_type.is_none() {
                let mut other = Vec::new();
                MultiGzDecoder::new(body).read_to_end(&mut other).expect("ours took it");
                assert_eq!(*unpacked, other);
            }
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    for (encoding, packed) in
        [("gzip", gzip(body)), ("deflate", zlib(body)), ("deflate", deflate(body))]
    {
        comes_back(body, encoding, &packed);
    }
});

fn comes_back(body: &[u8], encoding: &str, packed: &[u8]) {
    let packing = Packing { content_encoding: Some(encoding.into()), message_type: None };
    match packing.unpack(packed, BYTES_MAX) {
        Ok(unpacked) => assert_eq!(*unpacked, *body),
        Err(UnpackError::TooLarge { .. }) => assert!(body.len() > BYTES_MAX),
        Err(error) => panic!("{error}"),
    }
}

fn gzip(body: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(body).and_then(|()| encoder.finish()).expect("packed")
}

fn zlib(body: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(body).and_then(|()| encoder.finish()).expect("packed")
}

fn deflate(body: &[u8]) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(body).and_then(|()| encoder.finish()).expect("packed")
}
