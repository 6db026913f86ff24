//! What compaction costs, and what it gives back: throughput by CPU time of the threads that do it, write and space amplification.
//!
//! ```text
//! cargo bench --bench compaction -- --workloads=l0,l0base,overwrite,fillseq,delete --lz4=both --threads=1 --memtable=8388608 --times=24
//! ```
//!
//! | workload | what is measured |
//! |---|---|
//! | l0 | eight L0 runs of random keys merged into nothing |
//! | l0base | four more runs merged with what that left |
//! | overwrite | uniform overwrites of `times / 4` memtables of keys, `times` memtables' worth of them, compaction beside |
//! | fillseq | the same bytes in key order: files should only move |
//! | delete | `times / 2` memtables of random keys, then a delete of each, compaction beside |
//!
//! Throughput counts bytes of table files read and written by compactions. A core's second is one of CPU time: of the calling thread
//! for the first two (they run on it), of the compaction threads for the others (from `/proc`, so on Linux only; the flush thread
//! is not counted). Write amplification is table bytes written, flushes included and the log not, over bytes of keys and values
//! written; space amplification is table bytes at the end over bytes of keys and values that are live, or for `delete` were. Each line is printed twice: for
//! people, and as `name=value` for programs.

mod work;

use haypile_lsm::base::rng::Rng;
use haypile_lsm::{
    Compression, Db, Env, KeyspaceId, KeyspaceOptions, MetricsSnapshot, Options, OsEnv, WriteBatch,
    WriteOptions,
};
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use work::{Arguments, Values, key, leave};

const KEY_BYTES: u64 = 16;
const MIB: f64 = (1u64 << 20) as f64;

struct Settings {
    memtable_bytes: usize,
    /// How many memtables' worth of bytes a workload writes.
    times: u64,
    threads: usize,
    value_bytes: u64,
    dir: PathBuf,
}

impl Settings {
    fn entry_bytes(&self) -> u64 {
        KEY_BYTES + self.value_bytes
    }

    /// So many entries are about `memtables` memtables.
    fn entries(&self, memtables: u64) -> u64 {
        memtables * self.memtable_bytes as u64 / self.entry_bytes()
    }

    fn options(&self) -> Options {
        Options {
            memtable_bytes: self.memtable_bytes,
            memtable_total_bytes: 4 * self.memtable_bytes,
            block_cache_bytes: 64 << 20,
            table_bytes: self.memtable_bytes as u64,
            base_level_bytes: 4 * self.memtable_bytes as u64,
            level_multiplier: 8,
            compaction_threads: self.threads,
            ..Options::default()
        }
    }
}

/// One database and its counters since the last look.
struct Bench<'a> {
    settings: &'a Settings,
    compression: Compression,
    env: Arc<OsEnv>,
    db: Db,
    keyspace: KeyspaceId,
}

/// What a phase took.
struct Cost {
    wall: Duration,
    cpu: Duration,
    before: MetricsSnapshot,
    after: MetricsSnapshot,
}

/// CPU time of threads whose name starts with `name`, or of this one.
fn cpu_time(name: Option<&str>) -> Duration {
    let spent = |path: PathBuf| {
        let text = fs::read_to_string(path.join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse().ok().map(Duration::from_nanos)
    };
    let Some(name) = name else { return spent("/proc/thread-self".into()).unwrap_or_default() };
    let threads = fs::read_dir("/proc/self/task").into_iter().flatten().flatten().map(|entry| entry.path());
    let named = threads.filter(|path| {
        fs::read_to_string(path.join("comm")).is_ok_and(|comm| comm.trim_end().starts_with(name))
    });
    named.filter_map(spent).sum()
}

impl<'a> Bench<'a> {
    fn open(settings: &'a Settings, compression: Compression, options: Options) -> Bench<'a> {
        let env = OsEnv::new();
        Db::destroy(env.clone(), &settings.dir).expect("remove the old database");
        let db = Db::open(env.clone(), &settings.dir, options).expect("open");
        let keyspace = db
            .keyspace_or_create("bench", KeyspaceOptions { compression, ..KeyspaceOptions::default() })
            .expect("keyspace");
        Bench { settings, compression, env, db, keyspace }
    }

    /// Writes `count` entries in batches, without the log: it is not what is measured. A value of `None` deletes.
    fn write(&self, count: u64, mut entry: impl FnMut(u64) -> (u64, bool)) {
        let mut values = Values::new(self.settings.value_bytes as usize, 1);
        let mut batch = WriteBatch::new();
        let options = WriteOptions { disable_wal: true, ..WriteOptions::default() };
        for at in 0..count {
            let (number, live) = entry(at);
            match live {
                true => batch.put(self.keyspace, &key(number), values.next()).expect("put"),
                false => batch.delete(self.keyspace, &key(number)).expect("delete"),
            }
            if batch.count() == 100 || at + 1 == count {
                self.db.write(&batch, &options).expect("write");
                batch.clear();
            }
        }
    }

    fn measure(&self, thread: Option<&str>, work: impl FnOnce()) -> Cost {
        let (start, cpu, before) = (self.env.monotonic(), cpu_time(thread), self.db.metrics());
        work();
        Cost {
            wall: self.env.monotonic() - start,
            cpu: cpu_time(thread) - cpu,
            before,
            after: self.db.metrics(),
        }
    }

    fn table_bytes(&self) -> u64 {
        let all = self.db.properties();
        all.iter().find(|(name, _)| name == "table_bytes").map_or(0, |(_, value)| value.parse().unwrap_or(0))
    }

    /// `user_bytes` were written in the phase, `live_bytes` are left of everything.
    fn report(&self, name: &str, cost: &Cost, user_bytes: u64, live_bytes: u64) {
        let of = |get: fn(&MetricsSnapshot) -> u64| (get(&cost.after) - get(&cost.before)) as f64;
        let read = of(|m| m.compaction_bytes_read) / MIB;
        let written = of(|m| m.compaction_bytes_written) / MIB;
        let flushed = of(|m| m.flush_bytes_written) / MIB;
        let (jobs, moves) = (of(|m| m.compactions), of(|m| m.trivial_moves));
        let per = |seconds: Duration| match seconds.is_zero() {
            true => 0.0,
            false => (read + written) / seconds.as_secs_f64(),
        };
        let (per_second, per_core) = (per(cost.wall), per(cost.cpu));
        let write_amplification = (flushed + written) * MIB / user_bytes.max(1) as f64;
        let space_amplification = self.table_bytes() as f64 / live_bytes.max(1) as f64;
        let lz4 = if self.compression == Compression::Lz4 { "on" } else { "off" };
        let threads = self.settings.threads;
        let (wall, cpu) = (cost.wall.as_secs_f64(), cost.cpu.as_secs_f64());
        println!(
            "{name:<10} {lz4:<4} {threads:>2} {wall:>8.2} {cpu:>8.2} {read:>9.1} {written:>9.1} {jobs:>5} {moves:>5} \
             {per_second:>8.1} {per_core:>8.1} {write_amplification:>7.2} {space_amplification:>7.2}"
        );
        println!(
            "#compaction workload={name} lz4={lz4} threads={threads} wall_s={wall:.3} cpu_s={cpu:.3} read_mib={read:.1} \
             written_mib={written:.1} flushed_mib={flushed:.1} jobs={jobs} moves={moves} mib_per_s={per_second:.1} \
             mib_per_core_s={per_core:.1} write_amplification={write_amplification:.3} \
             space_amplification={space_amplification:.3}"
        );
    }

    fn compact(&self) {
        self.db.compact_range(self.keyspace, None, None).expect("compact");
    }
}

/// Merges of L0, on this thread and nowhere else: nothing is due by itself.
fn l0(settings: &Settings, compression: Compression, wanted: &dyn Fn(&str) -> bool) {
    let options = Options { l0_compaction_trigger: 1000, ..settings.options() };
    let bench = Bench::open(settings, compression, options);
    let keys = settings.entries(16);
    let mut rng = Rng::new(1);
    let mut written = vec![false; keys as usize];
    let mut fill = |runs: u64| {
        for _ in 0..runs {
            bench.write(settings.entries(1) * 3 / 4, |_| {
                let number = rng.below(keys);
                written[number as usize] = true;
                (number, true)
            });
            bench.db.flush(bench.keyspace).expect("flush");
        }
        let live = written.iter().filter(|&&written| written).count() as u64;
        (runs * (settings.entries(1) * 3 / 4) * settings.entry_bytes(), live * settings.entry_bytes())
    };
    for (name, runs) in [("l0", 8), ("l0base", 4)] {
        let (user_bytes, live_bytes) = fill(runs);
        let cost = bench.measure(None, || bench.compact());
        if wanted(name) {
            bench.report(name, &cost, user_bytes, live_bytes);
        }
    }
}

fn beside(
    name: &str,
    settings: &Settings,
    compression: Compression,
    live_entries: u64,
    write: impl FnOnce(&Bench<'_>) -> u64,
) {
    let bench = Bench::open(settings, compression, settings.options());
    let mut user_bytes = 0;
    let cost = bench.measure(Some("haypile-comp"), || {
        user_bytes = write(&bench);
        bench.db.flush(bench.keyspace).expect("flush");
        bench.db.wait_idle().expect("wait_idle");
    });
    bench.report(name, &cost, user_bytes, live_entries * settings.entry_bytes());
}

fn overwrite(settings: &Settings, compression: Compression) {
    let (keys, count) = (settings.entries(settings.times / 4), settings.entries(settings.times));
    // Each key once in random order, so that all are live, then uniformly.
    let stride = (keys / 2..).find(|&n| n % 2 == 1 && gcd(n, keys) == 1).unwrap_or(1);
    beside("overwrite", settings, compression, keys, |bench| {
        let mut rng = Rng::new(2);
        bench.write(count, |at| match at < keys {
            true => ((at * stride) % keys, true),
            false => (rng.below(keys), true),
        });
        count * settings.entry_bytes()
    });
}

fn fill_sequence(settings: &Settings, compression: Compression) {
    let count = settings.entries(settings.times);
    beside("fillseq", settings, compression, count, |bench| {
        bench.write(count, |at| (at, true));
        count * settings.entry_bytes()
    });
}

fn delete(settings: &Settings, compression: Compression) {
    let keys = settings.entries(settings.times / 2);
    let stride = (keys / 2..).find(|&n| n % 2 == 1 && gcd(n, keys) == 1).unwrap_or(1);
    beside("delete", settings, compression, keys, |bench| {
        bench.write(keys, |at| ((at * stride) % keys, true));
        bench.write(keys, |at| ((at * stride + 7) % keys, false));
        keys * (settings.entry_bytes() + KEY_BYTES)
    });
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

fn main() {
    let mut arguments = Arguments::read();
    let workloads = arguments.take("workloads", "l0,l0base,overwrite,fillseq,delete".to_string());
    let lz4 = arguments.take("lz4", "both".to_string());
    let settings = Settings {
        memtable_bytes: arguments.take("memtable", 8 << 20),
        times: arguments.take("times", 24),
        threads: arguments.take("threads", 1),
        value_bytes: arguments.take("value_size", 100),
        dir: arguments.take("db", std::env::temp_dir().join("haypile-compaction-bench")),
    };
    arguments.finish();
    let compressions = match lz4.as_str() {
        "on" => vec![Compression::Lz4],
        "off" => vec![Compression::None],
        "both" => vec![Compression::Lz4, Compression::None],
        other => leave(&format!("--lz4={other} is none of on, off, both")),
    };
    println!(
        "{:<10} {:<4} {:>2} {:>8} {:>8} {:>9} {:>9} {:>5} {:>5} {:>8} {:>8} {:>7} {:>7}",
        "workload",
        "lz4",
        "th",
        "wall s",
        "cpu s",
        "read MiB",
        "wrtn MiB",
        "jobs",
        "moves",
        "MiB/s",
        "/core s",
        "write x",
        "space x"
    );
    let wanted = |name: &str| workloads.split(',').any(|wanted| wanted == name);
    for compression in compressions {
        if wanted("l0") || wanted("l0base") {
            l0(&settings, compression, &wanted);
        }
        if wanted("overwrite") {
            overwrite(&settings, compression);
        }
        if wanted("fillseq") {
            fill_sequence(&settings, compression);
        }
        if wanted("delete") {
            delete(&settings, compression);
        }
    }
    Db::destroy(OsEnv::new(), &settings.dir).expect("remove the database");
}
