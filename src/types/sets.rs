//! What the set commands do.

use crate::base::stop::Stop;
use crate::encoding::data::{self, MEMBER};
use crate::encoding::meta::{Head, Kind, Record, damaged};
use crate::encoding::set::{Members, member_of};
use crate::store::events::EventClass;
use crate::store::read_ahead::Element;
use crate::store::txn::{At, Txn};
use crate::types::elements::{CompactSizes, Page, Wanted, picks_max, positions};
use crate::types::pages::{PageWalk, Stretch};
use crate::types::set_algebra::{Operands, Operation};
use crate::types::set_value::{Editor, Maker, View, size_of};
use haypile_lsm::Iter;
use haypile_lsm::base::rng::Rng;
use std::collections::HashSet;
use std::ops::ControlFlow;

/// What is handed out of a set: first how many members there are, then the members.
#[derive(Clone, Copy, Debug)]
pub enum Part<'a> {
    /// So many members follow.
    Count(u64),
    /// A member.
    Member(&'a [u8]),
}

/// SADD: how many of the members are new.
pub fn add<'a>(
    txn: &mut Txn,
    at: At<'_>,
    members: impl ExactSizeIterator<Item = &'a [u8]>,
) -> Result<u64, Stop> {
    let mut editor = Editor::open(txn, at, members.len() > 1)?;
    let mut added = 0;
    for member in members {
        added += u64::from(editor.add(txn, member)?);
    }
    editor.finish(txn)?;
    Ok(added)
}

/// SREM: how many of the members were there.
pub fn remove<'a>(
    txn: &mut Txn,
    at: At<'_>,
    members: impl ExactSizeIterator<Item = &'a [u8]>,
) -> Result<u64, Stop> {
    let mut editor = Editor::open(txn, at, members.len() > 1)?;
    let mut removed = 0;
    if editor.existed() {
        for member in members {
            removed += u64::from(editor.remove(txn, member)?);
        }
    }
    editor.finish(txn)?;
    Ok(removed)
}

/// SMISMEMBER: tells `f` of each member whether it is there.
pub fn contain<'a>(
    txn: &mut Txn,
    at: At<'_>,
    members: impl Iterator<Item = &'a [u8]>,
    mut f: impl FnMut(bool),
) -> Result<(), Stop> {
    let view = View::open(txn, at)?;
    for member in members {
        f(match &view {
            Some(view) => view.contains(txn, member)?,
            None => false,
        });
    }
    if let Some(view) = view {
        view.close(txn);
    }
    Ok(())
}

/// SMOVE: whether the member was moved.
pub fn move_member(txn: &mut Txn, from: At<'_>, to: At<'_>, member: &[u8]) -> Result<bool, Stop> {
    let mut source = Editor::open(txn, from, false)?;
    if !source.existed() {
        return Ok(false);
    }
    let mut target = Editor::open(txn, to, false)?;
    if from.db == to.db && from.key == to.key {
        return source.contains(txn, member);
    }
    if !source.remove(txn, member)? {
        return Ok(false);
    }
    let is_new = target.add(txn, member)?;
    source.finish(txn)?;
    txn.event_and_del(EventClass::SET, "srem", from);
    target.finish(txn)?;
    if is_new {
        txn.event(EventClass::SET, "sadd", to);
    }
    Ok(true)
}

/// SMEMBERS: how many members, then each.
pub fn all(txn: &mut Txn, at: At<'_>, mut f: impl FnMut(Part<'_>)) -> Result<(), Stop> {
    let Some(view) = View::open(txn, at)? else {
        f(Part::Count(0));
        return Ok(());
    };
    hand_out_all(txn, &view, &mut f)?;
    view.close(txn);
    Ok(())
}

fn hand_out_all(txn: &mut Txn, view: &View<'_>, f: &mut impl FnMut(Part<'_>)) -> Result<(), Stop> {
    let count = view.size()?.count;
    f(Part::Count(count));
    let mut found = 0;
    view.for_each(txn, |member| {
        found += 1;
        f(Part::Member(member));
    })?;
    if found != count { Err(not_as_many()) } else { Ok(()) }
}

fn not_as_many() -> Stop {
    damaged("keyspace data", "a set has not as many members as it says").into()
}

/// SSCAN: hands matching members to `f`; the cursor to go on with, 0 at the end.
pub fn scan(txn: &mut Txn, at: At<'_>, page: Page<'_>, mut f: impl FnMut(&[u8])) -> Result<u64, Stop> {
    let Some(view) = View::open(txn, at)? else { return Ok(0) };
    if view.packed().is_some() {
        view.for_each(txn, |member| {
            if page.names(member) {
                f(member);
            }
        })?;
        view.close(txn);
        return Ok(0);
    }
    let mut prefix = Vec::new();
    data::put_element_prefix(&mut prefix, at.space, view.id(), MEMBER);
    let keyspace = txn.store().keyspaces().data;
    // Members lie in the order of a hash: what a pattern begins with bounds nothing.
    let stretch = Stretch { keyspace, prefix: &prefix, literal: b"", cursor: page.cursor, count: page.count };
    let mut walk = PageWalk::open(txn, stretch)?;
    while let Some((key, _)) = walk.record() {
        txn.charge(1, key.len() as u64)?;
        let member = member_of(key)?;
        if page.names(member) {
            f(member);
        }
        walk.step()?;
    }
    Ok(walk.finish(txn))
}

// Random members.

/// A walk through the whole set is taken to cost as much as picking one member of so many.
const WALK_PER_PICK: u64 = 12;
/// A pick chooses among so many members behind a random hash. Of one member it would be the likelier the wider the gap in
/// front of it; of many in a row the gaps even out.
const NEIGHBOURS: u64 = 16;

/// A random member of a set under an id, as `hash | member`: the iterator stands on it. False if there is none.
fn pick(txn: &mut Txn, view: &View<'_>, iter: &mut Iter, rng: &mut Rng) -> Result<bool, Stop> {
    seek_random(view, iter, rng)?;
    for _ in 0..rng.below(NEIGHBOURS) {
        if !iter.valid() {
            // Behind the last one comes the first.
            iter.seek_to_first()?;
        }
        if iter.valid() {
            iter.next()?;
        }
    }
    if !iter.valid() {
        iter.seek_to_first()?;
    }
    txn.charge(2, 0)?;
    Ok(iter.valid())
}

/// To the first member at or behind a random hash; nowhere if there is none.
fn seek_random(view: &View<'_>, iter: &mut Iter, rng: &mut Rng) -> Result<(), Stop> {
    let mut key = Vec::new();
    data::put_element_prefix(&mut key, view.at().space, view.id(), MEMBER);
    key.extend_from_slice(&(rng.next_u64() as u32).to_be_bytes());
    Ok(iter.seek(&key)?)
}

/// Hands out random members of a set.
fn choose(txn: &mut Txn, view: &View<'_>, wanted: Wanted, f: &mut impl FnMut(Part<'_>)) -> Result<(), Stop> {
    let mut rng = Rng::new(txn.draws().seed);
    let size = view.size()?.count;
    let count = wanted.of(size);
    f(Part::Count(count));
    txn.charge(count.min(u64::from(u32::MAX)) as u32, 0)?;
    if let Some(body) = view.packed() {
        let (mut members, mut all) = (Members::new(body), Vec::with_capacity(size as usize));
        while let Some((member, _)) = members.next_member()? {
            all.push(member);
        }
        for position in positions(&mut rng, size, wanted) {
            f(Part::Member(all.get(position as usize).ok_or_else(not_as_many)?));
        }
        return Ok(());
    }
    if wanted.distinct && count >= size / WALK_PER_PICK {
        let chosen = positions(&mut rng, size, wanted);
        let (mut position, mut next) = (0, 0);
        view.for_each(txn, |member| {
            if chosen.get(next) == Some(&position) {
                next += 1;
                f(Part::Member(member));
            }
            position += 1;
        })?;
        return if next == chosen.len() { Ok(()) } else { Err(not_as_many()) };
    }
    let mut iter = view.walk(txn)?;
    let mut picked = HashSet::new();
    let (mut done, mut misses) = (0, 0);
    while done < count {
        if misses > picks_max(count) {
            return choose_others(txn, view, &picked, &mut rng, size, count, f);
        }
        if !pick(txn, view, &mut iter, &mut rng)? {
            return Err(not_as_many());
        }
        let member = member_of(iter.key())?;
        if count == 1 || !wanted.distinct || picked.insert(member.to_vec()) {
            f(Part::Member(member));
            done += 1;
        } else {
            misses += 1;
        }
    }
    Ok(())
}

/// Members can be chosen so that picks meet the same few again and again: then a walk hands out as many of the others as are missing.
fn choose_others(
    txn: &mut Txn,
    view: &View<'_>,
    picked: &HashSet<Vec<u8>>,
    rng: &mut Rng,
    size: u64,
    count: u64,
    f: &mut impl FnMut(Part<'_>),
) -> Result<(), Stop> {
    let missing = Wanted { count: count - picked.len() as u64, distinct: true };
    let chosen = positions(rng, size - picked.len() as u64, missing);
    let (mut position, mut next) = (0, 0);
    view.for_each(txn, |member| {
        if picked.contains(member) {
            return;
        }
        if chosen.get(next) == Some(&position) {
            f(Part::Member(member));
            next += 1;
        }
        position += 1;
    })?;
    if next == chosen.len() { Ok(()) } else { Err(not_as_many()) }
}

/// SRANDMEMBER: how many members, then each.
pub fn random(txn: &mut Txn, at: At<'_>, wanted: Wanted, mut f: impl FnMut(Part<'_>)) -> Result<(), Stop> {
    match View::open(txn, at)? {
        Some(view) if wanted.count != 0 => {
            choose(txn, &view, wanted, &mut f)?;
            view.close(txn);
        }
        _ => f(Part::Count(0)),
    }
    Ok(())
}

/// SPOP: how many members, then each. They are removed.
pub fn pop(txn: &mut Txn, at: At<'_>, count: u64, mut f: impl FnMut(Part<'_>)) -> Result<(), Stop> {
    let mut editor = Editor::open(txn, at, count > 1)?;
    if count == 0 || !editor.existed() {
        f(Part::Count(0));
        return Ok(());
    }
    if count == 1 && editor.id() != 0 && editor.length() > NEIGHBOURS && txn.reads_committed() {
        let member = pop_ahead(txn, &editor)?;
        f(Part::Count(1));
        f(Part::Member(&member));
        editor.remove_present(txn, &member)?;
        return editor.finish(txn);
    }
    let view = editor.view();
    if count >= editor.length() {
        hand_out_all(txn, &view, &mut f)?;
        editor.clear(txn);
        return editor.finish(txn);
    }
    let mut popped: Vec<Vec<u8>> = Vec::new();
    choose(txn, &view, Wanted { count, distinct: true }, &mut |part| {
        if let Part::Member(member) = part {
            popped.push(member.to_vec());
        }
        f(part);
    })?;
    for member in &popped {
        if !editor.remove_present(txn, member)? {
            return Err(not_as_many());
        }
    }
    editor.finish(txn)
}

/// A random member of a set under an id, to be popped; the others of its neighbourhood are read with it.
fn pop_ahead(txn: &mut Txn, editor: &Editor<'_>) -> Result<Element, Stop> {
    let (id, mut rng) = (editor.id(), Rng::new(txn.draws().seed));
    if let Some(member) = txn.store().read_ahead().take_member(id, rng.next_u64()) {
        // As reading it would.
        txn.charge(1, member.len() as u64)?;
        txn.mark_read();
        return Ok(member);
    }
    let view = editor.view();
    let mut iter = view.walk(txn)?;
    let mut members = Vec::with_capacity(NEIGHBOURS as usize);
    seek_random(&view, &mut iter, &mut rng)?;
    while members.len() < NEIGHBOURS as usize {
        if !iter.valid() {
            iter.seek_to_first()?;
            if !iter.valid() {
                return Err(not_as_many());
            }
        }
        let member = member_of(iter.key())?;
        txn.charge(1, member.len() as u64)?;
        members.push(Element::from_slice(member));
        iter.next()?;
    }
    let member = members.swap_remove(rng.below(NEIGHBOURS) as usize);
    txn.store().read_ahead().leave_members(id, members.into_iter());
    Ok(member)
}

// Several sets.

/// SINTER, SUNION, SDIFF: hands every member of the result to `f`.
pub fn combine<'k>(
    txn: &mut Txn,
    operation: Operation,
    keys: impl ExactSizeIterator<Item = &'k [u8]>,
    mut f: impl FnMut(&[u8]),
) -> Result<(), Stop> {
    let operands = Operands::open(txn, keys)?;
    operands.each(txn, operation, |_, member| {
        f(member);
        Ok(ControlFlow::Continue(()))
    })
}

/// SINTERCARD: how many members the intersection has, counted up to `limit`; 0 for no limit.
pub fn count_intersection<'k>(
    txn: &mut Txn,
    keys: impl ExactSizeIterator<Item = &'k [u8]>,
    limit: u64,
) -> Result<u64, Stop> {
    let operands = Operands::open(txn, keys)?;
    let mut count = 0;
    operands.each(txn, Operation::Intersection, |_, _| {
        count += 1;
        Ok(if count == limit { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    })?;
    Ok(count)
}

/// SINTERSTORE, SUNIONSTORE, SDIFFSTORE: how many members the result has. It replaces whatever is at `to`.
pub fn store<'k>(
    txn: &mut Txn,
    to: At<'_>,
    operation: Operation,
    keys: impl ExactSizeIterator<Item = &'k [u8]>,
) -> Result<u64, Stop> {
    const RECORD_BYTES: u64 = 40;
    let slot = txn.load(to)?;
    let operands = Operands::open(txn, keys)?;
    let mut maker = Maker::new(operands.bytes_max(operation, RECORD_BYTES));
    operands.each(txn, operation, |txn, member| {
        maker.push(txn, to, member)?;
        Ok(ControlFlow::Continue(()))
    })?;
    let count = maker.finish(txn, to, &slot.before, Head::plain(Kind::Set))?;
    txn.recycle(slot);
    Ok(count)
}

/// What Redis would call the encoding of a set.
pub fn encoding_name(record: &Record<'_>, sizes: &CompactSizes) -> Result<&'static str, Stop> {
    let size = size_of(&record.head, record.body)?;
    Ok(match () {
        () if !size.mixed && size.count <= sizes.intset_entries => "intset",
        () if size.count <= sizes.entries && size.longest_bytes <= sizes.value_bytes => "listpack",
        () => "hashtable",
    })
}
