//! A lock that knows which CPU holds it. Who has lost the holder for good (a panic that cost a guest) can tell, and
//! open the lock for the others.

use core::ops::{Deref, DerefMut};
use core::sync::atomic::{AtomicUsize, Ordering};
use spin::{Mutex, MutexGuard};

/// Nobody holds it.
const NOBODY: usize = usize::MAX;

/// A value behind a lock, and the CPU that holds it.
pub struct Shared<T> {
    value: Mutex<T>,
    holder: AtomicUsize,
    who: fn() -> usize,
}

/// The value while it is locked.
pub struct Locked<'a, T> {
    // Dropped after `Locked::drop`, which says that nobody holds it.
    value: MutexGuard<'a, T>,
    holder: &'a AtomicUsize,
}

impl<T> Shared<T> {
    /// An open lock. `who` tells the number of the CPU that calls it.
    #[must_use]
    pub const fn new(value: T, who: fn() -> usize) -> Shared<T> {
        Shared { value: Mutex::new(value), holder: AtomicUsize::new(NOBODY), who }
    }

    /// Waits until nobody else holds it.
    #[inline]
    pub fn lock(&self) -> Locked<'_, T> {
        let value = self.value.lock();
        self.holder.store((self.who)(), Ordering::Relaxed);
        Locked { value, holder: &self.holder }
    }

    /// The CPU that holds it. Of its own locks a CPU can be sure.
    #[must_use]
    pub fn holder(&self) -> Option<usize> {
        let holder = self.holder.load(Ordering::Relaxed);
        (holder != NOBODY).then_some(holder)
    }

    /// The lock itself, for who opens it when its holder is lost.
    #[must_use]
    pub fn lock_of_lost_holder(&self) -> &Mutex<T> {
        self.holder.store(NOBODY, Ordering::Relaxed);
        &self.value
    }
}

impl<T> Deref for Locked<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T> DerefMut for Locked<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        &mut self.value
    }
}

impl<T> Drop for Locked<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.holder.store(NOBODY, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_holder_is_known_while_it_is_locked() {
        let shared = Shared::new(1, || 7);
        assert_eq!(shared.holder(), None);
        let mut locked = shared.lock();
        *locked += 1;
        assert_eq!((*locked, shared.holder()), (2, Some(7)));
        drop(locked);
        assert_eq!(shared.holder(), None);
    }

    #[test]
    fn a_lost_holder_is_nobody_any_more() {
        let shared = Shared::new(1, || 7);
        core::mem::forget(shared.lock());
        assert_eq!(shared.holder(), Some(7));
        assert!(shared.lock_of_lost_holder().is_locked());
        assert_eq!(shared.holder(), None);
    }
}
