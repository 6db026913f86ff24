//! A compaction that was decided on, and the set of those that run.
//!
//! Two jobs of a keyspace may run side by side if they share no input file and do not write overlapping ranges of keys into
//! one level: each level below L0 stays sorted and disjoint whichever finishes first. [`InProgress`] keeps what that takes.
//! One keyspace has one `InProgress`, guarded by whoever calls the picker.

use crate::base::limits::LEVELS;
use crate::version::file_meta::{FileMeta, KeyRange, OwnedKeyRange, hull};
use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

/// What asked for a compaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// L0 is deep or large.
    L0,
    /// L0 is deep and its way down is taken: its youngest runs are merged to one meanwhile.
    IntraL0,
    /// A level is larger than its target.
    LevelSize,
    /// Somebody called for it.
    Manual,
    /// Readers have walked over what is dead for longer than it takes to clear it away.
    Reads,
    /// A file is full of deletes, or its range tombstones cover much.
    Tombstones,
    /// A file is old.
    Age,
}

impl Reason {
    /// One word for logs and tests.
    pub fn name(self) -> &'static str {
        match self {
            Reason::L0 => "l0",
            Reason::IntraL0 => "intra-l0",
            Reason::LevelSize => "size",
            Reason::Manual => "manual",
            Reason::Reads => "reads",
            Reason::Tombstones => "tombstones",
            Reason::Age => "age",
        }
    }
}

/// A compaction to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// What asked for it.
    pub reason: Reason,
    /// Where the first inputs lie.
    pub level: usize,
    /// Where the outputs go: below `level`, or `level` itself within L0 and for a rewrite of the last level.
    pub output_level: usize,
    /// Files of `level` (of L0: newest first), and those of `output_level` that they overlap.
    pub inputs: [Vec<Arc<FileMeta>>; 2],
    /// Files below `output_level` that the inputs overlap, sorted: outputs are best cut at their bounds.
    pub grandparents: Vec<Arc<FileMeta>>,
    /// The inputs can simply change their level.
    pub trivial_move: bool,
}

impl Plan {
    /// Every input file.
    pub fn files(&self) -> impl Iterator<Item = &Arc<FileMeta>> {
        self.inputs.iter().flatten()
    }

    /// Bytes to read (or to move).
    pub fn input_bytes(&self) -> u64 {
        self.files().map(|file| file.bytes).sum()
    }

    /// The keys it deals with. A plan without files deals with none, and is a bug.
    pub fn hull(&self) -> Option<KeyRange<'_>> {
        hull(self.files().map(Arc::as_ref))
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = if self.trivial_move { "move" } else { "merge" };
        write!(f, "{} {what} L{}", self.reason.name(), self.level)?;
        self.inputs[0].iter().try_for_each(|file| write!(f, " {:06}", file.number))?;
        write!(f, " -> L{}", self.output_level)?;
        self.inputs[1].iter().try_for_each(|file| write!(f, " {:06}", file.number))
    }
}

/// Names a running job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct JobId(u64);

#[derive(Clone, Debug)]
struct Running {
    id: JobId,
    level: usize,
    output_level: usize,
    hull: OwnedKeyRange,
    files: Vec<u64>,
}

/// The compactions of one keyspace that run.
#[derive(Clone, Debug, Default)]
pub struct InProgress {
    jobs: Vec<Running>,
    busy: HashSet<u64>,
    started: u64,
}

impl InProgress {
    /// None.
    pub fn new() -> InProgress {
        InProgress::default()
    }

    /// Notes that a plan is being carried out.
    pub fn start(&mut self, plan: &Plan) -> JobId {
        assert!(self.permits(plan), "a plan that collides with a running job: {plan}");
        self.started += 1;
        let id = JobId(self.started);
        let files = plan.files().map(|file| file.number).collect::<Vec<_>>();
        self.busy.extend(&files);
        let hull = plan.hull().unwrap_or(KeyRange::ALL).to_owned();
        self.jobs.push(Running { id, level: plan.level, output_level: plan.output_level, hull, files });
        id
    }

    /// Notes that a job is over, installed or given up. Unknown ids are ignored.
    pub fn finish(&mut self, id: JobId) {
        if let Some(at) = self.jobs.iter().position(|job| job.id == id) {
            let job = self.jobs.swap_remove(at);
            job.files.iter().for_each(|number| {
                self.busy.remove(number);
            });
        }
    }

    /// How many jobs run.
    pub fn len(&self) -> usize {
        self.jobs.len()
    }

    /// Whether none runs.
    pub fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }

    /// Whether a job has this file as input.
    pub fn is_busy(&self, number: u64) -> bool {
        self.busy.contains(&number)
    }

    /// Whether a file is on its way to another level: for the size of its level it is gone.
    pub fn is_leaving(&self, level: usize, number: u64) -> bool {
        self.is_busy(number)
            && self
                .jobs
                .iter()
                .any(|job| job.level == level && job.output_level != level && job.files.contains(&number))
    }

    /// Whether a plan may run beside the jobs that run.
    pub fn permits(&self, plan: &Plan) -> bool {
        let Some(hull) = plan.hull() else { return false };
        let free = plan.files().all(|file| !self.is_busy(file.number));
        // The runs of L0 may overlap; a job within it shares no file, and thereby no run, with another.
        let alone = |job: &Running| {
            job.output_level == 0
                || job.output_level != plan.output_level
                || !job.hull.as_range().overlaps(&hull)
        };
        free && self.jobs.iter().all(alone)
    }

    /// The highest level that a job out of L0 writes to. Younger L0 data must not pass below it.
    pub fn highest_l0_output(&self) -> usize {
        let from_l0 = self.jobs.iter().filter(|job| job.level == 0 && job.output_level > 0);
        from_l0.map(|job| job.output_level).min().unwrap_or(LEVELS - 1)
    }
}
