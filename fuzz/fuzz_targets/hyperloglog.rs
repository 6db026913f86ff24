//! HyperLogLog strings: any bytes are one or not, and never a panic; adding and turning dense change no register but those that rise, and
//! sparse and dense agree.

#![no_main]

use haypile::types::hll::{self, Hll};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let (front, data) = data.split_at(data.len().min(8));
    let _ = (hll::is_one(data), hll::is_dense(data), hll::cached_count(data));
    // Fuzzers seldom guess the magic: half of the inputs get it.
    let bytes = match front.first() {
        Some(kind) if kind & 1 == 1 => {
            [b"HYLL".as_slice(), &[u8::from(kind & 2 == 2), 0, 0, 0], &[0; 8], data].concat()
        }
        _ => data.to_vec(),
    };
    let counted = hll::count(&bytes);
    let Some(mut own) = Hll::from_bytes(bytes.clone()) else { return };
    let mut dense = own.as_bytes().to_vec();
    let made_dense = Hll::from_bytes(dense.clone()).map(|mut other| {
        let made = other.make_dense().is_ok();
        dense = other.into_bytes();
        made
    });
    if counted.is_ok() && made_dense == Some(true) {
        assert_eq!(hll::count(&dense).ok(), counted.as_ref().ok().copied());
    }
    let _ = own.opcodes_text();
    if own.add(front, 3000).is_ok() && counted.is_ok() {
        // What was whole stays whole, and holds the element.
        assert!(hll::count(own.as_bytes()).is_ok());
        assert!(matches!(own.add(front, 3000), Ok(false)));
    }
});
