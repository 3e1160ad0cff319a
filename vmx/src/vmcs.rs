//! A VMCS: read and written where it is current, visited where it is not.

use crate::field::{Field, Width};
use crate::hw::{self, Frame, Page};
use core::cell::Cell;
use core::marker::PhantomData;

/// A VMCS and whether it is this CPU's current one. Reading one that is not makes it current for a
/// while: two CPUs must not do that at once, so it is not `Sync`; interrupt handlers touch none.
#[derive(Debug)]
pub(crate) struct Vmcs {
    frame: Frame<Page>,
    current: bool,
    _not_sync: PhantomData<Cell<()>>,
    /// Stands for the CPU in tests.
    #[cfg(test)]
    fields: core::cell::RefCell<std::collections::BTreeMap<u32, u64>>,
}

/// What was current before a visit.
#[must_use]
pub(crate) struct Before(hw::Current);

/// It goes where its vCPU goes.
const _: fn() = || {
    const fn goes_anywhere<T: Send>() {}
    goes_anywhere::<Vmcs>();
};

impl Vmcs {
    /// A cleared VMCS.
    pub(crate) fn new(mut frame: Frame<Page>, revision: u32) -> Vmcs {
        frame.0.fill(0);
        frame.0[0] = revision;
        hw::vmclear(frame.phys());
        Vmcs {
            frame,
            current: false,
            _not_sync: PhantomData,
            #[cfg(test)]
            fields: Default::default(),
        }
    }

    /// Is this CPU's current VMCS until [`clear`](Vmcs::clear).
    pub(crate) fn load(&mut self) {
        hw::vmptrld(self.frame.phys());
        self.current = true;
    }

    /// Is in memory, on no CPU. The next entry launches.
    pub(crate) fn clear(&mut self) {
        hw::vmclear(self.frame.phys());
        self.current = false;
    }

    /// Makes it current for a while. Not if it is.
    pub(crate) fn arrive(&mut self) -> Before {
        let before = Before(hw::current());
        self.load();
        before
    }

    /// Ends a visit.
    pub(crate) fn leave(&mut self, before: Before) {
        self.clear();
        hw::set_current(before.0);
    }

    #[inline]
    pub(crate) const fn is_current(&self) -> bool {
        self.current
    }

    /// Reads a field, also of a VMCS that is not current.
    #[inline]
    pub(crate) fn get<T: Width>(&self, field: Field<T>) -> T {
        if self.current { self.get_current(field) } else { self.get_elsewhere(field) }
    }

    /// Writes a field, also of a VMCS that is not current.
    #[inline]
    pub(crate) fn set<T: Width>(&self, field: Field<T>, value: T) {
        if self.current {
            self.set_current(field, value);
        } else {
            self.set_elsewhere(field, value);
        }
    }

    /// Reads a field of the VMCS that is current.
    #[inline]
    pub(crate) fn get_current<T: Width>(&self, field: Field<T>) -> T {
        #[cfg(not(test))]
        let bits = hw::vmread(field.number());
        #[cfg(test)]
        let bits = self.fields.borrow().get(&field.number()).copied().unwrap_or(0);
        T::from_bits(bits)
    }

    /// Writes a field of the VMCS that is current.
    #[inline]
    pub(crate) fn set_current<T: Width>(&self, field: Field<T>, value: T) {
        #[cfg(not(test))]
        hw::vmwrite(field.number(), value.bits());
        #[cfg(test)]
        self.fields.borrow_mut().insert(field.number(), value.bits());
    }

    #[cold]
    fn get_elsewhere<T: Width>(&self, field: Field<T>) -> T {
        let before = hw::current();
        hw::vmptrld(self.frame.phys());
        let value = self.get_current(field);
        hw::vmclear(self.frame.phys());
        hw::set_current(before);
        value
    }

    #[cold]
    fn set_elsewhere<T: Width>(&self, field: Field<T>, value: T) {
        let before = hw::current();
        hw::vmptrld(self.frame.phys());
        self.set_current(field, value);
        hw::vmclear(self.frame.phys());
        hw::set_current(before);
    }
}
