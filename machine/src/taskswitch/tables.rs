//! Descriptor tables and TSSs: linear memory as the processor itself reads it, with supervisor
//! rights.

use crate::Machine;
use crate::cpu::Cpu;
use crate::host::Host;
use crate::insn::exec::cpl;
use arch::control::efer;
use arch::paging::Paging;
use arch::{Access, Fault, GuestPhys, GuestVirt, SegReg, Segment, SysReg, Vcpu};

/// Linear memory of a vCPU.
pub(super) struct Tables<'a, H: Host> {
    machine: &'a Machine,
    cpu: &'a mut Cpu,
    host: &'a H,
    paging: Paging,
    /// The bits that a linear address has: 32 outside of long mode.
    mask: u64,
}

impl<'a, H: Host> Tables<'a, H> {
    pub fn new<V: Vcpu>(machine: &'a Machine, cpu: &'a mut Cpu, vcpu: &V, host: &'a H) -> Self {
        let paging = implicit(machine, vcpu);
        let long = vcpu.reg(SysReg::Efer) & efer::LMA != 0;
        let mask = if long { u64::MAX } else { 0xffff_ffff };
        Tables { machine, cpu, host, paging, mask }
    }

    /// Follows a new CR3.
    pub fn reload<V: Vcpu>(&mut self, vcpu: &V) {
        self.paging = implicit(self.machine, vcpu);
    }

    /// What a CR3 under PAE paging leads to.
    pub fn pdptes(&self, cr3: u32) -> Result<[u64; 4], Fault> {
        self.machine.pdptes(cr3.into())
    }

    fn translate(&self, at: u64, access: Access) -> Result<GuestPhys, Fault> {
        let at = GuestVirt(at & self.mask);
        Ok(self.paging.translate(&self.machine.ram, at, access)?.gpa)
    }

    /// Whether `bytes` (less than a page) from `at` can be accessed.
    pub fn probe(&self, at: u64, bytes: u64, access: Access) -> Result<(), Fault> {
        self.translate(at, access)?;
        let last = at.wrapping_add(bytes.saturating_sub(1));
        if (at ^ last) >> 12 != 0 {
            // The second page faults with its own first address.
            self.translate(last & !0xfff, access)?;
        }
        Ok(())
    }

    /// Reads 1, 2, 4 or 8 bytes.
    pub fn read(&mut self, at: u64, width: u8) -> Result<u64, Fault> {
        if (at & 0xfff) + u64::from(width) <= 0x1000 {
            let gpa = self.translate(at, Access::READ)?;
            return Ok(self.machine.read_phys(self.cpu, self.host, gpa, width));
        }
        let mut value = 0;
        for n in 0..width {
            let gpa = self.translate(at.wrapping_add(n.into()), Access::READ)?;
            value |= self.machine.read_phys(self.cpu, self.host, gpa, 1) << (8 * n);
        }
        Ok(value)
    }

    /// Writes 1, 2, 4 or 8 bytes; all or none.
    pub fn write(&mut self, at: u64, width: u8, value: u64) -> Result<(), Fault> {
        self.write_as(at, width, value, Access::WRITE)
    }

    /// Writes with the rights of the vCPU's privilege level: a push.
    pub fn push<V: Vcpu>(&mut self, vcpu: &V, at: u64, width: u8, value: u64) -> Result<(), Fault> {
        let user = if cpl(vcpu) == 3 { Access::USER } else { Access::empty() };
        self.write_as(at, width, value, Access::WRITE | user)
    }

    fn write_as(&mut self, at: u64, width: u8, value: u64, access: Access) -> Result<(), Fault> {
        if (at & 0xfff) + u64::from(width) <= 0x1000 {
            let gpa = self.translate(at, access)?;
            self.machine.write_phys(self.cpu, self.host, gpa, width, value);
            return Ok(());
        }
        self.probe(at, width.into(), access)?;
        for n in 0..width {
            let gpa = self.translate(at.wrapping_add(n.into()), access)?;
            self.machine.write_phys(self.cpu, self.host, gpa, 1, value >> (8 * n));
        }
        Ok(())
    }

    /// A selector's descriptor and where it is; `wrong` for the null selector and beyond the table's limit.
    pub fn find<V: Vcpu>(
        &mut self,
        vcpu: &V,
        selector: u16,
        wrong: Fault,
    ) -> Result<(Segment, u64), Fault> {
        if selector & !3 == 0 {
            return Err(wrong);
        }
        let at = self.descriptor_address(vcpu, selector).ok_or(wrong)?;
        Ok((Segment::from_descriptor(selector, self.read(at, 8)?), at))
    }

    /// Linear address of a selector's descriptor; `None` beyond the table's limit.
    pub fn descriptor_address<V: Vcpu>(&self, vcpu: &V, selector: u16) -> Option<u64> {
        let table = if selector & 4 != 0 { SegReg::Ldtr } else { SegReg::Gdtr };
        let table = vcpu.segment(table);
        let unusable = selector & 4 != 0 && table.access & Segment::UNUSABLE != 0;
        let offset = u64::from(selector & !7);
        (!unusable && offset + 7 <= table.limit.into()).then(|| table.base.wrapping_add(offset))
    }

    /// Clears and sets bits of a descriptor's type byte.
    pub fn change_type(&mut self, descriptor: u64, clear: u32, set: u32) -> Result<(), Fault> {
        let at = descriptor.wrapping_add(5);
        let old = self.read(at, 1)?;
        let new = old & !u64::from(clear) | u64::from(set);
        if new == old { Ok(()) } else { self.write(at, 1, new) }
    }
}

/// Paging for accesses that the processor makes by itself: RFLAGS.AC does not lift SMAP for them
/// (SDM 3A "Determination of Access Rights").
fn implicit<V: Vcpu>(machine: &Machine, vcpu: &V) -> Paging {
    Paging::new(
        vcpu.reg(SysReg::Cr0),
        vcpu.reg(SysReg::Cr3),
        vcpu.reg(SysReg::Cr4),
        vcpu.reg(SysReg::Efer),
        0,
        machine.cpuid.physical_bits(),
    )
}
