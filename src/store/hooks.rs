//! What happens to records of `meta` while the engine compacts them.
//!
//! *Filter*: a record whose expiry is well past loses its body and becomes a husk. It is not dropped: the sweeper deletes
//! it in its time, under the key's lock, and so the count of keys falls exactly once for each record.
//!
//! *Drop*: a record that held an id and gives way to one that does not (a blind SET over a large string, a tombstone)
//! leaves a note with that id. The reaper makes a gc record of it and looks whether the id is held elsewhere (RENAME).
//! A range delete is FLUSHDB, which removes the data of the space itself: no notes.

use crate::base::clock::Clock;
use crate::encoding::meta::{HEAD_BYTES_MAX, Head, Record, split_key};
use crate::encoding::system::gc_note;
use haypile_lsm::base::limits;
use haypile_lsm::{CompactionHooks, FilterDecision, Newer, Notes, Options};
use std::sync::Arc;

/// Name of the keyspace that the hooks belong to.
pub const META_KEYSPACE: &str = "meta";

/// How long past its expiry a record keeps its body: longer than any command runs with one reading of the clock.
const GRACE_MS: u64 = 600_000;
/// Records at most this long are left alone: little to gain.
const SMALL_RECORD_BYTES: usize = 64;

const _: () = assert!(HEAD_BYTES_MAX < SMALL_RECORD_BYTES);
const _: () = assert!(SMALL_RECORD_BYTES < limits::HEAD_BYTES_MAX);
const _: () = assert!(12 <= limits::NOTE_BYTES_MAX);

/// The hooks of keyspace `meta`.
#[derive(Debug)]
pub struct MetaHooks {
    clock: Clock,
}

impl MetaHooks {
    /// Hooks that tell time by `clock`.
    pub fn new(clock: Clock) -> MetaHooks {
        MetaHooks { clock }
    }

    /// Puts the hooks into the options that the engine is opened with.
    pub fn install(options: &mut Options, clock: Clock) {
        options.hooks.insert(META_KEYSPACE.to_owned(), Arc::new(MetaHooks::new(clock)));
    }
}

impl CompactionHooks for MetaHooks {
    fn filter(&self, _key: &[u8], head: &[u8]) -> FilterDecision {
        if head.len() <= SMALL_RECORD_BYTES {
            return FilterDecision::Keep;
        }
        match Record::decode(head).map(|record| record.head) {
            Some(head) if !head.husk && head.expire_ms != 0 => {
                if head.expire_ms.saturating_add(GRACE_MS) > self.clock.unix_ms() {
                    return FilterDecision::Keep;
                }
                FilterDecision::Replace(Head { husk: true, ..head }.encode().as_bytes().to_vec())
            }
            // No expiry, a husk already, or not a record, which is for a reader to complain of.
            _ => FilterDecision::Keep,
        }
    }

    fn on_drop(&self, key: &[u8], older_head: &[u8], newer: Newer<'_>, notes: &mut Notes) {
        let id_of = |head: &[u8]| Record::decode(head).map_or(0, |record| record.head.id);
        let old_id = id_of(older_head);
        let new_id = match newer {
            Newer::RangeDelete => return,
            Newer::Put(head) => id_of(head),
            Newer::Tombstone | Newer::Filter => 0,
        };
        if old_id != 0
            && old_id != new_id
            && let Some((space, _)) = split_key(key)
        {
            notes.leave(&gc_note(space, old_id));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encoding::meta::{Kind, put_key};

    fn record(expire_ms: u64, id: u64, body: usize) -> Vec<u8> {
        let head = Head { expire_ms, id, ..Head::plain(Kind::String) };
        [head.encode().as_bytes(), &vec![7; body]].concat()
    }

    #[test]
    fn long_expired_records_become_husks() {
        let hooks = MetaHooks::new(Clock::manual(10_000_000));
        assert_eq!(hooks.filter(b"", &record(0, 0, 200)), FilterDecision::Keep);
        assert_eq!(hooks.filter(b"", &record(5, 0, 10)), FilterDecision::Keep);
        assert_eq!(hooks.filter(b"", &record(9_999_999, 0, 200)), FilterDecision::Keep);
        let FilterDecision::Replace(husk) = hooks.filter(b"", &record(5, 9, 200)) else { panic!() };
        let husk = Record::decode(&husk).unwrap();
        assert!(husk.head.husk && husk.head.is_expired(0) && husk.head.id == 9 && husk.body.is_empty());
    }

    #[test]
    fn an_id_without_successor_is_noted() {
        let hooks = MetaHooks::new(Clock::manual(0));
        let mut key = Vec::new();
        put_key(&mut key, 3, b"key");
        let (old, same, other) = (record(0, 9, 1), record(7, 9, 1), record(0, 0, 300));
        for (newer, noted) in [
            (Newer::Put(&same), false),
            (Newer::Put(&other), true),
            (Newer::Tombstone, true),
            (Newer::Filter, true),
            (Newer::RangeDelete, false),
        ] {
            let mut notes = Notes::default();
            hooks.on_drop(&key, &old, newer, &mut notes);
            let expected = if noted { vec![gc_note(3, 9).to_vec()] } else { vec![] };
            assert_eq!(notes.into_inner(), expected, "{newer:?}");
        }
        let mut notes = Notes::default();
        hooks.on_drop(&key, &other, Newer::Tombstone, &mut notes);
        assert!(notes.is_empty());
    }
}
