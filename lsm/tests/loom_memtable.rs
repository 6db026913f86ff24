//! The memtable under loom, which tries every order of every access (within a bound on preemptions):
//! `RUSTFLAGS="--cfg loom" LOOM_MAX_PREEMPTIONS=3 cargo test -p haypile-lsm --release --test loom_memtable`.
//!
//! The arena is then a model whose bytes loom watches (`arena.rs`), so a record that could be read before it is written
//! fails here; lists are two levels high, the index has four slots and probes two of them.
#![cfg(loom)]

use haypile_lsm::base::iter::InternalIterator;
use haypile_lsm::base::key::{SEQUENCE_MAX, ValueKind};
use haypile_lsm::base::sync::{AtomicU64, Ordering};
use haypile_lsm::memtable::arena::Arena;
use haypile_lsm::memtable::memtable::Memtable;
use haypile_lsm::memtable::skiplist::SkipList;
use loom::thread;
use std::sync::Arc;

fn list() -> Arc<SkipList> {
    Arc::new(SkipList::new(400).unwrap())
}

fn insert(list: &SkipList, key: &[u8], trailer: u64, height: usize) {
    let bytes = SkipList::entry_bytes_max(key.len(), 1);
    assert!(list.arena().reserve(bytes));
    list.insert(key, trailer, &[trailer as u8], height, bytes);
}

/// Keys and, of each, the trailers; checks that values belong to them.
fn contents(list: &SkipList) -> Vec<(Vec<u8>, Vec<u64>)> {
    let mut contents = Vec::new();
    let mut node = list.first();
    while let Some(at) = node {
        let mut trailers = Vec::new();
        let mut version = Some(at.newest());
        while let Some(of) = version {
            assert_eq!(of.value(), [of.trailer() as u8]);
            trailers.push(of.trailer());
            version = of.older();
        }
        contents.push((at.key().to_vec(), trailers));
        node = at.next();
    }
    contents
}

fn memtable() -> Arc<Memtable> {
    Arc::new(Memtable::new(400, 1).unwrap())
}

fn put(memtable: &Memtable, hash: u64, key: &[u8], sequence: u64) {
    assert!(memtable.reserve(Memtable::entry_bytes_max(key.len(), 1)));
    memtable.insert(hash, key, sequence, ValueKind::Put, &[sequence as u8]);
}

#[test]
fn two_threads_insert_one_key() {
    for (heights, trailers) in [((1, 1), (5, 9)), ((2, 2), (9, 5)), ((1, 2), (5, 9))] {
        loom::model(move || {
            let list = list();
            let other = list.clone();
            let thread = thread::spawn(move || insert(&other, b"k", trailers.0, heights.0));
            insert(&list, b"k", trailers.1, heights.1);
            thread.join().unwrap();
            assert_eq!(contents(&list), [(b"k".to_vec(), vec![9, 5])]);
            list.check();
        });
    }
}

#[test]
fn two_threads_insert_neighbours() {
    for heights in [(1, 1), (2, 2), (2, 1)] {
        loom::model(move || {
            let list = list();
            insert(&list, b"d", 1, 2);
            let other = list.clone();
            let thread = thread::spawn(move || insert(&other, b"b", 2, heights.0));
            insert(&list, b"c", 3, heights.1);
            thread.join().unwrap();
            let expected = [(b"b".to_vec(), vec![2]), (b"c".to_vec(), vec![3]), (b"d".to_vec(), vec![1])];
            assert_eq!(contents(&list), expected);
            assert_eq!(list.check(), (3, 3));
        });
    }
}

#[test]
fn three_threads_add_versions() {
    loom::model(|| {
        let list = list();
        insert(&list, b"k", 4, 1);
        let threads = [2, 6].map(|trailer| {
            let list = list.clone();
            thread::spawn(move || insert(&list, b"k", trailer, 1))
        });
        let seen = contents(&list);
        assert!(seen[0].1.is_sorted_by(|a, b| a > b) && seen[0].1.contains(&4));
        for thread in threads {
            thread.join().unwrap();
        }
        assert_eq!(contents(&list), [(b"k".to_vec(), vec![6, 4, 2])]);
    });
}

#[test]
fn a_reader_sees_whole_records() {
    loom::model(|| {
        let list = list();
        insert(&list, b"a", 1, 1);
        let other = list.clone();
        let thread = thread::spawn(move || {
            insert(&other, b"b", 2, 2);
            insert(&other, b"a", 3, 1);
        });
        let seen = contents(&list);
        assert_eq!(seen[0].0, b"a");
        if let Some(node) = list.find(b"b") {
            assert_eq!(node.newest().value(), [2]);
        }
        thread.join().unwrap();
        assert_eq!(contents(&list), [(b"a".to_vec(), vec![3, 1]), (b"b".to_vec(), vec![2])]);
        list.check();
    });
}

#[test]
fn a_get_beside_an_insert_finds_all_or_nothing() {
    loom::model(|| {
        let memtable = memtable();
        let other = memtable.clone();
        let thread = thread::spawn(move || put(&other, 3, b"k", 7));
        if let Some(hit) = memtable.get(3, b"k", SEQUENCE_MAX) {
            assert_eq!((hit.sequence, hit.value), (7, &[7u8][..]));
        }
        thread.join().unwrap();
        assert_eq!(memtable.get(3, b"k", SEQUENCE_MAX).map(|hit| hit.sequence), Some(7));
        assert_eq!(memtable.get(3, b"k", 6), None);
    });
}

/// The trap of the hash index: two threads bring one key, the one that did not make the node ends first, and its write
/// becomes visible. Whoever sees that must find the key, though the maker of the node may not have indexed it yet.
#[test]
fn a_visible_write_is_found_through_the_index() {
    loom::model(|| {
        let memtable = memtable();
        let visible = Arc::new(AtomicU64::new(0));
        let maker = memtable.clone();
        let first = thread::spawn(move || put(&maker, 3, b"k", 8));
        let (writer, publish) = (memtable.clone(), visible.clone());
        let second = thread::spawn(move || {
            put(&writer, 3, b"k", 7);
            publish.store(7, Ordering::Release);
        });
        let read = visible.load(Ordering::Acquire);
        if read != 0 {
            assert_eq!(memtable.get(3, b"k", read).map(|hit| hit.sequence), Some(read));
        }
        first.join().unwrap();
        second.join().unwrap();
        assert_eq!(memtable.check(), (1, 2));
    });
}

/// Three keys of one hash, two probes: one of them does not get into the index, and its reader must know.
#[test]
fn a_visible_write_is_found_past_a_full_index() {
    loom::model(|| {
        let memtable = memtable();
        let visible = Arc::new(AtomicU64::new(0));
        put(&memtable, 3, b"a", 1);
        let other = memtable.clone();
        let first = thread::spawn(move || put(&other, 3, b"b", 2));
        let (writer, publish) = (memtable.clone(), visible.clone());
        let second = thread::spawn(move || {
            put(&writer, 3, b"c", 3);
            publish.store(3, Ordering::Release);
        });
        let read = visible.load(Ordering::Acquire);
        if read != 0 {
            assert_eq!(memtable.get(3, b"c", read).map(|hit| hit.sequence), Some(read));
        }
        first.join().unwrap();
        second.join().unwrap();
        for (key, sequence) in [(b"a", 1), (b"b", 2), (b"c", 3)] {
            assert_eq!(memtable.get(3, key, SEQUENCE_MAX).map(|hit| hit.sequence), Some(sequence));
        }
    });
}

#[test]
fn an_iterator_goes_both_ways_beside_an_insert() {
    loom::model(|| {
        let memtable = memtable();
        put(&memtable, 1, b"b", 1);
        let other = memtable.clone();
        let thread = thread::spawn(move || {
            put(&other, 2, b"a", 2);
            put(&other, 1, b"b", 3);
        });
        let mut iter = memtable.iter();
        iter.seek_to_last().unwrap();
        assert_eq!((iter.key(), iter.trailer() >> 8), (&b"b"[..], 1));
        iter.prev().unwrap();
        if iter.valid() {
            // The newer version if it was there when the iterator came to the key, else the key before if it is there.
            let place = (iter.key()[0], iter.trailer() >> 8);
            assert!(place == (b'b', 3) || place == (b'a', 2));
            iter.next().unwrap();
            assert_eq!(iter.key(), b"b");
        }
        thread.join().unwrap();
        assert_eq!(memtable.check(), (2, 3));
    });
}

/// A quiet memtable has all entries of those who wrote to it.
#[test]
fn quiet_means_complete() {
    loom::model(|| {
        let memtable = memtable();
        memtable.begin_write();
        let other = memtable.clone();
        let thread = thread::spawn(move || {
            put(&other, 1, b"k", 1);
            other.end_write();
        });
        if memtable.is_quiet() {
            assert_eq!(memtable.entry_count(), 1);
            assert_eq!(memtable.check(), (1, 1));
        }
        thread.join().unwrap();
        assert!(memtable.is_quiet());
    });
}

/// One thread looks ahead to two keys and inserts them; another one inserts the same and their neighbour in between.
#[test]
fn places_looked_up_beforehand_go_out_of_date() {
    fn insert_hinted(list: &SkipList, hash: u64, key: &[u8], trailer: u64, height: usize) {
        let bytes = SkipList::entry_bytes_max(key.len(), 1);
        assert!(list.arena().reserve(bytes));
        list.insert_hinted(Some(hash), key, trailer, &[trailer as u8], height, bytes);
    }
    for height in [1, 2] {
        loom::model(move || {
            let list = list();
            insert(&list, b"a", 1, 2);
            let other = list.clone();
            let thread = thread::spawn(move || {
                other.search_together([(7 << 32, &b"c"[..])].into_iter());
                insert_hinted(&other, 7 << 32, b"c", 5, height);
            });
            // The same slot: each takes the other's hint, and it may be a mixture.
            list.search_together([(8 << 32, &b"b"[..]), (7 << 32, &b"c"[..])].into_iter());
            insert_hinted(&list, 8 << 32, b"b", 6, 2);
            insert_hinted(&list, 7 << 32, b"c", 9, 1);
            thread.join().unwrap();
            let expected = [(b"a".to_vec(), vec![1]), (b"b".to_vec(), vec![6]), (b"c".to_vec(), vec![9, 5])];
            assert_eq!(contents(&list), expected);
            list.check();
        });
    }
}

#[test]
fn claims_never_overlap() {
    loom::model(|| {
        let arena = Arc::new(Arena::new(24, None).unwrap());
        let take = |arena: &Arena| arena.reserve(16).then(|| arena.allocate(8, 16));
        let other = arena.clone();
        let thread = thread::spawn(move || take(&other));
        let mine = take(&arena);
        let theirs = thread.join().unwrap();
        assert!(mine.is_some() || theirs.is_some());
        if let (Some(mine), Some(theirs)) = (mine, theirs) {
            assert_eq!(mine.abs_diff(theirs), 8);
        }
        assert!(arena.used_bytes() <= arena.capacity_bytes());
    });
}
