//! Pages of guest memory that arguments of hypercalls lay in. Each counts while the registers that rule the walk and
//! the page-table entries on the way are as they were, so it is what a walk would find; and finds it in a third of the
//! instructions.

use crate::Machine;
use crate::cpu::Cpu;
use arch::paging::{Paging, Way};
use arch::{Access, GuestVirt, SharedPage, SysReg, Vcpu};

/// Pages that a vCPU keeps; a power of two.
const PAGES: usize = 4;

/// What leads to a page: its linear address and the registers that rule the walk. CR0 has no part in it, nor have
/// flags: see [`Paging::translate_if_common`].
#[derive(Clone, Copy, PartialEq, Eq)]
struct Key {
    at: u64,
    cr3: u64,
    cr4: u64,
    efer: u64,
}

impl Key {
    #[inline(always)]
    fn of<V: Vcpu>(vcpu: &V, at: GuestVirt) -> Key {
        Key {
            at: at.0 & !0xfff,
            cr3: vcpu.reg(SysReg::Cr3),
            cr4: vcpu.reg(SysReg::Cr4),
            efer: vcpu.reg(SysReg::Efer),
        }
    }
}

#[inline(always)]
fn slot(at: GuestVirt) -> usize {
    (at.0 >> 12) as usize % PAGES
}

#[derive(Clone, Copy)]
struct Place {
    key: Key,
    way: Way,
    page: SharedPage,
}

/// The pages of one vCPU.
#[derive(Default)]
pub(crate) struct ArgPages([Option<Place>; PAGES]);

impl Machine {
    /// The page of RAM at a linear address of the caller's, which it may write. `None`: there is none, or it takes a
    /// longer look.
    #[inline(always)]
    pub(super) fn page_of<V: Vcpu>(
        &self,
        cpu: &mut Cpu,
        vcpu: &V,
        at: GuestVirt,
    ) -> Option<SharedPage> {
        match &cpu.arg_pages.0[slot(at)] {
            Some(place) if place.key == Key::of(vcpu, at) && place.way.holds() => Some(place.page),
            _ => self.walk_to_page(cpu, vcpu, at),
        }
    }

    #[inline(never)]
    fn walk_to_page<V: Vcpu>(&self, cpu: &mut Cpu, vcpu: &V, at: GuestVirt) -> Option<SharedPage> {
        let bits = self.cpuid.physical_bits();
        let (found, way) = Paging::translate_if_common(vcpu, bits, &self.ram, at, Access::WRITE)?;
        let page = self.ram.page(found.gpa)?;
        cpu.arg_pages.0[slot(at)] = Some(Place { key: Key::of(vcpu, at), way, page });
        Some(page)
    }
}
