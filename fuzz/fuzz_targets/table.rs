//! Any bytes, opened as a table: an error that names the file and a place in it, or an answer, never a panic.
//!
//! The first byte chooses. Bit 0: the checksums are made right first, so that the parsers behind them are reached. Bit 1: the
//! rest is not the file itself but a list of changes (place u16, new byte) to a real table; bits 2 to 5 then choose its options. As
//! long as its checksums are left alone, a changed table must also never give a wrong answer.
#![no_main]

use haypile_lsm::base::error::{Error, Result};
use haypile_lsm::base::hash::key_hash;
use haypile_lsm::base::iter::InternalIterator;
use haypile_lsm::base::key::{SEQUENCE_MAX, ValueKind, VersionKey, pack_trailer};
use haypile_lsm::base::options::{Compression, KeyspaceOptions, ReadOptions};
use haypile_lsm::base::range_delete::{RangeTombstone, RangeTombstones};
use haypile_lsm::cache::block_cache::BlockCache;
use haypile_lsm::env::env::{Env, OpenMode};
use haypile_lsm::env::mem_env::MemEnv;
use haypile_lsm::table::builder::TableBuilder;
use haypile_lsm::table::repair::repair;
use haypile_lsm::table::table::Table;
use haypile_lsm::table::table_iter::TableIterOptions;
use libfuzzer_sys::fuzz_target;
use std::cell::RefCell;
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

const NUMBER: u64 = 7;
const PATH: &str = "/000007.sst";
/// A hostile index may name one block over and over; walking it is not endless, but long.
const STEPS_MAX: usize = 5000;

/// 20 keys with three versions each; the middle one deletes.
fn versions() -> Vec<(Vec<u8>, u64, Vec<u8>)> {
    let mut versions = Vec::new();
    for n in 0..20u64 {
        for sequence in [9, 5, 1] {
            let kind = if sequence == 5 { ValueKind::Delete } else { ValueKind::Put };
            let value =
                if kind == ValueKind::Put { vec![n as u8; (n * sequence % 50) as usize] } else { Vec::new() };
            versions.push((format!("key:{:04}", n * n).into_bytes(), pack_trailer(sequence, kind), value));
        }
    }
    versions
}

thread_local! {
    static REAL_TABLES: RefCell<HashMap<u8, Vec<u8>>> = RefCell::default();
}

fn cached(choice: u8) -> Vec<u8> {
    REAL_TABLES.with_borrow_mut(|tables| tables.entry(choice).or_insert_with(|| real_table(choice)).clone())
}

fn real_table(choice: u8) -> Vec<u8> {
    let build = || -> Result<Vec<u8>> {
        let options = KeyspaceOptions {
            block_bytes: if choice & 4 == 0 { 64 } else { 512 },
            compression: if choice & 8 == 0 { Compression::Lz4 } else { Compression::None },
            bloom_bits_per_key: if choice & 16 == 0 { 10 } else { 0 },
        };
        let env = MemEnv::new();
        let path = Path::new("/build");
        let mut builder =
            TableBuilder::new(env.open(path, OpenMode::CreateNew)?, path.into(), NUMBER, options);
        for (key, trailer, value) in versions() {
            builder.add(&key, trailer, &value)?;
        }
        if choice & 32 == 0 {
            let tombstone = |start: &[u8], end: &[u8], sequence| RangeTombstone {
                start: start.to_vec(),
                end: end.to_vec(),
                sequence,
            };
            let tombstones = vec![tombstone(b"key:0", b"key:2", 3), tombstone(b"key:1", b"z", 4)];
            builder.add_range_tombstones(RangeTombstones::build(tombstones).fragments())?;
        }
        builder.finish()?;
        env.read_file(path)
    };
    build().expect("an in-memory disk does not fail")
}

/// Errors must say where.
fn check(error: &Error, file_bytes: u64) {
    match error {
        Error::Corruption { file, offset, .. } => assert!(file == Path::new(PATH) && *offset <= file_bytes),
        Error::UpgradeRequired { file, .. } => assert_eq!(file, Path::new(PATH)),
        other => panic!("{other}"),
    }
}

fn walk(table: &Arc<Table>, options: TableIterOptions, forward: bool) -> Result<usize> {
    let mut iter = table.iter(options);
    let mut steps = 0;
    if forward {
        iter.seek_to_first()?
    } else {
        iter.seek_to_last()?
    }
    while iter.valid() && steps < STEPS_MAX {
        assert!(iter.key().len() + iter.value().len() < 1 << 30);
        steps += 1;
        if forward { iter.next()? } else { iter.prev()? }
    }
    Ok(steps)
}

fn run(input: &[u8]) {
    let Some((&choice, rest)) = input.split_first() else { return };
    let (repaired, real) = (choice & 1 != 0, choice & 2 != 0);
    let env = MemEnv::new();
    let mut bytes = if real { cached(choice & 60) } else { rest.to_vec() };
    if real {
        for change in rest.chunks_exact(3) {
            let at = usize::from(u16::from_le_bytes([change[0], change[1]])) % bytes.len();
            bytes[at] = change[2];
        }
    }
    if repaired {
        repair(&mut bytes, NUMBER);
    }
    let file_bytes = bytes.len() as u64;
    env.write_file(Path::new(PATH), &bytes).expect("an in-memory disk does not fail");
    let file = env.open(Path::new(PATH), OpenMode::Read).expect("just written");
    let cache = Arc::new(BlockCache::new(64 << 10, Arc::default()));
    let table = match Table::open(file, PATH.into(), NUMBER, file_bytes, cache, Arc::default()) {
        Ok(table) => Arc::new(table),
        Err(error) => return check(&error, file_bytes),
    };
    if let Err(error) = table.verify() {
        check(&error, file_bytes);
    }
    let versions = versions();
    let guard = crossbeam_epoch::pin();
    for (key, trailer, value) in versions.iter().step_by(7) {
        match table.get(key_hash(key), key, trailer >> 8, &ReadOptions::default(), &guard) {
            Ok(found) if real && !repaired => {
                let found = found.expect("an undamaged path leads to every version");
                assert_eq!(
                    (pack_trailer(found.sequence, found.kind), found.value()),
                    (*trailer, value.as_slice())
                );
            }
            Ok(found) => drop(found.map(|found| found.value().len())),
            Err(error) => check(&error, file_bytes),
        }
        table.approximate_offset(key);
        table.range_tombstones().newest_covering(key, SEQUENCE_MAX);
        let mut iter = table.iter(TableIterOptions::default());
        let target = VersionKey::seek(key, trailer >> 8);
        for result in [iter.seek(target), iter.seek_before(target)] {
            if let Err(error) = result {
                check(&error, file_bytes);
            }
        }
    }
    for (bypass_cache, forward) in [(false, true), (true, true), (true, false), (false, false)] {
        match walk(
            &table,
            TableIterOptions { bypass_cache, readahead: true, ..TableIterOptions::default() },
            forward,
        ) {
            Ok(steps) if real && !repaired => assert_eq!(steps, versions.len()),
            Ok(_) => {}
            Err(error) => check(&error, file_bytes),
        }
    }
}

fuzz_target!(|input: &[u8]| {
    run(input);
    // Lets the collector free what the cache gave up, lest the leak checker scan all memory after each run.
    for _ in 0..8 {
        crossbeam_epoch::pin().flush();
    }
});
