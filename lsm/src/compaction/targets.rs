//! How large each level should be, and how far the tree is from it.
//!
//! Sizes are derived from the bottom up. The last level is as large as it is; each level above may hold a
//! `level_multiplier`th of the one below, until that is less than `base_level_bytes`: that level is the *base*, where L0
//! is compacted to, and the levels above it stay empty.
//!
//! ```text
//! L0  the youngest runs
//! L1..L3   empty
//! L4  base: 30 MiB      of at most base_level_bytes (128 MiB)
//! L5  300 MiB
//! L6  3 GiB             all that lies above it is at most a ninth of it
//! ```
//!
//! So nearly all data sits in the last level whatever the size of the tree, and at most about a tenth of the space is
//! taken by versions that a lower level holds again. All functions here are pure.

use crate::base::limits::LEVELS;
use crate::base::options::Options;
use crate::version::file_meta::{FileMeta, newest_first};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The last level. Data never lies below it.
pub const BOTTOM: usize = LEVELS - 1;

/// What picking and measuring need to know of the options.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PickerOptions {
    /// L0 runs at which compaction into the base level starts.
    pub l0_trigger: usize,
    /// Greatest target of the base level.
    pub base_level_bytes: u64,
    /// Each level's size over the one above.
    pub level_multiplier: u64,
    /// Target size of a table file.
    pub table_bytes: u64,
    /// Files older than this are compacted even if nothing else asks for it, so that filters see them; 0 for never.
    pub age_ms: u64,
}

impl PickerOptions {
    /// The part of a database's options that matters here.
    pub fn new(options: &Options) -> PickerOptions {
        PickerOptions {
            l0_trigger: options.l0_compaction_trigger,
            base_level_bytes: options.base_level_bytes,
            level_multiplier: options.level_multiplier,
            table_bytes: options.table_bytes,
            age_ms: 0,
        }
    }

    /// A job takes no more than it must once it reads this many bytes.
    pub fn job_bytes_max(&self) -> u64 {
        self.table_bytes.saturating_mul(25)
    }

    /// A file that overlaps more than this two levels down is rewritten rather than moved, so that it is cut to pieces
    /// that later jobs can take one by one.
    pub fn grandparent_bytes_max(&self) -> u64 {
        self.table_bytes.saturating_mul(10)
    }
}

/// The files of each level: L0 newest first, the others sorted by key.
pub type LevelFiles<'a> = [&'a [Arc<FileMeta>]; LEVELS];

/// For files with range tombstones, by number: how many bytes of older tables they cover. Files that are missing cover none.
pub type CoveredBytes = BTreeMap<u64, u64>;

/// The sizes of a tree.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shape {
    /// Bytes of each level.
    pub bytes: [u64; LEVELS],
    /// The same with each delete weighing what it will free: this is what targets are compared with, so that trash, too, is
    /// at most about a tenth of the tree.
    pub weights: [u64; LEVELS],
    /// The most L0 files that lie over one key: what a read has to look through.
    pub l0_depth: usize,
}

impl Shape {
    /// Measures the files for which `counts(level, file)` holds.
    pub fn measure(
        levels: &LevelFiles<'_>,
        covered_bytes: &CoveredBytes,
        counts: impl Fn(usize, &FileMeta) -> bool,
    ) -> Shape {
        let entry_bytes = entry_bytes(levels);
        let mut shape = Shape::default();
        let mut l0 = Vec::new();
        for (level, files) in levels.iter().enumerate() {
            for file in files.iter().filter(|file| counts(level, file)) {
                shape.bytes[level] = shape.bytes[level].saturating_add(file.bytes);
                let weight = weight(file, entry_bytes, covered_bytes);
                shape.weights[level] = shape.weights[level].saturating_add(weight);
                if level == 0 {
                    l0.push(file.as_ref());
                }
            }
        }
        shape.l0_depth = depth(l0);
        shape
    }
}

/// Average length of an entry of the tree.
pub fn entry_bytes(levels: &LevelFiles<'_>) -> u64 {
    let sum = |of: fn(&FileMeta) -> u64| {
        levels.iter().flat_map(|files| files.iter()).fold(0u64, |sum, file| sum.saturating_add(of(file)))
    };
    sum(|file| file.bytes) / sum(|file| file.entries).max(1)
}

/// The bytes of a file and those that its deletes will free.
pub fn weight(file: &FileMeta, entry_bytes: u64, covered_bytes: &CoveredBytes) -> u64 {
    let covered = covered_bytes.get(&file.number).copied().unwrap_or(0);
    file.bytes.saturating_add(file.deletes.saturating_mul(entry_bytes)).saturating_add(covered)
}

/// Stacks files from the oldest on, each upon the highest that it overlaps, and says how high that gets.
fn depth(mut files: Vec<&FileMeta>) -> usize {
    files.sort_by(|a, b| newest_first(b, a));
    let mut stacked: Vec<(&FileMeta, usize)> = Vec::with_capacity(files.len());
    for file in files {
        let below = stacked.iter().filter(|(other, _)| other.range().overlaps(&file.range()));
        let height = 1 + below.map(|(_, height)| *height).max().unwrap_or(0);
        stacked.push((file, height));
    }
    stacked.iter().map(|(_, height)| *height).max().unwrap_or(0)
}

/// What [`targets`] works out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Targets {
    /// Where L0 goes: no data lies between L0 and it.
    pub base_level: usize,
    /// What each level may hold. 0 for L0 (which is judged by its depth) and above the base; that of the last is its size.
    pub bytes: [u64; LEVELS],
}

/// Works out the base level and the target of each level.
pub fn targets(bytes: &[u64; LEVELS], options: &PickerOptions) -> Targets {
    let mut targets = [0; LEVELS];
    let mut base_level = BOTTOM;
    targets[BOTTOM] = bytes[BOTTOM];
    while targets[base_level] > options.base_level_bytes && base_level > 1 {
        targets[base_level - 1] = (targets[base_level] / options.level_multiplier).max(1);
        base_level -= 1;
    }
    // A tree that shrank still has data above: it drains (its target is 0), and nothing younger may pass below it.
    let first_filled = (1..LEVELS).find(|&level| bytes[level] > 0).unwrap_or(BOTTOM);
    Targets { base_level: base_level.min(first_filled), bytes: targets }
}

/// How badly L0 wants to go down: by depth, or by bytes where its files lie side by side. In hundredths; 100 means now.
pub fn l0_urgency(shape: &Shape, options: &PickerOptions) -> u64 {
    let by_depth = (shape.l0_depth as u64).saturating_mul(100) / options.l0_trigger.max(1) as u64;
    by_depth.max(percent(shape.bytes[0], options.base_level_bytes))
}

/// Whether L0 should go down, be it for its deletes.
pub fn l0_is_due(shape: &Shape, options: &PickerOptions) -> bool {
    l0_urgency(shape, options) >= 100 || shape.weights[0] >= options.base_level_bytes
}

/// `part` of `whole` in hundredths.
pub fn percent(part: u64, whole: u64) -> u64 {
    let percent = u128::from(part) * 100 / u128::from(whole.max(1));
    u64::try_from(percent).unwrap_or(u64::MAX)
}

/// Bytes that compaction will read and write back until no level is over its target, counting what each level hands to the
/// next. 0 exactly if no level asks to shrink.
pub fn debt_bytes(shape: &Shape, options: &PickerOptions) -> u64 {
    let targets = targets(&shape.bytes, options);
    let mut debt = 0u64;
    let mut incoming = 0;
    if l0_is_due(shape, options) {
        incoming = shape.bytes[0];
        debt = incoming.saturating_add(shape.bytes[targets.base_level]);
    }
    for level in targets.base_level..BOTTOM {
        let size = shape.bytes[level].saturating_add(incoming);
        let weight = shape.weights[level].saturating_add(incoming);
        let excess = weight.saturating_sub(targets.bytes[level]).min(size);
        // Each byte that leaves is merged with its share of the level below.
        let below = u128::from(shape.bytes[level + 1]) * u128::from(excess) / u128::from(size.max(1));
        debt = debt.saturating_add(excess).saturating_add(u64::try_from(below).unwrap_or(u64::MAX));
        incoming = excess;
    }
    debt
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn options() -> PickerOptions {
        PickerOptions {
            l0_trigger: 4,
            base_level_bytes: 100,
            level_multiplier: 10,
            table_bytes: 10,
            age_ms: 0,
        }
    }

    fn shape(l0_depth: usize, bytes: [u64; LEVELS]) -> Shape {
        Shape { bytes, weights: bytes, l0_depth }
    }

    #[test]
    fn the_base_rises_with_the_tree() {
        let base = |last| targets(&[0, 0, 0, 0, 0, 0, last], &options()).base_level;
        assert_eq!([0, 100, 101, 1_009, 1_010, 10_100, u64::MAX].map(base), [6, 6, 5, 5, 4, 3, 1]);
        let grown = targets(&[0, 0, 0, 0, 5, 50, 5_000], &options());
        assert_eq!((grown.base_level, grown.bytes), (4, [0, 0, 0, 0, 50, 500, 5_000]));
    }

    #[test]
    fn a_shrunken_tree_drains() {
        let shrunk = targets(&[0, 0, 0, 0, 5, 50, 60], &options());
        assert_eq!((shrunk.base_level, shrunk.bytes[4], shrunk.bytes[5]), (4, 0, 0));
        assert!(debt_bytes(&shape(0, [0, 0, 0, 0, 5, 50, 60]), &options()) > 55);
    }

    #[test]
    fn debt_counts_what_cascades() {
        assert_eq!(debt_bytes(&shape(3, [30, 0, 0, 0, 0, 20, 1_000]), &options()), 0);
        // 40 of L0 meet 20 in L5, nothing is above target there.
        assert_eq!(debt_bytes(&shape(4, [40, 0, 0, 0, 0, 20, 1_000]), &options()), 60);
        // L5 then holds 140 of 100: 40 go down and meet 40/140 of 1000.
        assert_eq!(debt_bytes(&shape(4, [40, 0, 0, 0, 0, 100, 1_000]), &options()), 140 + 40 + 285);
    }

    proptest! {
        #[test]
        fn anything_goes(bytes: [u64; LEVELS], l0_depth in 0usize..100, base: u64) {
            let options = PickerOptions { base_level_bytes: base, ..options() };
            let targets = targets(&bytes, &options);
            prop_assert!((1..LEVELS).contains(&targets.base_level));
            prop_assert!(bytes[1..targets.base_level].iter().all(|&b| b == 0));
            let _ = debt_bytes(&shape(l0_depth, bytes), &options);
        }

        #[test]
        fn at_target_no_more_than_a_ninth_lies_above(last in 0u64..1 << 50) {
            let targets = targets(&[0, 0, 0, 0, 0, 0, last], &options()).bytes;
            prop_assert!(targets[..BOTTOM].iter().sum::<u64>() <= last / 9 + 1);
        }
    }
}
