//! A manifest, a version edit and CURRENT from hostile bytes: no panic, bounded work; what is an edit survives a round trip, and a state
//! that is accepted can be written and read again.
//!
//! The first byte chooses: the bytes are a whole manifest, the payload of edits that are wrapped into a manifest with right checksums, or
//! the contents of CURRENT.
#![no_main]

use haypile_lsm::Error;
use haypile_lsm::base::coding::{put_u32, put_u64};
use haypile_lsm::version::edit::VersionEdit;
use haypile_lsm::version::manifest::{decode_current, decode_manifest};
use haypile_lsm::version::state::ManifestState;
use libfuzzer_sys::fuzz_target;
use std::path::Path;

const SALT: u64 = 77;

fn crc(bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&SALT.to_le_bytes()), bytes)
}

/// A manifest with these payloads as its edits, as docs/formats.md draws it; the first is its snapshot.
fn manifest_of<'a>(payloads: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut records = Vec::new();
    let mut snapshot_end = 64;
    for (payload, number) in payloads.zip(1u64..) {
        let mut head = Vec::new();
        put_u32(&mut head, crc(payload));
        put_u32(&mut head, payload.len() as u32);
        put_u32(&mut head, 0);
        put_u64(&mut head, number);
        put_u32(&mut records, crc(&head));
        records.extend_from_slice(&head);
        records.extend_from_slice(payload);
        records.resize(records.len().next_multiple_of(8), 0);
        if number == 1 {
            snapshot_end += records.len() as u64;
        }
    }
    let mut out = b"HAYPMANI".to_vec();
    put_u32(&mut out, 1);
    put_u32(&mut out, 0);
    put_u64(&mut out, 3);
    put_u64(&mut out, SALT);
    put_u64(&mut out, snapshot_end);
    out.resize(60, 0);
    let sum = crc32c::crc32c(&out);
    put_u32(&mut out, sum);
    out.extend_from_slice(&records);
    out
}

fn check(bytes: &[u8], well_formed: bool) {
    let path = Path::new("/MANIFEST-000003");
    let mut last = 0;
    let decoded = decode_manifest(path, bytes, &mut |offset, number, edit| {
        assert!(offset > last && offset < bytes.len() as u64 && number > 0);
        last = offset;
        assert_eq!(VersionEdit::decode(&edit.encode()).as_ref(), Ok(edit));
    });
    match decoded {
        Ok(decoded) => {
            assert!(decoded.end <= bytes.len() as u64 && decoded.snapshot_end <= decoded.end);
            assert!(!well_formed || decoded.torn.is_none());
            // What was accepted can be written as a snapshot and read back.
            let mut copy = ManifestState::default();
            for edit in decoded.state.snapshot() {
                copy.check(&edit).unwrap_or_else(|what| panic!("its own snapshot does not fit: {what}"));
                copy.apply(&edit);
            }
            assert_eq!(copy, decoded.state);
        }
        Err(Error::Corruption { file, offset, .. }) => assert!(file == path && offset <= bytes.len() as u64),
        Err(Error::UpgradeRequired { file, .. }) => assert_eq!(file, path),
        Err(error) => panic!("{error}"),
    }
}

fuzz_target!(|input: &[u8]| {
    let Some((&choice, rest)) = input.split_first() else { return };
    match choice % 4 {
        0 => check(rest, false),
        1 => {
            if let Ok(number) = decode_current(Path::new("/CURRENT"), rest) {
                let name = format!("MANIFEST-{number:06}");
                assert_eq!(rest, format!("{name} {:08x}\n", crc32c::crc32c(name.as_bytes())).as_bytes());
            }
            if let Ok(edit) = VersionEdit::decode(rest) {
                assert_eq!(VersionEdit::decode(&edit.encode()), Ok(edit));
            }
        }
        // Edits are cut apart at 0xff, which seldom occurs in one.
        _ => check(&manifest_of(rest.split(|&byte| byte == 0xff)), true),
    }
});
