//! A map in a sorted vector: for the few domains, clients and devices that there are.
//!
//! Each pair of types makes a few hundred bytes of code of it, where a B-tree makes several thousand.
//! Looking up costs a binary search; putting in and taking out move what lies behind.

use alloc::vec::Vec;
use core::ops::{Bound, RangeBounds};

/// Keys with their values, in the order of keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SortedMap<K, V>(Vec<(K, V)>);

impl<K, V> Default for SortedMap<K, V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K, V> SortedMap<K, V> {
    /// An empty one.
    #[must_use]
    pub const fn new() -> Self {
        SortedMap(Vec::new())
    }

    /// How many keys there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Keys and values, in order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&K, &V)> + ExactSizeIterator {
        self.0.iter().map(|(key, value)| (key, value))
    }

    /// The keys, in order.
    pub fn keys(&self) -> impl DoubleEndedIterator<Item = &K> + ExactSizeIterator {
        self.0.iter().map(|(key, _)| key)
    }

    /// The values, in the order of their keys.
    pub fn values(&self) -> impl DoubleEndedIterator<Item = &V> + ExactSizeIterator {
        self.0.iter().map(|(_, value)| value)
    }

    /// The values to change, in the order of their keys.
    pub fn values_mut(&mut self) -> impl DoubleEndedIterator<Item = &mut V> + ExactSizeIterator {
        self.0.iter_mut().map(|(_, value)| value)
    }

    /// The values alone, in the order of their keys.
    pub fn into_values(self) -> impl DoubleEndedIterator<Item = V> {
        self.0.into_iter().map(|(_, value)| value)
    }

    /// Keeps the pairs that `keep` wants.
    pub fn retain(&mut self, mut keep: impl FnMut(&K, &mut V) -> bool) {
        self.0.retain_mut(|(key, value)| keep(key, value));
    }
}

impl<K: Ord, V> SortedMap<K, V> {
    /// Where `key` is, or where it would be.
    #[inline]
    fn find(&self, key: &K) -> Result<usize, usize> {
        self.0.binary_search_by(|(other, _)| other.cmp(key))
    }

    /// The value of `key`.
    #[must_use]
    pub fn get(&self, key: &K) -> Option<&V> {
        let place = self.find(key).ok()?;
        self.0.get(place).map(|(_, value)| value)
    }

    /// The value of `key`, to change.
    pub fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        let place = self.find(key).ok()?;
        self.0.get_mut(place).map(|(_, value)| value)
    }

    /// As [`get`](SortedMap::get), where `key` most likely stands at `place`.
    #[must_use]
    #[inline]
    pub fn get_near(&self, place: usize, key: &K) -> Option<&V> {
        match self.0.get(place) {
            Some((found, value)) if found == key => Some(value),
            _ => self.get_far(key),
        }
    }

    #[cold]
    #[inline(never)]
    fn get_far(&self, key: &K) -> Option<&V> {
        self.get(key)
    }

    /// As [`get_mut`](SortedMap::get_mut), where `key` most likely stands at `place`.
    #[must_use]
    #[inline(always)]
    pub fn get_mut_near(&mut self, place: usize, key: &K) -> Option<&mut V> {
        let place = match self.0.get(place) {
            Some((found, _)) if found == key => place,
            _ => self.find_far(key)?,
        };
        self.0.get_mut(place).map(|(_, value)| value)
    }

    #[cold]
    #[inline(never)]
    fn find_far(&self, key: &K) -> Option<usize> {
        self.find(key).ok()
    }

    /// Whether `key` is there.
    #[must_use]
    pub fn contains_key(&self, key: &K) -> bool {
        self.find(key).is_ok()
    }

    /// Gives `key` a value; the one it had comes back.
    #[inline(never)]
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        match self.find(&key) {
            Ok(place) => {
                let slot = self.0.get_mut(place)?;
                Some(core::mem::replace(&mut slot.1, value))
            }
            Err(place) => {
                self.0.insert(place, (key, value));
                None
            }
        }
    }

    /// The value of `key`, which `make` makes if there is none.
    pub fn get_or_insert_with(&mut self, key: K, make: impl FnOnce() -> V) -> &mut V {
        let place = match self.find(&key) {
            Ok(place) => place,
            Err(place) => {
                self.0.insert(place, (key, make()));
                place
            }
        };
        &mut self.0[place].1
    }

    /// Takes `key` out.
    #[inline(never)]
    pub fn remove(&mut self, key: &K) -> Option<V> {
        let place = self.find(key).ok()?;
        Some(self.0.remove(place).1)
    }

    /// The pairs whose keys are in `bounds`, in order.
    pub fn range(&self, bounds: impl RangeBounds<K>) -> impl DoubleEndedIterator<Item = (&K, &V)> {
        let from = match bounds.start_bound() {
            Bound::Included(key) => self.0.partition_point(|(other, _)| other < key),
            Bound::Excluded(key) => self.0.partition_point(|(other, _)| other <= key),
            Bound::Unbounded => 0,
        };
        let end = match bounds.end_bound() {
            Bound::Included(key) => self.0.partition_point(|(other, _)| other <= key),
            Bound::Excluded(key) => self.0.partition_point(|(other, _)| other < key),
            Bound::Unbounded => self.0.len(),
        };
        self.0.get(from..end).unwrap_or_default().iter().map(|(key, value)| (key, value))
    }
}

impl<K: Ord, V> FromIterator<(K, V)> for SortedMap<K, V> {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> Self {
        let mut map = SortedMap::new();
        for (key, value) in pairs {
            map.insert(key, value);
        }
        map
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeMap;

    #[test]
    fn it_answers_what_a_b_tree_answers_whatever_is_done_to_both() {
        let (mut map, mut model) = (SortedMap::new(), BTreeMap::new());
        let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
        for step in 0..20_000_u32 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let (key, other) = ((seed >> 33) as u8 % 48, (seed >> 41) as u8 % 48);
            match seed >> 60 {
                0..=5 => assert_eq!(map.insert(key, step), model.insert(key, step)),
                6..=9 => assert_eq!(map.remove(&key), model.remove(&key)),
                10 => {
                    let made = *map.get_or_insert_with(key, || step);
                    assert_eq!(made, *model.entry(key).or_insert(step));
                }
                11 => {
                    map.retain(|found, _| found % 7 != key % 7);
                    model.retain(|found, _| found % 7 != key % 7);
                }
                _ => {
                    let (low, high) = (key.min(other), key.max(other));
                    assert!(map.range(low..=high).eq(model.range(low..=high)));
                    assert!(map.range(low..).eq(model.range(low..)));
                    assert!(map.range(..high).eq(model.range(..high)));
                    assert!(
                        map.range((Bound::Excluded(low), Bound::Unbounded))
                            .eq(model.range((Bound::Excluded(low), Bound::Unbounded)))
                    );
                }
            }
            assert_eq!((map.get(&key), map.len()), (model.get(&key), model.len()));
            assert_eq!(map.get_near(other.into(), &key), model.get(&key));
            assert_eq!(map.get_mut_near(other.into(), &key), model.get_mut(&key));
            assert!(map.iter().eq(model.iter()));
        }
        assert!(map.into_values().eq(model.into_values()));
    }
}
