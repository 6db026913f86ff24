//! Runs the text files below `tests/testdata/`: commands with the answers they must give.
//!
//! ```text
//! # a comment
//! command argument name=value
//! input lines
//! ----
//! expected output
//! ```
//!
//! A blank line ends a case; within a file the cases share their state. `HAYPILE_REWRITE=1 cargo test --test datadriven`
//! writes the answers given into the files instead of comparing; read the diff before believing it.
//!
//! `picker/*.txt` knows:
//! * `options trigger= base= multiplier= table= age=` sets options, the rest keep their value;
//! * `levels` replaces the tree by the lines that follow, `L5: 000009:[a#10..d#12] 100 entries=10 deletes=5 ranges=1 created=7`
//!   with further files of the level on further lines; answers with depth, base level, targets and debt;
//! * `pick now= snapshot= manual=a..z until= rewrite= covered=9:500,10:70 jobs=` asks for plans and starts each, up to `jobs`
//!   (default 1) of them;
//! * `finish 2` ends the second job that was started, `finish` all.

use haypile_lsm::base::key::SEQUENCE_MAX;
use haypile_lsm::base::limits::LEVELS;
use haypile_lsm::compaction::picker::{ManualCompaction, PickerInput, manual_is_done, pick};
use haypile_lsm::compaction::plan::{InProgress, JobId};
use haypile_lsm::compaction::targets::{CoveredBytes, PickerOptions, Shape, debt_bytes, l0_is_due, targets};
use haypile_lsm::compaction::wasted_steps::Wasted;
use haypile_lsm::version::file_meta::{FileMeta, OwnedKeyRange, newest_first};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::Arc;

struct Case<'a> {
    command: &'a str,
    arguments: Vec<(&'a str, &'a str)>,
    input: Vec<&'a str>,
}

impl<'a> Case<'a> {
    fn parse(lines: &[&'a str]) -> Case<'a> {
        let mut words = lines[0].split_whitespace();
        let command = words.next().unwrap_or("");
        let arguments = words.map(|word| word.split_once('=').unwrap_or((word, ""))).collect();
        Case { command, arguments, input: lines[1..].to_vec() }
    }

    fn text(&self, name: &str) -> Option<&'a str> {
        self.arguments.iter().find(|(n, _)| *n == name).map(|(_, value)| *value)
    }

    fn number(&self, name: &str, default: u64) -> u64 {
        self.text(name).map_or(default, |value| value.parse().unwrap())
    }
}

#[expect(clippy::disallowed_methods, reason = "the test's own data, not a database")]
fn run_file(path: &Path, run: &mut dyn FnMut(&Case<'_>) -> String) {
    let text = std::fs::read_to_string(path).unwrap();
    let mut out = String::new();
    for block in text.trim_end().split("\n\n") {
        let lines = block.trim_start_matches('\n').lines().collect::<Vec<_>>();
        let body = lines.iter().position(|line| !line.starts_with('#')).unwrap_or(lines.len());
        let Some(end) = lines.iter().position(|line| *line == "----") else {
            writeln!(out, "{block}\n").unwrap();
            continue;
        };
        let given = run(&Case::parse(&lines[body..end]));
        writeln!(out, "{}\n----\n{given}\n", lines[..end].join("\n")).unwrap();
        if std::env::var_os("HAYPILE_REWRITE").is_none() {
            let expected = lines[end + 1..].join("\n");
            assert_eq!(given, expected, "{}: {}", path.display(), lines[body..end].join("\n"));
        }
    }
    if std::env::var_os("HAYPILE_REWRITE").is_some() {
        std::fs::write(path, format!("{}\n", out.trim_end())).unwrap();
    }
}

fn text_files(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/testdata").join(folder);
    let mut files = std::fs::read_dir(&folder).unwrap().map(|e| e.unwrap().path()).collect::<Vec<_>>();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "txt"));
    files.sort();
    assert!(!files.is_empty());
    files
}

/// Reads the notation that `FileMeta` prints, followed by what it does not print.
fn parse_file(text: &str) -> FileMeta {
    let (head, tail) = text.split_at(text.find([']', ')']).unwrap() + 1);
    let (number, range) = head.split_once(":[").unwrap();
    let (smallest, largest) = range[..range.len() - 1].split_once("..").unwrap();
    let bound = |text: &str| {
        let (key, sequence) = text.split_once('#').unwrap();
        (key.as_bytes().to_vec(), sequence.parse::<u64>().unwrap())
    };
    let more = format!("file bytes={}", tail.trim());
    let more = Case::parse(&[&more]).arguments;
    let more = more.into_iter().map(|(name, value)| (name, value.parse().unwrap()));
    let more = more.collect::<BTreeMap<&str, u64>>();
    let (smallest, largest) = (bound(smallest), bound(largest));
    let get = |name: &str, default: u64| more.get(name).copied().unwrap_or(default);
    let meta = FileMeta {
        number: number.parse().unwrap(),
        bytes: more["bytes"],
        entries: get("entries", more["bytes"] / 10),
        deletes: get("deletes", 0),
        delete_run: get("run", 0),
        range_deletes: get("ranges", 0),
        smallest: smallest.0,
        largest: largest.0,
        largest_inclusive: head.ends_with(']'),
        smallest_sequence: smallest.1,
        largest_sequence: largest.1,
        created_ms: get("created", 0),
    };
    assert_eq!(meta.fault(), None, "{text}");
    assert!(text.starts_with(&meta.to_string()), "{text} is not in the notation: {meta}");
    meta
}

#[derive(Default)]
struct PickerState {
    options: Option<PickerOptions>,
    levels: [Vec<Arc<FileMeta>>; LEVELS],
    busy: InProgress,
    jobs: Vec<JobId>,
}

impl PickerState {
    fn run(&mut self, case: &Case<'_>) -> String {
        match case.command {
            "options" => self.set_options(case),
            "levels" => self.set_levels(case),
            "pick" => self.pick(case),
            "finish" => self.finish(case),
            other => panic!("unknown command {other}"),
        }
    }

    fn set_options(&mut self, case: &Case<'_>) -> String {
        let old = self.options.take().unwrap_or(PickerOptions {
            l0_trigger: 4,
            base_level_bytes: 1_000,
            level_multiplier: 10,
            table_bytes: 100,
            age_ms: 0,
        });
        let new = PickerOptions {
            l0_trigger: case.number("trigger", old.l0_trigger as u64) as usize,
            base_level_bytes: case.number("base", old.base_level_bytes),
            level_multiplier: case.number("multiplier", old.level_multiplier),
            table_bytes: case.number("table", old.table_bytes),
            age_ms: case.number("age", old.age_ms),
        };
        self.options = Some(new);
        "ok".into()
    }

    fn set_levels(&mut self, case: &Case<'_>) -> String {
        self.levels = Default::default();
        (self.busy, self.jobs) = (InProgress::new(), Vec::new());
        let mut level = 0;
        for line in &case.input {
            let mut file = line.trim();
            if let Some((number, rest)) = file.strip_prefix('L').and_then(|text| text.split_once(": ")) {
                level = number.parse::<usize>().unwrap();
                file = rest;
            }
            self.levels[level].push(Arc::new(parse_file(file.trim())));
        }
        self.levels[0].sort_by(|a, b| newest_first(a, b));
        for files in &mut self.levels[1..] {
            files.sort_by(|a, b| a.smallest.cmp(&b.smallest));
            assert!(files.windows(2).all(|pair| pair[0].range().is_before(&pair[1].smallest)));
        }
        let options = self.options.as_ref().unwrap();
        let levels = std::array::from_fn(|level| self.levels[level].as_slice());
        let shape = Shape::measure(&levels, &CoveredBytes::new(), |_, _| true);
        let targets = targets(&shape.bytes, options);
        let sizes = (targets.base_level..LEVELS)
            .map(|level| format!("L{level} {}/{}", shape.bytes[level], targets.bytes[level]))
            .collect::<Vec<_>>();
        let due = if l0_is_due(&shape, options) { ", due" } else { "" };
        let debt = debt_bytes(&shape, options);
        format!("L0 depth {}{due}; {}; debt {debt}", shape.l0_depth, sizes.join(", "))
    }

    fn pick(&mut self, case: &Case<'_>) -> String {
        let manual = case.text("manual").map(|range| {
            let (start, end) = range.split_once("..").unwrap();
            let end = if end.is_empty() { Bound::Unbounded } else { Bound::Included(end.into()) };
            ManualCompaction {
                range: OwnedKeyRange { start: start.into(), end },
                sequence: case.number("until", SEQUENCE_MAX),
                rewrite_before_ms: case.number("rewrite", 0),
            }
        });
        let covered = case.text("covered").unwrap_or("").split(',').filter_map(|pair| pair.split_once(':'));
        let covered = covered.map(|(file, bytes)| (file.parse().unwrap(), bytes.parse().unwrap()));
        let covered_bytes = covered.collect::<CoveredBytes>();
        let wasted = case.text("wasted").map(|range| {
            let (start, end) = range.split_once("..").unwrap();
            Wasted { first: start.into(), last: end.into(), steps: case.number("steps", 0) }
        });
        let mut lines = Vec::new();
        for _ in 0..case.number("jobs", 1) {
            let input = PickerInput {
                levels: std::array::from_fn(|level| self.levels[level].as_slice()),
                busy: &self.busy,
                options: self.options.as_ref().unwrap(),
                manual: manual.as_ref(),
                wasted: wasted.as_ref(),
                covered_bytes: &covered_bytes,
                oldest_snapshot: case.number("snapshot", SEQUENCE_MAX),
                now_ms: case.number("now", 0),
            };
            let Some(plan) = pick(&input) else {
                let done = manual.is_some() && manual_is_done(&input);
                lines.push(if done { "nothing, manual is done" } else { "nothing" }.to_string());
                break;
            };
            let grandparents = plan.grandparents.iter().map(|file| format!(" {:06}", file.number));
            let grandparents = grandparents.collect::<String>();
            let over = if grandparents.is_empty() { String::new() } else { format!(", over{grandparents}") };
            self.jobs.push(self.busy.start(&plan));
            lines.push(format!("{}: {plan}{over}", self.jobs.len()));
        }
        lines.join("\n")
    }

    fn finish(&mut self, case: &Case<'_>) -> String {
        let which = case.arguments.first().map(|(number, _)| number.parse::<usize>().unwrap());
        let all = 1..=self.jobs.len();
        all.filter(|number| which.is_none_or(|which| which == *number))
            .for_each(|number| self.busy.finish(self.jobs[number - 1]));
        format!("{} running", self.busy.len())
    }
}

#[test]
fn picker() {
    for path in text_files("picker") {
        let mut state = PickerState::default();
        run_file(&path, &mut |case| state.run(case));
    }
}
