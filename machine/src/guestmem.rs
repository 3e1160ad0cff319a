//! Guest memory as an emulated instruction sees it: linear addresses, the guest's page tables, then
//! RAM, firmware, video memory or a device.

use crate::Machine;
use crate::cpu::Cpu;
use crate::host::Host;
use crate::insn::alu::mask;
use crate::insn::cache::Key;
use crate::insn::decode::decode;
use crate::insn::exec::{Progress, code_bits, cpl, execute, linear, operand_address, register};
use crate::insn::string::RUN;
use crate::insn::{Insn, Memory, Op, Place, Trap};
use crate::memmap::Region;
use arch::exit::NestedFault;
use arch::paging::Paging;
use arch::{Access, Fault, GuestPhys, GuestVirt, Resume, SegReg, Vcpu, Why};

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

    /// Where up to `count` elements at `at` lie, and how many bytes of them are in the same page, if that is plain RAM
    /// and the port an IDE channel's data port.
    fn run_in_ram(
        &self,
        port: u16,
        width: u8,
        at: u64,
        count: u64,
        access: Access,
    ) -> Result<Option<(GuestPhys, usize)>, Trap> {
        if !matches!(port, 0x1f0 | 0x170) || width < 2 || self.machine.is_pvh() {
            return Ok(None);
        }
        let gpa = self.translate(at, access)?;
        let width = u64::from(width);
        let bytes = ((0x1000 - gpa.page_offset()) / width).min(count).min(RUN / width) * width;
        let page = gpa.0 >> 12;
        // A page is all RAM or not at all, but for the local APIC's, which lies over what else is there.
        let ram = page != self.cpu.lapic_page
            && self.machine.memmap.lock().find(gpa) == Region::Ram
            && self.machine.ram.contains(gpa, bytes);
        Ok((ram && bytes > 0).then_some((gpa, bytes as usize)))
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
        let now = self.machine.now(self.host);
        self.machine.port_in(self.host, port, width, now).into()
    }

    fn port_out(&mut self, port: u16, width: u8, value: u64) {
        let now = self.machine.now(self.host);
        self.machine.port_out(self.host, port, width, value as u32, now);
    }

    fn ins(&mut self, port: u16, width: u8, at: u64, count: u64) -> Result<u64, Trap> {
        let Some((gpa, bytes)) = self.run_in_ram(port, width, at, count, Access::WRITE)? else {
            return Ok(0);
        };
        let mut buffer = [0; RUN as usize];
        let Some(buffer) = buffer.get_mut(..bytes) else { return Ok(0) };
        let machine = self.machine;
        let given =
            machine.on_board(self.host, |board, fx| board.ide_bulk_in(port, width, buffer, fx));
        let given = buffer.get(..given).unwrap_or_default();
        // `run_in_ram` has seen that it is RAM.
        let _ = machine.ram.write_slice(gpa, given);
        Ok(given.len() as u64 / u64::from(width))
    }

    fn outs(&mut self, port: u16, width: u8, at: u64, count: u64) -> Result<u64, Trap> {
        let Some((gpa, bytes)) = self.run_in_ram(port, width, at, count, Access::READ)? else {
            return Ok(0);
        };
        let mut buffer = [0; RUN as usize];
        let Some(buffer) = buffer.get_mut(..bytes) else { return Ok(0) };
        if self.machine.ram.read(gpa, buffer).is_err() {
            return Ok(0);
        }
        let machine = self.machine;
        let taken =
            machine.on_board(self.host, |board, fx| board.ide_bulk_out(port, width, buffer, fx));
        Ok(taken as u64 / u64::from(width))
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
        let key = Key::of(vcpu, code_bits(vcpu));
        match cpu.cache.get(&key) {
            Some(insn) => Ok(*insn),
            None => self.fetch_anew(cpu, vcpu, key),
        }
    }

    /// Walks the guest's tables, decodes, and keeps what it found.
    #[cold]
    #[inline(never)]
    fn fetch_anew<V: Vcpu>(&self, cpu: &mut Cpu, vcpu: &V, key: Key) -> Result<Insn, Resume> {
        let (rip, bits) = (key.rip, code_bits(vcpu));
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
            let raw = (u128::from(low) | u128::from(high) << 64).to_le_bytes();
            let insn = decode(&raw[..15], rip, bits).ok_or(Resume::Raise(Fault::UD))?;
            if let Some(path) = paging.path(&self.ram, GuestVirt(at))
                && path.gpa == first.gpa.0
            {
                cpu.cache.put(key, &path, &self.ram, insn);
            }
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

    /// Carries out the commonest access to a device: a MOV between memory and a register, or of an
    /// immediate. The CPU has just translated the operand and found it allowed, so that nothing is walked.
    /// The instruction's length, or `None` for all others.
    #[inline(always)]
    pub(crate) fn plain_move<V: Vcpu, H: Host>(
        &self,
        cpu: &mut Cpu,
        vcpu: &mut V,
        host: &H,
        fault: &NestedFault,
        region: Option<Region>,
    ) -> Option<u8> {
        let bits = code_bits(vcpu);
        let insn = cpu.cache.get(&Key::of(vcpu, bits))?;
        let (at, access) = (fault.gpa, fault.access);
        let writes = insn.dst == Place::Mem;
        let width = match insn.op {
            Op::Mov => insn.width,
            Op::Movzx(from) => from,
            _ => return None,
        };
        // Neither a walk of tables nor a fetch, no event's delivery, and no second page.
        if access != if writes { Access::WRITE } else { Access::READ }
            || (operand_address(vcpu, insn) ^ at.0) & 0xfff != 0
            || GuestMemory::<H>::straddles(at.0, width)
            || vcpu.pending_event().is_some()
        {
            return None;
        }
        let offset = at.page_offset() as u16;
        let (len, to) = (insn.len, insn.width);
        // Task and processor priority go together with CR8.
        let priority = region.is_none() && matches!(offset, 0x80 | 0xa0);
        if writes {
            let value = match insn.src {
                Place::Imm => insn.imm,
                place => register(vcpu.gprs(), place, width)?,
            } & mask(width);
            match region {
                None => self.lapic_write(cpu, host, offset, width, value),
                Some(Region::Mmio(device, offset)) => {
                    self.mmio_write(host, device, offset, width, value);
                }
                Some(_) => return None,
            }
            if priority {
                self.sync_tpr(cpu, vcpu);
            }
        } else {
            let (Place::Reg(gpr), Place::Mem) = (insn.dst, insn.src) else { return None };
            if priority {
                self.take_tpr(cpu, vcpu);
            }
            let value = match region {
                None => self.lapic_read(cpu, host, offset, width),
                Some(Region::Mmio(device, offset)) => self.mmio_read(host, device, offset, width),
                Some(_) => return None,
            };
            vcpu.gprs_mut().set_width(gpr, to, value);
        }
        Some(len)
    }

    /// Executes the instruction at RIP on behalf of the CPU.
    #[inline(never)]
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
        // It may access the local APIC.
        self.take_apic(cpu, vcpu);
        let mut memory = GuestMemory::new(self, cpu, vcpu, host);
        match execute(vcpu, &mut memory, &insn) {
            Ok(Progress::Partial) => Resume::Again,
            Ok(Progress::Done) => Resume::Skip(insn.len),
            Err(Trap::Unsupported) => {
                self.load_segment(cpu, vcpu, host, &insn).unwrap_or_else(|| {
                    self.log_unsupported(cpu, vcpu);
                    finish(Err(Trap::Unsupported), &insn)
                })
            }
            Err(trap) => finish(Err(trap), &insn),
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
                u64::from_le_bytes(bytes) & mask(width as u8)
            }
            Region::Rom(offset) => {
                let byte = |n: u64| {
                    u64::from(self.rom.get((offset + n) as usize).copied().unwrap_or(0xff))
                };
                (0..u64::from(width.min(8))).fold(0, |sum, n| sum | byte(n) << (8 * n))
            }
            Region::Vram(offset) => self.vram_read(offset, width),
            Region::Mmio(device, offset) => self.mmio_read(host, device, offset, width),
            Region::Hole => mask(width),
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
