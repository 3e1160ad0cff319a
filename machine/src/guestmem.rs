//! Guest memory as an emulated instruction sees it: linear addresses, the guest's page tables, then
//! RAM, firmware, video memory or a device.

use crate::Machine;
use crate::cpu::Cpu;
use crate::host::Host;
use crate::insn::decode::decode;
use crate::insn::exec::{Progress, code_bits, cpl, execute, linear};
use crate::insn::{Insn, Memory, Trap};
use crate::memmap::Region;
use arch::paging::Paging;
use arch::{Access, Fault, GuestPhys, GuestVirt, Resume, SegReg, SysReg, Vcpu, Why};

/// Memory for one instruction of one vCPU.
pub(crate) struct GuestMemory<'a, H: Host> {
    machine: &'a Machine,
    cpu: &'a mut Cpu,
    host: &'a H,
    paging: Paging,
    user: Access,
}

impl<'a, H: Host> GuestMemory<'a, H> {
    pub fn new<V: Vcpu>(machine: &'a Machine, cpu: &'a mut Cpu, vcpu: &V, host: &'a H) -> Self {
        GuestMemory {
            machine,
            cpu,
            host,
            paging: Paging::of(vcpu, machine.cpuid.physical_bits()),
            user: if cpl(vcpu) == 3 { Access::USER } else { Access::empty() },
        }
    }

    fn translate(&self, at: u64, access: Access) -> Result<GuestPhys, Trap> {
        let access = access | self.user;
        Ok(self.paging.translate(&self.machine.ram, GuestVirt(at), access)?.gpa)
    }

    /// Whether `width` bytes at `at` span two pages.
    fn straddles(at: u64, width: u8) -> bool {
        (at & 0xfff) + u64::from(width) > 0x1000
    }
}

impl<H: Host> Memory for GuestMemory<'_, H> {
    fn read(&mut self, at: u64, width: u8, access: Access) -> Result<u64, Trap> {
        if !Self::straddles(at, width) {
            let gpa = self.translate(at, access)?;
            return Ok(self.machine.read_phys(self.cpu, self.host, gpa, width));
        }
        // Both pages are translated before the first access, so that a fault leaves no trace.
        let first = self.translate(at, access)?;
        let here = (0x1000 - (at & 0xfff)) as u8;
        let second = self.translate(at.wrapping_add(here.into()), access)?;
        let mut value = 0u64;
        for n in 0..width {
            let gpa = if n < here {
                GuestPhys(first.0 + u64::from(n))
            } else {
                GuestPhys(second.0 + u64::from(n - here))
            };
            value |= self.machine.read_phys(self.cpu, self.host, gpa, 1) << (8 * n);
        }
        Ok(value)
    }

    fn write(&mut self, at: u64, width: u8, value: u64) -> Result<(), Trap> {
        if !Self::straddles(at, width) {
            let gpa = self.translate(at, Access::WRITE)?;
            self.machine.write_phys(self.cpu, self.host, gpa, width, value);
            return Ok(());
        }
        let first = self.translate(at, Access::WRITE)?;
        let here = (0x1000 - (at & 0xfff)) as u8;
        let second = self.translate(at.wrapping_add(here.into()), Access::WRITE)?;
        for n in 0..width {
            let gpa = if n < here {
                GuestPhys(first.0 + u64::from(n))
            } else {
                GuestPhys(second.0 + u64::from(n - here))
            };
            self.machine.write_phys(self.cpu, self.host, gpa, 1, value >> (8 * n));
        }
        Ok(())
    }

    fn port_in(&mut self, port: u16, width: u8) -> u64 {
        self.machine.port_in(self.host, port, width).into()
    }

    fn port_out(&mut self, port: u16, width: u8, value: u64) {
        self.machine.port_out(self.host, port, width, value as u32);
    }
}

/// What to do after an instruction was emulated.
pub(crate) fn finish(done: Result<(), Trap>, insn: &Insn) -> Resume {
    match done {
        Ok(()) => Resume::Skip(insn.len),
        Err(Trap::Fault(fault)) => Resume::Raise(fault),
        Err(Trap::Wait) => Resume::Wait,
        Err(Trap::Unsupported) => Resume::Stop(Why::Unhandled(0xe)),
    }
}

impl Machine {
    /// The instruction at RIP, decoded. `Err` is what to do instead: it faults, or its bytes are not
    /// in memory that can be read.
    pub(crate) fn fetch<V: Vcpu>(&self, cpu: &mut Cpu, vcpu: &V) -> Result<Insn, Resume> {
        let rip = vcpu.rip();
        let bits = code_bits(vcpu);
        let at = linear(vcpu, SegReg::Cs, rip);
        let paging = Paging::of(vcpu, self.cpuid.physical_bits());
        let user = if cpl(vcpu) == 3 { Access::USER } else { Access::empty() };
        let access = Access::EXEC | user;
        let first = paging.translate(&self.ram, GuestVirt(at), access).map_err(Resume::Raise)?;
        // The usual case: all 16 bytes in one page of RAM.
        if at & 0xfff <= 0xff0
            && let (Some(low), Some(high)) =
                (self.ram.read_u64(first.gpa), self.ram.read_u64(GuestPhys(first.gpa.0 + 8)))
        {
            let bytes = u128::from(low) | u128::from(high) << 64;
            if let Some(insn) = cpu.cache.get(rip, bits, bytes) {
                return Ok(*insn);
            }
            let raw = bytes.to_le_bytes();
            let insn = decode(&raw[..15], rip, bits).ok_or(Resume::Raise(Fault::UD))?;
            cpu.cache.put(rip, bits, bytes, insn);
            return Ok(insn);
        }
        let mut raw = [0; 15];
        let count = self.fetch_slowly(&paging, at, access, &mut raw).map_err(Resume::Raise)?;
        match decode(&raw[..count], rip, bits) {
            Some(insn) => Ok(insn),
            None if count < 15 => Err(Resume::Stop(Why::Unhandled(0xf))),
            None => Err(Resume::Raise(Fault::UD)),
        }
    }

    /// Instruction bytes one by one: across pages, and from firmware.
    fn fetch_slowly(
        &self,
        paging: &Paging,
        at: u64,
        access: Access,
        raw: &mut [u8; 15],
    ) -> Result<usize, Fault> {
        for (n, byte) in raw.iter_mut().enumerate() {
            let at = GuestVirt(at.wrapping_add(n as u64));
            let gpa = match paging.translate(&self.ram, at, access) {
                Ok(translation) => translation.gpa,
                Err(fault) if n == 0 => return Err(fault),
                Err(_) => return Ok(n),
            };
            *byte = match self.memmap.lock().find(gpa) {
                Region::Rom(offset) => self.rom.get(offset as usize).copied().unwrap_or(0xff),
                _ => match self.ram.read_u8(gpa) {
                    Some(byte) => byte,
                    None => return Ok(n),
                },
            };
        }
        Ok(raw.len())
    }

    /// Length of the instruction at RIP, for exits where the CPU does not tell. What exits at an address
    /// tends to be the same instruction each time: its bytes are compared, its address is walked anew
    /// only when RIP, CR3 or the code segment differ.
    pub(crate) fn insn_len<V: Vcpu>(&self, cpu: &mut Cpu, vcpu: &V) -> Result<u8, Resume> {
        let (rip, cr3) = (vcpu.rip(), vcpu.reg(SysReg::Cr3));
        let base = vcpu.segment(SegReg::Cs).base;
        let code = cpu.code;
        if code.valid
            && code.rip == rip
            && code.cr3 == cr3
            && code.base == base
            && let Some(low) = self.ram.read_u64(GuestPhys(code.gpa))
        {
            // Only instructions of up to 8 bytes are kept here.
            if let Some(insn) = cpu.cache.get(rip, code.bits, low.into())
                && insn.len <= 8
            {
                return Ok(insn.len);
            }
        }
        let insn = self.fetch(cpu, vcpu)?;
        let at = linear(vcpu, SegReg::Cs, rip);
        let paging = Paging::of(vcpu, self.cpuid.physical_bits());
        let user = if cpl(vcpu) == 3 { Access::USER } else { Access::empty() };
        cpu.code.valid = false;
        if at & 0xfff <= 0xff0
            && let Ok(found) = paging.peek(&self.ram, GuestVirt(at), Access::EXEC | user)
        {
            let bits = code_bits(vcpu);
            cpu.code = crate::cpu::CodePage { rip, cr3, base, bits, gpa: found.gpa.0, valid: true };
        }
        Ok(insn.len)
    }

    /// Executes the instruction at RIP on behalf of the CPU.
    pub(crate) fn emulate<V: Vcpu, H: Host>(
        &self,
        cpu: &mut Cpu,
        vcpu: &mut V,
        host: &H,
    ) -> Resume {
        let insn = match self.fetch(cpu, vcpu) {
            Ok(insn) => insn,
            Err(resume) => return resume,
        };
        let mut memory = GuestMemory::new(self, cpu, vcpu, host);
        match execute(vcpu, &mut memory, &insn) {
            Ok(Progress::Partial) => Resume::Again,
            Ok(Progress::Done) => Resume::Skip(insn.len),
            Err(trap) => {
                if trap == Trap::Unsupported {
                    self.log_unsupported(cpu, vcpu);
                }
                finish(Err(trap), &insn)
            }
        }
    }

    /// Tells which instruction could not be emulated.
    fn log_unsupported<V: Vcpu>(&self, cpu: &Cpu, vcpu: &V) {
        let at = linear(vcpu, SegReg::Cs, vcpu.rip());
        let paging = Paging::of(vcpu, self.cpuid.physical_bits());
        let mut raw = [0; 15];
        let count =
            self.fetch_slowly(&paging, at, Access::EXEC, &mut raw).unwrap_or(0).min(raw.len());
        log::error!(
            "vcpu {}: cannot emulate {:02x?} at {:#x} ({} bit)",
            cpu.id,
            &raw[..count],
            vcpu.rip(),
            code_bits(vcpu)
        );
    }

    /// Reads guest-physical memory of any kind.
    pub(crate) fn read_phys<H: Host>(
        &self,
        cpu: &mut Cpu,
        host: &H,
        gpa: GuestPhys,
        width: u8,
    ) -> u64 {
        if cpu.lapic_page == gpa.0 >> 12 {
            return self.lapic_read(cpu, host, gpa.page_offset() as u16, width);
        }
        let region = self.memmap.lock().find(gpa);
        match region {
            Region::Ram | Region::Shadow => {
                let mut bytes = [0xff; 8];
                let width = usize::from(width.clamp(1, 8));
                let _ = self.ram.read(gpa, &mut bytes[..width]);
                u64::from_le_bytes(bytes) & crate::insn::alu::mask(width as u8)
            }
            Region::Rom(offset) => {
                let byte = |n: u64| {
                    u64::from(self.rom.get((offset + n) as usize).copied().unwrap_or(0xff))
                };
                (0..u64::from(width.min(8))).fold(0, |sum, n| sum | byte(n) << (8 * n))
            }
            Region::Vram(offset) => self.vram_read(offset, width),
            Region::Mmio(device, offset) => self.mmio_read(host, device, offset, width),
            Region::Hole => crate::insn::alu::mask(width),
        }
    }

    /// Writes guest-physical memory of any kind.
    pub(crate) fn write_phys<H: Host>(
        &self,
        cpu: &mut Cpu,
        host: &H,
        gpa: GuestPhys,
        width: u8,
        value: u64,
    ) {
        if cpu.lapic_page == gpa.0 >> 12 {
            self.lapic_write(cpu, host, gpa.page_offset() as u16, width, value);
            return;
        }
        let region = self.memmap.lock().find(gpa);
        match region {
            Region::Ram => {
                let _ = self.ram.write(gpa, width, value);
            }
            Region::Vram(offset) => self.vram_write(offset, width, value),
            Region::Mmio(device, offset) => self.mmio_write(host, device, offset, width, value),
            Region::Shadow | Region::Rom(_) | Region::Hole => {}
        }
    }
}
