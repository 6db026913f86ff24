//! Checks a data folder: whether all records read, and agree with each other. Nothing is changed, but for what opening and compacting do.
//!
//! ```text
//! system   spaces, numbers, hints          read into memory first: it is small
//! meta     each record -> its value (`check_value.rs`), its entry in `ttl`, its owner in `data`
//! data     each id     -> the record that holds it, or a hint that it awaits the reaper
//! ttl      counted, and against the counts that a clean close wrote
//! ```
//!
//! What is allowed, because the server lives with it: entries of `ttl` that no record bears out (a blind write leaves one; it goes when
//! its time comes), and ids without holder of which a hint or a compaction's note says so. An id without either may be that of a
//! record that was overwritten blindly and that compaction has not met yet: if there are such, `meta` is compacted, which writes notes of
//! all of those, and what is still unexplained is a finding.

use crate::encoding::meta::{self, Record, Space};
use crate::encoding::{data, system, ttl};
use crate::store::databases::Counts;
use crate::store::hooks::META_KEYSPACE;
use crate::store::pending::SpaceId;
use crate::store::store::Keyspaces;
use crate::types::check_value::{Value, Wrong, first, reading};
use haypile_lsm::{Db, Error, prefix_end};
use std::collections::{BTreeMap, HashMap, HashSet};

/// What a check went through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// Records of keys.
    pub keys: u64,
    /// Ids.
    pub ids: u64,
    /// Ids that await the reaper.
    pub dead_ids: u64,
    /// Entries of `ttl` that no record bears out.
    pub stale_expiries: u64,
    /// What is wrong.
    pub findings: u64,
}

/// What keyspace `system` says.
#[derive(Default)]
struct System {
    /// Spaces and the databases they belong to.
    live: BTreeMap<Space, u32>,
    next_id: u64,
    hinted: HashSet<SpaceId>,
    /// Counts of a clean close, and by how much they may be off.
    counts: Option<(HashMap<Space, [i64; 3]>, i64)>,
}

struct Check<'a> {
    db: &'a Db,
    keyspaces: Keyspaces,
    system: System,
    found: HashMap<Space, Counts>,
    checked: Checked,
    report: &'a mut dyn FnMut(&str),
}

/// Checks everything; hands each finding to `report`, a line each. `None` if there is no database in the folder.
pub fn check(db: &Db, report: &mut dyn FnMut(&str)) -> Result<Option<Checked>, Error> {
    let keyspace = |name| db.keyspace(name);
    let (Some(meta), Some(data), Some(ttl), Some(system)) =
        (keyspace(META_KEYSPACE), keyspace("data"), keyspace("ttl"), keyspace("system"))
    else {
        return Ok(None);
    };
    let mut check = Check {
        db,
        keyspaces: Keyspaces { meta, data, ttl, system },
        system: System::default(),
        found: HashMap::new(),
        checked: Checked::default(),
        report,
    };
    let tables = db.verify();
    check.note("tables", tables.map_err(Wrong::from));
    let system = check.read_system();
    check.note("keyspace system", system);
    let records = check.check_records();
    check.note("keyspace meta", records);
    let ids = check.check_ids();
    check.note("keyspace data", ids);
    let expiries = check.check_expiries();
    check.note("keyspace ttl", expiries);
    check.check_counts();
    Ok(Some(check.checked))
}

impl Check<'_> {
    fn note(&mut self, place: &str, verdict: Result<(), Wrong>) {
        if let Err(Wrong(what)) = verdict {
            self.checked.findings += 1;
            (self.report)(&format!("{place}: {what}"));
        }
    }

    fn note_key(&mut self, space: Space, key: &[u8], verdict: Result<(), Wrong>) {
        if verdict.is_err() {
            let db = self.system.live.get(&space).map_or_else(|| "no".to_owned(), u32::to_string);
            let shown = &key[..key.len().min(200)];
            self.note(&format!("database {db}, key {}", shown.escape_ascii()), verdict);
        }
    }

    fn read_system(&mut self) -> Result<(), Wrong> {
        let keyspace = self.keyspaces.system;
        let next_space = self.db.get(keyspace, system::NEXT_SPACE_KEY, &reading())?;
        let next_space =
            next_space.as_deref().and_then(system::read_u32).ok_or("the next space is not known")?;
        self.system.next_id = match self.db.get(keyspace, system::NEXT_ID_KEY, &reading())? {
            None => 1,
            Some(value) => system::read_u64(&value).ok_or("the next id does not read")?,
        };
        let clean = self.db.get(keyspace, system::CLEAN_KEY, &reading())?;
        let mut counts = HashMap::new();
        let mut iter = first(self.db, keyspace, Vec::new(), None)?;
        while iter.valid() {
            let (key, value) = (iter.key(), iter.value());
            if let Some(db) = key.strip_prefix(&b"space"[..]).and_then(system::read_u32) {
                let (space, _) = system::read_space(value).ok_or("the space of a database does not read")?;
                let taken = space >= next_space || self.system.live.insert(space, db).is_some();
                let verdict =
                    if taken { Err("the space of a database is not its own".into()) } else { Ok(()) };
                self.note(&format!("database {db}"), verdict);
            } else if let Some(space) = key.strip_prefix(system::COUNT_PREFIX).and_then(system::read_u32) {
                counts
                    .insert(space, system::read_counts(value).ok_or("the counts of a database do not read")?);
            } else {
                self.system.hinted.extend(system::split_gc_key(key));
            }
            iter.next()?;
        }
        if let Some(beliefs) = clean {
            let beliefs = system::read_u64(&beliefs).ok_or("the mark of a clean close does not read")?;
            self.system.counts = Some((counts, beliefs.min(i64::MAX as u64) as i64));
        }
        Ok(())
    }

    fn check_records(&mut self) -> Result<(), Wrong> {
        let mut iter = first(self.db, self.keyspaces.meta, Vec::new(), None)?;
        while iter.valid() {
            let (space, key) = meta::split_key(iter.key()).ok_or("a key without a space")?;
            self.checked.keys += 1;
            self.found.entry(space).or_default().keys += 1;
            let verdict = self.check_record(space, key, iter.value());
            self.note_key(space, key, verdict);
            iter.next()?;
        }
        Ok(())
    }

    fn check_record(&self, space: Space, key: &[u8], value: &[u8]) -> Result<(), Wrong> {
        let record = Record::decode(value).ok_or("its record does not read")?;
        if !self.system.live.contains_key(&space) {
            return Err("it is in a space of no database".into());
        }
        let due = record.head.due();
        if due.at_ms != 0 {
            let mut entry = Vec::new();
            ttl::put_key(&mut entry, due.at_ms, space, key);
            let found = self.db.get(self.keyspaces.ttl, &entry, &reading())?;
            let found = found.ok_or("it expires, and has no entry among those that do")?;
            if ttl::is_of_key(&found) != due.of_key {
                return Err("its entry among those that expire is of the wrong kind".into());
            }
        }
        if record.head.id >= self.system.next_id {
            return Err("its id was never given out".into());
        }
        Value { db: self.db, data: self.keyspaces.data, space, key }.check(&record)
    }

    /// Whether the record that an id's owner names holds the id.
    fn is_held(&self, space: Space, id: u64, owner: &[u8]) -> Result<bool, Error> {
        let mut key = Vec::new();
        meta::put_key(&mut key, space, owner);
        self.db.read(self.keyspaces.meta, &key, &reading(), |value| {
            value.and_then(Record::decode).is_some_and(|record| record.head.id == id)
        })
    }

    /// Goes from id to id and reads no element.
    fn check_ids(&mut self) -> Result<(), Wrong> {
        let mut unexplained = Vec::new();
        let mut iter = first(self.db, self.keyspaces.data, Vec::new(), None)?;
        while iter.valid() {
            let (space, id) = data::split_prefix(iter.key()).ok_or("a key without an id")?;
            self.checked.ids += 1;
            let owned = data::is_owner(iter.key());
            if !(owned && self.is_held(space, id, iter.value())?) {
                self.checked.dead_ids += 1;
                if !self.system.hinted.contains(&(space, id)) {
                    unexplained.push((space, id));
                }
            }
            match prefix_end(&data::prefix(space, id)) {
                Some(next) => iter.seek(&next)?,
                None => break,
            }
        }
        drop(iter);
        self.explain(&mut unexplained);
        if !unexplained.is_empty() {
            self.db.compact_range(self.keyspaces.meta, None, None)?;
            self.explain(&mut unexplained);
        }
        for (space, id) in unexplained {
            self.note(
                &format!("id {id} in space {space}"),
                Err("no key holds it, and nothing says that it may go".into()),
            );
        }
        Ok(())
    }

    /// Takes out what a compaction left a note of.
    fn explain(&self, ids: &mut Vec<SpaceId>) {
        if ids.is_empty() {
            return;
        }
        let notes = self.db.pending_notes(usize::MAX);
        let noted: HashSet<SpaceId> = notes
            .iter()
            .filter(|note| note.keyspace == self.keyspaces.meta)
            .filter_map(|note| system::split_gc_note(&note.bytes))
            .collect();
        ids.retain(|id| !noted.contains(id));
    }

    fn check_expiries(&mut self) -> Result<(), Wrong> {
        let mut iter = first(self.db, self.keyspaces.ttl, Vec::new(), None)?;
        let mut record_key = Vec::new();
        while iter.valid() {
            let (expire_ms, space, key) = ttl::split_key(iter.key()).ok_or("an entry without a key")?;
            if ttl::is_of_key(iter.value()) {
                self.found.entry(space).or_default().count_expiry(expire_ms, 1);
            }
            meta::put_key(&mut record_key, space, key);
            let borne_out = self.db.read(self.keyspaces.meta, &record_key, &reading(), |value| {
                value.and_then(Record::decode).is_some_and(|record| record.head.due().at_ms == expire_ms)
            })?;
            self.checked.stale_expiries += u64::from(!borne_out);
            iter.next()?;
        }
        Ok(())
    }

    /// Against what a clean close wrote.
    fn check_counts(&mut self) {
        let Some((counts, off)) = self.system.counts.take() else { return };
        for (space, db) in self.system.live.clone() {
            let said = counts.get(&space).copied().unwrap_or_default();
            let found = self.found.get(&space).copied().unwrap_or_default();
            for (what, said, found) in
                [("keys", said[0], found.keys), ("keys that expire", said[1], found.expires)]
            {
                if (said - found).abs() > off {
                    let what = format!("the count of {what} is {said}, there are {found}");
                    self.note(&format!("database {db}"), Err(what.into()));
                }
            }
        }
    }
}
