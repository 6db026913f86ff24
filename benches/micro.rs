//! What single steps cost: `cargo bench --bench micro [-- NAME]`.
//!
//! Each stands for a line of a budget that the larger benchmarks only show the sum of. All data is in memory and warm, 16-byte
//! keys and 100-byte values; numbers are of one thread.

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use haypile_lsm::base::hash::key_hash;
use haypile_lsm::base::iter::InternalIterator;
use haypile_lsm::base::key::{SEQUENCE_MAX, ValueKind, VersionKey, pack_trailer};
use haypile_lsm::base::rng::Rng;
use haypile_lsm::block::block::{Block, BlockKey, BlockKind};
use haypile_lsm::block::builder::BlockBuilder;
use haypile_lsm::block::filter::{Filter, FilterBuilder};
use haypile_lsm::block::frame::{FrameEncoder, checksum, decode};
use haypile_lsm::cache::block_cache::BlockCache;
use haypile_lsm::memtable::memtable::Memtable;
use haypile_lsm::merge::merging_iter::MergingIter;
use haypile_lsm::wal::log::{Log, LogOptions};
use haypile_lsm::wal::record::{CrcSeed, RecordKind, begin_record, finish_record};
use haypile_lsm::{Compression, MemEnv, WriteBatch};
use haypile_resp::{Limits, Progress, RequestParser};
use std::hint::black_box;
use std::path::PathBuf;
use std::sync::Arc;

const VALUE: [u8; 100] = [b'v'; 100];
const ENTRIES: u64 = 100_000;

fn key(n: u64) -> [u8; 16] {
    let mut key = *b"key:000000000000";
    key[4..].copy_from_slice(format!("{n:012}").as_bytes());
    key
}

fn put(memtable: &Memtable, n: u64, sequence: u64) {
    let key = key(n);
    memtable.reserve(Memtable::entry_bytes_max(key.len(), VALUE.len()));
    memtable.insert(key_hash(&key), &key, sequence, ValueKind::Put, &VALUE);
}

/// Random keys below `bound`, drawn before anything is timed.
fn numbers(bound: u64) -> impl FnMut() -> u64 {
    let mut rng = Rng::new(1);
    let numbers = (0..1 << 16).map(|_| rng.below(bound)).collect::<Vec<_>>();
    let mut at = 0;
    move || {
        at = (at + 1) % numbers.len();
        numbers[at]
    }
}

fn memtable(c: &mut Criterion) {
    let fresh = || Memtable::new(64 << 20, 1).expect("room for a memtable");
    let mut group = c.benchmark_group("memtable");
    group.sample_size(20).throughput(Throughput::Elements(ENTRIES));
    let mut rng = Rng::new(7);
    let anywhere = (0..ENTRIES).map(|_| rng.next_u64() % 1_000_000_000).collect::<Vec<_>>();
    for (what, keys) in [
        ("100k new keys", anywhere),
        ("100k new keys in order", (0..ENTRIES).collect()),
        ("100k new keys backwards", (0..ENTRIES).rev().collect()),
    ] {
        group.bench_function(format!("skiplist insert, {what}"), |b| {
            b.iter_batched(
                fresh,
                |memtable| keys.iter().zip(1..).for_each(|(&n, sequence)| put(&memtable, n, sequence)),
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
    let memtable = Arc::new(fresh());
    (0..ENTRIES).for_each(|n| put(&memtable, n, n + 1));
    let mut next = numbers(ENTRIES);
    c.bench_function("memtable/hash index get", |b| {
        b.iter(|| {
            let key = key(next());
            black_box(memtable.get(key_hash(&key), &key, SEQUENCE_MAX).map(|hit| hit.value.len()))
        });
    });
    c.bench_function("memtable/skiplist seek", |b| {
        let mut iter = memtable.iter();
        b.iter(|| iter.seek(VersionKey::seek(&key(next()), SEQUENCE_MAX)).map(|()| iter.valid()));
    });
}

/// The payload of a data block of `entries`.
fn payload(entries: u64) -> Vec<u8> {
    let mut builder = BlockBuilder::new();
    for n in 0..entries {
        builder.add(&key(n), pack_trailer(n + 1, ValueKind::Put), &VALUE);
    }
    let mut payload = Vec::new();
    builder.finish(&mut payload);
    payload
}

fn block(entries: u64, offset: u64) -> Arc<Block> {
    let key = BlockKey { file_number: 1, offset };
    Arc::new(Block::decode(key, BlockKind::Data, payload(entries)).expect("a block just built"))
}

fn blocks(c: &mut Criterion) {
    for entries in [34, 250] {
        let (block, mut next) = (block(entries, 0), numbers(entries));
        c.bench_function(&format!("block/search among {entries}"), |b| {
            b.iter(|| block.find(&key(next()), pack_trailer(SEQUENCE_MAX, ValueKind::RangeDelete)));
        });
    }
    let payload = payload(34);
    let mut frame = Vec::new();
    FrameEncoder::default().append(&payload, Compression::Lz4, 1, 0, &mut frame);
    c.bench_function("block/check, unpack and decode 4 KiB", |b| {
        let key = BlockKey { file_number: 1, offset: 0 };
        b.iter(|| {
            decode(&frame, 1, 0).and_then(|payload| Block::decode(key, BlockKind::Data, payload)).is_ok()
        });
    });
    let mut builder = FilterBuilder::new(10);
    (0..ENTRIES).for_each(|n| builder.add(key_hash(&key(n))));
    let mut encoded = Vec::new();
    builder.finish(&mut encoded);
    let (filter, mut next) = (Filter::decode(&encoded).expect("a filter just built"), numbers(2 * ENTRIES));
    c.bench_function("bloom/probe, half of them absent", |b| {
        b.iter(|| filter.may_contain(key_hash(&key(next()))))
    });
    let cache = BlockCache::new(64 << 20, Arc::default());
    (0..1000).for_each(|offset| cache.insert(self::block(34, offset)));
    let mut next = numbers(1000);
    c.bench_function("cache/hit", |b| {
        b.iter(|| {
            let guard = crossbeam_epoch::pin();
            cache.get(BlockKey { file_number: 1, offset: next() }, &guard).map(|block| block.count())
        });
    });
}

fn checksums(c: &mut Criterion) {
    let bytes = vec![b'b'; 4096];
    let mut group = c.benchmark_group("checksum");
    group.throughput(Throughput::Bytes(bytes.len() as u64));
    group.bench_function("xxh3 of a 4 KiB frame", |b| b.iter(|| checksum(&bytes, 1, 2)));
    let seed = CrcSeed::new(1, 2);
    let mut out = Vec::new();
    group.bench_function("crc32c of a 4 KiB record", |b| {
        b.iter(|| {
            out.clear();
            let start = begin_record(&mut out);
            out.extend_from_slice(&bytes);
            finish_record(&mut out, start, seed, RecordKind::Batch, 7, 5)
        });
    });
    group.finish();
}

fn merge(c: &mut Criterion) {
    const SOURCES: u64 = 8;
    let memtables = (0..SOURCES)
        .map(|source| {
            let memtable = Arc::new(Memtable::new(16 << 20, source).expect("room for a memtable"));
            (0..10_000).for_each(|n| put(&memtable, n * SOURCES + source, n + 1));
            memtable
        })
        .collect::<Vec<_>>();
    let sources =
        || memtables.iter().map(|memtable| Box::new(memtable.iter()) as Box<dyn InternalIterator>).collect();
    let mut group = c.benchmark_group("merge");
    group.sample_size(20).throughput(Throughput::Elements(10_000 * SOURCES));
    group.bench_function("8 sources, next", |b| {
        b.iter(|| {
            let mut merged = MergingIter::new(sources());
            let mut steps = 0;
            let mut moved = merged.seek_to_first();
            while moved.is_ok() && merged.valid() {
                steps += black_box(merged.key().len());
                moved = merged.next();
            }
            steps
        });
    });
    group.finish();
}

fn log(c: &mut Criterion) {
    let options = LogOptions {
        dir: PathBuf::from("/"),
        segment_bytes: 64 << 20,
        total_bytes: 256 << 20,
        sync_interval_ms: 0,
        history: 1,
        listener: None,
        events: None,
        latency: None,
        metrics: Arc::default(),
    };
    let log = Log::create(MemEnv::new(), options, 1, 0).expect("an in-memory disk does not fail");
    let mut batch = WriteBatch::new();
    batch.put(1, &key(1), &VALUE).expect("a small batch");
    c.bench_function("wal/append one put, write every 16", |b| {
        let mut lsn = log.appended();
        b.iter(|| {
            lsn += 1;
            let mut append = log.lock();
            append.prepare(batch.encoded_len()).expect("an in-memory disk does not fail");
            append.append(lsn, lsn, &batch);
            drop(append);
            if lsn.is_multiple_of(16) {
                log.try_write().expect("an in-memory disk does not fail");
                log.release_before(log.current_segment());
            }
        });
    });
}

fn requests(c: &mut Criterion) {
    let mut one = b"*3\r\n$3\r\nSET\r\n$16\r\n".to_vec();
    one.extend_from_slice(&key(1));
    one.extend_from_slice(b"\r\n$100\r\n");
    one.extend_from_slice(&VALUE);
    one.extend_from_slice(b"\r\n");
    let sixteen = one.repeat(16);
    let mut group = c.benchmark_group("resp");
    group.throughput(Throughput::Elements(16));
    group.bench_function("parse 16 pipelined SETs", |b| {
        let mut parser = RequestParser::new(Limits::default());
        b.iter(|| {
            let (mut at, mut arguments) = (0, 0);
            while let Ok(Progress::Complete { consumed }) = parser.parse(&sixteen[at..]) {
                arguments += parser.arguments().len();
                at += consumed;
            }
            arguments
        });
    });
    group.finish();
}

criterion_group!(micro, memtable, blocks, checksums, merge, log, requests);
criterion_main!(micro);
