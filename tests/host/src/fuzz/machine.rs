//! Whole machines under random accesses, calls and instructions.

use super::Input;
use crate::guest::{CODE, leak_ram, leak_vram};
use crate::{Guest, Mode, Setup};
use arch::exit::{NestedFault, StringIo, TaskSwitchSource};
use arch::{Access, Event, Exit, Fault, Gpr, GuestPhys, GuestRam, SegReg, Segment, SysReg, Vcpu};
use devmodel::blk::Media;
use devmodel::fdc::DriveType;
use machine::insn::{Memory, Trap, decode::decode, exec::execute};
use machine::{Drive, Nic, NicModel};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// Bytes of RAM.
const RAM: u64 = 2 << 20;

thread_local! {
    static MEMORY: (GuestRam, &'static [AtomicU32]) = (leak_ram(RAM, 0), leak_vram());
}

/// A machine on the thread's own memory, zeroed; it must be the thread's only one.
fn guest() -> Guest {
    let (ram, vram) = MEMORY.with(|memory| *memory);
    let _ = ram.fill(GuestPhys(0), RAM, 0);
    vram.iter().for_each(|cell| cell.store(0, Ordering::Relaxed));
    let mut setup = Setup { low: RAM, memory: Some((ram, vram)), ..Setup::default() };
    let disk = |sectors: u64| vec![0x5a; sectors as usize * 512];
    let floppy = devmodel::blk::Geometry { cylinders: 80, heads: 2, sectors: 18 };
    let floppy = Media { geometry: floppy, removable: true, ..Media::disk(2880, "fd") };
    setup.drives[0] = Some((Drive::Disk(Media::disk(64, "hd")), disk(64)));
    setup.drives[2] = Some((Drive::Cdrom(Some(Media::cdrom(16))), disk(64)));
    setup.drives[4] = Some((Drive::Floppy(DriveType::F1440, Some(floppy)), disk(2880)));
    setup.nics = vec![Nic { mac: [2, 0, 0, 0, 0, 1], model: NicModel::E1000 }];
    let guest = Guest::with(setup);
    guest.host.quiet.set(true);
    guest
}

/// Ports that something answers at, so that bytes are not spent on empty ones.
const PORTS: [(u16, u16); 29] = [
    (0x00, 16),
    (0x20, 2),
    (0x40, 4),
    (0x60, 5),
    (0x70, 4),
    (0x80, 16),
    (0x92, 1),
    (0xa0, 2),
    (0xb2, 5),
    (0xc0, 32),
    (0xe9, 1),
    (0x170, 8),
    (0x1ce, 3),
    (0x1f0, 8),
    (0x2f8, 8),
    (0x376, 1),
    (0x3b0, 48),
    (0x3f0, 16),
    (0x402, 1),
    (0x4d0, 2),
    (0x510, 8),
    (0xcf8, 8),
    (0xcf8, 8),
    (0xcfc, 4),
    (0xafe0, 4),
    (0xb000, 64),
    (0xc000, 32),
    (0xc040, 8),
    (0xe0, 0),
];

fn port(input: &mut Input<'_>) -> u16 {
    let (first, count) = input.pick(&PORTS);
    if count == 0 { input.u16() } else { first + u16::from(input.u8()) % count }
}

/// Any sequence of port accesses, device accesses, passing time and entries.
pub fn board(data: &[u8]) {
    let mut input = Input::new(data);
    let mut guest = guest();
    guest.set_mode(0, Mode::Protected);
    // The network card answers at C040h and E1000000h, and is a bus master.
    for (register, value) in [(0x10, 0xe100_0000), (0x14, 0xc040), (4, 7)] {
        assert_eq!(guest.outp(0xcf8, 4, 0x8000_2000 | register), None);
        assert_eq!(guest.outp(0xcfc, 4, value), None);
    }
    let mut left = 4096;
    while !input.is_empty() && left > 0 {
        left -= 1;
        let stop = match input.u8() % 8 {
            0..=2 => {
                let (port, width) = (port(&mut input), input.pick(&[1, 2, 4]));
                let value = input.u32();
                guest.outp(port, width, value)
            }
            3 => {
                let (port, width) = (port(&mut input), input.pick(&[1, 1, 2, 4]));
                guest.vcpus[0].next_rip = Some(CODE);
                guest.exit(Exit::In { port, width })
            }
            4 => mmio(&mut guest, &mut input, true),
            5 => mmio(&mut guest, &mut input, false),
            6 => {
                let ns = [100, 10_000, 1_000_000, 100_000_000][usize::from(input.u8() & 3)];
                guest.pass(ns);
                None
            }
            _ => {
                guest.vcpus[0].rflags |= 0x200;
                let _ = guest.enter(0);
                None
            }
        };
        if stop.is_some() {
            guest.machine.power_on(&guest.host);
        }
    }
}

/// MOV to or from a device in memory, by real code.
fn mmio(guest: &mut Guest, input: &mut Input<'_>, write: bool) -> Option<arch::Why> {
    let bases = [
        0xfec0_0000,
        0xfed0_0000,
        0xfee0_0000,
        0xa_0000,
        0xb_8000,
        0xe000_0000,
        0xe100_0000,
        0xe100_2000,
        0xe100_3000,
    ];
    let gpa = input.pick(&bases) + u64::from(input.u16() & 0xfff);
    let code: &[u8] = match (write, input.u8() % 3) {
        (true, 0) => &[0x88, 0x03],
        (true, 1) => &[0x66, 0x89, 0x03],
        (true, _) => &[0x89, 0x03],
        (false, 0) => &[0x8a, 0x03],
        (false, 1) => &[0x66, 0x8b, 0x03],
        (false, _) => &[0x8b, 0x03],
    };
    guest.at(code);
    guest.vcpus[0].gprs.set_rbx(gpa);
    let value = input.u32();
    guest.vcpus[0].gprs.set_rax(value.into());
    guest.touch(gpa, if write { Access::WRITE } else { Access::READ })
}

fn registers(guest: &mut Guest, input: &mut Input<'_>) {
    for gpr in Gpr::ALL {
        let value = match input.u8() % 4 {
            0 => u64::from(input.u8()),
            1 => u64::from(input.u16()),
            2 => u64::from(input.u32()),
            _ => input.u64(),
        };
        guest.vcpus[0].gprs.set(gpr, value);
    }
}

/// Any exit with any registers and any code.
pub fn exits(data: &[u8]) {
    let mut input = Input::new(data);
    let mut guest = guest();
    guest.set_mode(0, input.pick(&[Mode::Real, Mode::Protected]));
    let mut left = 64;
    while !input.is_empty() && left > 0 {
        left -= 1;
        registers(&mut guest, &mut input);
        let code = input.take(15);
        guest.at(code);
        let access = Access::from_bits_truncate(input.u8());
        let gpa =
            GuestPhys(input.pick(&[0xfee0_0000, 0xfec0_0000, 0xa_0000, 0]) + input.u64() % RAM);
        let exit = match input.u8() % 24 {
            0 => Exit::Cpuid,
            1 => Exit::Hlt,
            2 => Exit::In { port: input.u16(), width: input.pick(&[1, 2, 4]) },
            3 => Exit::Out { port: input.u16(), width: input.pick(&[1, 2, 4]) },
            4 => Exit::StringIo(StringIo {
                port: input.u16(),
                width: 1,
                write: true,
                rep: true,
                detail: None,
            }),
            5 => Exit::Rdmsr,
            6 | 7 => Exit::Wrmsr,
            8 => Exit::Cr(arch::exit::CrAccess::Write {
                cr: input.u8() & 15,
                gpr: input.pick(&Gpr::ALL),
            }),
            9 => Exit::Cr(arch::exit::CrAccess::Undecoded { cr: input.u8(), write: true }),
            10 => Exit::Dr,
            11 => Exit::Xsetbv,
            12 => Exit::Eoi(input.u8()),
            13 => Exit::ApicAccess { offset: input.u16() & 0xfff, write: true },
            14 => Exit::Hypercall,
            15 => Exit::Exception {
                vector: input.u8() & 31,
                error_code: Some(input.u32()),
                qualification: input.u64(),
            },
            16 => Exit::Cr(arch::exit::CrAccess::Lmsw(input.u16())),
            _ => Exit::NestedFault(NestedFault {
                gpa,
                gva: None,
                access,
                present: access.is_empty(),
            }),
        };
        if guest.exit(exit).is_some() {
            guest.machine.power_on(&guest.host);
            guest.machine.reset_vcpu(&mut guest.cpus[0], &mut guest.vcpus[0]);
        }
        let _ = guest.enter(0);
    }
}

/// A call from any of the ROM's traps with any registers.
pub fn bios_call(data: &[u8]) {
    let mut input = Input::new(data);
    let mut guest = guest();
    static TRAPS: OnceLock<Vec<u64>> = OnceLock::new();
    let is_trap = |at: &u64| bios::service_at(*at).is_some();
    let traps = TRAPS.get_or_init(|| (0xc_0000..0x10_0000).filter(is_trap).collect());
    let mut left = 64;
    while !input.is_empty() && left > 0 {
        left -= 1;
        let at = input.pick(traps);
        let segment = at >> 4 & 0xf000;
        registers(&mut guest, &mut input);
        let (ss, sp) = (input.u16(), input.u16());
        let vcpu = &mut guest.vcpus[0];
        vcpu.set_segment(SegReg::Cs, Segment::real_code(segment as u16));
        vcpu.set_segment(SegReg::Ss, Segment::real_data(ss));
        vcpu.set_segment(SegReg::Es, Segment::real_data(input.u16()));
        vcpu.set_segment(SegReg::Ds, Segment::real_data(input.u16()));
        vcpu.gprs.set_rsp(sp.into());
        vcpu.set_rip(at - (segment << 4));
        vcpu.next_rip = Some(vcpu.rip + 2);
        // Memory for structures that registers point to.
        let at = GuestPhys(u64::from(input.u16()) * 16);
        let _ = guest.machine.ram.write_slice(at, input.take(64));
        let stop = guest.exit(Exit::Out { port: bios::TRAP_PORT, width: 1 });
        if stop.is_some() {
            guest.machine.power_on(&guest.host);
        }
        guest.pass(1_000_000);
        let _ = guest.enter(0);
    }
}

/// Any TSS and descriptors, any way to switch.
pub fn task_switch(data: &[u8]) {
    let mut input = Input::new(data);
    let mut guest = guest();
    guest.set_mode(0, Mode::Protected);
    let table = |base, limit| Segment { selector: 0, base, limit, access: 0x82 };
    let vcpu = &mut guest.vcpus[0];
    vcpu.set_segment(SegReg::Gdtr, table(0x1000, 0xff));
    vcpu.set_segment(SegReg::Ldtr, table(0x1800, 0x3f));
    let access = input.pick(&[0x8b, 0x8b, 0x83, 0x82]);
    let limit = input.pick(&[0x67, 0x2b, 0x10, 0xffff]);
    let base = input.pick(&[0x2000, 0x2fd0, 0xffff_fff0]);
    vcpu.set_segment(SegReg::Tr, Segment { selector: 0x18, base, limit, access });
    vcpu.set_rflags(input.u32().into());
    if input.u8() & 1 != 0 {
        vcpu.set_reg(SysReg::Cr0, 0x8000_0001);
        vcpu.set_reg(SysReg::Cr3, 0x5000);
        guest.store(0x5000, 4, 0x6003);
        for page in 0..16 {
            guest.store(0x6000 + page * 4, 4, page << 12 | u64::from(input.u8() & 7));
        }
    }
    for n in 1..32 {
        // Descriptors near enough to good ones: the base small, the type any.
        let (kind, more) = (u64::from(input.u8()), u64::from(input.u8()));
        let base = u64::from(input.u8()) << 6;
        let descriptor = 0x67 | base << 16 | kind << 40 | (more & 0xc0) << 48 | (more & 1) << 48;
        guest.store(0x1000 + n * 8, 8, descriptor);
    }
    let tss = input.take(0x400).to_vec();
    let _ = guest.machine.ram.write_slice(GuestPhys(0x2000), &tss);
    for _ in 0..4 {
        use TaskSwitchSource::{Call, Gate, Iret, Jmp};
        let source = input.pick(&[Call, Iret, Jmp, Gate]);
        let selector = u16::from(input.u8());
        let error_code = (input.u8() & 1 != 0).then(|| input.u32());
        guest.vcpus[0].next_rip = Some(0x1234);
        guest.vcpus[0].pending = match input.u8() % 4 {
            0 => Some(Event::exception(13, Some(0))),
            1 => Some(Event::interrupt(0x20)),
            2 => Some(Event::NMI),
            _ => None,
        };
        let _ = guest.exit(Exit::TaskSwitch { selector, source, error_code });
    }
}

/// Memory that answers with what its address hashes to, and faults here and there.
struct Hashed {
    left: u32,
}

impl Memory for Hashed {
    fn read(&mut self, linear: u64, width: u8, _: Access) -> Result<u64, Trap> {
        assert!(matches!(width, 1 | 2 | 4 | 8), "width {width}");
        self.left = self.left.saturating_sub(1);
        if self.left == 0 || linear.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 60 == 0 {
            return Err(Trap::Fault(Fault::page(linear, 0)));
        }
        Ok(linear.wrapping_mul(0x2545_f491_4f6c_dd1d) & (u64::MAX >> (64 - 8 * u32::from(width))))
    }

    fn write(&mut self, linear: u64, width: u8, value: u64) -> Result<(), Trap> {
        assert!(width == 8 || value >> (8 * width) == 0, "{value:#x} in {width} bytes");
        self.read(linear, width, Access::WRITE).map(|_| ())
    }

    fn port_in(&mut self, port: u16, width: u8) -> u64 {
        u64::from(port) & (u64::MAX >> (64 - 8 * u32::from(width)))
    }

    fn port_out(&mut self, _: u16, _: u8, _: u64) {}
}

/// Any bytes decoded and executed in every mode. A fault leaves the registers of all but string
/// instructions as they were.
pub fn insn(data: &[u8]) {
    let mut input = Input::new(data);
    let left = input.u32() & 0xffff;
    let mut guest = guest_cpu(&mut input);
    let code = input.take(15);
    for mode in [Mode::Real, Mode::Protected, Mode::Long] {
        let bits = match mode {
            Mode::Real => 16,
            Mode::Protected => 32,
            Mode::Long => 64,
        };
        let (efer, cr0, cs) = match mode {
            Mode::Real => (0, 0x10, 0x9b),
            Mode::Protected => (0, 0x11, 0xc09b),
            Mode::Long => (0x500, 0x8000_0011, 0xa09b),
        };
        guest.set_reg(SysReg::Efer, efer);
        guest.set_reg(SysReg::Cr0, cr0);
        guest.set_segment(SegReg::Cs, Segment { access: cs, ..Segment::real_code(0) });
        let Some(insn) = decode(code, 0x1000, bits) else { continue };
        assert!((1..=15).contains(&insn.len));
        let before = guest.gprs;
        let flags = guest.rflags;
        let result = execute(&mut guest, &mut Hashed { left }, &insn);
        let string = matches!(insn.op, machine::insn::Op::Str(_));
        if result.is_err() && !string {
            assert_eq!(guest.gprs, before, "{insn:?}");
            assert_eq!(guest.rflags, flags, "{insn:?}");
        }
        guest.gprs = before;
    }
}

fn guest_cpu(input: &mut Input<'_>) -> crate::MockCpu {
    let mut vcpu = crate::MockCpu::default();
    for gpr in Gpr::ALL {
        vcpu.gprs.set(gpr, input.u64());
    }
    vcpu.rflags = u64::from(input.u32()) & 0xcd5 | 2;
    for reg in [SegReg::Ds, SegReg::Es, SegReg::Ss, SegReg::Fs, SegReg::Gs] {
        let access = input.pick(&[0x93, 0xc093, 0xc097, 0x1_0000]);
        let limit = input.pick(&[0xffff, 0xffff_ffff, 0xfff, 0]);
        vcpu.set_segment(reg, Segment { selector: 0, base: input.u32().into(), limit, access });
    }
    vcpu
}
