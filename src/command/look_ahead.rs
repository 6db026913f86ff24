//! Looks ahead in a pipeline: what the next commands will look for in memory is fetched while there is still something else to do.
//!
//! A command that comes alone waits for memory a dozen times: the tables of known keys, the index of the memtable, and for a new key each
//! step of the search for its place. Of a pipeline the first keys of the next commands can be read beforehand, and all those waits
//! overlap. Nothing is run or checked here, and nothing depends on it: what does not look like a plain command is left alone.

use crate::command::facts::model::Flag;
use crate::command::spec::Table;
use crate::encoding::meta;
use crate::store::store::Store;
use haypile_lsm::base::hash::key_hash;
use haypile_resp::peek;

/// Commands looked at together.
const COMMANDS_MAX: usize = 16;
/// Fewer are not worth it.
const COMMANDS_MIN: usize = 3;
/// Longer names and keys are left alone.
const NAME_BYTES_MAX: usize = 24;
const KEY_BYTES_MAX: usize = 256;

/// What looking ahead keeps from one time to the next.
#[derive(Debug, Default)]
pub struct LookAhead {
    /// The last command met, and whether it writes; `None` if it is none, or names no key. Pipelines repeat themselves.
    name: Vec<u8>,
    writes: Option<bool>,
    /// Keys as the store has them, one behind the other, and where each ends.
    keys: Vec<u8>,
    ends: Vec<usize>,
}

impl LookAhead {
    /// Looks at the commands at the front of `input`, which are for database `db`. Returns how many of them need not be looked at again.
    pub fn look(&mut self, table: &Table, store: &Store, db: usize, input: &[u8]) -> usize {
        self.keys.clear();
        self.ends.clear();
        let (mut seen, mut at, mut writes) = (0, 0, false);
        let space = store.space_of(db);
        while seen < COMMANDS_MAX
            && let Some(peeked) = input.get(at..).and_then(peek)
        {
            (seen, at) = (seen + 1, at + peeked.bytes);
            let Some(key) = peeked.first.filter(|key| key.len() <= KEY_BYTES_MAX) else { continue };
            if self.name != peeked.name {
                self.learn(table, peeked.name);
            }
            let Some(this_writes) = self.writes else { continue };
            writes |= this_writes;
            meta::append_key(&mut self.keys, space, key);
            self.ends.push(self.keys.len());
        }
        if self.ends.len() >= COMMANDS_MIN {
            let keys = || {
                let starts = std::iter::once(0).chain(self.ends.iter().copied());
                starts.zip(&self.ends).map(|(start, &end)| self.keys.get(start..end).unwrap_or_default())
            };
            keys().for_each(|key| store.plain_keys().touch(key_hash(key)));
            store.db().look_ahead(store.keyspaces().meta, keys(), writes);
        }
        seen
    }

    /// Remembers a command.
    #[cold]
    fn learn(&mut self, table: &Table, name: &[u8]) {
        self.name.clear();
        self.writes = None;
        if name.len() > NAME_BYTES_MAX {
            return;
        }
        self.name.extend_from_slice(name);
        let facts = table.find(name).map(|command| command.facts);
        self.writes = facts.filter(|facts| facts.begins_with_key()).map(|facts| facts.flags.has(Flag::Write));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::table::table;
    use crate::store::store::{Store, StoreOptions};
    use haypile_lsm::{Db, Env, MemEnv, Options};
    use std::path::Path;
    use std::sync::Arc;

    #[test]
    fn keys_of_plain_commands_are_seen() {
        let options =
            Options { memtable_bytes: 8 << 20, memtable_total_bytes: 32 << 20, ..Options::default() };
        let env: Arc<dyn Env> = MemEnv::new();
        let db = Arc::new(Db::open(env, Path::new("/db"), options).unwrap());
        let store = Store::open(db, StoreOptions::default()).unwrap();
        let mut ahead = LookAhead::default();
        let mut look = |input: &str| {
            let seen = ahead.look(table(), &store, 0, input.as_bytes());
            (seen, ahead.ends.len(), ahead.writes)
        };
        let (get, set) = ("*2\r\n$3\r\nGET\r\n$1\r\nk\r\n", "*3\r\n$3\r\nset\r\n$1\r\nk\r\n$1\r\nv\r\n");
        let (ping, eval) = ("*1\r\n$4\r\nPING\r\n", "*3\r\n$4\r\nEVAL\r\n$1\r\ns\r\n$1\r\n0\r\n");
        assert_eq!(look(&get.repeat(3)), (3, 3, Some(false)));
        assert_eq!(look(&[get, set, get, set].concat()), (4, 4, Some(true)));
        assert_eq!(look(&[ping, eval, get].concat()), (3, 1, Some(false)));
        assert_eq!(look(&set.repeat(40)), (COMMANDS_MAX, COMMANDS_MAX, Some(true)));
        // What is not whole yet, or not plain, ends it.
        assert_eq!(look(&[get, &set[..set.len() - 1]].concat()), (1, 1, Some(false)));
        assert_eq!(look(&["GET k\r\n", get].concat()), (0, 0, Some(false)));
        let long =
            format!("*2\r\n$3\r\nGET\r\n${}\r\n{}\r\n", KEY_BYTES_MAX + 1, "k".repeat(KEY_BYTES_MAX + 1));
        assert_eq!(look(&[&long, get].concat()), (2, 1, Some(false)));
    }
}
