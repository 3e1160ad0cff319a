//! Numbered places that are taken and given back: mapping handles, grants in use.

use alloc::vec::Vec;

#[derive(Debug)]
enum Place<T> {
    /// The next free place, or the end.
    Free(Option<u32>),
    Used(T),
}

/// Values by number. Numbers are used again, the last one first.
#[derive(Debug)]
pub(super) struct Slab<T> {
    places: Vec<Place<T>>,
    free: Option<u32>,
    used: u32,
    limit: u32,
}

impl<T> Slab<T> {
    /// Nothing, and never more than `limit` values.
    pub const fn new(limit: u32) -> Slab<T> {
        Slab { places: Vec::new(), free: None, used: 0, limit }
    }

    /// Puts a value somewhere. `None` where no place or no memory is left.
    #[inline(always)]
    pub fn insert(&mut self, value: T) -> Option<u32> {
        let number = match self.free {
            Some(number) => {
                let place = self.places.get_mut(number as usize)?;
                let Place::Free(next) = place else { return None };
                self.free = *next;
                *place = Place::Used(value);
                number
            }
            None => {
                let number = u32::try_from(self.places.len()).ok()?;
                if number >= self.limit || self.places.try_reserve(1).is_err() {
                    return None;
                }
                self.places.push(Place::Used(value));
                number
            }
        };
        self.used += 1;
        Some(number)
    }

    /// Takes a value out.
    #[inline]
    pub fn remove(&mut self, number: u32) -> Option<T> {
        let place = self.places.get_mut(number as usize)?;
        if matches!(place, Place::Free(_)) {
            return None;
        }
        let Place::Used(value) = core::mem::replace(place, Place::Free(self.free)) else {
            return None;
        };
        self.free = Some(number);
        self.used -= 1;
        Some(value)
    }

    #[inline]
    pub fn get(&self, number: u32) -> Option<&T> {
        match self.places.get(number as usize)? {
            Place::Used(value) => Some(value),
            Place::Free(_) => None,
        }
    }

    #[inline]
    pub fn get_mut(&mut self, number: u32) -> Option<&mut T> {
        match self.places.get_mut(number as usize)? {
            Place::Used(value) => Some(value),
            Place::Free(_) => None,
        }
    }

    /// How many values there are.
    pub const fn used(&self) -> u32 {
        self.used
    }

    /// How many there can be.
    pub const fn limit(&self) -> u32 {
        self.limit
    }

    /// The value with the highest number. For a slab that is to be emptied: places that are free now are
    /// not used again.
    pub fn last(&mut self) -> Option<(u32, &T)> {
        self.free = None;
        while let Some(Place::Free(_)) = self.places.last() {
            self.places.pop();
        }
        let number = (self.places.len() as u32).checked_sub(1)?;
        self.get(number).map(|value| (number, value))
    }

    /// Numbers from here on were never used.
    pub fn end(&self) -> u32 {
        self.places.len() as u32
    }

    /// All values.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.places.iter().filter_map(|place| match place {
            Place::Used(value) => Some(value),
            Place::Free(_) => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_used_again_and_the_limit_holds() {
        let mut slab = Slab::new(3);
        assert_eq!(["a", "b", "c"].map(|value| slab.insert(value)), [Some(0), Some(1), Some(2)]);
        assert_eq!((slab.insert("d"), slab.used()), (None, 3));
        assert_eq!((slab.remove(1), slab.remove(1), slab.remove(9)), (Some("b"), None, None));
        assert_eq!(slab.get(1), None);
        assert_eq!(slab.insert("e"), Some(1));
        assert_eq!(slab.get(1), Some(&"e"));
        assert_eq!(slab.iter().count(), 3);
        slab.remove(1);
        for (number, value) in [(2, "c"), (0, "a")] {
            assert_eq!(slab.last(), Some((number, &value)));
            assert_eq!(slab.remove(number), Some(value));
        }
        assert_eq!(slab.last(), None);
        assert_eq!((slab.used(), slab.insert("f")), (0, Some(0)));
    }
}
