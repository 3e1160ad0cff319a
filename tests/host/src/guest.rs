//! A guest computer for tests: machine, vCPUs, host; and the words in which stories speak.

use crate::{MockCpu, MockHost};
use arch::control::{cr0, cr4, efer};
use arch::exit::NestedFault;
use arch::{
    Access, Event, Exit, GuestPhys, GuestRam, Nanos, SegReg, Segment, SharedPage, SysReg, Vcpu, Why,
};
use bios::BiosConfig;
use devmodel::rtc::WallClock;
use machine::pvh::Pvh;
use machine::viridian::Groups;
use machine::xen::shared::Shared;
use machine::xen::{Hub, Limits, XenConfig};
use machine::{Clock, Cpu, Drive, Machine, MachineConfig, Nic, SLOTS};
use pvdrivers::DomId;
use pvdrivers::event::EventChannels;
use std::sync::atomic::{AtomicU32, AtomicU64};

/// Where [`Guest::at`] puts code.
pub const CODE: u64 = 0x8000;
/// Where long mode's page tables are: PML4, PDPT, four page directories.
pub const TABLES: u64 = 0x10_000;

/// How code runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Real mode, segments at 0.
    Real,
    /// 32-bit protected mode, flat, no paging.
    Protected,
    /// 64-bit mode, the first 4 GiB mapped to themselves in 2 MiB pages.
    Long,
}

/// What a guest is built with.
pub struct Setup {
    /// Bytes of RAM below 4 GiB.
    pub low: u64,
    /// Bytes of RAM from 4 GiB.
    pub high: u64,
    /// How many vCPUs.
    pub vcpus: usize,
    /// Drives and their images, by slot.
    pub drives: [Option<(Drive, Vec<u8>)>; SLOTS],
    /// Memory to use instead of leaking some.
    pub memory: Option<(GuestRam, &'static [AtomicU32])>,
    /// Network cards.
    pub nics: Vec<Nic>,
    /// A firmware image instead of the project's own.
    pub firmware: Option<&'static [u8]>,
    /// It finds Xen's interface, as domain 1.
    pub xen: bool,
    /// It finds Xen's interface, as this domain among those of a hub.
    pub domain: Option<(DomId, &'static Hub)>,
    /// A kernel that starts by the PVH protocol; vCPUs stay as they start.
    pub pvh: Option<Pvh>,
    /// Parts of Hyper-V's interface that it finds.
    pub viridian: Option<Groups>,
    /// How much of Xen's interface it may use.
    pub limits: Limits,
}

impl Default for Setup {
    fn default() -> Setup {
        Setup {
            low: 4 << 20,
            high: 0,
            vcpus: 1,
            drives: Default::default(),
            memory: None,
            nics: Vec::new(),
            firmware: None,
            xen: false,
            domain: None,
            pvh: None,
            viridian: None,
            limits: Limits::default(),
        }
    }
}

/// A guest computer.
pub struct Guest {
    /// The machine.
    pub machine: Machine,
    /// The world around it.
    pub host: MockHost,
    /// vCPUs' own state.
    pub cpus: Vec<Cpu>,
    /// vCPUs' registers.
    pub vcpus: Vec<MockCpu>,
}

/// CPUID of a host that has everything: an Intel CPU of 39 address bits.
#[must_use]
pub fn host_cpuid(leaf: u32, subleaf: u32) -> [u32; 4] {
    match (leaf, subleaf) {
        (0, _) => [
            0x16,
            u32::from_le_bytes(*b"Genu"),
            u32::from_le_bytes(*b"ntel"),
            u32::from_le_bytes(*b"ineI"),
        ],
        (1, _) => [0x306c3, 0x0010_0800, u32::MAX, u32::MAX],
        (0xd, 0) => [7, 0x340, 0x340, 0],
        (4, 3..) | (0xd, 3..) => [0; 4],
        (0x8000_0000, _) => [0x8000_0008, 0, 0, 0],
        (0x8000_0008, _) => [0x3027, 0, 0, 0],
        _ => [u32::MAX; 4],
    }
}

/// RAM for tests, zeroed; it stays until the process ends.
#[must_use]
pub fn leak_ram(low: u64, high: u64) -> GuestRam {
    GuestRam::new(leak_cells(low), leak_cells(high))
}

/// Zeroed memory that stays until the process ends.
#[must_use]
pub fn leak_cells(bytes: u64) -> &'static [AtomicU64] {
    let cells: Vec<AtomicU64> = (0..bytes / 8).map(|_| AtomicU64::new(0)).collect();
    cells.leak()
}

/// Video memory for tests: 1 MiB.
#[must_use]
pub fn leak_vram() -> &'static [AtomicU32] {
    let cells: Vec<AtomicU32> = (0..(1 << 20) / 4).map(|_| AtomicU32::new(0)).collect();
    cells.leak()
}

impl Guest {
    /// A guest with 4 MiB and one vCPU in real mode.
    #[must_use]
    pub fn new() -> Guest {
        Guest::with(Setup::default())
    }

    /// A guest after power-on; all vCPUs in real mode at [`CODE`].
    #[must_use]
    pub fn with(setup: Setup) -> Guest {
        let Setup {
            low,
            high,
            vcpus,
            drives,
            memory,
            nics,
            firmware,
            xen,
            domain,
            pvh,
            viridian,
            limits,
        } = setup;
        let domain =
            domain.or_else(|| xen.then(|| (DomId(1), &*Box::leak(Box::new(Hub::new(|| 0))))));
        let starts = pvh.is_some();
        let (ram, vram) = memory.unwrap_or_else(|| (leak_ram(low, high), leak_vram()));
        let host = MockHost::new(ram);
        let mut built = [None; SLOTS];
        for (slot, drive) in drives.into_iter().enumerate() {
            let (drive, image) = drive.map_or((None, Vec::new()), |(d, image)| (Some(d), image));
            built[slot] = drive;
            host.disks.borrow_mut().push(image);
        }
        let machine = Machine::new(MachineConfig {
            ram,
            vram,
            firmware,
            vcpus,
            host_cpuid,
            clock: Clock::new(0, 1_000_000),
            wall_clock: WallClock::from_unix(1_700_000_000),
            drives: built,
            nics,
            bios: BiosConfig::default(),
            kernel: None,
            pvh,
            firmware_files: Vec::new(),
            xen: domain.map(|(domid, hub)| XenConfig {
                domid,
                hub,
                pages: leak_cells(machine::xen::PAGES as u64 * 4096),
                wall_seconds: 1_700_000_000,
                uuid: *b"a guest's number",
                platform_pci: true,
                limits,
            }),
            viridian,
        });
        let cpus: Vec<Cpu> = (0..vcpus).map(|n| Cpu::new(n, machine.physical_bits())).collect();
        let mocks = (0..vcpus).map(|_| MockCpu::default()).collect();
        let mut guest = Guest { machine, host, cpus, vcpus: mocks };
        assert!(guest.machine.power_on(&guest.host));
        for n in 0..vcpus {
            guest.machine.reset_vcpu(&mut guest.cpus[n], &mut guest.vcpus[n]);
            if !starts {
                guest.set_mode(n, Mode::Real);
            }
        }
        guest.host.take_calls();
        guest
    }

    /// Puts a vCPU into a mode, at [`CODE`].
    pub fn set_mode(&mut self, n: usize, mode: Mode) {
        let (efer, cr4) = if mode == Mode::Long { (0x500, cr4::PAE) } else { (0, 0) };
        let cr0 = match mode {
            Mode::Real => cr0::ET,
            Mode::Protected => cr0::ET | cr0::PE,
            Mode::Long => cr0::ET | cr0::PE | cr0::PG,
        };
        let (code, data, limit) = match mode {
            Mode::Real => (0x9b, 0x93, 0xffff),
            Mode::Protected => (0xc09b, 0xc093, u32::MAX),
            Mode::Long => (0xa09b, 0xc093, u32::MAX),
        };
        const { assert!(efer::LME | efer::LMA == 0x500) };
        if mode == Mode::Long {
            self.map_identity();
        }
        let vcpu = &mut self.vcpus[n];
        vcpu.set_reg(SysReg::Cr0, cr0);
        vcpu.set_reg(SysReg::Cr4, cr4);
        vcpu.set_reg(SysReg::Efer, efer);
        vcpu.set_reg(SysReg::Cr3, TABLES);
        for reg in [SegReg::Ds, SegReg::Es, SegReg::Ss, SegReg::Fs, SegReg::Gs] {
            vcpu.set_segment(reg, Segment { selector: 0, base: 0, limit, access: data });
        }
        vcpu.set_segment(SegReg::Cs, Segment { selector: 0, base: 0, limit, access: code });
        vcpu.gprs.set_rsp(0x7000);
        vcpu.set_rip(CODE);
    }

    fn map_identity(&self) {
        self.store(TABLES, 8, TABLES + 0x1000 + 3);
        for n in 0..4 {
            self.store(TABLES + 0x1000 + 8 * n, 8, TABLES + 0x2000 + 0x1000 * n + 3);
        }
        for n in 0..2048 {
            self.store(TABLES + 0x2000 + 8 * n, 8, n << 21 | 0x83);
        }
    }

    /// The page of `struct shared_info`.
    #[must_use]
    pub fn shared_info(&self) -> SharedPage {
        self.machine.xen().expect("built with Xen's interface").shared_info()
    }

    /// The event channels of all domains.
    #[must_use]
    pub fn machine_events(&self) -> &'static Shared<EventChannels> {
        &self.machine.xen().expect("built with Xen's interface").hub.events
    }

    /// Switches a vCPU's local APIC on by its spurious-interrupt register.
    pub fn enable_lapic(&mut self, n: usize) {
        let now = self.machine.now(&self.host);
        let _ = self.cpus[n].lapic.write(0xf, 0x1ff, now);
    }

    /// A vCPU's handler writes its local APIC's end-of-interrupt register.
    pub fn end_of_interrupt(&mut self, n: usize) {
        let now = self.machine.now(&self.host);
        let _ = self.cpus[n].lapic.write(0xb, 0, now);
    }

    /// Writes RAM.
    pub fn store(&self, at: u64, width: u8, value: u64) {
        self.machine.ram.write(GuestPhys(at), width, value).expect("RAM");
    }

    /// Reads up to 8 bytes of RAM.
    #[must_use]
    pub fn load(&self, at: u64, width: u8) -> u64 {
        let mut bytes = [0; 8];
        let part = &mut bytes[..usize::from(width)];
        self.machine.ram.read(GuestPhys(at), part).expect("RAM");
        u64::from_le_bytes(bytes)
    }

    /// Puts code at [`CODE`] and vCPU 0 in front of it.
    pub fn at(&mut self, code: &[u8]) {
        self.machine.ram.write_slice(GuestPhys(CODE), code).expect("RAM");
        self.vcpus[0].next_rip = None;
        self.vcpus[0].set_rip(CODE);
    }

    /// vCPU 0 exits.
    pub fn exit(&mut self, exit: Exit) -> Option<Why> {
        self.exit_of(0, exit)
    }

    /// A vCPU exits.
    pub fn exit_of(&mut self, n: usize, exit: Exit) -> Option<Why> {
        self.machine.on_exit(&mut self.cpus[n], &mut self.vcpus[n], &self.host, &exit)
    }

    /// A vCPU is about to enter; the entry injects what waits. `None`: it does not run.
    pub fn enter(&mut self, n: usize) -> Option<Option<Event>> {
        let ready = self.machine.before_entry(&mut self.cpus[n], &mut self.vcpus[n], &self.host);
        ready.then(|| self.vcpus[n].pending.take())
    }

    /// `OUT port`, two bytes long.
    pub fn outp(&mut self, port: u16, width: u8, value: u32) -> Option<Why> {
        self.vcpus[0].gprs.set_rax(value.into());
        self.vcpus[0].next_rip = Some(self.vcpus[0].rip.wrapping_add(2) & 0xffff);
        self.exit(Exit::Out { port, width })
    }

    /// `OUT` of a byte to a port, for a list of them.
    pub fn outs(&mut self, list: &[(u16, u8)]) {
        for (port, value) in list {
            assert_eq!(self.outp(*port, 1, (*value).into()), None);
        }
    }

    /// `IN`.
    pub fn inp(&mut self, port: u16, width: u8) -> u32 {
        self.vcpus[0].next_rip = Some(self.vcpus[0].rip.wrapping_add(2) & 0xffff);
        assert_eq!(self.exit(Exit::In { port, width }), None);
        self.vcpus[0].gprs.rax() as u32 & (u64::MAX >> (64 - 8 * u32::from(width))) as u32
    }

    /// Puts vCPU 0 at a service's trap, with an interrupt frame on the stack, as the stub would.
    pub fn at_trap(&mut self, service: bios::Service) {
        let at = (0xf_0000..0x10_0000).find(|at| bios::service_at(*at) == Some(service));
        let at = at.expect("a trap in the ROM");
        let vcpu = &mut self.vcpus[0];
        vcpu.set_segment(SegReg::Cs, Segment::real_code(0xf000));
        vcpu.set_segment(SegReg::Ss, Segment::real_data(0));
        vcpu.set_rip(at - 0xf_0000);
        vcpu.next_rip = Some(vcpu.rip + 2);
        vcpu.gprs.set_rsp(0x7000);
        vcpu.set_rflags(2);
        self.store(0x7000, 2, 0x1234);
        self.store(0x7002, 2, 0x0800);
        self.store(0x7004, 2, 0x0202);
    }

    /// A store to or load from `gpa` by the code at RIP.
    pub fn touch(&mut self, gpa: u64, access: Access) -> Option<Why> {
        let fault = NestedFault { gpa: GuestPhys(gpa), gva: None, access, present: false };
        self.exit(Exit::NestedFault(fault))
    }

    /// Time passes; chips and local APICs do what is due, in order.
    pub fn pass(&mut self, ns: u64) {
        let end = self.host.tsc.get() + ns;
        // A chip that is due again at once would make a test hang; so many deadlines are no test's
        // aim.
        for _ in 0..100_000 {
            let due = self.machine.board_due().0;
            if due > end {
                break;
            }
            self.host.tsc.set(due.max(self.host.tsc.get()));
            self.machine.tick(&self.host);
        }
        self.host.tsc.set(end);
        for cpu in &mut self.cpus {
            if cpu.due().is_some_and(|due| due <= Nanos(end)) {
                cpu.wake();
            }
        }
    }
}

impl Default for Guest {
    fn default() -> Guest {
        Guest::new()
    }
}
