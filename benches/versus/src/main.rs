//! The same work on several embedded engines, one after the other.
//!
//! ```text
//! cargo run --release --manifest-path benches/versus/Cargo.toml -- --num=1000000 --engines=haypile,fjall,sled,redb
//! ```
//!
//! | workload | |
//! |---|---|
//! | fillrandom | `num` puts of random keys into an empty database, one by one |
//! | overwrite | the same again |
//! | settle | what it takes until everything is in its place: flush, and compaction where one can wait for it |
//! | readrandom | `reads` gets of random keys; everything fits the engine's cache and was read once before |
//! | scan | all entries in order |
//! | readwhilewriting | `reads` gets beside one thread that puts |
//! | readrandom_small | opened again with a cache of an eighth of the data: `reads` gets, warmed as above; the system's page cache still has all |
//!
//! Keys are 16 digits, drawn as db_bench draws them (about 63 % of them are there); values are half compressible. Every engine logs
//! and none syncs; what each one makes of that is said in `engines.rs`. Each engine has a process of its own, so that memory and
//! the counters of `/proc/self/io` are its own. Numbers are only compared within one run.

#![expect(clippy::disallowed_methods, reason = "a program of its own: reads the clock")]

mod engines;
#[path = "../../work/mod.rs"]
mod work;

use engines::{Engine, NAMES, Sizes, open};
use haypile_lsm::base::rng::Rng;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;
use work::{Arguments, Values, key, leave};

/// What lines for programs begin with.
const MARK: &str = "#versus ";

struct Settings {
    num: u64,
    reads: u64,
    value_bytes: usize,
    seed: u64,
    cache_bytes: u64,
    write_buffer_bytes: u64,
    dir: PathBuf,
}

/// Bytes handed to the system by writes, and bytes that had to go to the disk.
fn bytes_written() -> (u64, u64) {
    let text = fs::read_to_string("/proc/self/io").unwrap_or_default();
    let field = |name: &str| {
        text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<u64>().ok()).unwrap_or(0)
    };
    (field("wchar:"), field("write_bytes:"))
}

/// Bytes that a folder takes on the disk.
fn bytes_on_disk(dir: &Path) -> u64 {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => bytes_on_disk(&entry.path()),
            Ok(metadata) => 512 * metadata.blocks(),
            Err(_) => 0,
        })
        .sum()
}

struct Run<'a> {
    name: &'a str,
    settings: &'a Settings,
}

impl Run<'_> {
    /// Times `work`, which says how many operations it did.
    fn measure(&self, workload: &str, work: impl FnOnce() -> u64) {
        let (handed, stored) = bytes_written();
        let start = Instant::now();
        let operations = work();
        let seconds = start.elapsed().as_secs_f64();
        let (handed, stored) = (bytes_written().0 - handed, bytes_written().1 - stored);
        let disk = bytes_on_disk(&self.settings.dir);
        println!(
            "{MARK}engine={} workload={workload} operations={operations} seconds={seconds:.3} ops_per_s={:.0} us_per_op={:.3} \
             handed_bytes={handed} stored_bytes={stored} disk_bytes={disk}",
            self.name,
            operations as f64 / seconds,
            seconds * 1e6 / operations.max(1) as f64,
        );
    }

    fn put_random(&self, engine: &dyn Engine, seed: u64) -> u64 {
        let mut rng = Rng::new(self.settings.seed + seed);
        let mut values = Values::new(self.settings.value_bytes, seed);
        for _ in 0..self.settings.num {
            engine.put(&key(rng.below(self.settings.num)), values.next());
        }
        self.settings.num
    }

    fn read_random(&self, engine: &dyn Engine, seed: u64) -> u64 {
        let mut rng = Rng::new(self.settings.seed + seed);
        let mut found = 0;
        for _ in 0..self.settings.reads {
            found += u64::from(engine.get(&key(rng.below(self.settings.num))) > 0);
        }
        assert!(found * 2 > self.settings.reads, "{} lost keys: {found} found", self.name);
        self.settings.reads
    }

    fn warm(&self, engine: &dyn Engine) {
        (0..self.settings.num).for_each(|number| {
            engine.get(&key(number));
        });
    }

    fn read_while_writing(&self, engine: &dyn Engine) {
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                let mut rng = Rng::new(self.settings.seed + 3000);
                let mut values = Values::new(self.settings.value_bytes, 77);
                let (mut written, start) = (0u64, Instant::now());
                while !stop.load(Ordering::Relaxed) {
                    engine.put(&key(rng.below(self.settings.num)), values.next());
                    written += 1;
                }
                (written, start.elapsed().as_secs_f64())
            });
            self.measure("readwhilewriting", || self.read_random(engine, 1001));
            stop.store(true, Ordering::Relaxed);
            let (written, seconds) = writer.join().expect("the writer panicked");
            println!(
                "{MARK}engine={} workload=writes_meanwhile operations={written} seconds={seconds:.3} ops_per_s={:.0} \
                 us_per_op={:.3} handed_bytes=0 stored_bytes=0 disk_bytes=0",
                self.name,
                written as f64 / seconds,
                seconds * 1e6 / written.max(1) as f64
            );
        });
    }

    fn all(&self) {
        let settings = self.settings;
        let _ = fs::remove_dir_all(&settings.dir);
        fs::create_dir_all(&settings.dir).expect("make the folder");
        let mut sizes =
            Sizes { cache_bytes: settings.cache_bytes, write_buffer_bytes: settings.write_buffer_bytes };
        let engine = open(self.name, &settings.dir, sizes);
        self.measure("fillrandom", || self.put_random(&*engine, 0));
        self.measure("overwrite", || self.put_random(&*engine, 100));
        self.measure("settle", || {
            engine.settle();
            1
        });
        self.warm(&*engine);
        self.measure("readrandom", || self.read_random(&*engine, 1000));
        self.measure("scan", || engine.scan());
        self.read_while_writing(&*engine);
        engine.settle();
        drop(engine);
        sizes.cache_bytes = settings.num * (16 + settings.value_bytes as u64) / 8;
        let engine = open(self.name, &settings.dir, sizes);
        self.warm(&*engine);
        self.measure("readrandom_small", || self.read_random(&*engine, 1002));
        drop(engine);
        let _ = fs::remove_dir_all(&settings.dir);
    }
}

/// One line of a child.
struct Line(BTreeMap<String, String>);

impl Line {
    fn parse(line: &str) -> Option<Line> {
        let fields = line.strip_prefix(MARK)?.split_whitespace();
        Some(Line(fields.filter_map(|f| f.split_once('=')).map(|(k, v)| (k.into(), v.into())).collect()))
    }

    fn text(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }

    fn number(&self, name: &str) -> f64 {
        self.text(name).parse().unwrap_or(0.0)
    }
}

/// Name of a row, and what it says of an engine.
type Row<'a> = (&'a str, &'a dyn Fn(&str) -> String);

fn print_tables(lines: &[Line], engines: &[&str]) {
    const WORKLOADS: [&str; 7] = [
        "fillrandom",
        "overwrite",
        "readrandom",
        "readrandom_small",
        "scan",
        "readwhilewriting",
        "writes_meanwhile",
    ];
    let find = |engine: &str, workload: &str| {
        lines.iter().find(|line| line.text("engine") == engine && line.text("workload") == workload)
    };
    let table = |title: &str, rows: &[Row<'_>]| {
        println!("\n| {title} | {} |\n|---|{}", engines.join(" | "), "---:|".repeat(engines.len()));
        for (name, cell) in rows {
            let cells = engines.iter().map(|engine| cell(engine)).collect::<Vec<_>>();
            println!("| {name} | {} |", cells.join(" | "));
        }
    };
    let speed = |workload: &'static str| {
        move |engine: &str| {
            find(engine, workload).map_or("-".into(), |line| {
                format!("{:.0} ({:.2} us)", line.number("ops_per_s"), line.number("us_per_op"))
            })
        }
    };
    let speeds = WORKLOADS.map(|workload| (workload, speed(workload)));
    let rows = speeds.iter().map(|(name, cell)| (*name, cell as &dyn Fn(&str) -> String)).collect::<Vec<_>>();
    table("operations a second", &rows);
    let mib = |bytes: f64| format!("{:.1}", bytes / (1u64 << 20) as f64);
    let sum = |engine: &str, field: &str| {
        let written = ["fillrandom", "overwrite", "settle"];
        mib(written.iter().filter_map(|w| find(engine, w)).map(|line| line.number(field)).sum())
    };
    let disk =
        |engine: &str| find(engine, "settle").map_or("-".into(), |line| mib(line.number("disk_bytes")));
    let settle = |engine: &str| find(engine, "settle").map_or("-".into(), |line| line.text("seconds").into());
    table(
        "fillrandom, overwrite, settle",
        &[
            ("handed to the system, MiB", &|engine| sum(engine, "handed_bytes")),
            ("had to go to the disk, MiB", &|engine| sum(engine, "stored_bytes")),
            ("on the disk behind it, MiB", &disk),
            ("settle, s", &settle),
        ],
    );
}

fn main() {
    let mut arguments = Arguments::read();
    let child = arguments.take("child", String::new());
    let engines = arguments.take("engines", NAMES.join(","));
    let num = arguments.take("num", 500_000);
    let settings = Settings {
        num,
        reads: arguments.take("reads", num),
        value_bytes: arguments.take("value_size", 100),
        seed: arguments.take("seed", 301),
        cache_bytes: arguments.take("cache_size", 1 << 30),
        write_buffer_bytes: arguments.take("write_buffer_size", 16 << 20),
        dir: arguments.take("db", std::env::temp_dir().join("haypile-versus")),
    };
    arguments.finish();
    if !child.is_empty() {
        Run { name: &child, settings: &settings }.all();
        return;
    }
    let names = engines.split(',').collect::<Vec<_>>();
    let me = std::env::current_exe().unwrap_or_else(|error| leave(&format!("where am I: {error}")));
    let mut lines = Vec::new();
    for name in &names {
        // The last of a name counts, so what was given stands.
        let output = Command::new(&me)
            .args(std::env::args().skip(1))
            .arg(format!("--child={name}"))
            .stderr(std::process::Stdio::inherit())
            .output()
            .unwrap_or_else(|error| leave(&format!("start {name}: {error}")));
        let text = String::from_utf8_lossy(&output.stdout);
        print!("{text}");
        if !output.status.success() {
            eprintln!("{name} failed: {}", output.status);
        }
        lines.extend(text.lines().filter_map(Line::parse));
    }
    print_tables(&lines, &names);
}
