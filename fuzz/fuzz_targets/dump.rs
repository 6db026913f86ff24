//! RESTORE: any bytes are a value or an error, never a panic; a value that was stored is dumped and stored again as the same,
//! packed and under an id.

#![no_main]

use haypile::base::clock::Clock;
use haypile::encoding::rdb::Writer;
use haypile::store::store::{PackedLimits, Store, StoreOptions};
use haypile::store::txn::{Draws, Mode, ReadPoint, Txn};
use haypile::types::{digest, dump};
use haypile_lsm::{Db, MemEnv, Options};
use libfuzzer_sys::fuzz_target;
use std::cell::RefCell;
use std::path::Path;
use std::sync::Arc;

const NOW_MS: u64 = 1_700_000_000_000;

fn open(packed: PackedLimits) -> Txn {
    let db = Db::open(MemEnv::new(), Path::new("/db"), Options::tiny()).expect("an empty engine opens");
    let clock = Clock::new();
    let options = StoreOptions { databases: 1, gate_slots: 1, clock, packed, ..StoreOptions::default() };
    Txn::new(Store::open(Arc::new(db), options).expect("an empty store opens"))
}

thread_local! {
    static STORES: [RefCell<Txn>; 2] = [
        RefCell::new(open(PackedLimits::default())),
        RefCell::new(open(PackedLimits { elements_max: 0, bytes_max: 0 })),
    ];
}

fuzz_target!(|data: &[u8]| {
    let mut writer = Writer::default();
    writer.raw(data);
    let mut dumped = writer.into_dump(12);
    let mut digests = Vec::new();
    STORES.with(|stores| {
        for store in stores {
            let txn = &mut *store.borrow_mut();
            let Ok(value) = dump::parse(&dumped) else { return };
            txn.begin(0, Mode::Pool, Draws { now_ms: NOW_MS, seed: 1 }, ReadPoint::Latest);
            let at = txn.at(b"key").expect("a short key");
            let slot = txn.load(at).expect("memory does not fail");
            if dump::store(txn, at, &slot.before, &value, 0).is_err() {
                txn.abandon();
                return;
            }
            txn.commit().expect("memory does not fail");
            txn.begin(0, Mode::Pool, Draws { now_ms: NOW_MS, seed: 1 }, ReadPoint::Latest);
            let at = txn.at(b"key").expect("a short key");
            digests.push(digest::of_value(txn, at).expect("what was stored is whole"));
            match dump::dump(txn, at).expect("what was stored is whole") {
                Some(again) => dumped = again,
                // Every field of the hash had expired.
                None => return,
            }
            txn.abandon();
        }
    });
    assert!(digests.windows(2).all(|pair| pair[0] == pair[1]));
});
