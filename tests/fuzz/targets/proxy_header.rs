//! What a connection begins with: cut anywhere and with anything behind it, a PROXY header is found alike,
//! and no byte behind it is taken.

#![no_main]

use blockcast::server::fuzzed::{HeaderFound, HEADER_BYTES_MAX, find, is_begun};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let whole = find(bytes);
    // As long as more is wanted nothing is decided, and what is decided stays.
    let decided_at = (0..=bytes.len()).find(|cut| find(&bytes[..*cut]) != HeaderFound::Unfinished);
    let Some(decided_at) = decided_at else { return assert_eq!(whole, HeaderFound::Unfinished) };
    assert!(decided_at <= HEADER_BYTES_MAX, "{decided_at} bytes are waited for");
    for cut in decided_at..=bytes.len() {
        assert_eq!(find(&bytes[..cut]), whole, "to {cut}");
    }
    if let HeaderFound::Header { bytes: taken, .. } = whole {
        assert_eq!(taken, decided_at, "it is found with its last byte, and ends there");
        assert!(is_begun(bytes), "a stranger's is known as one");
    }
    if whole == HeaderFound::Bad {
        assert!(is_begun(bytes));
    }
});
