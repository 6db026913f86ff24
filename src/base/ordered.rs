//! Values by name that are shown in the order in which their names were added.
//!
//! A vector would do but for its length: whoever adds many names has each of them looked for among all others.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

/// See the module. Two are equal if they show the same.
#[derive(Clone, Debug)]
pub struct Ordered<V> {
    /// By the number that each got when it was added.
    entries: BTreeMap<u64, (Arc<[u8]>, V)>,
    numbers: BTreeMap<Arc<[u8]>, u64>,
    next: u64,
}

impl<V> Default for Ordered<V> {
    fn default() -> Ordered<V> {
        Ordered { entries: BTreeMap::new(), numbers: BTreeMap::new(), next: 0 }
    }
}

impl<V: PartialEq> PartialEq for Ordered<V> {
    fn eq(&self, other: &Ordered<V>) -> bool {
        self.iter().eq(other.iter())
    }
}

impl<V: Eq> Eq for Ordered<V> {}

impl<V> Ordered<V> {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &V)> {
        self.entries.values().map(|(name, value)| (&**name, value))
    }

    /// The value of a name.
    pub fn get(&self, name: &[u8]) -> Option<&V> {
        self.entries.get(self.numbers.get(name)?).map(|(_, value)| value)
    }

    /// Gives a name this value: in its old place if it has one, else behind all others.
    pub fn insert(&mut self, name: &[u8], value: V) {
        if let Some((_, known)) = self.numbers.get(name).and_then(|number| self.entries.get_mut(number)) {
            *known = value;
            return;
        }
        let name: Arc<[u8]> = name.into();
        self.numbers.insert(Arc::clone(&name), self.next);
        self.entries.insert(self.next, (name, value));
        self.next += 1;
    }

    /// Takes a name out. False if it was not there.
    pub fn remove(&mut self, name: &[u8]) -> bool {
        let number = self.numbers.remove(name);
        number.is_some_and(|number| self.entries.remove(&number).is_some())
    }

    /// Takes all names out that begin so.
    pub fn remove_all_below(&mut self, prefix: &[u8]) {
        let behind = (Bound::Included(prefix), Bound::Unbounded);
        let names = self.numbers.range::<[u8], _>(behind).map(|(name, _)| Arc::clone(name));
        let names: Vec<_> = names.take_while(|name| name.starts_with(prefix)).collect();
        for name in names {
            self.remove(&name);
        }
    }

    /// Takes all out.
    pub fn clear(&mut self) {
        *self = Ordered::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn as_a_vector_would(steps in prop::collection::vec((0..4, "[ab|]{0,3}", any::<u8>()), 0..60)) {
            let (mut ordered, mut model) = (Ordered::default(), Vec::<(Vec<u8>, u8)>::new());
            for (kind, name, value) in steps {
                let name = name.into_bytes();
                let known = model.iter().position(|(own, _)| *own == name);
                match kind {
                    0 | 1 => {
                        ordered.insert(&name, value);
                        match known {
                            Some(at) => model[at].1 = value,
                            None => model.push((name.clone(), value)),
                        }
                    }
                    2 => {
                        prop_assert_eq!(ordered.remove(&name), known.is_some());
                        model.retain(|(own, _)| *own != name);
                    }
                    _ => {
                        ordered.remove_all_below(&name);
                        model.retain(|(own, _)| !own.starts_with(&name));
                    }
                }
                let shown: Vec<_> = ordered.iter().map(|(name, value)| (name.to_vec(), *value)).collect();
                prop_assert_eq!(&shown, &model);
                prop_assert_eq!((ordered.len(), ordered.is_empty()), (model.len(), model.is_empty()));
                let found = model.iter().find(|(own, _)| *own == name).map(|(_, value)| value);
                prop_assert_eq!(ordered.get(&name), found);
                // What came of other steps is equal if it shows the same.
                let mut again = Ordered::default();
                model.iter().for_each(|(name, value)| again.insert(name, *value));
                prop_assert!(again == ordered);
            }
        }
    }
}
