//! The current view: every keyspace's memtables and version, behind one atomic pointer.
//!
//! Readers load it under an epoch pin and take no lock. Writers of the pointer (memtable switch, flush and compaction install,
//! keyspace changes) hold the view lock, build a new view that shares all that did not change, and swap. A view that nobody
//! can see any more may own megabytes (a memtable, open tables), so the epoch's deferred work only moves it to a list; the
//! janitor drops what is on the list, never a reader.
//!
//! This file holds the engine's only use of epoch pointers outside the block cache.

#![expect(unsafe_code, reason = "dereferences and retires epoch-protected pointers; see the SAFETY notes")]

use crate::base::batch::KeyspaceId;
use crate::base::hooks::CompactionHooks;
use crate::base::key::Lsn;
use crate::base::options::KeyspaceOptions;
use crate::compaction::wasted_steps::WastedSteps;
use crate::memtable::memtable::Memtable;
use crate::version::version::Version;
use crossbeam_epoch::{Atomic, Guard, Owned, Shared};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// One keyspace at one moment.
#[derive(Clone, Debug)]
pub struct KeyspaceView {
    /// Its number.
    pub id: KeyspaceId,
    /// Its name.
    pub name: Arc<str>,
    /// Its options.
    pub options: KeyspaceOptions,
    /// Its hooks, given at open.
    pub hooks: Option<Arc<dyn CompactionHooks>>,
    /// Where writes go.
    pub memtable: Arc<Memtable>,
    /// Full memtables that are not flushed yet, newest first.
    pub immutables: Vec<Arc<Memtable>>,
    /// The tables.
    pub version: Arc<Version>,
    /// What its iterators stepped over in vain; of all views of the keyspace.
    pub wasted_steps: Arc<WastedSteps>,
    /// Everything of this keyspace up to here is in tables.
    pub flushed_lsn: Lsn,
}

/// All keyspaces at one moment, sorted by number. As long as none was dropped a keyspace's number is also its place, and finding it costs
/// one look; a number from the manifest never sizes anything.
#[derive(Clone, Debug, Default)]
pub struct View {
    keyspaces: Vec<Arc<KeyspaceView>>,
}

impl View {
    /// The keyspace, if there is one of that number.
    pub fn keyspace(&self, id: KeyspaceId) -> Option<&Arc<KeyspaceView>> {
        match self.keyspaces.get(id as usize) {
            Some(keyspace) if keyspace.id == id => Some(keyspace),
            _ => self.keyspaces.get(self.place(id).ok()?),
        }
    }

    /// All keyspaces, by number.
    pub fn keyspaces(&self) -> impl Iterator<Item = &Arc<KeyspaceView>> {
        self.keyspaces.iter()
    }

    /// The same view with one keyspace put in or replaced.
    pub fn with(&self, keyspace: KeyspaceView) -> View {
        let mut next = self.clone();
        match self.place(keyspace.id) {
            Ok(at) => next.keyspaces[at] = Arc::new(keyspace),
            Err(at) => next.keyspaces.insert(at, Arc::new(keyspace)),
        }
        next
    }

    /// The same view without one keyspace.
    pub fn without(&self, id: KeyspaceId) -> View {
        let mut next = self.clone();
        next.keyspaces.retain(|keyspace| keyspace.id != id);
        next
    }

    fn place(&self, id: KeyspaceId) -> Result<usize, usize> {
        self.keyspaces.binary_search_by_key(&id, |keyspace| keyspace.id)
    }
}

/// Holds the current view.
#[derive(Debug)]
pub struct ViewCell {
    current: Atomic<Arc<View>>,
    write: Mutex<()>,
    retired: Arc<Mutex<Vec<Arc<View>>>>,
}

/// The right to replace the view.
#[derive(Debug)]
pub struct ViewWriter<'a> {
    cell: &'a ViewCell,
    _lock: MutexGuard<'a, ()>,
}

impl ViewCell {
    /// Starts with `view`.
    pub fn new(view: View) -> ViewCell {
        ViewCell {
            current: Atomic::new(Arc::new(view)),
            write: Mutex::new(()),
            retired: Arc::new(Mutex::new(Vec::new())),
        }
    }

    /// The current view, good for as long as the guard is pinned.
    pub fn load<'g>(&self, guard: &'g Guard) -> &'g Arc<View> {
        // Acquire: pairs with the swap in `replace`; the view's contents were written before it.
        let shared = self.current.load(Ordering::Acquire, guard);
        // SAFETY: the pointer is never null (made in `new`, replaced by another box), and a replaced box is retired through the
        // epoch, so it lives at least as long as `guard`, which was pinned before the load.
        unsafe { shared.deref() }
    }

    /// The current view, owned.
    pub fn load_owned(&self) -> Arc<View> {
        self.load(&crossbeam_epoch::pin()).clone()
    }

    /// Takes the view lock.
    pub fn writer(&self) -> ViewWriter<'_> {
        ViewWriter { cell: self, _lock: self.write.lock().unwrap_or_else(PoisonError::into_inner) }
    }

    /// Drops views that no reader can hold any more. Called by the janitor, often.
    pub fn collect(&self) {
        let guard = crossbeam_epoch::pin();
        guard.flush();
        drop(guard);
        let retired = std::mem::take(&mut *self.retired.lock().unwrap_or_else(PoisonError::into_inner));
        drop(retired);
    }
}

impl ViewWriter<'_> {
    /// The view that [`replace`](Self::replace) would replace.
    pub fn current(&self) -> Arc<View> {
        self.cell.load_owned()
    }

    /// Installs `view`.
    pub fn replace(&self, view: View) {
        let guard = crossbeam_epoch::pin();
        // AcqRel: the release half pairs with `load`.
        let old = self.cell.current.swap(Owned::new(Arc::new(view)), Ordering::AcqRel, &guard);
        let retired = self.cell.retired.clone();
        let old = Retired(old.as_raw().cast_mut());
        guard.defer(move || {
            let Retired(pointer) = { old };
            // SAFETY: the box was unlinked by the swap, by one thread only, so it is freed once; this runs when no guard that
            // could have loaded it is pinned any more. It came from `Owned::new`, which is a `Box`.
            let view = unsafe { *Box::from_raw(pointer) };
            retired.lock().unwrap_or_else(PoisonError::into_inner).push(view);
        });
        guard.flush();
    }
}

impl Drop for ViewCell {
    fn drop(&mut self) {
        let guard = crossbeam_epoch::pin();
        let last = self.current.swap(Shared::null(), Ordering::AcqRel, &guard);
        if !last.is_null() {
            // SAFETY: `&mut self` means that no reader is left; the pointer came from `Owned::new` and is taken out once.
            drop(unsafe { last.into_owned() });
        }
    }
}

/// A view on its way to the list.
struct Retired(*mut Arc<View>);

// SAFETY: the pointee is an `Arc<View>`, which is Send, and the pointer is its only owner once unlinked.
unsafe impl Send for Retired {}
