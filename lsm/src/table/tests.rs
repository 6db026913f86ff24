//! The table floor against a model: a sorted map of versions.

use crate::base::error::{Error, Result};
use crate::base::hash::key_hash;
use crate::base::iter::{InternalIterator, Take};
use crate::base::key::{SEQUENCE_MAX, ValueKind, VersionKey, pack_trailer, unpack_trailer};
use crate::base::limits::LONE_VALUE_BYTES;
use crate::base::metrics::Metrics;
use crate::base::options::{Compression, KeyspaceOptions, ReadOptions};
use crate::base::range_delete::{RangeTombstone, RangeTombstones};
use crate::base::rng::Rng;
use crate::cache::block_cache::BlockCache;
use crate::env::env::File;
use crate::table::builder::TableBuilder;
use crate::table::format::TableSummary;
use crate::table::repair::repair;
use crate::table::table::Table;
use crate::table::table_iter::{TableIter, TableIterOptions};
use proptest::prelude::*;
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

const PATH: &str = "dir/000007.sst";
const NUMBER: u64 = 7;

/// A file in memory that can pretend not to be in the page cache.
#[derive(Debug, Default)]
struct TestFile {
    bytes: Mutex<Vec<u8>>,
    not_resident: AtomicBool,
    reads: AtomicU64,
    synced: AtomicBool,
}

impl TestFile {
    fn holding(bytes: Vec<u8>) -> Arc<TestFile> {
        Arc::new(TestFile { bytes: Mutex::new(bytes), ..TestFile::default() })
    }

    fn bytes(&self) -> Vec<u8> {
        self.bytes.lock().unwrap().clone()
    }
}

impl File for TestFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        let bytes = self.bytes.lock().unwrap();
        let rest = bytes.get(offset as usize..).unwrap_or(&[]);
        let len = rest.len().min(buf.len());
        buf[..len].copy_from_slice(&rest[..len]);
        Ok(len)
    }

    fn read_at_nowait(&self, buf: &mut [u8], offset: u64) -> Result<Option<usize>> {
        if self.not_resident.load(Ordering::Relaxed) {
            return Ok(None);
        }
        self.read_at(buf, offset).map(Some)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> Result<()> {
        let mut bytes = self.bytes.lock().unwrap();
        let end = offset as usize + buf.len();
        if bytes.len() < end {
            bytes.resize(end, 0);
        }
        bytes[offset as usize..end].copy_from_slice(buf);
        self.synced.store(false, Ordering::Relaxed);
        Ok(())
    }

    fn allocate(&self, _: u64) -> Result<()> {
        Ok(())
    }

    fn set_len(&self, len: u64) -> Result<()> {
        self.bytes.lock().unwrap().resize(len as usize, 0);
        Ok(())
    }

    fn len(&self) -> Result<u64> {
        Ok(self.bytes.lock().unwrap().len() as u64)
    }

    fn sync(&self) -> Result<()> {
        self.synced.store(true, Ordering::Relaxed);
        Ok(())
    }
}

/// In the order of versions: by key, then trailer descending.
type Version = (Vec<u8>, Reverse<u64>);
type Model = BTreeMap<Version, Vec<u8>>;

fn options(block_bytes: u32, compression: Compression, bloom_bits_per_key: u32) -> KeyspaceOptions {
    KeyspaceOptions { block_bytes, compression, bloom_bits_per_key }
}

fn tiny() -> KeyspaceOptions {
    options(64, Compression::Lz4, 10)
}

fn build(
    model: &Model,
    tombstones: &RangeTombstones,
    options: KeyspaceOptions,
) -> (Arc<TestFile>, TableSummary) {
    let file = Arc::new(TestFile::default());
    let mut builder = TableBuilder::new(file.clone(), PATH.into(), NUMBER, options);
    builder.add_range_tombstones(tombstones.fragments()).unwrap();
    for ((key, Reverse(trailer)), value) in model {
        builder.add(key, *trailer, value).unwrap();
    }
    assert_eq!(builder.entries(), model.len() as u64);
    let summary = builder.finish().unwrap();
    assert!(file.synced.load(Ordering::Relaxed));
    assert_eq!(summary.file_bytes, file.len().unwrap());
    (file, summary)
}

fn open_with(file: Arc<TestFile>, cache_bytes: usize) -> Result<Arc<Table>> {
    let file_bytes = file.len()?;
    let metrics = Arc::new(Metrics::default());
    let cache = Arc::new(BlockCache::new(cache_bytes, metrics.clone()));
    Table::open(file, PATH.into(), NUMBER, file_bytes, cache, metrics).map(Arc::new)
}

fn open(file: Arc<TestFile>) -> Result<Arc<Table>> {
    open_with(file, 1 << 20)
}

fn get_with(
    table: &Table,
    key: &[u8],
    read: u64,
    options: &ReadOptions,
) -> Result<Option<(u64, ValueKind, Vec<u8>)>> {
    let guard = crossbeam_epoch::pin();
    let hit = table.get(key_hash(key), key, read, options, &guard)?;
    Ok(hit.map(|hit| {
        let (block, range) = hit.pin();
        assert_eq!(&block.bytes()[range], hit.value());
        (hit.sequence, hit.kind, hit.value().to_vec())
    }))
}

fn get(table: &Table, key: &[u8], read: u64) -> Result<Option<(u64, ValueKind, Vec<u8>)>> {
    get_with(table, key, read, &ReadOptions::default())
}

fn model_get(model: &Model, key: &[u8], read: u64) -> Option<(u64, ValueKind, Vec<u8>)> {
    let from = (key.to_vec(), Reverse(pack_trailer(read, ValueKind::RangeDelete)));
    let ((found, Reverse(trailer)), value) = model.range(from..).next()?;
    let (sequence, kind) = unpack_trailer(*trailer).unwrap();
    (found == key).then(|| (sequence, kind, value.clone()))
}

fn entry(iter: &TableIter) -> Option<(Version, Vec<u8>)> {
    iter.valid().then(|| ((iter.key().to_vec(), Reverse(iter.trailer())), iter.value().to_vec()))
}

fn scan(table: &Arc<Table>, options: TableIterOptions) -> Result<Model> {
    let mut iter = table.iter(options);
    let mut all = Model::new();
    iter.seek_to_first()?;
    while let Some((version, value)) = entry(&iter) {
        all.insert(version, value);
        iter.next()?;
    }
    Ok(all)
}

const ITER_OPTIONS: [TableIterOptions; 3] = {
    let read = ReadOptions { sequence: None, synced_or: None, memory_only: false, no_fill_cache: false };
    [
        TableIterOptions { read, readahead: false, bypass_cache: false },
        TableIterOptions { read, readahead: true, bypass_cache: false },
        TableIterOptions { read, readahead: false, bypass_cache: true },
    ]
};

fn keys() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => proptest::collection::vec(0u8..3, 0..4),
        2 => (0u32..200).prop_map(|n| format!("user:{n:08}").into_bytes()),
        1 => (0usize..300, any::<u8>()).prop_map(|(n, b)| vec![b; n]),
    ]
}

fn models(versions: usize) -> impl Strategy<Value = Model> {
    let value = prop_oneof![
        4 => proptest::collection::vec(any::<u8>(), 0..20),
        1 => (0usize..500, any::<u8>()).prop_map(|(n, b)| vec![b; n]),
    ];
    let version = (keys(), 0u64..30, any::<bool>(), value);
    proptest::collection::vec(version, 1..versions).prop_map(|versions| {
        let put = |(key, sequence, is_put, value): (Vec<u8>, u64, bool, Vec<u8>)| match is_put {
            true => ((key, Reverse(pack_trailer(sequence, ValueKind::Put))), value),
            false => ((key, Reverse(pack_trailer(sequence, ValueKind::Delete))), Vec::new()),
        };
        versions.into_iter().map(put).collect()
    })
}

fn keyspace_options() -> impl Strategy<Value = KeyspaceOptions> {
    let compression = prop_oneof![Just(Compression::None), Just(Compression::Lz4)];
    (prop_oneof![Just(64u32), 64u32..2000], compression, prop_oneof![Just(0u32), 5u32..16])
        .prop_map(|(block_bytes, compression, bits)| options(block_bytes, compression, bits))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    #[test]
    fn reads_what_was_built(
        model in models(300),
        options in keyspace_options(),
        cache_bytes in prop_oneof![Just(0usize), Just(8 << 10), Just(1 << 20)],
        probes in proptest::collection::vec((keys(), 0u64..32), 40),
        seed: u64,
    ) {
        let (file, summary) = build(&model, &RangeTombstones::default(), options);
        let table = open_with(file, cache_bytes).unwrap();
        prop_assert_eq!(table.properties(), &summary);
        prop_assert_eq!(&summary.smallest, &model.first_key_value().unwrap().0.0);
        prop_assert_eq!(&summary.largest, &model.last_key_value().unwrap().0.0);
        prop_assert!(summary.largest_inclusive);
        table.verify().unwrap();

        // Gets of keys that are there and keys that may not be, at any sequence.
        let present = model.keys().map(|(key, Reverse(trailer))| (key.clone(), trailer >> 8));
        for (key, read) in present.chain(probes.iter().cloned()) {
            for read in [read, read.saturating_sub(1), SEQUENCE_MAX, 0] {
                prop_assert_eq!(get(&table, &key, read).unwrap(), model_get(&model, &key, read));
            }
        }

        let versions = model.iter().map(|(k, v)| (k.clone(), v.clone())).collect::<Vec<_>>();
        for iter_options in ITER_OPTIONS {
            prop_assert_eq!(&scan(&table, iter_options).unwrap(), &model);
            let mut iter = table.iter(iter_options);
            prop_assert!(!iter.valid());
            iter.seek_to_last().unwrap();
            for version in versions.iter().rev() {
                prop_assert_eq!(entry(&iter), Some(version.clone()));
                iter.prev().unwrap();
            }
            prop_assert!(!iter.valid());

            // A walk of seeks and steps; `at` is the index in the model where the iterator should stand.
            let mut rng = Rng::new(seed);
            let mut at = None;
            for (key, sequence) in &probes {
                let kind = [ValueKind::Delete, ValueKind::Put, ValueKind::RangeDelete][rng.below(3) as usize];
                let target = VersionKey { user_key: key, sequence: *sequence, kind };
                let wanted = (key.clone(), Reverse(pack_trailer(*sequence, kind)));
                let bound = versions.partition_point(|(version, _)| *version < wanted);
                match rng.below(6) {
                    back @ (4 | 5) => {
                        let Some(here) = at else { continue };
                        let back = back == 5;
                        let steps =
                            if back { iter.steps_above(Some(key)) } else { iter.steps_below(Some(key)) };
                        let most = (rng.below(40) as usize + 1).min(steps);
                        let mut handed = Vec::new();
                        let skipped = if rng.below(2) == 0 { 0 } else { rng.below(8) as usize };
                        let take: &mut Take<'_> = &mut |key, trailer, value| {
                            handed.push((key.tail(skipped).to_vec(), trailer, value.to_vec()));
                            if handed.len() == most { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
                        };
                        let flow = if back { iter.run_back(steps, take) } else { iter.run(steps, take) };
                        let passed = if back { &versions[here - most..here] } else { &versions[here + 1..][..most] };
                        let within = |passed: &Vec<u8>| if back { passed > key } else { passed < key };
                        prop_assert!(passed.iter().all(|((passed, _), _)| within(passed)));
                        let due = passed.iter().map(|((passed, Reverse(trailer)), value)| {
                            (passed.get(skipped..).unwrap_or_default().to_vec(), *trailer, value.clone())
                        });
                        let mut due = due.collect::<Vec<_>>();
                        if back {
                            due.reverse();
                        }
                        prop_assert_eq!(&handed, &due);
                        prop_assert_eq!(flow.unwrap().break_value(), (most > 0).then_some(most));
                        at = Some(if back { here - most } else { here + most });
                    }
                    0 => {
                        iter.seek(target).unwrap();
                        at = (bound < versions.len()).then_some(bound);
                    }
                    1 => {
                        iter.seek_before(target).unwrap();
                        at = bound.checked_sub(1);
                    }
                    step => for _ in 0..rng.below(12) {
                        let Some(here) = at else { break };
                        if step == 2 {
                            iter.next().unwrap();
                            at = Some(here + 1).filter(|&i| i < versions.len());
                        } else {
                            iter.prev().unwrap();
                            at = here.checked_sub(1);
                        }
                    }
                }
                prop_assert_eq!(entry(&iter), at.map(|i| versions[i].clone()));
            }
        }
    }

    #[test]
    fn bounds_cover_range_tombstones(
        model in models(10),
        ranges in proptest::collection::vec((keys(), keys(), 0u64..40), 0..5),
        points: bool,
    ) {
        let ranges = ranges.into_iter().map(|(start, end, sequence)| RangeTombstone { start, end, sequence });
        let tombstones = RangeTombstones::build(ranges.collect());
        let model = if points { model } else { Model::new() };
        prop_assume!(points || !tombstones.is_empty());
        let (file, summary) = build(&model, &tombstones, tiny());
        let table = open(file).unwrap();
        table.verify().unwrap();
        prop_assert_eq!(table.range_tombstones(), &tombstones);
        prop_assert_eq!(&scan(&table, TableIterOptions::default()).unwrap(), &model);
        let starts = tombstones.fragments().iter().map(|f| f.start.clone());
        let smallest = model.keys().map(|(key, _)| key.clone()).chain(starts).min().unwrap();
        prop_assert_eq!(&summary.smallest, &smallest);
        let last_point = model.keys().map(|(key, _)| key).next_back();
        let last_end = tombstones.fragments().last().map(|f| &f.end);
        prop_assert_eq!(Some(&summary.largest), last_point.max(last_end));
        prop_assert_eq!(summary.largest_inclusive, last_point >= last_end);
        let sequences = model.keys().map(|(_, Reverse(trailer))| trailer >> 8).collect::<Vec<_>>();
        let of_ranges = tombstones.tombstones().map(|t| t.sequence).collect::<Vec<_>>();
        let all = || sequences.iter().chain(&of_ranges).copied();
        prop_assert_eq!(Some(summary.smallest_sequence), all().min());
        prop_assert_eq!(Some(summary.largest_sequence), all().max());
    }

    #[test]
    fn hostile_tables_with_good_checksums_never_panic(
        model in models(40),
        options in keyspace_options(),
        damage in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let ranges = vec![RangeTombstone { start: b"a".to_vec(), end: b"b".to_vec(), sequence: 9 }];
        let (file, _) = build(&model, &RangeTombstones::build(ranges), options);
        let mut bytes = file.bytes();
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        repair(&mut bytes, NUMBER);
        let Ok(table) = open(TestFile::holding(bytes)) else { return Ok(()) };
        let _ = table.verify();
        for (key, Reverse(trailer)) in model.keys() {
            let _ = get(&table, key, trailer >> 8);
            table.approximate_offset(key);
        }
        for iter_options in ITER_OPTIONS {
            let _ = scan(&table, iter_options);
            let mut iter = table.iter(iter_options);
            for (key, Reverse(trailer)) in model.keys() {
                let _ = iter.seek(VersionKey::seek(key, trailer >> 8));
                let _ = iter.seek_before(VersionKey::seek(key, trailer >> 8));
            }
            let mut going = iter.seek_to_last();
            while going.is_ok() && iter.valid() {
                going = iter.prev();
            }
        }
    }
}

/// `count` keys of 16 bytes, each once, at sequence 0, with values of 20 bytes.
fn plain_model(count: u64) -> Model {
    let trailer = Reverse(pack_trailer(0, ValueKind::Put));
    (0..count).map(|n| ((format!("key:{n:012}").into_bytes(), trailer), n.to_le_bytes().repeat(3))).collect()
}

#[test]
fn every_flipped_byte_is_an_error_or_harmless() {
    let mut model = plain_model(30);
    for sequence in 1..9 {
        let trailer = Reverse(pack_trailer(sequence, ValueKind::Delete));
        model.insert((b"key:000000000017".to_vec(), trailer), vec![]);
    }
    let ranges = vec![RangeTombstone { start: b"a".to_vec(), end: b"b".to_vec(), sequence: 9 }];
    let (file, summary) = build(&model, &RangeTombstones::build(ranges), tiny());
    assert!(summary.data_blocks > 10);
    let good = file.bytes();
    let check = |error: Error, at: usize| match error {
        Error::Corruption { file, offset, .. } => {
            assert_eq!(file, PathBuf::from(PATH));
            assert!(offset <= at as u64, "a flip at {at} was blamed on {offset}");
        }
        other => panic!("a flip at {at} gave {other}"),
    };
    for at in 0..good.len() {
        for mask in [1, 0x80, 0xff] {
            let mut bytes = good.clone();
            bytes[at] ^= mask;
            let table = match open(TestFile::holding(bytes)) {
                Ok(table) => table,
                Err(error) => {
                    check(error, at);
                    continue;
                }
            };
            check(table.verify().unwrap_err(), at);
            for ((key, Reverse(trailer)), value) in &model {
                match get(&table, key, trailer >> 8) {
                    Ok(found) => assert_eq!(found.unwrap().2, *value),
                    Err(error) => check(error, at),
                }
            }
            for iter_options in ITER_OPTIONS {
                match scan(&table, iter_options) {
                    Ok(all) => assert_eq!(all, model),
                    Err(error) => check(error, at),
                }
            }
        }
    }
}

#[test]
fn a_cut_or_foreign_file_is_refused() {
    let (file, _) = build(&plain_model(30), &RangeTombstones::default(), tiny());
    let good = file.bytes();
    for len in 0..good.len() {
        assert!(open(TestFile::holding(good[..len].to_vec())).unwrap_err().is_corruption());
    }
    let open_as = |number, file_bytes| {
        let cache = Arc::new(BlockCache::new(0, Arc::default()));
        Table::open(file.clone(), PATH.into(), number, file_bytes, cache, Arc::default())
    };
    assert!(open_as(8, good.len() as u64).unwrap_err().is_corruption());
    assert!(open_as(7, good.len() as u64 + 1).unwrap_err().is_corruption());
    assert!(open_as(7, good.len() as u64).is_ok());
}

#[test]
fn a_table_built_without_a_number_opens_under_any() {
    let file = Arc::new(TestFile::default());
    let mut builder = TableBuilder::new(file.clone(), PATH.into(), 0, tiny());
    builder.add(b"k", pack_trailer(3, ValueKind::Put), b"v").unwrap();
    builder.finish().unwrap();
    let table = open(file).unwrap();
    assert_eq!(get(&table, b"k", 3).unwrap(), Some((3, ValueKind::Put, b"v".to_vec())));
}

#[test]
fn versions_of_one_key_span_blocks_and_partitions() {
    let mut model = plain_model(10);
    for sequence in 1..=2000u64 {
        let trailer = Reverse(pack_trailer(2 * sequence, ValueKind::Put));
        model.insert((b"key:000000000005".to_vec(), trailer), sequence.to_le_bytes().to_vec());
    }
    let (file, _) = build(&model, &RangeTombstones::default(), tiny());
    let table = open(file).unwrap();
    assert!(table.partitions().len() > 3);
    table.verify().unwrap();
    for read in (0..4010).rev() {
        let key = b"key:000000000005";
        assert_eq!(get(&table, key, read).unwrap(), model_get(&model, key, read));
    }
}

#[test]
fn large_values_lie_alone_and_are_pinned_without_copies() {
    let mut model = plain_model(3);
    let large = (0..LONE_VALUE_BYTES + 1).map(|i| ((i * i) >> 8) as u8).collect::<Vec<_>>();
    let trailer = Reverse(pack_trailer(0, ValueKind::Put));
    model.insert((b"key:000000000001+".to_vec(), trailer), large.clone());
    model.insert((b"key:000000000001-".to_vec(), trailer), vec![7; 3 << 20]);
    let (file, summary) = build(&model, &RangeTombstones::default(), KeyspaceOptions::default());
    assert_eq!(summary.data_blocks, 4);
    assert!(summary.file_bytes < 200 << 10, "three megabytes of one byte compress well");
    let table = open(file).unwrap();
    table.verify().unwrap();
    for iter_options in ITER_OPTIONS {
        assert_eq!(scan(&table, iter_options).unwrap(), model);
    }
    let guard = crossbeam_epoch::pin();
    let key = b"key:000000000001+";
    let options = ReadOptions::default();
    let hit = table.get(key_hash(key), key, SEQUENCE_MAX, &options, &guard).unwrap().unwrap();
    let (block, range) = hit.pin();
    drop(hit);
    drop(guard);
    assert_eq!(block.bytes()[range], large);
}

#[test]
fn memory_only_reads_never_wait() {
    let model = plain_model(500);
    let (file, _) = build(&model, &RangeTombstones::default(), tiny());
    let table = open(file.clone()).unwrap();
    let (key, absent) = (b"key:000000000250", b"key:000000000250x");
    let memory_only = ReadOptions::memory_only();
    file.not_resident.store(true, Ordering::Relaxed);
    let reads = file.reads.load(Ordering::Relaxed);
    assert!(get_with(&table, key, 0, &memory_only).unwrap_err().is_needs_io());
    // The filter is not at hand, so it is a maybe.
    assert!(get_with(&table, absent, 0, &memory_only).unwrap_err().is_needs_io());
    let iter_options = TableIterOptions { read: memory_only, readahead: true, ..TableIterOptions::default() };
    let mut iter = table.iter(iter_options);
    assert!(iter.seek_to_first().unwrap_err().is_needs_io());
    assert!(!iter.valid());
    assert_eq!(file.reads.load(Ordering::Relaxed), reads);

    // A read that may wait fills the cache: then memory is enough.
    let expected = model_get(&model, key, 0);
    assert_eq!(get(&table, key, 0).unwrap(), expected);
    assert_eq!(get_with(&table, key, 0, &memory_only).unwrap(), expected);
    assert_eq!(get_with(&table, absent, 0, &memory_only).unwrap(), None);
    iter.seek(VersionKey::seek(key, 0)).unwrap();
    assert_eq!(iter.key(), key);
    let mut steps = 0;
    while iter.valid() {
        match iter.next() {
            Ok(()) => steps += 1,
            Err(error) => assert!(error.is_needs_io()),
        }
    }
    assert!(steps < 20);

    // What the page cache holds is read inline.
    file.not_resident.store(false, Ordering::Relaxed);
    assert_eq!(scan(&table, iter_options).unwrap(), model);
}

#[test]
fn compaction_and_no_fill_leave_the_cache_alone() {
    let (file, _) =
        build(&plain_model(5000), &RangeTombstones::default(), options(512, Compression::Lz4, 10));
    let table = open(file.clone()).unwrap();
    let reads = file.reads.load(Ordering::Relaxed);
    let bypass = TableIterOptions { bypass_cache: true, ..TableIterOptions::default() };
    scan(&table, bypass).unwrap();
    assert_eq!(table.cache().used_bytes(), 0);
    let chunks = file.reads.load(Ordering::Relaxed) - reads;
    assert!(chunks < 3 + table.partitions().len() as u64, "{chunks} reads");
    let read = ReadOptions { no_fill_cache: true, ..ReadOptions::default() };
    scan(&table, TableIterOptions { read, readahead: true, bypass_cache: false }).unwrap();
    assert_eq!(table.cache().used_bytes(), 0);
    scan(&table, TableIterOptions::default()).unwrap();
    assert!(table.cache().used_bytes() > 100 << 10);
}

#[test]
fn filters_spare_most_reads_of_absent_keys() {
    let (file, _) = build(&plain_model(20_000), &RangeTombstones::default(), KeyspaceOptions::default());
    let metrics = Arc::new(Metrics::default());
    let cache = Arc::new(BlockCache::new(8 << 20, metrics.clone()));
    let file_bytes = file.len().unwrap();
    let table = Table::open(file, PATH.into(), NUMBER, file_bytes, cache, metrics.clone()).unwrap();
    for n in 0..19_000 {
        let key = format!("key:{n:012}x");
        assert_eq!(get(&table, key.as_bytes(), 0).unwrap(), None);
    }
    let counted = metrics.snapshot();
    assert!(counted.filter_probes > 18_900 && counted.filter_negatives > 18_500, "{counted:?}");
    assert!((1..300).contains(&counted.filter_false_positives), "{counted:?}");
}

#[test]
fn approximate_offsets_grow_with_the_keys() {
    let (file, summary) =
        build(&plain_model(5000), &RangeTombstones::default(), options(256, Compression::None, 10));
    let table = open(file).unwrap();
    for _ in 0..2 {
        let mut last = 0;
        for n in (0..5000).step_by(100) {
            let offset = table.approximate_offset(format!("key:{n:012}").as_bytes());
            assert!(offset >= last);
            let exact = summary.file_bytes as f64 * n as f64 / 5000.0;
            assert!((offset as f64 - exact).abs() < summary.file_bytes as f64 / 50.0);
            last = offset;
        }
        assert_eq!(table.approximate_offset(b"z"), summary.file_bytes);
        scan(&table, TableIterOptions::default()).unwrap();
    }
}

#[test]
fn the_builder_refuses_what_does_not_belong() {
    let builder = || TableBuilder::new(Arc::new(TestFile::default()), Path::new(PATH).into(), NUMBER, tiny());
    let put = |sequence| pack_trailer(sequence, ValueKind::Put);
    let mut table = builder();
    table.add(b"b", put(5), b"").unwrap();
    assert!(table.add(b"b", put(5), b"").is_err());
    assert!(table.add(b"b", put(6), b"").is_err());
    assert!(table.add(b"a", put(9), b"").is_err());
    assert!(table.add(b"c", pack_trailer(1, ValueKind::RangeDelete), b"d").is_err());
    table.add(b"b", put(4), b"").unwrap();
    assert!(builder().finish().is_err());
    let fragments = |start: &[u8], end: &[u8]| {
        let tombstone = RangeTombstone { start: start.to_vec(), end: end.to_vec(), sequence: 1 };
        RangeTombstones::build(vec![tombstone]).fragments().to_vec()
    };
    table.add_range_tombstones(&fragments(b"c", b"e")).unwrap();
    assert!(table.add_range_tombstones(&fragments(b"d", b"f")).is_err());
    table.add_range_tombstones(&fragments(b"e", b"f")).unwrap();
}
