//! What a table builder wrote is what a table reads, for any versions and options.
//!
//! The first three bytes choose the options; the rest is a list of versions: (key length, key seed, sequence, kind, value length).
//! Keys are made from few letters, so that they repeat and share prefixes. The model is a sorted map.
#![no_main]

use haypile_lsm::base::hash::key_hash;
use haypile_lsm::base::iter::InternalIterator;
use haypile_lsm::base::key::{ValueKind, VersionKey, pack_trailer};
use haypile_lsm::base::options::{Compression, KeyspaceOptions, ReadOptions};
use haypile_lsm::cache::block_cache::BlockCache;
use haypile_lsm::env::env::{Env, OpenMode};
use haypile_lsm::env::mem_env::MemEnv;
use haypile_lsm::table::builder::TableBuilder;
use haypile_lsm::table::table::Table;
use haypile_lsm::table::table_iter::TableIterOptions;
use libfuzzer_sys::fuzz_target;
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

const NUMBER: u64 = 3;

type Model = BTreeMap<(Vec<u8>, Reverse<u64>), Vec<u8>>;

fn model(input: &[u8]) -> Model {
    let mut model = Model::new();
    for version in input.chunks_exact(5) {
        let [key_len, seed, sequence, kind, value_len] = *version else { continue };
        let key = (0..key_len % 24).map(|i| b'a' + (seed >> (i % 8) & 1)).collect::<Vec<_>>();
        let sequence = if sequence < 64 { 0 } else { 1 << (sequence % 56) | u64::from(sequence) };
        let (kind, value) = match kind % 4 {
            0 => (ValueKind::Delete, Vec::new()),
            1 => (ValueKind::Put, vec![seed; usize::from(value_len) << 9]),
            _ => (ValueKind::Put, vec![seed; usize::from(value_len)]),
        };
        model.insert((key, Reverse(pack_trailer(sequence, kind))), value);
    }
    model
}

fn run(input: &[u8]) {
    let Some((&[block, filter, compression], rest)) = input.split_first_chunk::<3>() else { return };
    let model = model(rest);
    if model.is_empty() {
        return;
    }
    let options = KeyspaceOptions {
        block_bytes: 64 + 8 * u32::from(block),
        compression: if compression & 1 == 0 { Compression::Lz4 } else { Compression::None },
        bloom_bits_per_key: u32::from(filter % 33),
    };
    let env = MemEnv::new();
    let path = Path::new("/000003.sst");
    let file = env.open(path, OpenMode::CreateNew).unwrap();
    let mut builder = TableBuilder::new(file.clone(), path.into(), NUMBER, options);
    for ((key, Reverse(trailer)), value) in &model {
        builder.add(key, *trailer, value).unwrap();
    }
    let summary = builder.finish().unwrap();
    let cache = Arc::new(BlockCache::new(usize::from(compression) << 8, Arc::default()));
    let table =
        Arc::new(Table::open(file, path.into(), NUMBER, summary.file_bytes, cache, Arc::default()).unwrap());
    assert_eq!(table.properties(), &summary);
    table.verify().unwrap();

    let guard = crossbeam_epoch::pin();
    let bypass_cache = compression & 2 != 0;
    let mut iter =
        table.iter(TableIterOptions { bypass_cache, readahead: true, ..TableIterOptions::default() });
    iter.seek_to_first().unwrap();
    for ((key, Reverse(trailer)), value) in &model {
        assert_eq!((iter.key(), iter.trailer(), iter.value()), (key.as_slice(), *trailer, value.as_slice()));
        iter.next().unwrap();
    }
    assert!(!iter.valid());
    iter.seek_to_last().unwrap();
    for ((key, Reverse(trailer)), _) in model.iter().rev() {
        assert_eq!((iter.key(), iter.trailer()), (key.as_slice(), *trailer));
        iter.prev().unwrap();
    }
    for ((key, Reverse(trailer)), _) in &model {
        // The version itself, one older, and a key that may not be there.
        let longer = [key.as_slice(), b"a"].concat();
        for (key, read) in
            [(key, trailer >> 8), (key, (trailer >> 8).saturating_sub(1)), (&longer, trailer >> 8)]
        {
            let target = VersionKey::seek(key, read);
            let from = (key.clone(), Reverse(pack_trailer(target.sequence, target.kind)));
            let expected = model.range(from.clone()..).next();
            iter.seek(target).unwrap();
            assert_eq!(
                iter.valid().then(|| (iter.key(), iter.trailer())),
                expected.map(|((k, t), _)| (&k[..], t.0))
            );
            iter.seek_before(target).unwrap();
            let before = model.range(..from).next_back();
            assert_eq!(
                iter.valid().then(|| (iter.key(), iter.trailer())),
                before.map(|((k, t), _)| (&k[..], t.0))
            );
            let hit = table.get(key_hash(key), key, read, &ReadOptions::default(), &guard).unwrap();
            let expected = expected.filter(|((k, _), _)| k == key);
            assert_eq!(
                hit.as_ref().map(|h| (pack_trailer(h.sequence, h.kind), h.value())),
                expected.map(|((_, t), v)| (t.0, &v[..]))
            );
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
