//! Versions over real tables on an in-memory disk: lookups, edits, the fate of files, and the walk over a level.

use haypile_lsm::base::hooks::Note;
use haypile_lsm::base::iter::InternalIterator;
use haypile_lsm::base::key::{SEQUENCE_MAX, ValueKind, VersionKey, compare_versions, pack_trailer};
use haypile_lsm::base::limits::LEVELS;
use haypile_lsm::base::metrics::Metrics;
use haypile_lsm::base::options::{KeyspaceOptions, ReadOptions};
use haypile_lsm::base::range_delete::{RangeTombstone, RangeTombstones};
use haypile_lsm::cache::block_cache::BlockCache;
use haypile_lsm::env::env::{Env, OpenMode};
use haypile_lsm::env::mem_env::MemEnv;
use haypile_lsm::merge::visible_iter::RangeCover;
use haypile_lsm::table::builder::TableBuilder;
use haypile_lsm::table::table_iter::TableIterOptions;
use haypile_lsm::version::edit::{FileAdded, FileRemoved, VersionEdit};
use haypile_lsm::version::file_meta::{FileMeta, KeyRange};
use haypile_lsm::version::level_cover::LevelCover;
use haypile_lsm::version::level_iter::LevelIter;
use haypile_lsm::version::version::{Reaper, TableOpener, Version};
use proptest::prelude::*;
use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;

type Entry = (Vec<u8>, u64, Vec<u8>);

struct Disk {
    env: Arc<MemEnv>,
    opener: Arc<TableOpener>,
}

impl Disk {
    fn new() -> Disk {
        let env = MemEnv::new();
        let dir = Path::new("/db");
        env.create_dir_all(dir).unwrap();
        let metrics = Arc::new(Metrics::default());
        let cache = Arc::new(BlockCache::new(1 << 20, metrics.clone()));
        let opener = Arc::new(TableOpener::new(env.clone(), dir, 100, cache, metrics));
        Disk { env, opener }
    }

    fn build(&self, number: u64, entries: &[Entry], tombstones: Vec<RangeTombstone>) -> Arc<FileMeta> {
        let path = self.opener.path(number);
        let file = self.env.open(&path, OpenMode::CreateNew).unwrap();
        let options = KeyspaceOptions { block_bytes: 64, ..KeyspaceOptions::default() };
        let mut builder = TableBuilder::new(file, path, number, options);
        entries.iter().for_each(|(key, trailer, value)| builder.add(key, *trailer, value).unwrap());
        builder.add_range_tombstones(RangeTombstones::build(tombstones).fragments()).unwrap();
        Arc::new(FileMeta::new(number, &builder.finish().unwrap(), 1))
    }
}

fn put(key: &[u8], sequence: u64) -> Entry {
    (key.to_vec(), pack_trailer(sequence, ValueKind::Put), format!("value {sequence}").into_bytes())
}

fn levels(files: Vec<(usize, Arc<FileMeta>)>) -> [Vec<Arc<FileMeta>>; LEVELS] {
    let mut levels: [Vec<Arc<FileMeta>>; LEVELS] = Default::default();
    files.into_iter().for_each(|(level, meta)| levels[level].push(meta));
    levels
}

fn added(level: usize, meta: &Arc<FileMeta>) -> FileAdded {
    FileAdded { keyspace: 1, level, meta: meta.clone() }
}

fn removed(level: usize, number: u64) -> FileRemoved {
    FileRemoved { keyspace: 1, level, number }
}

#[test]
fn edits_make_versions_and_files_outlive_their_readers() {
    let disk = Disk::new();
    let reaper = Reaper::new();
    let first = disk.build(1, &[put(b"a", 5), put(b"m", 6)], vec![]);
    let second = disk.build(2, &[put(b"b", 8), put(b"z", 7)], vec![]);
    let edit =
        VersionEdit { files_added: vec![added(0, &first), added(0, &second)], ..VersionEdit::default() };
    let version = Version::empty().apply(1, &edit, &reaper).unwrap().version;
    assert_eq!(Version::empty().apply(2, &edit, &reaper).unwrap().version.file_count(), 0);
    assert_eq!(version.to_string(), format!("L0: {second}\n    {first}\n"));
    assert_eq!((version.file_count(), version.bytes()), (2, first.bytes + second.bytes));
    assert_eq!(version.files_for_key(b"b").map(|file| file.number()).collect::<Vec<_>>(), [2, 1]);
    assert!(version.files_for_key(b"zz").next().is_none());
    let (_, file) = version.find(1).unwrap();
    assert!(file.table(&disk.opener, true).unwrap_err().is_needs_io());
    file.table(&disk.opener, false).unwrap();
    assert!(file.table(&disk.opener, true).is_ok());

    // A move keeps the open table, and nothing is removed.
    let edit = VersionEdit {
        files_removed: vec![removed(0, 1)],
        files_added: vec![added(6, &first)],
        ..VersionEdit::default()
    };
    let applied = version.apply(1, &edit, &reaper).unwrap();
    assert!(applied.removed.is_empty() && applied.added.is_empty());
    let moved = applied.version;
    assert!(moved.find(1).unwrap().1.opened().is_some());
    assert!(Arc::ptr_eq(version.level(3), moved.level(3)));
    assert!(moved.is_clear(1..6, &KeyRange::ALL) && !moved.is_clear(6..7, &KeyRange::ALL));

    // A merge: the inputs are obsolete, but go only with the last version that has them.
    let merged = disk.build(3, &[put(b"a", 0), put(b"z", 0)], vec![]);
    let edit = VersionEdit {
        files_removed: vec![removed(0, 2), removed(6, 1)],
        files_added: vec![added(6, &merged)],
        ..VersionEdit::default()
    };
    let applied = moved.apply(1, &edit, &reaper).unwrap();
    applied.removed.iter().for_each(|file| file.mark_obsolete());
    assert_eq!(applied.removed.len(), 2);
    let last = applied.version;
    drop((applied.removed, moved));
    assert!(reaper.drain().is_empty());
    drop(version);
    let mut gone = reaper.drain();
    gone.sort();
    assert_eq!(gone, [1, 2]);
    gone.iter().for_each(|number| disk.opener.unlink(*number).unwrap());
    gone.iter().for_each(|number| disk.opener.unlink(*number).unwrap());
    assert_eq!(disk.env.list(Path::new("/db")).unwrap().len(), 1);
    drop(last);
    assert!(reaper.drain().is_empty(), "what is still in the tree is not reaped");
}

#[test]
fn what_is_no_tree_is_refused() {
    let disk = Disk::new();
    let reaper = Reaper::new();
    let wide = disk.build(1, &[put(b"a", 5), put(b"m", 6)], vec![]);
    let inner = disk.build(2, &[put(b"b", 4), put(b"c", 9)], vec![]);
    assert!(Version::new(levels(vec![(5, wide.clone()), (6, inner.clone())]), &reaper).is_ok());
    assert!(Version::new(levels(vec![(6, wide.clone()), (6, inner.clone())]), &reaper).is_err());
    assert!(Version::new(levels(vec![(0, wide.clone()), (0, inner.clone())]), &reaper).is_err());
    let version = Version::new(levels(vec![(0, wide)]), &reaper).unwrap();
    let bad = VersionEdit { files_removed: vec![removed(1, 1)], ..VersionEdit::default() };
    assert!(version.apply(1, &bad, &reaper).is_err());
    let bad = VersionEdit { files_added: vec![added(0, &inner)], ..VersionEdit::default() };
    assert!(version.apply(1, &bad, &reaper).is_err());
    let other = VersionEdit {
        notes_added: vec![Note { id: 1, keyspace: 1, bytes: vec![] }],
        ..VersionEdit::default()
    };
    let same = version.apply(1, &other, &reaper).unwrap().version;
    assert!((0..LEVELS).all(|level| Arc::ptr_eq(same.level(level), version.level(level))));
}

#[test]
fn a_missing_table_is_corruption() {
    let disk = Disk::new();
    let meta = disk.build(1, &[put(b"a", 5)], vec![]);
    let reaper = Reaper::new();
    let version = Version::new(levels(vec![(6, meta)]), &reaper).unwrap();
    disk.opener.unlink(1).unwrap();
    let (_, file) = version.find(1).unwrap();
    assert!(file.table(&disk.opener, false).unwrap_err().is_corruption());
}

#[test]
fn sizes_and_covers() {
    let disk = Disk::new();
    let reaper = Reaper::new();
    let rows =
        |from: u32| (from..from + 500).map(|n| put(format!("{n:06}").as_bytes(), 1)).collect::<Vec<_>>();
    let low = disk.build(1, &rows(0), vec![]);
    let high = disk.build(2, &rows(500), vec![]);
    let tombstone =
        |start: &str, end: &str, sequence| RangeTombstone { start: start.into(), end: end.into(), sequence };
    let tombstones = vec![tombstone("000250", "000600", 7), tombstone("000600", "000750", 8)];
    let deletes = disk.build(3, &[], tombstones.clone());
    let files = vec![(6, low.clone()), (6, high.clone()), (5, deletes)];
    let version = Version::new(levels(files), &reaper).unwrap();
    assert!(version.has_range_deletes());
    let all = low.bytes + high.bytes;
    assert_eq!(version.approximate_bytes(6..7, &KeyRange::ALL), all);
    let covered = version.covered_bytes(Some((5, 0)), &RangeTombstones::build(tombstones.clone()));
    assert_eq!(covered, all / 2, "guessed");
    version.files().for_each(|file| {
        file.table(&disk.opener, false).unwrap();
    });
    let range = KeyRange { start: b"000100", end: Bound::Excluded(b"000200") };
    let bytes = version.approximate_bytes(6..7, &range);
    assert!(bytes <= low.bytes, "{bytes}");
    let covered = version.covered_bytes(Some((5, 0)), &RangeTombstones::build(tombstones));
    assert!(covered <= all, "{covered}");
    assert_eq!(version.covered_bytes(Some((6, 0)), &RangeTombstones::default()), 0);

    let cover = LevelCover::open(version.level(5), false, &disk.opener, &KeyRange::ALL, true).unwrap();
    let within = |lower: &[u8], upper: &[u8], read| cover.newest_within(lower, Some(upper), read);
    assert_eq!([within(b"0", b"1", 9), within(b"0", b"1", 7), within(b"0", b"0003", 9)], [8, 7, 7]);
    assert_eq!([within(b"0", b"000250", 9), within(b"000750", b"1", 9), within(b"0", b"1", 6)], [0, 0, 0]);
    let beside = KeyRange { start: b"000800", end: Bound::Unbounded };
    assert!(LevelCover::open(version.level(5), false, &disk.opener, &beside, true).unwrap().is_empty());
    let at = |key: &[u8], read| cover.newest_covering(key, read);
    assert_eq!([at(b"000249", 9), at(b"000250", 9), at(b"000600", 9), at(b"000600", 7)], [0, 7, 8, 0]);
    let none = LevelCover::open(version.level(6), false, &disk.opener, &KeyRange::ALL, true).unwrap();
    assert!(none.is_empty() && none.newest_covering(b"000300", SEQUENCE_MAX) == 0);
}

/// Versions of keys of up to two letters, sorted, no two alike.
fn sorted_entries() -> impl Strategy<Value = Vec<Entry>> {
    let keys = prop::collection::vec((prop::collection::vec(97u8..104, 0..3), 1u64..4), 0..40);
    keys.prop_map(|keys| {
        let mut entries = keys.into_iter().map(|(key, sequence)| put(&key, sequence)).collect::<Vec<_>>();
        entries.sort_by(|a, b| compare_versions(&a.0, a.1, &b.0, b.1));
        entries.dedup();
        entries
    })
}

/// Cuts entries between keys.
fn cut(entries: &[Entry], cuts: &[prop::sample::Index]) -> Vec<Vec<Entry>> {
    let mut at = cuts.iter().map(|cut| cut.index(entries.len().max(1))).collect::<Vec<_>>();
    at.retain(|&at| at > 0 && entries[at - 1].0 != entries[at].0);
    at.extend([0, entries.len()]);
    at.sort();
    at.dedup();
    at.windows(2).map(|pair| entries[pair[0]..pair[1]].to_vec()).collect()
}

#[derive(Clone, Debug)]
enum Move {
    First,
    Last,
    Seek(Vec<u8>, u64),
    SeekBefore(Vec<u8>, u64),
    Next,
    Prev,
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let target = || (prop::collection::vec(96u8..105, 0..3), 0u64..5);
    let one = prop_oneof![
        1 => Just(Move::First),
        1 => Just(Move::Last),
        3 => target().prop_map(|(key, sequence)| Move::Seek(key, sequence)),
        3 => target().prop_map(|(key, sequence)| Move::SeekBefore(key, sequence)),
        8 => Just(Move::Next),
        8 => Just(Move::Prev),
    ];
    prop::collection::vec(one, 1..40)
}

proptest! {
    #[test]
    fn a_level_walks_like_one_list(
        entries in sorted_entries(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
        moves in moves(),
    ) {
        let disk = Disk::new();
        let reaper = Reaper::new();
        let parts = cut(&entries, &cuts);
        let mut files = Vec::new();
        for (number, part) in parts.iter().enumerate() {
            files.push((3, disk.build(number as u64 + 1, part, vec![])));
        }
        // Tables without points, which a walk has to step over.
        let tombstone = |start: &[u8], end: &[u8]| RangeTombstone { start: start.into(), end: end.into(), sequence: 9 };
        files.push((3, disk.build(100, &[], vec![tombstone(b"x", b"y")])));
        files.push((3, disk.build(101, &[], vec![tombstone(b"y", b"z")])));
        if entries.is_empty() {
            files.retain(|(_, meta)| meta.number >= 100);
        }
        let version = Version::new(levels(files), &reaper).unwrap();
        let level = version.level(3).clone();
        let options = TableIterOptions::default();
        let mut iter = LevelIter::new(level.clone(), disk.opener.clone(), options, &KeyRange::ALL);
        let mut at: Option<usize> = None;
        let order = |entry: &Entry, key: &[u8], sequence: u64| {
            compare_versions(&entry.0, entry.1, key, pack_trailer(sequence, ValueKind::RangeDelete))
        };
        for step in moves {
            match &step {
                Move::First => (iter.seek_to_first().unwrap(), at = Some(0)).1,
                Move::Last => (iter.seek_to_last().unwrap(), at = entries.len().checked_sub(1)).1,
                Move::Seek(key, sequence) => {
                    iter.seek(VersionKey::seek(key, *sequence)).unwrap();
                    at = Some(entries.partition_point(|entry| order(entry, key, *sequence).is_lt()));
                }
                Move::SeekBefore(key, sequence) => {
                    iter.seek_before(VersionKey::seek(key, *sequence)).unwrap();
                    at = entries.partition_point(|entry| order(entry, key, *sequence).is_lt()).checked_sub(1);
                }
                Move::Next if iter.valid() => (iter.next().unwrap(), at = at.map(|at| at + 1)).1,
                Move::Prev if iter.valid() => (iter.prev().unwrap(), at = at.and_then(|at| at.checked_sub(1))).1,
                Move::Next | Move::Prev => continue,
            }
            let expected = at.and_then(|at| entries.get(at));
            prop_assert_eq!(iter.valid(), expected.is_some(), "{:?}", step);
            if let Some((key, trailer, value)) = expected {
                let given = (iter.key(), iter.trailer(), iter.value());
                prop_assert_eq!(given, (key.as_slice(), *trailer, value.as_slice()));
            }
        }
        // Lookups agree with looking at every file.
        for key in entries.iter().map(|entry| entry.0.clone()).chain([b"x".to_vec(), b"y".to_vec(), b"z".to_vec()]) {
            let slow = level.files().iter().find(|file| file.meta().covers(&key));
            let fast = level.file_for_key(&key);
            prop_assert_eq!(slow.map(|file| file.number()), fast.map(|file| file.number()));
            prop_assert_eq!(version.files_for_key(&key).count(), usize::from(slow.is_some()));
        }
    }
}

proptest! {
    /// Keys that share much, so that fences are put to the test. No tables are opened.
    #[test]
    fn lookups_agree_with_a_linear_search(
        common in "[ab]{0,12}",
        bounds in prop::collection::btree_set("(aaaaaaaa|)[ab]{0,4}", 2..40),
        keys in prop::collection::vec("(aaaaaaaa|)[abc]{0,5}", 20),
        exclusive: u64,
    ) {
        let reaper = Reaper::new();
        let bounds = bounds.iter().map(|key| format!("{common}{key}").into_bytes()).collect::<Vec<_>>();
        let metas = bounds.chunks_exact(2).enumerate().map(|(n, pair)| {
            let (number, bytes) = (n as u64 + 1, 1);
            Arc::new(FileMeta {
                number, bytes, entries: 1, deletes: 0, delete_run: 0, range_deletes: 0,
                smallest: pair[0].clone(), largest: pair[1].clone(), largest_inclusive: exclusive >> n & 1 == 0,
                smallest_sequence: number, largest_sequence: number, created_ms: 0,
            })
        });
        let metas = metas.collect::<Vec<_>>();
        let sorted = Version::new(levels(metas.iter().map(|meta| (4, meta.clone())).collect()), &reaper).unwrap();
        let runs = Version::new(levels(metas.iter().map(|meta| (0, meta.clone())).collect()), &reaper).unwrap();
        let keys = keys.iter().flat_map(|key| [format!("{common}{key}").into_bytes(), key.clone().into_bytes()]);
        for key in keys.chain(bounds) {
            let slow = metas.iter().filter(|meta| meta.covers(&key)).map(|meta| meta.number).collect::<Vec<_>>();
            for version in [&sorted, &runs] {
                let fast = version.files_for_key(&key).map(|file| file.number()).collect::<Vec<_>>();
                prop_assert_eq!(&fast, &slow);
            }
        }
    }
}

#[test]
fn bounds_keep_files_closed_and_memory_only_says_so() {
    let disk = Disk::new();
    let reaper = Reaper::new();
    let files = (0..5u8).map(|n| (2, disk.build(u64::from(n) + 1, &[put(&[b'a' + n], 1)], vec![])));
    let version = Version::new(levels(files.collect()), &reaper).unwrap();
    let level = version.level(2).clone();
    let bounds = KeyRange { start: b"b", end: Bound::Excluded(b"d") };
    let open = || level.files().iter().filter(|file| file.opened().is_some()).count();
    let only = TableIterOptions { read: ReadOptions::memory_only(), ..TableIterOptions::default() };
    let mut iter = LevelIter::new(level.clone(), disk.opener.clone(), only, &bounds);
    assert!(iter.seek_to_first().unwrap_err().is_needs_io() && !iter.valid());
    let options = TableIterOptions::default();
    let mut iter = LevelIter::new(level.clone(), disk.opener.clone(), options, &bounds);
    iter.seek_to_last().unwrap();
    assert_eq!((iter.key(), open()), (&b"c"[..], 1));
    iter.next().unwrap();
    assert!(!iter.valid());
    iter.seek_to_first().unwrap();
    assert_eq!(iter.key(), b"b");
    iter.prev().unwrap();
    assert!(!iter.valid() && open() == 2);
    iter.seek(VersionKey::seek(b"x", 1)).unwrap();
    assert!(!iter.valid());
    iter.seek_before(VersionKey::seek(b"a", 1)).unwrap();
    assert!(!iter.valid() && open() == 2);
    let nothing = KeyRange { start: b"bb", end: Bound::Excluded(b"bc") };
    let mut iter = LevelIter::new(level, disk.opener.clone(), options, &nothing);
    assert!(iter.is_empty());
    iter.seek_to_first().unwrap();
    iter.seek_to_last().unwrap();
    assert!(!iter.valid());
}
