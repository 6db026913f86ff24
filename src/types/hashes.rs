//! What the hash commands do.

use crate::base::extended::Extended;
use crate::base::glob;
use crate::base::number::{IntegerText, parse_i64};
use crate::base::reply_error::ReplyError;
use crate::base::stop::Stop;
use crate::encoding::data::{self, FIELD};
use crate::encoding::hash::{self, Fields, is_expired, split_value};
use crate::encoding::large::Large;
use crate::encoding::meta::{Record, damaged};
use crate::store::txn::{At, Txn};
use crate::types::elements::{CompactSizes, Page, Wanted, picks_max, positions};
use crate::types::hash_value::{Editor, FieldExpiry, View, Walk};
use crate::types::pages::{self, PageWalk};
use haypile_lsm::base::rng::Rng;
use haypile_lsm::prefix_end;
use std::collections::HashSet;

/// What is handed out of a hash: first how many fields there are, then the fields.
#[derive(Clone, Copy, Debug)]
pub enum Part<'a> {
    /// So many fields follow.
    Count(u64),
    /// Name and value of a field.
    Field(&'a [u8], &'a [u8]),
}

/// HSET: how many of the fields are new.
pub fn set<'a>(
    txn: &mut Txn,
    at: At<'_>,
    pairs: impl ExactSizeIterator<Item = (&'a [u8], &'a [u8])>,
) -> Result<u64, Stop> {
    let mut editor = Editor::open(txn, at, pairs.len() > 1)?;
    let mut added = 0;
    for (name, value) in pairs {
        added += u64::from(editor.set(txn, name, value, FieldExpiry::None)?);
    }
    editor.finish(txn)?;
    Ok(added)
}

/// HSETNX: whether the field was set.
pub fn set_if_absent(txn: &mut Txn, at: At<'_>, name: &[u8], value: &[u8]) -> Result<bool, Stop> {
    let mut editor = Editor::open(txn, at, false)?;
    let absent = editor.expiry(txn, name)?.is_none();
    if absent {
        editor.set(txn, name, value, FieldExpiry::None)?;
    }
    editor.finish(txn)?;
    Ok(absent)
}

/// HDEL: how many fields were there.
pub fn delete<'a>(
    txn: &mut Txn,
    at: At<'_>,
    names: impl ExactSizeIterator<Item = &'a [u8]>,
) -> Result<u64, Stop> {
    let mut editor = Editor::open(txn, at, names.len() > 1)?;
    let mut removed = 0;
    if editor.existed() {
        for name in names {
            removed += u64::from(editor.remove(txn, name)?);
        }
    }
    editor.finish(txn)?;
    Ok(removed)
}

/// HINCRBY: the new value. The field's expiry stays.
pub fn increment(txn: &mut Txn, at: At<'_>, name: &[u8], by: i64) -> Result<i64, Stop> {
    const NOT_AN_INTEGER: ReplyError = ReplyError::fixed("ERR hash value is not an integer");
    let mut editor = Editor::open(txn, at, false)?;
    let old = editor.get(txn, name, |found| found.map_or(Some(0), |(text, _)| parse_i64(text)))?;
    let new = old.ok_or(NOT_AN_INTEGER)?.checked_add(by).ok_or(ReplyError::INCREMENT_OVERFLOW)?;
    editor.set(txn, name, IntegerText::new(new).as_bytes(), FieldExpiry::Keep)?;
    editor.finish(txn)?;
    Ok(new)
}

/// HINCRBYFLOAT: the text of the new value. The field's expiry stays.
pub fn increment_float(txn: &mut Txn, at: At<'_>, name: &[u8], by: Extended) -> Result<String, Stop> {
    const NOT_A_FLOAT: ReplyError = ReplyError::fixed("ERR hash value is not a float");
    let mut editor = Editor::open(txn, at, false)?;
    let old = editor.get(txn, name, |found| Extended::parse(found.map_or(b"0", |(text, _)| text)))?;
    let new = old.ok_or(NOT_A_FLOAT)?.plus(by).filter(Extended::is_finite).ok_or(ReplyError::NOT_FINITE)?;
    let text = new.to_text();
    editor.set(txn, name, text.as_bytes(), FieldExpiry::Keep)?;
    editor.finish(txn)?;
    Ok(text)
}

/// HGETALL and the like: how many fields, then each.
pub fn all(txn: &mut Txn, at: At<'_>, mut f: impl FnMut(Part<'_>)) -> Result<(), Stop> {
    let Some(view) = View::open(txn, at)? else {
        f(Part::Count(0));
        return Ok(());
    };
    let count = view.length(txn)?;
    f(Part::Count(count));
    let mut found = 0;
    view.for_each(txn, |name, value| {
        found += 1;
        f(Part::Field(name, value));
    })?;
    if found != count {
        return Err(damaged("keyspace data", "a hash has not as many fields as it says").into());
    }
    view.close(txn);
    Ok(())
}

/// HSCAN: hands matching fields to `f`; the cursor to go on with, 0 at the end.
pub fn scan(txn: &mut Txn, at: At<'_>, page: Page<'_>, mut f: impl FnMut(&[u8], &[u8])) -> Result<u64, Stop> {
    let Some(view) = View::open(txn, at)? else { return Ok(0) };
    let now_ms = txn.now_ms();
    if view.packed().is_some() {
        view.for_each(txn, |name, value| {
            if page.names(name) {
                f(name, value);
            }
        })?;
        view.close(txn);
        return Ok(0);
    }
    let mut prefix = Vec::new();
    data::put_element_prefix(&mut prefix, at.space, view.head().id, FIELD);
    let literal = page.pattern.map(glob::literal_prefix).unwrap_or_default();
    let keyspace = txn.store().keyspaces().data;
    let stretch = pages::Stretch {
        keyspace,
        prefix: &prefix,
        literal: &literal,
        cursor: page.cursor,
        count: page.count,
    };
    let mut walk = PageWalk::open(txn, stretch)?;
    while let Some((key, value)) = walk.record() {
        txn.charge(1, (key.len() + value.len()) as u64)?;
        let (name, (expire_ms, value)) = (hash::name_of(key), split_value(value)?);
        if !is_expired(expire_ms, now_ms) && page.names(name) {
            f(name, value);
        }
        walk.step()?;
    }
    Ok(walk.finish(txn))
}

/// A stretch of fields in byte order.
#[derive(Clone, Copy, Debug)]
pub struct Stretch<'a> {
    /// One end, inclusive; empty for the hash's own.
    pub from: &'a [u8],
    /// The other end, inclusive; empty for the hash's own.
    pub to: &'a [u8],
    /// Backward: `from` is the upper end.
    pub reverse: bool,
    /// Which fields to name.
    pub pattern: Option<&'a [u8]>,
    /// How many fields to look at.
    pub limit: u64,
}

/// PKHSCANRANGE and PKHRSCANRANGE: hands fields to `f`; the field to go on with, empty at the end.
pub fn scan_range(
    txn: &mut Txn,
    at: At<'_>,
    stretch: Stretch<'_>,
    mut f: impl FnMut(&[u8], &[u8]),
) -> Result<Vec<u8>, Stop> {
    let Some(view) = View::open(txn, at)? else { return Ok(Vec::new()) };
    let now_ms = txn.now_ms();
    let (low, high) = match stretch.reverse {
        false => (stretch.from, stretch.to),
        true => (stretch.to, stretch.from),
    };
    let page = Page { cursor: 0, count: 0, pattern: stretch.pattern };
    if let Some(body) = view.packed() {
        let (mut fields, mut within) = (Fields::new(body), Vec::new());
        while let Some(field) = fields.next_field()? {
            if field.name >= low && (high.is_empty() || field.name <= high) && !field.is_expired(now_ms) {
                within.push((field.name, field.value));
            }
        }
        within.sort_unstable();
        if stretch.reverse {
            within.reverse();
        }
        let (now, later) = within.split_at(within.len().min(stretch.limit as usize));
        now.iter().filter(|(name, _)| page.names(name)).for_each(|(name, value)| f(name, value));
        let next = later.first().map(|(name, _)| name.to_vec()).unwrap_or_default();
        view.close(txn);
        return Ok(next);
    }
    let (mut lower, mut upper) = data::element_bounds(at.space, view.head().id, FIELD);
    lower.extend_from_slice(low);
    if !high.is_empty() {
        hash::put_key(&mut upper, at.space, view.head().id, high);
        // The first key there can be behind the last one.
        upper.push(0);
    }
    if lower >= upper {
        return Ok(Vec::new());
    }
    let mut walk = view.walk_within(txn, lower, upper)?;
    match stretch.reverse {
        false => walk.iter.seek_to_first()?,
        true => walk.iter.seek_to_last()?,
    }
    let mut left = stretch.limit;
    while let Some((name, value, expire_ms)) = walk.field()? {
        txn.charge(1, (name.len() + value.len()) as u64)?;
        if !is_expired(expire_ms, now_ms) {
            if left == 0 {
                return Ok(name.to_vec());
            }
            left -= 1;
            if page.names(name) {
                f(name, value);
            }
        }
        match stretch.reverse {
            false => walk.iter.next()?,
            true => walk.iter.prev()?,
        }
    }
    Ok(Vec::new())
}

// Random fields.

/// In a hash of up to so many fields a random one is counted to.
const COUNTED_MAX: u64 = 512;
/// A walk through the whole hash is taken to cost as much as picking one field of so many.
const WALK_PER_PICK: u64 = 200;
/// How often in a row a picked field may have expired.
const EXPIRED_PICKS_MAX: usize = 16;

/// HRANDFIELD: how many fields, then each.
pub fn random(txn: &mut Txn, at: At<'_>, wanted: Wanted, mut f: impl FnMut(Part<'_>)) -> Result<(), Stop> {
    let view = if wanted.count == 0 { None } else { View::open(txn, at)? };
    let Some(view) = view else {
        // The type is checked all the same.
        if wanted.count == 0
            && let Some(view) = View::open(txn, at)?
        {
            view.close(txn);
        }
        f(Part::Count(0));
        return Ok(());
    };
    let mut rng = Rng::new(txn.draws().seed);
    let size = view.length(txn)?;
    let count = wanted.of(size);
    f(Part::Count(count));
    txn.charge(count.min(u64::from(u32::MAX)) as u32, 0)?;
    let walked = view.packed().is_some() || size <= COUNTED_MAX || count >= size / WALK_PER_PICK;
    if walked {
        let at_random = positions(&mut rng, size, wanted);
        return hand_out(txn, view, &at_random, wanted.distinct, f);
    }
    let mut picker = Picker::new(txn, &view)?;
    let mut picked = HashSet::new();
    let (mut done, mut misses) = (0, 0);
    while done < count {
        if misses > picks_max(count) {
            return hand_out_others(txn, view, &picked, &mut rng, size, count, f);
        }
        let (name, value) = match picker.pick(txn, &mut rng)? {
            Some(found) => found,
            None => return Err(damaged("keyspace data", "a hash without fields").into()),
        };
        if !wanted.distinct || picked.insert(name.clone()) {
            f(Part::Field(&name, &value));
            done += 1;
        } else {
            misses += 1;
        }
    }
    view.close(txn);
    Ok(())
}

/// Names can be chosen so that picks meet the same few again and again: then a walk hands out as many of the others as are missing.
fn hand_out_others(
    txn: &mut Txn,
    view: View<'_>,
    picked: &HashSet<Vec<u8>>,
    rng: &mut Rng,
    size: u64,
    count: u64,
    mut f: impl FnMut(Part<'_>),
) -> Result<(), Stop> {
    let missing = Wanted { count: count - picked.len() as u64, distinct: true };
    let chosen = positions(rng, size - picked.len() as u64, missing);
    let (mut position, mut next) = (0, 0);
    view.for_each(txn, |name, value| {
        if picked.contains(name) {
            return;
        }
        if chosen.get(next) == Some(&position) {
            f(Part::Field(name, value));
            next += 1;
        }
        position += 1;
    })?;
    view.close(txn);
    match next == chosen.len() {
        true => Ok(()),
        false => Err(damaged("keyspace data", "a hash with fewer fields than it counts").into()),
    }
}

/// Hands out the fields at these positions of those that have not expired. The order of repeated ones counts.
fn hand_out(
    txn: &mut Txn,
    view: View<'_>,
    at_random: &[u64],
    in_order: bool,
    mut f: impl FnMut(Part<'_>),
) -> Result<(), Stop> {
    let (mut position, mut next, mut handed) = (0, 0, 0);
    if in_order {
        view.for_each(txn, |name, value| {
            if at_random.get(next) == Some(&position) {
                f(Part::Field(name, value));
                next += 1;
                handed += 1;
            }
            position += 1;
        })?;
    } else {
        let mut fields: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
        if let [single] = at_random {
            view.for_each(txn, |name, value| {
                if *single == position {
                    f(Part::Field(name, value));
                    handed += 1;
                }
                position += 1;
            })?;
        } else {
            view.for_each(txn, |name, value| fields.push((name.to_vec(), value.to_vec())))?;
            for at in at_random {
                if let Some((name, value)) = fields.get(*at as usize) {
                    f(Part::Field(name, value));
                    handed += 1;
                }
            }
        }
    }
    if handed != at_random.len() {
        return Err(damaged("keyspace data", "a hash has not as many fields as it says").into());
    }
    view.close(txn);
    Ok(())
}

/// How many ways down the tree of names are tried for one pick.
const TRIALS: usize = 6;
/// How many bytes down it goes at most.
const DEPTH_MAX: usize = 64;
/// So many names are read to learn of which bytes names are made.
const NAMES_TO_LEARN_FROM: usize = 48;
/// Once in so many times a branch is drawn from all bytes, known in names or not.
const BLIND_DRAWS: u64 = 8;

/// Picks fields of a large hash. Names lie in byte order and nobody counts them, so a random one is felt for: a few random
/// ways down the tree of names, each with the odds of having come that way, and of what they led to one is drawn, the
/// likelier the longer its odds were. With many trials every field would be as likely; with these few it is nearly so.
struct Picker<'v> {
    view: &'v View<'v>,
    walk: Walk,
    /// What the keys of all fields begin with.
    prefix: Vec<u8>,
    /// Which bytes were seen in names, by branch number.
    alphabet: [bool; BRANCHES],
}

/// A field that was picked.
type NameAndValue = (Vec<u8>, Vec<u8>);

/// Ways on from a name's beginning: 0 for its end, a byte's value and one for that byte.
const BRANCHES: usize = 257;

/// The branch that a key takes behind its first `shared` bytes.
fn branch(key: &[u8], shared: usize) -> usize {
    key.get(shared).map_or(0, |byte| usize::from(*byte) + 1)
}

impl<'v> Picker<'v> {
    fn new(txn: &mut Txn, view: &'v View<'v>) -> Result<Picker<'v>, Stop> {
        let mut prefix = Vec::new();
        data::put_element_prefix(&mut prefix, view.at().space, view.head().id, FIELD);
        let mut picker = Picker { view, walk: view.walk(txn)?, prefix, alphabet: [false; BRANCHES] };
        picker.walk.iter.seek_to_first()?;
        txn.charge(NAMES_TO_LEARN_FROM as u32, 0)?;
        for _ in 0..NAMES_TO_LEARN_FROM {
            let Some((name, ..)) = picker.walk.field()? else { break };
            name.iter().for_each(|byte| picker.alphabet[usize::from(*byte) + 1] = true);
            picker.alphabet[0] = true;
            picker.walk.iter.next()?;
        }
        Ok(picker)
    }

    /// Some field. `None` if there is none.
    fn pick(&mut self, txn: &mut Txn, rng: &mut Rng) -> Result<Option<NameAndValue>, Stop> {
        let now_ms = txn.now_ms();
        for _ in 0..EXPIRED_PICKS_MAX {
            let (mut chosen, mut weights) = (None, 0.0);
            for _ in 0..TRIALS {
                let Some((key, odds)) = self.feel_down(txn, rng)? else { return Ok(None) };
                let weight = 1.0 / odds;
                weights += weight;
                // Each is kept with the share that its weight has of all so far.
                if unit(rng) * weights < weight {
                    chosen = Some(key);
                }
            }
            let Some(key) = chosen else { return Ok(None) };
            self.walk.iter.seek(&key)?;
            if let Some((name, value, expire_ms)) = self.walk.field()?
                && !is_expired(expire_ms, now_ms)
            {
                txn.charge(1, value.len() as u64)?;
                return Ok(Some((name.to_vec(), value.to_vec())));
            }
        }
        // Nearly all have expired and are still stored: the live ones are looked for.
        let (mut found, mut seen) = (None, 0);
        self.view.for_each(txn, |name, value| {
            seen += 1;
            if rng.below(seen) == 0 {
                found = Some((name.to_vec(), value.to_vec()));
            }
        })?;
        Ok(found)
    }

    /// A random way down the tree of names: of the keys that begin alike, finds first and last, draws a branch between
    /// theirs where they part, goes on with those that take that branch, or the next one that is taken. The key it ends at,
    /// and the odds of ending there.
    fn feel_down(&mut self, txn: &mut Txn, rng: &mut Rng) -> Result<Option<(Vec<u8>, f64)>, Stop> {
        let iter = &mut self.walk.iter;
        let mut prefix = self.prefix.clone();
        let mut odds = 1.0;
        iter.seek(&prefix)?;
        if !iter.valid() {
            return Ok(None);
        }
        let mut first = iter.key().to_vec();
        for _ in 0..DEPTH_MAX {
            txn.charge(3, 0)?;
            match prefix_end(&prefix) {
                Some(end) => iter.seek_before(&end)?,
                None => iter.seek_to_last()?,
            }
            if !iter.valid() || iter.key() <= first.as_slice() {
                break;
            }
            let shared = first.iter().zip(iter.key()).take_while(|(a, b)| a == b).count();
            let (low, high) = (branch(&first, shared), branch(iter.key(), shared));
            (self.alphabet[low], self.alphabet[high]) = (true, true);
            let known = self.alphabet[low..=high].iter().filter(|known| **known).count();
            let drawn = match rng.one_in(BLIND_DRAWS) {
                true => low + rng.below((high - low + 1) as u64) as usize,
                false => {
                    let nth = rng.below(known as u64) as usize;
                    let mut branches = (low..=high).filter(|branch| self.alphabet[*branch]);
                    branches.nth(nth).unwrap_or(low)
                }
            };
            prefix.clear();
            prefix.extend_from_slice(&first[..shared]);
            // Draws behind the branch that is taken before the drawn one lead to the one that is taken at or behind it.
            let mut draws = low..=low;
            if drawn > low {
                prefix.push((drawn - 1) as u8);
                iter.seek_before(&prefix)?;
                let before = if iter.valid() { branch(iter.key(), shared) } else { low };
                iter.seek(&prefix)?;
                if !iter.valid() {
                    break;
                }
                first.clear();
                first.extend_from_slice(iter.key());
                draws = before + 1..=branch(&first, shared);
            }
            let leading = self.alphabet[draws.clone()].iter().filter(|known| **known).count();
            let (all, blind) = ((high - low + 1) as f64, 1.0 / BLIND_DRAWS as f64);
            odds *= (1.0 - blind) * leading as f64 / known as f64 + blind * draws.count() as f64 / all;
            let taken = branch(&first, shared);
            self.alphabet[taken] = true;
            prefix.truncate(shared);
            match first.get(shared) {
                Some(byte) => prefix.push(*byte),
                None => break,
            }
        }
        for byte in first.get(self.prefix.len()..).unwrap_or_default() {
            self.alphabet[usize::from(*byte) + 1] = true;
        }
        Ok(Some((first, odds)))
    }
}

/// A number from 0 up to but without 1.
fn unit(rng: &mut Rng) -> f64 {
    const STEPS: u64 = 1 << 53;
    rng.below(STEPS) as f64 / STEPS as f64
}

// Expiry of fields.

/// When HEXPIRE is to do something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FieldCondition {
    /// In any case.
    #[default]
    Always,
    /// Only if there is none yet.
    IfNone,
    /// Only if there is one.
    IfSome,
    /// Only if it is later than the present one; none counts as never.
    IfLater,
    /// Only if it is earlier than the present one; none counts as never.
    IfEarlier,
}

impl FieldCondition {
    fn allows(self, old_ms: u64, new_ms: u64) -> bool {
        match self {
            FieldCondition::Always => true,
            FieldCondition::IfNone => old_ms == 0,
            FieldCondition::IfSome => old_ms != 0,
            FieldCondition::IfLater => old_ms != 0 && new_ms > old_ms,
            FieldCondition::IfEarlier => old_ms == 0 || new_ms < old_ms,
        }
    }
}

/// HEXPIRE at a time in ms since 1970, which may have passed. Hands Redis's code for each field to `f`: -2 no such field, 0 the
/// condition did not hold, 1 done, 2 the time has passed and the field is gone.
pub fn expire<'a>(
    txn: &mut Txn,
    at: At<'_>,
    expire_ms: u64,
    condition: FieldCondition,
    names: impl ExactSizeIterator<Item = &'a [u8]>,
    mut f: impl FnMut(i64),
) -> Result<(), Stop> {
    let mut editor = Editor::open(txn, at, names.len() > 1)?;
    let passed = expire_ms <= txn.now_ms();
    for name in names {
        let code = match editor.expiry(txn, name)? {
            None => -2,
            Some(old_ms) if !condition.allows(old_ms, expire_ms) => 0,
            Some(_) if passed => {
                editor.remove(txn, name)?;
                2
            }
            Some(_) => {
                editor.set_expiry(txn, name, expire_ms)?;
                1
            }
        };
        f(code);
    }
    editor.finish(txn)
}

/// HPERSIST. Hands Redis's code for each field to `f`: -2 no such field, -1 it has no expiry, 1 done.
pub fn persist<'a>(
    txn: &mut Txn,
    at: At<'_>,
    names: impl ExactSizeIterator<Item = &'a [u8]>,
    mut f: impl FnMut(i64),
) -> Result<(), Stop> {
    let mut editor = Editor::open(txn, at, names.len() > 1)?;
    for name in names {
        let code = match editor.expiry(txn, name)? {
            None => -2,
            Some(0) => -1,
            Some(_) => {
                editor.set_expiry(txn, name, 0)?;
                1
            }
        };
        f(code);
    }
    editor.finish(txn)
}

/// HTTL and the like: hands the expiry of each field to `f`, 0 for none, `None` for no such field.
pub fn expiries<'a>(
    txn: &mut Txn,
    at: At<'_>,
    names: impl Iterator<Item = &'a [u8]>,
    mut f: impl FnMut(Option<u64>),
) -> Result<(), Stop> {
    let view = View::open(txn, at)?;
    for name in names {
        match &view {
            Some(view) => view.get(txn, name, |found| f(found.map(|(_, expire_ms)| expire_ms)))?,
            None => f(None),
        }
    }
    if let Some(view) = view {
        view.close(txn);
    }
    Ok(())
}

/// HMGET: hands the value of each field to `f`.
pub fn values<'a>(
    txn: &mut Txn,
    at: At<'_>,
    names: impl Iterator<Item = &'a [u8]>,
    mut f: impl FnMut(Option<&[u8]>),
) -> Result<(), Stop> {
    let view = View::open(txn, at)?;
    for name in names {
        match &view {
            Some(view) => view.get(txn, name, |found| f(found.map(|(value, _)| value)))?,
            None => f(None),
        }
    }
    if let Some(view) = view {
        view.close(txn);
    }
    Ok(())
}

/// HGETDEL: hands the value of each field to `f`, and removes it.
pub fn take<'a>(
    txn: &mut Txn,
    at: At<'_>,
    names: impl ExactSizeIterator<Item = &'a [u8]>,
    mut f: impl FnMut(Option<&[u8]>),
) -> Result<(), Stop> {
    let mut editor = Editor::open(txn, at, names.len() > 1)?;
    for name in names {
        editor.get(txn, name, |found| f(found.map(|(value, _)| value)))?;
        editor.remove(txn, name)?;
    }
    editor.finish(txn)
}

/// HGETEX: hands the value of each field to `f`, and gives it another expiry: 0 for none, `None` for no change.
pub fn get_and_expire<'a>(
    txn: &mut Txn,
    at: At<'_>,
    expire_ms: Option<u64>,
    names: impl ExactSizeIterator<Item = &'a [u8]>,
    mut f: impl FnMut(Option<&[u8]>),
) -> Result<(), Stop> {
    let mut editor = Editor::open(txn, at, names.len() > 1)?;
    for name in names {
        let found = editor.get(txn, name, |found| {
            f(found.map(|(value, _)| value));
            found.is_some()
        })?;
        if let Some(expire_ms) = expire_ms.filter(|_| found) {
            editor.set_expiry(txn, name, expire_ms)?;
        }
    }
    editor.finish(txn)
}

/// When HSETEX sets its fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SetCondition {
    /// In any case.
    #[default]
    Always,
    /// If none of them is there.
    IfNone,
    /// If all of them are there.
    IfAll,
}

/// HSETEX: sets fields with an expiry, which may have passed: then they go. `None` if the condition did not hold, else whether
/// there was a hash before.
pub fn set_and_expire<'a>(
    txn: &mut Txn,
    at: At<'_>,
    condition: SetCondition,
    expiry: FieldExpiry,
    pairs: impl ExactSizeIterator<Item = (&'a [u8], &'a [u8])> + Clone,
) -> Result<Option<bool>, Stop> {
    let mut editor = Editor::open(txn, at, true)?;
    let existed = editor.existed();
    if condition != SetCondition::Always {
        for (name, _) in pairs.clone() {
            if editor.expiry(txn, name)?.is_some() != (condition == SetCondition::IfAll) {
                editor.finish(txn)?;
                return Ok(None);
            }
        }
    }
    for (name, value) in pairs {
        match expiry {
            FieldExpiry::At(expire_ms) if expire_ms <= txn.now_ms() => {
                editor.remove(txn, name)?;
            }
            expiry => {
                editor.set(txn, name, value, expiry)?;
            }
        }
    }
    editor.finish(txn)?;
    Ok(Some(existed))
}

/// What Redis would call the encoding of a hash.
pub fn encoding_name(record: &Record<'_>, sizes: &CompactSizes) -> Result<&'static str, Stop> {
    let (count, longest) = match record.head.id {
        0 => {
            let (mut fields, mut count, mut longest) = (Fields::new(record.body), 0, 0);
            while let Some(field) = fields.next_field()? {
                count += 1;
                longest = field.name.len().max(field.value.len()).max(longest);
            }
            (count, longest as u64)
        }
        _ => {
            let size = Large::decode(record.body)?;
            (size.count, size.longest_bytes)
        }
    };
    Ok(match count <= sizes.entries && longest <= sizes.value_bytes {
        true if record.head.field_expire_ms != 0 => "listpackex",
        true => "listpack",
        false => "hashtable",
    })
}
