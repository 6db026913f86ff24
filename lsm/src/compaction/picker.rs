//! Decides what to compact next. A pure function of the files, the running jobs and the options: no clock, no disk, no lock.
//!
//! One function answers for each reason, and [`pick`] asks them in the order of need:
//!
//! 1. levels that hold up the rest, the most urgent first (`L0`, `LevelSize` of at least 100 %; `IntraL0` if L0 is stuck)
//! 2. what somebody asked for (`Manual`)
//! 3. levels merely above their target (`LevelSize`)
//! 4. space that deletes hold (`Tombstones`), then what readers walk over in vain (`Reads`, see `wasted_steps.rs`), then files that grew
//!    old (`Age`)
//!
//! *Urgency* divides the size of a level by its target, but by no less than `base_level_bytes`: the base level may have a
//! target far below one batch out of L0, and must not starve L0 for it. *Whether* a level is too large is judged by the
//! target itself, with each delete weighing what it will free, so an idle tree settles at its least space.
//!
//! What keeps reads right: a version never passes below an older one of its key. In sorted levels all files of the next
//! level that overlap go along. Out of L0, all older L0 files that overlap go along.

use crate::base::key::{SEQUENCE_MAX, SequenceNumber};
use crate::base::limits::LEVELS;
use crate::compaction::plan::{InProgress, Plan, Reason};
use crate::compaction::targets::{
    BOTTOM, CoveredBytes, LevelFiles, PickerOptions, Shape, Targets, entry_bytes, l0_is_due, l0_urgency,
    percent, targets, weight,
};
use crate::compaction::wasted_steps::Wasted;
use crate::version::file_meta::{FileMeta, OwnedKeyRange, hull, overlapping};
use std::ops::Range;
use std::sync::Arc;

/// Merging fewer L0 files than this into one is not worth it.
const INTRA_L0_FILES_MIN: usize = 3;
/// A young L0 file full of deletes waits this long for others to go down with it.
const L0_PATIENCE_MS: u64 = 60_000;
/// The same for one that holds many deletes and little else: iterators walk over them all.
const DESERT_PATIENCE_MS: u64 = 10_000;
/// So many deletes, and half of its entries, make a file a desert.
const DESERT_DELETES_MIN: u64 = 16 << 10;
/// As many in a row hold up each iterator that comes there, whatever else the file holds: they go down, whatever that frees, unless
/// it costs more bytes than this.
const DESERT_COST_BYTES_MAX: u64 = 256 << 20;
/// Deletes are brought down when they free this much, in hundredths of what that costs.
const TOMBSTONE_GAIN_MIN: u64 = 50;
/// The same for those that have waited long: what is left then is a sixth of what is there.
const OLD_TOMBSTONE_GAIN_MIN: u64 = 15;
/// How long that is.
const OLD_TOMBSTONE_MS: u64 = 600_000;

/// All that a decision rests on.
#[derive(Clone, Debug)]
pub struct PickerInput<'a> {
    /// L0 newest first, the others sorted.
    pub levels: LevelFiles<'a>,
    /// What runs.
    pub busy: &'a InProgress,
    /// Sizes.
    pub options: &'a PickerOptions,
    /// What somebody asked for.
    pub manual: Option<&'a ManualCompaction>,
    /// Where readers take many steps in vain.
    pub wasted: Option<&'a Wasted>,
    /// What range tombstones cover.
    pub covered_bytes: &'a CoveredBytes,
    /// The oldest snapshot; [`SEQUENCE_MAX`] without one. Tombstones at or below it can be dropped from the last level.
    pub oldest_snapshot: SequenceNumber,
    /// Now, in milliseconds since 1970.
    pub now_ms: u64,
}

/// A call to bring all files that overlap a range down to the last level; [`manual_is_done`] tells when they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManualCompaction {
    /// Which keys.
    pub range: OwnedKeyRange,
    /// Only what was written up to here, so that it ends while others write on.
    pub sequence: SequenceNumber,
    /// Files of the last level that were made before this moment (milliseconds since 1970) are rewritten as well, so that
    /// filters see everything. 0 rewrites only those with deletes that can go.
    pub rewrite_before_ms: u64,
}

impl ManualCompaction {
    /// Everything that is there now.
    pub fn of(range: OwnedKeyRange) -> ManualCompaction {
        ManualCompaction { range, sequence: SEQUENCE_MAX, rewrite_before_ms: 0 }
    }
}

/// What to compact next; `None` if nothing needs it or all that does is being worked on.
pub fn pick(input: &PickerInput<'_>) -> Option<Plan> {
    let picker = Picker::new(input);
    let overfull = picker.overfull();
    let pressing = overfull.iter().filter(|(_, urgency)| *urgency >= 100);
    let rest = overfull.iter().filter(|(_, urgency)| *urgency < 100);
    pressing
        .clone()
        .find_map(|&(level, _)| picker.pick_overfull(level))
        .or_else(|| picker.pick_intra_l0())
        .or_else(|| picker.pick_manual())
        .or_else(|| rest.clone().find_map(|&(level, _)| picker.pick_overfull(level)))
        .or_else(|| picker.pick_tombstones())
        .or_else(|| picker.pick_reads())
        .or_else(|| picker.pick_age())
}

/// Whether nothing is left to do for `input.manual`; files that a running job works on count as left.
pub fn manual_is_done(input: &PickerInput<'_>) -> bool {
    let Some(manual) = input.manual else { return true };
    let picker = Picker::new(input);
    (0..LEVELS).all(|level| !picker.files(level).iter().any(|f| picker.manual_wants(manual, level, f)))
}

/// The input and what is derived from it once.
struct Picker<'a> {
    input: &'a PickerInput<'a>,
    /// Without files that are on their way down.
    shape: Shape,
    targets: Targets,
    entry_bytes: u64,
}

impl<'a> Picker<'a> {
    fn new(input: &'a PickerInput<'a>) -> Picker<'a> {
        let whole = input.levels.map(|files| files.iter().map(|file| file.bytes).sum());
        let mut targets = targets(&whole, input.options);
        targets.base_level = targets.base_level.min(input.busy.highest_l0_output());
        // Files that a job merges into are busy too, but they stay; those of L0 all leave.
        let counts = |level: usize, file: &FileMeta| match level {
            0 => !input.busy.is_busy(file.number),
            _ => !input.busy.is_leaving(level, file.number),
        };
        let shape = Shape::measure(&input.levels, input.covered_bytes, counts);
        Picker { input, shape, targets, entry_bytes: entry_bytes(&input.levels) }
    }

    fn options(&self) -> &'a PickerOptions {
        self.input.options
    }

    fn files(&self, level: usize) -> &'a [Arc<FileMeta>] {
        self.input.levels[level]
    }

    fn is_free(&self, file: &FileMeta) -> bool {
        !self.input.busy.is_busy(file.number)
    }

    /// The levels that should shrink and how urgently, in hundredths; the most urgent first, then the higher one.
    fn overfull(&self) -> Vec<(usize, u64)> {
        let (shape, options) = (&self.shape, self.options());
        let mut levels = Vec::new();
        if l0_is_due(shape, options) {
            levels.push((0, l0_urgency(shape, options)));
        }
        for level in 1..BOTTOM {
            let target = self.targets.bytes[level];
            if shape.weights[level] > target {
                levels.push((level, percent(shape.bytes[level], target.max(options.base_level_bytes))));
            }
        }
        levels.sort_by_key(|&(level, urgency)| (std::cmp::Reverse(urgency), level));
        levels
    }

    fn pick_overfull(&self, level: usize) -> Option<Plan> {
        if level == 0 { self.pick_l0() } else { self.pick_level_size(level) }
    }

    /// L0 into the base level: as many runs as fit one job, from the oldest that is free.
    fn pick_l0(&self) -> Option<Plan> {
        self.files(0).iter().rev().find_map(|seed| self.plan(Reason::L0, 0, seed))
    }

    /// The file that costs least: fewest bytes below for a byte that goes down.
    fn pick_level_size(&self, level: usize) -> Option<Plan> {
        let mut seeds = self.costs(level);
        seeds.sort_by_key(|&(cost, file)| (cost, file.number));
        seeds.into_iter().find_map(|(_, file)| self.plan(Reason::LevelSize, level, file))
    }

    /// The youngest runs of L0 into one, while the way to the base is taken. They are neighbours in age, so the result
    /// stands in their place.
    fn pick_intra_l0(&self) -> Option<Plan> {
        if l0_urgency(&self.shape, self.options()) < 200 {
            return None;
        }
        let free = self.files(0).iter().take_while(|file| self.is_free(file)).collect::<Vec<_>>();
        // Take older files as long as each one makes the bytes rewritten for a file less fewer.
        let (mut count, mut bytes, mut best) = (0, 0, u64::MAX);
        for file in &free {
            let cost = (bytes + file.bytes) / (count as u64).max(1);
            if count > 0 && (cost > best || bytes + file.bytes > self.options().job_bytes_max()) {
                break;
            }
            best = if count > 0 { cost } else { best };
            bytes += file.bytes;
            count += 1;
        }
        if count < INTRA_L0_FILES_MIN {
            return None;
        }
        let inputs = free[..count].iter().map(|file| Arc::clone(file)).collect::<Vec<_>>();
        let plan = Plan {
            reason: Reason::IntraL0,
            level: 0,
            output_level: 0,
            inputs: [inputs, Vec::new()],
            grandparents: Vec::new(),
            trivial_move: false,
        };
        self.input.busy.permits(&plan).then_some(plan)
    }

    /// The next step of a manual compaction, from the top down.
    fn pick_manual(&self) -> Option<Plan> {
        let manual = self.input.manual?;
        (0..LEVELS).find_map(|level| {
            // From the end: the oldest of L0.
            let mut files =
                self.files(level).iter().rev().filter(|file| self.manual_wants(manual, level, file));
            files.find_map(|file| self.plan(Reason::Manual, level, file))
        })
    }

    fn manual_wants(&self, manual: &ManualCompaction, level: usize, file: &FileMeta) -> bool {
        let old = file.created_ms < manual.rewrite_before_ms;
        let droppable = file.deletes + file.range_deletes > 0 && self.is_past_snapshots(file);
        file.range().overlaps(&manual.range.as_range())
            && file.smallest_sequence <= manual.sequence
            && (level < BOTTOM || old || droppable)
    }

    /// One step down for the uppermost files between the keys where readers waste their steps, once these pay for it: first for the oldest
    /// of L0, or for the file with the most deletes. Nothing that a snapshot keeps as it is.
    fn pick_reads(&self) -> Option<Plan> {
        let wasted = self.input.wasted?;
        let range = wasted.range();
        let inside = |level: usize| self.files(level).iter().filter(|file| file.range().overlaps(&range));
        let level = (0..BOTTOM).find(|&level| inside(level).next().is_some())?;
        let mut seeds = inside(level).rev().collect::<Vec<_>>();
        if level > 0 {
            seeds.sort_by_key(|file| std::cmp::Reverse(file.deletes));
        }
        let plan = seeds.into_iter().find_map(|file| self.plan(Reason::Reads, level, file))?;
        let [first, second] = &plan.inputs;
        let may_free = first.len() > 1 || !second.is_empty() || first.iter().any(|file| file.deletes > 0);
        let is_kept = first.iter().all(|file| file.smallest_sequence > self.input.oldest_snapshot);
        let entries = sum(first, |file| file.entries).saturating_add(sum(second, |file| file.entries));
        (may_free && !is_kept && wasted.pays_for(entries, plan.input_bytes())).then_some(plan)
    }

    /// The file whose deletes free the most for what it costs to bring them down.
    fn pick_tombstones(&self) -> Option<Plan> {
        let mut gains = Vec::new();
        for level in 0..LEVELS {
            for file in self.files(level).iter().filter(|file| file.deletes + file.range_deletes > 0) {
                let (mut gain, cost_bytes) =
                    if level == BOTTOM { self.gain_at_bottom(file) } else { self.gain(level, file) };
                let age_ms = self.input.now_ms.saturating_sub(file.created_ms);
                if file.delete_run >= DESERT_DELETES_MIN
                    && age_ms >= DESERT_PATIENCE_MS
                    && cost_bytes <= DESERT_COST_BYTES_MAX
                {
                    gain = gain.max(TOMBSTONE_GAIN_MIN);
                }
                let is_old = age_ms >= OLD_TOMBSTONE_MS;
                let worthwhile = if is_old { OLD_TOMBSTONE_GAIN_MIN } else { TOMBSTONE_GAIN_MIN };
                gains.extend((gain >= worthwhile).then_some((gain, level, file)));
            }
        }
        gains.sort_by_key(|&(gain, level, file)| (std::cmp::Reverse(gain), level, file.number));
        gains.into_iter().find_map(|(_, level, file)| self.plan(Reason::Tombstones, level, file))
    }

    /// What the deletes of a file, and of those that go down with it, free, in hundredths of what one step down costs, and that cost in
    /// bytes. A delete frees itself and at most one entry below.
    fn gain(&self, level: usize, file: &Arc<FileMeta>) -> (u64, u64) {
        let first = if level == 0 { self.l0_stack(file) } else { Some(vec![Arc::clone(file)]) };
        let Some(first) = first else { return (0, u64::MAX) };
        let Some(range) = hull(refs(&first)) else { return (0, u64::MAX) };
        let output = self.output_level(level);
        let below = &self.files(output)[overlapping(self.files(output), &range)];
        let (bytes, met) = (total(&first), total(below));
        let desert = file.deletes >= DESERT_DELETES_MIN && file.deletes >= file.entries / 2;
        let patience_ms = if desert { DESERT_PATIENCE_MS } else { L0_PATIENCE_MS };
        let young = self.input.now_ms.saturating_sub(file.created_ms) < patience_ms;
        let covered = |file: &FileMeta| self.input.covered_bytes.get(&file.number).copied().unwrap_or(0);
        let mut freed = refs(&first).fold(0u64, |sum, file| sum.saturating_add(covered(file)));
        if level > 0 || !young {
            let (deletes, entries) = (sum(&first, |file| file.deletes), sum(&first, |file| file.entries));
            let own = u128::from(bytes) * u128::from(deletes) / u128::from(entries.max(1));
            // Those below say best how large they are: an average over all would count the deletes themselves.
            let entry_bytes = met / sum(below, |file| file.entries).max(1);
            let hit = deletes.saturating_mul(entry_bytes).min(met);
            freed = freed.saturating_add(hit).saturating_add(u64::try_from(own).unwrap_or(u64::MAX));
        }
        let cost_bytes = bytes.saturating_add(met);
        (percent(freed, cost_bytes), cost_bytes)
    }

    /// Tombstones are in the last level only because a snapshot kept them there. Once it is gone, a rewrite drops all.
    fn gain_at_bottom(&self, file: &FileMeta) -> (u64, u64) {
        let worthwhile = file.range_deletes > 0 || file.deletes >= file.entries / 4;
        match self.is_past_snapshots(file) {
            true => (if worthwhile { 100 } else { 0 }, file.bytes),
            false => (0, u64::MAX),
        }
    }

    fn is_past_snapshots(&self, file: &FileMeta) -> bool {
        file.largest_sequence <= self.input.oldest_snapshot
    }

    /// The oldest file that is over age.
    fn pick_age(&self) -> Option<Plan> {
        let age_ms = self.options().age_ms;
        if age_ms == 0 {
            return None;
        }
        let before_ms = self.input.now_ms.saturating_sub(age_ms);
        let mut old = (0..LEVELS)
            .flat_map(|level| self.files(level).iter().map(move |file| (level, file)))
            .filter(|(_, file)| file.created_ms < before_ms)
            .collect::<Vec<_>>();
        old.sort_by_key(|(level, file)| (file.created_ms, *level, file.number));
        old.into_iter().find_map(|(level, file)| self.plan(Reason::Age, level, file))
    }

    /// Where files of a level go.
    fn output_level(&self, level: usize) -> usize {
        if level == 0 { self.targets.base_level } else { (level + 1).min(BOTTOM) }
    }

    /// The plan that takes `seed` down (or rewrites it, in the last level) with all that has to go along; `None` if any of
    /// that is busy.
    fn plan(&self, reason: Reason, level: usize, seed: &Arc<FileMeta>) -> Option<Plan> {
        if !self.is_free(seed) {
            return None;
        }
        let output_level = self.output_level(level);
        let mut first = if level == 0 { self.l0_stack(seed)? } else { vec![Arc::clone(seed)] };
        let mut second = Vec::new();
        if output_level != level {
            let below = overlapping(self.files(output_level), &hull(refs(&first))?);
            if level > 0 {
                first = self.widened(level, first, &below);
            }
            second = self.files(output_level)[below].to_vec();
        }
        let grandparents = match self.input.levels.get(output_level + 1) {
            Some(files) => files[overlapping(files, &hull(refs(&first).chain(refs(&second)))?)].to_vec(),
            None => Vec::new(),
        };
        let disjoint = |files: &[Arc<FileMeta>]| {
            files.iter().enumerate().all(|(i, a)| files[..i].iter().all(|b| !a.range().overlaps(&b.range())))
        };
        // Moving a file keeps its tombstones (and what a filter would drop), so who is after those merges.
        let trivial_move = output_level != level
            && second.is_empty()
            && !matches!(reason, Reason::Reads | Reason::Tombstones | Reason::Age)
            && total(&grandparents) <= self.options().grandparent_bytes_max()
            && disjoint(&first);
        let plan = Plan { reason, level, output_level, inputs: [first, second], grandparents, trivial_move };
        self.input.busy.permits(&plan).then_some(plan)
    }

    /// `seed`, every older L0 file that has to go along, and younger ones that overlap as far as the job stays small.
    fn l0_stack(&self, seed: &Arc<FileMeta>) -> Option<Vec<Arc<FileMeta>>> {
        let files = self.files(0);
        let at = files.iter().position(|file| file.number == seed.number)?;
        let mut taken = self.with_older_overlaps(vec![at])?;
        for younger in (0..at).rev() {
            let around = hull(taken.iter().map(|&i| files[i].as_ref()))?;
            if taken.contains(&younger) || !files[younger].range().overlaps(&around) {
                continue;
            }
            let Some(more) = self.with_older_overlaps([taken.as_slice(), &[younger]].concat()) else { break };
            if more.iter().map(|&i| files[i].bytes).sum::<u64>() > self.options().job_bytes_max() {
                break;
            }
            taken = more;
        }
        taken.sort_unstable();
        Some(taken.into_iter().map(|i| Arc::clone(&files[i])).collect())
    }

    /// Adds places of L0 files until none is left that is older than one taken and overlaps their range; `None` if one of
    /// them is busy.
    fn with_older_overlaps(&self, mut taken: Vec<usize>) -> Option<Vec<usize>> {
        let files = self.files(0);
        loop {
            let around = hull(taken.iter().map(|&i| files[i].as_ref()))?;
            let youngest = taken.iter().copied().min()?;
            let missing = (youngest..files.len())
                .filter(|i| !taken.contains(i) && files[*i].range().overlaps(&around))
                .collect::<Vec<_>>();
            if missing.is_empty() {
                return taken.iter().all(|&i| self.is_free(&files[i])).then_some(taken);
            }
            taken.extend(missing);
        }
    }

    /// More files of `level` that can go along without touching more below than `below`: they save rewriting the edges of
    /// those files again.
    fn widened(&self, level: usize, first: Vec<Arc<FileMeta>>, below: &Range<usize>) -> Vec<Arc<FileMeta>> {
        let lower = &self.files(level + 1)[below.clone()];
        let Some(around) = hull(refs(&first).chain(refs(lower))).filter(|_| !lower.is_empty()) else {
            return first;
        };
        let inside = |file: &Arc<FileMeta>| {
            let met = overlapping(self.files(level + 1), &file.range());
            self.is_free(file) && (met.is_empty() || (below.start <= met.start && met.end <= below.end))
        };
        let candidates = &self.files(level)[overlapping(self.files(level), &around)];
        let Some(seed) = candidates.iter().position(|file| file.number == first[0].number) else {
            return first;
        };
        let (mut from, mut to) = (seed, seed + 1);
        let mut bytes = total(lower).saturating_add(candidates[seed].bytes);
        let fits =
            |bytes: u64, file: &FileMeta| bytes.saturating_add(file.bytes) <= self.options().job_bytes_max();
        while to < candidates.len() && inside(&candidates[to]) && fits(bytes, &candidates[to]) {
            bytes += candidates[to].bytes;
            to += 1;
        }
        while from > 0 && inside(&candidates[from - 1]) && fits(bytes, &candidates[from - 1]) {
            from -= 1;
            bytes += candidates[from].bytes;
        }
        candidates[from..to].to_vec()
    }

    /// Free files of a sorted level with what it costs to bring each down: hundredths of a byte rewritten below for each byte
    /// that goes. Deletes weigh what they will free, so they go first.
    fn costs(&self, level: usize) -> Vec<(u64, &'a Arc<FileMeta>)> {
        let below = self.files(level + 1);
        let mut first = 0;
        let mut costs = Vec::with_capacity(self.files(level).len());
        for file in self.files(level) {
            let range = file.range();
            while first < below.len() && below[first].range().is_before(range.start) {
                first += 1;
            }
            let met = below[first..].iter().take_while(|f| f.range().overlaps(&range));
            let bytes = met.map(|f| f.bytes).sum::<u64>();
            if self.is_free(file) {
                let weight = weight(file, self.entry_bytes, self.input.covered_bytes);
                costs.push((percent(bytes, weight), file));
            }
        }
        costs
    }
}

fn refs(files: &[Arc<FileMeta>]) -> impl Iterator<Item = &FileMeta> {
    files.iter().map(Arc::as_ref)
}

fn sum(files: &[Arc<FileMeta>], of: fn(&FileMeta) -> u64) -> u64 {
    refs(files).fold(0, |sum, file| sum.saturating_add(of(file)))
}

fn total(files: &[Arc<FileMeta>]) -> u64 {
    sum(files, |file| file.bytes)
}
