//! A lock-free skiplist with one node per user key and a chain of versions at each node.
//!
//! ```text
//!                     node (u32 offset of `next`)                      version
//! tower[h-1] .. tower[1] | next | newest | key length | key | pad      trailer u64 | value length | older | value | pad
//!      u32         u32     u32     u32       u32                            u64           u32        u32
//! ```
//!
//! The tower grows downwards from the node's offset, so a key is found without knowing the height, and the words that a
//! search at level 0 reads lie side by side. A new key takes one allocation: the node and, behind it, its first version.
//!
//! An overwrite touches no link of the list: it adds a version to the chain, which is sorted by trailer, newest first.
//! Writers may arrive in any order, so a version is put where it belongs, by compare-and-swap on the link before it.
//!
//! **Why it is right.** Nothing is ever unlinked or changed, so a link only ever goes from one successor to a smaller
//! one, compare-and-swap has no ABA, and a search may go on from any node before its key. Level 0 is the truth: of two
//! threads that insert the same key, the one whose swap fails finds the other's node and adopts it (its own node stays
//! unused in the arena, its version is linked to the winner's). The levels above are shortcuts, linked afterwards.
//! Each record is complete before the Release swap that links it; each link is followed by an Acquire load.
//!
//! Threads: all functions, from everywhere, at any time. Readers never wait and never write.
//!
//! Offsets never leave this file and the hash index, fingers and hints beside it as bare numbers: a [`NodeRef`] or [`VersionRef`] borrows
//! its list, a [`Cursor`] owns it, and a [`ValueAt`] carries the list's name, so that none can be used on another list.
//!
//! It deliberately does not remove, does not know snapshots, and does not look up by hash.
#![expect(unsafe_code, reason = "records are read and linked in the bytes of an arena")]

use crate::base::error::Result;
use crate::base::key::compare_alike;
use crate::base::sync::{AtomicU32, Ordering};
use crate::memtable::arena::{Arena, NO_OFFSET, align};
use crate::memtable::fingers::{FINGERS, Fingers};
use crate::memtable::hints::{HINT_LEVELS, Hints};
use crate::memtable::maps::Maps;
use std::cmp;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

/// Tallest tower. Each level holds half of the one below, so this is enough for a million keys, and not bad beyond.
///
/// A quarter, the usual choice, saves three bytes a key, but a search then meets three nodes in a row on each level
/// rather than one, each a cache miss that cannot start before the one before it has ended: a fifth slower.
pub const HEIGHT_MAX: usize = if cfg!(loom) { 2 } else { 18 };

const LINK_BYTES: usize = 4;
/// From a node's offset.
const NEWEST_AT: u32 = 4;
const KEY_LEN_AT: u32 = 8;
const KEY_AT: u32 = 12;
/// From a version's offset.
const VALUE_LEN_AT: u32 = 8;
const OLDER_AT: u32 = 12;
const VALUE_AT: u32 = 16;

/// So many searches go side by side; more than a processor's reads in flight would gain nothing.
pub const TOGETHER_MAX: usize = 16;

/// See the head of the file.
pub struct SkipList {
    arena: Arena,
    /// A node without key and versions, before all others, of the greatest height.
    head: u32,
    /// Unlike that of any other list in the process.
    name: u64,
    fingers: Fingers<HEIGHT_MAX>,
    hints: Hints,
}

/// Where a search for a key ended on one level.
#[derive(Clone, Copy)]
struct Place {
    /// The last node before the key; the head if there is none.
    before: u32,
    /// Its successor, the first node at or behind the key; may be none.
    after: u32,
}

impl SkipList {
    /// Upper bound, in bytes, of what one entry takes out of the arena.
    pub const fn entry_bytes_max(key_len: usize, value_len: usize) -> usize {
        node_bytes(key_len, HEIGHT_MAX).saturating_add(version_bytes(value_len))
    }

    /// An empty list with room for `capacity_bytes` of entries, in memory of its own.
    pub fn new(capacity_bytes: usize) -> Result<SkipList> {
        SkipList::within(capacity_bytes, None)
    }

    /// The same in memory out of `maps`.
    pub fn within(capacity_bytes: usize, maps: Option<&Arc<Maps>>) -> Result<SkipList> {
        static NEXT_NAME: AtomicU64 = AtomicU64::new(1);
        let head_bytes = node_bytes(0, HEIGHT_MAX);
        let arena = Arena::new(capacity_bytes.saturating_add(head_bytes), maps)?;
        assert!(arena.reserve(head_bytes), "the arena was made large enough for the head");
        let head = arena.allocate(head_bytes, head_bytes) + ((HEIGHT_MAX - 1) * LINK_BYTES) as u32;
        // Relaxed: the number only has to be unique.
        let name = NEXT_NAME.fetch_add(1, Ordering::Relaxed);
        let list = SkipList { arena, head, name, fingers: Fingers::new(head), hints: Hints::new(head) };
        // Relaxed: whoever gets the list gets it by other means.
        (0..HEIGHT_MAX).for_each(|level| list.link(head, level).store(NO_OFFSET, Ordering::Relaxed));
        Ok(list)
    }

    /// Where the records lie; for claims and accounting.
    pub fn arena(&self) -> &Arena {
        &self.arena
    }

    /// Whether the last insertions came beside each other.
    pub fn grows_in_places(&self) -> bool {
        self.fingers.worth_trying(1)
    }

    /// Tells this list from every other one in the process.
    pub fn name(&self) -> u64 {
        self.name
    }

    /// Adds a version of `key`, and the key if it is new, with a tower of `height` (1 to [`HEIGHT_MAX`]). Settles
    /// `claimed` bytes of what was reserved in the arena, at least [`entry_bytes_max`](Self::entry_bytes_max).
    pub fn insert(
        &self,
        key: &[u8],
        trailer: u64,
        value: &[u8],
        height: usize,
        claimed: usize,
    ) -> NodeRef<'_> {
        self.insert_hinted(None, key, trailer, value, height, claimed)
    }

    /// The same of a key with this hash, which [`search_together`](Self::search_together) may have been given.
    pub fn insert_hinted(
        &self,
        hash: Option<u64>,
        key: &[u8],
        trailer: u64,
        value: &[u8],
        height: usize,
        claimed: usize,
    ) -> NodeRef<'_> {
        debug_assert!((1..=HEIGHT_MAX).contains(&height));
        let mut places = [Place { before: self.head, after: NO_OFFSET }; HEIGHT_MAX];
        // Now and then the fingers get their chance all the same.
        let turn = trailer >> 8;
        let hinted = height <= HINT_LEVELS && (cfg!(loom) || !self.fingers.worth_trying(turn));
        let hash = hash.filter(|_| hinted);
        let hinted = hash
            .and_then(|hash| self.hints.before(hash))
            .and_then(|before| self.search_beside(key, before, &mut places[..height]));
        if hinted.is_some() {
            self.hints.helped();
        }
        if hinted.unwrap_or_else(|| self.search_to_insert(key, turn, height, &mut places)) {
            let node = self.node_ref(places[0].after);
            self.insert_version(node, trailer, value, claimed);
            return node;
        }
        let own_bytes = node_bytes(key.len(), height);
        let start = self.arena.allocate(own_bytes + version_bytes(value.len()), claimed);
        let node = start + ((height - 1) * LINK_BYTES) as u32;
        let version = start + own_bytes as u32;
        self.write_version(version, trailer, value);
        // Relaxed: published with the node.
        self.older(version).store(NO_OFFSET, Ordering::Relaxed);
        // SAFETY: both ranges are inside the allocation just made, which nobody else knows yet.
        unsafe {
            self.arena.write(node + KEY_LEN_AT, &(key.len() as u32).to_le_bytes());
            self.arena.write(node + KEY_AT, key);
        }
        // Relaxed: published by the swap on level 0.
        self.newest(node).store(version, Ordering::Relaxed);

        for (level, mut place) in places.into_iter().enumerate().take(height) {
            while !self.try_link(node, level, place) {
                let (now, matched) = self.walk(key, level, place.before, NO_OFFSET);
                if matched {
                    // Another thread brought the key in the meantime: its node stays, only our version is needed.
                    debug_assert_eq!(level, 0, "once level 0 has our node, no other can have its key");
                    self.link_version(now.after, version, trailer);
                    return self.node_ref(now.after);
                }
                place = now;
            }
        }
        self.node_ref(node)
    }

    /// Adds a version to a key that is there. Settles `claimed` as [`insert`](Self::insert) does.
    pub fn insert_version(&self, node: NodeRef<'_>, trailer: u64, value: &[u8], claimed: usize) {
        assert_eq!(self.name, node.list.name, "a node of another list");
        let version = self.arena.allocate(version_bytes(value.len()), claimed);
        self.write_version(version, trailer, value);
        self.link_version(node.offset, version, trailer);
    }

    /// The node of `key`.
    pub fn find(&self, key: &[u8]) -> Option<NodeRef<'_>> {
        let mut place = Place { before: self.head, after: NO_OFFSET };
        self.search(key, |_, at| place = at).then(|| self.node_ref(place.after))
    }

    /// The first node at or behind `key`, and whether it is `key` itself.
    pub fn find_at_or_after(&self, key: &[u8]) -> (Option<NodeRef<'_>>, bool) {
        let mut place = Place { before: self.head, after: NO_OFFSET };
        let matched = self.search(key, |_, at| place = at);
        (self.optional_node(place.after), matched)
    }

    /// The last node before `key`.
    pub fn find_before(&self, key: &[u8]) -> Option<NodeRef<'_>> {
        let mut place = Place { before: self.head, after: NO_OFFSET };
        self.search(key, |_, at| place = at);
        (place.before != self.head).then(|| self.node_ref(place.before))
    }

    /// The first node.
    pub fn first(&self) -> Option<NodeRef<'_>> {
        self.optional_node(self.follow(self.head, 0))
    }

    /// The last node.
    pub fn last(&self) -> Option<NodeRef<'_>> {
        let mut node = self.head;
        for level in (0..HEIGHT_MAX).rev() {
            loop {
                let next = self.follow(node, level);
                if next == NO_OFFSET {
                    break;
                }
                node = next;
            }
        }
        (node != self.head).then(|| self.node_ref(node))
    }

    /// The bytes of a value that was seen through a [`VersionRef`] of this list. Panics for another list's.
    pub fn value_at(&self, at: ValueAt) -> &[u8] {
        assert_eq!(self.name, at.list_name, "a value of another list");
        // SAFETY: only `VersionRef::value_at` makes a `ValueAt`, from a published version of the list of this name.
        unsafe { self.arena.bytes(at.offset, at.len as usize) }
    }

    /// Goes down from the top and shows `at_level` where the search stands on each level, level 0 last. Whether `key`
    /// is there.
    #[inline]
    fn search(&self, key: &[u8], mut at_level: impl FnMut(usize, Place)) -> bool {
        let mut before = self.head;
        // The node that ended the level above ends the next one too, if it is met again: no need to compare twice.
        let mut known_after = NO_OFFSET;
        let mut matched = false;
        for level in (0..HEIGHT_MAX).rev() {
            let (place, found) = self.walk(key, level, before, known_after);
            matched = if place.after == known_after { matched && place.after != NO_OFFSET } else { found };
            at_level(level, place);
            (before, known_after) = (place.before, place.after);
        }
        matched
    }

    /// Finds the places of a new node of `height`. Whether `key` is there already; then level 0 alone is certain.
    #[inline]
    fn search_to_insert(
        &self,
        key: &[u8],
        turn: u64,
        height: usize,
        places: &mut [Place; HEIGHT_MAX],
    ) -> bool {
        if !self.fingers.worth_trying(turn) {
            return self.search(key, |level, place| places[level] = place);
        }
        for finger in 0..FINGERS {
            let before = |level| self.fingers.get(finger, level);
            if let Some(matched) = self.search_beside(key, before, &mut places[..height]) {
                self.fingers.helped(finger);
                let sure = if matched { 1 } else { height };
                for (level, place) in places[..sure].iter().enumerate() {
                    self.fingers.put(finger, level, place.before);
                }
                return matched;
            }
        }
        let matched = self.search(key, |level, place| places[level] = place);
        let finger = self.fingers.none_helped();
        for (level, place) in places.iter().enumerate() {
            self.fingers.put(finger, level, place.before);
        }
        matched
    }

    /// Makes `path`, the last nodes before some key on each level, that of the key of `node`. If the path leads to `node`, which then was the
    /// last one before, only the levels that `node` itself is on have to be looked at again.
    #[inline]
    fn step_back(&self, path: &mut [u32; HEIGHT_MAX], node: u32) {
        let key = self.key(node);
        // On the levels above its tower the path passes in front of `node`. Levels not known yet are `NO_OFFSET`.
        let above = match path[0] == node {
            true => path.iter().position(|&before| before != node && before != NO_OFFSET),
            false => None,
        };
        let (mut before, top) = match above {
            Some(level) => (path[level], level),
            None => (self.head, HEIGHT_MAX),
        };
        for level in (0..top).rev() {
            before = self.walk(key, level, before, node).0.before;
            path[level] = before;
        }
    }

    /// Fills `places` from level 0 up, if the key's place is within a few steps of the node that `near` gives on each of these levels, and
    /// says whether the key is there.
    ///
    /// Each level is looked at on its own. If another thread inserts the key meanwhile, places above level 0 may lie behind its node
    /// or at it; then linking at level 0 fails, and that comes first.
    #[inline]
    fn search_beside(&self, key: &[u8], near: impl Fn(usize) -> u32, places: &mut [Place]) -> Option<bool> {
        const STEPS_MAX: usize = 2;
        for (level, place) in places.iter_mut().enumerate() {
            let mut before = near(level);
            if before != self.head && compare_alike(self.key(before), key) != cmp::Ordering::Less {
                return None;
            }
            let mut steps = 0;
            *place = loop {
                let after = self.follow(before, level);
                let ordering = match after {
                    NO_OFFSET => cmp::Ordering::Greater,
                    after => compare_alike(self.key(after), key),
                };
                match ordering {
                    cmp::Ordering::Less if steps == STEPS_MAX => return None,
                    cmp::Ordering::Less => (before, steps) = (after, steps + 1),
                    cmp::Ordering::Equal if level == 0 => {
                        *place = Place { before, after };
                        return Some(true);
                    }
                    _ => break Place { before, after },
                }
            };
        }
        Some(false)
    }

    /// Walks along one level from a node before `key`, up to the first node at or behind it (or to `stop`, which is
    /// known to be that). Whether the node compared last is `key`.
    #[inline]
    fn walk(&self, key: &[u8], level: usize, mut before: u32, stop: u32) -> (Place, bool) {
        loop {
            let after = self.follow(before, level);
            if level > 0 {
                self.prefetch_next(before, level - 1);
            }
            if after == NO_OFFSET || after == stop {
                return (Place { before, after }, false);
            }
            match compare_alike(self.key(after), key) {
                cmp::Ordering::Less => before = after,
                cmp::Ordering::Equal => return (Place { before, after }, true),
                cmp::Ordering::Greater => return (Place { before, after }, false),
            }
        }
    }

    /// Searches for keys (given with their hashes) side by side, each node being fetched while the others are looked at, and remembers their
    /// places for those who insert them. Up to [`TOGETHER_MAX`] keys.
    ///
    /// One search waits for memory once a step, a dozen times in a large list; here the waits of all overlap (as in "AMAC", Kocberber et al.
    /// 2015).
    pub fn search_together<'k>(&self, keys: impl Iterator<Item = (u64, &'k [u8])>) {
        #[derive(Clone, Copy)]
        struct Search<'k> {
            hash: u64,
            key: &'k [u8],
            before: u32,
            after: u32,
            /// The node at or behind the key on the level above.
            stop: u32,
            level: usize,
            places: [u32; HINT_LEVELS],
        }
        let (head, top) = (self.head, HEIGHT_MAX - 1);
        let begun = Search {
            hash: 0,
            key: b"",
            before: head,
            after: NO_OFFSET,
            stop: NO_OFFSET,
            level: top,
            places: [head; HINT_LEVELS],
        };
        let mut searches = [begun; TOGETHER_MAX];
        let mut running = 0;
        for (search, (hash, key)) in searches.iter_mut().zip(keys) {
            *search = Search { hash, key, after: self.follow(head, top), ..begun };
            running += 1;
        }
        while running > 0 {
            let mut at = 0;
            while at < running {
                let search = &mut searches[at];
                let goes_on = search.after != NO_OFFSET
                    && search.after != search.stop
                    && compare_alike(self.key(search.after), search.key) == cmp::Ordering::Less;
                if goes_on {
                    search.before = search.after;
                } else {
                    if let Some(place) = search.places.get_mut(search.level) {
                        *place = search.before;
                    }
                    if search.level == 0 {
                        self.hints.put(search.hash, &search.places);
                        running -= 1;
                        searches.swap(at, running);
                        continue;
                    }
                    (search.stop, search.level) = (search.after, search.level - 1);
                }
                search.after = self.follow(search.before, search.level);
                if search.after != search.stop {
                    self.prefetch(search.after);
                }
                at += 1;
            }
        }
    }

    /// Whether what [`search_together`](Self::search_together) finds for so many keys is likely to be used.
    pub fn makes_use_of_searches(&self, count: usize) -> bool {
        self.hints.worth_making(count as u32)
    }

    /// Has a node fetched; a hint.
    pub fn prefetch_node(&self, node: NodeRef<'_>) {
        assert!(std::ptr::eq(self, node.list), "a node of another list");
        self.prefetch(node.offset);
    }

    /// The same of its newest version; the node should be there already.
    pub fn prefetch_newest(&self, node: NodeRef<'_>) {
        assert!(std::ptr::eq(self, node.list), "a node of another list");
        // Relaxed: nothing is read through it.
        self.arena.prefetch(self.newest(node.offset).load(Ordering::Relaxed));
    }

    /// Puts an unlinked `node` into a level; false if `place` is out of date.
    fn try_link(&self, node: u32, level: usize, place: Place) -> bool {
        // Relaxed: published by the swap below.
        self.link(node, level).store(place.after, Ordering::Relaxed);
        // Release: pairs with the Acquire in `follow`; who meets the node sees it whole.
        self.link(place.before, level)
            .compare_exchange(place.after, node, Ordering::Release, Ordering::Relaxed)
            .is_ok()
    }

    /// Puts an unlinked version where it belongs in the chain of `node`.
    fn link_version(&self, node: u32, version: u32, trailer: u64) {
        let mut link = self.newest(node);
        loop {
            // Acquire: pairs with the Release below, for the trailer and the link in `current`.
            let current = link.load(Ordering::Acquire);
            if current != NO_OFFSET {
                let current_trailer = self.trailer(current);
                debug_assert_ne!(current_trailer, trailer, "a sequence number was used twice for one key");
                if current_trailer > trailer {
                    link = self.older(current);
                    continue;
                }
            }
            // Relaxed: published by the swap below.
            self.older(version).store(current, Ordering::Relaxed);
            // Release: pairs with each Acquire load of a version link. A failure means that another version came in
            // right here: look at this link again.
            if link.compare_exchange(current, version, Ordering::Release, Ordering::Relaxed).is_ok() {
                return;
            }
        }
    }

    fn write_version(&self, version: u32, trailer: u64, value: &[u8]) {
        // SAFETY: called with room that was just allocated for a version with this value, and that nobody else knows.
        unsafe {
            self.arena.write(version, &trailer.to_le_bytes());
            self.arena.write(version + VALUE_LEN_AT, &(value.len() as u32).to_le_bytes());
            self.arena.write(version + VALUE_AT, value);
        }
    }

    // The accessors of records. Each `node` and `version` below is one that this list allocated, and either has not
    // published yet or was read out of a link by an Acquire load. That is so because offsets come only from
    // `Arena::allocate`, from links, from fingers and hints, and from `NodeRef`s and `VersionRef`s, which are made from these.

    /// The link of `node` on `level`, which is below the node's height: levels are entered only through their own links.
    #[inline]
    fn link(&self, node: u32, level: usize) -> &AtomicU32 {
        // SAFETY: a word of the node's tower; towers lie right below the node's offset and hold links only.
        unsafe { self.arena.atomic(node - (level * LINK_BYTES) as u32) }
    }

    /// The successor of `node` on `level`.
    #[inline]
    fn follow(&self, node: u32, level: usize) -> u32 {
        // Acquire: pairs with the Release in `try_link`.
        self.link(node, level).load(Ordering::Acquire)
    }

    #[inline]
    fn prefetch_next(&self, node: u32, level: usize) {
        if cfg!(not(loom)) {
            // Relaxed: nothing is read through it.
            self.prefetch(self.link(node, level).load(Ordering::Relaxed));
        }
    }

    #[inline]
    fn prefetch(&self, node: u32) {
        // A node that lies across two cache lines needs both.
        self.arena.prefetch(node);
        self.arena.prefetch(node.wrapping_add(KEY_AT + 12));
    }

    #[inline]
    fn newest(&self, node: u32) -> &AtomicU32 {
        // SAFETY: the second word of a node, used for the chain only.
        unsafe { self.arena.atomic(node + NEWEST_AT) }
    }

    #[inline]
    fn key(&self, node: u32) -> &[u8] {
        // SAFETY: written before the node was published, with this length.
        unsafe { self.arena.bytes(node + KEY_AT, self.arena.read_u32(node + KEY_LEN_AT) as usize) }
    }

    #[inline]
    fn trailer(&self, version: u32) -> u64 {
        // SAFETY: written before the version was published.
        unsafe { self.arena.read_u64(version) }
    }

    #[inline]
    fn value_len(&self, version: u32) -> u32 {
        // SAFETY: written before the version was published.
        unsafe { self.arena.read_u32(version + VALUE_LEN_AT) }
    }

    #[inline]
    fn older(&self, version: u32) -> &AtomicU32 {
        // SAFETY: a word of the version, used for the chain only.
        unsafe { self.arena.atomic(version + OLDER_AT) }
    }

    #[inline]
    fn node_ref(&self, offset: u32) -> NodeRef<'_> {
        debug_assert!(offset != NO_OFFSET && offset != self.head);
        NodeRef { list: self, offset }
    }

    #[inline]
    fn optional_node(&self, offset: u32) -> Option<NodeRef<'_>> {
        (offset != NO_OFFSET).then(|| self.node_ref(offset))
    }

    /// The node at an offset that was taken from a [`NodeRef`].
    ///
    /// # Safety
    /// The `NodeRef` was one of this list, and the offset came here by a Release store and an Acquire load, or on the
    /// same thread.
    #[inline]
    pub unsafe fn node_at(&self, offset: u32) -> NodeRef<'_> {
        self.node_ref(offset)
    }

    /// Checks the order on every level and in every chain, and that each level is a part of the one below; gives the
    /// number of keys and versions. For tests; may run beside inserts.
    pub fn check(&self) -> (usize, usize) {
        let (mut keys, mut versions) = (0, 0);
        for level in (0..HEIGHT_MAX).rev() {
            let mut last: Option<&[u8]> = None;
            let mut below = self.head;
            let mut node = self.follow(self.head, level);
            while node != NO_OFFSET {
                let key = self.key(node);
                assert!(last.is_none_or(|last| last < key), "keys out of order on level {level}");
                last = Some(key);
                if level == 0 {
                    keys += 1;
                    let mut version = self.node_ref(node).newest();
                    versions += 1;
                    while let Some(older) = version.older() {
                        assert!(older.trailer() < version.trailer(), "versions out of order");
                        version = older;
                        versions += 1;
                    }
                } else {
                    while below != node {
                        below = self.follow(below, level - 1);
                        assert_ne!(below, NO_OFFSET, "a node of level {level} is not on the one below");
                    }
                }
                node = self.follow(node, level);
            }
        }
        (keys, versions)
    }
}

/// One key of a list. It has at least one version.
#[derive(Clone, Copy)]
pub struct NodeRef<'a> {
    list: &'a SkipList,
    offset: u32,
}

impl<'a> NodeRef<'a> {
    /// The user key.
    #[inline]
    pub fn key(self) -> &'a [u8] {
        self.list.key(self.offset)
    }

    /// The newest version of all.
    #[inline]
    pub fn newest(self) -> VersionRef<'a> {
        // Acquire: pairs with the Release in `link_version`.
        VersionRef { list: self.list, offset: self.list.newest(self.offset).load(Ordering::Acquire) }
    }

    /// The newest version whose trailer is not above `trailer`.
    #[inline]
    pub fn newest_at(self, trailer: u64) -> Option<VersionRef<'a>> {
        let mut version = self.newest();
        while version.trailer() > trailer {
            version = version.older()?;
        }
        Some(version)
    }

    /// The node behind.
    #[inline]
    pub fn next(self) -> Option<NodeRef<'a>> {
        self.list.optional_node(self.list.follow(self.offset, 0))
    }

    /// For a slot of the hash index.
    #[inline]
    pub fn offset(self) -> u32 {
        self.offset
    }

    /// The list it is in.
    #[inline]
    pub fn list(self) -> &'a SkipList {
        self.list
    }
}

/// One version of a key.
#[derive(Clone, Copy)]
pub struct VersionRef<'a> {
    list: &'a SkipList,
    offset: u32,
}

impl<'a> VersionRef<'a> {
    /// Sequence and kind.
    #[inline]
    pub fn trailer(self) -> u64 {
        self.list.trailer(self.offset)
    }

    /// The value.
    #[inline]
    pub fn value(self) -> &'a [u8] {
        self.list.value_at(self.value_at())
    }

    /// Where the value lies, for [`SkipList::value_at`].
    #[inline]
    pub fn value_at(self) -> ValueAt {
        ValueAt {
            list_name: self.list.name,
            offset: self.offset + VALUE_AT,
            len: self.list.value_len(self.offset),
        }
    }

    /// The next older version.
    #[inline]
    pub fn older(self) -> Option<VersionRef<'a>> {
        // Acquire: pairs with the Release in `link_version`.
        let offset = self.list.older(self.offset).load(Ordering::Acquire);
        (offset != NO_OFFSET).then_some(VersionRef { list: self.list, offset })
    }
}

/// Names a value without borrowing its list, for those who keep the list alive by other means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ValueAt {
    list_name: u64,
    offset: u32,
    len: u32,
}

impl ValueAt {
    /// Length of the value in bytes.
    pub fn len(self) -> usize {
        self.len as usize
    }

    /// Whether the value is empty.
    pub fn is_empty(self) -> bool {
        self.len == 0
    }
}

/// A place in a list, owning it. Goes over all versions: keys ascending, versions of a key from new to old, and back.
///
/// It sees each version that was there when it was made, and may or may not see later ones.
pub struct Cursor {
    list: Arc<SkipList>,
    /// `NO_OFFSET`: stands nowhere. Else a published node of `list`.
    node: u32,
    /// A version of that node.
    version: u32,
    /// If `newer_known`, the versions of the node that are newer than `version`, newest first. Chains are linked one
    /// way only, so going back over a chain of n versions collects it once rather than n times.
    newer: Vec<u32>,
    newer_known: bool,
}

impl Cursor {
    /// A cursor that stands nowhere.
    pub fn new(list: Arc<SkipList>) -> Cursor {
        Cursor { list, node: NO_OFFSET, version: NO_OFFSET, newer: Vec::new(), newer_known: false }
    }

    /// Whether it stands on a version.
    #[inline]
    pub fn valid(&self) -> bool {
        self.node != NO_OFFSET
    }

    /// The key here; panics where there is none.
    #[inline]
    pub fn key(&self) -> &[u8] {
        self.here().0.key()
    }

    /// The version here; panics where there is none.
    #[inline]
    pub fn version(&self) -> VersionRef<'_> {
        self.here().1
    }

    /// To the first version.
    pub fn seek_to_first(&mut self) {
        let first = self.list.first().map(newest_of);
        self.stand(first);
    }

    /// To the last version.
    pub fn seek_to_last(&mut self) {
        let last = self.list.last().map(|node| node.offset);
        self.enter_backwards(last);
    }

    /// To the first version at or behind `(key, trailer)`.
    pub fn seek(&mut self, key: &[u8], trailer: u64) {
        let place = match self.list.find_at_or_after(key) {
            (Some(node), true) => match node.newest_at(trailer) {
                Some(version) => Some((node.offset, version.offset)),
                None => node.next().map(newest_of),
            },
            (node, _) => node.map(newest_of),
        };
        self.stand(place);
    }

    /// To the last version before `(key, trailer)`.
    pub fn seek_before(&mut self, key: &[u8], trailer: u64) {
        if let Some(node) = self.list.find(key).map(|node| node.offset)
            && self.climb(node, Some(trailer))
        {
            return;
        }
        let before = self.list.find_before(key).map(|node| node.offset);
        self.enter_backwards(before);
    }

    /// To the next version; panics where there is none to go from.
    pub fn next(&mut self) {
        let (node, version) = self.here();
        let place = match version.older() {
            Some(older) => Some((node.offset, older.offset)),
            None => node.next().map(newest_of),
        };
        self.stand(place);
    }

    /// To the version before; panics where there is none to go from.
    pub fn prev(&mut self) {
        if self.newer_known {
            if let Some(newer) = self.newer.pop() {
                self.version = newer;
                return;
            }
        } else if self.climb(self.node, Some(self.version().trailer())) {
            return;
        }
        let before = self.list.find_before(self.key()).map(|node| node.offset);
        self.enter_backwards(before);
    }

    fn here(&self) -> (NodeRef<'_>, VersionRef<'_>) {
        assert!(self.valid(), "the cursor stands nowhere");
        let list = &*self.list;
        (NodeRef { list, offset: self.node }, VersionRef { list, offset: self.version })
    }

    fn stand(&mut self, place: Option<(u32, u32)>) {
        (self.node, self.version) = place.unwrap_or((NO_OFFSET, NO_OFFSET));
        self.newer_known = false;
    }

    /// To the oldest version of a node.
    fn enter_backwards(&mut self, node: Option<u32>) {
        let entered = node.is_some_and(|node| self.climb(node, None));
        if !entered {
            self.stand(None);
        }
    }

    /// To the oldest version of `node` whose trailer is above `floor`; false, and no change, if there is none.
    fn climb(&mut self, node: u32, floor: Option<u64>) -> bool {
        self.newer.clear();
        self.newer_known = false;
        let mut version = Some(NodeRef { list: &self.list, offset: node }.newest());
        while let Some(at) = version.filter(|at| floor.is_none_or(|floor| at.trailer() > floor)) {
            self.newer.push(at.offset);
            version = at.older();
        }
        let Some(version) = self.newer.pop() else { return false };
        (self.node, self.version, self.newer_known) = (node, version, true);
        true
    }
}

/// A place in a list, owning it, for a reader at one read point: of each key the newest version not above it, and of keys that
/// have none, nothing. However often a key was overwritten, each move costs one search at most.
///
/// Every version at or below the read point must have been inserted before this is made.
pub struct NewestCursor {
    list: Arc<SkipList>,
    /// The greatest trailer that is seen.
    read: u64,
    /// `NO_OFFSET`: stands nowhere. Else a published node of `list`.
    node: u32,
    /// The version of that node that is seen.
    version: u32,
    /// Where the last step back came down, on each level; nothing yet while level 0 has none.
    path: [u32; HEIGHT_MAX],
}

impl NewestCursor {
    /// A cursor that stands nowhere and sees trailers up to `read`.
    pub fn new(list: Arc<SkipList>, read: u64) -> NewestCursor {
        NewestCursor { list, read, node: NO_OFFSET, version: NO_OFFSET, path: [NO_OFFSET; HEIGHT_MAX] }
    }

    /// Whether it stands on a version.
    #[inline]
    pub fn valid(&self) -> bool {
        self.node != NO_OFFSET
    }

    /// The key here; panics where there is none.
    #[inline]
    pub fn key(&self) -> &[u8] {
        self.here().key()
    }

    /// The version here; panics where there is none.
    #[inline]
    pub fn version(&self) -> VersionRef<'_> {
        let NodeRef { list, .. } = self.here();
        VersionRef { list, offset: self.version }
    }

    /// To the first key.
    pub fn seek_to_first(&mut self) {
        let place = self.at_or_behind(self.list.first());
        self.stand(place);
    }

    /// To the last key.
    pub fn seek_to_last(&mut self) {
        self.path = [NO_OFFSET; HEIGHT_MAX];
        self.path[0] = self.list.last().map_or(self.list.head, |last| last.offset);
        let place = self.at_or_before();
        self.stand(place);
    }

    /// To the first version at or behind `(key, trailer)`.
    pub fn seek(&mut self, key: &[u8], trailer: u64) {
        let (node, matched) = self.list.find_at_or_after(key);
        let node = match node {
            // What is seen of the key itself lies before the target.
            Some(node)
                if matched && self.seen_of(node).is_some_and(|version| version.trailer() > trailer) =>
            {
                node.next()
            }
            node => node,
        };
        let place = self.at_or_behind(node);
        self.stand(place);
    }

    /// To the last version before `(key, trailer)`.
    pub fn seek_before(&mut self, key: &[u8], trailer: u64) {
        let own = self.list.find(key).and_then(|node| Some((node.offset, self.seen_of(node)?)));
        let place = match own {
            Some((node, version)) if version.trailer() > trailer => Some((node, version.offset)),
            _ => {
                let mut path = [NO_OFFSET; HEIGHT_MAX];
                self.list.search(key, |level, place| path[level] = place.before);
                self.path = path;
                self.at_or_before()
            }
        };
        self.stand(place);
    }

    /// To the next key; panics where there is none to go from.
    pub fn next(&mut self) {
        let place = self.at_or_behind(self.here().next());
        self.stand(place);
    }

    /// To the key before; panics where there is none to go from. Step after step back costs little more than forwards.
    pub fn prev(&mut self) {
        let node = self.here().offset;
        self.list.step_back(&mut self.path, node);
        let place = self.at_or_before();
        self.stand(place);
    }

    /// Takes up to `steps` steps forward and hands each key and version that it comes to to `take`, until that breaks: then it says
    /// how many it took. No more than [`steps_below`](Self::steps_below) told of.
    pub fn run(
        &mut self,
        steps: usize,
        mut take: impl FnMut(&[u8], VersionRef<'_>) -> ControlFlow<()>,
    ) -> ControlFlow<usize> {
        for step in 1..=steps {
            // Past those that came since and are not seen, as `next` goes.
            let Some((node, version)) = self.at_or_behind(self.here().next()) else { break };
            (self.node, self.version) = (node, version);
            if take(self.key(), self.version()).is_break() {
                return ControlFlow::Break(step);
            }
        }
        ControlFlow::Continue(())
    }

    /// How many steps forward certainly lead to keys below `bound` (to any, without one); not all that there may be. Keys that come
    /// meanwhile are not seen, and no other goes, so it stays true.
    pub fn steps_below(&self, bound: Option<&[u8]>) -> usize {
        const FEW: usize = 4;
        const MANY: usize = 16;
        let (mut node, mut steps) = (self.here(), 0);
        let mut few = node;
        while steps < MANY
            && let Some(next) = node.next().filter(|next| self.seen_of(*next).is_some())
        {
            (node, steps) = (next, steps + 1);
            if steps == FEW {
                few = node;
            }
        }
        let is_below = |node: NodeRef<'_>| {
            bound.is_none_or(|bound| compare_alike(node.key(), bound) == cmp::Ordering::Less)
        };
        match () {
            () if steps == 0 || is_below(node) => steps,
            () if steps > FEW && is_below(few) => FEW,
            () => 0,
        }
    }

    fn here(&self) -> NodeRef<'_> {
        assert!(self.valid(), "the cursor stands nowhere");
        NodeRef { list: &self.list, offset: self.node }
    }

    fn seen_of<'a>(&self, node: NodeRef<'a>) -> Option<VersionRef<'a>> {
        node.newest_at(self.read)
    }

    fn at_or_behind(&self, mut node: Option<NodeRef<'_>>) -> Option<(u32, u32)> {
        while let Some(at) = node {
            if let Some(version) = self.seen_of(at) {
                return Some((at.offset, version.offset));
            }
            node = at.next();
        }
        None
    }

    /// From where the path ends, back to the first node of which something is seen.
    fn at_or_before(&mut self) -> Option<(u32, u32)> {
        while self.path[0] != self.list.head {
            let node = self.list.node_ref(self.path[0]);
            if let Some(version) = self.seen_of(node) {
                return Some((node.offset, version.offset));
            }
            let offset = node.offset;
            self.list.step_back(&mut self.path, offset);
        }
        None
    }

    fn stand(&mut self, place: Option<(u32, u32)>) {
        (self.node, self.version) = place.unwrap_or((NO_OFFSET, NO_OFFSET));
    }
}

/// Where a cursor stands that comes to a node from the front.
fn newest_of(node: NodeRef<'_>) -> (u32, u32) {
    (node.offset, node.newest().offset)
}

const fn node_bytes(key_len: usize, height: usize) -> usize {
    (height - 1) * LINK_BYTES + KEY_AT as usize + align(key_len)
}

const fn version_bytes(value_len: usize) -> usize {
    VALUE_AT as usize + align(value_len)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_bound_is_enough_for_the_tallest_tower() {
        for (key_len, value_len) in [(0, 0), (1, 1), (4, 8), (7, 13)] {
            let bytes = SkipList::entry_bytes_max(key_len, value_len);
            let list = SkipList::new(bytes).unwrap();
            assert!(list.arena().reserve(bytes) && !list.arena().reserve(1));
            list.insert(&vec![1; key_len], 1 << 8, &vec![2; value_len], HEIGHT_MAX, bytes);
            assert_eq!(list.arena().used_bytes(), list.arena().capacity_bytes());
            assert_eq!(list.check(), (1, 1));
        }
    }

    proptest! {
        // Searches made beforehand, for keys that come soon, late, never or twice, among insertions that change what they found.
        #[test]
        fn places_looked_up_beforehand_are_right(
            steps in proptest::collection::vec((proptest::collection::vec(0u64..400, 1..20), 0usize..25, 1usize..=8), 1..40),
        ) {
            const EACH: usize = 200;
            let list = SkipList::new(1 << 20).unwrap();
            let mut model = std::collections::BTreeMap::new();
            let mut sequence = 0u64;
            // Few slots, so that keys take each other's.
            let hash = |key: u64| (key % 3) << 32 | key;
            for (keys, inserted, height) in steps {
                let words = keys.iter().map(|key| key.to_be_bytes()).collect::<Vec<_>>();
                list.search_together(keys.iter().map(|key| hash(*key)).zip(words.iter().map(|word| &word[..])));
                for key in keys.iter().cycle().take(inserted) {
                    sequence += 1;
                    prop_assert!(list.arena().reserve(EACH));
                    let word = (key + sequence % 2).to_be_bytes();
                    list.insert_hinted(Some(hash(*key)), &word, sequence << 8, b"v", height, EACH);
                    *model.entry(word).or_insert(0) += 1;
                }
            }
            prop_assert_eq!(list.check(), (model.len(), model.values().sum::<usize>()));
            for key in model.keys() {
                prop_assert!(list.find(key).is_some());
            }
            // Long enough apart that no finger helps.
            let far = (0..64u64).map(|at| at.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes()).collect::<Vec<_>>();
            for (at, word) in far.iter().enumerate() {
                let hash = (at as u64) << 32;
                list.search_together(std::iter::once((hash, &word[..])));
                let before = list.hints.before(hash).map(|before| before(0));
                prop_assert_eq!(before, Some(list.find_before(word).map_or(list.head, |node| node.offset)));
                prop_assert!(list.arena().reserve(EACH));
                list.insert_hinted(Some(hash), word, (1 << 40) + ((at as u64) << 8), b"v", 1, EACH);
                prop_assert!(list.find(word).is_some());
            }
            list.check();
        }

        // Runs of neighbours at up to three places at once, so that fingers are followed, given up and taken again.
        #[test]
        fn insertions_beside_each_other_find_their_places(
            steps in proptest::collection::vec((0u64..3, 0u64..4, 1usize..=6, 1usize..9), 1..60),
        ) {
            const EACH: usize = 200;
            let list = SkipList::new(1 << 20).unwrap();
            let mut model = std::collections::BTreeMap::new();
            let mut ends = [1_000u64, 500_000, 900_000];
            let mut sequence = 0u64;
            for (place, way, height, times) in steps {
                for _ in 0..times {
                    sequence += 1;
                    let end = &mut ends[place as usize];
                    match way {
                        0 => *end += 1,
                        1 => *end -= 1,
                        2 => *end += 1_000,
                        _ => {}
                    }
                    let key = end.to_be_bytes();
                    prop_assert!(list.arena().reserve(EACH));
                    list.insert(&key, sequence << 8, b"v", height, EACH);
                    *model.entry(key).or_insert(0) += 1;
                }
            }
            prop_assert_eq!(list.check(), (model.len(), model.values().sum::<usize>()));
            for (key, versions) in model {
                let mut version = list.find(&key).map(|node| node.newest());
                let mut count = 0;
                while let Some(at) = version {
                    (count, version) = (count + 1, at.older());
                }
                prop_assert_eq!(count, versions);
            }
        }

        // Steps both ways, from seeks, beside insertions and with keys that the reader does not see.
        #[test]
        fn a_cursor_of_newest_versions_steps_both_ways(
            keys in proptest::collection::btree_map(0u16..300, (1u64..40, 1usize..=HEIGHT_MAX), 1..80),
            moves in proptest::collection::vec((0u8..10, 0u16..300), 1..60),
        ) {
            const EACH: usize = 200;
            const READ: u64 = 20;
            let list = Arc::new(SkipList::new(1 << 20).unwrap());
            let insert = |key: u16, sequence: u64, height| {
                assert!(list.arena().reserve(EACH));
                list.insert(&key.to_be_bytes(), sequence << 8, b"v", height, EACH);
            };
            keys.iter().for_each(|(&key, &(sequence, height))| {
                insert(key, sequence, height);
            });
            let seen: Vec<u16> =
                keys.iter().filter(|(_, (sequence, _))| *sequence <= READ).map(|(&key, _)| key).collect();
            let mut cursor = NewestCursor::new(list.clone(), READ << 8 | 0xff);
            let mut at: Option<usize> = None;
            for (number, (step, key)) in moves.into_iter().enumerate() {
                let behind = seen.partition_point(|&own| own < key);
                match (step, at) {
                    (0, _) => {
                        cursor.seek(&key.to_be_bytes(), u64::MAX);
                        at = (behind < seen.len()).then_some(behind);
                    }
                    (1, _) => {
                        cursor.seek_before(&key.to_be_bytes(), u64::MAX);
                        at = behind.checked_sub(1);
                    }
                    (2, _) => {
                        cursor.seek_to_last();
                        at = seen.len().checked_sub(1);
                    }
                    // Not seen, but in the way.
                    (3, _) => insert(key, 100 + number as u64, 1 + key as usize % HEIGHT_MAX),
                    (4..=5, Some(index)) => {
                        cursor.next();
                        at = (index + 1 < seen.len()).then_some(index + 1);
                    }
                    (_, Some(index)) => {
                        cursor.prev();
                        at = index.checked_sub(1);
                    }
                    (_, None) => {}
                }
                let here = cursor.valid().then(|| u16::from_be_bytes(cursor.key().try_into().unwrap()));
                prop_assert_eq!(here, at.map(|index| seen[index]));
            }
        }
    }

    #[test]
    #[should_panic(expected = "another list")]
    fn a_node_of_another_list_is_refused() {
        let (a, b) = (SkipList::new(1000).unwrap(), SkipList::new(1000).unwrap());
        assert!(a.arena().reserve(500) && b.arena().reserve(500));
        let node = a.insert(b"k", 1 << 8, b"", 1, 200);
        b.insert_version(node, 2 << 8, b"", 200);
    }

    #[test]
    #[should_panic(expected = "another list")]
    fn a_value_of_another_list_is_refused() {
        let (a, b) = (SkipList::new(1000).unwrap(), SkipList::new(1000).unwrap());
        assert!(a.arena().reserve(500));
        let at = a.insert(b"k", 1 << 8, b"value", 1, 200).newest().value_at();
        assert_eq!(a.value_at(at), b"value");
        b.value_at(at);
    }
}
