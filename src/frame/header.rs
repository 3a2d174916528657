//! Headers of a server's WebSocket frames.

/// RFC 6455 section 5.2: FIN and the opcode of a text message.
pub const FIN_TEXT: u8 = 0x81;
/// RFC 7692 section 6: the same with RSV1, which says that the message is compressed.
pub const FIN_TEXT_DEFLATED: u8 = 0xc1;
/// In a frame's second byte: the length stands in the next two, or eight, bytes.
const LEN_16_BITS: u8 = 126;
const LEN_64_BITS: u8 = 127;

pub fn header_len(frame: &[u8]) -> usize {
    match frame[1] {
        LEN_16_BITS => 4,
        LEN_64_BITS => 10,
        _ => 2,
    }
}

pub fn write_header(out: &mut Vec<u8>, first: u8, payload_len: u64) {
    match payload_len {
        0..=125 => out.extend_from_slice(&[first, payload_len as u8]),
        126..=0xffff => {
            out.extend_from_slice(&[first, LEN_16_BITS]);
            out.extend_from_slice(&(payload_len as u16).to_be_bytes());
        }
        _ => {
            out.extend_from_slice(&[first, LEN_64_BITS]);
            out.extend_from_slice(&payload_len.to_be_bytes());
        }
    }
}
