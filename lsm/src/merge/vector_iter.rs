//! A sorted source in a vector, for tests: it can be told to fail, and counts how often its key is looked at.

use crate::base::error::{Error, Result};
use crate::base::iter::InternalIterator;
use crate::base::key::{
    SequenceNumber, ValueKind, VersionKey, compare_versions, pack_trailer, unpack_trailer,
};
use std::cmp::Ordering as Order;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

/// Key, trailer and value of one version.
pub type Version = (Vec<u8>, u64, Vec<u8>);

/// A version, written shortly.
pub fn version(key: &[u8], sequence: SequenceNumber, value: Option<&[u8]>) -> Version {
    let kind = if value.is_some() { ValueKind::Put } else { ValueKind::Delete };
    (key.to_vec(), pack_trailer(sequence, kind), value.unwrap_or_default().to_vec())
}

/// The order of versions.
pub fn order(a: &Version, b: &Version) -> Order {
    compare_versions(&a.0, a.1, &b.0, b.1)
}

/// What a run of tests can see and steer from outside.
#[derive(Debug)]
pub struct Control {
    /// Moves that still succeed.
    pub moves_left: AtomicI64,
    /// Moves made.
    pub moves: AtomicU64,
    /// Calls of `key`.
    pub key_calls: AtomicU64,
}

impl Default for Control {
    fn default() -> Self {
        Control {
            moves_left: AtomicI64::new(i64::MAX),
            moves: AtomicU64::new(0),
            key_calls: AtomicU64::new(0),
        }
    }
}

/// The iterator.
#[derive(Debug)]
pub struct VectorIter {
    versions: Vec<Version>,
    at: Option<usize>,
    control: Arc<Control>,
}

impl VectorIter {
    /// Over `versions`, in any order.
    pub fn new(versions: Vec<Version>) -> VectorIter {
        VectorIter::controlled(versions, Arc::default())
    }

    /// The same, steered from outside.
    pub fn controlled(mut versions: Vec<Version>, control: Arc<Control>) -> VectorIter {
        versions.sort_by(order);
        VectorIter { versions, at: None, control }
    }

    /// Over `versions` as they are: a source that is not sorted.
    pub fn unsorted(versions: Vec<Version>) -> VectorIter {
        VectorIter { versions, at: None, control: Arc::default() }
    }

    fn go(&mut self, to: Option<usize>) -> Result<()> {
        self.control.moves.fetch_add(1, Ordering::Relaxed);
        if self.control.moves_left.fetch_sub(1, Ordering::Relaxed) <= 0 {
            self.at = None;
            return Err(Error::NeedsIo);
        }
        self.at = to.filter(|&at| at < self.versions.len());
        Ok(())
    }

    fn first_at_or_behind(&self, target: VersionKey<'_>) -> usize {
        self.versions.partition_point(|(key, trailer, _)| {
            let (sequence, kind) = unpack_trailer(*trailer).unwrap();
            VersionKey { user_key: key, sequence, kind } < target
        })
    }

    fn here(&self) -> &Version {
        &self.versions[self.at.unwrap()]
    }
}

impl InternalIterator for VectorIter {
    fn valid(&self) -> bool {
        self.at.is_some()
    }

    fn seek_to_first(&mut self) -> Result<()> {
        self.go(Some(0))
    }

    fn seek_to_last(&mut self) -> Result<()> {
        self.go(self.versions.len().checked_sub(1))
    }

    fn seek(&mut self, target: VersionKey<'_>) -> Result<()> {
        self.go(Some(self.first_at_or_behind(target)))
    }

    fn seek_before(&mut self, target: VersionKey<'_>) -> Result<()> {
        self.go(self.first_at_or_behind(target).checked_sub(1))
    }

    fn next(&mut self) -> Result<()> {
        self.go(Some(self.at.unwrap() + 1))
    }

    fn prev(&mut self) -> Result<()> {
        self.go(self.at.unwrap().checked_sub(1))
    }

    fn key(&self) -> &[u8] {
        self.control.key_calls.fetch_add(1, Ordering::Relaxed);
        &self.here().0
    }

    fn trailer(&self) -> u64 {
        self.here().1
    }

    fn value(&self) -> &[u8] {
        &self.here().2
    }

    fn has_distinct_keys(&self) -> bool {
        self.versions.windows(2).all(|pair| pair[0].0 != pair[1].0)
    }

    /// As of a source with blocks of eight.
    fn steps_below(&self, bound: Option<&[u8]>) -> usize {
        let below = |(key, _, _): &&Version| bound.is_none_or(|bound| key.as_slice() < bound);
        self.at.map_or(0, |at| self.versions[at + 1..].iter().take(7 - at % 8).take_while(below).count())
    }

    fn steps_above(&self, bound: Option<&[u8]>) -> usize {
        let above = |(key, _, _): &&Version| bound.is_none_or(|bound| key.as_slice() > bound);
        self.at.map_or(0, |at| self.versions[..at].iter().rev().take(at % 8).take_while(above).count())
    }
}
