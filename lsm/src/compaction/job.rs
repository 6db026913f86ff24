//! Carries out a flush or a compaction: a sorted source goes in, table files come out.
//!
//! ```text
//! source -> retention (what may go) -> builder -> file ... cut ... -> builder -> file     then one sync of the folder
//! ```
//!
//! Outputs are cut only between user keys, at the target size, and earlier where a file two levels down begins, so that later
//! compactions of an output stay small. Range tombstones that stay are clipped to the piece of the key space that their output
//! stands for; together the pieces leave no gap. If anything fails the files made so far are removed; until an edit names
//! them they do not count.

use crate::base::error::{Error, Result};
use crate::base::hooks::CompactionHooks;
use crate::base::iter::InternalIterator;
use crate::base::key::SequenceNumber;
use crate::base::options::KeyspaceOptions;
use crate::base::range_delete::{Fragment, RangeTombstones};
use crate::compaction::retention::{Retention, RetentionInput, retained_tombstones};
use crate::env::env::{Env, OpenMode};
use crate::env::filename::FileName;
use crate::table::builder::TableBuilder;
use crate::version::file_meta::FileMeta;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How many entries pass between two looks at whether to stop.
const CHECK_EVERY: u32 = 4096;

/// What a job works on and with.
pub struct JobInput<'a> {
    /// Where files are made.
    pub env: &'a Arc<dyn Env>,
    /// The database's folder.
    pub dir: &'a Path,
    /// Gives numbers to outputs.
    pub new_number: &'a dyn Fn() -> u64,
    /// How to write tables.
    pub options: KeyspaceOptions,
    /// Target size of an output.
    pub table_bytes: u64,
    /// Files two levels down, sorted; outputs are cut at their starts.
    pub grandparents: &'a [Arc<FileMeta>],
    /// Read points to respect, ascending.
    pub snapshots: Vec<SequenceNumber>,
    /// Whether nothing older than the inputs lies below the output: of one key.
    pub bottom: &'a dyn Fn(&[u8]) -> bool,
    /// The same for all keys in `[start, end)`.
    pub bottom_range: &'a dyn Fn(&[u8], &[u8]) -> bool,
    /// All range tombstones of the inputs.
    pub tombstones: RangeTombstones,
    /// Outputs go to L0, whose files are ordered by their sequence numbers.
    pub into_l0: bool,
    /// The keyspace's hooks.
    pub hooks: Option<Arc<dyn CompactionHooks>>,
    /// Asked now and then; true gives the job up.
    pub should_stop: &'a dyn Fn() -> bool,
}

/// What a job made.
#[derive(Debug, Default)]
pub struct JobOutput {
    /// The files, sorted, synced, not yet named by any edit.
    pub files: Vec<FileMeta>,
    /// What hooks left to say.
    pub notes: Vec<Vec<u8>>,
    /// How many versions went.
    pub dropped: u64,
}

/// Runs a job to its end. Errors: those of the source, of the files, `Closed` if told to stop.
pub fn write_tables(source: &mut dyn InternalIterator, input: JobInput<'_>) -> Result<JobOutput> {
    let tombstones = retained_tombstones(&input.tombstones, &input.snapshots, input.bottom_range);
    let mut retention = Retention::new(RetentionInput {
        snapshots: input.snapshots.clone(),
        bottom: input.bottom,
        tombstones: input.tombstones.clone(),
        hooks: input.hooks.clone(),
        keep_sequences: input.into_l0,
    });
    let mut outputs = Outputs::new(&input, tombstones);
    match outputs.fill(source, &mut retention) {
        Ok(()) => Ok(JobOutput {
            files: std::mem::take(&mut outputs.files),
            dropped: retention.dropped(),
            notes: retention.into_notes().into_inner(),
        }),
        Err(error) => {
            outputs.discard();
            Err(error)
        }
    }
}

struct Outputs<'a> {
    input: &'a JobInput<'a>,
    tombstones: RangeTombstones,
    /// Tombstone fragments before this one were written whole.
    fragment: usize,
    /// Where the present output's piece of the key space starts; `None` for the beginning.
    piece_start: Option<Vec<u8>>,
    builder: Option<(TableBuilder, u64)>,
    made: Vec<PathBuf>,
    files: Vec<FileMeta>,
    grandparent: usize,
}

impl<'a> Outputs<'a> {
    fn new(input: &'a JobInput<'a>, tombstones: RangeTombstones) -> Outputs<'a> {
        Outputs {
            input,
            tombstones,
            fragment: 0,
            piece_start: None,
            builder: None,
            made: Vec::new(),
            files: Vec::new(),
            grandparent: 0,
        }
    }

    fn fill(&mut self, source: &mut dyn InternalIterator, retention: &mut Retention<'_>) -> Result<()> {
        source.seek_to_first()?;
        let mut until_check = CHECK_EVERY;
        while let Some(kept) = retention.next(source)? {
            if kept.first_of_key && self.should_cut(kept.key) {
                self.finish(Some(kept.key))?;
            }
            self.builder()?.add(kept.key, kept.trailer, kept.value)?;
            until_check -= 1;
            if until_check == 0 {
                until_check = CHECK_EVERY;
                if (self.input.should_stop)() {
                    return Err(Error::Closed);
                }
            }
        }
        self.finish(None)?;
        if !self.made.is_empty() {
            self.input.env.sync_dir(self.input.dir)?;
        }
        Ok(())
    }

    fn builder(&mut self) -> Result<&mut TableBuilder> {
        if self.builder.is_none() {
            let number = (self.input.new_number)();
            let path = FileName::Table(number).path(self.input.dir);
            let file = self.input.env.open(&path, OpenMode::CreateNew)?;
            self.made.push(path.clone());
            self.builder = Some((TableBuilder::new(file, path, number, self.input.options), number));
        }
        match &mut self.builder {
            Some((builder, _)) => Ok(builder),
            None => unreachable!("made above"),
        }
    }

    /// Whether the present output should end before `key`.
    fn should_cut(&mut self, key: &[u8]) -> bool {
        let mut crossed = false;
        while let Some(file) = self.input.grandparents.get(self.grandparent) {
            if file.smallest.as_slice() > key {
                break;
            }
            crossed = true;
            self.grandparent += 1;
        }
        let Some((builder, _)) = &self.builder else { return false };
        let bytes = builder.estimated_bytes();
        bytes >= self.input.table_bytes || (crossed && bytes >= self.input.table_bytes / 2)
    }

    /// Ends the present output; the next one's piece starts at `next`. Makes an output for tombstones alone if need be.
    fn finish(&mut self, next: Option<&[u8]>) -> Result<()> {
        let clipped = self.clip(next);
        self.piece_start = next.map(<[u8]>::to_vec);
        if clipped.is_empty() && self.builder.is_none() {
            return Ok(());
        }
        let builder = self.builder()?;
        builder.add_range_tombstones(&clipped)?;
        let Some((builder, number)) = self.builder.take() else { unreachable!("made above") };
        let summary = builder.finish()?;
        self.files.push(FileMeta::new(number, &summary, self.input.env.unix_ms()));
        Ok(())
    }

    /// The tombstones within `[piece_start, next)`.
    fn clip(&mut self, next: Option<&[u8]>) -> Vec<Fragment> {
        let mut clipped = Vec::new();
        while let Some(fragment) = self.tombstones.fragments().get(self.fragment) {
            if next.is_some_and(|next| fragment.start.as_slice() >= next) {
                break;
            }
            let start = match &self.piece_start {
                Some(start) if *start > fragment.start => start.clone(),
                _ => fragment.start.clone(),
            };
            let end = match next {
                Some(next) if next < fragment.end.as_slice() => next.to_vec(),
                _ => fragment.end.clone(),
            };
            let whole = end == fragment.end;
            if start < end {
                clipped.push(Fragment { start, end, sequences: fragment.sequences.clone() });
            }
            if !whole {
                break;
            }
            self.fragment += 1;
        }
        clipped
    }

    fn discard(&mut self) {
        self.builder = None;
        for path in &self.made {
            // Best effort: an orphan is removed at the next open.
            let _ = self.input.env.remove(path);
        }
    }
}
