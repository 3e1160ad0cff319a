//! What a guest points a hypercall at: copied once, by the guest's own page tables, page by page.

use crate::Machine;
use arch::paging::Paging;
use arch::{Access, GuestPhys, GuestVirt, Vcpu};
use pvdrivers::Errno;
use pvdrivers::abi::{Layout, Width};

/// Bytes of the largest argument that is read whole.
const LARGEST: usize = 128;

impl Machine {
    /// Copies from the caller's linear address `at`.
    ///
    /// # Errors
    /// [`Errno::EFAULT`] where the caller's page tables or RAM end.
    pub(crate) fn copy_from_guest<V: Vcpu>(
        &self,
        vcpu: &V,
        at: GuestVirt,
        buffer: &mut [u8],
    ) -> Result<(), Errno> {
        let mut done = 0;
        self.each_page(vcpu, at, buffer.len(), Access::READ, |machine, gpa, bytes| {
            let part = buffer.get_mut(done..done + bytes).ok_or(Errno::EFAULT)?;
            done += bytes;
            machine.ram.read(gpa, part).map_err(|_| Errno::EFAULT)
        })
    }

    /// Copies to the caller's linear address `at`.
    ///
    /// # Errors
    /// [`Errno::EFAULT`] where the caller's page tables or RAM end, or forbid writing; pages before
    /// that are written.
    pub(crate) fn copy_to_guest<V: Vcpu>(
        &self,
        vcpu: &V,
        at: GuestVirt,
        bytes: &[u8],
    ) -> Result<(), Errno> {
        let mut done = 0;
        self.each_page(vcpu, at, bytes.len(), Access::WRITE, |machine, gpa, count| {
            let part = bytes.get(done..done + count).ok_or(Errno::EFAULT)?;
            done += count;
            machine.ram.write_slice(gpa, part).map_err(|_| Errno::EFAULT)
        })
    }

    /// Reads an argument.
    ///
    /// # Errors
    /// As [`copy_from_guest`](Machine::copy_from_guest).
    pub(crate) fn claim<T: Layout, V: Vcpu>(
        &self,
        vcpu: &V,
        at: GuestVirt,
        width: Width,
    ) -> Result<T, Errno> {
        let mut bytes = [0; LARGEST];
        let bytes = bytes.get_mut(..T::size(width)).ok_or(Errno::E2BIG)?;
        self.copy_from_guest(vcpu, at, bytes)?;
        T::parse(bytes, width)
    }

    /// Writes an argument back with its results. Padding becomes zero.
    ///
    /// # Errors
    /// As [`copy_to_guest`](Machine::copy_to_guest).
    pub(crate) fn give<T: Layout, V: Vcpu>(
        &self,
        vcpu: &V,
        at: GuestVirt,
        width: Width,
        value: &T,
    ) -> Result<(), Errno> {
        let mut bytes = [0; LARGEST];
        let bytes = bytes.get_mut(..T::size(width)).ok_or(Errno::E2BIG)?;
        value.store(bytes, width)?;
        self.copy_to_guest(vcpu, at, bytes)
    }

    /// Where a linear address of the caller's leads, for writing.
    ///
    /// # Errors
    /// [`Errno::EFAULT`] where it leads nowhere.
    pub(crate) fn linear_to_physical<V: Vcpu>(
        &self,
        vcpu: &V,
        at: GuestVirt,
    ) -> Result<GuestPhys, Errno> {
        let paging = Paging::of(vcpu, self.cpuid.physical_bits());
        let found = paging.translate(&self.ram, at, Access::WRITE);
        found.map(|found| found.gpa).map_err(|_| Errno::EFAULT)
    }

    /// Calls `work` with every piece of a page that the bytes lie in.
    fn each_page<V: Vcpu>(
        &self,
        vcpu: &V,
        at: GuestVirt,
        len: usize,
        access: Access,
        mut work: impl FnMut(&Machine, GuestPhys, usize) -> Result<(), Errno>,
    ) -> Result<(), Errno> {
        let paging = Paging::of(vcpu, self.cpuid.physical_bits());
        let mut done = 0;
        while done < len {
            let here = at.checked_add(done as u64).ok_or(Errno::EFAULT)?;
            let bytes = (0x1000 - here.page_offset() as usize).min(len - done);
            let found = paging.translate(&self.ram, here, access).map_err(|_| Errno::EFAULT)?;
            work(self, found.gpa, bytes)?;
            done += bytes;
        }
        Ok(())
    }
}
