//! Throughput of the engine, one workload after the other on one database, in the vocabulary of db_bench.
//!
//! ```text
//! cargo bench --bench engine -- --benchmarks=fillrandom,compact,readrandom --num=2000000 --threads=1
//! ```
//!
//! Workloads: fillseq, fillrandom, fillbatch, overwrite, readrandom, readmissing, readseq, seekrandom, readwhilewriting, flush, compact, stats.
//! Keys are 16 decimal digits, drawn as db_bench draws them (uniformly, with repetition, for the random ones), values half
//! compressible. Each line gives operations a second, microseconds an operation, and latency percentiles of a sample.

mod work;

use haypile_lsm::base::rng::Rng;
use haypile_lsm::{
    Db, Durability, IterOptions, KeyspaceId, Options, OsEnv, ReadOptions, WriteBatch, WriteOptions,
};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use work::{Arguments, Values, key};

struct Settings {
    benchmarks: Vec<String>,
    num: u64,
    reads: u64,
    threads: u64,
    value_bytes: usize,
    batch: u64,
    seed: u64,
    sync: bool,
    disable_wal: bool,
    db: PathBuf,
    options: Options,
}

fn settings() -> Settings {
    let mut arguments = Arguments::read();
    let num = arguments.take("num", 200_000);
    let everything =
        "fillseq,fillrandom,overwrite,compact,readrandom,readmissing,readseq,seekrandom,readwhilewriting";
    let benchmarks = arguments.take("benchmarks", everything.to_string());
    let mut settings = Settings {
        benchmarks: benchmarks.split(',').map(str::to_string).collect(),
        num,
        reads: arguments.take("reads", num),
        threads: arguments.take("threads", 1),
        value_bytes: arguments.take("value_size", 100),
        batch: arguments.take("batch", 100),
        seed: arguments.take("seed", 301),
        sync: arguments.take("sync", 0) != 0,
        disable_wal: arguments.take("disable_wal", 0) != 0,
        db: arguments.take("db", std::env::temp_dir().join("haypile-bench")),
        options: Options {
            block_cache_bytes: arguments.take("cache_size", 1 << 30),
            memtable_bytes: arguments.take("write_buffer_size", 64 << 20),
            open_tables_max: arguments.take("open_files", 4096),
            ..Options::default()
        },
    };
    settings.options.memtable_total_bytes = 4 * settings.options.memtable_bytes;
    arguments.finish();
    settings
}

/// A sample of latencies, in nanoseconds.
#[derive(Default)]
struct Latencies(Vec<u64>);

impl Latencies {
    fn percentile(&self, part: f64) -> f64 {
        let at = ((self.0.len() as f64 * part) as usize).min(self.0.len().saturating_sub(1));
        self.0.get(at).map_or(0.0, |&ns| ns as f64 / 1000.0)
    }
}

struct Run<'a> {
    db: &'a Db,
    keyspace: KeyspaceId,
    settings: &'a Settings,
    env: Arc<OsEnv>,
}

impl Run<'_> {
    /// Runs `body` on each thread (given the thread's number and how many operations it shall do) and prints the line.
    fn measure(
        &self,
        name: &str,
        operations: u64,
        body: impl Fn(u64, u64, &mut dyn FnMut(&mut dyn FnMut())) + Sync,
    ) {
        use haypile_lsm::Env;
        let threads = self.settings.threads;
        let start = self.env.monotonic();
        let all = std::thread::scope(|scope| {
            let spawned = (0..threads)
                .map(|thread| {
                    let body = &body;
                    scope.spawn(move || {
                        let mut latencies = Latencies::default();
                        let mut count = 0u64;
                        body(thread, operations / threads, &mut |operation: &mut dyn FnMut()| {
                            count += 1;
                            if count.is_multiple_of(16) {
                                let before = self.env.monotonic();
                                operation();
                                let elapsed = self.env.monotonic() - before;
                                latencies.0.push(elapsed.as_nanos() as u64);
                            } else {
                                operation();
                            }
                        });
                        latencies
                    })
                })
                .collect::<Vec<_>>();
            let mut all = Latencies::default();
            for thread in spawned {
                all.0.extend(thread.join().expect("a benchmark thread panicked").0);
            }
            all.0.sort_unstable();
            all
        });
        let elapsed = self.env.monotonic() - start;
        let micros = elapsed.as_secs_f64() * 1e6 / operations as f64 * threads as f64;
        println!(
            "{name:<18} {:>10.0} ops/s {micros:>8.3} us/op   p50 {:>7.2} p99 {:>8.2} p99.9 {:>9.2} p99.99 {:>9.2} us",
            operations as f64 / elapsed.as_secs_f64(),
            all.percentile(0.5),
            all.percentile(0.99),
            all.percentile(0.999),
            all.percentile(0.9999),
        );
    }

    fn fill(&self, name: &str, random: bool, batch: u64) {
        let settings = self.settings;
        let options = WriteOptions {
            durability: if settings.sync { Durability::Synced } else { Durability::Os },
            disable_wal: settings.disable_wal,
            ..WriteOptions::default()
        };
        self.measure(name, settings.num, |thread, operations, timed| {
            let mut rng = Rng::new(settings.seed + thread);
            let mut values = Values::new(settings.value_bytes, thread);
            let mut writes = WriteBatch::new();
            for number in 0..operations {
                let number = if random { rng.below(settings.num) } else { thread * operations + number };
                timed(&mut || {
                    writes.put(self.keyspace, &key(number), values.next()).expect("put");
                    if u64::from(writes.count()) >= batch {
                        self.db.write(&writes, &options).expect("write");
                        writes.clear();
                    }
                });
            }
            self.db.write(&writes, &options).expect("write");
        });
    }

    fn read(&self, name: &str, missing: bool) {
        let settings = self.settings;
        let found = AtomicU64::new(0);
        self.measure(name, settings.reads, |thread, operations, timed| {
            let mut rng = Rng::new(settings.seed + 1000 + thread);
            let mut hits = 0;
            for _ in 0..operations {
                let mut wanted = key(rng.below(settings.num));
                if missing {
                    wanted[0] = b'x';
                }
                timed(&mut || {
                    let value = self.db.get(self.keyspace, &wanted, &ReadOptions::default()).expect("get");
                    hits += u64::from(value.is_some());
                });
            }
            found.fetch_add(hits, Ordering::Relaxed);
        });
        println!("{:<18} {} of {} found", "", found.load(Ordering::Relaxed), settings.reads);
    }

    fn read_sequence(&self) {
        let settings = self.settings;
        self.measure("readseq", settings.num, |_, operations, timed| {
            let mut iter = self.db.iter(self.keyspace, IterOptions::default()).expect("iter");
            iter.seek_to_first().expect("seek");
            let mut left = operations;
            while iter.valid() && left > 0 {
                timed(&mut || iter.next().expect("next"));
                left -= 1;
            }
        });
    }

    fn seek_random(&self) {
        let settings = self.settings;
        self.measure("seekrandom", settings.reads / 4, |thread, operations, timed| {
            let mut rng = Rng::new(settings.seed + 2000 + thread);
            for _ in 0..operations {
                let from = key(rng.below(settings.num));
                timed(&mut || {
                    let mut iter = self.db.iter(self.keyspace, IterOptions::default()).expect("iter");
                    iter.seek(&from).expect("seek");
                    for _ in 0..10 {
                        if iter.valid() {
                            iter.next().expect("next");
                        }
                    }
                });
            }
        });
    }

    fn read_while_writing(&self) {
        let settings = self.settings;
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                let mut rng = Rng::new(settings.seed + 3000);
                let mut values = Values::new(settings.value_bytes, 77);
                let mut written = 0u64;
                while !stop.load(Ordering::Relaxed) {
                    self.db.put(self.keyspace, &key(rng.below(settings.num)), values.next()).expect("put");
                    written += 1;
                }
                written
            });
            self.read("readwhilewriting", false);
            stop.store(true, Ordering::Relaxed);
            println!("{:<18} {} written meanwhile", "", writer.join().expect("the writer panicked"));
        });
    }

    fn stats(&self) {
        let metrics = self.db.metrics();
        for (name, value) in metrics.iter().filter(|(_, value)| *value > 0) {
            println!("  {name:<28} {value}");
        }
        for (name, value) in self.db.properties() {
            println!("  {name:<28} {value}");
        }
    }
}

fn main() {
    let settings = settings();
    let env = OsEnv::new();
    let fresh = settings.benchmarks.iter().any(|name| name.starts_with("fill"));
    if fresh {
        Db::destroy(env.clone(), &settings.db).expect("remove the old database");
    }
    let db = Db::open(env.clone(), &settings.db, settings.options.clone()).expect("open");
    let run = Run { db: &db, keyspace: db.default_keyspace(), settings: &settings, env };
    for name in &settings.benchmarks {
        match name.as_str() {
            "fillseq" => run.fill("fillseq", false, 1),
            "fillrandom" => run.fill("fillrandom", true, 1),
            "overwrite" => run.fill("overwrite", true, 1),
            "fillbatch" => run.fill("fillbatch", true, settings.batch),
            "readrandom" => run.read("readrandom", false),
            "readmissing" => run.read("readmissing", true),
            "readseq" => run.read_sequence(),
            "seekrandom" => run.seek_random(),
            "readwhilewriting" => run.read_while_writing(),
            "flush" => db.flush(run.keyspace).expect("flush"),
            "compact" => {
                run.measure("compact", 1, |_, _, _| {
                    db.compact_range(run.keyspace, None, None).expect("compact");
                });
            }
            "wait" => {
                std::thread::sleep(Duration::from_millis(10));
                db.wait_idle().expect("wait_idle");
            }
            "stats" => run.stats(),
            other => {
                eprintln!("no such benchmark: {other}");
                std::process::exit(1);
            }
        }
    }
    db.close().expect("close");
}
