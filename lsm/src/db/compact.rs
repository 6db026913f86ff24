//! Compaction: picks plans that do not get in each other's way, runs them, installs what they made.

use crate::base::batch::KeyspaceId;
use crate::base::error::{Error, Result};
use crate::base::iter::InternalIterator;
use crate::base::key::{SEQUENCE_MAX, common_prefix};
use crate::base::limits::LEVELS;
use crate::base::metrics::Metrics;
use crate::base::range_delete::RangeTombstones;
use crate::compaction::job::{JobInput, JobOutput, write_tables};
use crate::compaction::picker::{ManualCompaction, PickerInput, pick};
use crate::compaction::plan::{InProgress, JobId, Plan, Reason};
use crate::compaction::targets::{CoveredBytes, Shape, debt_bytes};
use crate::db::state::{Jobs, Shared, lock};
use crate::db::view::KeyspaceView;
use crate::merge::merging_iter::MergingIter;
use crate::table::table_iter::TableIterOptions;
use crate::version::edit::{FileAdded, FileRemoved, VersionEdit};
use crate::version::file_meta::{FileMeta, KeyRange, OwnedKeyRange};
use crate::version::level_iter::LevelIter;
use crate::version::version::{Level, TableFile, Version};
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How long a keyspace in which a compaction met damage or a full disk is left alone, so that others get their turn.
const STUCK_PAUSE: Duration = Duration::from_secs(2);

/// A plan that this thread has claimed.
struct Claimed {
    keyspace: Arc<KeyspaceView>,
    plan: Plan,
    job: JobId,
}

/// Runs the most urgent compaction there is. Returns whether there was one.
pub fn compact_one(shared: &Arc<Shared>) -> Result<bool> {
    let claimed = {
        let mut jobs = lock(&shared.jobs);
        if jobs.paused > 0 || shared.log.is_poisoned() {
            return Ok(false);
        }
        // The view is loaded under the lock: a job leaves `compacting` only after its install, so a file that this view still has
        // and that is not busy is really there.
        let view = shared.view.load_owned();
        let now = shared.env.monotonic();
        let plans = view
            .keyspaces()
            .filter(|keyspace| jobs.stuck.get(&keyspace.id).is_none_or(|&until| until <= now))
            .filter_map(|keyspace| Some((keyspace, plan_for(shared, &jobs, keyspace, None)?)));
        let Some((keyspace, plan)) = plans.min_by_key(|(_, plan)| rank(plan.reason)) else {
            return Ok(false);
        };
        claim(&mut jobs, keyspace, plan)
    };
    run_claimed(shared, claimed).map(|()| true)
}

/// Whether some compaction should run or runs.
pub fn is_due(shared: &Shared) -> bool {
    let jobs = lock(&shared.jobs);
    let view = shared.view.load_owned();
    view.keyspaces().any(|keyspace| plan_for(shared, &jobs, keyspace, None).is_some())
}

/// What one look at a manual compaction came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RangeStep {
    /// Nothing is left to do.
    Done,
    /// A job was run.
    Worked,
    /// Jobs of others are in the way.
    Busy,
}

/// Runs one job on the way of `[start, end)` to the bottom, on the calling thread.
pub fn compact_range_once(
    shared: &Arc<Shared>,
    id: KeyspaceId,
    start: Option<&[u8]>,
    end: Option<&[u8]>,
    rewrite_before_ms: u64,
) -> Result<RangeStep> {
    let end = end.map_or(Bound::Unbounded, |end| Bound::Excluded(end.to_vec()));
    let range = OwnedKeyRange { start: start.unwrap_or_default().to_vec(), end };
    let manual = ManualCompaction { range, sequence: SEQUENCE_MAX, rewrite_before_ms };
    let claimed = {
        let mut jobs = lock(&shared.jobs);
        let view = shared.view.load_owned();
        let keyspace = view.keyspace(id).ok_or_else(|| Error::invalid(format!("no keyspace {id}")))?;
        match plan_for(shared, &jobs, keyspace, Some(&manual)) {
            Some(plan) => claim(&mut jobs, keyspace, plan),
            None if jobs.compacting.get(&id).is_none_or(InProgress::is_empty) => return Ok(RangeStep::Done),
            None => return Ok(RangeStep::Busy),
        }
    };
    run_claimed(shared, claimed)?;
    Ok(RangeStep::Worked)
}

fn rank(reason: Reason) -> usize {
    match reason {
        Reason::L0 => 0,
        Reason::IntraL0 => 1,
        Reason::LevelSize => 2,
        Reason::Manual => 3,
        Reason::Tombstones => 4,
        Reason::Reads => 5,
        Reason::Age => 6,
    }
}

fn plan_for(
    shared: &Shared,
    jobs: &Jobs,
    keyspace: &KeyspaceView,
    manual: Option<&ManualCompaction>,
) -> Option<Plan> {
    let none = InProgress::new();
    let version = &keyspace.version;
    pick(&PickerInput {
        levels: version.metas(),
        busy: jobs.compacting.get(&keyspace.id).unwrap_or(&none),
        options: &shared.picker_options(),
        manual,
        wasted: keyspace.wasted_steps.due().as_ref(),
        covered_bytes: &covered_bytes(shared, version),
        oldest_snapshot: shared.snapshots.sequences().first().copied().unwrap_or(SEQUENCE_MAX),
        now_ms: shared.env.unix_ms(),
    })
}

/// A file of L0 younger than this goes down with others soon; only then what it covers beside it counts.
const L0_COVER_PATIENCE_MS: u64 = 10_000;

/// For each file with range tombstones: how many bytes of older tables they cover. A file that cannot be opened counts as covering
/// none; whoever reads it will hear why.
fn covered_bytes(shared: &Shared, version: &Version) -> CoveredBytes {
    let now_ms = shared.env.unix_ms();
    let mut covered = CoveredBytes::new();
    for (number, level) in version.levels().iter().enumerate().filter(|(_, level)| level.has_range_deletes())
    {
        for (place, file) in
            level.files().iter().enumerate().filter(|(_, file)| file.meta().range_deletes > 0)
        {
            // Of a young one as if it were the oldest of L0.
            let young = now_ms.saturating_sub(file.meta().created_ms) < L0_COVER_PATIENCE_MS;
            let holder = if number == 0 && young { (0, level.files().len()) } else { (number, place) };
            if let Ok(table) = file.table(&shared.opener, false) {
                let bytes = version.covered_bytes(Some(holder), table.range_tombstones());
                covered.insert(file.number(), bytes);
            }
        }
    }
    covered
}

fn claim(jobs: &mut Jobs, keyspace: &Arc<KeyspaceView>, plan: Plan) -> Claimed {
    if plan.reason == Reason::Reads {
        keyspace.wasted_steps.spend();
    }
    let job = jobs.compacting.entry(keyspace.id).or_default().start(&plan);
    Claimed { keyspace: keyspace.clone(), plan, job }
}

fn run_claimed(shared: &Arc<Shared>, claimed: Claimed) -> Result<()> {
    // Relaxed, both: a counter for people.
    shared.running_compactions.fetch_add(1, Ordering::Relaxed);
    let result = run(shared, &claimed);
    shared.running_compactions.fetch_sub(1, Ordering::Relaxed);
    let id = claimed.keyspace.id;
    let mut jobs = lock(&shared.jobs);
    if let Some(running) = jobs.compacting.get_mut(&id) {
        running.finish(claimed.job);
    }
    let is_stuck = result.as_ref().is_err_and(|error| error.is_corruption() || error.is_no_space());
    // In a stepped environment time may stand still, and whoever steps decides what is tried again.
    let newly_stuck = is_stuck && shared.threaded.load(Ordering::Relaxed) && {
        let until = shared.env.monotonic() + STUCK_PAUSE;
        jobs.stuck.insert(id, until).is_none()
    };
    let healed = result.is_ok() && jobs.stuck.remove(&id).is_some();
    drop(jobs);
    if newly_stuck || healed {
        update_load(shared);
    }
    shared.signal();
    result
}

fn run(shared: &Arc<Shared>, claimed: &Claimed) -> Result<()> {
    let Claimed { keyspace, plan, .. } = claimed;
    let started = shared.env.monotonic();
    let mut edit = VersionEdit::default();
    for (inputs, level) in plan.inputs.iter().zip([plan.level, plan.output_level]) {
        for file in inputs {
            edit.files_removed.push(FileRemoved { keyspace: keyspace.id, level, number: file.number });
        }
    }
    if plan.trivial_move {
        for file in &plan.inputs[0] {
            edit.files_added.push(added(keyspace.id, plan, file.clone()));
        }
        install(shared, keyspace.id, edit, Vec::new())?;
        Metrics::add(&shared.metrics.trivial_moves, 1);
        return Ok(());
    }
    let output = merge(shared, keyspace, plan)?;
    let written = output.files.iter().map(|file| file.bytes).sum();
    for file in output.files {
        edit.files_added.push(added(keyspace.id, plan, Arc::new(file)));
    }
    install(shared, keyspace.id, edit, output.notes)?;

    let elapsed = shared.env.monotonic().saturating_sub(started);
    Metrics::add(&shared.metrics.compactions, 1);
    Metrics::add(&shared.metrics.compaction_bytes_written, written);
    Metrics::add(&shared.metrics.entries_dropped, output.dropped);
    Metrics::add(&shared.metrics.background_us, elapsed.as_micros() as u64);
    Ok(())
}

fn added(keyspace: KeyspaceId, plan: &Plan, meta: Arc<FileMeta>) -> FileAdded {
    FileAdded { keyspace, level: plan.output_level, meta }
}

fn merge(shared: &Arc<Shared>, keyspace: &KeyspaceView, plan: &Plan) -> Result<JobOutput> {
    let version = &keyspace.version;
    let options = TableIterOptions::compaction();
    let mut sources: Vec<Box<dyn InternalIterator>> = Vec::new();
    let mut tombstones = Vec::new();
    for (inputs, level) in plan.inputs.iter().zip([plan.level, plan.output_level]) {
        let files = inputs.iter().map(|meta| find_file(version, level, meta)).collect::<Result<Vec<_>>>()?;
        for file in files.iter().filter(|file| file.meta().range_deletes > 0) {
            tombstones.extend(file.table(&shared.opener, false)?.range_tombstones().tombstones());
        }
        if level == 0 {
            for file in &files {
                sources.push(Box::new(file.table(&shared.opener, false)?.iter(options)));
            }
        } else if !files.is_empty() {
            sources.push(Box::new(LevelIter::new(
                Arc::new(Level::new(level, files)),
                shared.opener.clone(),
                options,
                &KeyRange::ALL,
            )));
        }
    }
    // Older versions can lie in deeper levels, and for a merge within L0 in older runs beside it: there, nothing is the bottom.
    let below = plan.output_level + 1;
    let within_l0 = plan.output_level == 0;
    let bottom = |key: &[u8]| !within_l0 && version.is_clear(below..LEVELS, &KeyRange::point(key));
    let bottom_range = |start: &[u8], end: &[u8]| {
        !within_l0 && version.is_clear(below..LEVELS, &KeyRange { start, end: Bound::Excluded(end) })
    };
    let new_number = || shared.new_file_number();
    let prefix = plan.hull().map_or(&[][..], |hull| match hull.end {
        Bound::Included(end) | Bound::Excluded(end) => common_prefix(hull.start, end),
        Bound::Unbounded => &[],
    });
    write_tables(
        &mut MergingIter::new(sources).with_prefix(prefix),
        JobInput {
            env: &shared.env,
            dir: shared.dir(),
            new_number: &new_number,
            options: keyspace.options,
            table_bytes: if within_l0 { u64::MAX } else { shared.options.table_bytes },
            grandparents: &plan.grandparents,
            snapshots: shared.snapshots.sequences(),
            bottom: &bottom,
            bottom_range: &bottom_range,
            tombstones: RangeTombstones::build(tombstones),
            into_l0: within_l0,
            hooks: keyspace.hooks.clone(),
            should_stop: &|| shared.stop.load(Ordering::SeqCst),
        },
    )
}

fn find_file(version: &Version, level: usize, meta: &FileMeta) -> Result<Arc<TableFile>> {
    match version.find(meta.number) {
        Some((at, file)) if at == level => Ok(file.clone()),
        _ => Err(Error::invalid(format!("file {:06} has left L{level}", meta.number))),
    }
}

fn install(shared: &Shared, id: KeyspaceId, mut edit: VersionEdit, notes: Vec<Vec<u8>>) -> Result<()> {
    let mut manifest = lock(&shared.manifest);
    Shared::number_notes(&manifest, &mut edit, id, notes);
    edit.next_file_number = Some(shared.next_file_number.load(Ordering::Relaxed));
    shared.append_edit(&mut manifest, &edit)?;
    let mut added = Vec::new();
    // Versions change under the manifest's lock only, so this is still the current one when the view changes. A commit may wait for the
    // view's lock: what takes long is done before it.
    let view = shared.view.load_owned();
    if let Some(old) = view.keyspace(id) {
        let applied = old.version.apply(id, &edit, &shared.reaper)?;
        let version = Arc::new(applied.version);
        set_version(shared, id, |next| next.version = version);
        applied.removed.iter().for_each(|file| file.mark_obsolete());
        added = applied.added;
    }
    drop(manifest);
    warm(shared, &added);
    update_load(shared);
    Ok(())
}

/// Changes a keyspace of the current view. Requires: the caller holds `manifest`.
pub fn set_version(shared: &Shared, id: KeyspaceId, change: impl FnOnce(&mut KeyspaceView)) {
    let writer = shared.view.writer();
    let view = writer.current();
    if let Some(now) = view.keyspace(id) {
        let mut next: KeyspaceView = (**now).clone();
        change(&mut next);
        writer.replace(view.with(next));
    }
}

/// Opens new tables and brings their filters and indexes into the cache, so that no reader has to, and a blind write can ask the
/// filters. A failure is the next reader's to report.
pub fn warm(shared: &Shared, added: &[Arc<TableFile>]) {
    for file in added {
        let _ = file.table(&shared.opener, false).and_then(|table| table.warm());
    }
}

/// Works out how far compaction is behind, for the write delay. Called after every install.
pub fn update_load(shared: &Shared) {
    let view = shared.view.load_owned();
    let options = shared.picker_options();
    let stuck = lock(&shared.jobs).stuck.keys().copied().collect::<Vec<_>>();
    let (mut runs, mut debt) = (0, 0);
    for keyspace in view.keyspaces().filter(|keyspace| !stuck.contains(&keyspace.id)) {
        let covered = covered_bytes(shared, &keyspace.version);
        let shape = Shape::measure(&keyspace.version.metas(), &covered, |_, _| true);
        runs = runs.max(shape.l0_depth as u64);
        debt += debt_bytes(&shape, &options);
    }
    // Relaxed: hints for a controller.
    shared.level0_runs.store(runs, Ordering::Relaxed);
    shared.debt_bytes.store(debt, Ordering::Relaxed);
}
