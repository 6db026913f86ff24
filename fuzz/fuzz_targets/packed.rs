//! Packed collections: any bytes as the body of a record are a value or damage, never a panic; and what `check` calls whole is read,
//! dumped, and changed by commands, and then `check` calls it whole again.

#![no_main]

use haypile::base::clock::Clock;
use haypile::encoding::meta::{Head, Kind, Record, put_key};
use haypile::store::store::{PackedLimits, Store, StoreOptions};
use haypile::store::txn::{Draws, Mode, ReadPoint, Txn};
use haypile::types::check_value::Value;
use haypile::types::hashes::{self, SetCondition};
use haypile::types::hash_value::FieldExpiry;
use haypile::types::list_value::End;
use haypile::types::{digest, dump, lists, sets};
use haypile_lsm::{Db, MemEnv, Options, ReadOptions};
use libfuzzer_sys::fuzz_target;
use std::cell::RefCell;
use std::path::Path;
use std::sync::Arc;

const NOW_MS: u64 = 1_700_000_000_000;
const KEY: &[u8] = b"key";

fn open(packed: PackedLimits) -> Txn {
    let db = Db::open(MemEnv::new(), Path::new("/db"), Options::tiny()).expect("an empty engine opens");
    let clock = Clock::new();
    let options = StoreOptions { databases: 1, gate_slots: 1, clock, packed, ..StoreOptions::default() };
    Txn::new(Store::open(Arc::new(db), options).expect("an empty store opens"))
}

thread_local! {
    static STORES: [RefCell<Txn>; 2] = [
        RefCell::new(open(PackedLimits::default())),
        RefCell::new(open(PackedLimits { elements_max: 2, bytes_max: 40 })),
    ];
}

fn meta_key(txn: &Txn) -> Vec<u8> {
    let mut key = Vec::new();
    put_key(&mut key, txn.store().space_of(0), KEY);
    key
}

/// Whether the record is whole; true if there is none.
fn is_whole(txn: &Txn) -> bool {
    let (store, space) = (txn.store(), txn.store().space_of(0));
    let found = store.db().get(store.keyspaces().meta, &meta_key(txn), &ReadOptions::default());
    let Some(bytes) = found.expect("memory does not fail") else { return true };
    let value = Value { db: store.db(), data: store.keyspaces().data, space, key: KEY };
    Record::decode(&bytes).is_some_and(|record| value.check(&record).is_ok())
}

fuzz_target!(|data: &[u8]| {
    let Some((&choice, body)) = data.split_first() else { return };
    let kind = [Kind::List, Kind::Set, Kind::SortedSet, Kind::Hash][usize::from(choice) % 4];
    STORES.with(|stores| {
        for store in stores {
            let txn = &mut *store.borrow_mut();
            let head = Head { raw: kind == Kind::Set, field_expire_ms: u64::from(kind == Kind::Hash), ..Head::plain(kind) };
            let value = [head.encode().as_bytes(), body].concat();
            let (db, meta) = (Arc::clone(txn.store().db()), txn.store().keyspaces().meta);
            db.put(meta, &meta_key(txn), &value).expect("memory does not fail");
            let whole = is_whole(txn);
            let begin = |txn: &mut Txn| {
                txn.begin(0, Mode::Pool, Draws { now_ms: NOW_MS, seed: 1 }, ReadPoint::Latest);
            };
            begin(txn);
            let at = txn.at(KEY).expect("a short key");
            let dumped = dump::dump(txn, at);
            assert!(!whole || dumped.is_ok());
            begin(txn);
            let digest = digest::of_value(txn, at);
            assert!(!whole || digest.is_ok());
            begin(txn);
            let element = body.get(..3).unwrap_or(b"abc");
            let changed = match kind {
                Kind::List => lists::push(txn, at, End::Left, [element, element].into_iter(), false).map(drop),
                Kind::Set => sets::add(txn, at, [element].into_iter()).map(drop),
                Kind::Hash => {
                    let pairs = [(element, element)];
                    hashes::set_and_expire(txn, at, SetCondition::Always, FieldExpiry::None, pairs.into_iter()).map(drop)
                }
                _ => Ok(()),
            };
            assert!(!whole || changed.is_ok());
            if changed.is_ok() {
                txn.commit().expect("memory does not fail");
                assert!(!whole || is_whole(txn));
            }
            txn.abandon();
        }
    });
});
