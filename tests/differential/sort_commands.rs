//! SORT of lists and of whatever else the keys hold.
//!
//! Elements that weigh the same come in any order where others decide, so sorting by other keys goes without LIMIT and
//! STORE, and its outcome is compared as a whole.

use super::list_commands::LIST_KEYS;
use super::{Check, Drawn, Generator, Words};

impl Generator {
    pub(super) fn sort_command(&mut self) -> Drawn {
        self.large = false;
        let key = if self.random.chance(100) { self.key() } else { self.random.pick(LIST_KEYS).to_vec() };
        let read_only = self.random.chance(200);
        let mut words = Words::of(if read_only { "SORT_RO" } else { "SORT" }).and(key);
        let by_others = self.random.chance(300);
        if by_others {
            words = words.and("BY").and(self.random.pick(&["s*", "*", "i*", "h*->f", "s*->", "x*y"]));
        }
        let unsorted = !by_others && self.random.chance(100);
        if unsorted {
            words = words.and("BY").and("nosort");
        }
        if self.random.chance(600) {
            words = words.and("ALPHA");
        }
        if self.random.chance(400) {
            words = words.and(self.random.pick(&["DESC", "ASC", "desc"]));
        }
        if !by_others && !unsorted && self.random.chance(400) {
            let (start, count) = (self.random.within(-2, 8), self.random.within(-2, 8));
            words = words.and("LIMIT").number(start).number(count);
        }
        let gets = self.random.below(6).saturating_sub(3);
        for _ in 0..gets {
            words = words.and("GET").and(self.random.pick(&["#", "s*", "i*", "h*->f", "nothing"]));
        }
        if !by_others && !read_only && self.random.chance(300) {
            let to = self.random.pick(LIST_KEYS).to_vec();
            words = words.and("STORE").and(to);
        }
        match by_others {
            true if gets > 1 => words.checked(Check::Shape),
            // The key may hold a set, which is in any order then.
            false if unsorted && gets > 0 => words.checked(Check::Size),
            false if !unsorted => words.exact(),
            _ => words.checked(Check::Unordered),
        }
    }
}
