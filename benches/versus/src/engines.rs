//! The engines behind one small trait, each opened the way its documentation suggests for this work: logged, not synced.
//!
//! | engine | what a put that returned has done |
//! |---|---|
//! | haypile | its record was handed to the system (`Durability::Os`): a killed process loses nothing |
//! | fjall | the same, its default |
//! | rocksdb | the same, its default (`sync = false`) |
//! | sled | its record is in a buffer of the process; background flushes are off: a killed process loses the end |
//! | redb | a transaction was committed with `Durability::None`: not on the disk until a later commit that syncs |
//!
//! The last two promise less, and gain by it. Errors end the program: there is nothing to measure then.

use std::path::Path;

/// Engines that are compiled in.
#[cfg(not(feature = "rocksdb"))]
pub const NAMES: &[&str] = &["haypile", "fjall", "sled", "redb"];
/// Engines that are compiled in.
#[cfg(feature = "rocksdb")]
pub const NAMES: &[&str] = &["haypile", "fjall", "sled", "redb", "rocksdb"];

/// Memory that an engine may use.
#[derive(Clone, Copy)]
pub struct Sizes {
    /// Cache of blocks or pages.
    pub cache_bytes: u64,
    /// One memtable, for those that have any.
    pub write_buffer_bytes: u64,
}

/// What the work needs.
pub trait Engine: Sync {
    /// Writes one entry.
    fn put(&self, key: &[u8], value: &[u8]);
    /// The length of a value whose bytes were touched; 0 if there is none.
    fn get(&self, key: &[u8]) -> usize;
    /// Walks all entries in order and says how many there are.
    fn scan(&self) -> u64;
    /// Brings everything to its place, as far as the engine lets one wait for it.
    fn settle(&self);
}

/// Opens an engine's database in `dir`.
pub fn open(name: &str, dir: &Path, sizes: Sizes) -> Box<dyn Engine> {
    match name {
        "haypile" => Box::new(haypile::open(dir, sizes)),
        "fjall" => Box::new(fjall_engine::open(dir, sizes)),
        "sled" => Box::new(sled_engine::open(dir, sizes)),
        "redb" => Box::new(redb_engine::open(dir, sizes)),
        #[cfg(feature = "rocksdb")]
        "rocksdb" => Box::new(rocksdb_engine::open(dir, sizes)),
        other => crate::work::leave(&format!("no such engine: {other}")),
    }
}

/// Touches a value, so that nobody gets away with not reading it.
fn touch(value: &[u8]) -> usize {
    std::hint::black_box(value.iter().fold(0u8, |sum, byte| sum ^ byte));
    value.len()
}

mod haypile {
    use super::{Engine, Sizes, touch};
    use haypile_lsm::{Db, IterOptions, KeyspaceId, Options, OsEnv, ReadOptions};
    use std::path::Path;

    pub struct Haypile {
        db: Db,
        keyspace: KeyspaceId,
    }

    pub fn open(dir: &Path, sizes: Sizes) -> Haypile {
        let memtable_bytes = sizes.write_buffer_bytes as usize;
        let options = Options {
            block_cache_bytes: sizes.cache_bytes as usize,
            memtable_bytes,
            memtable_total_bytes: 4 * memtable_bytes,
            wal_segment_bytes: sizes.write_buffer_bytes,
            wal_total_bytes: 4 * sizes.write_buffer_bytes,
            sync_interval_ms: 0,
            ..Options::default()
        };
        let db = Db::open(OsEnv::new(), dir, options).expect("open");
        let keyspace = db.default_keyspace();
        Haypile { db, keyspace }
    }

    impl Engine for Haypile {
        fn put(&self, key: &[u8], value: &[u8]) {
            self.db.put(self.keyspace, key, value).expect("put");
        }

        fn get(&self, key: &[u8]) -> usize {
            let value = self.db.get(self.keyspace, key, &ReadOptions::default()).expect("get");
            value.map_or(0, |value| touch(&value))
        }

        fn scan(&self) -> u64 {
            let mut iter = self.db.iter(self.keyspace, IterOptions::default()).expect("iter");
            let mut entries = 0;
            iter.seek_to_first().expect("seek");
            while iter.valid() {
                touch(iter.value());
                entries += 1;
                iter.next().expect("next");
            }
            entries
        }

        fn settle(&self) {
            self.db.flush(self.keyspace).expect("flush");
            self.db.wait_idle().expect("wait_idle");
        }
    }
}

mod fjall_engine {
    use super::{Engine, Sizes, touch};
    use fjall::{Database, Keyspace, KeyspaceCreateOptions};
    use std::path::Path;
    use std::time::Duration;

    pub struct Fjall {
        db: Database,
        keyspace: Keyspace,
    }

    pub fn open(dir: &Path, sizes: Sizes) -> Fjall {
        let db = Database::builder(dir).cache_size(sizes.cache_bytes).open().expect("open");
        let options = || KeyspaceCreateOptions::default().max_memtable_size(sizes.write_buffer_bytes);
        let keyspace = db.keyspace("bench", options).expect("keyspace");
        Fjall { db, keyspace }
    }

    impl Engine for Fjall {
        fn put(&self, key: &[u8], value: &[u8]) {
            self.keyspace.insert(key, value).expect("insert");
        }

        fn get(&self, key: &[u8]) -> usize {
            self.keyspace.get(key).expect("get").map_or(0, |value| touch(&value))
        }

        fn scan(&self) -> u64 {
            let mut entries = 0;
            for entry in self.keyspace.iter() {
                let (_, value) = entry.into_inner().expect("next");
                touch(&value);
                entries += 1;
            }
            entries
        }

        fn settle(&self) {
            self.keyspace.rotate_memtable_and_wait().expect("rotate");
            // It has no call to wait for compaction: quiet for a while is taken for done.
            let mut quiet = 0;
            while quiet < 5 {
                let busy = self.db.active_compactions() > 0 || self.db.outstanding_flushes() > 0;
                quiet = if busy { 0 } else { quiet + 1 };
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    }
}

mod sled_engine {
    use super::{Engine, Sizes, touch};
    use std::path::Path;

    pub struct Sled(sled::Db);

    pub fn open(dir: &Path, sizes: Sizes) -> Sled {
        let config = sled::Config::new().path(dir.join("sled")).cache_capacity(sizes.cache_bytes);
        Sled(config.flush_every_ms(None).open().expect("open"))
    }

    impl Engine for Sled {
        fn put(&self, key: &[u8], value: &[u8]) {
            self.0.insert(key, value).expect("insert");
        }

        fn get(&self, key: &[u8]) -> usize {
            self.0.get(key).expect("get").map_or(0, |value| touch(&value))
        }

        fn scan(&self) -> u64 {
            let mut entries = 0;
            for entry in self.0.iter() {
                touch(&entry.expect("next").1);
                entries += 1;
            }
            entries
        }

        fn settle(&self) {
            self.0.flush().expect("flush");
        }
    }
}

mod redb_engine {
    use super::{Engine, Sizes, touch};
    use redb::{Database, Durability, ReadableDatabase, ReadableTable, TableDefinition};
    use std::path::Path;

    const TABLE: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("bench");

    pub struct Redb(Database);

    pub fn open(dir: &Path, sizes: Sizes) -> Redb {
        let mut builder = Database::builder();
        builder.set_cache_size(sizes.cache_bytes as usize);
        let db = builder.create(dir.join("redb")).expect("open");
        let transaction = db.begin_write().expect("begin");
        transaction.open_table(TABLE).expect("table");
        transaction.commit().expect("commit");
        Redb(db)
    }

    impl Engine for Redb {
        fn put(&self, key: &[u8], value: &[u8]) {
            let mut transaction = self.0.begin_write().expect("begin");
            transaction.set_durability(Durability::None).expect("durability");
            transaction.open_table(TABLE).expect("table").insert(key, value).expect("insert");
            transaction.commit().expect("commit");
        }

        fn get(&self, key: &[u8]) -> usize {
            // A transaction a read, as the others' gets see what was written last.
            let table = self.0.begin_read().expect("begin").open_table(TABLE).expect("table");
            table.get(key).expect("get").map_or(0, |value| touch(value.value()))
        }

        fn scan(&self) -> u64 {
            let table = self.0.begin_read().expect("begin").open_table(TABLE).expect("table");
            let mut entries = 0;
            for entry in table.iter().expect("iter") {
                touch(entry.expect("next").1.value());
                entries += 1;
            }
            entries
        }

        fn settle(&self) {
            let mut transaction = self.0.begin_write().expect("begin");
            transaction.set_durability(Durability::Immediate).expect("durability");
            transaction.commit().expect("commit");
        }
    }
}

#[cfg(feature = "rocksdb")]
mod rocksdb_engine {
    use super::{Engine, Sizes, touch};
    use rocksdb::{BlockBasedOptions, Cache, DB, DBCompressionType, IteratorMode, Options};
    use std::path::Path;

    pub struct Rocks(DB);

    pub fn open(dir: &Path, sizes: Sizes) -> Rocks {
        let mut table = BlockBasedOptions::default();
        table.set_block_cache(&Cache::new_lru_cache(sizes.cache_bytes as usize));
        table.set_bloom_filter(10.0, false);
        let mut options = Options::default();
        options.create_if_missing(true);
        options.set_block_based_table_factory(&table);
        options.set_write_buffer_size(sizes.write_buffer_bytes as usize);
        options.set_compression_type(DBCompressionType::Lz4);
        options.increase_parallelism(2);
        Rocks(DB::open(&options, dir).expect("open"))
    }

    impl Engine for Rocks {
        fn put(&self, key: &[u8], value: &[u8]) {
            self.0.put(key, value).expect("put");
        }

        fn get(&self, key: &[u8]) -> usize {
            self.0.get_pinned(key).expect("get").map_or(0, |value| touch(&value))
        }

        fn scan(&self) -> u64 {
            let mut entries = 0;
            for entry in self.0.iterator(IteratorMode::Start) {
                touch(&entry.expect("next").1);
                entries += 1;
            }
            entries
        }

        fn settle(&self) {
            self.0.flush().expect("flush");
            self.0.wait_for_compact(&rocksdb::WaitForCompactOptions::default()).expect("wait");
        }
    }
}
