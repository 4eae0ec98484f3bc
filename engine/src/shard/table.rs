//! A table whose places stay valid while entries come and go, with names to find them by.

use std::collections::HashMap;
use std::hash::Hash;

/// Entries by place, and places by name.
pub(crate) struct Table<K, V> {
    entries: Vec<Option<V>>,
    free: Vec<u32>,
    by_name: HashMap<K, u32>,
}

impl<K: Hash + Eq, V> Table<K, V> {
    pub(crate) fn new() -> Self {
        Self {
            entries: Vec::new(),
            free: Vec::new(),
            by_name: HashMap::new(),
        }
    }

    /// Adds an entry; returns its place. An entry of the same name is replaced in the index, so
    /// callers must not reuse names.
    pub(crate) fn insert(&mut self, name: K, entry: V) -> u32 {
        let place = match self.free.pop() {
            Some(place) => {
                self.entries[place as usize] = Some(entry);
                place
            }
            None => {
                self.entries.push(Some(entry));
                self.entries.len() as u32 - 1
            }
        };
        self.by_name.insert(name, place);
        place
    }

    pub(crate) fn remove(&mut self, name: &K) -> Option<(u32, V)> {
        let place = self.by_name.remove(name)?;
        let entry = self.entries[place as usize].take()?;
        self.free.push(place);
        Some((place, entry))
    }

    pub(crate) fn place(&self, name: &K) -> Option<u32> {
        self.by_name.get(name).copied()
    }

    pub(crate) fn get(&self, place: u32) -> Option<&V> {
        self.entries.get(place as usize)?.as_ref()
    }

    pub(crate) fn get_mut(&mut self, place: u32) -> Option<&mut V> {
        self.entries.get_mut(place as usize)?.as_mut()
    }

    /// One past the highest place ever used.
    pub(crate) fn end(&self) -> u32 {
        self.entries.len() as u32
    }

    pub(crate) fn len(&self) -> usize {
        self.by_name.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_stay_valid_and_are_reused() {
        let mut table = Table::new();
        let a = table.insert("a", 1);
        let b = table.insert("b", 2);
        assert_eq!(table.remove(&"a"), Some((a, 1)));
        assert_eq!(table.get(a), None);
        assert_eq!(table.get(b), Some(&2));
        assert_eq!(table.insert("c", 3), a);
        assert_eq!(table.place(&"c"), Some(a));
        assert_eq!((table.len(), table.end()), (2, 2));
        assert_eq!(table.remove(&"a"), None);
    }
}
