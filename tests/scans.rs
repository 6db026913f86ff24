//! SCAN and its kin: what a page may cost where nearly everything has been deleted, and what a cursor is good for.

use haypile::base::clock::Clock;
use haypile::base::stop::Stop;
use haypile::store::hooks::MetaHooks;
use haypile::store::store::{Store, StoreOptions};
use haypile::store::txn::{Draws, Mode, ReadPoint, Txn};
use haypile::types::elements::{Page, Wanted};
use haypile::types::sorted_set::SortedSet;
use haypile::types::sorted_sets::{self, AddOptions};
use haypile::types::{hashes, keys, sets, strings};
use haypile_lsm::{Db, MemEnv, Options};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

const NOW_MS: u64 = 1_700_000_000_000;
const ELEMENTS: u32 = 20_000;
/// The last ones in byte order.
const LEFT: u32 = 200;

const KINDS: [&str; 4] = ["keys", "hash", "set", "zset"];

fn open() -> Arc<Store> {
    let mut options =
        Options { memtable_bytes: 64 << 20, memtable_total_bytes: 256 << 20, ..Options::tiny() };
    let clock = Clock::manual(NOW_MS);
    MetaHooks::install(&mut options, clock);
    let db = Db::open(MemEnv::new(), Path::new("/db"), options).unwrap();
    Store::open(Arc::new(db), StoreOptions { databases: 1, clock, ..StoreOptions::default() }).unwrap()
}

fn run<R>(txn: &mut Txn, mode: Mode, command: impl FnOnce(&mut Txn) -> Result<R, Stop>) -> Result<R, Stop> {
    txn.begin(0, mode, Draws { now_ms: NOW_MS, seed: 7 }, ReadPoint::Latest);
    let result = command(txn);
    match &result {
        Ok(_) => txn.commit().map(drop).unwrap(),
        Err(_) => txn.abandon(),
    }
    result
}

fn element(number: u32) -> Vec<u8> {
    format!("e{number:06}").into_bytes()
}

fn key_of(number: u32) -> Vec<u8> {
    [b"k:", &element(number)[..]].concat()
}

/// All elements of a kind, then all but the last ones deleted, in pieces.
fn make(txn: &mut Txn, kind: &str) {
    for is_there in [true, false] {
        let numbers: Vec<u32> = (0..if is_there { ELEMENTS } else { ELEMENTS - LEFT }).collect();
        for piece in numbers.chunks(400) {
            run(txn, Mode::Pool, |txn| {
                let elements: Vec<Vec<u8>> = piece.iter().map(|number| element(*number)).collect();
                let names = elements.iter().map(|element| &element[..]);
                let at = txn.at(kind.as_bytes())?;
                match (kind, is_there) {
                    ("keys", _) => {
                        for number in piece {
                            let key = key_of(*number);
                            let at = txn.at(&key)?;
                            match is_there {
                                true => strings::append(txn, at, b"v").map(drop)?,
                                false => keys::delete(txn, at).map(drop)?,
                            }
                        }
                    }
                    ("hash", true) => hashes::set(txn, at, names.map(|name| (name, &b"v"[..]))).map(drop)?,
                    ("hash", false) => hashes::delete(txn, at, names).map(drop)?,
                    ("set", true) => sets::add(txn, at, names).map(drop)?,
                    ("set", false) => sets::remove(txn, at, names).map(drop)?,
                    (_, true) => {
                        let pairs: Vec<(f64, &[u8])> = names.map(|name| (1.0, name)).collect();
                        sorted_sets::add(txn, at, AddOptions::default(), &pairs).map(drop)?;
                    }
                    (_, false) => {
                        sorted_sets::remove(txn, at, names).map(drop)?;
                    }
                }
                Ok(())
            })
            .unwrap();
        }
    }
}

/// One step, on a worker. The next cursor, and what it named.
fn step(txn: &mut Txn, kind: &str, cursor: u64, pattern: Option<&[u8]>) -> Result<(u64, Vec<Vec<u8>>), Stop> {
    let page = Page { cursor, count: 10, pattern };
    let mut named = Vec::new();
    let next = run(txn, Mode::Inline, |txn| {
        let at = txn.at(kind.as_bytes())?;
        match kind {
            "keys" => {
                let scan = keys::Scan { cursor, count: 10, pattern, kind: None };
                keys::scan(txn, scan, |key| named.push(key.to_vec()))
            }
            "hash" => hashes::scan(txn, at, page, |name, _| named.push(name.to_vec())),
            "set" => sets::scan(txn, at, page, |member| named.push(member.to_vec())),
            _ => match SortedSet::open(txn, at)? {
                Some(set) => sorted_sets::scan(txn, &set, page, |member, _| named.push(member.to_vec())),
                None => Ok(0),
            },
        }
    })?;
    Ok((next, named))
}

#[test]
fn a_page_is_bounded_where_nearly_all_is_deleted() {
    let mut txn = Txn::new(open());
    for kind in KINDS {
        make(&mut txn, kind);
        let (mut cursor, mut steps, mut seen) = (0, 0, BTreeSet::new());
        loop {
            // A worker's walk has a bound of its own, beyond which it is an error.
            let (next, named) = step(&mut txn, kind, cursor, None).unwrap();
            seen.extend(named);
            steps += 1;
            cursor = next;
            if cursor == 0 {
                break;
            }
        }
        let of = |number| if kind == "keys" { key_of(number) } else { element(number) };
        let left: BTreeSet<Vec<u8>> = (ELEMENTS - LEFT..ELEMENTS).map(of).collect();
        assert!(seen.is_superset(&left) && seen.len() <= left.len() + KINDS.len(), "{kind}: {}", seen.len());
        assert!(steps >= (ELEMENTS - LEFT) / 1000, "{kind}: {steps} steps");
    }
    // What cannot be done in pieces goes to a pool.
    let one = Wanted { count: 1, distinct: true };
    let draw = |mode, txn: &mut Txn| {
        run(txn, mode, |txn| {
            let at = txn.at(b"hash")?;
            hashes::random(txn, at, one, |_| {})
        })
    };
    assert!(matches!(draw(Mode::Inline, &mut txn), Err(Stop::NeedsIo)));
    draw(Mode::Pool, &mut txn).unwrap();
}

#[test]
fn a_pattern_bounds_a_scan_and_a_cursor_of_another_walk_starts_over() {
    let mut txn = Txn::new(open());
    for kind in KINDS {
        make(&mut txn, kind);
    }
    for kind in ["hash", "zset"] {
        let last = [&element(ELEMENTS - 1)[..], b"*"].concat();
        let (next, named) = step(&mut txn, kind, 0, Some(&last)).unwrap();
        assert_eq!((next, named), (0, vec![element(ELEMENTS - 1)]), "{kind}");
    }
    // The first cursors, and the first page with something in it, of each.
    let first = KINDS.map(|kind| step(&mut txn, kind, 0, None).unwrap());
    for (kind, (_, named)) in KINDS.iter().zip(&first) {
        for (other, (cursor, _)) in KINDS.iter().zip(&first) {
            let (next, again) = step(&mut txn, kind, *cursor, None).unwrap();
            assert_ne!(next, 0, "{kind} with a cursor of {other}");
            if kind != other {
                assert_eq!(again, *named, "{kind} with a cursor of {other}");
            }
        }
    }
}
